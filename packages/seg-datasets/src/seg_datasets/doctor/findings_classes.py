"""Findings about masks with a file per class: which files are missing."""

import re
from collections.abc import Iterator
from pathlib import Path

from seg_datasets.doctor.checked import PARAMS
from seg_datasets.doctor.kinds import ERROR, WARNING
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.sources import LOSSY_SUFFIXES, Source, SplitSource
from seg_datasets.reading.file_table import matched

__all__ = ["missing_classes"]


def missing_classes(source: Source, split: SplitSource) -> Iterator[DataFinding]:
    """Yields the files of classes that images lack, each by its name."""
    if not split.labels or split.masks is None:
        return
    _, has_image = matched(split.images, split.masks)
    for key, path in split.masks.where(has_image).items():
        planes = split.planes[str(path)]
        for place, file in enumerate(planes):
            if file is None:
                yield _missing(source, split, key, path, place, planes)


def _missing(
    source: Source, split: SplitSource, key: str, path: Path, place: int, planes: tuple[Path | None, ...]
) -> DataFinding:
    label = split.labels[place]
    expected = _beside(split.pattern, path, split.labels[planes.index(path)], label)
    lossy = next((found for suffix in LOSSY_SUFFIXES if (found := expected.with_suffix(suffix)).is_file()), None)
    if lossy is not None:
        name = source.shown(lossy)
        return DataFinding(
            "jpeg-mask",
            ERROR,
            name,
            f"the mask of class {label} is a {lossy.suffix} file, which is not read: lossy compression changes ids "
            "near edges",
            "Save the mask as PNG, with 0 and 1: Image.fromarray((mask > 127).astype('uint8')).save(OUT)",
            "",
            (name,),
        )
    image, name = source.shown(split.images[key]), source.shown(expected)
    return DataFinding(
        "missing-mask",
        WARNING if source.skips else ERROR,
        image,
        f"the image has no mask of class {label} in {split.name}: there is no {name}",
        "Add the file"
        + ", or leave the image out with missing = 'skip'" * (not source.skips)
        + ". If an image without the file of a class has no pixel of it, say so with this line",
        f'{PARAMS}.missing_class = "absent"',
        (image,),
    )


def _beside(pattern: str, path: Path, own: str, label: str) -> Path:
    """Returns where the file of a class is expected, by that of another class of the same image.

    Args:
        pattern: the option `masks`.
        path: file of class `own`.
        own: its label.
        label: the class whose file is meant.
    """
    step = next(step for step in pattern.split("/") if "{class}" in step)
    named = re.escape(step).replace(re.escape("{class}"), f"({re.escape(own)})").replace(re.escape("*"), ".*")
    parts = list(path.parts)
    for place in range(len(parts) - 1, -1, -1):
        suffix = r"(?:\.[^.]*)?" if place == len(parts) - 1 else ""
        if found := re.fullmatch(named + suffix, parts[place], re.IGNORECASE):
            parts[place] = parts[place][: found.start(1)] + label + parts[place][found.end(1) :]
            break
    return Path(*parts)
