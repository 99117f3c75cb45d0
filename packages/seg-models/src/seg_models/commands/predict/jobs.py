"""The jobs of `seg predict`: the images and videos of its arguments, and their output files."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from seg_core.errors import ImageNotFoundError, UsageError, UserError
from seg_models.commands.predict.progress import count_images
from seg_models.commands.predict.stacks import find_stacks
from seg_models.inference.input_paths import is_folder, is_pattern, is_url, is_video, list_files, url_stem

__all__ = ["Job", "Outputs", "find_jobs", "frames_of", "read_names", "unfinished"]

_NAME_OF_FRAME = re.compile(r"(.*)_frame(\d{6,})(_overlay)?", re.DOTALL)  # as `Job.of_frame` names results


@dataclass(frozen=True)
class Outputs:
    """What is written for each image.

    Attributes:
        suffix: suffix of the label maps, or None for none.
        overlay: suffix of the overlays of images, or None for no overlays; those of videos are .mp4.
        all_frames: whether an image file of several frames gives a result for each frame, not only for the first.
    """

    suffix: str | None
    overlay: str | None = None
    all_frames: bool = False


@dataclass(frozen=True)
class Job:
    """One image or video, and its output files.

    Attributes:
        source: path or URL.
        labels: file of the label map, for a video the folder of the label maps of its frames; None for no label map.
        overlay: image or video with the classes overlaid, or None.
        files: the files of an image of several, of which `source` is the first; empty for one.
        planes: of a multilabel task whose label maps are PNGs the file of each class that is written, which take the
            place of `labels`; for a video the folders of its frames.
    """

    source: str
    labels: Path | None
    overlay: Path | None
    files: tuple[str, ...] = ()
    planes: tuple[Path, ...] = ()

    @property
    def targets(self) -> tuple[Path, ...]:
        """The output files that are wanted."""
        return tuple(path for path in (*(self.planes or (self.labels,)), self.overlay) if path is not None)

    def of_frame(self, number: int) -> "Job":
        """Returns the job of one frame of an image file, such as `x_frame000001.png`."""
        stem, frame = Path(self.source).stem, f"_frame{number:06d}"

        def named(path: Path) -> Path:
            return path.with_name(f"{stem}{frame}{path.name.removeprefix(stem)}")

        return replace(
            self,
            labels=None if self.labels is None else named(self.labels),
            overlay=None if self.overlay is None else named(self.overlay),
            planes=tuple(map(named, self.planes)),
        )

    def frames_done(self, suffix: str | None) -> list[Path]:
        """Returns the label maps that the frames of a video have, in the order of the frames."""
        last = self.planes[-1] if self.planes else self.labels  # planes are written in their order
        found = [] if last is None else last.glob(f"*{suffix}")
        return sorted((path for path in found if path.stem.isdecimal()), key=lambda path: int(path.stem))


@dataclass(frozen=True)
class _Found:
    """One image or video, and its folder below the one that was named: the results keep that folder."""

    source: str
    folder: Path = Path()
    is_alone: bool = False  # named itself, not found in a folder or by a glob pattern
    files: tuple[str, ...] = ()  # of an image of several


def read_names(sources: Sequence[str]) -> list[str]:
    """Returns the sources with `-` replaced by the names that stdin has, one per line; blank lines are skipped.

    Raises:
        UsageError: if stdin has no names, or `-` is given twice.
    """
    if "-" not in sources:
        return list(sources)
    if sources.count("-") > 1:
        raise UsageError("- stands for the names on stdin, which can be read once only; give it once")
    stream = sys.stdin
    if hasattr(stream, "reconfigure"):
        # names of files may have any bytes, as in arguments
        stream.reconfigure(errors="surrogateescape")
    if stream is not None and stream.isatty():
        print("seg: reading names of images from stdin, one per line; Ctrl-D ends them", file=sys.stderr)
    lines = [] if stream is None else [line.rstrip("\r\n") for line in stream]
    names = [line for line in lines if line.strip()]
    if not names:
        raise UsageError("- reads names of images from stdin, one per line, but stdin has none; pipe names into it")
    if any("\0" in name for name in names):
        raise UsageError(
            "the names on stdin are separated by NUL characters; - reads one name per line: write find -print, not "
            "-print0"
        )
    place = sources.index("-")
    return [*sources[:place], *names, *sources[place + 1 :]]


def find_jobs(sources: Sequence[str], out: Path, outputs: Outputs, *, stack: bool = False) -> list[Job]:
    """Returns a job for each image and video; nothing is read or written yet.

    The results of a folder have its subfolders, those of a glob pattern the folders below its first wildcard. An image
    that is given twice, such as in a folder and alone, has one job. What is left out is said on stderr.

    Args:
        sources: images, folders, glob patterns, URLs and videos.
        out: output folder.
        outputs: what is written for each image.
        stack: whether the sources hold the files of the same images, see `find_stacks`.

    Raises:
        UsageError: if there is no such file, or two images have the same output file, or an output file is an input.
    """
    unique: dict[str, _Found] = {}
    if stack:
        images = [_Found(each.files[0], each.folder, files=each.files) for each in find_stacks(sources, out)]
    else:
        images = [image for source in sources for image in _images_of(source, out)]
    for found in images:
        # not resolved: two links to one image are two images
        path = found.source if is_url(found.source) else os.path.abspath(found.source)  # noqa: PTH100
        unique.setdefault(path, found)
    read = (file for found in unique.values() for file in found.files or (found.source,))
    inputs = {Path(file).resolve() for file in read if not is_url(file)}
    taken: dict[Path, _Found] = {}
    jobs = []
    for found in unique.values():
        job = _make_job(found, out, outputs)
        for target in job.targets:
            if target.resolve() in inputs:
                raise UsageError(
                    f"{target} is one of the images and would be overwritten; choose another folder with --out"
                )
            other = taken.get(target)
            if other is not None and (is_url(job.source) or not _is_same_file(other.source, job.source)):
                raise UsageError(
                    f"{other.source} and {job.source} would both be written to {target}; {_advice(other, found)}"
                )
        if job.targets[0] not in taken:
            jobs.append(job)
        taken |= dict.fromkeys(job.targets, found)
    _check_several_results(jobs, outputs, inputs)
    return jobs


def _check_several_results(jobs: Sequence[Job], outputs: Outputs, inputs: set[Path]) -> None:
    """Checks the jobs that write several files: the label maps of a video's frames, and the frames of an image file.

    Raises:
        UsageError: if the result of another job may be one of these files, or one of the images is.
    """
    folders = {job.labels: job.source for job in jobs if job.labels is not None and is_video(job.source)}
    written = {target: job.source for job in jobs for target in job.targets}
    resolved = {folder.resolve(): folder for folder in folders}
    for image in inputs:
        for above in image.parents:
            if above in resolved:
                raise UsageError(
                    f"{image} is one of the images and could be overwritten by the label maps of the frames of "
                    f"{folders[resolved[above]]}, in {resolved[above]}; choose another folder with --out"
                )
    for target, source in written.items():
        owner = next((folders[above] for above in target.parents if above in folders), None)
        if owner is not None:
            raise UsageError(
                f"{owner} and {source} would both be written to {target.parent}, which is left to the label maps of "
                f"the frames of {owner}; predict them in two runs with different folders for --out"
            )
        found = _NAME_OF_FRAME.fullmatch(target.stem) if outputs.all_frames else None
        if found is None:
            continue
        owner = written.get(target.with_name(f"{found[1]}{found[3] or ''}{target.suffix}"))
        # how many frames the file of a URL has is not known before it is downloaded
        if owner is None or is_video(owner):
            continue
        count = frames_of(owner)[0]
        if is_url(owner) or (count > 1 and count > int(found[2])):
            raise UsageError(
                f"{owner}, frame {int(found[2])}, and {source} would both be written to {target}; predict them in two "
                "runs with different folders for --out"
            )


def _advice(first: _Found, second: _Found) -> str:
    """Returns what to do about two images of one result."""
    apart = "predict them in two runs with different folders for --out"
    if not (first.is_alone and second.is_alone) or is_url(first.source) or is_url(second.source):
        return apart
    folders = [Path(found.source).absolute().parent for found in (first, second)]
    if folders[0] == folders[1]:
        return apart
    above = Path(os.path.commonpath(folders))
    here = above.relative_to(Path.cwd()) if above.is_relative_to(Path.cwd()) else above
    return (
        f"name the folder above them ({here}), or a quoted glob pattern such as '{here / '**' / '*'}"
        f"{Path(second.source).suffix}', which keep subfolders; or {apart}"
    )


def unfinished(jobs: list[Job], outputs: Outputs) -> tuple[list[Job], list[Job]]:
    """Returns the jobs with missing output files and those without, for `--resume`.

    A video without an overlay is never finished, since each of its frames is checked later; the overlay of a video is
    written last.
    """
    left: list[Job] = []
    finished: list[Job] = []
    for job in jobs:
        (finished if _is_finished(job, outputs) else left).append(job)
    done = sum(_count_done(job, outputs) for job in finished) + sum(
        _count_done(job, outputs) for job in left if is_video(job.source) and job.overlay is None
    )
    if done:
        print(f"seg: {count_images(done)} done before", file=sys.stderr)
    return left, finished


def _count_done(job: Job, outputs: Outputs) -> int:
    """Returns the number of images done before: frames count as images, a video without label maps as one."""
    if is_video(job.source):
        return 1 if job.labels is None else len(job.frames_done(outputs.suffix))
    return frames_of(job.source)[0] if outputs.all_frames else 1


def _is_finished(job: Job, outputs: Outputs) -> bool:
    if is_video(job.source):
        return job.overlay is not None and job.overlay.is_file()
    frames = frames_of(job.source)[0] if outputs.all_frames else 1
    parts = [job] if frames == 1 else [job.of_frame(number) for number in range(frames)]
    return all(target.is_file() for part in parts for target in part.targets)


def frames_of(source: str) -> tuple[int, str]:
    """Returns the number of frames or pages of an image file, and `"frame"` or `"page"`.

    One frame if it cannot be read, which is reported later, and for a URL, which is not downloaded.
    """
    if is_url(source):
        return 1, "frame"
    from seg_core.files.images import count_pages

    try:
        return count_pages(source, max_pixels=sys.maxsize)
    except UserError:
        return 1, "frame"


def _images_of(source: str, out: Path) -> Iterator[_Found]:
    """Yields the images of one argument: one image, or those of a folder or a glob pattern."""
    if not source.strip():
        raise UsageError("an argument of IMAGES is empty; name an image, a folder, a glob pattern or a URL")
    if is_url(source):
        yield _Found(source, is_alone=True)
    elif is_folder(source) or is_pattern(source):
        yield from _images_of_several(source, out)
    elif Path(source).exists():
        yield _Found(source, is_alone=True)
    elif source.isdecimal():
        raise UsageError(
            f"there is no image or folder {source}, and cameras are not read; pass the path of a video, or in Python "
            "a generator of frames to the Predictor"
        )
    else:
        raise UsageError(f"there is no image or folder {source} (current folder: {Path.cwd()}); check the path")


def _images_of_several(source: str, out: Path) -> list[_Found]:
    """Returns the images and videos of a folder and its subfolders, or of a glob pattern, without those in `out`.

    Raises:
        UsageError: if there are none.
    """
    try:
        found = list_files(source, recursive=True, without=out)
    except ImageNotFoundError as error:
        raise UsageError(str(error)) from error
    for text in (found.folders_text, found.left_out_text):
        if text:
            print(f"seg: {text} in {source}", file=sys.stderr)
    return [_Found(str(path), path.parent.relative_to(found.root)) for path in found.paths]


def _is_same_file(first: str, second: str) -> bool:
    return not is_url(first) and Path(first).resolve() == Path(second).resolve()


def _make_job(found: _Found, out: Path, outputs: Outputs) -> Job:
    source = found.source
    stem = url_stem(source) if is_url(source) else Path(source).stem
    if not stem:
        raise UsageError(f"URL {source} has no file name for the results; download the image and name the file")
    folder = out / found.folder
    labels = overlay = None
    if outputs.suffix is not None:
        labels = folder / (stem if is_video(source) else f"{stem}{outputs.suffix}")
    if outputs.overlay is not None:
        overlay = folder / f"{stem}_overlay{'.mp4' if is_video(source) else outputs.overlay}"
    return Job(source, labels, overlay, found.files)
