"""A training sample after decoding: rescale, crop, flip, color jitter, normalize, on one core.

Each call prepares one sample for every rescale factor of a list, so that all contenders do equal work. Each contender
draws the position of the crop, the flip and the color changes itself.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.case import Case, Contender, DisagreementError, Goal
from benchmarks.inputs import IGNORED, blocky_labels, make_image

__all__ = ["CASES", "Inputs"]

_Range = tuple[float, float]
_Sample = tuple[Tensor, Tensor]  # float32 (3, h, w), normalized; int64 (h, w)
_Jitter = tuple[_Range, _Range, _Range, _Range]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_GRAY = tuple(round(255 * value) for value in MEAN)
NUM_CLASSES = 19
_MANY = 12  # channels: the three colors four times
_UNIT = 40  # 16-bit values per 8-bit value: about reflectances of 0 to 10000
FACTORS = tuple(0.5 + 1.5 * (index + 0.5) / 12 for index in range(12))  # the centers of 12 equal parts of 0.5 to 2

# (minimum, maximum) of brightness, contrast, saturation and hue
_PLAIN: _Jitter = ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (0.0, 0.0))
_BRIGHTER: _Jitter = ((1.2, 1.2), *_PLAIN[1:])
_COLOR: _Jitter = ((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (0.0, 0.0))
_COLOR_AND_HUE: _Jitter = (*_COLOR[:3], (-0.1, 0.1))


@dataclass(frozen=True)
class Inputs:
    """A decoded image, uint8 (H, W, 3), its mask, uint8 (H, W), and the size of the crop."""

    image: np.ndarray
    mask: np.ndarray
    crop: tuple[int, int]

    def rescaled(self, factor: float) -> tuple[int, int]:
        """Returns the size of the whole image after the rescale."""
        height, width = self.mask.shape
        return round(height * factor), round(width * factor)


@dataclass(frozen=True)
class _Geometry:
    """Degrees counter-clockwise, factors, and the distortion of the corners."""

    rotation: _Range
    zoom: _Range
    perspective: float


@dataclass(frozen=True)
class _Settings:
    factor: float
    hflip: float
    jitter: _Jitter
    geometry: _Geometry | None = None


_Pipeline = Callable[[Inputs, _Settings], Callable[[], _Sample]]


def _make_inputs(quick: bool) -> Inputs:
    height, width = (256, 512) if quick else (1024, 2048)
    mask = blocky_labels(height, width, NUM_CLASSES)
    return Inputs(make_image(height, width), mask.numpy(), (height // 2, width // 2))


# -- pipelines: each takes the image type that its users have after decoding


def _ours(inputs: Inputs, settings: _Settings) -> Callable[[], _Sample]:
    import seg_core

    image, mask = Image.fromarray(inputs.image), Image.fromarray(inputs.mask)
    transform = seg_core.SegmentationTransform(inputs.crop, scale_range=(settings.factor, settings.factor))
    moves: dict[str, Any] = {}
    if settings.geometry is not None:
        moves["rotation_range"] = settings.geometry.rotation
        moves["zoom_range"] = settings.geometry.zoom
        moves["perspective"] = settings.geometry.perspective
    augment = seg_core.SegmentationAugment(hflip=settings.hflip, color_jitter=settings.jitter, **moves)
    return lambda: augment(*transform(image, mask))


def _ours_of_many_channels(inputs: Inputs, settings: _Settings) -> Callable[[], _Sample]:
    import seg_core
    from seg_core.labels.channels import ImageChannels

    names = ("red", "green", "blue", *(f"band {index}" for index in range(4, _MANY + 1)))
    times = _MANY // 3
    channels = ImageChannels(names, range=(0, 255 * _UNIT), mean=MEAN * times, std=STD * times)
    # planes in memory, as files of many bands are read
    planes = np.tile(inputs.image.transpose(2, 0, 1), (times, 1, 1)).astype(np.uint16) * _UNIT
    transform = seg_core.SegmentationTransform(
        inputs.crop, scale_range=(settings.factor, settings.factor), channels=channels
    )
    augment = seg_core.SegmentationAugment(hflip=settings.hflip, color_jitter=settings.jitter, channels=channels)
    image = planes.transpose(1, 2, 0)
    return lambda: augment(*transform(image, inputs.mask))


def _torchvision(inputs: Inputs, settings: _Settings, from_pil: bool) -> Callable[[], _Sample]:
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    fill = {tv_tensors.Image: _GRAY, tv_tensors.Mask: IGNORED}
    steps = [
        v2.Resize(inputs.rescaled(settings.factor), antialias=True),
        v2.RandomCrop(inputs.crop),
        v2.RandomHorizontalFlip(settings.hflip),
    ]
    if settings.geometry is not None:
        low, high = settings.geometry.rotation
        if settings.geometry.perspective:
            steps.append(v2.RandomPerspective(settings.geometry.perspective, p=1.0, fill=fill))
        # torchvision's rotation is clockwise
        degrees, bilinear = (-high, -low), v2.InterpolationMode.BILINEAR
        steps.append(v2.RandomAffine(degrees, scale=settings.geometry.zoom, interpolation=bilinear, fill=fill))
    types = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}
    steps += [v2.ColorJitter(*settings.jitter), v2.ToImage(), v2.ToDtype(types, scale=True), v2.Normalize(MEAN, STD)]
    transform = v2.Compose(steps)
    image, mask = Image.fromarray(inputs.image), Image.fromarray(inputs.mask)
    # channels last in memory, like the output of torchvision's decoders
    tensor, tensor_mask = v2.functional.to_image(image), tv_tensors.Mask(inputs.mask)

    def work() -> _Sample:
        result, labels = transform(image, tv_tensors.Mask(mask)) if from_pil else transform(tensor, tensor_mask)
        return result, labels.squeeze(0)

    return work


def _torchvision_pil(inputs: Inputs, settings: _Settings) -> Callable[[], _Sample]:
    return _torchvision(inputs, settings, from_pil=True)


def _torchvision_tensor(inputs: Inputs, settings: _Settings) -> Callable[[], _Sample]:
    return _torchvision(inputs, settings, from_pil=False)


def _albumentations(inputs: Inputs, settings: _Settings) -> Callable[[], _Sample]:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # otherwise it looks for a newer version on the network
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    transform = A.Compose(
        [
            A.Resize(*inputs.rescaled(settings.factor)),
            A.RandomCrop(*inputs.crop),
            A.HorizontalFlip(p=settings.hflip),
            A.ColorJitter(*settings.jitter, p=1.0),
            A.Normalize(MEAN, STD),
            ToTensorV2(),
        ]
    )

    def work() -> _Sample:
        result = transform(image=inputs.image, mask=inputs.mask)
        return result["image"], result["mask"].long()

    return work


def _kornia(inputs: Inputs, settings: _Settings) -> Callable[[], _Sample]:
    import kornia.augmentation as K

    # antialias=True would blur with a kernel that takes ten times as long as everything else
    transform = K.AugmentationSequential(
        K.Resize(inputs.rescaled(settings.factor), align_corners=False),
        K.RandomCrop(inputs.crop),
        K.RandomHorizontalFlip(p=settings.hflip),
        K.ColorJitter(*settings.jitter, p=1.0),
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input", "mask"],
    )
    # channels last in memory: its resize is slightly faster
    image = torch.from_numpy(inputs.image).permute(2, 0, 1)[None]
    mask = torch.from_numpy(inputs.mask)[None, None]

    def work() -> _Sample:
        result, labels = transform(image.float() / 255, mask)
        return result[0], labels[0, 0].long()

    return work


def _pixseg(inputs: Inputs, settings: _Settings) -> Callable[[], _Sample]:
    from pixseg.utils.transform import SegmentationAugment, SegmentationTransform

    image, mask = Image.fromarray(inputs.image), Image.fromarray(inputs.mask)
    transform = SegmentationTransform(inputs.crop)
    augment = SegmentationAugment(hflip=settings.hflip, color_jitter=settings.jitter, mask_fill=IGNORED)

    def work() -> _Sample:
        pixels, labels = transform(image, mask)
        result, labels = augment(pixels[None], labels[None])  # its trainer augments batches
        return result[0], labels[0]

    return work


# -- agreement: nothing is random, and the crop is as large as the rescaled image

_SURE = _Settings(factor=0.5, hflip=0.0, jitter=_PLAIN)
_COMPARED = {"plain": _SURE, "brighter": replace(_SURE, jitter=_BRIGHTER)}
_TURNED = {"turned": replace(_SURE, geometry=_Geometry((10.0, 10.0), (0.8, 0.8), 0.0))}

_REFERENCE = "torchvision PIL"
_CROP_ONLY = "pixseg (crop only)"
# mean absolute difference of images in 0 to 1: rounding to 8 bits, or another resize by half
_TOLERANCES = {"ours": 1 / 255, "torchvision tensor": 1 / 255}
_OTHER_RESIZE = 8 / 255
_MIN_EQUAL_LABELS = 0.95  # nearest resize: some take the corner pixel, some the center one


def check_samples(answers: Mapping[str, Mapping[str, _Sample]]) -> str:
    """Returns the sentence of agreement with torchvision's antialiased resize from PIL images."""
    reference = _REFERENCE if _REFERENCE in answers else "torchvision tensor"
    texts = []
    for name, samples in answers.items():
        differences, equals = [], []
        for setting, (image, mask) in samples.items():
            expected, labels = answers[reference][setting]
            kinds = (image.dtype, image.shape, mask.dtype, mask.shape)
            if kinds != (torch.float32, expected.shape, torch.int64, labels.shape):
                raise DisagreementError(f"{name!r}, {setting}: the sample has types and shapes {kinds}")
            differences.append(float(((image - expected) * torch.tensor(STD)[:, None, None]).abs().mean()))
            equals.append(float((mask == labels).float().mean()))
        if name == _CROP_ONLY:
            texts.append(f"{name} types and shapes only")
        elif name != reference:
            text = f"{name} {max(differences):.4f}, {100 * min(equals):.1f} %"
            if max(differences) > _TOLERANCES.get(name, _OTHER_RESIZE) or min(equals) < _MIN_EQUAL_LABELS:
                raise DisagreementError(
                    f"difference of images (0 to 1) and equal labels compared with {reference!r}: {text}"
                )
            texts.append(text)
    return (
        f"largest mean difference of images (0 to 1) and fewest equal labels compared with {reference}, over the "
        f"settings {', '.join(next(iter(answers.values())))}: {'; '.join(texts)}"
    )


