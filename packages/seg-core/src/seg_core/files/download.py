"""Downloads published files once into a folder; each file is checked before it gets its name, and on every use.

A file is written to `<name>.part` and renamed when it is complete and has the published hash. A partial file is resumed
the next time, if the server confirms that its file has not changed. `seg-manifest.json` in the same folder records the
full hash of each file at its first use; if no hash was published, the file is compared with it on later uses.

Weights are stored in torch.hub's folder, which `TORCH_HOME` sets. With `SEG_OFFLINE=1` no request is made.
"""

import contextlib
import datetime
import glob
import http.client
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, TypedDict
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from seg_core.__about__ import __version__
from seg_core.errors import CorruptFileError, InvalidArgumentError, UserError, WriteError
from seg_core.files.download_progress import DownloadProgress
from seg_core.files.download_target import MAX_FILE, OneUse, Target
from seg_core.files.hashes import MD5, digest_of, hash_words
from seg_core.files.json_text import write_json
from seg_core.files.locks import locked, size_of
from seg_core.files.requests import TooSlowError, header_integer, one_line, open_url
from seg_core.files.urls import quoted_url
from seg_core.parsing import parse_json, read_json
from seg_core.text import read_text

__all__ = [
    "READ_TIMEOUT",
    "ManifestRow",
    "fetch",
    "fetch_once",
    "is_offline",
    "read_manifest",
    "stored_path",
]

READ_TIMEOUT = 30.0
"""Seconds to wait for a server that sends nothing, or hardly anything."""

logger = logging.getLogger(__name__)

_BLOCK = 1 << 16
_LONGEST_VALIDATOR = 1000
_LONGEST_NAME = 200  # bytes; files of the same name with a longer suffix stand beside it
_MANIFEST = "seg-manifest.json"
_HTML_TYPES = ("text/html", "application/xhtml+xml")
_HTML_STARTS = (b"<!doctype", b"<html", b"<head", b"<?xml")


class ManifestRow(TypedDict):
    """Entry of the manifest: URL, full hash and size of a file, and the day of its first use."""

    url: str
    sha256: str
    bytes: int
    first_used: str


def fetch(
    url: str, digest: str = "", progress: bool = True, folder: Path | None = None, argument: str = "weights="
) -> Path:
    """Returns the local path of the file at `url`, which is downloaded if needed, and always checked.

    Two processes may fetch the same file at once: one downloads, the other waits for it.

    Args:
        url: URL of the file; its last component is the file's name. Spaces and letters outside of ASCII are quoted.
        digest: hexadecimal sha256 of the file, whole or its first digits, or `"md5:"` and its md5; empty if none was
            published: then the sha256 of the first use is expected.
        progress: whether to show progress on stderr.
        folder: where the file is stored; torch.hub's folder for checkpoints if None.
        argument: name of the argument that takes the path of a manually downloaded file, for messages; "" if none does.

    Raises:
        InvalidArgumentError: if it is no http or https URL of a file.
        CorruptFileError: if the file is not the published one, or larger than `MAX_FILE`.
        WriteError: if it cannot be downloaded or stored; a partial file is kept for the next try.
    """
    path = stored_path(url, folder)
    target = Target(url, path, *_expectation(path, url, digest, argument), argument)
    with _disk_errors(target):
        if not path.is_file():
            if is_offline():
                raise WriteError(target.failure("no answer, since SEG_OFFLINE forbids requests"))
            with _turn(target, progress) as part:
                if not path.is_file():  # another process may have downloaded it in the meantime
                    _download(target, part, progress)
        found, sha256 = digest_of(path, target.digest)
    if not found.startswith(target.digest):
        raise CorruptFileError(
            f"{path} is not the file published at {url}: expected {target.expected}, got {hash_words(found)}; delete "
            f"the file to fetch it again{target.or_another}"
        )
    try:
        _record(path, url, sha256)
    except WriteError as error:  # a read-only folder can still be used
        if not digest:
            logger.warning("later changes of %s cannot be detected: %s", path, error)
    return path


def fetch_once(url: str, path: Path, noun: str, limit: int = MAX_FILE) -> None:
    """Downloads the file at `url` to `path`, for one use: nothing else is stored, and a partial file is not kept.

    Args:
        url: URL of the file. Spaces and letters outside of ASCII are quoted.
        path: where the file is written.
        noun: what the file should be, such as "image", for messages.
        limit: the most bytes that it may have.

    Raises:
        InvalidArgumentError: if the URL is none of http or https.
        CorruptFileError: if the answer is a web page, empty, too large, or of another length than the server said.
        WriteError: if it cannot be downloaded or stored.
    """
    target = OneUse(url, path, "", noun, noun, limit)
    with _disk_errors(target):
        if is_offline():
            raise WriteError(target.failure("no answer, since SEG_OFFLINE forbids requests"))
        try:
            _download(target, path.with_name(path.name + ".part"), progress=False)
        finally:
            for left in path.parent.glob(f"{glob.escape(path.name)}.part*"):
                left.unlink()


