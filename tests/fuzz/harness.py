"""What a harness is, and what can come of an input."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

__all__ = ["BAD", "NAMES", "Difference", "Harness", "Refused", "bytes_of", "corpus_of", "load", "make_input"]

NAMES = ("images", "model_files", "configs", "command_lines", "archives", "functions")
"""The harnesses: the modules beside this one that have a `HARNESS`."""

BAD = ("foreign", "difference", "hang", "memory", "died")
"""The outcomes that are findings; the others are `right` and `refused`."""


class Difference(AssertionError):
    """Two ways that must give the same result do not: a silent error."""


class Refused(Exception):
    """The input was refused in the right way, which is no exception: a command that ends with an exit code."""


@dataclass(frozen=True)
class Harness:
    """One kind of input.

    Attributes:
        make: makes an input from a generator of random numbers.
        attempt: tries an input in an empty folder, and raises a `UserError` or `Refused` if it is refused, and
            `Difference` for a silent error; any other exception is a finding.
        suffix: of the files of its inputs.
        generated: inputs that once failed and are too large for a file, by name.
    """

    make: Callable[[random.Random], bytes]
    attempt: Callable[[bytes, Path], None]
    suffix: str
    generated: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)


def load(name: str) -> Harness:
    """Returns a harness; what it tries is imported by now."""
    found: Harness = import_module(f"tests.fuzz.{name}").HARNESS
    return found


def make_input(name: str, harness: Harness, seed: int) -> bytes:
    """Returns the input of a seed, always the same one."""
    return harness.make(random.Random(f"{name} {seed}"))


def bytes_of(name: str, harness: Harness, what: int | str) -> bytes:
    """Returns the input of a seed, or that of a name in the corpus."""
    return make_input(name, harness, what) if isinstance(what, int) else corpus_of(name, harness)[what]()


def corpus_of(name: str, harness: Harness) -> dict[str, Callable[[], bytes]]:
    """Returns the small inputs that once failed, by name."""
    folder = Path(__file__).parent / "corpus" / name
    files = {file.name: file.read_bytes for file in sorted(folder.glob("*"))}
    return {**files, **harness.generated}
