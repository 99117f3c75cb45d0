"""Which ids the masks of a dataset hold: the scan before a run, and the loop that people write for it."""

import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.case import Case, Contender, DisagreementError, Goal
from benchmarks.inputs import blocky_labels

__all__ = ["CASES"]

Counts = list[dict[int, int]]  # of each mask: id -> pixels


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Returns a folder that exists as long as the process, with the cache of the scans."""
    return tempfile.TemporaryDirectory()


def _make_masks(quick: bool) -> list[Path]:
    folder = Path(_folder().name)
    os.environ["SEG_CACHE"] = str(folder / "cache")
    paths = [folder / f"{number:05}.png" for number in range(100 if quick else 2000)]
    for number, path in enumerate(paths):
        ids = blocky_labels(128, 128, num_classes=12, ignored=0.05, seed=number).numpy()
        Image.fromarray(ids).save(path)
        os.utime(path, (10**9, 10**9))  # files of just now are not remembered
    return paths


def _scan(paths: list[Path], reader: str | None) -> Callable[[], Counts]:
    from seg_core import LabelMap
    from seg_core.files.images import read_mask
    from seg_core.files.scan import MaskFile, scan_masks

    label_map = LabelMap.identity(12, 255)
    files = [MaskFile(path, read_mask, reader, label_map) for path in paths]
    return lambda: [dict(summary.counts) for summary in scan_masks(files)]


def _remembered(paths: list[Path]) -> Callable[[], Counts]:
    work = _scan(paths, "ids")
    work()
    return work


def _loop(paths: list[Path]) -> Callable[[], Counts]:
    def work() -> Counts:
        found = []
        for path in paths:
            ids, numbers = np.unique(np.array(Image.open(path)), return_counts=True)
            found.append(dict(zip(ids.tolist(), numbers.tolist(), strict=True)))
        return found

    return work


def _check(answers: Mapping[str, Any]) -> str:
    (first, expected), *others = answers.items()
    for name, other in others:
        if other != expected:
            raise DisagreementError(f"{name!r} and {first!r} differ")
    return f"the counts of all {len(expected)} masks are equal"


CASES = (
    Case(
        name="small masks",
        work="ids and their pixels in 2000 masks of 128x128 (PNG)",
        make_inputs=_make_masks,
        contenders=(
            Contender("ours", lambda paths: _scan(paths, None), "ours", "seg-core"),
            Contender("ours, remembered", _remembered, "ours", "seg-core"),
            Contender("loop with np.unique", _loop, "peer", "numpy"),
        ),
        check=_check,
        goals=(
            Goal("ours", "loop with np.unique", speed=1.5),
            Goal("ours, remembered", "loop with np.unique", speed=10),
        ),
        rounds=7,
        memory=False,
    ),
)
