"""Advice on command lines of `seg predict` that cannot be parsed: options of other tools, or in a wrong place."""

import itertools
import re
from collections.abc import Sequence

__all__ = ["advise"]

_IMAGES = "write the images without an option: seg predict IMAGES --model FILE"
_OTHER_TOOLS = {
    "source": _IMAGES,
    "input": _IMAGES,
    "images": _IMAGES,
    "i": _IMAGES,
    "model": "write --model FILE",
    "m": "write --model FILE",
    "output": "write --out DIR",
    "o": "write --out DIR",
    "project": "write --out DIR",
    "save-dir": "write --out DIR",
    "half": "write --dtype fp16 (on a GPU), or --dtype auto",
    "amp": "write --dtype auto",
    "save-json": "write --json FILE behind the images",
    "imgsz": "write --scale F, a factor; images are otherwise resized as in validation",
    "img-size": "write --scale F, a factor; images are otherwise resized as in validation",
    "conf": "write --threshold P",
    "save": "leave it out: label maps are always written, overlays with --overlay",
    "augment": "write --tta as the last option",
    "batch": "write --batch-size N",
    "name": "write --out DIR",
}
"""Options of other tools, without their dashes -> what to write here."""

_WITH_OPTIONAL_VALUE = {"--json": "FILE", "--csv": "FILE", "--tta": "LIST"}
_WORD = re.compile(r"(--?)?([A-Za-z][\w-]*)(=.*)?", re.DOTALL)


def advise(words: Sequence[str], problem: str) -> list[str]:
    """Returns what to do about a command line that cannot be parsed, a clause for each cause that is found.

    Args:
        words: the command line behind `seg predict`.
        problem: message of argparse.
    """
    found = []
    if "IMAGES" in problem:
        for option, following in itertools.pairwise(words):
            if option in _WITH_OPTIONAL_VALUE and not following.startswith("-"):
                kind = _WITH_OPTIONAL_VALUE[option]
                found.append(
                    f"{option} took {following!r} as its {kind}; write {option} behind the images, or {option}={kind}"
                )
    for word in words:
        match = _WORD.fullmatch(word)
        if match is None or not (match[1] or match[3]) or (match[1] == "--" and match[2] == "model"):
            continue  # a value or a path, or our own option
        name = match[2].lower().replace("_", "-")
        if name in _OTHER_TOOLS:
            found.append(f"for {word.split('=')[0]}{'=' if not match[1] else ''}, {_OTHER_TOOLS[name]}")
    return found
