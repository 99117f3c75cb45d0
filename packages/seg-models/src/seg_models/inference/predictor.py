"""`Predictor`: predicts label maps at the original size of the images."""

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from seg_core.checks import check_integer
from seg_core.device import resolve_device
from seg_core.errors import InvalidArgumentError, NonFiniteLogitsError
from seg_core.labels.channels import ImageChannels
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import BINARY
from seg_core.metrics.argmax import Thresholds
from seg_core.model_files.load_network import load_network
from seg_core.modes import eval_mode, set_eval
from seg_core.plots.overlay import image_array
from seg_core.transforms.evaluation import EvaluationTransform
from seg_core.transforms.preprocessing import Preprocessing
from seg_models.inference.adapted import AnySize
from seg_models.inference.augmented import predict_tta, tta_options
from seg_models.inference.classes import id_dtype, kept_ids
from seg_models.inference.decisions import decide, finish, labels_shape, thresholds_of, without_others
from seg_models.inference.inputs import (
    InputImage,
    LoadedImage,
    as_array,
    files_alone,
    find_inputs,
    is_one_image,
    load_input,
    with_mosaics,
)
from seg_models.inference.large import FilePrediction, ReadTile, predict_to_file
from seg_models.inference.other_names import CALL, CONSTRUCTOR, PREDICTOR, attribute_error
from seg_models.inference.outputs import resized_logits
from seg_models.inference.prediction import Prediction
from seg_models.inference.preparation import (
    ChannelOrder,
    check_choices,
    check_fit,
    check_model,
    check_options,
    check_tile_by_tile,
    copied,
    describe_images,
    file_channels,
    is_prepared_by_tile,
    memory_advice,
    optimized,
    pixel_limit,
    usable_dtype,
)
from seg_models.inference.scratch import Scratch, logits_into
from seg_models.inference.streams import OnError, predict_stream
from seg_models.inference.tiled import Blend, check_tiles, crop, join_blocks, tiled_blocks
from seg_models.inference.whole import predict_labels, predict_whole
from seg_models.other_names import explains_arguments

__all__ = ["Predictor"]


