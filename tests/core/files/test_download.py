import errno
import hashlib
import http.server
import json
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest

from seg_core.errors import CorruptFileError, InvalidArgumentError, WriteError
from seg_core.files import download, locks
from seg_core.files.download import fetch, fetch_once, read_manifest, stored_path
from seg_core.files.locks import locked
from seg_core.files.urls import quoted_url

DATA = bytes(range(256)) * 400  # 100 kB
OTHER = DATA[::-1]
DIGEST = hashlib.sha256(DATA).hexdigest()


class Site:
    """A server that answers according to its attributes, and records the headers of requests."""

    def __init__(self):
        self.data = DATA
        self.status = 200
        self.headers = {"ETag": '"1"', "Content-Type": "application/octet-stream"}
        self.ranges = True  # whether it knows the Range header,
        self.if_range = True  # and the If-Range header
        self.stop_after = None  # bytes of an answer, then the connection is closed
        self.stall = False  # instead of closing it
        self.length = True  # whether it says the length
        self.chunked = False
        self.surplus = b""
        self.before = threading.Event()  # what an answer waits for
        self.before.set()
        self.requests = []
        self.done = threading.Event()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                site.requests.append(dict(self.headers))
                site.before.wait(20)
                site.answer(self)

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *args):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/models/net.pth?raw=1"

    def answer(self, request):
        body, status, headers = self.data, self.status, dict(self.headers)
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        same = not self.if_range or request.headers.get("If-Range") in self.headers.values()
        if asked and self.ranges and same and status == 200:
            start = int(asked[1])
            if start >= len(body):
                request.send_error(416)
                return
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        request.send_response(status)
        if self.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif self.length:
            headers["Content-Length"] = str(len(body + self.surplus))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        body = (body + self.surplus)[: self.stop_after]
        if self.chunked:
            end = b"" if self.stop_after else b"0\r\n\r\n"
            body = f"{len(body):x}\r\n".encode() + body + b"\r\n" + end
        request.wfile.write(body)
        request.wfile.flush()
        if self.stall:
            self.done.wait(20)

    def close(self):
        self.before.set()
        self.done.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def site():
    site = Site()
    yield site
    site.close()


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SEG_OFFLINE", raising=False)
    monkeypatch.setattr(download, "READ_TIMEOUT", 10.0)
    return tmp_path / "home" / "hub" / "checkpoints"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def break_off(site, after=30_000):
    """Leaves a partial file in the folder."""
    site.stop_after = after
    with pytest.raises(WriteError):
        fetch(site.url, progress=False)
    site.stop_after = None
    site.requests.clear()


# what is fetched ------------------------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("digest", [DIGEST, DIGEST[:8], ""])
def test_fetch_good_file_stands_in_torch_hubs_folder_and_is_fetched_once(site, folder, digest):
    path = fetch(site.url, digest, progress=False)
    assert path == folder / "net.pth" == stored_path(site.url)
    assert path.read_bytes() == DATA
    assert fetch(site.url, digest, progress=False) == path
    assert len(site.requests) == 1
    assert names(folder) == ["net.pth", "seg-manifest.json"]


def test_fetch_chunked_answer_without_length_is_taken(site):
    site.chunked = True
    assert fetch(site.url, progress=False).read_bytes() == DATA


def test_fetch_answer_without_any_end_is_taken_where_a_hash_was_published(site, folder):
    site.length = False
    with pytest.raises(CorruptFileError, match="got an answer without a size"):
        fetch(site.url, progress=False)
    assert names(folder) == []
    assert fetch(site.url, DIGEST[:8], progress=False).read_bytes() == DATA


def test_stored_path_unquotes_the_name_and_stays_in_the_folder(folder):
    assert stored_path("https://example.org/a/net%20a.pth?x=1#y") == folder / "net a.pth"
    assert stored_path("https://example.org/a/..%2F..%2Fnet.pth") == folder / "net.pth"


