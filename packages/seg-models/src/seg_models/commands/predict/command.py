"""The steps of `seg predict`.

Which images a folder or glob pattern gives, and the output file of each: `jobs.find_jobs`.
"""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_core.command import INTERRUPTED, Command
from seg_core.errors import counted
from seg_core.files.atomic import atomic_path, check_folder
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import BINARY, MULTILABEL
from seg_core.model_files.load_network import NetworkSource, find_network, load_network
from seg_core.own_code import import_modules
from seg_models.commands.model_errors import errors_of_model
from seg_models.commands.predict.advice import advise
from seg_models.commands.predict.arguments import add_arguments
from seg_models.commands.predict.classes import describe, parse_classes
from seg_models.commands.predict.jobs import Job, Outputs, find_jobs, frames_of, read_names, unfinished
from seg_models.commands.predict.options import (
    check_report_files,
    check_report_targets,
    parse_only,
    parse_options,
    parse_outputs,
    threshold_options,
)
from seg_models.commands.predict.planes import with_planes
from seg_models.commands.predict.progress import ImageProgress, count_images
from seg_models.commands.predict.shards import device_of_process, file_of_shard, parse_shard, shard_of
from seg_models.inference.input_paths import is_url, is_video

if TYPE_CHECKING:
    from seg_models.commands.predict.report import Report
    from seg_models.inference.predictor import Predictor

__all__ = ["PREDICT"]

_DESCRIPTIONS = {".png": "class ids as PNG", ".tif": "class ids as TIFF", ".geojson": "polygons"}
_OF_TASKS = {
    (BINARY, ".png"): "0 and 1 as PNG",
    (BINARY, ".tif"): "0 and 1 as TIFF",
    (MULTILABEL, ".png"): "a PNG per class, in a folder of its name",
    (MULTILABEL, ".tif"): "TIFF, a band per class",
}


def _run(arguments: argparse.Namespace) -> int:
    # the whole command line is checked before torch is imported and the model is loaded
    options = parse_options(arguments)
    outputs, style = parse_outputs(arguments)
    classes = parse_classes(arguments.classes)
    import_modules(arguments.imports)
    with errors_of_model(usage=True):
        source = find_network(arguments.model, arguments.weights, arguments.variant)
    shard = parse_shard(arguments.shard)
    check_folder(arguments.out, f"--out {arguments.out}")
    sources = list(arguments.images) if arguments.stack else read_names(arguments.images)
    check_report_files(arguments, sources)
    jobs = find_jobs(sources, arguments.out, outputs, stack=arguments.stack)
    check_report_targets(arguments, jobs)
    jobs = shard_of(jobs, shard)
    left, finished = unfinished(jobs, outputs) if arguments.resume else (jobs, [])
    _check_dependencies(left, outputs, arguments.min_region)
    wants_report = arguments.json is not None or arguments.csv is not None
    if not left and not wants_report:
        print(f"nothing left to predict; the results are in {arguments.out}")
        return 0

    predictor, only = _make_predictor(source, arguments, classes, options)
    task = predictor.metadata.task
    if task == MULTILABEL and outputs.suffix == ".png":
        jobs = with_planes(jobs, arguments.out, predictor.metadata.labels, only)
        left, finished = unfinished(jobs, outputs) if arguments.resume else (jobs, [])
    _check_writable(arguments.out)
    from seg_models.commands.predict.report import Report
    from seg_models.commands.predict.runner import JobRunner

    progress = ImageProgress(_count(left, all_frames=arguments.all_frames))
    report = Report(jobs, predictor.metadata, only, reads_old=wants_report)
    runner = JobRunner(predictor, progress, report, outputs, style, resume=arguments.resume)
    try:
        runner.add_finished(finished)
        runner.run(left)
    except KeyboardInterrupt:
        progress.finish()
        # the line alone would wait for names
        how = "resume with" if "-" not in arguments.images else "pipe the names of the images again into"
        print(f"seg: interrupted after {progress.describe()}; {how}: {_resume_line(arguments)}", file=sys.stderr)
        return INTERRUPTED
    finally:
        progress.finish()

    for found in predictor.optimized.reports if predictor.optimized is not None else ():
        print(f"seg: optimized for {found.summary}", file=sys.stderr)
    _write_reports(arguments, source, report, shard)
    closing = _closing_line(progress.done, report, outputs, arguments.out, task)
    print(closing, file=sys.stderr if "-" in (arguments.json, arguments.csv) else sys.stdout)
    if progress.failed:
        total = progress.done + progress.failed if progress.total is None else progress.total
        print(f"seg: {count_images(progress.failed)} of {total} could not be predicted, see above", file=sys.stderr)
    return 1 if progress.failed else 0


def _count(jobs: Sequence[Job], *, all_frames: bool) -> int | None:
    """Returns the number of images and frames; None if a video does not specify it, or the file of a URL may have more.

    Args:
        jobs: the images and videos.
        all_frames: whether each frame of an image file counts.
    """
    from seg_models.inference.video import count_frames

    def count(source: str) -> int | None:
        if is_video(source):
            return count_frames(source)
        if not all_frames:
            return 1
        return None if is_url(source) else frames_of(source)[0]

    counts = [count(job.source) for job in jobs]
    return None if None in counts else sum(number or 0 for number in counts)


