"""Servers that send what no server should, without an end or hardly anything: one sentence, soon."""

import contextlib
import socket
import threading
import time

import pytest

from seg_core.errors import CorruptFileError, UserError, WriteError
from seg_core.files import download
from seg_core.files.download import fetch, fetch_once
from seg_core.files.requests import header_integer, one_line, open_url

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class RawServer:
    """Sends given bytes to every request: some once, then others again and again."""

    def __init__(self, once=b"", again=b"", pause=0.0):
        self.once, self.again, self.pause = once, again, pause
        self.requests = []
        self.is_open = True
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/net.pth"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with contextlib.suppress(OSError), connection:
            self.requests.append(connection.recv(65536))
            connection.sendall(self.once.replace(b"PORT", str(self.port).encode()))
            while self.again and self.is_open:
                connection.sendall(self.again)
                time.sleep(self.pause)


@pytest.fixture
def serve():
    servers = []

    def start(*args, **options):
        servers.append(RawServer(*args, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.is_open = False
        server.socket.close()


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.delenv("SEG_OFFLINE", raising=False)
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.4)
    return tmp_path / "files"


def refused(server, folder, words, limit=1 << 20):
    """Checks the error of both ways to download a file, and that nothing gets its name."""
    folder.mkdir(exist_ok=True)
    for call in (
        lambda: fetch(server.url, "ab" * 32, progress=False, folder=folder),
        lambda: fetch_once(server.url, folder / "once.png", "image", limit),
    ):
        start = time.monotonic()
        with pytest.raises(UserError, match=words) as error:
            call()
        assert time.monotonic() - start < 5
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 1000
        assert not {path.name for path in folder.iterdir()} - {"net.pth.part", "net.pth.part.json"}


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 ",
        OK + b"X: ",
        OK + b"Content-Length: 100000\r\n\r\n",
        OK + b"\r\n",
        CHUNKED,
        CHUNKED + b"10000\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /a.pth\r\nContent-Length: 9000\r\n\r\n",
    ],
)
def test_server_that_drips_is_given_up(serve, folder, start):
    refused(serve(start, b"1", pause=0.02), folder, "too slow|nothing received for")


def test_server_that_pauses_but_sends_enough_is_waited_for(serve, folder):
    server = serve(OK + b"Content-Length: 20000\r\n\r\n", b"x" * 1000, pause=0.05)  # one second in all
    folder.mkdir()
    fetch_once(server.url, folder / "a.png", "image")
    assert (folder / "a.png").stat().st_size == 20_000


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"Trailer: x\r\n" * 1000),
        (CHUNKED + b"1\r\nx\r\n", b"\r\n" * 1000),
        (OK, b"X: y\r\n" * 1000),
        (OK + b"X: ", b"y" * 10_000),
        (b"", b"y" * 10_000),
        (b"HTTP/1.1 302 Found\r\nLocation: /a.pth\r\n\r\n", b"y" * 10_000),
        (b"HTTP/1.1 302 Found\r\nLocation: /a.pth\r\nContent-Length: 99999999999\r\n\r\n", b"y" * 10_000),
    ],
)
def test_server_that_sends_no_file_without_an_end_is_given_up(serve, folder, start, again):
    refused(serve(start, again), folder, "got ")


def test_answer_without_an_end_is_given_up_at_the_limit(serve, folder, monkeypatch):
    folder.mkdir()
    server = serve(OK + b"\r\n", b"y" * 100_000)
    with pytest.raises(CorruptFileError, match="got an answer without an end, instead of 1000000 bytes at most"):
        fetch_once(server.url, folder / "a.png", "image", 1_000_000)
    monkeypatch.setattr("seg_core.files.download_target.Target.limit", 1_000_000)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("size", [1 << 37, 10**17])
def test_answer_that_tells_of_a_size_above_the_limit_is_refused_before_it_is_stored(serve, folder, size):
    refused(serve(OK + b"Content-Length: %d\r\n\r\n" % size, b"y" * 1000), folder, f"{size} bytes")


