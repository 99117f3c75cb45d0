"""Values of the command line of `seg predict`, parsed and checked. Imports no torch."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seg_core.checks import is_integer
from seg_core.errors import UnknownNameError, UsageError, nearest
from seg_core.files.atomic import check_folder
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTICLASS
from seg_models.commands.predict.arguments import FORMATS, OVERLAY_FORMATS
from seg_models.commands.predict.jobs import Job, Outputs
from seg_models.commands.sizes import parse_size
from seg_models.inference.input_paths import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_url

__all__ = [
    "check_report_files",
    "check_report_targets",
    "parse_bands",
    "parse_only",
    "parse_options",
    "parse_outputs",
    "threshold_options",
]

_FLIPS = ("hflip", "vflip", "turns")


def parse_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns keyword arguments of `Predictor` from the command line.

    Raises:
        UsageError: if a value is wrong.
    """
    if arguments.scale is not None and not 0 < arguments.scale < math.inf:
        raise UsageError(f"--scale {arguments.scale} must be a factor above 0, such as 0.5")
    if not 0 <= arguments.overlap < 1:
        raise UsageError(f"--overlap {arguments.overlap} must be a fraction from 0 to below 1, such as 0.5")
    given = arguments.threshold if isinstance(arguments.threshold, list) else [arguments.threshold]
    for value in given:
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"--threshold {value} must be a probability from 0 to 1, such as 0.5")
    for option, value in (
        ("--batch-size", arguments.batch_size),
        ("--min-region", arguments.min_region),
        ("--max-pixels", arguments.max_pixels),
    ):
        if value is not None and not is_integer(value, 1):
            raise UsageError(f"{option} {value} must be an integer >= 1")
    options = {
        "tile": parse_size("--tile", arguments.tile),
        "overlap": arguments.overlap,
        "tta": _parse_tta(arguments.tta),
        "batch_size": arguments.batch_size,
        "dtype": arguments.dtype,
        "threshold": arguments.threshold,
        "min_region": arguments.min_region,
        "optimize": arguments.optimize,
    }
    if (bands := parse_bands(arguments.bands)) is not None:
        options["bands"] = bands
    if arguments.max_pixels is not None:
        options["max_pixels"] = arguments.max_pixels
    if arguments.allow_vrt:
        options["allow_vrt"] = True
    return options


def parse_outputs(arguments: argparse.Namespace) -> tuple[Outputs, dict[str, Any]]:
    """Returns what is written for each image, and the keyword arguments of `Prediction.overlay`.

    Raises:
        UsageError: if a value is wrong, or options contradict each other.
    """
    if arguments.alpha is not None and not 0 <= arguments.alpha <= 1:
        raise UsageError(f"--alpha {arguments.alpha} must be a weight from 0 to 1, such as 0.5")
    style: dict[str, Any] = {} if arguments.alpha is None else {"alpha": arguments.alpha}
    style |= {name: True for name in ("contours", "legend") if getattr(arguments, name)}
    overlay = None
    if arguments.overlay or style or arguments.overlay_format is not None:
        overlay = OVERLAY_FORMATS[arguments.overlay_format or "jpg"]
    if arguments.no_masks and overlay is None:
        raise UsageError("--no-masks leaves nothing to write; add --overlay, or remove it")
    if arguments.no_masks and arguments.format is not None:
        raise UsageError(
            f"--format {arguments.format} is the format of label maps, and --no-masks writes none; remove one of them"
        )
    suffix = None if arguments.no_masks else FORMATS[arguments.format or "png"]
    return Outputs(suffix, overlay, arguments.all_frames), style


def threshold_options(given: float | list[float] | None, metadata: DatasetMetadata) -> dict[str, Any]:
    """Returns the arguments of `Predictor` for the value of `--threshold`, by the task of the model.

    Raises:
        UsageError: if the task does not allow the value.
    """
    if metadata.task != MULTICLASS:
        from seg_core.metrics.thresholds import thresholds_of_option  # imports torch

        return {"thresholds": None if given is None else thresholds_of_option(given, metadata)}
    if isinstance(given, list):
        raise UsageError(
            f"--threshold {','.join(map(str, given))} lists one for each class, and the model is multiclass, where "
            "pixels of unsure classes are ignored; give one number"
        )
    return {"threshold": given}


