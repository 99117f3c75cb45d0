"""Predicts the jobs of `seg predict`: images in batches, large images tile by tile, videos frame by frame."""

import contextlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from seg_core.errors import InvalidArgumentError, UserError, WriteError
from seg_core.files.images import read_header
from seg_models.commands.predict.jobs import Job
from seg_models.commands.predict.progress import ImageProgress
from seg_models.inference.downloads import local_file
from seg_models.inference.input_paths import ARRAY_SUFFIXES, is_url, is_video
from seg_models.inference.prediction import Prediction
from seg_models.inference.predictor import Predictor
from seg_models.inference.video import VideoWriter, frame_rate, read_timed_frames

__all__ = ["JobRunner"]

# Images with more pixels are predicted to a file tile by tile, if --tile and --format tiff are given.
_MAX_PIXELS_IN_MEMORY = 2**26


class JobRunner:
    """Predicts jobs. Images that cannot be read or predicted are reported and skipped; a write error ends the run.

    Args:
        predictor: predicts each image.
        progress: counts images and prints problems.
        suffix: suffix of the label maps.
        resume: whether frames of videos are skipped if their label maps exist.
    """

    def __init__(self, predictor: Predictor, progress: ImageProgress, suffix: str, resume: bool) -> None:
        self.predictor = predictor
        self.progress = progress
        self.suffix = suffix
        self.resume = resume

    def run(self, jobs: Sequence[Job]) -> None:
        """Predicts all jobs: first the images that fit in memory, batch by batch, then large images and videos."""
        images: dict[str, Job] = {}
        others: list[Job] = []
        for job in jobs:
            if is_video(job.source) or self._is_large(job):
                others.append(job)
            else:
                images[job.source] = job
        for prediction in self.predictor.stream(list(images), on_error=self._report):
            assert prediction.source is not None
            self._save(prediction, images[prediction.source])
        for job in others:
            if is_video(job.source):
                self._predict_video(job)
            else:
                self._predict_large(job)

    def _report(self, name: str | None, error: Exception) -> None:
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        self.progress.report(text if name is None or name in text else f"{name}: {text}")

    def _save(self, prediction: Prediction, job: Job) -> None:
        prediction.save(job.labels)
        if job.overlay is not None:
            self._save_overlay(prediction, job.overlay)
        self.progress.advance()

    def _save_overlay(self, prediction: Prediction, path: Path) -> None:
        try:
            prediction.save_overlay(path)
        except InvalidArgumentError as error:  # JPEG holds no image of this size
            path = path.with_suffix(".png")
            prediction.save_overlay(path)
            self.progress.message(f"{error}; it was written as {path.name}")

    def _is_large(self, job: Job) -> bool:
        """Returns whether an image is predicted to a file tile by tile."""
        if Path(job.source).suffix.lower() in ARRAY_SUFFIXES:
            return True
        if self.suffix != ".tif" or self.predictor.tile is None or is_url(job.source):
            return False
        try:
            header = read_header(job.source)
        except UserError:
            return False  # reported when the image is read
        pixels = header.width * header.height
        # images that cannot be read tile by tile are read at once, up to the limit
        return pixels > _MAX_PIXELS_IN_MEMORY and (header.is_plain or pixels > self.predictor.max_pixels)

    def _predict_large(self, job: Job) -> None:
        if job.labels.suffix != ".tif":
            self.progress.report(f"{job.source} is read tile by tile; it needs --tile and --format tiff")
            return
        if job.overlay is not None:
            self.progress.message(f"{job.source} is written tile by tile, without an overlay")
        try:
            self.predictor.predict_to_file(job.source, job.labels, on_progress=self.progress.show_fraction)
        except WriteError:
            raise
        except UserError as error:
            self._report(job.source, error)
        else:
            self.progress.advance()

    def _predict_video(self, job: Job) -> None:
        if self.resume and job.overlay is not None and job.overlay.is_file():  # written last
            return
        numbers: list[int] = []  # of the frames that are predicted
        times: list[Fraction] = []

        def frames(path: Path) -> Iterator[Any]:
            for number, (frame, time) in enumerate(read_timed_frames(path)):
                # the overlay video is one file, which needs all frames
                if job.overlay is None and self.resume and self._labels_of_frame(job, number).is_file():
                    continue
                numbers.append(number)
                times.append(time)
                yield frame

        try:
            with contextlib.ExitStack() as stack:
                path = stack.enter_context(local_file(job.source, "video"))
                video = None
                if job.overlay is not None:
                    video = stack.enter_context(VideoWriter(job.overlay, frame_rate(path)))
                for index, prediction in enumerate(self.predictor.stream(frames(path))):
                    prediction.save(self._labels_of_frame(job, numbers[index]))
                    if video is not None:
                        video.write(prediction.overlay(), times[index])
                    self.progress.advance()
        except WriteError:
            raise
        except UserError as error:
            self._report(job.source, error)

    def _labels_of_frame(self, job: Job, number: int) -> Path:
        return job.labels / f"{number:06d}{self.suffix}"
