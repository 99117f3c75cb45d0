"""Checks the built site: every link and anchor of every page leads somewhere, and no page asks another server.

`hatch run docs:build` runs it after the strict build, which knows the links of Markdown but not those of the theme and
of docstrings. Exits with 1 and lists what it found.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

SITE = Path(__file__).resolve().parents[1] / "build" / "site"
# elements that a browser fetches by itself, and the attribute that says from where
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in FETCHED and FETCHED[tag] in values and values.get("rel") not in ("canonical", "prev", "next"):
            self.fetched.append(values[FETCHED[tag]])


def main() -> int:
    said = check(SITE)
    print(
        *said, f"{len(said)} findings" if said else f"{len(list(SITE.rglob('*.html')))} pages, no dead link", sep="\n"
    )
    return 1 if said else 0


def check(site: Path) -> list[str]:
    """Returns a sentence for each link, anchor or fetched file that is wrong."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    said = []
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        said += [f"{name}: asks another server: {link}" for link in page.fetched if urlsplit(link).netloc]
        for link in dict.fromkeys([*page.links, *page.fetched]):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = _target(site, path, unquote(parts.path))
            if not target.is_file():
                said.append(f"{name}: leads nowhere: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                said.append(f"{name}: no such anchor: {link}")
    return said


def _target(site: Path, page: Path, link: str) -> Path:
    if not link:
        return page
    # the page for files that are not found is served at any depth
    start = site if link.startswith("/") or page.name == "404.html" else page.parent
    target = (start / link.lstrip("/")).resolve()
    return target / "index.html" if target.is_dir() else target


if __name__ == "__main__":
    sys.exit(main())
