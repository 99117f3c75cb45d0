"""Names of more files for fake datasets, in the form of the official ones."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from seg_core.errors import InvalidArgumentError
from seg_datasets.reading.layout import Layout

__all__ = ["keys_of_splits"]

_DIGITS = re.compile(r"([0-9]{3,})$")
_MOST_VARIED = 6  # digits at the end of a name that are varied


def keys_of_splits(layout: Layout, images_per_split: int | None) -> Mapping[str, Sequence[str]]:
    """Returns split -> keys of its files: the examples of the layout, and invented ones up to the wanted number.

    A split that joins others, as VOC's trainval joins train and val, has the files of these. Numbers in invented names
    are random, so that neighbors in a split are no frames of one sequence.

    Args:
        layout: has examples.
        images_per_split: number of files of each split; None for the examples alone.

    Raises:
        InvalidArgumentError: if a split has a fixed set of files of another number, or there are not as many names.
    """
    examples = {split: layout.examples[split] for split in layout.splits if split in layout.examples}
    if images_per_split is None:
        return examples
    used = {key for keys in examples.values() for key in keys}
    rng = np.random.default_rng(2)
    found: dict[str, Sequence[str]] = {}
    for split, keys in sorted(examples.items(), key=lambda item: bool(_joined(examples, item[0]))):
        files = layout.splits[split]
        if files.keys and len(keys) != images_per_split:
            raise InvalidArgumentError(
                f"images_per_split must be left out (no --images) for {layout.dataset}, got {images_per_split}: its "
                f"{split} is always a fixed set of {len(keys)} images"
            )
        if files.keys:
            found[split] = keys
        elif joined := _joined(examples, split):
            of_others = {key for other in joined for key in examples[other]}
            own = [key for key in keys if key not in of_others]
            found[split] = (*dict.fromkeys(key for other in joined for key in found[other]), *own)
        else:
            most = _most_names(keys[-1]) // (2 * len(examples))
            if images_per_split > most:
                raise InvalidArgumentError(
                    f"images_per_split must be at most {most} for {layout.dataset}, with names like {keys[-1]!r}, got "
                    f"{images_per_split}"
                )
            more = _invented(keys[-1], images_per_split - len(keys), used, rng)
            found[split] = (*keys, *more)[:images_per_split]
    return {split: found[split] for split in examples}


def _joined(examples: Mapping[str, Sequence[str]], split: str) -> list[str]:
    """Returns the splits whose files are all in another split, beside others."""
    own = set(examples[split])
    return [other for other, keys in examples.items() if set(keys) < own]


def _varied_digits(example: str) -> int:
    """Returns how many digits at the end of a name are varied, 0 for a name that is varied as a whole."""
    digits = _DIGITS.search(example)
    return min(len(digits[1]), _MOST_VARIED) if digits else 0


def _most_names(example: str) -> int:
    return 10 ** (_varied_digits(example) or _MOST_VARIED)


def _invented(example: str, count: int, used: set[str], rng: np.random.Generator) -> list[str]:
    varied = _varied_digits(example)
    found: list[str] = []
    while len(found) < count:
        if varied:
            key = f"{example[:-varied]}{rng.integers(0, 10**varied):0{varied}}"
        else:
            folder, slash, name = example.rpartition("/")
            key = folder + slash + "".join(_like(letter, rng) for letter in name)
        if key not in used:
            used.add(key)
            found.append(key)
    return found


def _like(letter: str, rng: np.random.Generator) -> str:
    """Returns a random character of the same sort; lower-case letters up to f, as in hexadecimal numbers."""
    for sort in ("0123456789", "abcdef", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "ghijklmnopqrstuvwxyz"):
        if letter in sort:
            return sort[rng.integers(0, len(sort))]
    return letter
