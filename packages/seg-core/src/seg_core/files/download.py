"""Published files, fetched once into a folder: checked before they take their name, and every time after.

A file is written to `<name>.part` and renamed when it is whole and has the published hash. What a broken connection
leaves there is continued the next time, if the server says that the file is still the same one. `seg-manifest.json`
beside the files keeps the full hash of each that was ever used; where nothing was published to compare with, the hash
of the first use is what later uses are compared with.

Weights go to torch.hub's folder, which `TORCH_HOME` moves. With `SEG_OFFLINE=1` no request is made.
"""

import contextlib
import datetime
import errno
import hashlib
import http.client
import json
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, Self, TypedDict
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlparse
from urllib.request import Request, urlopen

import torch

from seg_core.__about__ import __version__
from seg_core.errors import CorruptFileError, InvalidArgumentError, UserError, WriteError
from seg_core.files.atomic import write_text

__all__ = ["ManifestRow", "fetch", "is_offline", "locked", "read_manifest", "stored_path"]

READ_TIMEOUT = 30.0
"""Seconds that a server may be silent."""

logger = logging.getLogger(__name__)

_BLOCK = 1 << 16
_MANIFEST = "seg-manifest.json"
_LINE_BYTES = 100_000_000  # a line of progress for each, where the whole is unknown
_POLL = 0.02  # seconds
_DIGITS_SHOWN = 16
_MD5 = "md5:"
_HTML_TYPES = ("text/html", "application/xhtml+xml")
_HTML_STARTS = (b"<!doctype", b"<html", b"<head", b"<?xml")


class ManifestRow(TypedDict):
    """What the manifest says about a file: where it came from, its full hash and size, the day of its first use."""

    url: str
    sha256: str
    bytes: int
    first_used: str


def fetch(
    url: str, digest: str = "", progress: bool = True, folder: Path | None = None, argument: str = "weights="
) -> Path:
    """Returns the file of `url` in a folder; it is downloaded if it is not there, and checked in any case.

    Two processes may fetch the same file at once: one downloads, the other waits for it.

    Args:
        url: of the file; its last part is the file's name.
        digest: hexadecimal sha256 of the file, whole or its first digits, or `"md5:"` and its md5; empty where none was
            published, then the sha256 of the first use counts.
        progress: whether to show on stderr how far the download is.
        folder: where the file goes; torch.hub's folder for checkpoints if None.
        argument: where a user can give the path of a file fetched by hand, for messages.

    Raises:
        CorruptFileError: if the file is not the published one.
        WriteError: if it cannot be fetched or stored; what came of it is kept for the next try.
    """
    path = stored_path(url, folder)
    target = _Target(url, path, *_expectation(path, url, digest, argument), argument)
    with _disk_errors(target):
        if not path.is_file():
            if is_offline():
                raise WriteError(target.failure("no answer, since SEG_OFFLINE forbids to ask"))
            with _turn(target, progress) as part:
                if not path.is_file():  # another process may have fetched it meanwhile
                    _download(target, part, progress)
        found, sha256 = _digest_of(path, target.digest)
    if not found.startswith(target.digest):
        raise CorruptFileError(
            f"{path} is not the file published at {url}: expected {target.expected}, got {_hash_words(found)}; delete "
            f"the file to fetch it again, or give the path of the right one as {argument}"
        )
    try:
        _record(path, url, sha256)
    except WriteError as error:  # a folder that others look after can still be used
        if not digest:
            logger.warning("a later change of %s would not be noticed: %s", path, error)
    return path


def stored_path(url: str, folder: Path | None = None) -> Path:
    """Returns where the file of `url` is, or would be, in `folder` (torch.hub's for checkpoints if None).

    Raises:
        InvalidArgumentError: if the url ends in no file name.
    """
    name = Path(unquote(urlparse(url).path)).name
    if name in ("", "..", _MANIFEST):
        raise InvalidArgumentError(f"url {url!r} ends in no name for a file; give the address of a file")
    return (folder or _hub_folder()) / name


def is_offline() -> bool:
    """Returns whether `SEG_OFFLINE` forbids requests."""
    return os.environ.get("SEG_OFFLINE", "") not in ("", "0")


