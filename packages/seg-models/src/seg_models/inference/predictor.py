"""From images to label maps, at the images' own size."""

import contextlib
import copy
import functools
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.catalog import ModelEntry
from seg_core.errors import (
    InvalidArgumentError,
    NotEnoughMemoryError,
    UserError,
    is_out_of_memory,
)
from seg_core.files.images import MAX_PIXELS, check_max_pixels
from seg_core.labels.metadata import DatasetMetadata
from seg_core.metrics.argmax import argmax_labels
from seg_core.model_files.model_file import ModelInfo, load_model
from seg_core.plots.overlay import image_array
from seg_core.registry import MODELS
from seg_core.transforms.evaluation import EvaluationTransform
from seg_core.transforms.preprocessing import Preprocessing, as_rgb_tensor
from seg_models.builders.build import looks_like_path
from seg_models.factory import get_model
from seg_models.inference.adapted import AnySize, min_size_of
from seg_models.inference.augmented import predict_tta
from seg_models.inference.inputs import InputImage, Source, find_inputs, is_one_image, load_input
from seg_models.inference.prediction import Prediction, class_areas
from seg_models.inference.scratch import Scratch, logits_into
from seg_models.inference.tiled import Blend, tiled_blocks
from seg_models.inference.whole import predict_labels, predict_whole

__all__ = ["FilePrediction", "Predictor", "load_network"]

logger = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Threads that decode images while the network computes; Pillow does that without the interpreter.
_READERS = 2
_SCORE_STRIP = 2**20  # elements


@dataclass(frozen=True)
class FilePrediction:
    """A label map that was written window by window.

    Attributes:
        path: of the label map.
        size: its (height, width) in pixels.
        areas: pixels of each class that occurs, by its name, largest first; ignored ones are not counted.
    """

    path: Path
    size: tuple[int, int]
    areas: dict[str, int]


