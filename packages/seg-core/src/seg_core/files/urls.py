"""URLs as requests need them."""

import re
from urllib.parse import quote, urlsplit, urlunsplit

from seg_core.errors import InvalidArgumentError

__all__ = ["quoted_url"]

_SAFE = "%/:@!$&'()*+,;=~[]"  # may stand in a path as they are
_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")  # not the start of a quoted byte
_MOST = 8000  # characters, which servers take
_LABEL = 63  # characters of a part of a host's name
_HOST = 253


def quoted_url(url: str) -> str:
    """Returns an http or https URL as a request needs it: without letters outside of ASCII, spaces and fragment.

    What is quoted already stays.

    Raises:
        InvalidArgumentError: if it is no URL, or one of another kind, such as `file:` or `data:`.
    """
    shown = ascii(url) if len(url) <= 200 else f"{url[:200]!a}..."
    try:
        url = url.strip()
        if len(url) > _MOST:
            raise ValueError(f"it has {len(url)} characters, at most {_MOST} are allowed")
        if any(letter < " " or "\x7f" <= letter < "\xa0" or "\ud800" <= letter <= "\udfff" for letter in url):
            raise ValueError("it holds control characters or halves of character pairs")
        parts = urlsplit(url)
        if not parts.scheme:
            raise ValueError("it has no scheme, such as https:")
        if parts.scheme not in ("http", "https"):
            raise InvalidArgumentError(
                f"{shown} cannot be fetched: only http and https URLs are, not {parts.scheme[:20]}:; get the file in "
                "another way, and give its path"
            )
        if not parts.hostname:
            raise ValueError("it has no host")
        _ = parts.port  # raises if it is no number
        place = parts.netloc
        if not place.isascii():
            host, colon, port = place.partition(":")
            place = host.encode("idna").decode() + colon + port
        _check_host(place)
        path = quote(_PERCENT.sub("%25", parts.path), safe=_SAFE)
        query = quote(_PERCENT.sub("%25", parts.query), safe=_SAFE + "?")
    except InvalidArgumentError:
        raise
    except ValueError as error:  # UnicodeError is one
        raise InvalidArgumentError(f"{shown} is not a URL: {error}; correct it") from error
    return urlunsplit((parts.scheme, place, path, query, ""))


def _check_host(place: str) -> None:
    """Raises ValueError if no host has such a name, which the resolver would tell in its own way."""
    if re.search(r"[\s<>\"\\^`{|}]", place):
        raise ValueError("its host holds characters that no name has")
    host = urlsplit(f"//{place}").hostname or ""
    if ":" in host:  # IPv6, which urlsplit has checked
        return
    labels = host.rstrip(".").split(".")
    if len(host) > _HOST or not all(0 < len(label) <= _LABEL for label in labels):
        raise ValueError(f"the parts of its host must have 1 to {_LABEL} characters, and all {_HOST} at most")
