"""Values of the command line of `seg predict`, parsed and checked. Imports no torch."""

import argparse
import re
from typing import Any

from seg_core.checks import is_integer
from seg_core.errors import UsageError

__all__ = ["parse_options"]

_TILE = re.compile(r"([1-9]\d*)(?:x([1-9]\d*))?")
_FLIPS = ("hflip", "vflip", "turns")


def parse_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns keyword arguments of `Predictor` from the command line.

    Raises:
        UsageError: if a value is wrong.
    """
    if arguments.scale is not None and not arguments.scale > 0:
        raise UsageError(f"--scale {arguments.scale} must be a factor above 0, such as 0.5")
    if not 0 <= arguments.overlap < 1:
        raise UsageError(f"--overlap {arguments.overlap} must be a fraction from 0 to below 1, such as 0.5")
    if arguments.threshold is not None and not 0 <= arguments.threshold <= 1:
        raise UsageError(f"--threshold {arguments.threshold} must be a probability from 0 to 1, such as 0.5")
    for option, value in (
        ("--batch-size", arguments.batch_size),
        ("--min-region", arguments.min_region),
        ("--max-pixels", arguments.max_pixels),
    ):
        if value is not None and not is_integer(value, 1):
            raise UsageError(f"{option} {value} must be an integer >= 1")
    options = {
        "tile": _parse_tile(arguments.tile),
        "overlap": arguments.overlap,
        "tta": _parse_tta(arguments.tta),
        "batch_size": arguments.batch_size,
        "dtype": arguments.dtype,
        "threshold": arguments.threshold,
        "min_region": arguments.min_region,
    }
    if arguments.max_pixels is not None:
        options["max_pixels"] = arguments.max_pixels
    return options


def _parse_tile(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = _TILE.fullmatch(text)
    if not found:
        raise UsageError(f"--tile {text} must be pixels, such as 512, or height x width, such as 512x1024")
    return int(found[1]), int(found[2] or found[1])


def _parse_tta(text: str | None) -> dict[str, Any] | bool:
    """Returns the arguments of `predict_tta` for the value of `--tta`, which is "" for the defaults."""
    if not text:
        return text is not None
    scales, flips = [], set()
    for word in text.split(","):
        if word in _FLIPS:
            flips.add(word)
            continue
        try:
            scales.append(float(word))
        except ValueError:
            raise UsageError(
                f"--tta {text}: {word!r} is neither a scale nor one of {', '.join(_FLIPS)}; write "
                "--tta 0.75,1,1.25,hflip, or --tta alone as the last option: what follows it is taken as its list"
            ) from None
    return {
        "scales": tuple(scales or (1.0,)),
        "hflip": "hflip" in flips,
        "vflip": "vflip" in flips,
        "quarter_turns": "turns" in flips,
    }
