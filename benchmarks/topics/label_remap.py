"""From the ids in mask files to train ids, and reading an image with its mask compared with decoding the files."""

import io
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.case import Case, Contender, DisagreementError, Goal
from benchmarks.inputs import blocky_labels, make_image

__all__ = ["CASES"]

Mask = npt.NDArray[np.uint8]
UNUSED = 254  # marks raw ids that are not in the label map


@dataclass(frozen=True)
class Inputs:
    """A mask of raw ids uint8 (H, W), the encoded files of it and its image, and the dataset's label map."""

    raw: Mask
    png: bytes
    jpeg: bytes
    label_map: Any

    @property
    def table(self) -> npt.NDArray[np.uint8]:
        """The label map as a plain lookup table: train id by raw id, uint8 (256,)."""
        table = np.full(256, UNUSED, np.uint8)
        for raw_id, train in self.label_map.mapping.items():
            table[raw_id] = train if isinstance(train, int) else 255
        return table


def _edition(dataset: str) -> Any:
    import seg_datasets

    return getattr(seg_datasets, dataset).edition


def _make_inputs(dataset: str, height: int, width: int) -> Callable[[bool], Inputs]:
    def make_inputs(quick: bool) -> Inputs:
        label_map = _edition(dataset).label_map
        ids = np.array(sorted(label_map.mapping), np.uint8)
        size = (256, 384) if quick else (height, width)
        raw = ids[blocky_labels(*size, num_classes=len(ids), ignored=0.0).numpy()]
        return Inputs(raw, _encoded(raw, "PNG"), _encoded(make_image(*size), "JPEG"), label_map)

    return make_inputs


def _encoded(pixels: npt.NDArray[np.uint8], kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def _ours(inputs: Inputs) -> Callable[[], Mask]:
    return lambda: inputs.label_map(inputs.raw)


def _pil_point(inputs: Inputs) -> Callable[[], Mask]:
    table = inputs.table.tolist()
    return lambda: np.asarray(Image.fromarray(inputs.raw).point(table))


def _numpy_lookup(inputs: Inputs) -> Callable[[], Mask]:
    table = inputs.table
    return lambda: table[inputs.raw]


def _loop(inputs: Inputs) -> Callable[[], Mask]:
    table = inputs.table

    def work() -> Mask:
        result = np.full_like(inputs.raw, 255)
        for raw_id in np.flatnonzero(table != UNUSED):
            result[inputs.raw == raw_id] = table[raw_id]
        return result

    return work


def _decode_mask(inputs: Inputs) -> Callable[[], Mask]:
    return lambda: np.array(Image.open(io.BytesIO(inputs.png)))


def _decode_both(inputs: Inputs) -> Callable[[], Any]:
    return lambda: [np.array(Image.open(io.BytesIO(file))) for file in (inputs.jpeg, inputs.png)]


def _plain(inputs: Inputs) -> Mask:
    """Returns the remapped mask, as the answer of contenders that only decode."""
    return inputs.table[inputs.raw]


def _check(answers: Mapping[str, Any]) -> str:
    (first, expected), *others = answers.items()
    for name, other in others:
        if not np.array_equal(expected, other):
            raise DisagreementError(f"{name!r} and {first!r} differ in {int((expected != other).sum())} values")
    return f"all {expected.size} values equal, {len(np.unique(expected))} different ones among them"


def _remap(name: str, dataset: str, height: int, width: int) -> Case:
    num_raw = len(_edition(dataset).label_map.mapping)
    return Case(
        name=name,
        work=f"uint8 mask {height}x{width}, {num_raw} raw ids of {dataset} to train ids",
        make_inputs=_make_inputs(dataset, height, width),
        contenders=(
            Contender("ours", _ours, "ours", "seg-core"),
            Contender("PIL point", _pil_point, "peer", "pillow"),
            Contender("numpy lookup", _numpy_lookup, "peer", "numpy"),
            Contender("loop over ids", _loop, "peer", "numpy"),
            Contender("decoding mask (PNG)", _decode_mask, "peer", "pillow", answer=_plain),
            Contender("decoding both (JPEG, PNG)", _decode_both, "peer", "pillow", answer=_plain),
        ),
        check=_check,
        goals=(Goal("ours", "PIL point", speed=1 / 1.3), Goal("ours", "decoding both (JPEG, PNG)", speed=10)),
    )


# -- an image and its mask, read from their files


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Returns a folder that exists as long as the process."""
    return tempfile.TemporaryDirectory()


def _make_pair(quick: bool) -> Path:
    height, width = (256, 512) if quick else (1024, 2048)
    root = Path(_folder().name)
    image = root / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
    mask = root / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    for path, pixels in (
        (image, make_image(height, width)),
        (mask, blocky_labels(height, width, num_classes=34, ignored=0.0).numpy()),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def _our_pair(root: Path) -> Callable[[], Any]:
    import seg_datasets

    dataset = seg_datasets.CityscapesClass(root)

    def work() -> Any:
        image, mask = dataset[0]
        return image.numpy(), mask.numpy()

    return work


def _decoded_pair(root: Path) -> Callable[[], Any]:
    image, mask = sorted(root.rglob("*.png"), key=lambda path: "gtFine" in path.name)

    def work() -> Any:
        return np.array(Image.open(image)), np.array(Image.open(mask))

    return work


def _decoded_answer(root: Path) -> Any:
    pixels, raw = _decoded_pair(root)()
    table = np.full(256, 255, np.uint8)
    for raw_id, train in _edition("CityscapesClass").label_map.mapping.items():
        table[raw_id] = train if isinstance(train, int) else 255
    return pixels.transpose(2, 0, 1), table[raw]


def _check_pair(answers: Mapping[str, Any]) -> str:
    (image, mask), (other_image, other_mask) = answers.values()
    if not (np.array_equal(image, other_image) and np.array_equal(mask, other_mask)):
        raise DisagreementError("image or mask differ from those of the decoder with a plain table")
    return f"all {image.size} pixel values and {mask.size} ids equal"


CASES = (
    _remap("Cityscapes", "CityscapesClass", 1024, 2048),
    _remap("Mapillary", "MapillaryVistas", 2448, 3264),
    Case(
        name="pair",
        work="Cityscapes image and mask 1024x2048 from PNG files to uint8 tensors with train ids",
        make_inputs=_make_pair,
        contenders=(
            Contender("ours", _our_pair, "ours", "seg-datasets"),
            Contender("decoding both files", _decoded_pair, "peer", "pillow", answer=_decoded_answer),
        ),
        check=_check_pair,
        goals=(Goal("ours", "decoding both files", speed=1 / 1.1),),
    ),
)
