"""Requests for files: HTTP and HTTPS alone, with limits on what a server may send and how slowly.

Python's own opener also reads `file:`, `data:` and `ftp:`, follows redirects from HTTPS to HTTP, and waits for as long
as a server sends a byte now and then.
"""

import http.client
import io
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from seg_core.errors import InvalidArgumentError
from seg_core.files.urls import quoted_url

__all__ = ["LEAST_SPEED", "TooSlowError", "header_integer", "one_line", "open_url"]

LEAST_SPEED = 1024
"""Bytes that must arrive per second of waiting, on average over each span of the timeout."""

_MOST_AT_ONCE = 1 << 20  # bytes that a server may send without a byte of the file: headers, marks of chunks
_MOST_REDIRECTS = 5
_SHOWN = 200  # characters of a server's words
_NUMBER = re.compile("[0-9]{1,18}")


class TooSlowError(TimeoutError):
    """A server sends so slowly that the file would not arrive in reasonable time."""


class _RedirectError(URLError):
    """A redirect that is not followed."""


def open_url(url: str, headers: Mapping[str, str], timeout: float) -> Any:
    """Returns the answer to a GET request for a URL, as `urllib.request.urlopen` does.

    Args:
        url: an http or https URL.
        headers: of the request.
        timeout: seconds to wait for a server that sends nothing, or less than `LEAST_SPEED`.

    Raises:
        InvalidArgumentError: if it is no such URL.
        urllib.error.HTTPError: if the status is an error.
        OSError: if there is no answer, it comes too slowly, or it is a redirect that is not followed.
        http.client.HTTPException: if it is no HTTP.
        ValueError: if it is no HTTP in some other way.
    """
    opener = OpenerDirector()
    for handler in (
        ProxyHandler,
        UnknownHandler,
        _Http,
        _Https,
        HTTPDefaultErrorHandler,
        _Redirects,
        HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener.open(Request(quoted_url(url), headers=dict(headers)), timeout=timeout)


def one_line(text: object) -> str:
    r"""Returns words of a server as one line without characters that a terminal acts on.

    >>> one_line("Not\x1b[31m\r\nFound")
    'Not\\x1b[31m Found'
    """
    words = " ".join(str(text).split())
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in words)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def header_integer(text: str | None) -> int | None:
    """Returns the number in a header, or None if there is none.

    >>> header_integer("120"), header_integer("-1"), header_integer("9" * 5000), header_integer(None)
    (120, None, None, None)
    """
    found = _NUMBER.fullmatch(text.strip()) if text is not None else None
    return int(found[0]) if found else None


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to http and https, but not from https to http, which anybody on the way can read and change."""

    max_redirections = _MOST_REDIRECTS

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        new = urlsplit(newurl).scheme.lower()
        if new not in ("http", "https") or (urlsplit(req.full_url).scheme == "https" and new == "http"):
            raise _RedirectError(f"a redirect to {one_line(newurl)}, which is not followed")
        try:
            quoted_url(newurl)
        except InvalidArgumentError as error:
            raise _RedirectError(f"a redirect to what is no URL: {one_line(error)}") from error
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Request, fp: Any, code: int, msg: str, headers: Any) -> Any:
        # before Python's handler, which lets some schemes through and words the others in its own way
        place = headers.get("location") or headers.get("uri") or ""
        scheme = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*):", place)
        if scheme is not None and scheme[1].lower() not in ("http", "https"):
            fp.close()
            raise _RedirectError(f"a redirect to {one_line(place)}, which is not followed")
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except BaseException:
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _Pace(io.RawIOBase):
    """Bytes of a connection, which must come at a pace, and of which no more than a budget may come at once."""

    def __init__(self, raw: Any, timeout: float | None) -> None:
        self._raw, self._timeout = raw, timeout
        self._waited, self._arrived = 0.0, 0
        self.budget = _MOST_AT_ONCE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        start = time.monotonic()
        count: int | None = self._raw.readinto(buffer)
        # only what is spent here: a slow disk is not the server's fault
        self._waited += time.monotonic() - start
        self._arrived += count or 0
        self.budget -= count or 0
        if self.budget < 0:
            raise http.client.HTTPException(f"more than {_MOST_AT_ONCE} bytes that are no part of a file")
        if self._timeout is not None and count and self._waited > self._timeout:
            if self._arrived < LEAST_SPEED * self._waited:
                raise TooSlowError(f"{self._arrived} bytes in {self._waited:.0f} s, which is too slow")
            self._waited, self._arrived = 0.0, 0
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._pace = _Pace(self.fp.detach(), sock.gettimeout())
        self.fp = io.BufferedReader(self._pace)

    def begin(self) -> None:
        self._pace.budget = _MOST_AT_ONCE
        super().begin()

    def read(self, amt: int | None = None) -> bytes:
        # of a redirect Python reads everything, however large its length says it is; the connection is closed then
        self._pace.budget = 2 * _MOST_AT_ONCE
        return super().read(_MOST_AT_ONCE if amt is None else amt)

    def read1(self, n: int = -1) -> bytes:
        self._pace.budget = _MOST_AT_ONCE
        return super().read1(n)


class _Connection(http.client.HTTPConnection):
    response_class = _Response


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Response


class _Http(HTTPHandler):
    def http_open(self, req: Request) -> Any:
        return self.do_open(_Connection, req)


class _Https(HTTPSHandler):
    def https_open(self, req: Request) -> Any:
        return self.do_open(_SecureConnection, req)
