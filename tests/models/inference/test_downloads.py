"""Images and videos at URLs."""

import http.server
import io
import tempfile
import threading
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_models import Predictor

PIXELS = np.repeat(np.repeat(np.array([0, 100, 250, 10], np.uint8), 2)[None, :, None], 3, axis=2).repeat(6, axis=0)
LABELS = np.repeat(np.array([0, 1, 2, 0], np.uint8), 2)


class Site:
    """A server of an image at any path, except for those named in `answers`; /stalls.png stops in the middle."""

    def __init__(self):
        body = io.BytesIO()
        Image.fromarray(PIXELS).save(body, "png")
        self.image = body.getvalue()
        self.answers = {}  # path -> bytes, or the status of an error
        self.length = True  # whether the server says the length
        self.requests = []
        self.stop = threading.Event()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                site.requests.append(self.path)
                data = site.answers.get(self.path.partition("?")[0], site.image)
                if isinstance(data, int):
                    self.send_error(data)
                    return
                self.send_response(200)
                if site.length:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.path == "/stalls.png":
                    self.wfile.write(data[: len(data) // 2])
                    self.wfile.flush()
                    site.stop.wait(10)
                else:
                    self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self):
        self.stop.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    served = Site()
    yield served
    served.close()


def test_image_is_downloaded_and_not_kept(shades, site, tmp_path):
    prediction = Predictor(shades)(f"{site.url}/stripes.png")
    np.testing.assert_array_equal(prediction.labels[0], LABELS)
    assert prediction.source == f"{site.url}/stripes.png"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/straße.png", "/stra%C3%9Fe.png"),
        ("/my image.png", "/my%20image.png"),
        ("/my%20image.png", "/my%20image.png"),
        ("/100%.png", "/100%25.png"),
        ("/image.jpg?size=2", "/image.jpg?size=2"),
        ("/image.jpg?of=größe 2#top", "/image.jpg?of=gr%C3%B6%C3%9Fe%202"),
        ("/?id=3", "/?id=3"),
        ("/a+b(1),c.png", "/a+b(1),c.png"),
        ("/" + "long" * 80 + ".png", "/" + "long" * 80 + ".png"),
    ],
)
def test_every_url_is_quoted_as_servers_need_it(path, asked, shades, site):
    prediction = Predictor(shades)(site.url + path)
    np.testing.assert_array_equal(prediction.labels[0], LABELS)
    assert prediction.source == site.url + path
    assert site.requests == [asked]


def test_answer_without_a_length_is_read(shades, site):
    site.length = False
    np.testing.assert_array_equal(Predictor(shades)(f"{site.url}/a.png").labels[0], LABELS)
    site.answers["/cut.png"] = site.image[:-30]
    with pytest.raises(CorruptFileError, match=r"cut.png cannot be read: "):
        Predictor(shades)(f"{site.url}/cut.png")


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/gone.png", 404, "got status 404 Not Found"),
        ("/down.png", 503, "got status 503 Service Unavailable"),
        ("/stalls.png", None, r"got \d+ bytes, then nothing received for 0.3 s, instead of \d+ bytes. Try again"),
        ("/page.png", b"<html>no image</html>", "got a web page"),
        ("/empty.png", b"", "got an empty answer"),
    ],
)
def test_failed_download_says_what_to_do_about_an_image(path, answer, words, shades, site, tmp_path, monkeypatch):
    monkeypatch.setattr("seg_core.files.download.READ_TIMEOUT", 0.3)
    if answer is not None:
        site.answers[path] = answer
    errors = []
    with pytest.raises(CorruptFileError, match=f"the image {site.url}{path} cannot be downloaded: {words}") as raised:
        Predictor(shades)(site.url + path)
    message = str(raised.value)
    assert "Check the URL in a browser, or download the image there and pass its path" in message
    assert "weights" not in message
    assert str(tmp_path) not in message
    predictions = Predictor(shades).stream([site.url + path, PIXELS], on_error=lambda *of: errors.append(of))
    assert len(list(predictions)) == 1
    assert [(name, str(error)) for name, error in errors] == [(site.url + path, message)]
    assert list(tmp_path.iterdir()) == []


def test_host_that_does_not_answer_is_an_error(shades, site, monkeypatch):
    words = (
        "the image http://127.0.0.1:9/a.png cannot be downloaded: got no answer: .* Check the network. Check the URL"
    )
    with pytest.raises(CorruptFileError, match=words):
        Predictor(shades)("http://127.0.0.1:9/a.png")
    monkeypatch.setenv("SEG_OFFLINE", "1")
    with pytest.raises(CorruptFileError, match="since SEG_OFFLINE forbids requests"):
        Predictor(shades)(f"{site.url}/a.png")
    assert site.requests == []


@pytest.mark.parametrize("url", ["http://", "http:///a.png", "http://[::1/a.png", "http://h:port/a.png"])
def test_url_that_is_none_is_an_error(url, shades):
    with pytest.raises(InvalidArgumentError, match="is not a URL: "):
        Predictor(shades)(url)


def test_video_is_downloaded_and_read(shades, site, tmp_path):
    pytest.importorskip("av")
    from seg_models.inference.video import VideoWriter, frame_rate

    with VideoWriter(tmp_path / "clip.mp4", Fraction(10)) as video:
        for gray in (10, 128, 250):
            video.write(np.full((48, 64, 3), gray, np.uint8))
    site.answers["/clip.mp4"] = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "clip.mp4").unlink()
    for url in (f"{site.url}/clip.mp4", f"{site.url}/clip.mp4?token=a b"):
        predictions = list(Predictor(shades)(url))
        assert [int(p.labels[0, 0]) for p in predictions] == [0, 1, 2]
        assert [p.source for p in predictions] == [f"{url}, frame {number}" for number in range(3)]
        assert frame_rate(url) == 10
    site.answers["/gone.mp4"] = 404
    with pytest.raises(CorruptFileError, match="the video .*gone.mp4 cannot be downloaded: got status 404"):
        list(Predictor(shades)(f"{site.url}/gone.mp4"))
    site.answers["/image.mp4"] = b"no video" * 10
    with pytest.raises(CorruptFileError, match=f"{site.url}/image.mp4 cannot be read as a video"):
        list(Predictor(shades)(f"{site.url}/image.mp4"))
    assert list(tmp_path.iterdir()) == []


def test_frames_of_a_file_at_a_url_are_predicted(shades, site, tmp_path):
    first, *others = [Image.fromarray(np.full((6, 8, 3), gray, np.uint8)) for gray in (10, 128, 250)]
    body = io.BytesIO()
    first.save(body, "gif", save_all=True, append_images=others)
    site.answers["/moves.gif"] = body.getvalue()
    predictions = list(Predictor(shades, all_frames=True)(f"{site.url}/moves.gif"))
    assert [int(p.labels[0, 0]) for p in predictions] == [0, 1, 2]
    assert predictions[2].source == f"{site.url}/moves.gif, frame 2"
    with pytest.warns(UserWarning, match=f"{site.url}/moves.gif has 3 frames; only the first is predicted"):
        Predictor(shades)(f"{site.url}/moves.gif")
    assert Predictor(shades, all_frames=True)(f"{site.url}/a.png").source == f"{site.url}/a.png"
    assert list(tmp_path.iterdir()) == []
