"""Decodes each image and mask of a dataset once, in parallel, and keeps a few numbers of each.

What is kept of a pair is one row of `RECORD`, less than 100 bytes. Sentences are kept of files that cannot be read
only. Files are read by processes if there are many: of small files most of the time is spent by Python itself, of which
threads run one at a time. The cache of mask scans is not used: it knows ids alone, and whether a file is damaged, how
it stores its ids and what its edges look like is known when its pixels are read.
"""

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import CorruptFileError, LabelOutOfRangeError, UserError
from seg_core.files import images
from seg_core.files.images import Once, StoredMask
from seg_core.files.opening import opened
from seg_core.files.orientation import decode
from seg_core.files.rgb import to_rgb
from seg_core.files.storage import HEIGHT, WIDTH, storage_of
from seg_datasets.doctor.examine_channels import kind_unlike_rgb, look_at
from seg_datasets.doctor.examine_planes import PlaneFault, examine_planes
from seg_datasets.doctor.examine_states import STATE_OF, STATES, ids_in
from seg_datasets.doctor.examine_workers import CHUNK, Workers
from seg_datasets.reading.color_masks import ColorReader
from seg_datasets.reading.mask_kinds import PaletteFile, palette_of
from seg_datasets.reading.mask_options import ThresholdReader
from seg_datasets.reading.mask_regions import smoothed_edges
from seg_datasets.reading.pairs import Names, PairList
from seg_datasets.reading.plane_masks import BitsReader, PlanesReader
from seg_datasets.reading.samples import MaskReader, Reading

__all__ = [
    "ENDS",
    "RECORD",
    "STATES",
    "Chunk",
    "Examined",
    "Examiner",
    "content_of",
    "examine",
    "ids_in",
    "image_fault",
    "unnamed",
]

RECORD = np.dtype(
    [
        ("image", "u1"),  # state
        ("image_size", "u4", 2),  # height and width as stored
        ("tag", "u1"),  # orientation
        ("color", "?"),
        ("alpha", "?"),  # some pixel is transparent
        ("flat", "?"),  # hardly any contrast, so that the difference hash says nothing
        ("levels", "u2"),  # different values of an image of one channel; 0 of others
        ("content", "u8"),  # hash of the length of the file, its start and its end
        ("look", "u8"),  # difference hash
        ("mask", "u1"),  # state
        ("mask_size", "u4", 2),
        ("bits", "u1"),  # of a sample of the mask
        ("gray", "?"),  # the mask has no palette and one channel
        ("palette", "i2"),  # its number, -1 without
        ("many", "?"),  # a mask of more colors than classes have
        ("soft", "?"),  # edges are smoothed
        ("large", "?"),  # ids above 255
        ("ids", "u1", 32),  # a bit for each id below 256
    ]
)
"""What is kept of a pair of image and mask."""

ENDS = 4096
"""Bytes at the start and the end of a file by which its content is compared first."""

_AHEAD = 32  # chunks that wait to be read, or for those before them
_QUEUED = 2  # chunks of each process or thread
_FLAT = 8  # levels
_LOOK = (9, 8)  # width and height that images are reduced to for their difference hash
_LUMINANCE = np.array([19595, 38470, 7471])  # 65536 times the weights of Pillow
_LARGE = 65_536  # pixels from which a first reduction by an integer factor is faster
_FEW_IDS = 3  # two classes and one between them are no smoothed edge
_RARE = 0.1  # share of the pixels
_MOST_COLORS = 64
_MOST_PALETTES = 32_000
_DECODERS = (ColorReader, ThresholdReader, PlanesReader, BitsReader)  # of masks that hold no plain ids


@dataclass
class Examined:
    """What is kept of the pairs of a split.

    Attributes:
        rows: `RECORD` (n,).
        notes: (row, `"image"` or `"mask"`) -> the sentence about a file that cannot be read, or about a palette.
        large: row -> ids above 255.
        planes: row -> the ids of each plane of a mask that has planes.
        plane_faults: row -> class, state and sentence of each file that is not `"ok"`, of a mask with a file per class.
    """

    rows: npt.NDArray[Any]
    notes: dict[tuple[int, str], str] = field(default_factory=dict)
    large: dict[int, frozenset[int]] = field(default_factory=dict)
    planes: dict[int, tuple[frozenset[int], ...]] = field(default_factory=dict)
    plane_faults: dict[int, tuple[PlaneFault, ...]] = field(default_factory=dict)