@pytest.mark.parametrize("url", ["https://example.org", "https://example.org/a/..", "https://a.org/seg-manifest.json"])
def test_stored_path_url_without_file_name_raises(url):
    with pytest.raises(InvalidArgumentError, match="has no file name at its end"):
        stored_path(url)


# what is refused ------------------------------------------------------------------------------------------------------


def test_fetch_failure_says_url_expected_got_place_and_what_to_do_by_hand(site, folder):
    site.stop_after = 100
    with pytest.raises(WriteError) as caught:
        fetch(site.url, progress=False)
    assert str(caught.value) == (
        f"cannot fetch {site.url}: expected 102400 bytes, got 100 bytes. Try again: the partial file is kept, and "
        f"resumed if the server supports it. The file belongs at {folder / 'net.pth'}: download it by hand to that "
        "path, or give another path as weights="
    )


def test_fetch_truncated_chunked_answer_is_refused(site, folder):
    site.chunked, site.stop_after = True, 30_000
    with pytest.raises(WriteError, match="expected the whole file, got 30000 bytes, then"):
        fetch(site.url, progress=False)
    assert "net.pth" not in names(folder)


def test_fetch_wrong_hash_leaves_nothing_behind(site, folder):
    with pytest.raises(CorruptFileError) as caught:
        fetch(site.url, "0" * 64, progress=False)
    assert (
        f"expected a sha256 that begins with {'0' * 16}, got a sha256 that begins with {DIGEST[:16]}. It was deleted"
        in (str(caught.value))
    )
    assert names(folder) == []


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("text/html; charset=utf-8", b"sign in"),
        ("application/octet-stream", b"\xef\xbb\xbf\n <!DOCTYPE html><html>sign in</html>"),
        ("application/octet-stream", b"<html>" + DATA),
    ],
)
def test_fetch_web_page_is_refused_and_throws_away_what_was_there(site, folder, kind, data):
    break_off(site)
    site.headers, site.data = {"ETag": '"2"', "Content-Type": kind}, data
    with pytest.raises(CorruptFileError, match=r"got a web page.*download it by hand to that path"):
        fetch(site.url, progress=False)
    assert names(folder) == []


def test_fetch_empty_answer_is_refused(site, folder):
    site.data = b""
    with pytest.raises(CorruptFileError, match="got an empty answer"):
        fetch(site.url, progress=False)
    assert names(folder) == []


@pytest.mark.parametrize("status", [404, 403, 503])
def test_fetch_http_error_is_refused(site, folder, status):
    site.status = status
    with pytest.raises(
        WriteError, match=f"expected the file, status 200, got status {status} .*give another path as weights="
    ):
        fetch(site.url, progress=False)
    assert names(folder) == []


def test_fetch_part_that_nobody_asked_for_is_refused(site, folder):
    site.status = 206
    with pytest.raises(WriteError, match="got status 206"):
        fetch(site.url, progress=False)
    assert names(folder) == []


def test_fetch_nobody_there_says_so():
    with socket.socket() as deaf, pytest.raises(WriteError, match="got no answer: .*refused.*Check the network"):
        deaf.bind(("127.0.0.1", 0))
        fetch(f"http://127.0.0.1:{deaf.getsockname()[1]}/net.pth", progress=False)


def test_fetch_silent_server_is_given_up_and_what_came_is_kept(site, folder, monkeypatch):
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.2)
    site.stop_after, site.stall = 30_000, True
    with pytest.raises(WriteError, match="expected 102400 bytes, got 30000 bytes, then nothing received for 0.2 s"):
        fetch(site.url, progress=False)
    assert (folder / "net.pth.part").read_bytes() == DATA[:30_000]
    site.stop_after, site.stall = None, False
    assert fetch(site.url, progress=False).read_bytes() == DATA


