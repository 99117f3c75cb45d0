"""`seg predict`: label maps of images and videos, from a model file or published weights."""

import argparse
import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from seg_core.command import Command
from seg_core.errors import ImageNotFoundError, InvalidArgumentError, UsageError, UserError, WriteError
from seg_models.inference.input_paths import (
    ARRAY_SUFFIXES,
    is_folder,
    is_pattern,
    is_url,
    is_video,
    list_image_files,
)

if TYPE_CHECKING:
    from seg_models.inference.prediction import Prediction
    from seg_models.inference.predictor import Predictor

__all__ = ["PREDICT"]

_ENDINGS = {"png": ".png", "tiff": ".tif", "geojson": ".geojson"}
# Images of more pixels are read and written window by window, where windows are asked for.
_MOST_AT_ONCE = 2**26
_LINE_EVERY = 30.0  # seconds, where the progress is no terminal
_SIZE = re.compile(r"(\d+)(?:x(\d+))?")
_SHARD = re.compile(r"(\d+)/(\d+)")
_FLIPS = ("hflip", "vflip", "turns")


@dataclass(frozen=True)
class _Job:
    """One image or video and where its results go.

    Attributes:
        source: path or address.
        labels: file of the label map; of a video the folder of those of its frames.
        overlay: image or video with the classes laid over it, or None.
    """

    source: str
    labels: Path
    overlay: Path | None

    @property
    def targets(self) -> tuple[Path, ...]:
        return (self.labels,) if self.overlay is None else (self.labels, self.overlay)


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="+", metavar="IMAGES", help="images, folders, patterns ('*.jpg'), addresses or videos"
    )
    parser.add_argument("--model", required=True, metavar="FILE|NAME", help="a model file, or a name from `seg models`")
    parser.add_argument(
        "--weights", metavar="W", help="with a model's name: weights member or checkpoint file (default: DEFAULT)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("predictions"),
        metavar="DIR",
        help="folder of the results (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=tuple(_ENDINGS),
        default="png",
        help="of the label maps: PNG or tiled TIFF whose values are the class ids, or polygons (default: %(default)s)",
    )
    parser.add_argument("--overlay", action="store_true", help="also write each image with its classes laid over it")
    parser.add_argument("--tile", metavar="N|HxW", help="predict in windows of that size in pixels, as 512 or 512x1024")
    parser.add_argument(
        "--overlap", type=float, default=0.5, metavar="S", help="share of a window (default: %(default)s)"
    )
    parser.add_argument(
        "--tta",
        nargs="?",
        const="",
        metavar="LIST",
        help="test-time augmentation; LIST, as 0.75,1,1.25,hflip, names scales and any of hflip, vflip, turns "
        "(alone: 0.5,0.75,1,1.25,1.5,hflip)",
    )
    parser.add_argument(
        "--scale", type=float, metavar="F", help="factor of the images' size for the network (default: the model's)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="images or windows in a pass (default: %(default)s)"
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="where to compute, as cuda (default: %(default)s)"
    )
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), help="number type to compute in")
    parser.add_argument("--threshold", type=float, metavar="P", help="ignore pixels whose class is less probable")
    parser.add_argument(
        "--min-region", type=int, default=1, metavar="N", help="regions of fewer pixels become part of their neighbor"
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="largest width times height of an image that is decoded at once (default: 178000000)",
    )
    parser.add_argument("--resume", action="store_true", help="leave out images whose results are there")
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="predict the I-th of N equal shares (default: by RANK and WORLD_SIZE, where a launcher sets them)",
    )


def _run(arguments: argparse.Namespace) -> int:
    options = _options(arguments)
    share = _share(arguments.shard)
    jobs = _plan(arguments.images, arguments.out, _ENDINGS[arguments.format], arguments.overlay)
    jobs = _share_of(jobs, share)
    if arguments.resume:
        jobs = _unfinished(jobs)
    _check_dependencies(jobs, arguments)
    if not jobs:
        print(f"nothing is left to predict; the results are in {arguments.out}")
        return 0
    predictor = _make_predictor(arguments, options)
    _check_folder(arguments.out)
    progress = _Progress(len(jobs), any(is_video(job.source) for job in jobs))
    _Run(predictor, progress).predict(jobs, arguments.format, arguments.resume)
    progress.finish()
    if progress.done:
        kind = {"png": "class ids as PNG", "tiff": "class ids as TIFF", "geojson": "polygons"}[arguments.format]
        extra = ", overlays as *_overlay.jpg" if arguments.overlay else ""
        print(f"{_images(progress.done)} predicted; {kind}{extra} in {arguments.out}")
    if progress.failed:
        print(f"seg: {_images(progress.failed)} of {len(jobs)} could not be predicted, see above", file=sys.stderr)
    return 1 if progress.failed else 0


