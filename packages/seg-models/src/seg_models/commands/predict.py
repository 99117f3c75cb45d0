"""`seg predict`: label maps of pictures, from a model file or published weights."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seg_core.catalog import ModelEntry
from seg_core.command import Command
from seg_core.errors import CorruptFileError, InvalidArgumentError, UsageError
from seg_core.registry import MODELS

if TYPE_CHECKING:
    from seg_models.inference.predictor import Predictor

__all__ = ["PREDICT"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class _Job:
    """One picture and where its results go."""

    picture: Path
    labels: Path
    overlay: Path | None


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGES", type=Path, help="pictures, or folders of pictures")
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
    parser.add_argument("--overlay", action="store_true", help="also write each picture with its classes laid over it")
    parser.add_argument("--device", default="cpu", metavar="D", help="where to compute, as cuda (default: %(default)s)")


def _run(arguments: argparse.Namespace) -> int:
    jobs = _plan(arguments.images, arguments.out, arguments.overlay)
    predictor = _make_predictor(arguments.model, arguments.weights, arguments.device)
    progress = _Progress(len(jobs))
    failed = 0
    for job in jobs:
        try:
            prediction = predictor(job.picture)
        except (CorruptFileError, InvalidArgumentError, FileNotFoundError) as error:
            failed += 1
            text = str(error)
            progress.report(text if str(job.picture) in text else f"{job.picture}: {text}")
            continue
        prediction.save(job.labels)
        if job.overlay is not None:
            prediction.save_overlay(job.overlay)
        progress.advance()
    progress.finish()
    done = len(jobs) - failed
    if done:
        extra = ", overlays as *_overlay.jpg" if arguments.overlay else ""
        print(f"{_pictures(done)} predicted; class ids as PNG{extra} in {arguments.out}")
    if failed:
        print(f"seg: {_pictures(failed)} of {len(jobs)} could not be predicted, see above", file=sys.stderr)
    return 1 if failed else 0


def _plan(sources: Sequence[Path], out: Path, overlay: bool) -> list[_Job]:
    """Finds the pictures and where their results go; nothing is read or written yet."""
    pictures: list[Path] = []
    for source in sources:
        if source.is_dir():
            found = sorted(p for p in source.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
            if not found:
                raise UsageError(f"folder {source} holds no pictures ({', '.join(SUFFIXES)}); name another one")
            pictures += found
        elif source.exists():
            pictures.append(source)
        else:
            raise UsageError(f"there is no picture or folder {source} (current folder: {Path.cwd()}); check the path")
    inputs = {picture.resolve() for picture in pictures}
    taken: dict[Path, Path] = {}
    jobs = []
    for picture in pictures:
        job = _Job(picture, out / f"{picture.stem}.png", out / f"{picture.stem}_overlay.jpg" if overlay else None)
        for target in (job.labels, job.overlay):
            if target is None:
                continue
            if target.resolve() in inputs:
                raise UsageError(
                    f"{target} is one of the pictures and would be overwritten; choose another folder with --out"
                )
            if target in taken and taken[target].resolve() != picture.resolve():
                raise UsageError(
                    f"{taken[target]} and {picture} would both be written to {target}; predict them one after the "
                    "other, with two folders for --out"
                )
            taken[target] = picture
        jobs.append(job)
    return jobs


def _make_predictor(model: str, weights: str | None, device: str) -> "Predictor":
    # torch is imported only now: what is wrong with the command line was said at once
    from seg_models.building import looks_like_path
    from seg_models.factory import get_model
    from seg_models.inference.predictor import Predictor

    if looks_like_path(model):
        if weights is not None:
            raise UsageError(
                f"--weights {weights} cannot be used with model file {model}, which holds its own; leave it out"
            )
        return Predictor(model, device=device)
    entry = MODELS.entry(model)
    if weights is None:
        if not isinstance(entry, ModelEntry) or entry.default_weights is None:
            raise UsageError(
                f"model {model!r} has no published weights; give a model file as --model (training writes model.pt), "
                "or --weights"
            )
        weights = "DEFAULT"
        print(f"seg: no --weights given, taking {entry.weights_enum}.{entry.default_weights}", file=sys.stderr)
    return Predictor(get_model(model, weights=weights), device=device)


def _pictures(count: int) -> str:
    return f"{count} picture" + ("" if count == 1 else "s")


class _Progress:
    """One line on stderr that is written over on a terminal, and written once at the end elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._seen = 0
        self._start = time.perf_counter()
        self._live = sys.stderr.isatty()

    def advance(self) -> None:
        """Counts one predicted picture."""
        self._done += 1
        self._seen += 1
        if self._live:
            self._write("\r" + self._line())

    def report(self, problem: str) -> None:
        """Counts one picture that failed and says why."""
        self._seen += 1
        self._write(f"{chr(13) if self._live else ''}seg: skipped: {problem}\n")

    def finish(self) -> None:
        """Ends the line."""
        self._write(("\r" if self._live else "") + self._line() + "\n")

    def _line(self) -> str:
        rate = self._done / max(time.perf_counter() - self._start, 1e-9)
        return f"{self._seen}/{self._total} pictures, {rate:.1f} images/s"

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


PREDICT = Command(
    configure=_configure,
    run=_run,
    description="Predicts label maps of pictures: PNGs of the pictures' own size whose values are the class ids.",
    epilog=(
        "examples:\n"
        "  seg predict street.jpg --model runs/camvid/model.pt --overlay\n"
        "  seg predict pictures/ --model fcn_resnet50 --weights DEFAULT --out labels"
    ),
)
