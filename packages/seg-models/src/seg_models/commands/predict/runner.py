"""Predicts the jobs of `seg predict`: images in batches, large images tile by tile, videos frame by frame."""

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from seg_core.errors import InvalidArgumentError, UserError, WriteError
from seg_core.files.channel_files import channels_size
from seg_core.files.images import WHOLE_PIXELS, read_header
from seg_models.commands.predict.jobs import Job, Outputs, frames_of
from seg_models.commands.predict.progress import ImageProgress
from seg_models.commands.predict.report import Report
from seg_models.inference.downloads import local_file
from seg_models.inference.input_paths import ARRAY_SUFFIXES, is_url, is_video
from seg_models.inference.output_paths import file_and_page
from seg_models.inference.prediction import Prediction
from seg_models.inference.predictor import Predictor
from seg_models.inference.video import VideoWriter, count_frames, frame_rate, read_timed_frames

__all__ = ["JobRunner"]

_AS_FILE = re.compile(r"pass the path of a file (?:named|with the suffix) (.*), or its frames$")  # of a video


class JobRunner:
    """Predicts jobs. Images that cannot be read or predicted are reported and skipped; a write error ends the run.

    Args:
        predictor: predicts each image.
        progress: counts images and prints problems.
        report: collects what is written.
        outputs: what is written for each image.
        style: keyword arguments of `Prediction.overlay`.
        resume: whether frames of videos are skipped if their label maps exist.
    """

    def __init__(
        self,
        predictor: Predictor,
        progress: ImageProgress,
        report: Report,
        outputs: Outputs,
        style: Mapping[str, Any],
        *,
        resume: bool,
    ) -> None:
        self.predictor = predictor
        self.progress = progress
        self.report = report
        self.suffix = outputs.suffix
        self.all_frames = outputs.all_frames
        self.style = style
        self.resume = resume
        self._images: dict[str, Job] = {}
        self._frames_counted: Counter[str] = Counter()  # of image files: predicted, or reported themselves

    def run(self, jobs: Sequence[Job]) -> None:
        """Predicts all jobs: first the images that fit in memory, batch by batch, then large images and videos."""
        images = self._images = {}
        others: list[Job] = []
        for job in jobs:
            if is_video(job.source) or self._is_large(job):
                others.append(job)
            else:
                images[job.source] = job
        sources = [job.files or job.source for job in images.values()]
        for prediction in self.predictor.stream(sources, on_error=self._report):
            assert prediction.source is not None
            self._save(prediction, images)
        for job in others:
            if is_video(job.source):
                self._predict_video(job)
            else:
                self._predict_large(job)

    def add_finished(self, jobs: Sequence[Job]) -> None:
        """Adds jobs that were done before to the report."""
        for job in jobs:
            frames, noun = frames_of(job.source) if self.all_frames and not is_video(job.source) else (1, "frame")
            if is_video(job.source):
                self._add_finished_video(job)
            elif frames == 1:
                self.report.add_done_before(job)
            else:
                for number in range(frames):
                    part = job.of_frame(number)
                    self.report.add_done_before(part, source=f"{job.source}, {noun} {number}", frame=number)

    def _report(self, name: str | None, error: Exception) -> None:
        """Reports an image that could not be predicted, or a frame, or the rest of an image file of several frames."""
        source = name or ""
        if self.all_frames and source in self._images:
            # the frames that are left count as one image that failed
            expected = frames_of(source)[0]
            self.progress.expect(self._frames_counted[source] + 1 - expected)
        elif (file := file_and_page(source)[0]) != source:
            self._frames_counted[file] += 1
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if is_url(source):
            text = _AS_FILE.sub(r"download it to a file with the suffix \1 and pass its path", text)
        self.progress.report(text if name is None or name in text else f"{name}: {text}")
        self.report.fail(name or "", text)

    def _save(self, prediction: Prediction, jobs: Mapping[str, Job]) -> None:
        source = prediction.source
        assert source is not None
        job, number = jobs.get(source), 0
        if job is None:  # a frame of an image file
            file, number = file_and_page(source)
            job = jobs[file]
            self._frames_counted[file] += 1
            if number or frames_of(job.source)[0] > 1:
                job = job.of_frame(number)
        self._save_labels(prediction, job)
        if job.overlay is not None:
            job = replace(job, overlay=self._save_overlay(prediction, job.overlay))
        height, width = prediction.labels.shape[-2:]
        self.report.add(job, (height, width), prediction.areas, source=source, frame=number)
        self.progress.advance()

    def _save_labels(self, prediction: Prediction, job: Job) -> None:
        """Writes the label map of an image or a frame, or one per class."""
        if job.planes:
            kept = self.predictor.only or prediction.metadata.labels
            for name, path in zip(kept, job.planes, strict=True):
                prediction.plane(name).save(path)
        elif job.labels is not None:
            prediction.save(job.labels)

    def _save_overlay(self, prediction: Prediction, path: Path) -> Path:
        """Writes an overlay; returns its path, which is that of a PNG if the format holds no image of this size."""
        try:
            prediction.save_overlay(path, **self.style)
        except InvalidArgumentError as error:
            if path.suffix == ".png":
                raise
            path = path.with_suffix(".png")
            prediction.save_overlay(path, **self.style)
            self.progress.message(f"{error}; it was written as {path.name}")
        return path

    def _is_large(self, job: Job) -> bool:
        """Returns whether an image is predicted to a file tile by tile."""
        if not self.predictor.channels.is_rgb8 or job.files:
            return self._is_large_described(job)
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
        is_large = pixels > self.predictor.max_pixels or (pixels > WHOLE_PIXELS and header.is_plain)
        # frames are predicted in memory, up to the limit
        return is_large and not (self.all_frames and frames_of(job.source)[0] > 1)

    def _is_large_described(self, job: Job) -> bool:
        """Returns whether an image of described channels is predicted to a file tile by tile."""
        if self.suffix != ".tif" or self.predictor.tile is None or any(map(is_url, job.files or (job.source,))):
            return False
        try:
            height, width = channels_size(
                job.files or job.source, self.predictor.channels, allow_vrt=self.predictor.allow_vrt
            )
        except UserError:
            return False  # reported when the image is read
        if height * width > self.predictor.max_pixels:
            return True
        # an image in memory takes as much for each channel
        return height * width * self.predictor.channels.count > 3 * WHOLE_PIXELS

    def _predict_large(self, job: Job) -> None:
        if job.labels is None or job.labels.suffix != ".tif":
            problem = f"{job.source} is read tile by tile; it needs --tile and --format tiff"
            self.progress.report(problem)
            self.report.fail(job.source, problem)
            return
        if job.overlay is not None:
            self.progress.message(f"{job.source} is written tile by tile, without an overlay")
        try:
            written = self.predictor.predict_to_file(
                job.files or job.source, job.labels, on_progress=self.progress.show_fraction
            )
        except WriteError:
            raise
        except UserError as error:
            self._report(job.source, error)
        else:
            self.report.add(replace(job, overlay=None), written.size, written.areas)
            self.progress.advance()

    def _predict_video(self, job: Job) -> None:
        style = dict(self.style)
        if style.get("legend"):
            # all classes, not those that occur: the frames of a video have one size
            style["legend"] = list(self.predictor.only or self.predictor.metadata.labels)
        numbers: list[int] = []  # of the frames that are predicted
        times: list[Fraction] = []
        expected, predicted, skipped, failed = count_frames(job.source) or 0, 0, 0, False
        size: tuple[int, int] | None = None

        def frames(path: Path) -> Iterator[Any]:
            nonlocal size, skipped
            for number, (frame, time) in enumerate(read_timed_frames(path, self.predictor.max_pixels)):
                part = self._job_of_frame(job, number)
                labels = part.planes[-1] if part.planes else part.labels  # what is written last
                # the overlay video is one file, which needs all frames
                if job.overlay is None and self.resume and labels is not None and labels.is_file():
                    size = self.report.add_frame_done_before(part, number) or size
                    skipped += 1
                    self.progress.expect(-1)
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
                    self._save_labels(prediction, self._job_of_frame(job, numbers[index]))
                    if video is not None:
                        video.write(prediction.overlay(**style), times[index])
                    size = (prediction.labels.shape[-2], prediction.labels.shape[-1])
                    self.report.add_frame(job, numbers[index], prediction.areas)
                    predicted += 1
                    self.progress.advance()
        except WriteError:
            raise
        except UserError as error:
            failed = True
            self._report(job.source, error)
        else:
            self.report.add_video(job, size)
        # a damaged video has fewer frames than it specifies, and counts as one image that failed
        self.progress.expect(predicted + skipped + failed - expected)

    def _add_finished_video(self, job: Job) -> None:
        """Adds a video whose overlay was done before, with the label maps that it has."""
        size = None
        for path in job.frames_done(self.suffix):
            number = int(path.stem)
            size = self.report.add_frame_done_before(self._job_of_frame(job, number), number) or size
        self.report.add_video(job, size, done_before=True)

    def _job_of_frame(self, job: Job, number: int) -> Job:
        """Returns the job of a frame of a video, whose label maps are files in those of the video."""
        name = f"{number:06d}{self.suffix}"
        labels = None if job.labels is None else job.labels / name
        return replace(job, labels=labels, planes=tuple(folder / name for folder in job.planes))