class Predictor:
    """Predicts label maps of images with one network.

    Example:
        ```python
        predictor = Predictor("runs/shapes/model.pt")
        predictor("street.jpg").save("street_labels.png")
        for prediction in predictor("images/"):  # a folder, a pattern, a video, a list, a generator
            print(prediction.source, prediction.areas)
        ```

    Args:
        model: a network (it is put in eval mode and on `device`), the path of a model file, or the name of a model.
        weights: with a model's name: member of its weights enum, the member's name or a checkpoint file; None takes
            `"DEFAULT"`, and logs that as a warning.
        metadata: names and colors of the classes; None takes what the network's weights or file say.
        preprocessing: from an image to the network's input; None takes what the network's weights or file say.
        device: where to compute; `"auto"` is a GPU where there is one.
        dtype: number type of the network's weights and of what it computes, `"fp32"`, `"bf16"`, `"fp16"` or torch's;
            None leaves them as they are. A network that is given is copied for that.
        tile: (height, width) in pixels, or one number, of the windows that images are predicted in, as the network
            sees them (after `preprocessing`); None predicts them whole.
        overlap: share 0 to below 1 of a window that overlaps the next one.
        blend: how overlapping windows are joined: `"hann"` or `"constant"`, see `predict_tiled`.
        tta: test-time augmentation: True is `predict_tta`'s own, a sequence of scales or a dict of its arguments says
            which; inside tiles it goes window by window. None or False is none.
        batch_size: images of one size in one pass through the network, and windows where there are tiles.
        scores: whether predictions have the probability of the class of each pixel.
        logits: whether predictions have the logits of all classes; K float32 for each pixel.
        threshold: pixels whose class is less probable than this, 0 to 1, get the metadata's `ignore_index`.
        min_region: regions of fewer pixels get the class of their largest neighbor. Needs the extra `geo`.
        max_pixels: largest width times height of an image file that is decoded at once; `predict_to_file` has no limit.

    Raises:
        InvalidArgumentError: if the network does not say what is left out here, takes no RGB images, has another
            number of classes than the metadata, there is no such device, or another argument is out of range.
        UnknownNameError: if there is no model or there are no weights of that name.
        FileNotFoundError: if there is no such model file.
        CorruptFileError: if the model file is damaged.
    """

    def __init__(
        self,
        model: nn.Module | str | os.PathLike[str],
        *,
        weights: Any = None,
        metadata: DatasetMetadata | None = None,
        preprocessing: Preprocessing | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype | None = None,
        tile: int | Sequence[int] | None = None,
        overlap: float = 0.5,
        blend: Blend = "hann",
        tta: bool | Sequence[float] | Mapping[str, Any] | None = None,
        batch_size: int = 1,
        scores: bool = False,
        logits: bool = False,
        threshold: float | None = None,
        min_region: int = 1,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.device = _usable_device(device)
        self.dtype = _usable_dtype(dtype, self.device)
        self._tta = _tta_options(tta)
        if type(batch_size) is not int or batch_size < 1:
            raise InvalidArgumentError(f"batch_size must be a number of images from 1 on, got {batch_size!r}")
        if threshold is not None and not 0 <= threshold <= 1:
            raise InvalidArgumentError(f"threshold must be a probability, 0 to 1, or None, got {threshold!r}")
        if type(min_region) is not int or min_region < 1:
            raise InvalidArgumentError(f"min_region must be a number of pixels from 1 on, got {min_region!r}")
        self.tile, self.overlap, self.blend = tile, overlap, blend
        self.batch_size = batch_size
        self.scores, self.logits = scores, logits
        self.threshold, self.min_region = threshold, min_region
        self.max_pixels = check_max_pixels(max_pixels)

        network = load_network(model, weights)
        info = getattr(network, "model_info", None)
        self.metadata = metadata or _from_info(info, "metadata")
        self.preprocessing = preprocessing or _from_info(info, "preprocessing")
        _check_fit(network, self.metadata)
        if self.dtype is not None and network is model:
            network = copy.deepcopy(network)
        self.model = network.to(self.device, self.dtype).eval()
        self._network = AnySize(self.model, self.dtype, min_size_of(network))
        self._transform = EvaluationTransform(self.preprocessing)
        if self._tta is not None:
            self._tta.setdefault("left_right_pairs", self.metadata.left_right_pairs or ())
        largest = self.metadata.num_classes - 1
        if threshold is not None:
            largest = max(largest, self.metadata.ignore_index)
        self._id_dtype = np.uint8 if largest < 256 else np.uint16
        if tile is not None:  # what is wrong with the options shows now, not with the first image
            self._tiles(torch.zeros(1, 1, 1))

    @overload
    def __call__(self, source: Source) -> Prediction: ...

    @overload
    def __call__(self, source: Any) -> Any: ...

    def __call__(self, source: Any) -> Any:
        """Predicts one image, or yields the predictions of several, as `stream` does.

        Args:
            source: one image: path, address (http, https), PIL image, array (H, W, 3) or (H, W), tensor (3, H, W),
                frame of PyAV; uint8 in 0 to 255 or float in 0 to 1. A file and a PIL image are turned upright by
                their EXIF orientation. Or several: a folder, a pattern (`"*.jpg"`), a video, a tensor (N, 3, H, W), an
                iterable of any of these.

        Returns:
            A `Prediction`, or an iterator of them where `source` holds several.

        Raises:
            FileNotFoundError: if there is no such file.
            CorruptFileError: if it cannot be read as an image, or fetched.
            InvalidArgumentError: if it is no image.
            NotEnoughMemoryError: if the image is too large for the memory.
        """
        if not is_one_image(source):
            return self.stream(source)
        (image,) = find_inputs(source)
        (prediction,) = self._predict([(image, load_input(image, self.max_pixels))])
        return prediction

    def stream(
        self, source: Any, *, on_error: Callable[[str | None, UserError], None] | None = None
    ) -> Iterator[Prediction]:
        """Yields the predictions of images one after the other, in their order.

        A few images are decoded ahead while the network computes. `batch_size` images of one size in a row share a
        pass.

        Args:
            source: one or several images, as in `__call__`; those of a folder and a pattern in the order of their
                names.
            on_error: called with the name (None for an image in memory) and the error of an image that cannot be
                read or predicted, which is left out. If None the error is raised.

        Raises:
            UserError: as in `__call__`, where `on_error` is None; and where a folder or a pattern has no images or a
                video breaks off.
        """
        lot: list[tuple[InputImage, Tensor]] = []
        for image, pixels in self._read_ahead(find_inputs(source), on_error):
            if lot and (pixels.shape != lot[0][1].shape or pixels.dtype != lot[0][1].dtype):
                yield from self._predict_or_report(lot, on_error)
                lot = []
            lot.append((image, pixels))
            if len(lot) == self.batch_size:
                yield from self._predict_or_report(lot, on_error)
                lot = []
        if lot:
            yield from self._predict_or_report(lot, on_error)

    def predict_to_file(
        self, source: Any, target: str | os.PathLike[str], *, on_progress: Callable[[float], None] | None = None
    ) -> FilePrediction:
        """Predicts an image of any size window by window, and writes the label map as it grows.

        Neither image nor label map is held: the memory depends on the tile and the number of classes alone.

        Args:
            source: path of a TIFF (tiled, best) or another format that GDAL reads, of a `.npy` file or a `.zarr` array;
                or an array that is read by slices, as `numpy.memmap` and `zarr.Array`: (H, W), (H, W, C) or (C, H, W),
                uint8 in 0 to 255 or float in 0 to 1. A file whose pixels would not be those of `__call__` (an
                orientation tag, a palette, CMYK, fewer or more than 8 bits per channel, ...) is an error.
            target: of the label map, whole or not there: `.tif` (tiled, with the palette of the classes and the place
                on earth of a GeoTIFF), or `.npy` (to be memory-mapped).
            on_progress: called with the share of the image that is done, 0 to 1.

        Raises:
            InvalidArgumentError: if there is no `tile`, the predictor has an option that needs the whole image, the
                image has another type, or `target` ends in something else.
            FileNotFoundError: if there is no such image.
            CorruptFileError: if it cannot be read.
            WriteError: if the label map cannot be written.
            MissingDependencyError: if what reads or writes it is not installed.
        """
        from seg_models.inference.large import npy_writer, open_raster, tiff_writer

        suffix = Path(target).suffix.lower()
        if suffix not in (".tif", ".tiff", ".npy"):
            raise InvalidArgumentError(f"target must end in .tif, .tiff or .npy, got {os.fspath(target)!r}")
        self._check_by_windows()
        counts = np.zeros(int(np.iinfo(self._id_dtype).max) + 1, np.int64)
        done = 0
        with open_raster(source) as raster:
            size = (raster.height, raster.width)
            if suffix == ".npy":
                writer = npy_writer(target, size, self._id_dtype)
            else:
                writer = tiff_writer(target, size, self._id_dtype, self.metadata, raster.place)

            def read(*window: int) -> Tensor:
                return as_rgb_tensor(raster.read(*window))

            with writer as write, _memory_advice(self):
                logits_of = self._of_windows()
                blocks = tiled_blocks(
                    lambda windows: self._predict_windows(logits_of, windows),
                    read,
                    size,
                    self._source_tile(),
                    self.overlap,
                    self.blend,
                    self.batch_size,
                )
                for top, left, logits in blocks:
                    ids, _ = self._decide(logits)
                    write(top, left, ids)
                    counts += np.bincount(ids.ravel(), minlength=len(counts))
                    done += ids.size
                    if on_progress is not None:
                        on_progress(done / (size[0] * size[1]))
        return FilePrediction(Path(target), size, class_areas(counts, self.metadata))

    # ---- images ----------------------------------------------------------------------------------------------------

    def _read_ahead(
        self, images: Iterator[InputImage], on_error: Callable[[str | None, UserError], None] | None
    ) -> Iterator[tuple[InputImage, Tensor]]:
        """Yields images with their pixels; the next ones are decoded meanwhile."""
        waiting: deque[tuple[InputImage, Future[Tensor]]] = deque()
        pool = ThreadPoolExecutor(_READERS)
        try:
            while True:
                while len(waiting) < _READERS + self.batch_size and (image := next(images, None)) is not None:
                    waiting.append((image, pool.submit(load_input, image, self.max_pixels)))
                if not waiting:
                    return
                image, future = waiting.popleft()
                try:
                    pixels = future.result()
                except UserError as error:
                    if on_error is None:
                        raise
                    on_error(image.name, error)
                    continue
                yield image, pixels
        finally:
            pool.shutdown(cancel_futures=True)

    def _predict_or_report(
        self, lot: Sequence[tuple[InputImage, Tensor]], on_error: Callable[[str | None, UserError], None] | None
    ) -> Iterator[Prediction]:
        try:
            predictions = list(self._predict(lot))
        except UserError as error:
            if on_error is None:
                raise
            for image, _ in lot:
                on_error(image.name, error)
            return
        yield from predictions

    def _predict(self, lot: Sequence[tuple[InputImage, Tensor]]) -> Iterator[Prediction]:
        """Yields the predictions of images of one size and type."""
        with torch.inference_mode(), _memory_advice(self):
            inputs = self._prepare(torch.stack([pixels for _, pixels in lot]))
            size = (lot[0][1].shape[-2], lot[0][1].shape[-1])
            results = list(self._labels_alone(inputs, size) if self._is_direct() else self._all(inputs, size))
        for (image, pixels), (labels, scores, logits) in zip(lot, results, strict=True):
            if self.min_region > 1:
                from seg_models.inference.large import remove_small_regions

                labels = remove_small_regions(labels, self.min_region)
            yield Prediction(labels, self.metadata, image_array(pixels), scores, logits, image.name)

    def _prepare(self, images: Tensor) -> Tensor:
        """Returns images (N, 3, H, W) as the network takes them, on its device."""
        return self._transform.normalize(self._transform.resize(images), self.device)

    # ---- from inputs to labels ---------------------------------------------------------------------------------------

    def _is_direct(self) -> bool:
        """Returns whether labels can be had without the logits of full size."""
        wants_labels_alone = not (self.scores or self.logits or self.threshold is not None)
        return wants_labels_alone and self.tile is None and self._tta is None

    def _labels_alone(self, inputs: Tensor, size: tuple[int, int]) -> Iterator[tuple[npt.NDArray[Any], None, None]]:
        for labels in predict_labels(self._network, inputs, size).cpu().numpy():
            yield labels, None, None

    def _all(
        self, inputs: Tensor, size: tuple[int, int]
    ) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]]:
        same = tuple(inputs.shape[-2:]) == size
        whole = self._logits(inputs) if self.tile is None else None
        for number, image in enumerate(inputs):
            if whole is not None:
                blocks: Iterable[tuple[int, int, Tensor]] = [(0, 0, whole[number])]
            else:
                blocks = self._tiles(image)
            if not same:
                blocks = [(0, 0, _resized(_joined(blocks, image)[None], size)[0])]
            labels = np.empty(size, self._id_dtype)
            scores = np.empty(size, np.float32) if self.scores else None
            logits = np.empty((self.metadata.num_classes, *size), np.float32) if self.logits else None
            for top, left, block in blocks:
                place = (slice(top, top + block.shape[-2]), slice(left, left + block.shape[-1]))
                ids, probabilities = self._decide(block)
                labels[place] = ids
                if scores is not None and probabilities is not None:
                    scores[place] = probabilities.cpu().numpy()
                if logits is not None:
                    logits[:, place[0], place[1]] = block.float().cpu().numpy()
            yield labels, scores, logits

    def _logits(self, inputs: Tensor) -> Tensor:
        """Returns float (N, K, H, W) of inputs (N, 3, H, W)."""
        if self._tta is None:
            return predict_whole(self._network, inputs)
        return predict_tta(self._network, inputs, **self._tta)

    def _of_windows(self) -> Callable[[Tensor], Tensor]:
        """Returns what gives the logits of windows, valid until the next ones."""
        if self._tta is not None:
            return self._logits
        return torch.inference_mode()(functools.partial(logits_into, Scratch(), self._network))

    def _tiles(self, image: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """Yields top, left and logits (K, h, w) of the parts of an input (3, H, W)."""
        assert self.tile is not None

        def read(top: int, left: int, height: int, width: int) -> Tensor:
            return image[:, top : top + height, left : left + width]

        size = (image.shape[-2], image.shape[-1])
        return tiled_blocks(self._of_windows(), read, size, self.tile, self.overlap, self.blend, self.batch_size)

    def _decide(self, logits: Tensor) -> tuple[npt.NDArray[Any], Tensor | None]:
        """Returns the ids (h, w) of logits (K, h, w), and their probabilities where somebody asks."""
        ids = argmax_labels(logits).cpu().numpy().astype(self._id_dtype, copy=False)
        if not self.scores and self.threshold is None:
            return ids, None
        probabilities = _top_probabilities(logits)
        if self.threshold is not None:
            ids[(probabilities < self.threshold).cpu().numpy()] = self.metadata.ignore_index
        return ids, probabilities

    # ---- by windows --------------------------------------------------------------------------------------------------

    def _check_by_windows(self) -> None:
        if self.tile is None:
            raise InvalidArgumentError("predict_to_file predicts window by window; give the predictor tile=, 512 say")
        if self.scores or self.logits:
            raise InvalidArgumentError("predict_to_file writes labels alone; leave out scores= and logits=")
        if self.min_region > 1:
            raise InvalidArgumentError(
                f"min_region={self.min_region} needs the whole label map; leave it out, and sieve the file with GDAL"
            )
        if set(self.preprocessing.resize) - {"scale"}:
            raise InvalidArgumentError(
                f"the preprocessing resizes images by {self.preprocessing.resize}, and a tile does not know the size "
                "of its image; pass preprocessing= with a scale, or with no resize to keep the image's own size"
            )

    def _source_tile(self) -> int | tuple[int, ...]:
        """Returns the size of a window in pixels of the image, of which the network sees a window of `tile`."""
        assert self.tile is not None
        factor = self.preprocessing.scale
        if factor is None:
            return self.tile if isinstance(self.tile, int) else tuple(self.tile)
        tile = (self.tile, self.tile) if isinstance(self.tile, int) else self.tile
        return tuple(max(1, round(length / factor)) for length in tile)

    def _predict_windows(self, logits_of: Callable[[Tensor], Tensor], windows: Tensor) -> Tensor:
        with torch.inference_mode():
            logits = logits_of(self._prepare(windows))
            return _resized(logits, (windows.shape[-2], windows.shape[-1]))


def load_network(
    model: nn.Module | str | os.PathLike[str], weights: Any = None, say: Callable[[str], None] = logger.warning
) -> nn.Module:
    """Returns the network that a user names.

    Args:
        model: a network, the path of a model file, or the name of a model.
        weights: of a model by name; None takes `"DEFAULT"`.
        say: called with a sentence that tells which weights were taken where none are named.

    Raises:
        InvalidArgumentError: if weights are given with what has its own, or a model by name has none.
        UnknownNameError: if there is no model or there are no weights of that name.
        FileNotFoundError: if there is no such model file.
        CorruptFileError: if the model file is damaged.
    """
    if isinstance(model, nn.Module):
        if weights is not None:
            raise InvalidArgumentError(f"weights={weights!r} cannot be used with a network, which holds its own")
        return model
    name = os.fspath(model)
    if isinstance(model, os.PathLike) or looks_like_path(name):
        if weights is not None:
            raise InvalidArgumentError(
                f"weights {weights} cannot be used with model file {name}, which holds its own; leave it out"
            )
        return load_model(name)
    entry = MODELS.entry(name)
    if weights is None:
        if not isinstance(entry, ModelEntry) or entry.default_weights is None:
            raise InvalidArgumentError(
                f"model {name!r} has no published weights; give a model file (training writes model.pt), or weights"
            )
        weights = "DEFAULT"
        say(f"no weights named, taking {entry.weights_enum}.{entry.default_weights}")
    return get_model(name, weights=weights)


def _from_info(info: ModelInfo | None, name: str) -> Any:
    if info is None:
        raise InvalidArgumentError(
            f"the model does not say its {name}: pass {name}=, or use a model file (save_model writes one) or "
            "published weights"
        )
    return getattr(info, name)


def _check_fit(network: nn.Module, metadata: DatasetMetadata) -> None:
    spec = getattr(network, "build_spec", None)
    if spec is None:
        return
    if spec.arguments.get("num_classes") != metadata.num_classes:
        raise InvalidArgumentError(
            f"metadata {metadata.name!r} has {metadata.num_classes} classes but the model was built "
            f"with num_classes={spec.arguments.get('num_classes')}; pass the metadata that it was trained on"
        )
    if spec.arguments.get("in_channels", 3) != 3:
        raise InvalidArgumentError(
            f"the model takes {spec.arguments['in_channels']} channels, and Predictor gives it RGB images; "
            "call the model itself"
        )


def _usable_device(device: str | torch.device) -> torch.device:
    if device == "auto":
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        return torch.device(next(name for name, there in available.items() if there))
    try:
        return torch.empty(0, device=device).device
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
    ) as error:  # what torch raises depends on how it was built
        reason = str(error).partition("\n")[0]
        raise InvalidArgumentError(f"device {str(device)!r} cannot be used: {reason}; 'cpu' always can") from error