def stored_path(url: str, folder: Path | None = None) -> Path:
    """Returns the path at which `fetch` stores the file of `url` in `folder` (torch.hub's for checkpoints if None).

    Raises:
        InvalidArgumentError: if it is no http or https URL, or has no file name at its end.
    """
    name = Path(unquote(urlsplit(quoted_url(url)).path)).name
    if name in ("", "..", _MANIFEST):
        raise InvalidArgumentError(f"url {url!r} has no file name at its end; give the URL of a file")
    if not name.isprintable() or len(name.encode()) > _LONGEST_NAME:
        raise InvalidArgumentError(
            f"url {one_line(url)!r} names a file that cannot be stored: its name has characters that cannot be seen, "
            f"or over {_LONGEST_NAME} bytes; download it by hand, and give its path"
        )
    return (folder or _hub_folder()) / name


def is_offline() -> bool:
    """Returns whether `SEG_OFFLINE` forbids requests."""
    return os.environ.get("SEG_OFFLINE", "") not in ("", "0")


def read_manifest(folder: Path | None = None) -> dict[str, ManifestRow]:
    """Returns the manifest of a folder: the files that were used so far, by name; torch.hub's folder if None.

    Raises:
        CorruptFileError: if the manifest is damaged.
    """
    path = (folder or _hub_folder()) / _MANIFEST
    try:
        rows: dict[str, ManifestRow] = parse_json(read_text(path))
        if all(isinstance(row[key], str) for row in rows.values() for key in ("url", "sha256", "first_used")):
            return rows
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        reason = "a row's url, sha256 or first_used is not a string"
    raise CorruptFileError(
        f"{path} cannot be read: {reason}; repair or delete it (the hash of each file is then recorded again)"
    )


def _hub_folder() -> Path:
    import torch  # only here: a download into another folder needs none of it

    return Path(torch.hub.get_dir()) / "checkpoints"


def _expectation(path: Path, url: str, digest: str, argument: str) -> tuple[str, str]:
    """Returns the first digits of the file's hash, and a description of it for messages."""
    row = read_manifest(path.parent).get(path.name)
    if digest.startswith(MD5):  # the manifest holds no md5
        return digest, hash_words(digest)
    if row is not None and row["sha256"].startswith(digest) and (row["url"] == url or digest):
        known = f" (as at first use on {row['first_used']}; delete its row in {_MANIFEST} to accept another file)"
        return row["sha256"], hash_words(row["sha256"]) + ("" if digest else known)
    if row is not None and not digest and path.is_file():
        raise CorruptFileError(
            f"{path} was fetched from {row['url']}, and {url} has a file of the same name; move or delete it, or give "
            f"the path of the right one as {argument}"
        )
    return digest, hash_words(digest) if digest else "a file (no hash of it was published)"


# ----------------------------------------------------------------------------------------------------------- requests


class _Notes(TypedDict):
    """Metadata of the file that a `.part` belongs to; stored in the same folder."""

    url: str
    validator: str
    total: int | None


def _download(target: Target, part: Path, progress: bool) -> None:
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
    """Response of a server.

    Attributes:
        answer: the open response.
        start: bytes that are already there and are not sent again.
        total: bytes of the whole file, or None if the server does not report it.
    """

    answer: Any
    start: int
    total: int | None


def _request(target: Target, part: Path) -> _Delivery:
    """Requests the rest of the file if its beginning is there, else all of it."""
    notes = _read_notes(part)
    size = size_of(part)
    answer = None
    if size and notes is not None and notes["url"] == target.url and notes["validator"]:
        # a server whose file has changed should send all of it
        answer = _ask(target, {"Range": f"bytes={size}-", "If-Range": notes["validator"]})
        if answer is not None and answer.status == http.HTTPStatus.PARTIAL_CONTENT:
            sent = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18})", answer.headers.get("Content-Range", ""))
            same = _validator(answer.headers) == notes["validator"]
            if same and sent is not None and (int(sent[1]), int(sent[2])) == (size, notes["total"]):
                return _Delivery(answer, size, notes["total"])
            answer.close()
            answer = None
    if answer is None:
        answer = _ask(target, {})
    return _Delivery(answer, 0, header_integer(answer.headers.get("Content-Length")))


def _ask(target: Target, headers: dict[str, str]) -> Any:
    """Returns the answer, or None if the server has no such range."""
    try:
        answer = open_url(target.url, {"User-Agent": f"seg-core/{__version__}", **headers}, READ_TIMEOUT)
    except HTTPError as error:
        error.close()
        if headers and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        got = f"status {error.code} {one_line(error.reason)}"
        raise WriteError(target.failure(got, "the file, status 200")) from error
    except InvalidArgumentError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        raise WriteError(target.failure(f"no answer: {_words(cause)}", then="Check the network. ")) from error
    if answer.status != http.HTTPStatus.OK and not (headers and answer.status == http.HTTPStatus.PARTIAL_CONTENT):
        answer.close()
        raise WriteError(target.failure(f"status {answer.status}", "the file, status 200"))
    return answer