def test_answer_larger_than_the_free_space_is_refused_before_it_is_stored(serve, folder, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5000})())
    server = serve(OK + b"Content-Length: 6000\r\n\r\n", b"y" * 1000)
    with pytest.raises(WriteError, match="expected at most 5000 more, got 6000 bytes, of which 0 are there. Free some"):
        fetch(server.url, progress=False, folder=folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("length", [b"9" * 5000, b"-1", b"\xb2", b"1e3", b"0x10", b""])
def test_length_that_is_no_number_is_as_good_as_none(serve, folder, length):
    server = serve(OK + b"Content-Length: " + length + b"\r\n\r\nabc")
    with pytest.raises(CorruptFileError, match="an answer without a size"):
        fetch(server.url, progress=False, folder=folder)


def test_answer_that_is_shorter_than_its_length_is_refused(serve, folder):
    refused(serve(OK + b"Content-Length: 50\r\n\r\nabc"), folder, "got 3 bytes")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 No\x1b[31m\xe2\x80\xaet\x07 there\r\n\r\n",
        b"HTTP/1.1 500 " + b"x" * 60_000 + b"\r\n\r\n",
        b"HTTP/1.1 9999 OK\r\n\r\n",
        b"HTTP/1.1 \x1b[31m\r\n\r\n",
        b"\x1b[31mno HTTP\r\n\r\n",
        b"HTTP/1.1 206 Partial\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 204 None\r\n\r\n",
        b"",
        OK + b"X: \0\x1b\r\nContent-Length: 0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\nabc\r\n",
        OK + b"Content-Type: text/html; \x1b[31m\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
def test_answer_that_is_no_proper_http_is_refused_in_one_line(serve, folder, answer):
    refused(serve(answer), folder, "got |cannot be downloaded")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (b"file:///etc/passwd", "a redirect to file:///etc/passwd, which is not followed"),
        (b"ftp://127.0.0.1/a.pth", "a redirect to ftp://127.0.0.1/a.pth, which is not followed"),
        (b"data:text/plain,abc", "a redirect to data:text/plain,abc, which is not followed"),
        (b"FILE:/etc/\x1b[31m", "which is not followed"),
        (b"http://[::1/a", "got "),
        (b"http://" + b"a" * 64 + b"/a", "a redirect to what is no URL"),
        (b"http://h:port/a", "a redirect to what is no URL"),
        (b"http:///a", "got "),
        (b"/net.pth", "status 302"),  # to itself
        (b"http://127.0.0.1:PORT/\xff\x80", "status 302"),
        (b"", "status 302"),
    ],
)
def test_redirect_that_leads_nowhere_good_is_refused(serve, folder, place, words):
    server = serve(b"HTTP/1.1 302 Found\r\nLocation: " + place + b"\r\nContent-Length: 0\r\n\r\n")
    refused(server, folder, words)
    assert len(server.requests) <= 2 * 11


def test_redirect_from_https_to_http_is_refused():
    from urllib.error import URLError
    from urllib.request import Request

    from seg_core.files.requests import _Redirects

    handler = _Redirects()
    for new in ("http://a.org/b", "HTTP://a.org/b"):
        with pytest.raises(URLError, match="a redirect to .*, which is not followed"):
            handler.redirect_request(Request("https://a.org/b"), None, 302, "Found", {}, new)
    assert handler.redirect_request(Request("http://a.org/b"), None, 302, "Found", {}, "https://a.org/b") is not None


def test_redirect_within_http_is_followed(serve, folder):
    folder.mkdir()
    file = serve(OK + b"Content-Length: 3\r\n\r\nabc")
    server = serve(f"HTTP/1.1 302 Found\r\nLocation: {file.url}\r\nContent-Length: 2\r\n\r\nxx".encode())
    fetch_once(server.url, folder / "a.png", "image")
    assert (folder / "a.png").read_bytes() == b"abc"


def test_tag_that_no_header_may_hold_is_not_sent_back(serve, folder):
    server = serve(OK + b'ETag: "a\x1b\x80"\r\nContent-Length: 50\r\n\r\nabc')
    for _ in range(2):
        with pytest.raises(WriteError, match="got 3 bytes"):
            fetch(server.url, progress=False, folder=folder)
    assert b"If-Range" not in server.requests[1]


def test_one_line_and_header_integer():
    assert one_line("a\x1b[0m\x85\u202eb\r\nc" + "d" * 300) == "a\\x1b[0m \\u202eb c" + "d" * 182 + "..."
    assert [header_integer(text) for text in ("007", " 5 ", "²", "", "1_0", "+1")] == [7, 5, None, None, None, None]


def test_open_url_asks_no_proxy_for_another_scheme(monkeypatch):
    monkeypatch.setenv("file_proxy", "http://127.0.0.1:1")
    with pytest.raises(UserError, match="only http and https URLs are, not file:"):
        open_url("file:///etc/passwd", {}, 1)
