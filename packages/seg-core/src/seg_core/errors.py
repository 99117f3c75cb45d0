"""The errors a user can cause.

Each is also the builtin exception that a user of PyTorch expects, so `except ValueError` keeps working. The `seg`
command shows a `UserError` as one sentence without a traceback; any other exception is a bug and keeps its traceback.
Every message names the argument, the value seen, what is allowed and what to do.
"""

import contextlib
import difflib
import os
import re
from collections.abc import Iterable, Iterator

__all__ = [
    "ConfigError",
    "CorruptFileError",
    "DatasetNotFoundError",
    "DisagreementError",
    "ImageNotFoundError",
    "ImageTooLargeError",
    "InvalidArgumentError",
    "InvalidTypeError",
    "LabelOutOfRangeError",
    "MissingDependencyError",
    "MissingModelFileError",
    "NonFiniteLogitsError",
    "NotEnoughMemoryError",
    "UnknownNameError",
    "UsageError",
    "UserError",
    "WriteError",
    "WrongTargetError",
    "counted",
    "id_ranges",
    "is_out_of_memory",
    "list_ids",
    "nearest",
    "reading_file",
    "visible",
    "visible_lines",
]


# messages of the allocators of torch and numpy
_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|Unable to allocate|Cannot allocate memory", re.IGNORECASE
)


# control characters, marks that change the direction of what follows, and halves of characters: file names of Linux
# may hold any, bytes that are not UTF-8 as U+DC80 to U+DCFF
_HIDDEN = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffe\uffff\ud800-\udfff]"
)

_LONGEST_REASON = 300  # characters


def visible(text: str) -> str:
    r"""Returns a text in one line with readable control characters: `\x1b`, `\u202e`; a byte of no UTF-8 as `\xff`.

    >>> print(visible("a\x1bb"))
    a\x1bb
    """
    return _HIDDEN.sub(lambda match: _code(ord(match[0])), text)


def visible_lines(text: str) -> str:
    r"""Returns a text as `visible` does, but with its line ends: for messages of several lines.

    >>> print(visible_lines("a\x1b\nb"))
    a\x1b
    b
    """
    return "\n".join(map(visible, text.split("\n")))


def _code(number: int) -> str:
    if 0xDC80 <= number <= 0xDCFF:
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


class UserError(Exception):
    """Base of all errors that a user can cause and correct.

    Attributes:
        exit_code: of a command that ends with this error: 2 if the user asked for something that does not exist or is
            not allowed, 1 if what exists is damaged, does not fit, or cannot be written.

    Its text shows control characters of names from outside as `visible_lines` does, wherever it is printed.
    """

    exit_code = 1

    # also, FileNotFoundError would format two arguments as "[Errno ...]"; ours has one message
    def __str__(self) -> str:
        text = str(self.args[0]) if self.args else ""
        return "\t".join(map(visible_lines, text.split("\t")))


class UsageError(UserError, ValueError):
    """The command line asks for something that does not exist; nothing was started."""

    exit_code = 2


class ConfigError(UsageError):
    """A config is wrong; nothing was built."""


class UnknownNameError(UsageError):
    """A registry, a label set list or an enum does not know a name."""


class InvalidArgumentError(UserError, ValueError):
    """An argument has a value outside of what is allowed."""

    exit_code = 2


class InvalidTypeError(InvalidArgumentError, TypeError):
    """An argument has a type that is not allowed."""


class NonFiniteLogitsError(InvalidArgumentError):
    """A network returned NaN or infinity for an image.

    Attributes:
        index: position of the image in the batch.
    """

    exit_code = 1

    def __init__(self, message: str, index: int = 0) -> None:
        super().__init__(message)
        self.index = index


class LabelOutOfRangeError(InvalidArgumentError):
    """A mask or a prediction contains an id that is neither a class nor the ignored value."""

    exit_code = 1  # found in files


class DatasetNotFoundError(UserError, FileNotFoundError):
    """A dataset is not where it was expected, or a part of it is missing."""

    exit_code = 2


class CorruptFileError(UserError, ValueError):
    """A file exists but cannot be read as what it should be."""


class ImageTooLargeError(CorruptFileError):
    """An image or a mask has more pixels than the limit allows; it was not decoded."""


class ImageNotFoundError(UserError, FileNotFoundError):
    """An image or a mask does not exist."""


class WriteError(UserError, OSError):
    """A result could not be written."""


class WrongTargetError(WriteError):
    """A result cannot be written where the user asked: a file or a folder is in the way."""

    exit_code = 2


class MissingModelFileError(UserError, FileNotFoundError):
    """A model file does not exist."""

    exit_code = 2


class MissingDependencyError(UserError, ImportError):
    """An optional package is needed and not installed."""


class DisagreementError(UserError):
    """An exported file does not compute what its network computes."""


class NotEnoughMemoryError(UserError):
    """The device or the machine is out of memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error of Python or torch means out of memory."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


@contextlib.contextmanager
def reading_file(path: str | os.PathLike[str], advice: str = "write or copy it again") -> Iterator[None]:
    """Turns any error of reading a file, or of what is made of its content, into one that names the file.

    A damaged file can raise anything in a reader. The error of the reader stays as the cause.

    Args:
        path: the file.
        advice: what to do.

    Raises:
        CorruptFileError: instead of any other error than a `UserError` or a warning.
        NotEnoughMemoryError: if the machine is out of memory.
    """
    try:
        yield
    except (UserError, Warning):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise NotEnoughMemoryError(
                f"there is not enough memory to read {os.fspath(path)}; close other programs, or use a larger machine"
            ) from error
        reason = next(iter(str(error).strip().splitlines()), "")[:_LONGEST_REASON]
        raise CorruptFileError(
            f"{os.fspath(path)} is damaged, or not such a file ({type(error).__name__}: {reason}); {advice}"
        ) from error


def id_ranges(ids: Iterable[int], limit: int | None = None) -> str:
    """Returns ids as ranges: `0-10, 255`; of more than `limit` ranges the first and the number of other ids."""
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    if limit is None or len(runs) <= limit:
        return ", ".join(texts)
    others = sum(last - first + 1 for first, last in runs[limit:])
    return f"{', '.join(texts[:limit])} and {others} more"


def counted(count: int, one: str, several: str | None = None) -> str:
    """Returns a number with its noun: `1 mask`, `2 masks`, `2 classes` for `several="classes"`."""
    return f"{count} {one if count == 1 else several or one + 's'}"


def list_ids(ids: Iterable[int | str], counts: Iterable[int], limit: int = 5) -> str:
    """Returns ids with their numbers of pixels: `7 (1 pixel), 9 (20 pixels) and 3 more ids`."""
    texts = [f"{i} ({n} pixel{'' if n == 1 else 's'})" for i, n in zip(ids, counts, strict=True)]
    more = f" and {len(texts) - limit} more ids" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def nearest(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Returns " Did you mean 'a' or 'b'?" for the known names closest to `name`, or "" if none is close.

    The comparison ignores upper and lower case.
    """
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=limit, cutoff=0.6)
    if not close:
        return ""
    return " Did you mean " + " or ".join(repr(by_lower[c]) for c in close) + "?"