class Predictor:
    """Predicts label maps of images with one network.

    Example:
        ```python
        predictor = Predictor("runs/shapes/model.pt")
        predictor("street.jpg").save("street_labels.png")
        for prediction in predictor("images/"):  # a folder, a glob pattern, a video, a list, a generator
            print(prediction.source, prediction.areas)
        ```

    Args:
        model: a network (it is put in eval mode and moved to `device`), the path of a model file, a run folder (its
            best weights are used), or a model's name. A network of another library must return logits (N, K, h, w), as
            a tensor or as `"out"` or `"logits"` of a dict; those of another size are resized to the image.
        weights: for a model's name: member of its weights enum, the member's name, a checkpoint file
            (`"file.pth#ema"`: one of several networks in it) or a run folder; None uses `"DEFAULT"` and logs a warning.
        metadata: names and colors of the classes: also a label set's name, a .toml or .json file, or a list of names;
            None uses those of the network's weights or model file.
        preprocessing: resize and normalization; None uses those of the network's weights or model file.
        channels: the channels of the images, with their `mean` and `std`; None uses those of the preprocessing, the
            metadata or the model file. Images have the values of these channels, in the unit of their range.
        bands: which bands of each file are these channels, in their order: numbers from 1, or descriptions of bands;
            None uses those of the channels. For files whose bands are ordered otherwise than those of training; images
            in memory are then an error.
        device: device to compute on; `"auto"` uses a GPU if available, and a number, such as 0, is that of a CUDA GPU.
        dtype: floating-point type of the weights and the computation, `"fp32"`, `"bf16"`, `"fp16"` or a torch dtype;
            `"auto"` is bf16 if the processor computes in it, else fp32; None leaves the weights unchanged. A network
            that is passed in is copied first.
        channel_order: order of the channels of arrays and tensors, `"rgb"`, or `"bgr"` as OpenCV reads images; files,
            PIL images and frames of videos are always read as RGB.
        tile: (height, width) in pixels, or one integer, of the tiles that images are predicted in, at the size that
            the network sees (after `preprocessing`); None predicts whole images.
        overlap: fraction 0 to below 1 of a tile that overlaps the next one.
        blend: how overlapping tiles are averaged: `"hann"` or `"constant"`, see `predict_tiled`.
        tta: test-time augmentation: True uses the defaults of `predict_tta`; a sequence gives the scales, a dict any
            arguments of `predict_tta`. With tiles, each tile is augmented. None or False turns it off.
        batch_size: number of images of equal size in one forward pass; with tiles, number of tiles.
        scores: whether predictions have the probability of each pixel's class, or of another task than multiclass
            that of each class.
        logits: whether predictions have the logits of all classes: K float32 per pixel.
        threshold: of a multiclass task: pixels with a class probability below this, 0 to 1, get the metadata's
            `ignore_index`.
        thresholds: of a binary or multilabel task: the probabilities above 0 and below 1 that the classes must exceed,
            one for all or one per class; None uses those of the model file, else 0.5.
        min_region: regions of fewer pixels get the class of their largest neighbor. Needs the extra `geo`.
        only: names or ids of the classes that labels keep; pixels of the others get the metadata's `ignore_index`,
            planes of the others are empty. None keeps all. Scores and logits stay those of all classes.
        max_pixels: maximum width times height of an image file that is decoded at once; None is 2**26, and with `tile`
            178 million. Arrays and PIL images have no limit, and files that are read tile by tile only if nearly empty.
        allow_vrt: whether a `.vrt` file may be read: a mosaic, which leads to other image files of this machine.
        all_frames: whether all frames of an animation and all pages of a TIFF are predicted, as those of a video are;
            if False the first one is, with a warning.
        optimize: whether the fastest way of computing the logits is searched, see `optimize`: at the first image (it
            takes about a minute, and is remembered), and again at the next size. A dict gives arguments of `optimize`,
            and `max_sizes`, how many sizes are tried (2). `predictor.optimized.reports` says what was gained.

    Warns:
        UserWarning: if the processor does not compute in `dtype`, so that fp32 is faster; or if the channels that are
            given have other names, another order or another range than those of the network's weights or model file.

    Raises:
        InvalidArgumentError: if metadata or preprocessing are neither given nor known; if the network has another
            number of channels or classes than they say (of a network of another library this is known at the first
            prediction), or one class only and the task is multiclass; if the device does not exist; if another argument
            is out of range.
        UnknownNameError: if there is no model, weights member or class of that name.
        FileNotFoundError: if there is no such model file.
        CorruptFileError: if the model file is damaged.
    """

    if not TYPE_CHECKING:  # type checkers know the attributes
        __getattr__ = attribute_error(PREDICTOR)

    @explains_arguments("Predictor", CONSTRUCTOR)
    def __init__(
        self,
        model: nn.Module | str | os.PathLike[str],
        *,
        weights: Any = None,
        metadata: DatasetMetadata | Sequence[str] | str | None = None,
        preprocessing: Preprocessing | None = None,
        channels: ImageChannels | None = None,
        bands: Sequence[int | str] | None = None,
        device: str | int | torch.device = "auto",
        dtype: str | torch.dtype | None = None,
        channel_order: ChannelOrder = "rgb",
        tile: int | Sequence[int] | None = None,
        overlap: float = 0.5,
        blend: Blend = "hann",
        tta: bool | Sequence[float] | Mapping[str, Any] | None = None,
        batch_size: int = 1,
        scores: bool = False,
        logits: bool = False,
        threshold: float | None = None,
        thresholds: Thresholds | None = None,
        min_region: int = 1,
        only: Sequence[str | int] | None = None,
        max_pixels: int | None = None,
        allow_vrt: bool = False,
        all_frames: bool = False,
        optimize: bool | Mapping[str, Any] = False,
    ) -> None:
        self.device = resolve_device(device)
        check_choices(channel_order, threshold)
        self.channel_order = channel_order
        self._tiled = functools.partial(tiled_blocks, overlap=overlap, blend=blend, batch_size=batch_size)
        self._tta = tta_options(tta)
        self.batch_size = check_integer("batch_size", batch_size)
        self.min_region = check_integer("min_region", min_region)
        size = check_tiles(1 if tile is None else tile, overlap, blend, batch_size)
        self._tile_size = None if tile is None else size
        self.tile, self.overlap, self.blend = tile, overlap, blend
        self.scores, self.logits = scores, logits
        self.threshold = threshold
        self.max_pixels = pixel_limit(max_pixels, is_tiled=tile is not None)
        self.all_frames, self.allow_vrt = all_frames, allow_vrt

        network = load_network(check_model(model), weights)
        self.dtype = usable_dtype(dtype, self.device, network)
        info = getattr(network, "model_info", None)
        self.metadata, self.preprocessing = describe_images(info, metadata, preprocessing, channels)
        check_fit(network, self.metadata)
        self.thresholds = thresholds_of(thresholds, threshold, self.metadata, info)
        self.channels, self.bands = file_channels(self.metadata.channels, bands), bands
        check_options(self)
        if self.dtype is not None and network is model:
            network = copied(network, self.dtype)
        self.model = network.to(self.device, self.dtype)
        set_eval(self.model)
        self.optimized = optimized(self.model, optimize, self.thresholds)
        self._network = AnySize(self.optimized or self.model, self.metadata.num_classes)
        self._transform = EvaluationTransform(self.preprocessing)
        if self._tta is not None:
            self._tta.setdefault("left_right_pairs", self.metadata.left_right_pairs or ())
            self._tta["task"] = self.metadata.task
        self._id_dtype = id_dtype(self.metadata, ignores=threshold is not None or only is not None)
        self.only = only
        self._kept = None if only is None else kept_ids(only, self.metadata, self._id_dtype)

    @overload
    def __call__(self, source: Image.Image | bytes | bytearray | memoryview | IO[bytes]) -> Prediction: ...

    @overload
    def __call__(self, source: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...

    @overload
    def __call__(self, source: Any) -> Any: ...

    @explains_arguments("predictor", CALL)
    def __call__(self, source: Any) -> Any:
        """Predicts one image or several.

        Args:
            source: one image: path, URL (http, https), PIL image, array (H, W, 3) or (H, W), tensor (3, H, W), frame of
                PyAV, the contents of an image file as bytes, or such a file opened in binary mode (`io.BytesIO` too).
                Colors are RGB (of arrays and tensors BGR with `channel_order="bgr"`); values are uint8 in 0 to 255 or
                float in 0 to 1. Files and PIL images are turned upright by their EXIF orientation. Or several
                images: a list or tuple of any of these, a tensor (N, 3, H, W), a folder (without its subfolders), a
                glob pattern (`"*.jpg"`), the path or URL of a video, a generator or another iterable.
                With other channels than three 8-bit colors, arrays are (H, W, C), tensors (C, H, W), in the unit of
                the channels' range; a tuple of paths is one image of several files, and videos are refused.

        Returns:
            A `Prediction` of one image; of a list, a tuple or a batch a list of them, computed at once; of a folder, a
            pattern, a video or another iterable an iterator, which computes each when it is drawn, as `stream` does.
            With `all_frames`, a file of several frames or pages is like a video.

        Raises:
            FileNotFoundError: if there is no such file, or a folder or a pattern has no images.
            CorruptFileError: if it cannot be downloaded, or read as an image.
            InvalidTypeError: if it is not a source of images; it is a TypeError.
            InvalidArgumentError: if it is not an image.
            NotEnoughMemoryError: if the image does not fit in memory.
        """
        source = as_array(source)
        is_array = isinstance(source, np.ndarray | Tensor)
        is_list = isinstance(source, list | tuple) and not is_one_image(source, stacks=self._stacks)
        if is_list or (is_array and source.ndim > 3):
            return list(self.stream(source))
        images = self._find(source)
        if not is_one_image(source, stacks=self._stacks):
            return self._stream(images, None)
        first, *second = itertools.islice(images, 2)
        if second:  # frames of one file
            return self._stream(itertools.chain([first], second, images), None)
        (prediction,) = self._predict([load_input(first, self.max_pixels, None, self.channels)])
        return prediction

    def stream(self, source: Any, *, on_error: OnError | None = None) -> Iterator[Prediction]:
        """Returns an iterator of the predictions of images, in order; each is computed when it is drawn.

        The next images are read while the network computes; an array or tensor is copied when it is drawn from a
        generator, which may fill it again. Up to `batch_size` consecutive images of equal size are predicted in one
        pass.

        Args:
            source: one or several images, as in `__call__`; folders and glob patterns are sorted by name.
            on_error: called with the name (None for an image in memory) and the error, of any kind, of an image that
                cannot be read or predicted, which is then skipped. If None the error is raised, after the predictions
                of the images before it.

        Raises:
            InvalidTypeError: at the call, if `source` is not a source of images; it is a TypeError.
            FileNotFoundError: at the call, if a folder or a glob pattern has no images.
            UserError: as in `__call__`, if `on_error` is None.
        """
        return self._stream(self._find(source), on_error)

    def _find(self, source: Any) -> Iterator[InputImage]:
        found = find_inputs(source, all_frames=self.all_frames, max_pixels=self.max_pixels, stacks=self._stacks)
        found = with_mosaics(found) if self.allow_vrt else found
        return found if self.bands is None else files_alone(found, self.bands)

    @property
    def _stacks(self) -> bool:
        """Whether a tuple of paths is one image of several files; of colors it is several images."""
        return not self.metadata.channels.is_rgb8

    def _stream(self, images: Iterator[InputImage], on_error: OnError | None) -> Iterator[Prediction]:
        return predict_stream(images, self._predict, self.batch_size, self.max_pixels, on_error, self.channels)

    def predict_to_file(
        self, source: Any, target: str | os.PathLike[str], *, on_progress: Callable[[float], None] | None = None
    ) -> FilePrediction:
        """Predicts an image of any size tile by tile, and writes each block of the label map as soon as it is done.

        Neither the image nor the label map is held in memory, except for images that must be read at once (see
        `source`).

        Args:
            source: path of a TIFF (best a tiled one) or another format that GDAL reads, of a `.npy` file or a `.zarr`
                array; or an array that supports slicing, such as `numpy.memmap` and `zarr.Array`: (H, W), (H, W, C) or
                (C, H, W), uint8 in 0 to 255 or float in 0 to 1, or the values of the described channels; or a tuple of
                the paths of one image's files. A file whose stored samples are not the pixels of
                `__call__` (an orientation tag, a palette, CMYK, JPEG's colors, ...) is read at once, up to
                `max_pixels`. Pixels without data (a nodata value, a mask, alpha 0) get the metadata's `ignore_index`,
                as in `__call__`.
            target: file of the label map, written atomically: `.tif` (tiled, with the palette of the classes and the
                geo reference of the source), or `.npy` (which can be memory-mapped). Ids are uint8, or uint16 if they
                or an `ignore_index` that occurs are above 255. Of a multilabel task it has a band per class, or is
                (K, H, W), of 0, 1 and `ignore_index`.
            on_progress: called with the fraction of the image that is done, 0 to 1.

        Raises:
            InvalidArgumentError: if the predictor has no `tile` or has an option that needs the whole image, if the
                image has another type, or if `target` has another suffix or is the image's own file.
            FileNotFoundError: if there is no such image.
            CorruptFileError: if it cannot be read.
            WriteError: if the label map cannot be written.
            MissingDependencyError: if the library for this format is not installed.
        """
        check_tile_by_tile(self, source)
        blocks = self._label_blocks
        if self.channel_order == "bgr" and not isinstance(source, str | os.PathLike):

            def blocks(read: ReadTile, size: tuple[int, int]) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
                return self._label_blocks(lambda *place: read(*place).flip(0), size)

        with eval_mode(self.model), memory_advice(self):
            return predict_to_file(
                source,
                target,
                blocks,
                self.metadata,
                self._id_dtype,
                self.max_pixels,
                self.channels,
                on_progress=on_progress,
                allow_vrt=self.allow_vrt,
            )

    # ---- batches of images -------------------------------------------------------------------------------------------

    def _predict(self, batch: Sequence[LoadedImage]) -> Iterator[Prediction]:
        """Yields the predictions of images of equal size and type."""
        images = [self._as_rgb(image) for image in batch]
        with torch.no_grad(), eval_mode(self.model), memory_advice(self):
            size = (images[0].shape[-2], images[0].shape[-1])
            is_large = self.tile is not None and is_prepared_by_tile(size, self.preprocessing)
            inputs: Any = images if is_large else self._prepare(torch.stack(images))
            results: list[tuple[Any, Any, Any]] = []
            try:
                results.extend(
                    self._labels_alone(inputs, size)
                    if self._needs_labels_alone()
                    else self._all(inputs, size, is_large)
                )
            except NonFiniteLogitsError as error:
                name = batch[len(results) + error.index].source.name
                raise error if name is None else InvalidArgumentError(f"{name}: {error}") from error
        for image, pixels, (labels, scores, logits) in zip(batch, images, results, strict=True):
            labels, scores = finish(self, labels, scores, image.valid)
            shown = image_array(pixels, self.metadata.channels)
            name, files = image.source.name, image.source.files
            valid: Any = image.valid  # None if all pixels hold data
            yield Prediction(labels, self.metadata, shown, scores, logits, name, files, valid)

    def _as_rgb(self, image: LoadedImage) -> Tensor:
        """Returns the pixels (C, H, W) of an image, colors in RGB; only images in memory can be BGR."""
        in_memory = not image.source.is_own and isinstance(image.source.content, np.ndarray | Tensor)
        return image.pixels.flip(0) if self.channel_order == "bgr" and in_memory else image.pixels

    def _prepare(self, images: Tensor) -> Tensor:
        """Returns the network's inputs for images (N, C, H, W), on its device."""
        return self._transform.normalize(self._transform.resize(images), self.device)

    # ---- from inputs to labels ---------------------------------------------------------------------------------------

    def _needs_labels_alone(self) -> bool:
        """Returns whether labels can be computed without the logits at full size."""
        uses_logits = self.scores or self.logits or self.threshold is not None
        return not uses_logits and self.tile is None and self._tta is None

    def _labels_alone(self, inputs: Tensor, size: tuple[int, int]) -> Iterator[tuple[npt.NDArray[Any], None, None]]:
        found = predict_labels(self._network, inputs, size, thresholds=self.thresholds)
        for labels in (found[:, 0] if self.metadata.task == BINARY else found).cpu().numpy():
            yield labels, None, None

    def _all(
        self, inputs: Tensor | Sequence[Tensor], size: tuple[int, int], is_large: bool
    ) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]]:
        same = tuple(inputs[0].shape[-2:]) == size
        whole = self._logits(inputs) if self.tile is None and isinstance(inputs, Tensor) else None
        for number, image in enumerate(inputs):
            if whole is not None:
                blocks: Iterable[tuple[int, int, Tensor]] = [(0, 0, whole[number])]
            elif is_large:
                blocks = self._read_blocks(functools.partial(crop, image), size)
            else:
                read, extent = functools.partial(crop, image), (image.shape[-2], image.shape[-1])
                blocks = self._tiled(self._tile_logits(), read, extent, self._tile_size or extent)
            if not same:
                joined = join_blocks(blocks, (image.shape[-2], image.shape[-1]))
                blocks = [(0, 0, resized_logits(joined[None], size)[0])]
            planes = (self.metadata.num_classes, *size)
            labels = np.empty(labels_shape(self.metadata, size), self._id_dtype)
            scores = np.empty(size if self.thresholds is None else planes, np.float32) if self.scores else None
            logits = np.empty(planes, np.float32) if self.logits else None
            for top, left, block in blocks:
                rows, columns = slice(top, top + block.shape[-2]), slice(left, left + block.shape[-1])
                ids, probabilities = decide(self, block)
                labels[..., rows, columns] = ids
                if scores is not None and probabilities is not None:
                    scores[..., rows, columns] = probabilities.cpu().numpy()
                if logits is not None:
                    logits[:, rows, columns] = block.float().cpu().numpy()
            yield labels, scores, logits

    def _logits(self, inputs: Tensor) -> Tensor:
        """Returns float (N, K, H, W) of inputs (N, C, H, W)."""
        if self._tta is None:
            return predict_whole(self._network, inputs)
        return predict_tta(self._network, inputs, **self._tta)

    def _tile_logits(self) -> Callable[[Tensor], Tensor]:
        """Returns a function that predicts the logits of tiles; its result is valid until the next call."""
        if self._tta is not None:
            return self._logits
        return torch.no_grad()(functools.partial(logits_into, Scratch(), self._network))

    # ---- images larger than memory -----------------------------------------------------------------------------------

    def _label_blocks(self, read: ReadTile, size: tuple[int, int]) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
        """Yields top, left and labels, (h, w) or (K, h, w), of the blocks of an image that is read tile by tile."""
        for top, left, logits in self._read_blocks(read, size):
            yield top, left, without_others(self, decide(self, logits)[0])

    def _read_blocks(self, read: ReadTile, size: tuple[int, int]) -> Iterator[tuple[int, int, Tensor]]:
        """Yields top, left and logits (K, h, w) of the blocks of an image; each tile is prepared for the network."""
        tile_logits = self._tile_logits()

        def predict(tiles: Tensor) -> Tensor:
            with torch.no_grad():
                logits = tile_logits(self._prepare(tiles))
                return resized_logits(logits, (tiles.shape[-2], tiles.shape[-1]))

        assert self._tile_size is not None
        factor = self.preprocessing.scale or 1  # by which a tile of the image is resized to `tile` for the network
        height, width = (max(1, round(length / factor)) for length in self._tile_size)
        return self._tiled(predict, read, size, (height, width))
