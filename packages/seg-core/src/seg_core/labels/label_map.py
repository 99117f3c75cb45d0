"""Maps the ids in mask files to the ids that a network is trained on, by one lookup table."""

import operator
from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import numpy as np
import numpy.typing as npt

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, id_ranges, list_ids

if TYPE_CHECKING:
    import torch

__all__ = ["IGNORE", "LabelMap"]

_MAX_ID = 65535  # mask files hold 8 or 16 bits
_STRIP = 1 << 15  # pairs of pixels per lookup


class _Ignore(Enum):
    IGNORE = "IGNORE"

    def __repr__(self) -> str:
        return self.value


IGNORE: Final = _Ignore.IGNORE
"""Target of a raw id whose pixels have no class."""


class LabelMap:
    """Maps raw ids to train ids or to `IGNORE`.

    Called on a mask of raw ids it returns the mask of train ids: an array for an array, a tensor (of the same class and
    on the same device) for a tensor, of the same shape, with `ignore_index` where the map has `IGNORE`. The result has
    the smallest type that holds its values: uint8 if all are below 256, else uint16 for arrays and
    int32 for tensors (torch's uint16 lacks most operations). The mask is not changed.

    Args:
        mapping: raw id -> train id or `IGNORE`; ids are integers from 0 to 65535, several raw ids may share a train id.
        ignore_index: value of ignored pixels in the result, 0 to 65535, not one of the train ids.
        unlisted: treatment of raw ids that the mapping does not list: `"error"` or `"ignore"`.

    Raises:
        InvalidArgumentError: if an id is out of range, or a train id equals `ignore_index`.
    """

    def __init__(
        self,
        mapping: Mapping[int, int | _Ignore],
        *,
        ignore_index: int = 255,
        unlisted: Literal["error", "ignore"] = "error",
    ) -> None:
        if unlisted not in ("error", "ignore"):
            raise InvalidArgumentError(f"unlisted must be 'error' or 'ignore', got {unlisted!r}")
        if not mapping:
            raise InvalidArgumentError("mapping must list at least one raw id, got none")
        self._ignore_index = _check_id("ignore_index", ignore_index)
        self._unlisted = unlisted
        self._mapping: dict[int, int | _Ignore] = {}
        for raw, train in mapping.items():
            raw_id = _check_id("raw id", raw)
            self._mapping[raw_id] = train if train is IGNORE else _check_id(f"train id of raw id {raw_id}", train)
        for raw_id, train in self._mapping.items():
            if train == ignore_index:
                raise InvalidArgumentError(
                    f"raw id {raw_id} maps to {train}, which is ignore_index; map it to IGNORE, or choose another "
                    "ignore_index"
                )

    @classmethod
    def identity(
        cls,
        num_classes: int,
        *ignored: int,
        ignore_index: int = 255,
        unlisted: Literal["error", "ignore"] = "error",
    ) -> "LabelMap":
        """Returns the map that keeps the ids 0 to `num_classes` - 1 and ignores the ids in `ignored`."""
        mapping: dict[int, int | _Ignore] = {index: index for index in range(num_classes)}
        for raw_id in ignored:
            if 0 <= raw_id < num_classes:
                raise InvalidArgumentError(f"ignored id {raw_id} is one of the {num_classes} classes that are kept")
            mapping[raw_id] = IGNORE
        return cls(mapping, ignore_index=ignore_index, unlisted=unlisted)

    @property
    def mapping(self) -> Mapping[int, int | _Ignore]:
        """Raw id -> train id or `IGNORE`, read-only."""
        return MappingProxyType(self._mapping)

    @property
    def ignore_index(self) -> int:
        """Value of ignored pixels in the result."""
        return self._ignore_index

    @property
    def unlisted(self) -> str:
        """Treatment of raw ids that the mapping does not list: `"error"` or `"ignore"`."""
        return self._unlisted

    @overload
    def __call__(self, mask: npt.NDArray[Any]) -> npt.NDArray[Any]: ...
    @overload
    def __call__(self, mask: "torch.Tensor") -> "torch.Tensor": ...
    def __call__(self, mask: Any) -> Any:
        """Returns the train ids of `mask` (any integer type and shape), see the class.

        Raises:
            LabelOutOfRangeError: if the mask holds an id that the mapping does not list and `unlisted` is `"error"`;
                the message names the ids and how many pixels have them.
            InvalidArgumentError: if `mask` is not an integer array or tensor.
        """
        if isinstance(mask, np.ndarray):
            return self._map_array(mask)
        # a tensor, recognized without importing torch: a caller that has one has imported it
        if hasattr(mask, "detach") and hasattr(mask, "as_subclass"):
            import torch

            if mask.is_floating_point() or mask.is_complex():  # bfloat16 has no array
                raise InvalidArgumentError(
                    f"mask must hold integer ids, got a tensor of {mask.dtype}; convert it, as with "
                    "mask.to(torch.uint8), if all values are whole ids"
                )
            result = self._map_array(mask.detach().cpu().numpy())
            if result.dtype != np.uint8:
                result = result.astype(np.int32)
            return torch.from_numpy(result).to(mask.device).as_subclass(type(mask))
        raise InvalidArgumentError(f"mask must be a numpy array or a torch tensor, got {type(mask).__name__}")

    def then(self, other: "LabelMap") -> "LabelMap":
        """Returns the map that applies this one, then `other` to its train ids. Ids that this one ignores stay ignored.

        Raises:
            InvalidArgumentError: if `other` does not list a train id of this map and has `unlisted="error"`.
        """
        mapping: dict[int, int | _Ignore] = {}
        missing = set()
        for raw_id, train in self._mapping.items():
            if isinstance(train, _Ignore):
                mapping[raw_id] = IGNORE
            else:
                if train not in other._mapping and other._unlisted == "error":
                    missing.add(train)
                mapping[raw_id] = other._mapping.get(train, IGNORE)
        if missing:
            raise InvalidArgumentError(
                f"the second map does not list the ids {id_ranges(missing)}, which the first one maps to; it lists "
                f"{id_ranges(other._mapping)}. Add them, or give it unlisted='ignore'"
            )
        return LabelMap(mapping, ignore_index=other._ignore_index, unlisted=self._unlisted)

    def inverse(self, ignored_as: int | None = None) -> "LabelMap":
        """Returns the map from train ids back to raw ids, as for writing results in a dataset's own ids.

        Args:
            ignored_as: raw id that ignored pixels get; by default the lowest raw id that this map ignores, or
                `ignore_index` if it ignores none.

        Raises:
            InvalidArgumentError: if two raw ids share a train id, or `ignored_as` is the raw id of a class.
        """
        mapping: dict[int, int | _Ignore] = {self._ignore_index: IGNORE}
        for raw_id, train in sorted(self._mapping.items(), key=operator.itemgetter(0)):
            if isinstance(train, _Ignore):
                continue
            if train in mapping:
                raise InvalidArgumentError(
                    f"the map has no inverse: raw ids {mapping[train]} and {raw_id} both map to {train}"
                )
            mapping[train] = raw_id
        if ignored_as is None:
            ignored = [raw_id for raw_id, train in self._mapping.items() if train is IGNORE]
            ignored_as = min(ignored, default=self._ignore_index)
        if self._mapping.get(ignored_as, IGNORE) is not IGNORE:
            raise InvalidArgumentError(
                f"ignored_as {ignored_as} is the raw id of class {self._mapping[ignored_as]}; choose another raw id"
            )
        return LabelMap(mapping, ignore_index=ignored_as)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LabelMap):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        pairs = list(self._mapping.items())
        shown = ", ".join(f"{raw_id}: {train!r}" for raw_id, train in pairs[:8])
        more = f", ... {len(pairs) - 8} more" if len(pairs) > 8 else ""
        return f"LabelMap({{{shown}{more}}}, ignore_index={self._ignore_index}, unlisted={self._unlisted!r})"

    def _key(self) -> tuple[frozenset[tuple[int, int | _Ignore]], int, str]:
        return frozenset(self._mapping.items()), self._ignore_index, self._unlisted

    def _map_array(self, mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if mask.dtype.kind not in "ui":
            raise InvalidArgumentError(
                f"mask must hold integer ids, got an array of {mask.dtype}; convert it, as with "
                "mask.astype('uint8'), if all values are whole ids"
            )
        table = self._table
        if mask.dtype == np.uint8 and table.dtype == np.uint8:
            result = self._map_pairs(mask)
        elif mask.dtype in (np.uint8, np.uint16):
            result = np.take(table, mask)
        else:
            outside = (mask < 0) | (mask > _MAX_ID)
            if outside.any():
                if self._unlisted == "error":
                    raise self._unlisted_error(mask[outside])
                result = np.take(table, np.where(outside, 0, mask))
                result[outside] = self._ignore_index
            else:
                result = np.take(table, mask)
        result = np.asarray(result)  # np.take gives a scalar where the mask has no axes
        if self._unlisted == "error":
            wrong = result == self._unused
            if wrong.any():
                raise self._unlisted_error(mask[wrong])
        return result

    def _map_pairs(self, mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        # numpy widens every index to 64 bits: looking up two pixels at once does so half as often, and in strips the
        # wide indices stay in the cache
        flat = np.ascontiguousarray(mask).reshape(-1)
        result = np.empty_like(flat)
        even = flat.size - flat.size % 2
        pairs, mapped = flat[:even].view(np.uint16), result[:even].view(np.uint16)
        for start in range(0, pairs.size, _STRIP):
            strip = slice(start, start + _STRIP)
            # every pair has an entry, so nothing is clipped; without that mode numpy would copy the result once more
            np.take(self._pair_table, pairs[strip], out=mapped[strip], mode="clip")
        result[even:] = self._table[flat[even:]]
        return result.reshape(mask.shape)

    @cached_property
    def _unused(self) -> int:
        """The smallest value that no mask of train ids holds; it marks unlisted raw ids in the table."""
        used = {self._ignore_index, *(train for train in self._mapping.values() if train is not IGNORE)}
        return next(value for value in range(_MAX_ID + 2) if value not in used)

    @cached_property
    def _table(self) -> npt.NDArray[Any]:
        train_ids = [self._ignore_index if isinstance(t, _Ignore) else t for t in self._mapping.values()]
        default = self._ignore_index if self._unlisted == "ignore" else self._unused
        table = np.full(_MAX_ID + 1, default, np.min_scalar_type(max(*train_ids, self._ignore_index, default)))
        table[list(self._mapping)] = train_ids
        return table

    @cached_property
    def _pair_table(self) -> npt.NDArray[np.uint16]:
        pairs = np.arange(_MAX_ID + 1, dtype=np.uint16).view(np.uint8)
        return np.take(self._table, pairs).view(np.uint16)

    def _unlisted_error(self, wrong: npt.NDArray[Any]) -> LabelOutOfRangeError:
        ids, counts = np.unique(wrong, return_counts=True)
        return LabelOutOfRangeError(
            f"the mask holds raw ids that the label map does not list: {list_ids(ids, counts)}. "
            f"Listed: {id_ranges(self._mapping)}. "
            "Add them to the mapping (IGNORE ignores their pixels), or give unlisted='ignore'"
        )


def _check_id(what: str, value: Any) -> int:
    try:
        index = operator.index(value)
    except TypeError:
        index = -1
    if not 0 <= index <= _MAX_ID:
        raise InvalidArgumentError(f"{what} must be an integer from 0 to {_MAX_ID}, got {value!r}")
    return index
