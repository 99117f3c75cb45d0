"""The code blocks of a page: what language, whether they run, and what they write.

A page is Markdown. A reader runs its blocks from top to bottom, in one folder, and so do the tests:

- ```` ```python ```` runs; all Python blocks of a page share their names.
- ```` ```sh ```` runs, with bash, which ends at the first error.
- ```` ```toml title="run.toml" ```` (any language with a title) is written to that file, for the blocks below it.
- ```` ```toml ```` without a title is part of a config or of another file: its keys are looked up.
- ```` ```text ```` and ```` ```json ```` are what a command prints.
- `<!-- not run: reason -->` on the line before a block: it needs a download, a GPU, hours or what only the reader has.
"""

import re
import textwrap
from dataclasses import dataclass

LANGUAGES = ("json", "python", "sh", "text", "toml", "html")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)(?: +title=\"(?P<title>[^\"]+)\")?(?P<rest>.*)$")
_NOT_RUN = re.compile(r"^ *<!-- not run: (?P<why>.+) -->$")


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Attributes:
        language: as after the fence.
        code: without the fence and its indentation.
        line: number of its first line of code, from 1.
        title: name of the file that it is, or None.
        not_run: why it is not run, or None.
    """

    language: str
    code: str
    line: int
    title: str | None = None
    not_run: str | None = None

    @property
    def runs(self):
        return self.language in ("python", "sh") and self.title is None and self.not_run is None


def find_blocks(text):
    """All blocks of a page, in their order; a fence that is not understood or not closed is an error."""
    lines = text.split("\n")
    found, number = [], 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            number += 1
            continue
        if fence["rest"].strip():
            raise ValueError(f"line {number + 1}: {lines[number]!r}: only a language and a title are understood")
        end = next((n for n in range(number + 1, len(lines)) if lines[n] == fence["indent"] + "```"), None)
        if end is None:
            raise ValueError(f"line {number + 1}: the block is not closed")
        marked = _NOT_RUN.match(lines[number - 1]) if number else None
        code = textwrap.dedent("\n".join(lines[number + 1 : end])) + "\n"
        found.append(Block(fence["language"], code, number + 2, fence["title"], marked and marked["why"]))
        number = end + 1
    return found


def without_blocks(text):
    """The page's lines outside of blocks, with empty lines in their place."""
    kept, inside = [], False
    for line in text.split("\n"):
        if _FENCE.match(line):
            inside = not inside
            kept.append("")
        else:
            kept.append("" if inside else line)
    return kept
