"""What a run of `seg predict` has written: for its closing lines, `--json` and `--csv`."""

import csv
import io
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import UserError
from seg_core.files.images import read_mask
from seg_core.files.json_text import to_json
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTILABEL
from seg_models.commands.predict.jobs import Job
from seg_models.inference.prediction import class_areas

__all__ = ["Report"]

_WITH_IDS = (".png", ".tif")  # label maps whose areas can be read again


class Report:
    """Collects the results of images, in the order of their jobs.

    Args:
        jobs: all jobs of the run, also those done before.
        metadata: names of the classes.
        only: the classes that are kept, by id.
        reads_old: whether the areas of images that were done before are read from their label maps.

    Attributes:
        labels: number of label maps written.
        overlays: number of overlays of images written.
        videos: number of overlay videos written.
        done_before: number of images and frames that were done before.
        failed: name and error of each image that could not be predicted.
    """

    def __init__(
        self, jobs: Sequence[Job], metadata: DatasetMetadata, only: Sequence[str] | None, *, reads_old: bool
    ) -> None:
        self.labels = self.overlays = self.videos = self.done_before = 0
        self.failed: list[dict[str, Any]] = []
        self._metadata = metadata
        self._reads_old = reads_old
        self._classes = list(metadata.labels if only is None else only)
        self._places = {job.source: place for place, job in enumerate(jobs)}
        # (place of the job, frame) -> entry
        self._images: dict[tuple[int, int], dict[str, Any]] = {}
        self._rows: dict[tuple[int, int], tuple[str, Mapping[str, int] | None]] = {}
        self._mark = time.perf_counter()

    def add(
        self, job: Job, size: tuple[int, int], areas: Mapping[str, int], *, source: str | None = None, frame: int = 0
    ) -> None:
        """Adds an image, or a frame of an image file, that was written.

        Args:
            job: its output files; an overlay of None was not written.
            size: its (height, width) in pixels.
            areas: pixels of each class that occurs.
            source: name of the frame, such as "scan.tif, frame 2"; None for the source of the job.
            frame: number of the frame.
        """
        self.labels += job.labels is not None
        self.overlays += job.overlay is not None
        self._add(job, source or job.source, frame, size, areas, seconds=self._seconds())

    def add_frame(self, job: Job, number: int, areas: Mapping[str, int]) -> None:
        """Adds a frame of a video that was predicted."""
        self.labels += job.labels is not None
        self._rows[self._places[job.source], number] = (f"{job.source}, frame {number}", areas)

    def add_video(self, job: Job, size: tuple[int, int] | None, *, done_before: bool = False) -> None:
        """Adds a video after its frames.

        Args:
            job: its output files.
            size: (height, width) of a frame in pixels, if known.
            done_before: whether its overlay was done before.
        """
        self.videos += job.overlay is not None and not done_before
        self.done_before += done_before and job.labels is None
        place = self._places[job.source]
        rows = [areas for (of, _), (_, areas) in self._rows.items() if of == place]
        known = [areas for areas in rows if areas is not None]
        total = {name: sum(areas.get(name, 0) for areas in known) for name in self._classes}
        total = {name: total[name] for name in sorted(total, key=lambda name: -total[name]) if total[name]}
        pixels = None if size is None else size[0] * size[1] * len(rows)
        entry = self._entry(job, job.source, size, total if len(known) == len(rows) else None, pixels)
        facts = {"done_before": True} if done_before else {"seconds": self._seconds()}
        self._images[place, 0] = entry | {"frames": len(rows)} | facts

    def add_done_before(self, job: Job, *, source: str | None = None, frame: int = 0) -> None:
        """Adds an image that was done before; its areas are read from its label map."""
        self.done_before += 1
        size, areas = self._read(job)
        self._add(job, source or job.source, frame, size, areas, done_before=True)

    def add_frame_done_before(self, job: Job, number: int) -> tuple[int, int] | None:
        """Adds a frame of a video that was done before; returns the (height, width) of its label map, if known.

        Args:
            job: the video, with the files of the frame.
            number: number of the frame.
        """
        self.done_before += 1
        size, areas = self._read(job)
        self._rows[self._places[job.source], number] = (f"{job.source}, frame {number}", areas)
        return size

    def fail(self, source: str, error: str) -> None:
        """Adds an image that could not be predicted."""
        self.failed.append({"source": source, "error": error})
        self._seconds()

    def json(self, **facts: Any) -> str:
        """Returns the report as JSON, after `facts` about the run."""
        images = [self._images[place] for place in sorted(self._images)]
        return to_json(
            {
                **facts,
                "classes": self._classes,
                "done_before": self.done_before,
                "images": images,
                "failed": self.failed,
            },
            indent=2,
        )

    def csv(self) -> str:
        """Returns the areas in pixels: a row per image or frame, a column per class; empty where they are unknown."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["source", *self._classes])
        for key in sorted(self._rows):
            name, areas = self._rows[key]
            writer.writerow([name, *("" if areas is None else areas.get(label, 0) for label in self._classes)])
        return text.getvalue()

    # ---- entries -----------------------------------------------------------------------------------------------------

    def _add(
        self,
        job: Job,
        source: str,
        frame: int,
        size: tuple[int, int] | None,
        areas: Mapping[str, int] | None,
        **facts: Any,
    ) -> None:
        place = (self._places[job.source], frame)
        pixels = None if size is None else size[0] * size[1]
        self._images[place] = self._entry(job, source, size, areas, pixels) | facts
        self._rows[place] = (source, areas)

    def _entry(
        self,
        job: Job,
        source: str,
        size: tuple[int, int] | None,
        areas: Mapping[str, int] | None,
        pixels: int | None,
    ) -> dict[str, Any]:
        return {
            "source": source,
            "labels": dict(zip(self._classes, map(str, job.planes), strict=True))
            if job.planes
            else (None if job.labels is None else str(job.labels)),
            "overlay": None if job.overlay is None else str(job.overlay),
            "width": None if size is None else size[1],
            "height": None if size is None else size[0],
            "areas": None
            if areas is None
            else {
                name: {"pixels": count, "fraction": None if pixels is None else count / max(pixels, 1)}
                for name, count in areas.items()
            },
        }

    def _read(self, job: Job) -> tuple[tuple[int, int] | None, Mapping[str, int] | None]:
        """Returns size and areas of a label map; None for both if it has no ids or cannot be read."""
        path = job.labels
        if not self._reads_old or path is None or path.suffix not in _WITH_IDS:
            return None, None
        try:
            size, counts = self._counts(path, job.planes)
        except UserError as error:
            print(f"seg: warning: the areas of {path}, done before, are unknown: {error}", file=sys.stderr)
            return None, None
        areas = class_areas(counts, self._metadata)
        return size, {name: areas[name] for name in areas if name in self._classes}

    def _counts(self, path: Path, planes: Sequence[Path]) -> tuple[tuple[int, int], npt.NDArray[np.int64]]:
        """Returns the size of label maps, and the counts that `class_areas` takes.

        Raises:
            UserError: if they cannot be read.
        """
        if self._metadata.task != MULTILABEL:
            ids = read_mask(path)
            return (ids.shape[0], ids.shape[1]), np.bincount(ids.ravel(), minlength=self._metadata.num_ids)
        counts = np.zeros(self._metadata.num_classes, np.int64)
        if planes:
            masks = [read_mask(plane) for plane in planes]
            places = [self._metadata.class_id(name) for name in self._classes]
        else:
            from seg_core.files.gdal import open_gdal_file

            with open_gdal_file(path) as file:
                masks = list(file.read())
            places = list(range(len(masks)))
        for place, mask in zip(places, masks, strict=True):
            counts[place] = np.count_nonzero(mask == 1)
        return (masks[0].shape[0], masks[0].shape[1]), counts

    def _seconds(self) -> float:
        """Returns the seconds since the last result."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        return seconds
