"""Backbones of timm, PyTorch image models, by name. https://github.com/huggingface/pytorch-image-models

A timm network that can return features of images of any size is a backbone here: `"timm:convnext_tiny"`. timm is an
extra: `pip install seg-models[timm]`.

What timm says of its networks is not always what they do: some take multiples of a stride or of a window, some take
one size unless an option says otherwise, and some have features of other sizes than their strides say. So each network
is measured when it is built: on the meta device, where this takes no memory and well under a second. The table of
docs/timm.md is written from such measurements by `hatch run models`.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError, UnknownNameError, WriteError, nearest
from seg_core.files.download import is_offline, stored_path
from seg_core.interfaces import FeatureInfo
from seg_models.backbones.base import Backbone, check_arguments

__all__ = ["Measurement", "TimmBackbone", "measure", "timm_backbone"]

# options under which some of timm's networks take any size, in the order in which they are tried
DYNAMIC: tuple[dict[str, bool], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})
# even and odd sizes; what passes at all of them passes at any
SIZES = ((64, 64), (97, 130), (33, 47), (31, 61))
# slopes are measured from images of at least this side to twice as large ones
SIDE = 128
LARGEST_MINIMUM = 256
# what timm and torch raise when a network cannot be built, or cannot take a size
FAILURES = (TypeError, NotImplementedError, AssertionError, RuntimeError, ValueError, AttributeError, IndexError)


@dataclass(frozen=True)
class Measurement:
    """What a network of timm does, measured.

    Attributes:
        options: the options of `timm.create_model` under which it takes any size.
        multiple: the sides of its images must be multiples of this; 1 if there is nothing to heed.
        minimum: its images' least side.
        channels: channels of each feature, from fine to coarse.
        strides: pixels per feature, likewise.
        channels_last: whether its features are (N, h, w, C).
        inexact: positions of the features whose size is not the image's size divided by the stride.
    """

    options: Mapping[str, bool]
    multiple: int
    minimum: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    channels_last: bool
    inexact: tuple[int, ...]


class TimmBackbone(Backbone):
    """A network of timm as a backbone, for images of any size.

    Images are padded at the bottom and the right with zeros, to the size that the network needs; its features are
    cropped to the images' own size divided by the stride, rounded up. Features of another size are resized to that one.

    Args:
        model: result of `timm.create_model(..., features_only=True)`.
        measured: what `measure` found for it.
    """

    def __init__(self, model: Any, measured: Measurement) -> None:
        super().__init__()
        self.model = model
        self.measured = measured
        info = zip(measured.channels, measured.strides, strict=True)
        self.feature_info = tuple(FeatureInfo(f"stage{n}", *facts) for n, facts in enumerate(info, 1))
        self._facts = self.feature_info
        self._resized = {self._facts[position].name for position in measured.inexact}

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns `"stage1"`, `"stage2"`, ..., as `Backbone.forward`."""
        selected = OrderedDict()
        padded = self._pad(images)
        for info, feature in zip(self._facts, self.model(padded), strict=True):
            if info.name in self._selected():
                if self.measured.channels_last:
                    feature = feature.permute(0, 3, 1, 2)
                selected[info.name] = self._fit(feature, info, images, padded)
        return selected

    def _pad(self, images: Tensor) -> Tensor:
        """Returns the images at a size that the network takes."""
        multiple, minimum = self.measured.multiple, self.measured.minimum
        if multiple == 1 and min(images.shape[-2:]) >= minimum:
            return images
        height, width = (max(-(-side // multiple) * multiple, minimum) - side for side in images.shape[-2:])
        return F.pad(images, (0, width, 0, height))

    def _fit(self, feature: Tensor, info: FeatureInfo, images: Tensor, padded: Tensor) -> Tensor:
        """Returns a feature of the padded images at the size that it must have for the images."""
        if info.name in self._resized:
            size = [-(-side // info.stride) for side in padded.shape[-2:]]
            feature = F.interpolate(feature, size=size, mode="bilinear", align_corners=False)
        if padded is images:
            return feature
        height, width = (-(-side // info.stride) for side in images.shape[-2:])
        return feature[..., :height, :width]


def timm_backbone(
    name: str,
    *,
    weights: object = None,
    progress: bool = True,  # noqa: ARG001 - an argument of every backbone
    in_channels: int = 3,
    output_stride: int = 32,
    **options: Any,
) -> TimmBackbone:
    """Builds a backbone of timm.

    Args:
        name: timm's name, without the prefix, such as `"convnext_tiny"`.
        weights: `"DEFAULT"`, the tag of one of timm's pretrained weights, such as `"fb_in1k"`, or None to initialize
            randomly.
        progress: ignored; timm decides.
        in_channels: channels of the images; timm inflates its weights by the same rule as this toolkit.
        output_stride: pixels per feature of the last stages; less than 32 only if timm's network supports it.
        options: further options of timm's network, such as `img_size`. Those that let it take images of any size are
            set by themselves.

    Raises:
        InvalidArgumentError: if timm is not installed, cannot build its network with these options, or the network
            cannot take images of any size.
        UnknownNameError: if timm has no such network or weights.
        WriteError: if the weights cannot be fetched.
    """
    check_arguments(in_channels, output_stride)
    try:
        import timm
    except ModuleNotFoundError as error:
        raise InvalidArgumentError(
            f"backbone 'timm:{name}' needs timm, which is not installed; pip install seg-models[timm]"
        ) from error
    if (bare := _without_prefix(name)) != name and timm.is_model(bare):
        raise UnknownNameError(f"unknown backbone 'timm:{name}'. Use 'timm:{bare}', the name without the prefix")
    if not timm.is_model(name):
        hint = nearest(name, timm.list_models())
        raise UnknownNameError(f"unknown backbone 'timm:{name}'.{hint} timm.list_models() lists all")
    tag = _tag(timm, name, weights)
    if output_stride != 32:
        options = {**options, "output_stride": output_stride}
    options["in_chans"] = in_channels
    measured = measure(name, **options)
    coarsest = measured.strides[-1]
    if output_stride != 32 and coarsest > output_stride:
        raise InvalidArgumentError(
            f"timm's {name!r} ignores output_stride={output_stride}: its features end at stride {coarsest}; choose "
            "another backbone, or a larger output_stride"
        )
    if tag is not None and is_offline():
        options["pretrained_cfg_overlay"] = {"file": str(_cached(timm, name, tag))}
    try:
        model = timm.create_model(
            name if tag is None else f"{name.partition('.')[0]}.{tag}",
            pretrained=tag is not None,
            features_only=True,
            **{**measured.options, **options},
        )
    except OSError as error:
        raise WriteError(
            f"cannot fetch the weights {tag!r} of timm's {name!r}: {error}; check the network, or remove "
            "weights_backbone"
        ) from error
    except FAILURES as error:
        raise _cannot_build(name, options, error) from error
    return TimmBackbone(model, measured)


def measure(name: str, **options: Any) -> Measurement:
    """Returns what a network of timm does with images of several sizes; nothing is computed, and no memory taken.

    Args:
        name: timm's name.
        options: options of `timm.create_model`.

    Raises:
        InvalidArgumentError: if timm cannot build the network, or it cannot take images of any size.
    """
    reasons: list[str] = []
    for number, dynamic in enumerate(DYNAMIC):
        if dynamic.keys() & options.keys():
            continue
        try:
            model = _on_meta(name, {**dynamic, **options})
        except FAILURES as error:
            if number:  # this network has no such option
                continue
            raise _cannot_build(name, options, error) from error
        native = _native_size(name, options)
        for multiple, minimum in _needs(model, native):
            try:
                return _measured(model, options.get("in_chans", 3), dynamic, multiple, minimum)
            except _UnfitError as error:
                reasons.append(str(error))
    raise InvalidArgumentError(
        f"timm's {name!r} cannot be a backbone, because it does not take images of any size: {reasons[0]}; choose "
        "another, such as 'timm:convnext_tiny', 'timm:swin_tiny_patch4_window7_224' or one that docs/timm.md lists"
    )


class _UnfitError(Exception):
    """The network cannot take these sizes, or its features are not those of a backbone."""


def _on_meta(name: str, options: Mapping[str, Any]) -> Any:
    """Returns the network without its values; the states of the random generators stay."""
    import timm

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return timm.create_model(name, pretrained=False, features_only=True, **options).eval()


def _native_size(name: str, options: Mapping[str, Any]) -> int:
    """Returns the larger side of the images that the network was made for."""
    import timm

    size = options.get("img_size")
    if size is None:
        config = timm.get_pretrained_cfg(name)
        size = 1 if config is None else config.input_size[-2:]
    return max(size) if isinstance(size, Sequence) else int(size)


def _needs(model: Any, native: int) -> Iterator[tuple[int, int]]:
    """Yields the multiples and minima of sides to try: from what costs least to what costs most."""
    stride = max(model.feature_info.reduction())
    yield 1, 1
    yield 1, stride
    for multiple in (stride, 2 * stride):
        yield multiple, multiple
    for minimum in range(2 * stride, LARGEST_MINIMUM + 1, stride):
        yield 1, minimum
    yield native, native


def _measured(model: Any, in_channels: int, options: Mapping[str, bool], multiple: int, minimum: int) -> Measurement:
    """Returns what the network does, if it takes all sizes of this multiple and minimum.

    Raises:
        _UnfitError: if not.
    """
    side = -(-max(SIDE, minimum) // multiple) * multiple
    reported = model.feature_info.channels()
    channels_last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")

    def run(height: int, width: int) -> list[tuple[int, int, int]]:
        """Returns the channels, height and width of each feature."""
        try:
            with torch.no_grad():
                features = model(torch.zeros(1, in_channels, height, width, device="meta"))
        except FAILURES as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise _UnfitError(f"an image of {height}x{width} makes it raise {text!r}") from error
        if any(feature.ndim != 4 for feature in features) or len(features) != len(reported):
            raise _UnfitError("its features are not maps")
        shapes = [feature.permute(0, 3, 1, 2).shape if channels_last else feature.shape for feature in features]
        return [(shape[1], shape[2], shape[3]) for shape in shapes]

    whole, twice = run(side, side), run(2 * side, 2 * side)
    growth = [larger[1] - smaller[1] for smaller, larger in zip(whole, twice, strict=True)]
    strides = tuple(
        _stride(side, features, said) for features, said in zip(growth, model.feature_info.reduction(), strict=True)
    )
    if list(strides) != sorted(strides):
        raise _UnfitError(f"its features have the strides {strides}, which are not from fine to coarse")
    channels = tuple(feature[0] for feature in whole)
    inexact = set()
    sizes = [(side, side), (side, 2 * side), *SIZES]
    for height, width in {tuple(max(-(-s // multiple) * multiple, minimum) for s in size) for size in sizes}:
        for position, (found, *size) in enumerate(run(height, width)):
            if found != channels[position]:
                raise _UnfitError(f"an image of {height}x{width} gives it {found} channels, not {channels[position]}")
            stride = strides[position]
            if not all(s // stride <= f <= -(-s // stride) for s, f in zip((height, width), size, strict=True)):
                inexact.add(position)
    return Measurement(options, multiple, minimum, channels, strides, channels_last, tuple(sorted(inexact)))


def _stride(pixels: int, features: int, said: int) -> int:
    """Returns the stride of features that grow by `features` where the image grows by `pixels`.

    Args:
        pixels: growth of the image's side.
        features: growth of the features' side.
        said: the stride that timm gives.

    Raises:
        _UnfitError: if there is none.
    """
    if features < 1:
        raise _UnfitError("its features do not grow with the image")
    for stride in (said, round(pixels / features)):
        # a side that is no multiple of the stride has one feature more or less
        if abs(pixels - stride * features) <= stride:
            return stride
    raise _UnfitError(f"its features have {pixels / features:.2f} pixels each, which is no stride")


def _cannot_build(name: str, options: Mapping[str, Any], error: Exception) -> InvalidArgumentError:
    if "output_stride" in options and "output_stride" in str(error):
        return InvalidArgumentError(
            f"timm's {name!r} has no option output_stride, and this network needs output_stride="
            f"{options['output_stride']}; choose a backbone that has it, such as 'timm:resnet50' or "
            "'timm:convnext_tiny', or a network that takes any, such as 'unet'"
        )
    given = {"output_stride": 32, **{key: value for key, value in options.items() if key != "in_chans"}}
    return InvalidArgumentError(
        f"timm cannot build {name!r} as a backbone with "
        + ", ".join(f"{key}={value!r}" for key, value in given.items())
        + f": {error}; choose another backbone, such as 'timm:convnext_tiny' (docs/timm.md lists more)"
    )


def _without_prefix(name: str) -> str:
    """Returns timm's name from that of its model on the Hugging Face hub, such as `"hf-hub:timm/resnet18.a1_in1k"`."""
    return name.removeprefix("hf-hub:").removeprefix("hf_hub:").removeprefix("timm/")


def _tag(timm: Any, name: str, weights: object) -> str | None:
    """Returns the tag of the named weights."""
    if weights is None:
        return None
    network = name.partition(".")[0]  # such as resnet18 of resnet18.a1_in1k, of which a1_in1k is the default then
    full = [known for known in timm.list_pretrained(f"{network}*") if known.partition(".")[0] == network]
    tags = [known.partition(".")[2] for known in full]
    if weights == "DEFAULT" and tags:
        default = timm.get_pretrained_cfg(name)
        return str(default.tag) if default is not None and default.tag in tags else tags[0]
    if not isinstance(weights, str) or weights not in tags:
        hint = nearest(weights, tags) if isinstance(weights, str) else ""
        raise UnknownNameError(
            f"unknown weights_backbone {weights!r} of timm's {name!r}.{hint} Known: "
            + (", ".join(["DEFAULT", *tags]) if tags else "none")
        )
    return weights


def _cached(timm: Any, name: str, tag: str) -> Path:
    """Returns the file of timm's weights in the cache of the Hugging Face hub or of torch.hub; makes no request.

    Raises:
        WriteError: if it is in neither.
    """
    published = timm.get_pretrained_cfg(f"{name}.{tag}")
    places = []
    if published.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        for file in (published.hf_hub_filename, "model.safetensors", "pytorch_model.bin"):
            found = try_to_load_from_cache(published.hf_hub_id, file) if file else None
            if isinstance(found, str):  # else the file is not in the cache, or known not to exist
                return Path(found)
        places.append("the cache of the Hugging Face hub")
    if published.url:
        path = stored_path(published.url)
        if path.is_file():
            return path
        places.append(str(path))
    raise WriteError(
        f"cannot fetch the weights {tag!r} of timm's {name!r}: got no answer, since SEG_OFFLINE forbids requests, and "
        f"the file is not in {' or at '.join(places)}; use them once without SEG_OFFLINE, or remove weights_backbone"
    )
