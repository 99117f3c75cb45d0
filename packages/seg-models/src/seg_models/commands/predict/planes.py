"""The files of a multilabel task, which has a PNG per class: in a folder of each class's name."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seg_core.errors import UsageError
from seg_models.commands.predict.jobs import Job
from seg_models.inference.input_paths import is_url

__all__ = ["folder_names", "with_planes"]

# not allowed in names of files on one of the usual systems
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


def folder_names(labels: Sequence[str]) -> list[str]:
    """Returns the name of the folder of each class: its own, with `_` for letters that file systems do not allow.

    >>> folder_names(["car", "road/path", "Car"])
    ['car', 'road_path', 'Car_2']
    """
    names: list[str] = []
    for number, label in enumerate(labels):
        name = _NOT_IN_NAMES.sub("_", label).strip(" .") or "class"
        # some file systems do not tell upper from lower case
        taken = {other.lower() for other in names}
        names.append(f"{name}_{number}" if name.lower() in taken else name)
    return names


def with_planes(jobs: Sequence[Job], out: Path, labels: Sequence[str], only: Sequence[str] | None) -> list[Job]:
    """Returns the jobs with a file per class: `DIR/CLASS/sub/NAME.png` for the label map `DIR/sub/NAME.png`.

    Args:
        jobs: the jobs; for videos the folders of the frames are such paths.
        out: the output folder DIR.
        labels: names of all classes.
        only: the classes that are written; None for all.

    Raises:
        UsageError: if one of these files is one of the images.
    """
    folders = [name for name, label in zip(folder_names(labels), labels, strict=True) if only is None or label in only]
    inputs = {Path(file).resolve() for job in jobs for file in job.files or (job.source,) if not is_url(file)}
    found = []
    for job in jobs:
        if job.labels is not None:
            inside = job.labels.relative_to(out)
            job = replace(job, planes=tuple(out / folder / inside for folder in folders))
        for target in job.targets:
            if target.resolve() in inputs:
                raise UsageError(
                    f"{target} is one of the images and would be overwritten; choose another folder with --out"
                )
        found.append(job)
    return found