def _receive(target: Target, part: Path, delivery: _Delivery, progress: bool) -> None:
    answer, received, total = delivery.answer, delivery.start, delivery.total
    kind = answer.headers.get_content_type() if "Content-Type" in answer.headers else ""
    if kind in _HTML_TYPES:
        raise CorruptFileError(target.failure(f"a web page ({kind})"))
    if total is None and not target.digest and target.must_be_sized and not getattr(answer, "chunked", False):
        raise CorruptFileError(target.failure("an answer without a size, which cannot be checked for completeness"))
    _check_size(target, part.parent, received, total)
    with part.open("ab" if received else "wb") as file, DownloadProgress(total, progress) as shown:
        if not received:
            notes = _Notes(url=target.url, validator=_validator(answer.headers), total=total)
            write_json(_notes_path(part), notes)
        while block := _read(target, answer, received, total):
            file.write(block)
            received += len(block)
            if total is not None and received > total:
                raise CorruptFileError(target.failure(f"more than {total} bytes", f"{total} bytes"))
            if received > target.limit:
                raise CorruptFileError(target.failure("an answer without an end", _at_most(target.limit)))
            shown.show(received)
        file.flush()
        os.fsync(file.fileno())
    if _is_html(part):
        raise CorruptFileError(target.failure("a web page"))
    if not received:
        raise CorruptFileError(target.failure("an empty answer"))
    if total is not None and received < total:
        raise WriteError(_broken_off(target, f"{received} bytes", total))


def _check_size(target: Target, folder: Path, received: int, total: int | None) -> None:
    """Checks before a byte is stored that a file of the size that the server tells is allowed, and has space."""
    if total is None:
        return
    if total > target.limit:
        raise CorruptFileError(target.failure(f"{total} bytes", _at_most(target.limit)))
    free = shutil.disk_usage(folder).free
    if total - received > free:
        then = "Free some space on its disk. "
        raise WriteError(target.failure(f"{total} bytes, of which {received} are there", f"at most {free} more", then))


def _at_most(limit: int) -> str:
    return f"{limit} bytes at most"


def _read(target: Target, answer: Any, received: int, total: int | None) -> bytes:
    try:
        return answer.read1(_BLOCK)  # what has arrived: a larger read would lose it if the server stalls
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise WriteError(_broken_off(target, f"{received} bytes, then {_words(error)}", total)) from error


def _broken_off(target: Target, got: str, total: int | None) -> str:
    expected = "the whole file" if total is None else f"{total} bytes"
    return target.broken_off(got, expected)


def _check(target: Target, part: Path) -> None:
    found, _ = digest_of(part, target.digest)
    if not found.startswith(target.digest):
        then = "It was deleted; try again, and report it if this persists. "
        raise CorruptFileError(target.failure(hash_words(found), then=then))


def _validator(headers: Message) -> str:
    """Returns the ETag or modification date of the file, or "". A weak ETag does not guarantee equal bytes."""
    tag = str(headers.get("ETag", ""))
    found = tag if tag and not tag.startswith("W/") else str(headers.get("Last-Modified", ""))
    # it is sent back as a header
    return found if len(found) <= _LONGEST_VALIDATOR and found.isascii() and found.isprintable() else ""


def _notes_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_notes(part: Path) -> _Notes | None:
    try:
        notes = read_json(_notes_path(part))
        return _Notes(url=notes["url"], validator=notes["validator"], total=notes["total"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _is_html(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_HTML_STARTS)


def _words(error: object) -> str:
    if isinstance(error, TimeoutError) and not isinstance(error, TooSlowError):
        return f"nothing received for {READ_TIMEOUT:g} s"
    return one_line(str(error) or repr(error))


# -------------------------------------------------------------------------------------------------------------- files


def _record(path: Path, url: str, digest: str) -> None:
    """Writes the row of a file into the manifest, unless it is there already."""
    row = read_manifest(path.parent).get(path.name)
    if row is not None and row["sha256"] == digest:
        return
    manifest = path.with_name(_MANIFEST)
    with locked(manifest, give_up_after=2 * READ_TIMEOUT):
        rows = read_manifest(path.parent)  # includes the rows that other processes have written since
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        rows[path.name] = ManifestRow(url=url, sha256=digest, bytes=path.stat().st_size, first_used=today)
        write_json(manifest, rows, sort_keys=True)


@contextlib.contextmanager
def _turn(target: Target, progress: bool) -> Iterator[Path]:
    """Waits until no other process downloads the file, and yields the path to write to."""
    part = target.path.with_name(target.path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"another process is downloading {target.url}; waiting for it" if progress else ""
    with locked(part, waiting, 2 * READ_TIMEOUT) as held:
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
def _disk_errors(target: Target) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        got = str(error.strerror or error)
        then = "Check the folder's permissions and free space. "
        raise WriteError(target.failure(got, "a file that can be written and read", then)) from error