def test_fetch_server_that_never_answers_is_given_up(site, monkeypatch):
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.2)
    site.before.clear()
    with pytest.raises(WriteError, match="got no answer: nothing received for 0.2 s"):
        fetch(site.url, progress=False)


def test_fetch_where_the_folder_cannot_be_made_raises_write_error(site, folder):
    folder.parent.mkdir(parents=True)
    folder.touch()
    with pytest.raises(WriteError, match="Check the folder's permissions and free space"):
        fetch(site.url, progress=False)


# what is continued ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("validator", [{"ETag": '"1"'}, {"ETag": 'W/"1"', "Last-Modified": formatdate(0, usegmt=True)}])
def test_fetch_after_a_broken_connection_asks_for_the_rest_alone(site, folder, validator):
    site.headers = validator
    break_off(site)
    assert names(folder) == ["net.pth.part", "net.pth.part.json"]
    site.data = b"x" * 30_000 + DATA[30_000:]  # what lies there is not sent again
    assert fetch(site.url, progress=False).read_bytes() == DATA
    (request,) = site.requests
    assert request["Range"] == "bytes=30000-"
    assert request["If-Range"] == list(validator.values())[-1]
    assert names(folder) == ["net.pth", "seg-manifest.json"]


def test_fetch_is_continued_more_than_once(site):
    break_off(site, 10_000)
    break_off(site, 20_000)
    assert fetch(site.url, progress=False).read_bytes() == DATA
    assert site.requests[0]["Range"] == "bytes=30000-"


def test_fetch_server_without_ranges_sends_the_whole_again(site):
    break_off(site)
    site.ranges = False
    assert fetch(site.url, progress=False).read_bytes() == DATA
    assert len(site.requests) == 1


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("new", [OTHER, OTHER[:50_000], OTHER[:20_000], OTHER * 2])
def test_fetch_file_that_changed_meanwhile_is_never_glued_to_the_old_one(site, if_range, new):
    break_off(site)
    site.data, site.if_range = new, if_range
    site.headers["ETag"] = '"2"'
    assert fetch(site.url, progress=False).read_bytes() == new


def test_fetch_file_of_another_length_is_not_continued_in_spite_of_its_tag(site):
    break_off(site)
    site.data = OTHER * 2
    assert fetch(site.url, progress=False).read_bytes() == OTHER * 2


def test_fetch_from_a_server_that_names_no_version_starts_again(site):
    site.headers = {}
    break_off(site)
    assert fetch(site.url, progress=False).read_bytes() == DATA
    assert "Range" not in site.requests[0]


def test_fetch_beginning_of_another_url_is_not_continued(site):
    break_off(site)
    assert fetch(site.url + "&x", progress=False).read_bytes() == DATA
    assert "Range" not in site.requests[0]


@pytest.mark.parametrize("notes", [None, "", "[]", "{}"])
def test_fetch_beginning_of_unknown_origin_is_not_continued(site, folder, notes):
    folder.mkdir(parents=True)
    (folder / "net.pth.part").write_bytes(OTHER[:1000])
    if notes is not None:
        (folder / "net.pth.part.json").write_text(notes)
    assert fetch(site.url, progress=False).read_bytes() == DATA


def test_fetch_beginning_that_is_whole_is_fetched_again(site, folder):
    break_off(site)
    (folder / "net.pth.part").write_bytes(OTHER)
    assert fetch(site.url, progress=False).read_bytes() == DATA
    assert len(site.requests) == 2  # the server has nothing from there on


def test_fetch_rest_that_is_too_long_is_refused(site, folder):
    break_off(site)
    site.surplus = b"more"
    with pytest.raises(CorruptFileError, match="expected 102400 bytes, got more than 102400 bytes"):
        fetch(site.url, progress=False)
    assert names(folder) == []


def test_fetch_rest_that_breaks_off_is_no_whole_file(site, folder):
    break_off(site)
    site.stop_after, site.length = 10, False
    with pytest.raises(WriteError, match="expected 102400 bytes, got 30010 bytes"):
        fetch(site.url, progress=False)
    assert (folder / "net.pth.part").stat().st_size == 30_010