def content_of(length: int, start: bytes, end: bytes) -> int:
    """Returns a hash of 64 bits of the length of a file and its first and last `ENDS` bytes."""
    # checksums are enough, since files that seem to be the same are compared, and take a fifth of the time of a hash
    return zlib.crc32(start, length & 0xFFFFFFFF) << 32 | zlib.crc32(end, length & 0xFFFFFFFF)


def image_fault(image: Image.Image) -> tuple[str, str] | None:
    """Returns the state of an image that is of a kind that is not read, and why, by its header; None if it is read."""
    storage = storage_of(image)
    problem = storage.image_problem(image.mode) or _surplus(storage.channels, image)
    if problem and storage.channels > 3 and storage.bits == 8:
        return "mixed-channels", problem
    if problem:
        is_deep = storage.bits > 8 or storage.is_float or storage.is_signed
        return "wrong-bit-depth" if is_deep else "unreadable-image", problem
    return None


@dataclass(frozen=True)
class Examiner:
    """Reads a pair of files as a dataset does; processes get a copy.

    Attributes:
        reader: reads the ids of a mask; None for ids as they are stored.
        reading: orientation, largest size and the check of palettes.
    """

    reader: MaskReader | None
    reading: Reading

    def __call__(self, pairs: Sequence[Names]) -> "Chunk":
        """Returns what is kept of some pairs of paths; a mask is "" if there is none.

        Behind image and mask stand the other files of an image of several, and the files of a mask of one per class.
        """
        chunk = Chunk(np.zeros(len(pairs), RECORD))
        chunk.rows["palette"] = -1
        for row, (image, mask, more, planes) in enumerate(pairs):
            if self.reading.channels.is_rgb8:
                self._image(chunk, row, image)
            elif fault := look_at(chunk.rows[row], [image, *more], self.reading):
                chunk.fail(row, "image", *fault)
            if planes:
                examine_planes(self.mask, chunk, row, planes)
            else:
                self.mask(chunk, row, mask)
        chunk.look()
        return chunk

    # ---- images ------------------------------------------------------------------------------------------------------

    def _image(self, chunk: "Chunk", row: int, path: str) -> None:
        record = chunk.rows[row]
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - faster than a path's own
                data = file.read()
        except OSError as error:
            chunk.fail(row, "image", "unreadable-image", f"cannot be read: {error.strerror or error}")
            return
        if not data:
            chunk.fail(row, "image", "empty-file")
            return
        record["content"] = content_of(len(data), data[:ENDS], data[-ENDS:])
        try:
            with opened(data, "image", path, self.reading.max_pixels) as (image, _):
                if fault := image_fault(image):
                    chunk.fail(row, "image", *fault)
                    return
                tags = getattr(image, "tag_v2", None)
                size = image.size if tags is None else (tags[WIDTH], tags[HEIGHT])
                record["color"] = image.mode not in ("1", "L", "LA", "La")
                # of a JPEG the brightness alone is enough, and takes half the time; damage is found as well
                image.draft("L", None)
                decoded, record["tag"] = decode(image, "check")
                record["image_size"] = size[::-1]
                self._look(chunk, row, decoded)
        except UserError as error:
            chunk.fail(row, "image", kind_unlike_rgb(path) or "unreadable-image", unnamed(str(error), "image", path))

    def _look(self, chunk: "Chunk", row: int, image: Image.Image) -> None:
        record, mode = chunk.rows[row], image.mode
        if "A" in mode:
            record["alpha"] = _is_transparent(image)
        elif "transparency" in image.info:
            record["alpha"] = _is_transparent(image.convert("RGBA"))
        if mode in ("1", "L", "P") and (mode == "P" or not record["color"]):
            record["levels"] = sum(map(bool, image.histogram()[:256]))
        plain = image if mode in ("L", "RGB") else to_rgb(image)
        gap = 1.0 if image.width * image.height > _LARGE else None
        chunk.reduced[row] = plain.resize(_LOOK, Image.Resampling.BOX, reducing_gap=gap)

    # ---- masks -------------------------------------------------------------------------------------------------------

    def mask(self, chunk: "Chunk", row: int, path: str) -> None:
        """Adds what is kept of a mask."""
        if not path:
            chunk.rows["mask"][row] = STATE_OF["absent"]
            return
        try:
            self._ids(chunk, row, path)
        except OSError as error:
            chunk.fail(row, "mask", "unreadable-mask", f"cannot be read: {getattr(error, 'strerror', None) or error}")
        except (CorruptFileError, LabelOutOfRangeError) as error:
            if path.endswith(".mat") or isinstance(self.reader, ThresholdReader | PlanesReader | BitsReader):
                chunk.fail(row, "mask", "unreadable-mask", unnamed(str(error), "mask", path))
            else:
                self._why(chunk, row, path, unnamed(str(error), "mask", path))

    def _ids(self, chunk: "Chunk", row: int, path: str) -> None:
        record = chunk.rows[row]
        is_own = isinstance(self.reader, _DECODERS)
        if self.reader is not None and (is_own or path.endswith(".mat")):
            if not os.path.getsize(path):  # noqa: PTH202 - faster
                chunk.fail(row, "mask", "empty-file")
                return
            ids = self.reader(Path(path), self.reading)
            record["bits"] = 8
        else:
            with open(path, "rb") as file:  # noqa: PTH123 - faster than a path's own
                data = file.read()
            if not data:
                chunk.fail(row, "mask", "empty-file")
                return
            mask = images.load_mask(data, max_pixels=self.reading.max_pixels, name=path)
            record["bits"], mode = mask.bits, mask.image.mode
            record["gray"] = mode in ("1", "L") or mode.startswith("I")
            if mode == "P":
                self._palette(chunk, row, mask)
            if mode in ("L", "P") and mask.bits == 8 and not mask.inverted:  # the values are the ids
                record["mask_size"] = mask.image.height, mask.image.width
                self._of_bytes(record, mask.image)
                return
            ids = images.ids_of(mask, Once() if mode in ("RGB", "RGBA") else None)
            if mode in ("RGB", "RGBA"):
                record["mask"] = STATE_OF["rgb-mask"]
        record["mask_size"] = ids.shape[-2:]
        if ids.ndim == 3:
            chunk.planes[row] = tuple(frozenset(np.unique(plane).tolist()) for plane in ids)
            ids = ids.reshape(-1, ids.shape[-1])
        if ids.dtype == np.uint8:
            self._of_bytes(record, Image.fromarray(np.ascontiguousarray(ids)))
            return
        values = np.unique(ids)
        found = np.zeros(256, bool)
        found[values[values < 256]] = True
        record["ids"] = np.packbits(found)
        if values[-1] > 255:
            record["large"] = True
            chunk.large[row] = frozenset(values[values > 255].tolist())
        record["soft"] = len(values) > _FEW_IDS and smoothed_edges(ids)

    def _of_bytes(self, record: Any, image: Image.Image) -> None:
        """Adds the ids of a mask of one channel of 8 bits."""
        counts = image.histogram()
        found = bytes(map(bool, counts))
        record["ids"] = np.packbits(np.frombuffer(found, np.uint8))
        # edges are thin, so that few pixels have the ids of smoothed ones
        rare = _RARE * image.width * image.height
        if found.count(1) > _FEW_IDS and sum(count < rare for count in filter(None, counts)) >= 3:
            record["soft"] = smoothed_edges(np.asarray(image))

    def _palette(self, chunk: "Chunk", row: int, mask: StoredMask) -> None:
        palette = palette_of(mask.image)
        chunk.rows["palette"][row] = chunk.palettes.setdefault(palette, len(chunk.palettes))
        if self.reading.palette is not None and (text := self.reading.palette.describe(mask)):
            chunk.notes[row, "mask"] = text

    def _why(self, chunk: "Chunk", row: int, path: str, text: str) -> None:
        """Adds why a mask cannot be read."""
        record = chunk.rows[row]
        try:
            with opened(path, "mask", None, self.reading.max_pixels) as (image, _):
                storage = storage_of(image)
                if storage.is_lossy or storage.is_float or storage.mask_problem():
                    state = "jpeg-mask" if storage.is_lossy else "float-mask" if storage.is_float else "wrong-bit-depth"
                    is_deep = storage.bits > 32 or storage.is_signed or (storage.bits > 8 and storage.channels > 1)
                    if state == "wrong-bit-depth" and (storage.flaw or storage.is_scaled or not is_deep):
                        state = "unreadable-mask"
                    if storage.is_lossy:  # an image in the place of a mask is one in most cases
                        record["many"] = _has_many_colors(to_rgb(image))
                    chunk.fail(row, "mask", state, text)
                    return
                decoded, tag = decode(image, "check")
                if tag != 1:
                    chunk.fail(row, "mask", "orientation", text)
                elif decoded.mode in ("RGB", "RGBA") and "opaque" not in text:
                    record["many"] = _has_many_colors(to_rgb(decoded))
                    chunk.fail(row, "mask", "color-mask", text)
                else:
                    chunk.fail(row, "mask", "unreadable-mask", text)
        except UserError:
            chunk.fail(row, "mask", "unreadable-mask", text)


