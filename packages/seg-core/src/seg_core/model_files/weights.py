"""Published weights with torchvision's interface, built from the entries of the catalog.

The enums behave like torchvision's (`FCN_ResNet50_Weights.DEFAULT`, `.verify`, `.transforms()`, `.meta`,
`.get_state_dict()`), but are our own class, so that third parties' models work the same and a wrong member name is a
clear error.
"""

import functools
import os
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, EnumMeta
from typing import Any, Self, cast

from torch import Tensor

from seg_core.catalog import ModelEntry, WeightsEntry
from seg_core.errors import InvalidTypeError, UnknownNameError, nearest, reading_file
from seg_core.files.download import fetch
from seg_core.labels.metadata import resolve_metadata
from seg_core.model_files.foreign_pickle import load_safely
from seg_core.model_files.state_dict import tensors_of
from seg_core.transforms.preprocessing import Preprocessing

__all__ = ["Weights", "WeightsEnum", "make_weights_enum"]


@dataclass(frozen=True)
class Weights:
    """One published weights file.

    Attributes:
        url: URL of the file.
        transforms: returns the preprocessing that the weights expect: `weights.transforms()(image)`.
        meta: published facts: `"categories"`, params, MACs, metrics with their protocol, source, license.
        hash: hexadecimal sha256, whole or its first digits.
        verified: how far `hash` verifies the file: `"sha256"`, `"prefix"` or `"first-use"`.
        variant: the variant of the builder that the file needs.
        key_rules: name of the rules that map the file's parameter names to ours.
        aux: whether the file holds auxiliary heads.
        label_set: name of the label set of the outputs.
    """

    url: str
    transforms: Callable[[], Preprocessing]
    meta: Mapping[str, Any]
    hash: str
    verified: str
    variant: str
    key_rules: str
    aux: bool
    label_set: str

    @classmethod
    def from_entry(cls, entry: WeightsEntry) -> Self:
        """Returns the weights of a catalog entry."""
        meta = {**entry.meta, "categories": resolve_metadata(entry.label_set).labels}
        return cls(
            url=entry.url,
            transforms=functools.partial(Preprocessing, mean=entry.mean, std=entry.std, **entry.resize),
            meta=types.MappingProxyType(meta),
            hash=entry.hash,
            verified=entry.verified,
            variant=entry.variant,
            key_rules=entry.key_rules,
            aux=entry.aux,
            label_set=entry.label_set,
        )


class _WeightsEnumMeta(EnumMeta):
    """Raises an error that lists the members for an unknown member name."""

    def __getitem__(cls, name: str) -> Any:
        if name not in cls.__members__:
            known = ", ".join(cls.__members__) or "none"
            raise UnknownNameError(
                f"{cls.__name__} has no member {name!r}.{nearest(name, cls.__members__)} Members: {known}"
            )
        return cls.__members__[name]


class WeightsEnum(Enum, metaclass=_WeightsEnumMeta):
    """The weights of one builder; built from the catalog by `make_weights_enum`. `DEFAULT` is the best of them."""

    @classmethod
    def verify(cls, obj: Any) -> Any:
        """Returns the member that `obj` names: None, a member, a member's name, or `"EnumName.MEMBER"`.

        A member of another library's enum, such as torchvision's, gives the member here that has the same file.

        Raises:
            UnknownNameError: if there is no such member.
            InvalidTypeError: if `obj` is of another type, or a member of another enum; it is a TypeError.
        """
        if obj is None or isinstance(obj, cls):
            return obj
        if isinstance(obj, str):
            return cls[obj.removeprefix(cls.__name__ + ".")]
        known = ", ".join(map(repr, cls.__members__)) or "none"
        if isinstance(obj, Enum):
            url = getattr(obj, "url", None)
            if url is not None and (same := [member for member in cls if member.url == url]):
                return same[0]
            raise InvalidTypeError(
                f"weights must be a member of {cls.__module__}.{cls.__name__}, its name or None, got {obj!r} of "
                f"{type(obj).__module__}, which is none of the files published for this model; pass the name of a "
                f"member: {known}"
            )
        if obj is True:
            raise InvalidTypeError(f"weights must be the name of a member, got True; pass one of: {known}")
        raise InvalidTypeError(
            f"weights must be a member of {cls.__name__}, its name or None, got {obj!r} of type {type(obj).__name__}; "
            f"names: {known}"
        )

    @property
    def url(self) -> str:
        """URL of the file."""
        return self._weights.url

    @property
    def transforms(self) -> Callable[[], Preprocessing]:
        """Returns the preprocessing that the weights expect."""
        return self._weights.transforms

    @property
    def meta(self) -> Mapping[str, Any]:
        """Facts that were published with the file."""
        return self._weights.meta

    @property
    def _weights(self) -> Weights:
        return self.value

    def get_state_dict(self, progress: bool = True) -> dict[str, Tensor]:
        """Downloads the file (once, into torch.hub's folder), checks it and returns its tensors by name.

        The file gets its name in the folder only after the check; see `seg_core.files.download`.

        Args:
            progress: whether to show a bar.

        Raises:
            CorruptFileError: if the file is not the published one, is no checkpoint, or holds pickled objects besides
                tensors without the user's consent (see `seg_core.model_files.foreign_pickle`).
            WriteError: if it cannot be downloaded or stored.
        """
        path = fetch(self.url, self._weights.hash, progress)
        # a published file is for inference: of several networks the one under the usual name is meant
        content = load_safely(path)
        with reading_file(path):
            return tensors_of(content, os.fspath(path), preferred="state_dict")

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    # Members of different builders may have equal values; the name identifies a member.
    def __reduce_ex__(self, protocol: Any) -> Any:
        return getattr, (type(self), self.name)


def make_weights_enum(name: str, entry: ModelEntry, module: str) -> type[WeightsEnum]:
    """Returns the weights enum of a builder, built from its catalog entry.

    Args:
        name: name of the enum, such as `"FCN_ResNet50_Weights"`.
        entry: the builder's catalog entry.
        module: module from which the enum can be imported, for pickling.
    """
    members = {member: Weights.from_entry(row) for member, row in entry.weights.items()}
    if entry.default_weights is not None:
        members["DEFAULT"] = members[entry.default_weights]  # equal values make DEFAULT an alias
    # Enum's functional form: calling the class creates a subclass, which type checkers only support for literal calls
    make = cast("Callable[..., type[WeightsEnum]]", WeightsEnum)
    return make(name, members, module=module)