def test_fetch_wrong_beginning_is_found_by_the_hash(site, folder):
    break_off(site)
    (folder / "net.pth.part").write_bytes(OTHER[:30_000])
    with pytest.raises(CorruptFileError, match=f"got a sha256 .*{stored_path(site.url)}"):
        fetch(site.url, DIGEST, progress=False)
    assert names(folder) == []
    assert fetch(site.url, DIGEST, progress=False).read_bytes() == DATA


# without network ------------------------------------------------------------------------------------------------------


def test_fetch_offline_makes_no_request_and_says_where_the_file_belongs(site, folder, monkeypatch):
    monkeypatch.setenv("SEG_OFFLINE", "1")
    with pytest.raises(WriteError) as caught:
        fetch(site.url, DIGEST, progress=False)
    message = str(caught.value)
    assert "SEG_OFFLINE" in message
    assert site.url in message
    assert f"The file belongs at {folder / 'net.pth'}: download it by hand to that path" in message
    assert not site.requests


def test_fetch_offline_file_put_there_by_hand_is_used_and_checked(site, folder, monkeypatch):
    monkeypatch.setenv("SEG_OFFLINE", "1")
    folder.mkdir(parents=True)
    (folder / "net.pth").write_bytes(DATA)
    assert fetch(site.url, DIGEST[:8], progress=False).read_bytes() == DATA
    (folder / "net.pth").write_bytes(OTHER)
    with pytest.raises(CorruptFileError, match="is not the file published at .*delete the file to fetch it again"):
        fetch(site.url, DIGEST[:8], progress=False)


@pytest.mark.parametrize("value", ["", "0"])
def test_fetch_offline_off_makes_requests(site, monkeypatch, value):
    monkeypatch.setenv("SEG_OFFLINE", value)
    assert fetch(site.url, progress=False).is_file()


# the manifest ---------------------------------------------------------------------------------------------------------


def test_manifest_keeps_the_full_hash_of_each_file_that_was_used(site, folder):
    fetch(site.url, DIGEST[:8], progress=False)
    second = site.url.replace("net", "other")
    site.data = OTHER
    fetch(second, progress=False)
    rows = json.loads((folder / "seg-manifest.json").read_text())
    assert rows == read_manifest()
    assert set(rows) == {"net.pth", "other.pth"}
    day = rows["net.pth"].pop("first_used")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)
    assert rows["net.pth"] == {"url": site.url, "sha256": DIGEST, "bytes": len(DATA)}
    assert rows["other.pth"]["sha256"] == hashlib.sha256(OTHER).hexdigest()


def test_manifest_row_of_the_first_use_stays(site, folder):
    fetch(site.url, progress=False)
    manifest = folder / "seg-manifest.json"
    manifest.write_text(re.sub(r"\d{4}-\d\d-\d\d", "2001-02-03", manifest.read_text()))
    fetch(site.url, progress=False)
    assert read_manifest()["net.pth"]["first_used"] == "2001-02-03"


def test_fetch_stored_file_changed_after_first_use_is_refused(site, folder):
    fetch(site.url, progress=False)
    (folder / "net.pth").write_bytes(OTHER)
    with pytest.raises(
        CorruptFileError, match=r"expected .*\(as at first use on .*delete its row in seg-manifest.json"
    ):
        fetch(site.url, progress=False)
    assert (folder / "net.pth").read_bytes() == OTHER  # a user's file is not deleted


def test_fetch_published_file_changed_after_first_use_is_refused_until_the_row_is_deleted(site, folder):
    fetch(site.url, progress=False).unlink()
    site.data = OTHER
    with pytest.raises(CorruptFileError, match="as at first use on .*It was deleted"):
        fetch(site.url, progress=False)
    assert names(folder) == ["seg-manifest.json"]
    (folder / "seg-manifest.json").unlink()
    assert fetch(site.url, progress=False).read_bytes() == OTHER