def read_manifest(folder: Path | None = None) -> dict[str, ManifestRow]:
    """Returns what is known about the files of a folder that were used so far, by name; torch.hub's folder if None.

    Raises:
        CorruptFileError: if the manifest was damaged.
    """
    path = (folder or _hub_folder()) / _MANIFEST
    try:
        rows: dict[str, ManifestRow] = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(row[key], str) for row in rows.values() for key in ("url", "sha256", "first_used")):
            return rows
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        reason = "a row's url, sha256 or first_used is no text"
    raise CorruptFileError(
        f"{path} cannot be read: {reason}; mend it, or delete it: the files are then compared from their next use on"
    )


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


@dataclass(frozen=True)
class _Target:
    """What is fetched.

    Attributes:
        url: of the file.
        path: where it goes.
        digest: first digits of its sha256, or `md5:` and its md5, or nothing.
        expected: the same in words.
        argument: where a user can give the path of a file, for messages.
    """

    url: str
    path: Path
    digest: str
    expected: str
    argument: str

    def failure(self, got: str, expected: str | None = None, then: str = "") -> str:
        """Returns the message of a failure: what was got instead of what, and what the user can do."""
        return (
            f"cannot fetch {self.url}: expected {expected or self.expected}, got {got}. {then}The file goes to "
            f"{self.path}: fetch the file by hand and put it there under that name, or give its path as {self.argument}"
        )


def _expectation(path: Path, url: str, digest: str, argument: str) -> tuple[str, str]:
    """Returns the digits that the file's hash begins with, and what is expected in words."""
    row = read_manifest(path.parent).get(path.name)
    if digest.startswith(_MD5):  # the manifest knows nothing of it, and the published one counts
        return digest, _hash_words(digest)
    if row is not None and row["sha256"].startswith(digest) and (row["url"] == url or digest):
        known = f" (as at first use on {row['first_used']}; delete its row in {_MANIFEST} to accept another file)"
        return row["sha256"], _hash_words(row["sha256"]) + ("" if digest else known)
    if row is not None and not digest and path.is_file():
        raise CorruptFileError(
            f"{path} was fetched from {row['url']}, and {url} has a file of the same name; move or delete it, or give "
            f"the path of the right one as {argument}"
        )
    return digest, _hash_words(digest) if digest else "a file (no hash of it was published)"


# ----------------------------------------------------------------------------------------------------------- requests


class _Notes(TypedDict):
    """What is known about the file that a `.part` is the beginning of; kept beside it."""

    url: str
    validator: str
    total: int | None


def _download(target: _Target, part: Path, progress: bool) -> None:
    if progress:
        print(f"downloading {target.url} to {target.path}", file=sys.stderr)
    try:
        delivery = _request(target, part)
        with delivery.answer:
            _receive(target, part, delivery, progress)
        _check(target, part)
    except CorruptFileError:
        part.unlink(missing_ok=True)
        _notes_path(part).unlink(missing_ok=True)
        raise
    part.replace(target.path)
    _notes_path(part).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Delivery:
    """What a server sends.

    Attributes:
        answer: to read from.
        start: how much of the file is there already and is not sent again.
        total: bytes of the whole file, or None where the server does not say.
    """

    answer: Any
    start: int
    total: int | None


def _request(target: _Target, part: Path) -> _Delivery:
    """Asks for the rest of the file if a part of it is there, else for the whole."""
    notes = _read_notes(part)
    size = _size(part)
    answer = None
    if size and notes is not None and notes["url"] == target.url and notes["validator"]:
        # a server that has another file by now sends the whole of it, or should
        answer = _ask(target, {"Range": f"bytes={size}-", "If-Range": notes["validator"]})
        if answer is not None and answer.status == http.HTTPStatus.PARTIAL_CONTENT:
            sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            same = _validator(answer.headers) == notes["validator"]
            if same and sent is not None and (int(sent[1]), int(sent[2])) == (size, notes["total"]):
                return _Delivery(answer, size, notes["total"])
            answer.close()
            answer = None
    if answer is None:
        answer = _ask(target, {})
    length = answer.headers.get("Content-Length", "")
    return _Delivery(answer, 0, int(length) if length.isdigit() else None)


