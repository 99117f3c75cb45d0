"""The built site in a headless Chromium: `hatch run docs:build`, then `hatch run pages`."""

import functools
import http.server
import threading
import time
from pathlib import Path

import pytest

from tests.browser import Browser, find_chromium

SITE = Path(__file__).resolve().parents[2] / "build" / "site"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed"),
    pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="the site is not built: hatch run docs:build"),
]

# words in the field of the search -> the heading that must be among the first four results
FOUND = {
    "crop": "Crop or resize?",
    "resize": "Crop or resize?",
    "freeze": "Freeze",
    "fine-tune": "Fine-tune",
    "pretrained": "Fine-tune, pretrained weights, freeze",
    "multi-label": "Multi-label: overlapping classes",
    "ONNX": "Export to ONNX",
    "class imbalance": "Class imbalance and class weights",
    "out of memory": "Out of memory",
}
SEARCH = """(word => {
  const inputs = root => [...root.querySelectorAll("*")].flatMap(
    e => [...(e.tagName === "INPUT" && e.getAttribute("type") !== "checkbox" && e.type !== "radio" ? [e] : []),
          ...(e.shadowRoot ? inputs(e.shadowRoot) : [])]);
  const input = inputs(document)[0];
  if (!input) return; // the search is still being loaded
  input.focus();
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, word);
  input.dispatchEvent(new Event("input", {bubbles: true, composed: true}));
})"""
RESULTS = """(() => {
  const links = root => [...root.querySelectorAll("*")].flatMap(
    e => [...(e.tagName === "A" && root !== document ? [e.innerText.split("\\n")[0]] : []),
          ...(e.shadowRoot ? links(e.shadowRoot) : [])]);
  return links(document).slice(0, 4);
})()"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def base():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    tab = Browser(tmp_path_factory.mktemp("browser"))
    yield tab
    tab.close()


@pytest.mark.parametrize("page", ["", "zoo/", "moving/mmsegmentation/", "reference/seg_core/transforms/", "config/"])
@pytest.mark.parametrize(("width", "dark"), [(1300, False), (1300, True), (390, False)])
def test_page_fits_its_width_and_asks_no_other_server(page, width, dark, base, browser):
    browser.open(base + page, width=width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not [url for url in browser.requests if not url.startswith((base, "data:", "blob:"))]
    assert not browser.messages


@pytest.mark.parametrize(("word", "heading"), FOUND.items())
def test_search_finds(word, heading, base, browser):
    browser.open(base, width=1300)
    browser.evaluate("document.querySelector('label[for=__search], .md-search__button').click()")
    end, results = time.monotonic() + 20, []
    while heading not in results and time.monotonic() < end:
        browser.evaluate(f"{SEARCH}({word!r})")
        time.sleep(0.5)
        results = browser.evaluate(RESULTS)
    assert heading in results