def _usable_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype | None:
    chosen = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if dtype is not None and chosen not in _DTYPES.values():
        raise InvalidArgumentError(f"dtype must be one of {', '.join(_DTYPES)}, torch's names or None, got {dtype!r}")
    if chosen == torch.float16 and device.type == "cpu":
        raise InvalidArgumentError('dtype "fp16" needs a GPU; on a CPU use "bf16"')
    return chosen


def _tta_options(tta: bool | Sequence[float] | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Returns the arguments of `predict_tta`, checked, or None."""
    if tta is None or tta is False:
        return None
    if tta is True:
        return {}
    options = dict(tta) if isinstance(tta, Mapping) else {"scales": tuple(tta)}
    known = ("scales", "hflip", "vflip", "quarter_turns", "left_right_pairs")
    for name in options:
        if name not in known:
            raise InvalidArgumentError(f"tta has no option {name!r}; it has {', '.join(known)}")
    scales = options.get("scales", (1.0,))
    if not scales or not all(isinstance(s, int | float) and 0 < s < math.inf for s in scales):
        raise InvalidArgumentError(f"tta must have scales above 0, got {scales!r}")
    return options


def _joined(blocks: Iterable[tuple[int, int, Tensor]], image: Tensor) -> Tensor:
    """Returns the logits (K, H, W) of an input (3, H, W) from those of its parts."""
    result: Tensor | None = None
    for top, left, block in blocks:
        if block.shape[-2:] == image.shape[-2:]:
            return block
        if result is None:
            result = block.new_empty(block.shape[0], *image.shape[-2:])
        result[:, top : top + block.shape[-2], left : left + block.shape[-1]] = block
    assert result is not None
    return result


def _resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(logits.shape[-2:]) == size:
        return logits
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)


def _top_probabilities(logits: Tensor) -> Tensor:
    """Returns float32 (H, W), the softmax of the largest of logits (K, H, W); a few rows at a time."""
    rows = max(1, _SCORE_STRIP // (logits.shape[0] * logits.shape[2]))
    parts = []
    for strip in torch.split(logits, rows, 1):
        floats = strip.float()
        parts.append((floats - floats.amax(0)).exp_().sum(0).reciprocal_())
    return torch.cat(parts)


@contextlib.contextmanager
def _memory_advice(predictor: Predictor) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, UserError) or not is_out_of_memory(error):
            raise
        advice = []
        if predictor.tile is None:
            advice.append("predict in windows: tile=512, say")
        else:
            advice.append(f"take a smaller tile (now {predictor.tile})")
        if predictor.batch_size > 1:
            advice.append(f"lower batch_size (now {predictor.batch_size})")
        if predictor.logits:
            advice.append("do without logits=True")
        if predictor.dtype is None:
            advice.append('set dtype="bf16"')
        reason = str(error).partition("\n")[0]
        raise NotEnoughMemoryError(
            f"there is not enough memory for the image ({reason}); {', or '.join(advice)}"
        ) from error
