"""The jobs of `seg predict`: the images of files, folders, glob patterns and URLs, and their output files."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from seg_core.errors import ImageNotFoundError, UsageError
from seg_models.commands.predict.progress import count_images
from seg_models.inference.input_paths import is_folder, is_pattern, is_url, is_video, list_files

__all__ = ["Job", "find_jobs", "unfinished"]


@dataclass(frozen=True)
class Job:
    """One image or video, and its output files.

    Attributes:
        source: path or URL.
        labels: file of the label map; for a video the folder of the label maps of its frames.
        overlay: image or video with the classes overlaid, or None.
    """

    source: str
    labels: Path
    overlay: Path | None

    @property
    def targets(self) -> tuple[Path, ...]:
        """The label map and, if wanted, the overlay."""
        return (self.labels,) if self.overlay is None else (self.labels, self.overlay)


def find_jobs(sources: Sequence[str], out: Path, suffix: str, overlay: bool) -> list[Job]:
    """Returns a job for each image and video; nothing is read or written yet.

    An image that is given twice, such as in a folder and alone, has one job.

    Args:
        sources: images, folders, glob patterns, URLs and videos.
        out: output folder.
        suffix: suffix of the label maps.
        overlay: whether overlays are written.

    Raises:
        UsageError: if there is no such file, or two images have the same output file, or an output file is an input.
    """
    found = list(dict.fromkeys(image for source in sources for image in _images_of(source)))
    inputs = {Path(source).resolve() for source in found if not is_url(source)}
    taken: dict[Path, str] = {}
    jobs = []
    for source in found:
        job = _make_job(source, out, suffix, overlay)
        for target in job.targets:
            if target.resolve() in inputs:
                raise UsageError(
                    f"{target} is one of the images and would be overwritten; choose another folder with --out"
                )
            if target in taken and (is_url(source) or not _is_same_file(taken[target], source)):
                raise UsageError(
                    f"{taken[target]} and {source} would both be written to {target}; predict them in two runs with "
                    "different folders for --out"
                )
        if job.labels not in taken:
            jobs.append(job)
        taken |= dict.fromkeys(job.targets, source)
    return jobs


def unfinished(jobs: list[Job]) -> list[Job]:
    """Returns the jobs with missing output files, for `--resume`; videos stay, since each frame is checked later."""
    left = [job for job in jobs if is_video(job.source) or not all(target.is_file() for target in job.targets)]
    if len(left) < len(jobs):
        print(f"seg: {count_images(len(jobs) - len(left))} done before", file=sys.stderr)
    return left


def _images_of(source: str) -> Iterator[str]:
    """Yields the images of one argument: one image, or those of a folder or a glob pattern."""
    if is_url(source):
        yield source
    elif is_folder(source) or is_pattern(source):
        try:
            yield from map(str, list_files(source).paths)
        except ImageNotFoundError as error:
            raise UsageError(str(error)) from error
    elif Path(source).exists():
        yield source
    else:
        raise UsageError(f"there is no image or folder {source} (current folder: {Path.cwd()}); check the path")


def _is_same_file(first: str, second: str) -> bool:
    return not is_url(first) and Path(first).resolve() == Path(second).resolve()


def _make_job(source: str, out: Path, suffix: str, overlay: bool) -> Job:
    stem = Path(unquote(urlparse(source).path)).stem if is_url(source) else Path(source).stem
    if not stem:
        raise UsageError(f"URL {source} has no file name for the results; download the image and name the file")
    if is_video(source):
        return Job(source, out / stem, out / f"{stem}_overlay.mp4" if overlay else None)
    return Job(source, out / f"{stem}{suffix}", out / f"{stem}_overlay.jpg" if overlay else None)
