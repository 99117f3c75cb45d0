"""The command line of `seg predict`, and its steps.

Which images a folder or glob pattern gives, and the output file of each: `jobs.find_jobs`.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_core.command import Command
from seg_core.errors import InvalidArgumentError, UsageError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.model_files.load_network import NetworkSource, find_network, load_network
from seg_models.commands.predict.classes import describe, parse_classes
from seg_models.commands.predict.jobs import Job, find_jobs, unfinished
from seg_models.commands.predict.options import parse_options
from seg_models.commands.predict.progress import ImageProgress, count_images
from seg_models.commands.predict.shards import device_of_process, parse_shard, shard_of
from seg_models.inference.input_paths import is_video

if TYPE_CHECKING:
    from seg_models.inference.predictor import Predictor

__all__ = ["PREDICT"]

_SUFFIXES = {"png": ".png", "tiff": ".tif", "geojson": ".geojson"}
_DESCRIPTIONS = {"png": "class ids as PNG", "tiff": "class ids as TIFF", "geojson": "polygons"}


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="+", metavar="IMAGES", help="images, folders, glob patterns ('*.jpg'), URLs or videos"
    )
    parser.add_argument(
        "--model", required=True, metavar="FILE|RUN|NAME", help="model file, run folder, or name from `seg models`"
    )
    parser.add_argument(
        "--weights",
        metavar="W",
        help="for a model's name: weights member, checkpoint file (FILE#NAME: one "
        "of several networks in it) or run folder (default: DEFAULT)",
    )
    parser.add_argument(
        "--classes",
        metavar="FILE|DATASET",
        help="names and colors of the classes, for weights that do not name them: .toml or .json file, or a dataset, "
        "such as VOC (default: the model's, else ids in generated colors)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("predictions"), metavar="DIR", help="output folder (default: %(default)s)"
    )
    parser.add_argument(
        "--format",
        choices=tuple(_SUFFIXES),
        default="png",
        help="format of the label maps: PNG or tiled TIFF of class ids, or polygons (default: %(default)s)",
    )
    parser.add_argument(
        "--overlay", action="store_true", help="also write each image overlaid with the colors of its classes"
    )
    parser.add_argument("--tile", metavar="N|HxW", help="predict in tiles of this size in pixels, e.g. 512 or 512x1024")
    parser.add_argument(
        "--overlap",
        type=float,
        default=0.5,
        metavar="F",
        help="fraction of a tile that overlaps the next one (default: %(default)s)",
    )
    parser.add_argument(
        "--tta",
        nargs="?",
        const="",
        metavar="LIST",
        help="test-time augmentation; LIST, such as 0.75,1,1.25,hflip, contains scales and any of hflip, vflip, turns "
        "(without LIST: 0.5,0.75,1,1.25,1.5,hflip)",
    )
    parser.add_argument(
        "--scale", type=float, metavar="F", help="scale factor of images before the network (default: the model's)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="images or tiles per forward pass (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", metavar="D", help="device, such as cuda (default: %(default)s)")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), help="floating-point type to compute in")
    parser.add_argument(
        "--threshold", type=float, metavar="P", help="ignore pixels with a class probability below this"
    )
    parser.add_argument(
        "--min-region",
        type=int,
        default=1,
        metavar="N",
        help="replace regions of fewer pixels by the class of their largest neighbor",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="maximum width times height of an image that is decoded at once (default: 178000000)",
    )
    parser.add_argument("--resume", action="store_true", help="skip images whose results exist")
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="predict the I-th of N equal parts (default: from RANK and WORLD_SIZE, if a launcher sets them)",
    )


def _run(arguments: argparse.Namespace) -> int:
    # the whole command line is checked before torch is imported and the model is loaded
    options = parse_options(arguments)
    classes = parse_classes(arguments.classes)
    source = _usage_errors(find_network, arguments.model, arguments.weights)
    shard = parse_shard(arguments.shard)
    suffix = _SUFFIXES[arguments.format]
    jobs = shard_of(find_jobs(arguments.images, arguments.out, suffix, arguments.overlay), shard)
    if arguments.resume:
        jobs = unfinished(jobs)
    _check_dependencies(jobs, arguments)
    if not jobs:
        print(f"nothing left to predict; the results are in {arguments.out}")
        return 0

    predictor = _make_predictor(source, arguments, classes, options)
    _check_writable(arguments.out)
    from seg_models.commands.predict.runner import JobRunner

    progress = ImageProgress(len(jobs), any(is_video(job.source) for job in jobs))
    JobRunner(predictor, progress, suffix, arguments.resume).run(jobs)
    progress.finish()

    if progress.done:
        extra = ", overlays as *_overlay.jpg" if arguments.overlay else ""
        print(f"{count_images(progress.done)} predicted; {_DESCRIPTIONS[arguments.format]}{extra} in {arguments.out}")
    if progress.failed:
        print(f"seg: {count_images(progress.failed)} of {len(jobs)} could not be predicted, see above", file=sys.stderr)
    return 1 if progress.failed else 0


def _check_dependencies(jobs: Sequence[Job], arguments: argparse.Namespace) -> None:
    """Raises MissingDependencyError if a library that reads or writes one of the files is not installed."""
    from seg_core.files.gdal import import_rasterio
    from seg_models.inference.video import import_av

    if arguments.format != "png" or arguments.min_region > 1:
        import_rasterio()
    if any(is_video(job.source) for job in jobs):
        import_av()


def _make_predictor(
    source: NetworkSource, arguments: argparse.Namespace, classes: DatasetMetadata | None, options: dict[str, Any]
) -> "Predictor":
    from seg_models.inference.predictor import Predictor

    if source.note:
        print(f"seg: {source.note}", file=sys.stderr)
    network = _usage_errors(load_network, source)
    given = source.given if source.weights is None else f"{source.given} with weights {source.weights}"
    options |= describe(network, given, classes, arguments.scale)
    return Predictor(network, device=device_of_process(arguments.device), **options)


def _usage_errors(function: Any, *arguments: Any) -> Any:
    """Calls a function; an InvalidArgumentError becomes a UsageError."""
    try:
        return function(*arguments)
    except InvalidArgumentError as error:
        raise UsageError(str(error)) from error


def _check_writable(out: Path) -> None:
    """Raises WriteError if nothing can be written to the output folder, before any image is predicted."""
    from seg_core.files.atomic import atomic_path

    with contextlib.suppress(_Writable), atomic_path(out / "writable"):
        raise _Writable


class _Writable(Exception):  # noqa: N818 - not an error: it ends the block before the file gets its name
    pass


PREDICT = Command(
    configure=_configure,
    run=_run,
    description=(
        "Predicts label maps of images, at the images' own size, with class ids as values. For a video, it writes one "
        "label map per frame."
    ),
    epilog=(
        "examples:\n"
        "  seg predict street.jpg --model runs/camvid/model.pt --overlay\n"
        "  seg predict 'images/*.jpg' --model fcn_resnet50 --weights DEFAULT --out labels --resume\n"
        "  seg predict street.jpg --model fcn_resnet50 --weights mine.pth --classes classes.toml\n"
        "  seg predict drive.mp4 --model runs/camvid/model.pt --overlay --batch-size 4\n"
        "  seg predict town.tif --model runs/aerial/model.pt --tile 512 --format tiff"
    ),
)
