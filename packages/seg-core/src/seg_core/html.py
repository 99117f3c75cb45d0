"""The kit of self-contained pages: elements that escape text, a page in light and dark, tables, cards, thumbnails.

A page is one file without any request to the network, which its content security policy forbids too. It can be read
without JavaScript; with it, parts can be filtered, lines copied and the colors switched. Its style and script are files
in the folder `html_files`.
"""

import base64
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from seg_core.text import visible

if TYPE_CHECKING:
    import PIL.Image

__all__ = [
    "DARK",
    "LIGHT",
    "Choice",
    "Fact",
    "Markup",
    "badge",
    "cards",
    "copyable",
    "element",
    "empty_tile",
    "file_name",
    "filter_bar",
    "folded",
    "join",
    "page",
    "swatch",
    "table",
    "tile",
]

LIGHT = {
    "paper": "#f4f6f8",
    "card": "#ffffff",
    "ink": "#1b2027",
    "faint": "#57606a",
    "line": "#d5dbe2",
    "sunk": "#eef1f4",
    "accent": "#0a58ca",
    "error": "#b3261e",
    "warning": "#835400",
    "good": "#17692f",
}
"""Name -> color of the light page; texts have a contrast of at least 4.5 to 1 on all three grounds (WCAG AA)."""
DARK = {
    "paper": "#0e1217",
    "card": "#161b22",
    "ink": "#e5e9ee",
    "faint": "#9ba6b2",
    "line": "#2e3641",
    "sunk": "#1f262f",
    "accent": "#79b4ff",
    "error": "#ff938a",
    "warning": "#f0be4f",
    "good": "#6fd08c",
}
"""The same of the dark page."""

_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)
_VOID = ("br", "hr", "img", "input", "link", "meta")


class Markup(str):
    """HTML that is written as it is; any other string is text and is escaped."""

    __slots__ = ()