# ---- options ---------------------------------------------------------------------------------------------------------


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the keywords of `Predictor` that the command line names.

    Raises:
        UsageError: if one of them is not understood.
    """
    if arguments.scale is not None and not arguments.scale > 0:
        raise UsageError(f"--scale {arguments.scale} must be a factor above 0, such as 0.5")
    if arguments.max_pixels is not None and arguments.max_pixels < 1:
        raise UsageError(f"--max-pixels {arguments.max_pixels} must be an integer of at least 1, such as 500000000")
    limit = {} if arguments.max_pixels is None else {"max_pixels": arguments.max_pixels}
    return {
        "tile": _tile(arguments.tile),
        "overlap": arguments.overlap,
        "tta": _augmentation(arguments.tta),
        "batch_size": arguments.batch_size,
        "dtype": arguments.dtype,
        "threshold": arguments.threshold,
        "min_region": arguments.min_region,
        **limit,
    }


def _tile(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = _SIZE.fullmatch(text)
    if not found:
        raise UsageError(f"--tile {text} must be pixels, as 512, or height x width, as 512x1024")
    return int(found[1]), int(found[2] or found[1])


def _augmentation(text: str | None) -> dict[str, Any] | bool:
    """Returns the arguments of `predict_tta` that `--tta` names."""
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
                f"--tta {text}: {word!r} is neither a scale nor one of {', '.join(_FLIPS)}; write 0.75,1,1.25,hflip"
            ) from None
    return {
        "scales": tuple(scales or (1.0,)),
        "hflip": "hflip" in flips,
        "vflip": "vflip" in flips,
        "quarter_turns": "turns" in flips,
    }


def _share(text: str | None) -> tuple[int, int]:
    """Returns which share is predicted here, from 0 on, and how many there are."""
    if text is None:
        try:
            rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        except ValueError:
            rank, count = -1, 0
        if not 0 <= rank < count:
            raise UsageError(
                f"RANK={os.environ.get('RANK')} and WORLD_SIZE={os.environ.get('WORLD_SIZE')} of the environment name "
                "no share; set both, unset them, or say --shard 1/1"
            )
        return rank, count
    found = _SHARD.fullmatch(text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {text} must be I/N with I from 1 to N, as 2/4")
    return int(found[1]) - 1, int(found[2])


# ---- what there is to do ---------------------------------------------------------------------------------------------


def _plan(sources: Sequence[str], out: Path, ending: str, overlay: bool) -> list[_Job]:
    """Finds the images and where their results go; nothing is read or written yet."""
    found = list(dict.fromkeys(source for named in sources for source in _found(named)))
    inputs = {Path(source).resolve() for source in found if not is_url(source)}
    taken: dict[Path, str] = {}
    jobs = []
    for source in found:
        job = _job(source, out, ending, overlay)
        for target in job.targets:
            if target.resolve() in inputs:
                raise UsageError(
                    f"{target} is one of the images and would be overwritten; choose another folder with --out"
                )
            if target in taken and (is_url(source) or not _same_file(taken[target], source)):
                raise UsageError(
                    f"{taken[target]} and {source} would both be written to {target}; predict them one after the "
                    "other, with two folders for --out"
                )
        if job.labels not in taken:
            jobs.append(job)
        taken |= dict.fromkeys(job.targets, source)
    return jobs


def _found(source: str) -> Iterator[str]:
    """Yields the images that a user names: one, or those of a folder or a pattern."""
    if is_url(source):
        yield source
    elif is_folder(source) or is_pattern(source):
        try:
            yield from map(str, list_image_files(source))
        except ImageNotFoundError as error:
            raise UsageError(str(error)) from error
    elif Path(source).exists():
        yield source
    else:
        raise UsageError(f"there is no image or folder {source} (current folder: {Path.cwd()}); check the path")


def _same_file(first: str, second: str) -> bool:
    return not is_url(first) and Path(first).resolve() == Path(second).resolve()


def _job(source: str, out: Path, ending: str, overlay: bool) -> _Job:
    stem = Path(unquote(urlparse(source).path)).stem if is_url(source) else Path(source).stem
    if not stem:
        raise UsageError(f"address {source} ends in no name for the results; fetch the image and name the file")
    if is_video(source):
        return _Job(source, out / stem, out / f"{stem}_overlay.mp4" if overlay else None)
    return _Job(source, out / f"{stem}{ending}", out / f"{stem}_overlay.jpg" if overlay else None)


def _share_of(jobs: list[_Job], share: tuple[int, int]) -> list[_Job]:
    rank, count = share
    if count == 1:
        return jobs
    own = jobs[rank::count]
    print(f"seg: share {rank + 1} of {count}: {len(own)} of {_images(len(jobs))}", file=sys.stderr)
    return own


def _unfinished(jobs: list[_Job]) -> list[_Job]:
    """Leaves out the jobs whose results are there; of a video only its frames tell, one by one."""
    left = [job for job in jobs if is_video(job.source) or not all(target.is_file() for target in job.targets)]
    if len(left) < len(jobs):
        print(f"seg: {_images(len(jobs) - len(left))} done before", file=sys.stderr)
    return left


def _check_dependencies(jobs: Sequence[_Job], arguments: argparse.Namespace) -> None:
    """Raises MissingDependencyError before anything is computed whose result could not be read or written."""
    from seg_core.files.rasters import import_rasterio
    from seg_models.inference.video import import_av

    if arguments.format != "png" or arguments.min_region > 1:
        import_rasterio()
    if any(is_video(job.source) for job in jobs):
        import_av()


def _check_folder(out: Path) -> None:
    """Raises WriteError if nothing can be written to the folder of the results: better now than after a prediction."""
    from seg_core.files.atomic import atomic_path

    with contextlib.suppress(_NothingIsWrong), atomic_path(out / "writable"):
        raise _NothingIsWrong


class _NothingIsWrong(Exception):  # noqa: N818 - it ends the block before the file gets its name
    pass


def _make_predictor(arguments: argparse.Namespace, options: dict[str, Any]) -> "Predictor":
    # torch is imported only now: what is wrong with the command line was said at once
    from seg_models.inference.predictor import Predictor, load_network

    def say(text: str) -> None:
        print(f"seg: {text}", file=sys.stderr)

    try:
        network = load_network(arguments.model, arguments.weights, say)
    except InvalidArgumentError as error:
        raise UsageError(str(error)) from error
    info = getattr(network, "model_info", None)
    if arguments.scale is not None and info is not None:
        options |= {"preprocessing": info.preprocessing.with_resize({"scale": arguments.scale})}
    return Predictor(network, device=_device(arguments.device), **options)


def _device(wanted: str) -> str:
    """Returns the GPU of this process, where a launcher has started one for each."""
    import torch

    rank = os.environ.get("LOCAL_RANK", "")
    if wanted == "auto" and rank.isdigit() and torch.cuda.device_count() > 1:
        return f"cuda:{int(rank) % torch.cuda.device_count()}"
    return wanted


# ---- the work --------------------------------------------------------------------------------------------------------


class _Run:
    """Predicts jobs; what cannot be predicted is reported and left out, what cannot be written ends the run."""

    def __init__(self, predictor: "Predictor", progress: "_Progress") -> None:
        self.predictor = predictor
        self.progress = progress

    def predict(self, jobs: Sequence[_Job], kind: str, resume: bool) -> None:
        """Predicts all jobs: images that fit into the memory first, batch by batch."""
        images: dict[str, _Job] = {}
        rest: list[_Job] = []
        for job in jobs:
            if is_video(job.source) or self._goes_by_windows(job, kind):
                rest.append(job)
            else:
                images[job.source] = job
        for prediction in self.predictor.stream(list(images), on_error=self._report):
            assert prediction.source is not None
            self._save(prediction, images[prediction.source])
        for job in rest:
            if is_video(job.source):
                self._predict_video(job, _ENDINGS[kind], resume)
            else:
                self._predict_by_windows(job)

    def _report(self, name: str | None, error: UserError) -> None:
        text = str(error)
        self.progress.report(text if name is None or name in text else f"{name}: {text}")

    def _save(self, prediction: "Prediction", job: _Job) -> None:
        prediction.save(job.labels)
        if job.overlay is not None:
            prediction.save_overlay(job.overlay)
        self.progress.advance()

    def _goes_by_windows(self, job: _Job, kind: str) -> bool:
        if Path(job.source).suffix.lower() in ARRAY_SUFFIXES:
            return True
        if kind != "tiff" or self.predictor.tile is None or is_url(job.source):
            return False
        return _is_for_windows(job.source, self.predictor.max_pixels)

    def _predict_by_windows(self, job: _Job) -> None:
        if job.labels.suffix != ".tif":
            self.progress.report(f"{job.source} is read window by window; it needs --tile and --format tiff")
            return
        if job.overlay is not None:
            self.progress.say(f"{job.source} is written window by window, without an overlay")
        try:
            self.predictor.predict_to_file(job.source, job.labels, on_progress=self.progress.part)
        except WriteError:
            raise
        except UserError as error:
            self._report(job.source, error)
        else:
            self.progress.advance()

    def _predict_video(self, job: _Job, ending: str, resume: bool) -> None:
        from seg_models.inference.video import VideoWriter, frame_rate, read_frames

        def frames() -> Iterator[Any]:
            for number, frame in enumerate(read_frames(job.source)):
                # the video of overlays is one file: all of its frames are needed, or none
                if job.overlay is None and resume and _of_frame(job, number, ending).is_file():
                    continue
                numbers.append(number)
                yield frame

        if resume and job.overlay is not None and job.overlay.is_file():  # written last
            return
        numbers: list[int] = []
        try:
            with contextlib.ExitStack() as stack:
                video = None
                if job.overlay is not None:
                    video = stack.enter_context(VideoWriter(job.overlay, frame_rate(job.source)))
                for place, prediction in enumerate(self.predictor.stream(frames())):
                    prediction.save(_of_frame(job, numbers[place], ending))
                    if video is not None:
                        video.write(prediction.overlay())
                    self.progress.advance()
        except WriteError:
            raise
        except UserError as error:
            self._report(job.source, error)


def _of_frame(job: _Job, number: int, ending: str) -> Path:
    return job.labels / f"{number:06d}{ending}"


def _is_for_windows(source: str, max_pixels: int) -> bool:
    """Returns whether an image file is large, by its header, and may be read window by window."""
    from seg_core.files.images import read_header

    try:
        header = read_header(source)
    except UserError:
        return False  # what is wrong with it shows when it is read
    pixels = header.width * header.height
    # what windows cannot have is read at once as long as it may be
    return pixels > _MOST_AT_ONCE and (header.is_plain or pixels > max_pixels)


def _images(count: int) -> str:
    return f"{count} image" + ("" if count == 1 else "s")


class _Progress:
    """One line on stderr that is written over on a terminal, and written now and then elsewhere.

    Args:
        total: images to predict.
        open_end: whether videos are among them, whose frames count as images and are not counted before.
    """

    def __init__(self, total: int, open_end: bool) -> None:
        self.done = 0
        self.failed = 0
        self._total = "" if open_end else f"/{total}"
        self._part = 0.0
        self._start = self._written = time.perf_counter()
        self._live = sys.stderr.isatty()

    def advance(self) -> None:
        """Counts one predicted image."""
        self.done += 1
        self._part = 0.0
        self._show()

    def part(self, share: float) -> None:
        """Shows how far an image is that takes long, 0 to 1."""
        self._part = share
        self._show()

    def report(self, problem: str) -> None:
        """Counts one image that failed and says why."""
        self.failed += 1
        self.say(f"skipped: {problem}")

    def say(self, text: str) -> None:
        """Writes a line of its own."""
        self._write(f"{chr(13) if self._live else ''}seg: {text}\n")

    def finish(self) -> None:
        """Ends the line."""
        self._write(("\r" if self._live else "") + self._line() + "\n")

    def _show(self) -> None:
        now = time.perf_counter()
        if self._live:
            self._write("\r" + self._line())
        elif now - self._written > _LINE_EVERY:
            self._written = now
            self._write(self._line() + "\n")

    def _line(self) -> str:
        rate = (self.done + self._part) / max(time.perf_counter() - self._start, 1e-9)
        part = f" and {self._part:.0%} of the next" if self._part else ""
        return f"{self.done + self.failed}{self._total} images{part}, {rate:.{1 if rate >= 0.1 else 3}f} images/s"

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


PREDICT = Command(
    configure=_configure,
    run=_run,
    description=(
        "Predicts label maps of images: of the images' own size, with class ids as values. Of a video there is one "
        "for each frame."
    ),
    epilog=(
        "examples:\n"
        "  seg predict street.jpg --model runs/camvid/model.pt --overlay\n"
        "  seg predict 'images/*.jpg' --model fcn_resnet50 --weights DEFAULT --out labels --resume\n"
        "  seg predict drive.mp4 --model runs/camvid/model.pt --overlay --batch-size 4\n"
        "  seg predict town.tif --model runs/aerial/model.pt --tile 512 --format tiff"
    ),
)
