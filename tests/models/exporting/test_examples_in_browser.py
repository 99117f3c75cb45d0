"""The page of an exported file in a headless Chromium: its labels are those that `Predictor` gives. Marked `browser`.

It needs onnxruntime-web: SEG_ORT_WEB is the folder of the unpacked npm package, which `npm pack onnxruntime-web` gets.
"""

import functools
import http.server
import os
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image

from seg_models.exporting.examples import write_example
from tests.browser import Browser, find_chromium

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from tests.models.exporting.test_examples import (
    MODELS,
    export_model,
    predicted,
    write_images,
)

ORT_WEB = os.environ.get("SEG_ORT_WEB")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed"),
    pytest.mark.skipif(not ORT_WEB, reason="SEG_ORT_WEB is not the folder of onnxruntime-web"),
    pytest.mark.filterwarnings("ignore:the image has .* was exported for"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Returns the URL and the report of a model of `MODELS`, whose page is served together with images."""
    servers = []

    @functools.cache
    def get(name):
        report = export_model(name, tmp_path_factory.mktemp(name))
        folder = write_example(report, "web", ORT_WEB).path.parent
        write_images(folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/", report, folder

    yield get
    for server in servers:
        server.shutdown()
        server.server_close()


def state(browser, seconds=60):
    """Waits until the page has done what it does by itself; returns its state."""
    end = time.monotonic() + seconds
    while (found := browser.evaluate("document.body.dataset.state || 'loading'")) in ("loading", "busy"):
        assert time.monotonic() < end, browser.messages
        time.sleep(0.05)
    return found


def finished(browser, url, **options):
    """Opens a page with an image; returns its state after the image."""
    browser.open(url, **options)
    while (found := state(browser)) == "ready":
        time.sleep(0.05)
    return found


def status(browser):
    return browser.evaluate("document.getElementById('status').textContent")


def labels(browser, shape):
    found = browser.evaluate("[...segmentation.labels]")
    return np.array(found).reshape(shape)


@pytest.mark.parametrize("name", MODELS)
def test_the_page_computes_the_labels_that_prediction_gives(name, browser, served):
    url, report, folder = served(name)
    for kind in ("odd", "small", "gray", "turned"):
        assert finished(browser, f"{url}?image={kind}.png") == "done", (status(browser), browser.messages)
        expected = predicted(report, folder / f"{kind}.png")
        np.testing.assert_array_equal(labels(browser, expected.shape), expected)
        outside = [asked for asked in browser.requests if not asked.startswith((url, "blob:"))]
        assert not outside
        assert not [message for message in browser.messages if "404" not in message]  # of the icon of the tab


def test_classes_are_listed_with_their_share_and_can_be_hidden(browser, served):
    url, report, folder = served("multiclass")
    assert finished(browser, f"{url}?image=odd.png") == "done"
    counts = np.bincount(predicted(report, folder / "odd.png").ravel(), minlength=3)
    order = np.argsort(-counts, kind="stable")
    metadata = report.description.info.metadata
    listed = browser.evaluate("[...document.querySelectorAll('#legend label')].map((item) => item.textContent)")
    assert listed == [f"{metadata.labels[k]}{100 * counts[k] / counts.sum():.1f} %" for k in order if counts[k]]
    colored = (
        "(() => { const canvas = document.getElementById('colors');"
        "const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
        "return data.filter((_, at) => at % 4 === 3).filter((alpha) => alpha).length; })()"
    )
    assert browser.evaluate(colored) == counts.sum()
    browser.evaluate("document.querySelector('#legend input').click()")
    assert browser.evaluate(colored) == counts.sum() - counts.max()


def test_a_smaller_input_is_computed_on_demand(browser, served):
    url, _, folder = served("multiclass")
    Image.new("RGB", (900, 600), (90, 20, 200)).save(folder / "large.png")
    assert finished(browser, f"{url}?image=large.png") == "done"
    assert browser.evaluate("segmentation.inputSize") == [600, 900]
    browser.evaluate(
        "(() => { const size = document.getElementById('size'); size.value = '512';"
        "size.dispatchEvent(new Event('change')); })()"
    )
    assert state(browser) == "done"
    assert browser.evaluate("segmentation.inputSize") == [341, 512]
    assert browser.evaluate("segmentation.labels.length") == 600 * 900


def test_a_dropped_image_for_which_memory_is_short_is_computed_at_a_smaller_input(browser, served):
    url, _, _ = served("multiclass")
    browser.open(url)
    assert state(browser) == "ready"
    # as an allocation fails in a browser
    browser.evaluate(
        "window.real = Float32Array; window.Float32Array = class {"
        "constructor() { throw new RangeError('allocation'); } };"
        "fetch('odd.png').then((answer) => answer.blob()).then((blob) => { const data = new DataTransfer();"
        "data.items.add(new File([blob], 'odd.png')); document.body.dataset.state = '';"
        "document.dispatchEvent(new DragEvent('drop', { dataTransfer: data })); })"
    )
    assert state(browser) == "error"
    assert status(browser) == "odd.png needs more memory than the browser has; choose a smaller network input"
    browser.evaluate("window.Float32Array = window.real; document.body.dataset.state = ''")
    browser.evaluate(
        "(() => { const size = document.getElementById('size'); size.value = '512';"
        "size.dispatchEvent(new Event('change')); })()"
    )
    assert state(browser) == "done"


def test_what_is_wrong_is_said(browser, served, tmp_path):
    url, _, folder = served("multiclass")
    (folder / "text.png").write_text("no image")
    assert finished(browser, f"{url}?image=text.png") == "error"
    assert status(browser) == "text.png is not an image that this browser reads"
    assert finished(browser, f"{url}?image=none.png") == "error"
    assert status(browser) == "There is no file none.png in the folder of this page."
    shown = "[...document.querySelectorAll('section')].filter((part) => !part.hidden).map((part) => part.id)"
    browser.open(folder / "index.html")
    assert state(browser) == "error"
    assert browser.evaluate(shown) == ["advice-serve"]
    shutil.move(folder / "ort", tmp_path / "ort")
    browser.call("Network.setCacheDisabled", cacheDisabled=True)
    browser.open(url)
    assert state(browser) == "error"
    assert browser.evaluate(shown) == ["advice-runtime"]
    shutil.move(tmp_path / "ort", folder / "ort")
    browser.open(url)
    assert state(browser) == "ready"


@pytest.mark.parametrize("width", [390, 768, 1200])
def test_the_page_fits_its_window(width, browser, served):
    url, _, _ = served("multilabel")
    assert finished(browser, f"{url}?image=turned.png", width=width) == "done"
    assert browser.evaluate("document.documentElement.scrollWidth") == width
