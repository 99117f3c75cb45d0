"""Reading of files of strangers, whose headers may declare more bytes than there are."""

import io
from collections.abc import Iterable
from typing import IO, Any, cast

__all__ = ["bounded"]

_PIECE = 1 << 20  # bytes


class _Bounded:
    """A file object whose `read` takes no more memory than about twice what is left in the file.

    Python's own allocates what is asked for before it reads, and Pillow asks for what a header declares: up to 4 GB.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __iter__(self) -> Iterable[bytes]:
        return iter(self._file)

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size <= _PIECE:
            return self._file.read(-1 if size is None else size)
        parts = []
        while size > 0 and (part := self._file.read(min(size, _PIECE))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def bounded(file: IO[bytes]) -> IO[bytes]:
    """Returns a file object for reading, which never allocates what a file only declares to hold."""
    if isinstance(file, io.BytesIO | _Bounded):  # a BytesIO copies what is left
        return cast("IO[bytes]", file)
    return cast("IO[bytes]", _Bounded(file))
