"""Transforms of a user's own: after the random crop, each seeded like the crop, and their results checked."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError, UserError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTICLASS
from seg_core.own_code import find_target
from seg_core.randomness import OWN_TRANSFORM_STREAM, isolated_randomness, sample_seed
from seg_core.spec import takes
from seg_core.transforms.crop import SegmentationTransform
from seg_core.transforms.geometry import mask_fill_of

__all__ = ["IMAGE_TYPES", "OwnTransform", "OwnTransforms", "build_own_transform", "build_own_transforms"]

IMAGE_TYPES = (torch.uint8, torch.uint16, torch.float32)
_INTEGERS = (torch.uint8, torch.uint16, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class OwnTransform:
    """One transform.

    Attributes:
        name: `"package.module:attribute"`, for messages.
        call: called with image and mask; with the keyword `generator` too, if it takes that.
        with_generator: whether it does.
    """

    name: str
    call: Callable[..., Any]
    with_generator: bool


def build_own_transform(name: str, target: Callable[..., Any], params: Mapping[str, Any]) -> OwnTransform:
    """Calls a class or function with its params; what it returns is the transform.

    Args:
        name: its name, for messages.
        target: the class or function.
        params: arguments by name.

    Raises:
        InvalidArgumentError: if it does not take the params, or what it returns cannot be called.
    """
    try:
        call = target(**params)
    except (UserError, TypeError, ValueError) as error:
        raise InvalidArgumentError(str(error)) from error
    if not callable(call):
        raise InvalidArgumentError(
            f"{name} returned {type(call).__name__}, which cannot be called with (image, mask); name a class with "
            "__call__, or a function that returns a transform"
        )
    return OwnTransform(name, call, takes(call, "generator"))


def build_own_transforms(
    named: Sequence[tuple[str, Mapping[str, Any]]], metadata: DatasetMetadata, seed: int
) -> "OwnTransforms | None":
    """Returns the transforms of a config, None if it has none.

    Args:
        named: name and params of each, in the order of application.
        metadata: of the dataset.
        seed: of the run.

    Warns:
        UserWarning: if one of torchvision's fills masks with a class.

    Raises:
        UserError: if one of them cannot be built, or its module was not imported.
    """
    built = [_told_of_fill(own, metadata) for own in _built(named)]
    return OwnTransforms(built, metadata, seed) if built else None


def _built(named: Sequence[tuple[str, Mapping[str, Any]]]) -> list[OwnTransform]:
    return [build_own_transform(name, find_target(name, "transform"), params) for name, params in named]


def _told_of_fill(own: OwnTransform, metadata: DatasetMetadata) -> OwnTransform:
    """Returns a transform, and warns if it is one of torchvision that fills masks with a class."""
    fill = mask_fill_of(own.call)
    if fill is not None and fill != metadata.ignore_index:
        warnings.warn(
            f"{own.name} of data.transform.train.custom fills masks with {fill}, the id of "
            f"{_name_of(fill, metadata)}, where it moves the image away: set "
            f"params.fill = {metadata.ignore_index}, the value that is ignored (images are filled with it too), or use "
            "data.augment.rotation_range, zoom_range or perspective, which ignore what they fill",
            stacklevel=4,
        )
    return own


def _name_of(fill: float, metadata: DatasetMetadata) -> str:
    if metadata.task != MULTICLASS and fill in (0, 1):
        return "the pixels with a class" if fill else "the pixels without a class"
    known = metadata.task == MULTICLASS and fill in range(metadata.num_classes)
    return f"the class {metadata.labels[int(fill)]!r}" if known else "no class"


class OwnTransforms:
    """Applies transforms in turn.

    Args:
        transforms: in the order of application.
        metadata: of the dataset: allowed class ids.
        seed: of the run.
    """

    def __init__(self, transforms: Sequence[OwnTransform], metadata: DatasetMetadata, seed: int = 0) -> None:
        self.transforms = tuple(transforms)
        self.seed = seed
        self._num_ids, self._ignored = metadata.num_ids, metadata.ignore_index
        # the tensor types of images and masks
        self._as_tensors = SegmentationTransform(channels=metadata.channels, task=metadata.task)

    def __call__(self, image: Tensor, mask: Tensor, epoch: int, place: int) -> tuple[Tensor, Tensor]:
        """Returns image and mask after all transforms.

        The draws depend on seed, epoch, place and the position of the transform alone. Transforms may draw from the
        generator, or from the default states of Python's `random`, `np.random` and torch.

        Args:
            image: uint8 (3, H, W) in 0 to 255; of other channels (C, H, W), uint8, uint16 or float32.
            mask: class ids (H, W) of any integer type; of a multilabel task (K, H, W).
            epoch: counted from 0.
            place: see `PlannedSample`.

        Raises:
            InvalidArgumentError: if a transform returns something other than an image and a mask of the same types and
                size, or a mask with ids that are no class; the message names it.
        """
        kind = mask.dtype
        image, mask = self._as_tensors(image, mask)
        for position, transform in enumerate(self.transforms):
            own_seed = sample_seed(self.seed, epoch, place, OWN_TRANSFORM_STREAM, position)
            options: dict[str, Any] = {}
            if transform.with_generator:
                options["generator"] = torch.Generator().manual_seed(own_seed)
            # three channels of 8 bits stay so; another type of other channels would change the unit unseen
            shape, dtype = image.shape, image.dtype
            before = mask.as_subclass(Tensor).clone()  # the transform may write into it
            try:
                with isolated_randomness(own_seed):
                    result = transform.call(image, mask, **options)
            except Exception as error:
                error.add_note(f"raised by {transform.name}, a transform of data.transform.train.custom")
                raise
            image, mask = self._checked(result, transform.name, shape, dtype, before.shape)
            # wrong ids that the dataset itself returned are reported later, with their file
            if (wrong := self._wrong_ids(mask)) and not self._wrong_ids(before):
                ids = ", ".join(map(str, wrong[:5]))
                raise InvalidArgumentError(
                    f"{transform.name} returned a mask with the ids {ids}, which are neither a class (0 to "
                    f"{self._num_ids - 1}) nor ignored ({self._ignored}); masks are not to be interpolated or "
                    "normalized"
                )
            image, mask = self._as_tensors(image, mask.to(kind))
        return image, mask

    def _wrong_ids(self, mask: Tensor) -> list[int]:
        """Returns ids that are neither a class nor ignored."""
        plain = mask.as_subclass(Tensor).to(torch.int64)
        wrong = plain[(plain != self._ignored) & ((plain < 0) | (plain >= self._num_ids))]
        return torch.unique(wrong).tolist() if wrong.numel() else []

    @staticmethod
    def _checked(
        result: Any, name: str, size: Sequence[int], dtype: torch.dtype, mask_size: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        if not isinstance(result, tuple | list) or len(result) != 2 or not all(isinstance(r, Tensor) for r in result):
            got = f"a {type(result).__name__}"
            if isinstance(result, tuple | list):
                got += f" of {', '.join(type(item).__name__ for item in result) or 'nothing'}"
            raise InvalidArgumentError(f"{name} must return (image, mask), two tensors, got {got}")
        image, mask = result
        for what, tensor, shape, types in (
            ("image", image, tuple(size), (dtype,)),
            ("mask", mask, tuple(mask_size), _INTEGERS),
        ):
            if tuple(tensor.shape) != shape or tensor.dtype not in types:
                kind = "an integer type" if what == "mask" else str(dtype).removeprefix("torch.")
                raise InvalidArgumentError(
                    f"{name} must return {'an' if what == 'image' else 'a'} {what} of {kind} with shape {shape}, got "
                    f"{tensor.dtype} {tuple(tensor.shape)}; it is applied after the crop and keeps size and type, "
                    "normalization comes later"
                )
        return image, mask