def join(parts: Iterable[str]) -> Markup:
    """Returns parts one after the other, texts escaped."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(visible(part)) for part in parts))


def element(tag: str, *children: str, **attributes: str | int | bool) -> Markup:
    """Returns an element; the texts of its children and attributes are escaped.

    Args:
        tag: its name, such as `"p"`.
        *children: `Markup`, or text.
        **attributes: name -> value; `class_` is `class`, `data_kind` is `data-kind`. True writes the name alone, False
            nothing.
    """
    written = []
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {name}")
        elif value is not False:
            written.append(f' {name}="{html.escape(visible(str(value)))}"')
    opening = f"<{tag}{''.join(written)}>"
    if tag in _VOID:
        assert not children
        return Markup(opening)
    return Markup(f"{opening}{join(children)}</{tag}>")


# ---- parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """A number on a card.

    Attributes:
        value: the number, as text.
        label: what it counts.
        tone: `"error"`, `"warning"`, `"good"` or "".
    """

    value: str
    label: str
    tone: str = ""


def cards(facts: Sequence[Fact]) -> Markup:
    """Returns facts beside each other."""
    return element(
        "dl",
        *(
            element("div", element("dt", fact.label), element("dd", fact.value, class_=fact.tone or "plain"))
            for fact in facts
        ),
        class_="cards",
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> Markup:
    """Returns a table; one that is wider than the page is scrolled by itself.

    Args:
        head: names of the columns.
        rows: cells, texts or `Markup`; a cell of digits is aligned to the right.
        caption: what the table shows.
    """
    body = [
        element("tr", *(element("td", cell, class_="number" if _is_number(cell) else False) for cell in row))
        for row in rows
    ]
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", *(element("th", name, scope="col") for name in head))),
            element("tbody", *body),
        ),
        class_="wide",
        tabindex=0,
        role="region",
        aria_label=caption,
    )


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[\d.,%x -]*\d[\d.,%x -]*", cell))


def badge(text: str, tone: str) -> Markup:
    """Returns a short word in a frame, `tone` as for `Fact`."""
    return element("span", text, class_=f"badge {tone}")


def file_name(path: str) -> Markup:
    """Returns a path with `/`, its last part emphasized; a name from right to left does not reverse what is around."""
    folder, slash, name = path.rpartition("/")
    parts = [element("bdi", folder + slash, dir="ltr")] if slash else []
    return element("span", *parts, element("b", element("bdi", name, dir="ltr")), class_="file")


def copyable(text: str) -> Markup:
    """Returns lines of code with a button that copies them."""
    button = element("button", "Copy", type="button", class_="script-only", data_copy=True, aria_label=f"Copy {text}")
    lines = Markup("\n".join(join([line]) for line in text.split("\n")))
    return element("span", element("code", lines), button, class_="copyable")


def folded(summary: str, *children: str, is_open: bool = False) -> Markup:
    """Returns parts that are shown by a click on the summary."""
    return element("details", element("summary", summary), element("div", *children), open=is_open)


def swatch(color: Sequence[int], name: str) -> Markup:
    """Returns a color (red, green, blue), and its name."""
    red, green, blue = color
    return element("li", element("i", style=f"background:#{red:02x}{green:02x}{blue:02x}"), name)


def tile(image: "PIL.Image.Image", alt: str, caption: str, *, is_exact: bool, side: int = 160) -> Markup:
    """Returns an image of the page itself, with a caption.

    Args:
        image: RGB, at most `side` pixels a side; smaller ones are shown in larger pixels.
        alt: what it shows.
        caption: one or two words below it.
        is_exact: whether it is written without loss, as colors of classes are, or as JPEG.
        side: pixels of the longer side on the page.
    """
    content = io.BytesIO()
    if is_exact:
        _in_palette(image).save(content, "PNG", optimize=True)
    else:
        image.save(content, "JPEG", quality=80)
    kind = "png" if is_exact else "jpeg"
    uri = f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
    times = max(side // max(image.size), 1)
    shown = element(
        "img",
        src=uri,
        alt=alt,
        width=image.width * times,
        height=image.height * times,
        class_="exact" if is_exact or times > 1 else False,
    )
    return element("figure", shown, element("figcaption", caption))


def _in_palette(image: "PIL.Image.Image") -> "PIL.Image.Image":
    """Returns an image with a palette, whose file is much smaller, if it has few colors."""
    if image.getcolors(256) is None:
        return image
    import numpy as np  # here, since commands import this module
    from PIL import Image

    colors, indices = np.unique(np.asarray(image).reshape(-1, 3), axis=0, return_inverse=True)
    result = Image.fromarray(indices.reshape(image.height, image.width).astype(np.uint8)).convert("P")
    result.putpalette(colors.astype(np.uint8).tobytes())
    return result


def empty_tile(reason: str, alt: str, caption: str) -> Markup:
    """Returns the place of an image that cannot be shown."""
    return element(
        "figure", element("span", reason, class_="none", role="img", aria_label=alt), element("figcaption", caption)
    )


@dataclass(frozen=True)
class Choice:
    """One value of a filter.

    Attributes:
        value: value of the attribute `data-KEY` of the parts, whose `id` is `KEY-VALUE`.
        text: its name on the page.
        count: number of things of this value.
        tone: as for `Fact`.
    """

    value: str
    text: str
    count: int
    tone: str = ""


def filter_bar(key: str, label: str, choices: Sequence[Choice]) -> Markup:
    """Returns links to the parts of a page, which JavaScript turns into buttons that show some of the parts.

    Args:
        key: the parts are elements with the attribute `data-KEY` and the `id` `KEY-VALUE`.
        label: what it is, for screen readers.
        choices: the values.
    """
    total = sum(choice.count for choice in choices)
    everything = element(
        "a", "All ", element("span", f"{total:,}"), href=f"#{key}", data_value="", class_="script-only"
    )
    links = [
        element(
            "a",
            element("i", class_=choice.tone or False),
            f"{choice.text} ",
            element("span", f"{choice.count:,}"),
            href=f"#{key}-{choice.value}",
            data_value=choice.value,
        )
        for choice in choices
    ]
    return element("nav", everything, *links, class_="filter", data_filter=key, aria_label=label, id=key)


# ---- page ------------------------------------------------------------------------------------------------------------


def page(
    title: str, lead: str, *body: str, footer: str = "", policy: str = _POLICY, style: str = "", script: str = ""
) -> str:
    """Returns the text of a page.

    Args:
        title: its title and first heading.
        lead: what stands below the heading.
        *body: what follows.
        footer: what stands at the end.
        policy: its content security policy; by default nothing is loaded.
        style: CSS of its own, after that of all pages.
        script: JavaScript of its own, run when the page is read.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        Markup(f"<style>{_style()}{style}</style>"),
        Markup(f"<script>\n{_part('page.js')}</script>"),
    )
    toggle = element("button", "Dark", type="button", class_="script-only", data_theme_toggle=True)
    top = element("header", element("div", element("h1", title), lead), toggle)
    end = element("footer", footer) if footer else Markup()
    last = Markup(f"<script>\n{script}</script>") if script else Markup()
    whole = element("html", head, element("body", top, element("main", *body), end, last), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"


def _style() -> str:
    def variables(colors: Mapping[str, str]) -> str:
        return "".join(f"--{name}:{color};" for name, color in colors.items())

    return (
        f":root{{color-scheme:light;{variables(LIGHT)}}}\n"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light])"
        f"{{color-scheme:dark;{variables(DARK)}}}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{variables(DARK)}}}\n{_part('page.css')}"
    )


@cache
def _part(name: str) -> str:
    return (resources.files("seg_core") / "html_files" / name).read_text(encoding="utf-8")
