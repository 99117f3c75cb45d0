"""URLs as requests need them."""

import re
from urllib.parse import quote, urlsplit, urlunsplit

from seg_core.errors import InvalidArgumentError

__all__ = ["quoted_url"]

_SAFE = "%/:@!$&'()*+,;=~[]"  # may stand in a path as they are
_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")  # not the start of a quoted byte


def quoted_url(url: str) -> str:
    """Returns a URL as a request needs it: without letters outside of ASCII, spaces and fragment.

    What is quoted already stays.

    Raises:
        InvalidArgumentError: if it is no URL.
    """
    try:
        parts = urlsplit(url.strip())
        if parts.scheme in ("http", "https") and not parts.hostname:
            raise ValueError("it has no host")
        _ = parts.port  # raises if it is no number
        place = parts.netloc
        if not place.isascii():
            host, colon, port = place.partition(":")
            place = host.encode("idna").decode() + colon + port
    except ValueError as error:  # UnicodeError is one
        raise InvalidArgumentError(f"{url!r} is not a URL: {error}; correct it") from error
    path = quote(_PERCENT.sub("%25", parts.path), safe=_SAFE)
    query = quote(_PERCENT.sub("%25", parts.query), safe=_SAFE + "?")
    return urlunsplit((parts.scheme, place, path, query, ""))
