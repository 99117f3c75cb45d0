"""Finds the words that this project does not use, and says what to write in their place.

It reads packages/, docs/, examples/, benchmarks/, README.md, CONTRIBUTING.md and SECURITY.md: prose, comments, messages
and names.
It exits with 1 when it finds any.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("packages", "docs", "examples", "benchmarks", "README.md", "CONTRIBUTING.md", "SECURITY.md")
SUFFIXES = {".ipynb", ".json", ".md", ".py", ".pyi", ".toml"}

# expression over the lower-case text with names taken apart (`initialised_anew`, `LabelMap`) -> what to write instead.
# A space matches any white space, a line break before a comment's next line too.
WORDS = {
    r"pictures?": "image",
    r"data sets?": "dataset",
    r"dialects?": "checkpoint format, key rules",
    r"anew": "again, from the start, newly; of tensors: randomly initialized",
    r"whole numbers?": "integer",
    r"greatest": "largest, maximum, at most",
    # the word is for repairs ("fix this, then resume"), see FINE; the adjective ("a fixed size") is not counted
    r"fix|fixes|fixing": "set, determine",
    r"colou?rise\w*|colour\w*": "color",
    r"licence\w*": "license",
    r"grey\w*": "gray",
    r"schedules?": "scheduler",
    r"what becomes of": "what happens to, how ... is treated",
    r"changes? of place": "affine transform, homography",
    r"memory is short": "out of memory",
    r"address(?:es)?": "URL",
    r"\w*(?:label|model|cancel|travel)l(?:ed|ing)": "one l: labeled, canceled",
    r"\w*(?:neighb|behavi|fav|harb|hon|fl[ai]v)our\w*": "-or: neighbor, behavior",
    r"centres?|metres?": "center, meter",
    r"analys(?:e|ed|es|er|ing)": "analyze",
    r"\w+is(?:e|ed|es|er|ers|ing|ation|ations|able)": "-ize: normalize, initialize, recognize",
}

# English words that the last expression finds, and that have no other spelling
WITH_S = re.compile(
    r"\w*wise|disabl\w+|(?:ad|re|impro|super|unsuper)vis\w+|(?:p|comp)romis\w+|(?:pre|con)cise|premis\w+|prais\w+"
    r"|a?ris\w+|rais\w+|nois\w+|surpris\w+|enterprises?|exercis\w+|expertise"
)

# where `fix` means to repair; the last ones are the key of the doctor's findings
FINE = ("fix this", "hatch run fix", "ruff check --fix", '"fix"', "fix=", ".fix", "fix: ")

# Path below the root -> names that are not ours to choose, each with its reason. What is not found there any more is
# reported, so that the list does not outlive its reasons.
ALLOWED = {
    "packages/seg-core/src/seg_core/model_files/reading.py": {
        "licence": "a key in model files of format 1 and 2",
    },
    "packages/seg-core/src/seg_core/registry.py": {
        "seg_core.schedules": "the former entry-point group, which an error names",
    },
    "packages/seg-models/src/seg_models/pretrained/class_names.py": {
        "harbour": "a class name in published checkpoints",
    },
    "packages/seg-train/src/seg_train/config/json_schema.py": {
        "schema_dialect": "pydantic's name",
    },
    "packages/seg-train/src/seg_train/config/migrate.py": {
        "lr_scheduler.params.schedules": "a key in configs of earlier versions",
    },
    "packages/seg-train/src/seg_train/optim/warmup.py": {
        'state["schedule"]': "a key in checkpoints of earlier versions",
        '"schedule" was': "the same",
    },
    "packages/seg-train/src/seg_train/run/checkpoint.py": {
        '"schedule"': "a key in checkpoints of earlier versions",
    },
}


class Finding(NamedTuple):
    """One place where a word is used: path below the root, line, what is there, and what to write."""

    path: str
    line: int
    found: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found!r}; write: {self.instead}"


def files() -> Iterator[Path]:
    for place in PLACES:
        path = ROOT / place
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.suffix in SUFFIXES and "__pycache__" not in file.parts:
                yield file


def find_words(text: str, path: str = "", allowed: tuple[str, ...] = ()) -> list[Finding]:
    """Returns the words of `text` that are not ours, in the order of the text."""
    for phrase in (*FINE, *allowed):
        text = text.replace(phrase, "")
    plain = _with_names_apart(text)
    found: dict[int, Finding] = {}  # by position, so that each place is one finding whichever expressions match it
    for expression, instead in _EXPRESSIONS:
        for match in expression.finditer(plain):
            if not WITH_S.fullmatch(match[0]) and match.start() not in found:
                line = plain.count("\n", 0, match.start()) + 1
                words = " ".join(match[0].replace("#", " ").split())
                found[match.start()] = Finding(path, line, words, instead)
    return [found[start] for start in sorted(found)]


def _with_names_apart(text: str) -> str:
    """Returns `text` in lower case, with `snake_case` and `camelCase` as words of their own; its lines stay."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ").lower()


_GAP = r"(?:[ \t]*\n[ \t]*(?:#|>)?[ \t]*|[ \t-]+)"
_EXPRESSIONS = [
    (re.compile(rf"(?<![a-z])(?:{expression.replace(' ', _GAP)})(?![a-z])"), instead)
    for expression, instead in WORDS.items()
]


def check() -> list[str]:
    """Returns a sentence for every finding, and for every allowance that nothing needs."""
    said = []
    for file in files():
        path = file.relative_to(ROOT).as_posix()
        text = file.read_text(encoding="utf-8")
        allowed = ALLOWED.get(path, {})
        said += [
            f"{path}: does not hold {name!r} any more; take it off ALLOWED" for name in allowed if name not in text
        ]
        said += map(str, find_words(text, path, tuple(allowed)))
    missing = [path for path in ALLOWED if not (ROOT / path).is_file()]
    return said + [f"{path}: is gone; remove it from ALLOWED" for path in missing]


def main() -> int:
    said = check()
    print(*said, f"{len(said)} findings" if said else "no word to change", sep="\n")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