def test_fetch_file_with_the_published_prefix_but_another_hash_than_at_first_use_is_refused(site, folder):
    digit = DIGEST[0]
    fetch(site.url, digit, progress=False)
    like = next(data for data in map(str.encode, map(str, range(999))) if hashlib.sha256(data).hexdigest()[0] == digit)
    (folder / "net.pth").write_bytes(like)
    with pytest.raises(CorruptFileError, match=f"expected a sha256 that begins with {DIGEST[:16]}, got"):
        fetch(site.url, digit, progress=False)


def test_fetch_published_hash_outweighs_a_row_that_contradicts_it(site, folder):
    fetch(site.url, progress=False).unlink()
    site.data = OTHER
    digest = hashlib.sha256(OTHER).hexdigest()
    fetch(site.url, digest[:8], progress=False)
    assert read_manifest()["net.pth"]["sha256"] == digest


def test_fetch_unverified_file_of_another_url_with_this_name_is_refused(site):
    fetch(site.url, progress=False)
    other = site.url.replace("models", "older")
    with pytest.raises(CorruptFileError, match=f"was fetched from .*{re.escape(other)} has a file of the same name"):
        fetch(other, progress=False)
    assert fetch(other, DIGEST[:8], progress=False).is_file()  # the hash says that it is the same file


@pytest.mark.parametrize("text", ["", "[]", "{", '{"net.pth": {}}', '{"net.pth": {"url": 1, "sha256": 2}}'])
def test_fetch_with_damaged_manifest_says_so(site, folder, text):
    folder.mkdir(parents=True)
    (folder / "seg-manifest.json").write_text(text)
    with pytest.raises(CorruptFileError, match="seg-manifest.json cannot be read: .*repair or delete it"):
        fetch(site.url, progress=False)


def test_fetch_from_a_folder_that_others_look_after_warns_where_nothing_was_published(
    site, folder, monkeypatch, caplog
):
    folder.mkdir(parents=True)
    (folder / "net.pth").write_bytes(DATA)

    def write_json(path, value, **options):
        raise WriteError("read-only")

    monkeypatch.setattr(download, "write_json", write_json)
    assert fetch(site.url, DIGEST[:8], progress=False).is_file()
    assert not caplog.records
    assert fetch(site.url, progress=False).is_file()
    assert "later changes of" in caplog.text


# many at once ---------------------------------------------------------------------------------------------------------


def run_together(*calls):
    failures = []

    def run(call):
        try:
            call()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures


def test_fetch_by_two_at_once_is_one_download(site, folder, capsys):
    site.before.clear()

    def release():
        while "waiting for it" not in capsys.readouterr().err:
            time.sleep(0.01)
        site.before.set()

    run_together(lambda: fetch(site.url), lambda: fetch(site.url), release)
    assert len(site.requests) == 1
    assert names(folder) == ["net.pth", "seg-manifest.json"]


def test_fetch_beside_a_process_that_is_stuck_writes_to_a_name_of_its_own(site, folder, monkeypatch):
    folder.mkdir(parents=True)
    part = folder / "net.pth.part"
    part.write_bytes(b"of the other process")
    with locked(part) as held:
        assert held
        monkeypatch.setattr(download, "READ_TIMEOUT", 0.1)
        assert fetch(site.url, progress=False).read_bytes() == DATA
        assert part.read_bytes() == b"of the other process"
    assert names(folder) == ["net.pth", "net.pth.part", "seg-manifest.json"]


def test_fetch_where_the_file_system_has_no_locks_writes_to_a_name_of_its_own(site, folder, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: pytest.fail("nobody to wait for"))
    folder.mkdir(parents=True)
    (folder / "net.pth.part").write_bytes(b"of another process")
    assert fetch(site.url, progress=False).read_bytes() == DATA
    assert names(folder) == ["net.pth", "net.pth.part", "seg-manifest.json"]