def _ask(target: _Target, headers: dict[str, str]) -> Any:
    """Returns the answer, or None where the server has no such range."""
    request = Request(target.url, headers={"User-Agent": f"seg-core/{__version__}", **headers})
    try:
        answer = urlopen(request, timeout=READ_TIMEOUT)
    except HTTPError as error:
        error.close()
        if headers and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        got = f"status {error.code} {error.reason}"
        raise WriteError(target.failure(got, "the file, status 200")) from error
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) else error
        raise WriteError(target.failure(f"no answer: {_words(cause)}", then="Check the network. ")) from error
    allowed = (None, http.HTTPStatus.OK, http.HTTPStatus.PARTIAL_CONTENT if headers else None)  # None: no HTTP at all
    if answer.status not in allowed:
        answer.close()
        raise WriteError(target.failure(f"status {answer.status}", "the file, status 200"))
    return answer


def _receive(target: _Target, part: Path, delivery: _Delivery, progress: bool) -> None:
    answer, received, total = delivery.answer, delivery.start, delivery.total
    kind = answer.headers.get_content_type() if "Content-Type" in answer.headers else ""
    if kind in _HTML_TYPES:
        raise CorruptFileError(target.failure(f"a web page ({kind})"))
    if total is None and not target.digest and not getattr(answer, "chunked", False):
        raise CorruptFileError(target.failure("an answer that says no size, so that nothing tells when it is whole"))
    with part.open("ab" if received else "wb") as file, _Progress(total, progress) as shown:
        if not received:
            notes = _Notes(url=target.url, validator=_validator(answer.headers), total=total)
            write_text(_notes_path(part), json.dumps(notes))
        while block := _read(target, answer, received, total):
            file.write(block)
            received += len(block)
            if total is not None and received > total:
                raise CorruptFileError(target.failure(f"more than {total} bytes", f"{total} bytes"))
            shown.show(received)
        file.flush()
        os.fsync(file.fileno())
    if _is_html(part):
        raise CorruptFileError(target.failure("a web page"))
    if not received:
        raise CorruptFileError(target.failure("an empty answer"))
    if total is not None and received < total:
        raise WriteError(_broken_off(target, f"{received} bytes", total))


def _read(target: _Target, answer: Any, received: int, total: int | None) -> bytes:
    try:
        block: bytes = answer.read1(_BLOCK)  # what is there: a read of more would lose it when the server stalls
        return block
    except (OSError, http.client.HTTPException) as error:
        raise WriteError(_broken_off(target, f"{received} bytes, then {_words(error)}", total)) from error


def _broken_off(target: _Target, got: str, total: int | None) -> str:
    expected = "the whole file" if total is None else f"{total} bytes"
    return target.failure(got, expected, "Try again: what came is kept, and continued where the server can. ")


def _check(target: _Target, part: Path) -> None:
    found, _ = _digest_of(part, target.digest)
    if not found.startswith(target.digest):
        then = "It was thrown away; try again, and report it if it stays so. "
        raise CorruptFileError(target.failure(_hash_words(found), then=then))


