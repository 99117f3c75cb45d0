"""What tests of pages look at: a page taken apart, with a check that its tags are balanced."""

import itertools
import re
from html.parser import HTMLParser

VOID = ("br", "hr", "img", "input", "link", "meta")


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        tags: (name, attributes) of all elements in their order.
        texts: texts outside style and script, by the name of the element around them.
    """

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.texts = []
        self._open = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} is there twice"
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open and self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "script") and data.strip():
            self.texts.append((self._open[-1], data))

    def all(self, tag):
        """The attributes of all elements of a name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self, tag=None):
        """The text, of all elements or those of a name."""
        return "".join(data for name, data in self.texts if tag in (None, name))


def check_self_contained(text):
    """Checks that a page asks for nothing outside itself, and is one that everybody can read; returns it parsed."""
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    style = "".join(re.findall("<style>(.*?)</style>", text, re.DOTALL))
    script = "".join(re.findall("<script>(.*?)</script>", text, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?:|//[a-z]|fetch\(|XMLHttp|import\s*\(", style + script)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "svg")
        assert not any(name.startswith("on") for name in attributes), "scripts are in one place"
        for name in ("src", "href", "srcset", "action", "poster"):
            value = attributes.get(name, "#")
            assert value.startswith(("data:image/", "#")), f"{tag} {name}={value[:80]}"
        assert "url(" not in (attributes.get("style") or "")
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "img-src data:" in policy
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = [a["href"][1:] for a in page.all("a")]
    assert set(targets) <= set(ids)
    assert all(image["alt"] for image in page.all("img"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels)), levels
    assert page.all("html") == [{"lang": "en"}]
    return page
