"""The kit of self-contained pages."""

import base64
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from seg_core import html
from seg_core.html import DARK, LIGHT, Choice, Fact, Markup, element, join
from seg_core.text import visible
from tests.pages import Page, check_self_contained


def test_texts_and_attributes_are_escaped_and_markup_is_not():
    made = element("p", "<b>&\"'", element("i", "<"), title='"><script>')
    assert made == ('<p title="&quot;&gt;&lt;script&gt;">&lt;b&gt;&amp;&quot;&#x27;<i>&lt;</i></p>')
    assert isinstance(made, Markup)
    # a string made of markup is text again
    assert element("p", f"{made}").startswith("<p>&lt;p title")
    assert join(["<", Markup("<br>")]) == "&lt;<br>"


def test_attributes_without_value_and_names_of_python():
    assert element("details", open=True, class_="a", data_kind="x", hidden=False) == (
        '<details open class="a" data-kind="x"></details>'
    )
    assert element("img", alt="", width=3) == '<img alt="" width="3">'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\udce9\udcff.png", r"caf\xe9\xff.png"),
        ("\ud800", r"\ud800"),
        ("photo\u202egnp.exe", r"photo\u202egnp.exe"),
        ("a\nb\0", r"a\x0ab\x00"),
        ("صورة 写真 é 👩‍🔬", "صورة 写真 é 👩‍🔬"),
    ],
)
def test_characters_that_cannot_be_seen_or_written_are_shown_by_their_number(text, shown):
    assert visible(text) == shown
    element("p", text, title=text).encode("utf-8")


def every_part():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8))
    return [
        html.cards([Fact("3", "errors", "error"), Fact("12", "images")]),
        html.table(["class", "pixels"], [["road", "1,200"], ["<sky>", "3.5 %"]], "Pixels"),
        html.filter_bar("kind", "Kinds", [Choice("a", "a & b", 2, "error"), Choice("c", "c", 3)]),
        element("section", element("h2", "a"), html.badge("error", "error"), id="kind-a", data_kind="a"),
        element("section", element("h2", "c"), html.file_name("a/<b>/c.png"), id="kind-c", data_kind="c"),
        html.folded("more", html.copyable('a = "b"')),
        element("ul", html.swatch((1, 2, 255), "car")),
        html.tile(image, "image a", "image", is_exact=True),
        html.empty_tile("no mask", "There is no mask", "mask"),
    ]


def test_a_page_of_every_part_is_self_contained_and_balanced():
    text = html.page("A & <B>", element("p", "lead"), *every_part(), footer="end")
    page = check_self_contained(text)
    assert page.text("title") == page.text("h1") == "A & <B>"
    assert "width=device-width" in text
    assert page.text("footer") == "end"
    assert page.text("i") == ""
    assert "background:#0102ff" in text


def test_a_filter_has_a_link_for_each_value_with_its_count():
    bar = Page(html.filter_bar("kind", "Kinds", [Choice("a", "first", 2, "error"), Choice("c", "second", 1000)]))
    assert [(a["data-value"], a["href"]) for a in bar.all("a")] == [("", "#kind"), ("a", "#kind-a"), ("c", "#kind-c")]
    assert [data for tag, data in bar.texts if tag == "span"] == ["1,002", "2", "1,000"]
    assert bar.all("nav")[0]["data-filter"] == "kind"


def test_numbers_of_a_table_are_aligned_and_names_are_not():
    page = Page(html.table(["a"], [["1,200"], ["3.5 %"], ["-4"], ["road 4"], ["-"], ["640x480"]], "Numbers"))
    assert [cell.get("class") == "number" for cell in page.all("td")] == [True, True, True, False, False, True]
    assert page.text("caption") == "Numbers"


def test_lines_of_code_keep_their_ends():
    assert Page(html.copyable("a = 1\nb = <2>")).text("code") == "a = 1\nb = <2>"


def decoded(tile):
    source = Page(tile).all("img")[0]["src"]
    head, _, data = source.partition(",")
    return head, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@pytest.mark.parametrize("levels", [2, 16, 255])
def test_an_exact_thumbnail_keeps_every_color(levels):
    # few colors, up to 256, and many
    pixels = np.random.default_rng(0).integers(0, levels, (9, 160, 3), np.uint8)
    pixels[..., 1:] *= levels > 20
    head, read = decoded(html.tile(Image.fromarray(pixels), "mask a", "mask", is_exact=True))
    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(read, pixels)


def test_other_thumbnails_are_small_and_tiny_ones_are_shown_in_larger_pixels():
    pixels = np.full((24, 32, 3), 90, np.uint8)
    made = html.tile(Image.fromarray(pixels), "image <a>", "image", is_exact=False)
    head, read = decoded(made)
    assert head == "data:image/jpeg;base64"
    assert read.shape == (24, 32, 3)
    shown = Page(made).all("img")[0]
    assert (shown["width"], shown["height"], shown["alt"]) == ("160", "120", "image <a>")
    large = html.tile(Image.fromarray(np.zeros((160, 100, 3), np.uint8)), "a", "a", is_exact=False)
    assert (Page(large).all("img")[0]["width"], "class" in Page(large).all("img")[0]) == ("100", False)


def luminance(color):
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa_on_every_ground(colors):
    grounds = ("paper", "card", "sunk")
    texts = ("ink", "faint", "accent", "error", "warning", "good")
    assert {*grounds, *texts, "line"} == set(colors)
    for ground, text in itertools.product(grounds, texts):
        low, high = sorted([luminance(colors[ground]), luminance(colors[text])])
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ground, text)


def test_the_colors_of_the_page_follow_the_system_unless_chosen():
    text = html.page("a", Markup())
    style = text[text.index("<style>") : text.index("</style>")]
    assert style.index(LIGHT["paper"]) < style.index("prefers-color-scheme:dark") < style.index(DARK["paper"])
    assert ":root[data-theme=dark]" in style
    assert ":root:not([data-theme=light])" in style