@dataclass
class Chunk:
    """What is kept of some pairs; see `Examined`."""

    rows: npt.NDArray[Any]
    notes: dict[tuple[int, str], str] = field(default_factory=dict)
    large: dict[int, frozenset[int]] = field(default_factory=dict)
    planes: dict[int, tuple[frozenset[int], ...]] = field(default_factory=dict)
    plane_faults: dict[int, tuple[PlaneFault, ...]] = field(default_factory=dict)
    palettes: dict[PaletteFile, int] = field(default_factory=dict)
    reduced: dict[int, Image.Image] = field(default_factory=dict)

    def look(self) -> None:
        """Sets the difference hashes of the images that were reduced; of all at once this takes less time."""
        if not self.reduced:
            return
        width, height = _LOOK
        sheet = Image.new("RGB", (width, height * len(self.reduced)))
        for place, image in enumerate(self.reduced.values()):
            sheet.paste(image, (0, height * place))
        colors = np.asarray(sheet).reshape(-1, height, width, 3)
        values = (colors @ _LUMINANCE + 0x8000) >> 16
        rows = list(self.reduced)
        self.rows["flat"][rows] = np.ptp(values, (1, 2)) < _FLAT
        is_brighter = (values[..., 1:] > values[..., :-1]).reshape(len(rows), -1)
        self.rows["look"][rows] = np.packbits(is_brighter, axis=1).view(">u8")[:, 0]
        self.reduced.clear()

    def fail(self, row: int, which: str, state: str, text: str = "") -> None:
        """Adds that a file cannot be read, and why."""
        self.rows[which][row] = STATE_OF[state]
        if text:
            self.notes[row, which] = text


