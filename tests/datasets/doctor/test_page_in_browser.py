"""The doctor's page in a headless Chromium: no errors, no requests, filter, colors and width. Marked `browser`."""

import numpy as np
import pytest
from PIL import Image

from seg_core.html import DARK, LIGHT
from seg_datasets.doctor.page import write_page
from tests.browser import Browser, find_chromium
from tests.datasets.doctor.test_page import NAMES, found, report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


def many():
    findings = [found("missing-mask", name, config=f"a = '{name}'", files=(name,)) for name in NAMES]
    findings += [found("rgb-mask", f"masks/{number}.png", number) for number in range(350)]
    return [*findings, *(found("alpha", f"images/{number}.png", fix=f"Fix {number}") for number in range(50))]


@pytest.fixture(params=[0, 1, 400])
def file(request, tmp_path):
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros((90, 120), np.uint8)).save(tmp_path / "masks/0.png")
    findings = many()[: request.param] if request.param < 400 else many()
    target = tmp_path / "report.html"
    write_page(report(tmp_path, findings), target)
    return target


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390, 320])
def test_a_page_opens_without_errors_requests_or_sideways_scrolling(browser, file, width, dark):
    browser.open(file, width=width, dark=dark)
    browser.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.messages == []
    assert {url for url in browser.requests if not url.startswith("data:")} == {file.as_uri()}
    paper = browser.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--paper')")
    assert paper == (DARK if dark else LIGHT)["paper"]
    # every image of the page is one that the browser decodes
    assert browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def shown_kinds(browser):
    return browser.evaluate(
        "[...document.querySelectorAll('[data-kind]')].filter(p => p.offsetHeight).map(p => p.dataset.kind)"
    )


@pytest.fixture
def large(tmp_path):
    write_page(report(tmp_path, many()), tmp_path / "report.html")
    return tmp_path / "report.html"


def test_the_filter_shows_one_kind_or_all(browser, large):
    browser.open(large)
    everything = ["missing-mask", "rgb-mask", "alpha"]
    assert shown_kinds(browser) == everything
    pressed = "document.querySelector('[aria-pressed=true]').dataset.value"
    assert browser.evaluate(pressed) == ""
    browser.evaluate("document.querySelector('[data-value=alpha]').click()")
    assert shown_kinds(browser) == ["alpha"]
    assert browser.evaluate(pressed) == "alpha"
    browser.evaluate("document.querySelector('[data-value=alpha]').click()")
    assert shown_kinds(browser) == everything
    # by the keyboard, as any button
    browser.evaluate("document.querySelector('[data-value=rgb-mask]').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", text=" ")
    assert shown_kinds(browser) == ["rgb-mask"]
    browser.evaluate("document.querySelector('[data-value=\"\"]').click()")
    assert shown_kinds(browser) == everything


def test_the_colors_are_switched_and_remembered(browser, large):
    browser.open(large)
    paper = "getComputedStyle(document.documentElement).getPropertyValue('--paper')"
    try:
        browser.evaluate("document.querySelector('[data-theme-toggle]').click()")
        assert browser.evaluate(paper) == DARK["paper"]
        assert browser.evaluate("document.querySelector('[data-theme-toggle]').textContent") == "Light"
        browser.open(large)
        assert browser.evaluate(paper) == DARK["paper"]
        browser.evaluate("document.querySelector('[data-theme-toggle]').click()")
        assert browser.evaluate(paper) == LIGHT["paper"]
    finally:
        browser.evaluate("localStorage.clear()")


def test_a_config_line_is_copied_or_selected(browser, large):
    browser.open(large)
    browser.evaluate("document.querySelector('[data-copy]').click()")
    answer = "document.querySelector('[data-copy]').textContent"
    text = browser.evaluate(f"new Promise(done => setTimeout(() => done({answer}), 300))")
    assert text in ("Copied", "Press Ctrl+C")
    if text == "Press Ctrl+C":
        assert browser.evaluate("getSelection().toString()") == browser.evaluate(
            "document.querySelector('[data-copy]').previousElementSibling.textContent"
        )


def test_the_page_can_be_read_without_javascript(browser, large):
    browser.open(large, script=False)
    try:
        assert browser.messages == []
        browser.call("CSS.enable")
        root = browser.call("DOM.getDocument", depth=0)["root"]["nodeId"]

        def displays(selector):
            nodes = browser.call("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"]
            styles = [browser.call("CSS.getComputedStyleForNode", nodeId=node)["computedStyle"] for node in nodes]
            return [next(s["value"] for s in style if s["name"] == "display") for style in styles]

        assert displays("section[data-kind]") == ["block"] * 3
        assert set(displays(".script-only")) == {"none"}
        assert displays("nav a:not(.script-only)") == ["flex"] * 3
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_what_would_be_wrong_with_a_page_is_noticed(browser, tmp_path):
    file = tmp_path / "bad.html"
    file.write_text(
        "<p style='width:2000px'><img src='http://127.0.0.1:9/a.png'><img src='data:image/png;base64,AAAA'>"
        "<script>console.error('told'); undefinedName();</script>"
    )
    browser.open(file, width=390)
    assert browser.evaluate("document.documentElement.scrollWidth") > 390
    assert "http://127.0.0.1:9/a.png" in browser.requests
    told = " ".join(browser.messages)
    assert "told" in told
    assert "undefinedName is not defined" in told
    assert not browser.evaluate("[...document.images].some(image => image.naturalWidth > 0)")