def check_many_channels(answers: Mapping[str, Mapping[str, _Sample]]) -> str:
    """Returns the sentence of agreement of many channels with the colors that they repeat, which are of 8 bits."""
    largest = 0.0
    for setting, (image, mask) in answers[_MANY_NAME].items():
        colors, labels = answers[_RGB_NAME][setting]
        difference = (image.reshape(-1, *colors.shape) - colors).abs().mul(torch.tensor(STD)[:, None, None]).mean()
        largest = max(largest, float(difference))
        if image.shape[0] != _MANY or not torch.equal(mask, labels) or largest > 1 / 255:
            raise DisagreementError(f"{setting}: {image.shape[0]} channels, mean difference {largest:.4f}, other masks")
    return f"largest mean difference of the channels from the colors that they repeat {largest:.4f}, equal masks"


# -- cases


def _contender(
    name: str, pipeline: _Pipeline, jitter: _Jitter, distribution: str, geometry: _Geometry | None = None
) -> Contender:
    def prepare(inputs: Inputs) -> Callable[[], None]:
        works = [pipeline(inputs, _Settings(factor, 0.5, jitter, geometry)) for factor in FACTORS]

        def work() -> None:
            for one in works:
                one()

        return work

    compared = _COMPARED if geometry is None else {**_COMPARED, **_TURNED}
    return Contender(
        name,
        prepare,
        "ours" if pipeline in (_ours, _ours_of_many_channels) else "peer",
        distribution,
        answer=lambda inputs: {setting: pipeline(inputs, settings)() for setting, settings in compared.items()},
    )