def check_report_files(arguments: argparse.Namespace, sources: Sequence[str]) -> None:
    """Checks the files of `--json` and `--csv` before the work starts.

    Raises:
        UsageError: if both are printed, or one is a folder, an image, or a file that is read.
        WrongTargetError: if the folder of one is a file.
    """
    if arguments.json is not None and arguments.json == arguments.csv:
        what = "printed to stdout" if arguments.json == "-" else f"written to {arguments.json}"
        raise UsageError(f"--json and --csv would both be {what}; give one of them another FILE")
    read = [arguments.model, arguments.weights, arguments.classes, *(name for name in sources if not is_url(name))]
    for option, file in (("--json", arguments.json), ("--csv", arguments.csv)):
        if file is None or file == "-":
            continue
        path = Path(file)
        if not file or path.is_dir():
            raise UsageError(f"{option} {file!r} is a folder; add the file's name")
        check_folder(path.parent, f"{option} {file}")
        if path.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
            raise UsageError(f"{option} {file} has the name of an image or a video; write {option} behind the images")
        if path.exists() and any(name is not None and path.resolve() == Path(name).resolve() for name in read):
            raise UsageError(f"{option} {file} would overwrite a file that is read; name another file")


def check_report_targets(arguments: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """Checks that the files of `--json` and `--csv` are no results of images.

    Raises:
        UsageError: if one is.
    """
    targets = {target.resolve() for job in jobs for target in job.targets}
    for option, file in (("--json", arguments.json), ("--csv", arguments.csv)):
        if file not in (None, "-") and Path(file).resolve() in targets:
            raise UsageError(f"{option} {file} is the file of a result; name another file")


def parse_only(values: Sequence[str] | None, labels: Sequence[str]) -> list[str] | None:
    """Returns the classes that `--only` names, by id; None if it is not given.

    Each value is the name of a class, or several names separated by commas.

    Raises:
        UnknownNameError: if there is no class of that name.
    """
    if values is None:
        return None
    wanted = set()
    for value in values:
        for name in [value] if value in labels else [part.strip() for part in value.split(",")]:
            if name not in labels:
                raise UnknownNameError(
                    f"--only {value}: there is no class {name!r}.{nearest(name, labels)} Classes: {', '.join(labels)}"
                )
            wanted.add(name)
    return [name for name in labels if name in wanted]


def parse_bands(values: Sequence[str] | None) -> list[int | str] | None:
    """Returns the bands that `--bands` names; None if it is not given.

    Each value is a number from 1, a description of a band, or several of them separated by commas.

    Raises:
        UsageError: if one is empty or 0.
    """
    if values is None:
        return None
    words = [word.strip() for value in values for word in value.split(",")]
    for word in words:
        if not word or (word.isdecimal() and int(word) == 0):
            raise UsageError(
                f"--bands {','.join(words)}: {word!r} is no band; give numbers from 1, or names, such as --bands 4,3,2"
            )
    return [int(word) if word.isdecimal() else word for word in words]


def _parse_tta(text: str | None) -> dict[str, Any] | bool:
    """Returns the arguments of `predict_tta` for the value of `--tta`, which is "" for the defaults."""
    if not text:
        return text is not None
    scales, flips = [], set()
    for word in text.split(","):
        if word.strip().lower() in _FLIPS:
            flips.add(word.strip().lower())
            continue
        try:
            scale = float(word)
        except ValueError:
            scale = math.nan
        if not 0 < scale < math.inf:
            raise UsageError(
                f"--tta {text}: {word!r} is neither a scale above 0 nor one of {', '.join(_FLIPS)}; write "
                "--tta 0.75,1,1.25,hflip, or --tta alone as the last option: what follows it is taken as its list"
            )
        scales.append(scale)
    return {
        "scales": tuple(scales or (1.0,)),
        "hflip": "hflip" in flips,
        "vflip": "vflip" in flips,
        "quarter_turns": "turns" in flips,
    }
