"""Prepares the network of a `Predictor`: what is known of it, and the type that it computes in."""

import contextlib
import copy
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn

from seg_core.checks import is_number
from seg_core.device import fastest_precision, out_of_memory, warn_of_slow_bf16
from seg_core.errors import InvalidArgumentError, UserError, is_out_of_memory
from seg_core.files.images import MAX_PIXELS, WHOLE_PIXELS, check_max_pixels
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.comparison import check_several_outputs, difference_of_channels
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_core.metrics.argmax import Thresholds
from seg_core.model_files.fit import is_compiled
from seg_core.model_files.reading import ModelInfo
from seg_core.transforms.preprocessing import Preprocessing
from seg_models.inference.described import bands_error

if TYPE_CHECKING:
    from seg_models.speed.network import OptimizedNetwork

__all__ = [
    "ChannelOrder",
    "as_metadata",
    "check_choices",
    "check_fit",
    "check_model",
    "check_options",
    "check_preprocessing",
    "check_tile_by_tile",
    "copied",
    "describe_images",
    "file_channels",
    "from_info",
    "is_prepared_by_tile",
    "memory_advice",
    "optimized",
    "pixel_limit",
    "usable_dtype",
]

ChannelOrder = Literal["rgb", "bgr"]
"""Order of the channels of images in memory."""

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
_OTHER_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in _DTYPES.values()} | {"half": torch.float16}

# how torch says that a convolution gets another number of channels than it has kernels for
_OTHER_COUNT = re.compile(r"expected input\[.*\] to have (\d+) channels, but got (\d+) channels")


def check_choices(channel_order: object, threshold: object) -> None:
    """Checks arguments of `Predictor` before the network is loaded.

    Raises:
        InvalidArgumentError: if one is not allowed.
    """
    if channel_order not in get_args(ChannelOrder):
        raise InvalidArgumentError(f'channel_order must be "rgb", or "bgr" for images of OpenCV, got {channel_order!r}')
    if threshold is not None and not (is_number(threshold) and 0 <= threshold <= 1):
        raise InvalidArgumentError(f"threshold must be a probability from 0 to 1, or None, got {threshold!r}")


def optimized(
    model: nn.Module, optimize: bool | Mapping[str, Any], thresholds: Thresholds | None
) -> "OptimizedNetwork | None":
    """Returns the network that predicts in the fastest way, for the argument `optimize` of `Predictor`; None if False.

    Raises:
        InvalidArgumentError: if an option is not known or not allowed.
    """
    if optimize is False:
        return None
    if optimize is not True and not isinstance(optimize, Mapping):
        raise InvalidArgumentError(f"optimize must be True, False or a dict of options, got {optimize!r}")
    from seg_models.speed.optimize import lazily_optimized  # only those who ask for it pay for its imports

    return lazily_optimized(model, {} if optimize is True else optimize, thresholds)


def check_model(model: object) -> Any:
    """Returns a network, or the path or name of one.

    Raises:
        InvalidArgumentError: if it is something else.
    """
    if isinstance(model, nn.Module | str | os.PathLike):
        return model
    advice = ""
    if isinstance(model, Mapping):
        advice = "; a state dict is loaded into its network first, or saved and named: Predictor(NAME, weights=FILE)"
    elif hasattr(model, "graph_signature"):  # torch.export.ExportedProgram
        advice = "; pass the program's module: program.module()"
    elif isinstance(model, type) or callable(model):
        advice = "; call it to get the network"
    raise InvalidArgumentError(
        f"model must be a network (torch.nn.Module), the path of a model file or run folder, or a model's name, got "
        f"{type(model).__name__}{advice}"
    )


def as_metadata(given: object) -> DatasetMetadata:
    """Returns metadata, the label set of a name, that of a file, or that of a list of names.

    Raises:
        InvalidArgumentError: if it is something else, or the file does not describe classes.
        UnknownNameError: if there is no such label set.
        DatasetNotFoundError: if there is no such file.
    """
    if isinstance(given, DatasetMetadata):
        return given
    if isinstance(given, str | os.PathLike):
        return resolve_metadata(given)
    if isinstance(given, Sequence) and all(isinstance(name, str) for name in given):
        return DatasetMetadata("classes", tuple(given))
    raise InvalidArgumentError(
        "metadata must be a seg_core.DatasetMetadata, a label set's name, a .toml or .json file, or a list of class "
        f"names, got {type(given).__name__}"
    )


