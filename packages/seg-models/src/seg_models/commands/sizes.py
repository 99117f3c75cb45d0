"""Sizes on the command line, as `512x1024` or `512`. Imports no torch."""

import re

from seg_core.errors import UsageError

__all__ = ["parse_size"]

_SIZE = re.compile(r"([1-9]\d*)(?:x([1-9]\d*))?", re.IGNORECASE)


def parse_size(option: str, text: str | None) -> tuple[int, int] | None:
    """Returns (height, width) in pixels, or None if the option is not given.

    Args:
        option: the option, for the message, such as `"--size"`.
        text: its value: height x width, or one number for both.

    Raises:
        UsageError: if it is no such text.
    """
    if text is None:
        return None
    found = _SIZE.fullmatch(text)
    if found is None:
        raise UsageError(f"{option} {text} must be pixels, such as 512, or height x width, such as 512x1024")
    return int(found[1]), int(found[2] or found[1])