def _case(name: str, jitter: _Jitter, words: str, goals: tuple[Goal, ...]) -> Case:
    return Case(
        name=name,
        work=f"1024x2048 pixels: rescale 0.5 to 2, crop 512x1024, flip, {words}, normalize; 12 samples a call",
        make_inputs=_make_inputs,
        contenders=(
            _contender("ours", _ours, jitter, "seg-core"),
            _contender("torchvision PIL", _torchvision_pil, jitter, "torchvision"),
            _contender("torchvision tensor", _torchvision_tensor, jitter, "torchvision"),
            _contender("albumentations (not antialiased)", _albumentations, jitter, "albumentations"),
            _contender("kornia (not antialiased)", _kornia, jitter, "kornia"),
            _contender(_CROP_ONLY, _pixseg, jitter, "pixseg"),
        ),
        check=check_samples,
        goals=goals,
        threads=1,
        images_per_call=len(FACTORS),
        memory=False,
    )


_MANY_NAME, _RGB_NAME = "ours, 12 channels of uint16", "ours, RGB of uint8"
_WILD = _Geometry(rotation=(-10.0, 10.0), zoom=(0.8, 1.25), perspective=0.3)

CASES = (
    _case(
        "color",
        _COLOR,
        "brightness, contrast and saturation 0.4",
        (
            Goal("ours", "torchvision PIL", speed=3),
            Goal("ours", "torchvision tensor", speed=2),
            Goal("ours", "albumentations (not antialiased)", speed=1.2),
        ),
    ),
    _case(
        "color and hue",
        _COLOR_AND_HUE,
        "brightness, contrast and saturation 0.4, hue 0.1",
        (
            Goal("ours", "torchvision PIL", speed=3),
            Goal("ours", "albumentations (not antialiased)", speed=1.1),
        ),
    ),
    Case(
        name="color and geometry",
        work="as 'color', and rotation by up to 10 degrees, zoom 0.8 to 1.25, perspective 0.3",
        make_inputs=_make_inputs,
        contenders=(
            _contender("ours", _ours, _COLOR, "seg-core", _WILD),
            _contender("torchvision tensor", _torchvision_tensor, _COLOR, "torchvision", _WILD),
        ),
        check=check_samples,
        threads=1,
        images_per_call=len(FACTORS),
        memory=False,
    ),
    Case(
        name="12 channels",
        work=f"as 'color', of images of {_MANY} channels of uint16, beside RGB of uint8",
        make_inputs=_make_inputs,
        contenders=(
            _contender(_MANY_NAME, _ours_of_many_channels, _COLOR, "seg-core"),
            _contender(_RGB_NAME, _ours, _COLOR, "seg-core"),
        ),
        check=check_many_channels,
        goals=(Goal(_MANY_NAME, _RGB_NAME, speed=1 / 8),),
        threads=1,
        images_per_call=len(FACTORS),
        memory=False,
    ),
)