def _validator(headers: Message) -> str:
    """What tells one version of the file from another, or nothing. A weak ETag does not promise equal bytes."""
    tag = str(headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(headers.get("Last-Modified", ""))


def _notes_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_notes(part: Path) -> _Notes | None:
    try:
        notes = json.loads(_notes_path(part).read_text(encoding="utf-8"))
        return _Notes(url=notes["url"], validator=notes["validator"], total=notes["total"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _is_html(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_HTML_STARTS)


def _words(error: object) -> str:
    return f"silence for {READ_TIMEOUT:g} s" if isinstance(error, TimeoutError) else str(error) or repr(error)


class _Progress:
    """Shows on stderr how much has come: a line that changes in a terminal, else a line for every tenth.

    Args:
        total: bytes of the whole file, or None where the server does not say.
        enabled: whether to show anything.
    """

    def __init__(self, total: int | None, enabled: bool) -> None:
        self._total = total
        self._enabled = enabled
        self._terminal = sys.stderr.isatty()
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal and self._shown:
            print(file=sys.stderr)

    def show(self, received: int) -> None:
        """Shows the state, if it has changed by a visible step."""
        if not self._enabled:
            return
        if self._total:
            percent = 100 * received // self._total
            if not self._terminal:
                percent -= percent % 10
            bar = f"[{'#' * (percent // 5):20}] " if self._terminal else ""
            text = f"  {bar}{percent:3} % of {self._total / 1e6:.1f} MB"
        else:
            step = _LINE_BYTES if not self._terminal else _LINE_BYTES // 100
            text = f"  {received // step * step / 1e6:.0f} MB"
        if text != self._shown:
            self._shown = text
            before, after = ("\r", "") if self._terminal else ("", "\n")
            print(before + text, end=after, file=sys.stderr, flush=True)


# ----------------------------------------------------------------------------------------------------- files and locks


def _record(path: Path, url: str, digest: str) -> None:
    """Writes the row of a file into the manifest, unless it says so already."""
    row = read_manifest(path.parent).get(path.name)
    if row is not None and row["sha256"] == digest:
        return
    manifest = path.with_name(_MANIFEST)
    with locked(manifest):
        rows = read_manifest(path.parent)  # with the rows that others wrote meanwhile
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        rows[path.name] = ManifestRow(url=url, sha256=digest, bytes=path.stat().st_size, first_used=today)
        write_text(manifest, json.dumps(rows, indent=2, sort_keys=True) + "\n")


@contextlib.contextmanager
def _turn(target: _Target, progress: bool) -> Iterator[Path]:
    """Yields the name to write to, once no other process writes to it."""
    part = target.path.with_name(target.path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"another process is downloading {target.url}; waiting for it" if progress else ""
    with locked(part, waiting) as held:
        if held:
            yield part
            return
        own = part.with_name(f"{target.path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        try:
            yield own
        finally:
            own.unlink(missing_ok=True)
            _notes_path(own).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, waiting: str = "", watch: bool = True) -> Iterator[bool]:
    """Waits until no other process works on `path` and keeps others waiting for the block; yields whether it could.

    Args:
        path: of the file; the lock is a file beside it, gone with its process.
        waiting: what to say on stderr when there is something to wait for.
        watch: whether to give up when `path` has not grown for twice the time that a server may be silent, since
            whoever works on it is stuck; not for work that does not show there.
    """
    lock = path.with_name(path.name + ".lock")
    handle = None
    with contextlib.suppress(OSError):  # a file system without locks, or a folder that nothing can be written to
        size, since = -1, time.monotonic()
        while (handle := _try_lock(lock)) is None:
            if waiting:
                print(waiting, file=sys.stderr)
                waiting = ""
            found = _size(path)
            if found != size:
                size, since = found, time.monotonic()
            elif watch and time.monotonic() - since > 2 * READ_TIMEOUT:
                break
            time.sleep(_POLL)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            with contextlib.suppress(OSError):  # Windows keeps a file that is open
                lock.unlink()
            os.close(handle)


def _try_lock(lock: Path) -> int | None:
    """Returns the open lock file, or None while another process has it."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # its last holder may have removed the file meanwhile, then it keeps nobody out
        if os.path.samestat(os.fstat(handle), lock.stat()):
            return handle
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            os.close(handle)
            lock.unlink(missing_ok=True)
            raise
    os.close(handle)
    return None


@contextlib.contextmanager
def _disk_errors(target: _Target) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        got = str(error.strerror or error)
        then = "Check the folder's permissions and free space. "
        raise WriteError(target.failure(got, "a file that can be written and read", then)) from error


def _hash_words(digest: str) -> str:
    if digest.startswith(_MD5):
        return f"the md5 {digest.removeprefix(_MD5)}"
    return f"a sha256 that begins with {digest[:_DIGITS_SHOWN]}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _digest_of(path: Path, like: str) -> tuple[str, str]:
    """Returns a file's hash of the kind that `like` is, and its sha256."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            if like.startswith(_MD5):
                md5.update(block)
    digest = sha256.hexdigest()
    return (_MD5 + md5.hexdigest() if like.startswith(_MD5) else digest), digest
