"""Several similar datasets joined into one, with one label set.

Classes are converted by the label set conversions of seg_core, such as those to `Street` (Cityscapes,
BDD100K, Mapillary Vistas) and `Aerial` (LoveDA, Potsdam, Vaihingen). `seg_core.list_conversions("Street")` lists the
label sets that can be joined.
"""

import bisect
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from torch.utils.data import Dataset

from seg_core.errors import InvalidArgumentError
from seg_core.files.image_sums import ImageFile
from seg_core.files.scan import MaskFile
from seg_core.labels.channels import ImageChannels
from seg_core.labels.conversion import label_map_between
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_datasets.factory import get_dataset

__all__ = ["Unified", "unify"]

LAYOUT = "the layout of each member, in the root of the member"


class Unified(Dataset[Any]):
    """The samples of several datasets, one dataset after the other, with the classes of one label set.

    A sample is (image, mask): image uint8 (3, H, W), RGB, or of the channels that all members have; mask (H, W), ids of
    `label_set` and its ignore value.
    Classes without a counterpart in `label_set` are ignored.

    Args:
        root: folder that the members' roots are relative to; None for the current folder.
        split: `"train"`, `"val"`, `"test"` or another split that all members have.
        transforms: called as `transforms(image, mask)`; its result is the sample.
        label_set: name of the label set, such as `"Street"` or `"Aerial"`.
        members: datasets, or tables of arguments of `get_dataset`, such as
            `{"name": "BDD100K", "root": "data/bdd100k", "missing": "error"}`; a table may have its own `split`.

    Attributes:
        metadata: names and colors of the classes of `label_set`.
        split: as given.
        members: the datasets.

    Raises:
        InvalidArgumentError: if there are no members, a table has no name, a member has no metadata, or images of
            members have other channels.
        UnknownNameError: if there is no such label set, or a member's classes cannot be converted to it.
        DatasetNotFoundError: if a member's files are not found.
    """

    layout: ClassVar[str] = LAYOUT

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        label_set: str | DatasetMetadata,
        members: Sequence[Any],
    ) -> None:
        if isinstance(members, Mapping | str) or not members:
            raise InvalidArgumentError(
                'members must be a list of datasets or of tables such as {"name": "BDD100K", "root": "data/bdd100k"}, '
                f"got {members!r}"
            )
        self.split = split
        self.transforms = transforms
        self.members = [_opened(member, root, split) for member in members]
        self.metadata = replace(resolve_metadata(label_set), channels=_common_channels(self.members))
        self._label_maps: list[LabelMap] = [
            label_map_between(member.metadata, self.metadata) for member in self.members
        ]
        self._label_maps_of_files: dict[int, LabelMap] = {}
        self._ends = list(itertools.accumulate(len(member) for member in self.members))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Any:
        """Returns sample `index`: (image, mask), or the result of `transforms`.

        Raises:
            IndexError: if there is no such sample.
            CorruptFileError, LabelOutOfRangeError: as the member raises them.
        """
        member, own_index = self._find(index)
        image, mask = self.members[member][own_index]
        if mask is not None:
            mask = self._label_maps[member](mask)
        return (image, mask) if self.transforms is None else self.transforms(image, mask)

    def file_names(self, index: int) -> tuple[str, ...]:
        """Returns the paths of image and mask of sample `index`."""
        member, own_index = self._find(index)
        return tuple(self.members[member].file_names(own_index))

    def image_size(self, index: int) -> tuple[int, int]:
        """Returns height and width of the image of sample `index`, of members whose images are files."""
        member, own_index = self._find(index)
        size: tuple[int, int] = self.members[member].image_size(own_index)
        return size

    def can_read_windows(self, index: int) -> bool:
        """Returns whether a part of sample `index` is read without the rest, as its member says."""
        member, own_index = self._find(index)
        ask = getattr(self.members[member], "can_read_windows", None)
        return self.transforms is None and ask is not None and bool(ask(own_index))

    def read_window(self, index: int, top: int, left: int, height: int, width: int) -> Any:
        """Returns a part of sample `index` of a member that reads parts, with the classes of `label_set`.

        Raises:
            InvalidArgumentError: if the part is not inside of the image, or samples have `transforms`.
        """
        if self.transforms is not None:
            raise InvalidArgumentError("a part of a sample with transforms is not read; open the dataset without these")
        member, own_index = self._find(index)
        image, mask = self.members[member].read_window(own_index, top, left, height, width)
        return image, None if mask is None else self._label_maps[member](mask)

    def mask_file(self, index: int) -> MaskFile | None:
        """Returns the mask file of sample `index`, for a scan of the masks; None if its member has none."""
        member, own_index = self._find(index)
        find = getattr(self.members[member], "mask_file", None)
        found: MaskFile | None = None if find is None or self.transforms is not None else find(own_index)
        if found is None:
            return None
        if member not in self._label_maps_of_files:  # all files of a member have the same label map
            self._label_maps_of_files[member] = found.label_map.then(self._label_maps[member])
        return replace(found, label_map=self._label_maps_of_files[member])

    def image_file(self, index: int) -> ImageFile | None:
        """Returns the image file of sample `index`, for a scan of the images; None if its member has none."""
        member, own_index = self._find(index)
        find = getattr(self.members[member], "image_file", None)
        return None if find is None or self.transforms is not None else find(own_index)

    def _find(self, index: int) -> tuple[int, int]:
        """Returns the number of the member that has sample `index`, and the sample's index in it."""
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"index {index} is out of range for {length} images")
        index %= length
        member = bisect.bisect_right(self._ends, index)
        return member, index - (self._ends[member - 1] if member else 0)


def unify(
    label_set: str | DatasetMetadata, datasets: Sequence[Any], transforms: Callable[..., Any] | None = None
) -> Unified:
    """Joins datasets under one label set; see `Unified`.

    Args:
        label_set: name of the label set, such as `"Street"` or `"Aerial"`.
        datasets: the datasets; their own transforms, if any, are applied first.
        transforms: called as `transforms(image, mask)`; its result is the sample.

    Raises:
        InvalidArgumentError: if there are no datasets, or one has no metadata.
        UnknownNameError: if there is no such label set, or a dataset's classes cannot be converted to it.
    """
    split = getattr(datasets[0], "split", "train") if datasets else "train"
    return Unified(None, split, transforms, label_set=label_set, members=datasets)


def _common_channels(members: Sequence[Any]) -> ImageChannels:
    """Returns the channels of the images of all members.

    Raises:
        InvalidArgumentError: if they differ.
    """
    first: ImageChannels = members[0].metadata.channels
    for member in members[1:]:
        other: ImageChannels = member.metadata.channels
        if (other.names, other.ranges, other.nodata) != (first.names, first.ranges, first.nodata):
            raise InvalidArgumentError(
                f"images of all members must have the same channels, but those of {members[0].metadata.name} have "
                f"{first}, and those of {member.metadata.name} {other}; choose options that read the same, such as "
                "bands, or describe the same channels"
            )
    return first


def _opened(member: Any, root: str | os.PathLike[str] | None, split: str) -> Any:
    if isinstance(member, Mapping):
        options = dict(member)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise InvalidArgumentError(f"each table in members needs the `name` of a dataset, got {dict(member)!r}")
        own = options.pop("root", None)
        if root is not None and own is not None:
            own = Path(root) / own
        return get_dataset(name, own, **{"split": split, **options})
    if not isinstance(getattr(member, "metadata", None), DatasetMetadata):
        raise InvalidArgumentError(f"each dataset in members needs metadata with its classes, got {member!r}")
    return member