def test_lock_goes_from_one_holder_to_the_next_and_leaves_no_file(tmp_path):
    path, lock = tmp_path / "net.pth.part", tmp_path / "net.pth.part.lock"
    has_it, done = threading.Event(), threading.Event()

    def next_holder():
        with locked(path) as held:
            assert held
            has_it.set()
            assert done.wait(30)

    with ThreadPoolExecutor(1) as pool:
        with locked(path) as held:
            assert held
            waiting = pool.submit(next_holder)
            assert not has_it.wait(0.1)
        # the first holder has removed its lock file; the next one must exclude others all the same
        assert has_it.wait(30)
        assert lock.exists()
        with locked(path, give_up_after=0.05) as held:
            assert not held
        done.set()
        waiting.result()
    assert not lock.exists()


def test_manifest_written_by_many_at_once_has_every_row(site):
    urls = [site.url.replace("net", f"net{i}") for i in range(8)]
    run_together(*(lambda url=url: fetch(url, progress=False) for url in urls))
    assert set(read_manifest()) == {f"net{i}.pth" for i in range(8)}


def test_fetch_after_a_killed_process_continues(site, folder):
    site.stop_after, site.stall = 30_000, True
    # with a folder, so that the process need not import torch
    code = (
        "import sys; from pathlib import Path; from seg_core.files.download import fetch; "
        "fetch(sys.argv[1], progress=False, folder=Path(sys.argv[2]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, site.url, str(folder)]) as process:
        while not (folder / "net.pth.part").is_file() or (folder / "net.pth.part").stat().st_size < 8192:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    site.stop_after, site.stall = None, False
    assert fetch(site.url, progress=False).read_bytes() == DATA
    assert "Range" in site.requests[-1]
    assert names(folder) == ["net.pth", "seg-manifest.json"]


# what is shown --------------------------------------------------------------------------------------------------------


def test_fetch_without_progress_prints_nothing(site, capsys):
    fetch(site.url, progress=False)
    assert capsys.readouterr() == ("", "")


def test_fetch_progress_outside_of_a_terminal_is_lines(site, folder, capsys):
    fetch(site.url)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == f"downloading {site.url} to {folder / 'net.pth'}"
    assert lines[-1] == "  100 % of 0.1 MB"
    assert 2 <= len(lines) <= 12


def test_fetch_progress_in_a_terminal_is_a_bar(site, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch(site.url)
    err = capsys.readouterr().err
    assert err.endswith(f"\r  [{'#' * 20}] 100 % of 0.1 MB\n")
    assert err.count("\n") == 2


def test_fetch_progress_of_unknown_length_counts_bytes(site, capsys):
    site.chunked = True
    fetch(site.url)
    assert capsys.readouterr().err.splitlines()[1:] == ["  0 MB"]


# ------------------------------------------------------------------------------------------- other folders and hashes


def test_fetch_into_a_folder_keeps_the_manifest_there(site, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    path = fetch(site.url, progress=False, folder=folder)
    assert path == folder / "net.pth"
    assert path.read_bytes() == DATA
    assert read_manifest(folder)["net.pth"]["sha256"] == DIGEST
    assert "net.pth" not in read_manifest()


def test_fetch_right_md5_passes_and_the_manifest_holds_the_sha256(site, tmp_path):
    digest = "md5:" + hashlib.md5(DATA).hexdigest()
    path = fetch(site.url, digest, progress=False, folder=tmp_path)
    assert read_manifest(tmp_path)["net.pth"]["sha256"] == DIGEST
    assert fetch(site.url, digest, progress=False, folder=tmp_path) == path
    assert len(site.requests) == 1


def test_fetch_wrong_md5_says_both_and_leaves_nothing(site, tmp_path):
    with pytest.raises(CorruptFileError, match=r"expected the md5 0{32}, got the md5 [0-9a-f]{32}.*as root="):
        fetch(site.url, "md5:" + "0" * 32, progress=False, folder=tmp_path, argument="root=")
    assert list(tmp_path.iterdir()) == []


def test_fetch_file_there_with_another_md5_error_says_so(site, tmp_path):
    (tmp_path / "net.pth").write_bytes(OTHER)
    with pytest.raises(CorruptFileError, match="is not the file published at .*expected the md5"):
        fetch(site.url, "md5:" + hashlib.md5(DATA).hexdigest(), progress=False, folder=tmp_path)
    assert (tmp_path / "net.pth").read_bytes() == OTHER


def test_fetch_quotes_the_url_of_a_request(site, tmp_path):
    path = fetch(site.url.replace("net.pth", "größe 2.pth"), DIGEST, progress=False, folder=tmp_path)
    assert path == tmp_path / "größe 2.pth"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/ä b.jpg?size=2&of=ö#top", "http://h/%C3%A4%20b.jpg?size=2&of=%C3%B6"),
        ("http://h/a%20b.jpg?c=%C3%A4", "http://h/a%20b.jpg?c=%C3%A4"),
        ("http://h/50%.jpg", "http://h/50%25.jpg"),
        ("https://bücher.example:8080/a", "https://xn--bcher-kva.example:8080/a"),
        (" http://[::1]:80/a\n", "http://[::1]:80/a"),
    ],
)
def test_quoted_url_quotes_once_what_a_request_cannot_hold(url, expected):
    assert quoted_url(url) == expected
    assert quoted_url(expected) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.pth",
        "http://",
        "https:///a",
        "http://[::1/a",
        "http://h:port/a",
        "http://h/a\0b",
        "http://h\0/a",
        "http://h/a\x1b[31m",
        "http://h/\ud800",
        "http://h\udfff/a",
        f"http://{'a' * 64}.org/a",
        f"http://{'ä' * 64}.org/a",
        f"http://{'.'.join(['abcdefgh'] * 40)}/a",
        "http://a..org/b",
        "http://a b/c",
        "http://h/" + "a" * 9000,
    ],
)
def test_quoted_url_of_no_url_is_an_error(url):
    with pytest.raises(InvalidArgumentError, match="is not a URL: "):
        quoted_url(url)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "data:text/plain,abc", "ftp://h/a.pth", "FILE:/a.pth", "javascript:a", "c:/a.pth"]
)
def test_url_of_another_kind_is_not_fetched(url, tmp_path):
    words = "cannot be fetched: only http and https URLs are, not [a-z]+:; get the file in another way"
    for call in (
        lambda: fetch(url, progress=False),
        lambda: fetch_once(url, tmp_path / "a", "image"),
        lambda: stored_path(url),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a%00.pth", "a%1B[31m.pth", "a%0A.pth", "%E2%80%AE.pth", "a" * 300])
def test_stored_path_name_that_cannot_be_stored_is_refused(name):
    with pytest.raises(InvalidArgumentError, match="names a file that cannot be stored"):
        stored_path(f"https://example.org/{name}")


def test_fetch_once_leaves_nothing_but_the_file(site, tmp_path):
    site.length = False
    fetch_once(site.url, tmp_path / "file.png", "image")
    assert (tmp_path / "file.png").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["file.png"]


def test_fetch_once_failure_speaks_of_the_file_and_leaves_nothing(site, tmp_path):
    site.stop_after = 1000
    expected = (
        rf"the image {re.escape(site.url)} cannot be downloaded: got 1000 bytes, instead of {len(DATA)} bytes. Try "
        "again. Check the URL in a browser, or download the image there and pass its path"
    )
    with pytest.raises(WriteError, match=expected):
        fetch_once(site.url, tmp_path / "file.png", "image")
    assert list(tmp_path.iterdir()) == []