def check_preprocessing(given: object) -> None:
    """Checks that a preprocessing is one of this toolkit; the message converts one of torchvision.

    Raises:
        InvalidArgumentError: if it is not.
    """
    if isinstance(given, Preprocessing):
        return
    found = getattr(given, "transforms", given)  # a member of a weights enum of torchvision
    found = found() if isinstance(given, Enum) and callable(found) else given
    mean, std, side = (getattr(found, name, None) for name in ("mean", "std", "resize_size"))
    advice = "mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)"
    if mean is not None and std is not None:
        resize = f", shorter_side={side[0]}" if side else ""
        advice = f"mean={tuple(mean)}, std={tuple(std)}{resize}"
    raise InvalidArgumentError(
        f"preprocessing must be a seg_core.Preprocessing, got {type(given).__name__}; pass Preprocessing({advice})"
    )


def from_info(info: ModelInfo | None, name: str) -> Any:
    """Returns `metadata` or `preprocessing` of what is known of a network.

    Raises:
        InvalidArgumentError: if nothing is known.
    """
    if info is None:
        raise InvalidArgumentError(
            f"the model has no {name}: pass {name}=, or use a model file (save_model writes one) or published weights"
        )
    return getattr(info, name)


def describe_images(
    info: ModelInfo | None,
    metadata: DatasetMetadata | Sequence[str] | str | None,
    preprocessing: Preprocessing | None,
    channels: ImageChannels | None,
) -> tuple[DatasetMetadata, Preprocessing]:
    """Returns the metadata and the preprocessing of a network, both with the channels of its images.

    The channels are those that are given; else those of the given preprocessing or metadata, if these describe any;
    else those of the model's own metadata.

    Args:
        info: what is known of the network.
        metadata: as in `Predictor`.
        preprocessing: as in `Predictor`.
        channels: as in `Predictor`.

    Warns:
        UserWarning: if the channels are as many as those of the model's own metadata, and others.

    Raises:
        InvalidArgumentError: if a part is neither given nor known, or the normalization is for other channels.
    """
    if channels is not None and not isinstance(channels, ImageChannels):
        raise InvalidArgumentError(
            f"channels must be a seg_core.ImageChannels, got {type(channels).__name__}; pass "
            'ImageChannels(("red", "green", "blue", "nir"), range=(0, 10000))'
        )
    found = from_info(info, "metadata") if metadata is None else as_metadata(metadata)
    if preprocessing is not None:
        check_preprocessing(preprocessing)
    given = [each.channels for each in (preprocessing, found if metadata is not None else None) if each is not None]
    known = [] if info is None else [info.metadata.channels]
    wanted = channels or next((each for each in given if not each.is_rgb8), None) or next(iter([*known, *given]))
    if known:
        _warn_of_other_channels(known[0], wanted)
    if preprocessing is not None:
        result = preprocessing
        if len(preprocessing.mean) != wanted.count:
            result = _for_channels(preprocessing, wanted)
        elif preprocessing.channels != wanted:
            result = replace(preprocessing, channels=wanted)  # its own mean and std stay
    elif info is None and wanted.mean is not None and wanted.std is not None:
        result = Preprocessing(wanted.mean, wanted.std, channels=wanted)
    else:
        result = from_info(info, "preprocessing")
        if result.channels != wanted:
            result = _for_channels(result, wanted)
    return found if found.channels == wanted else replace(found, channels=wanted), result


def _warn_of_other_channels(own: ImageChannels, wanted: ImageChannels) -> None:
    """Warns if the images are described otherwise than those that a network was trained on; see `check_fit`, too."""
    if own.count == wanted.count and (found := difference_of_channels(own, wanted, "the model", "this description")):
        warnings.warn(
            f"{found}; the images are read as described, and the network takes them in this order. Leave the "
            "description out if they are those of the model",
            stacklevel=5,
        )


