"""What is downloaded, where to, and the sentences about what went wrong."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from seg_core.files.requests import one_line

__all__ = ["MAX_FILE", "OneUse", "Target"]

MAX_FILE = 1 << 36
"""Bytes of a file that is fetched, 64 GiB: three times the largest public archive of the catalog."""


@dataclass(frozen=True)
class Target:
    """A file to download.

    Attributes:
        url: URL of the file.
        path: where it is stored.
        digest: first digits of its sha256, or `md5:` and its md5, or "".
        expected: description of that hash, for messages.
        argument: as for `fetch`.
        limit: the most bytes that it may have.
    """

    url: str
    path: Path
    digest: str
    expected: str
    argument: str
    limit: int = MAX_FILE

    must_be_sized: ClassVar[bool] = True
    """Whether an answer without a length is an error: nothing tells whether it is complete."""

    @property
    def or_another(self) -> str:
        """What else the user can do, as the end of a sentence."""
        return f", or give another path as {self.argument}" if self.argument else ""

    def failure(self, got: str, expected: str | None = None, then: str = "") -> str:
        """Returns the message of a failure: what was expected, what was received, and what the user can do."""
        return (
            f"cannot fetch {one_line(self.url)}: expected {expected or self.expected}, got {got}. {then}The file "
            f"belongs at {self.path}: download it by hand to that path{self.or_another}"
        )

    def broken_off(self, got: str, expected: str) -> str:
        """Returns the message of a failure in the middle of the file."""
        kept = "Try again: the partial file is kept, and resumed if the server supports it. "
        return self.failure(got, expected, kept)


@dataclass(frozen=True)
class OneUse(Target):
    """A file that is downloaded for one use; its decoder notices if it is incomplete."""

    must_be_sized: ClassVar[bool] = False

    def failure(self, got: str, expected: str | None = None, then: str = "") -> str:
        """Returns the message of a failure: what was received, and what the user can do."""
        wanted = f", instead of {expected}" if expected and expected[0].isdigit() else ""
        return (
            f"the {self.argument} {one_line(self.url)} cannot be downloaded: got {got}{wanted}. {then}Check the URL in "
            f"a browser, or download the {self.argument} there and pass its path"
        )

    def broken_off(self, got: str, expected: str) -> str:
        """Returns the message of a failure in the middle of the file, of which nothing is kept."""
        return self.failure(got, expected, "Try again. ")