def examine(
    examiner: Examiner,
    pairs: PairList,
    pool: "Workers | None",
    palettes: dict[PaletteFile, int],
    progress: Callable[[int], object],
) -> Examined:
    """Returns what is kept of pairs.

    Args:
        examiner: reads them.
        pairs: the files.
        pool: reads several at once, beside this process; None reads them here alone.
        palettes: number of each palette; new ones are added.
        progress: called with the number of pairs done.

    Raises:
        MissingDependencyError: if masks need a package that is not installed.
    """
    result = Examined(np.zeros(len(pairs), RECORD))
    done = 0
    for chunk in _chunks(examiner, pairs, pool):
        numbers = np.array([palettes.setdefault(p, len(palettes)) for p in chunk.palettes] + [-1], np.int64)
        chunk.rows["palette"] = np.minimum(numbers[chunk.rows["palette"]], _MOST_PALETTES)
        result.rows[done : done + len(chunk.rows)] = chunk.rows
        result.notes |= {(done + row, which): text for (row, which), text in chunk.notes.items()}
        result.large |= {done + row: ids for row, ids in chunk.large.items()}
        result.planes |= {done + row: ids for row, ids in chunk.planes.items()}
        result.plane_faults |= {done + row: faults for row, faults in chunk.plane_faults.items()}
        done += len(chunk.rows)
        progress(done)
    return result


def _chunks(examiner: Examiner, pairs: PairList, pool: "Workers | None") -> Iterator[Chunk]:
    starts = range(0, len(pairs), CHUNK)
    if pool is None:
        yield from (examiner(_names(pairs, start)) for start in starts)
        return
    pending: deque[Future[Chunk]] = deque()
    most = max(_AHEAD, 2 * _QUEUED * pool.number)
    try:
        for start in starts:
            if sum(not task.done() for task in pending) < _QUEUED * pool.number:
                pending.append(pool.executor.submit(examiner, _names(pairs, start)))
            else:  # this process has a CPU, too, and a fork of it takes longer than reading many small files
                own: Future[Chunk] = Future()
                own.set_result(examiner(_names(pairs, start)))
                pending.append(own)
            while pending and (pending[0].done() or len(pending) >= most):  # so that memory does not grow
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for task in pending:
            task.cancel()


def _names(pairs: PairList, start: int) -> list[Names]:
    return [pairs.strings(row) for row in range(start, min(start + CHUNK, len(pairs)))]


def _surplus(channels: int, image: Image.Image) -> str:
    """Returns that an image has a channel beside its colors that is no alpha, or ""."""
    if channels != 4 or len(image.getbands()) != 3 or image.mode not in ("RGB", "RGBX"):
        return ""
    return "has 4 channels, of which the fourth is no alpha; it is neither red, green nor blue"


def _is_transparent(image: Image.Image) -> bool:
    return image.getchannel("A").histogram()[255] != image.width * image.height


def _has_many_colors(image: Image.Image) -> bool:
    return image.getcolors(_MOST_COLORS) is None


def unnamed(text: str, noun: str, path: str) -> str:
    """Returns a message without the path that it begins with, which the finding names."""
    return text.removeprefix(f"{noun} {path} ")