def _for_channels(preprocessing: Preprocessing, channels: ImageChannels) -> Preprocessing:
    try:
        return preprocessing.for_channels(channels)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f"{error}; give the channels a mean and std, of values scaled from their range to 0 to 1, in place of "
            "those of other channels"
        ) from error


def check_fit(network: nn.Module, metadata: DatasetMetadata) -> None:
    """Checks that a network has the classes and the channels of the metadata, as far as its description tells.

    Raises:
        InvalidArgumentError: if it does not, or if there is one class only.
    """
    check_several_outputs(metadata)
    spec = getattr(network, "build_spec", None)
    if spec is None:
        return
    if spec.arguments.get("num_classes") != metadata.num_classes:
        raise InvalidArgumentError(
            f"metadata {metadata.name!r} has {metadata.num_classes} classes but the model was built "
            f"with num_classes={spec.arguments.get('num_classes')}; pass the metadata that it was trained on"
        )
    count = spec.arguments.get("in_channels", metadata.channels.count)
    if count != metadata.channels.count:
        raise InvalidArgumentError(
            f"the model takes {count} channels, but the images are described as {metadata.channels}; describe those "
            "that it was trained on: Predictor(..., channels=seg_core.ImageChannels(names, range=..., mean=..., "
            "std=...)), or in the file of --classes of seg predict"
        )


def file_channels(channels: ImageChannels, bands: Sequence[int | str] | None) -> ImageChannels:
    """Returns the channels of files whose bands are `bands`, if given.

    Raises:
        InvalidArgumentError: if they are not one band per channel.
    """
    if bands is None:
        return channels
    if isinstance(bands, str) or not isinstance(bands, Sequence):
        raise InvalidArgumentError(
            f"bands must be a list with a number from 1 or a description for each channel, got {bands!r}"
        )
    return replace(channels, bands=tuple(bands))


def check_options(predictor: Any) -> None:
    """Checks that a `Predictor` of other channels than colors of 8 bits has no option that is for those.

    Raises:
        InvalidArgumentError: if it has.
    """
    channels = predictor.metadata.channels
    if channels.is_rgb8:
        return
    if predictor.channel_order != "rgb":
        raise InvalidArgumentError(
            f'channel_order="bgr" is for three 8-bit colors, and the model takes the {channels}; remove it, and order '
            "the channels of arrays as these"
        )
    if predictor.all_frames:
        raise InvalidArgumentError(
            f"all_frames (--all-frames) is for three 8-bit colors, and the model takes the {channels}; remove it, and "
            "pass the pages as arrays, or, if the pages of a file are the channels, describe them with pages=True"
        )


def check_tile_by_tile(predictor: Any, source: Any) -> None:
    """Checks that a `Predictor` has no option that needs the whole image at once, and no bands for an array.

    Raises:
        InvalidArgumentError: if it has.
    """
    is_path = isinstance(source, str | os.PathLike | tuple)
    if predictor.bands is not None and not is_path:
        raise bands_error(predictor.bands)
    if predictor.tile is None:
        raise InvalidArgumentError("predict_to_file predicts tile by tile; give the predictor tile=, such as 512")
    if predictor.scores or predictor.logits:
        raise InvalidArgumentError("predict_to_file writes labels only; remove scores= and logits=")
    if predictor.min_region > 1:
        raise InvalidArgumentError(
            f"min_region={predictor.min_region} needs the whole label map; remove it, and sieve the file with GDAL"
        )
    if set(predictor.preprocessing.resize) - {"scale"}:
        raise InvalidArgumentError(
            f"the preprocessing resizes images by {predictor.preprocessing.resize}, which gives no scale for a single "
            "tile; pass preprocessing= with a scale, or without a resize to keep the image's own size"
        )


def pixel_limit(max_pixels: int | None, *, is_tiled: bool) -> int:
    """Returns the largest width times height of an image file that is decoded at once.

    Args:
        max_pixels: the argument of `Predictor`; None for the default, which bounds memory.
        is_tiled: whether images are predicted in tiles, so that the network's memory does not depend on their size.

    Raises:
        InvalidArgumentError: if `max_pixels` is not allowed.
    """
    if max_pixels is None:
        return MAX_PIXELS if is_tiled else WHOLE_PIXELS
    return check_max_pixels(max_pixels)