def _check_dependencies(jobs: Sequence[Job], outputs: Outputs, min_region: int) -> None:
    """Raises MissingDependencyError if a library that reads or writes one of the files is not installed."""
    from seg_core.files.gdal import import_rasterio
    from seg_models.inference.video import import_av

    if outputs.suffix not in (".png", None) or min_region > 1:
        import_rasterio()
    if any(is_video(job.source) for job in jobs):
        import_av()


def _make_predictor(
    source: NetworkSource, arguments: argparse.Namespace, classes: DatasetMetadata | None, options: dict[str, Any]
) -> "tuple[Predictor, list[str] | None]":
    """Returns the predictor, and the classes of `--only`."""
    from seg_core.device import resolve_device
    from seg_models.inference.predictor import Predictor

    # before the network, so that a missing device is reported before weights are downloaded
    device = resolve_device(device_of_process(arguments.device), "--device")
    if source.note:
        print(f"seg: {source.note}", file=sys.stderr)
    with errors_of_model():
        network: Any = load_network(source)
    given = source.given if source.weights is None else f"{source.given} with weights {source.weights}"
    options |= describe(network, given, classes, arguments.scale)
    metadata = options.get("metadata") or network.model_info.metadata
    options |= threshold_options(options.pop("threshold"), metadata)
    only = parse_only(arguments.only, metadata.labels)
    if arguments.all_frames:
        options["all_frames"] = True
    return Predictor(network, device=device, only=only, **options), only


def _check_writable(out: Path) -> None:
    """Raises WriteError if nothing can be written to the output folder, before any image is predicted."""
    with contextlib.suppress(_Writable), atomic_path(out / "writable"):
        raise _Writable


class _Writable(Exception):  # noqa: N818 - not an error: it ends the block before the file gets its name
    pass


def _resume_line(arguments: argparse.Namespace) -> str:
    """Returns the command line that predicts what is left."""
    words = list(arguments.command_line)
    if not arguments.resume:
        # after -- all words are images
        words.insert(words.index("--") if "--" in words else len(words), "--resume")
    return shlex.join(words)


def _write_reports(
    arguments: argparse.Namespace, source: NetworkSource, report: "Report", shard: tuple[int, int]
) -> None:
    from seg_core.versions import installed_versions

    texts = []
    if arguments.json is not None:
        weights = None if source.weights is None else str(source.weights)
        text = report.json(
            model=arguments.model,
            weights=weights,
            variant=arguments.variant,
            out=str(arguments.out),
            versions=installed_versions(),
        )
        texts.append((arguments.json, text + "\n"))
    if arguments.csv is not None:
        texts.append((arguments.csv, report.csv()))
    for file, text in texts:
        if file == "-":
            print(text, end="")
        else:
            # as in names of files, which may have any bytes
            with atomic_path(file_of_shard(file, shard)) as temporary:
                temporary.write_bytes(text.encode("utf-8", "surrogateescape"))


def _closing_line(done: int, report: "Report", outputs: Outputs, out: Path, task: str) -> str:
    """Returns what was written: "3 images predicted: 3 label maps (class ids as PNG), 3 overlays in predictions"."""
    parts = []
    if report.labels and outputs.suffix is not None:
        described = _OF_TASKS.get((task, outputs.suffix), _DESCRIPTIONS[outputs.suffix])
        parts.append(f"{counted(report.labels, 'label map')} ({described})")
    if report.overlays:
        parts.append(f"{counted(report.overlays, 'overlay')} (*_overlay{outputs.overlay})")
    if report.videos:
        parts.append(f"{counted(report.videos, 'overlay video')} (*_overlay.mp4)")
    before = f"; {report.done_before} done before" if report.done_before else ""
    written = f": {', '.join(parts)} in {out}" if parts else f"; nothing new in {out}"
    return f"{count_images(done)} predicted{written}{before}"


PREDICT = Command(
    configure=add_arguments,
    run=_run,
    description=(
        "Predicts label maps of images, at the images' own size, with class ids as values. A folder is predicted with "
        "its subfolders, which the output folder then has too. For a video, it writes one label map per frame."
    ),
    epilog=(
        "examples:\n"
        "  seg predict street.jpg --model runs/camvid/model.pt --overlay\n"
        "  seg predict photos/ --model runs/camvid --out labels --resume\n"
        "  seg predict 'photos/*.jpg' --model fcn_resnet50 --weights DEFAULT --only person --csv areas.csv\n"
        "  seg predict street.jpg --model fcn_resnet50 --weights mine.pth --classes classes.toml\n"
        "  seg predict drive.mp4 --model runs/camvid/model.pt --legend --contours --no-masks\n"
        "  seg predict street.jpg --model mine/model.pt --import my_code    a network of your own code\n"
        "  seg predict town.tif --model runs/aerial/model.pt --tile 512 --format tiff\n"
        "  seg predict scene.tif --model runs/fields/model.pt --bands 8,4,3    the model's channels in these files\n"
        "  seg predict red/ nir/ --stack --model runs/fields/model.pt    the bands of an image in several files\n"
        "  find . -name '*.jpg' | seg predict - --model runs/camvid --json > summary.json\n"
        "\n"
        "Ctrl-C ends the prediction and prints the command that resumes it. Exit codes: 0 all predicted; 1 something\n"
        "could not be read (also a damaged model or --classes file), predicted or written; 2 wrong usage (also\n"
        "names of what does not exist), nothing was started; 130 interrupted."
    ),
    advise=advise,
)