def is_prepared_by_tile(size: tuple[int, int], preprocessing: Preprocessing) -> bool:
    """Returns whether each tile of an image of (height, width) `size` is resized and normalized by itself.

    The floats of a whole image of this size would take more memory than the image and its labels.
    """
    return size[0] * size[1] > WHOLE_PIXELS and not set(preprocessing.resize) - {"scale"}


def copied(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Returns a copy of a network, whose type can be changed.

    Raises:
        InvalidArgumentError: if it is compiled in place, which its copy would not be.
    """
    result = copy.deepcopy(network)
    if is_compiled(network) and not is_compiled(result):
        raise InvalidArgumentError(
            f"dtype = {dtype}: the network is copied to change its type, and the copy of a network that is compiled in "
            f"place is not compiled; convert it yourself, by model.to({dtype}), and leave dtype out"
        )
    return result


def usable_dtype(
    dtype: str | torch.dtype | None, device: torch.device, network: nn.Module | None = None
) -> torch.dtype | None:
    """Returns the type to compute in, None to keep that of the weights.

    Args:
        dtype: as in `Predictor`.
        device: where the network computes.
        network: the network; of an exported file `"auto"` is the file's own type.

    Warns:
        UserWarning: if the processor does not compute in it.

    Raises:
        InvalidArgumentError: if there is no such type, or not on this device.
    """
    if dtype == "auto":
        dtype = None if hasattr(network, "own_precision") else fastest_precision(device)
    chosen = (_DTYPES | _OTHER_NAMES).get(dtype) if isinstance(dtype, str) else dtype
    if dtype is not None and chosen not in _DTYPES.values():
        raise InvalidArgumentError(
            f"dtype must be one of auto, {', '.join(_DTYPES)}, torch's types of these or None, got {dtype!r}"
        )
    if chosen == torch.float16 and device.type == "cpu":
        raise InvalidArgumentError('dtype "fp16" needs a GPU; on a CPU use dtype="auto" (--dtype auto)')
    if chosen == torch.bfloat16:
        warn_of_slow_bf16(device, 'dtype="auto", or leave it out (seg predict: --dtype auto)')
    return chosen


@contextlib.contextmanager
def memory_advice(predictor: Any) -> Iterator[None]:
    """Turns an error of missing memory, or of a network for other channels, into one that says what to change.

    A network of another library does not say how many channels it takes, before it is called.

    Raises:
        InvalidArgumentError: if the network takes another number of channels than the images have.
        NotEnoughMemoryError: if memory runs out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        counts = _OTHER_COUNT.search(str(error))
        if counts is not None and int(counts[2]) == predictor.metadata.channels.count:
            raise _other_count(int(counts[1]), predictor.metadata.channels) from error
        if isinstance(error, UserError) or not is_out_of_memory(error):
            raise
        remedies = []
        if predictor.tile is None:
            remedies.append("predict tile by tile, such as tile=512 (--tile 512)")
        else:
            remedies.append(f"use a smaller tile (now {predictor.tile})")
        if predictor.batch_size > 1:
            remedies.append(f"lower batch_size (now {predictor.batch_size}), --batch-size of seg predict")
        if predictor.logits:
            remedies.append("remove logits=True")
        if predictor.dtype is None:
            remedies.append('set dtype="bf16" (--dtype bf16)')
        raise out_of_memory("prediction", remedies, error) from error


def _other_count(count: int, channels: ImageChannels) -> InvalidArgumentError:
    example = "names=(...)" if count != RGB_CHANNELS.count else 'names=("red", "green", "blue")'
    return InvalidArgumentError(
        f"the network takes {count} channel{'s' if count > 1 else ''}, but the images are described as {channels}; "
        f"describe the {count} that it was trained on: Predictor(..., channels=seg_core.ImageChannels({example}, "
        f"range=(low, high), mean=..., std=...)), and pass images of these; or pass a network for {channels.count}"
    )
