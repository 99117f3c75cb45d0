"""Published weights behind torchvision's interface, made from the rows of the catalog.

The enums look and behave like torchvision's (`FCN_ResNet50_Weights.DEFAULT`, `.verify`, `.transforms()`, `.meta`,
`.get_state_dict()`), but are our own class, so that third parties' models work the same and a wrong member name is a
clear error.
"""

import functools
import hashlib
import os
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, EnumMeta
from pathlib import Path
from typing import Any, Self, cast
from urllib.error import URLError
from urllib.parse import unquote, urlparse

import torch
from torch import Tensor

from seg_core.atomic import write_text
from seg_core.catalog import ModelEntry, WeightsEntry
from seg_core.errors import CorruptFileError, InvalidArgumentError, UnknownNameError, WriteError, nearest
from seg_core.metadata import resolve_metadata
from seg_core.preprocessing import Preprocessing

__all__ = ["Weights", "WeightsEnum", "make_weights_enum"]


@dataclass(frozen=True)
class Weights:
    """One published weights file.

    Attributes:
        url: where the file is.
        transforms: makes the preprocessing that the weights expect: `weights.transforms()(picture)`.
        meta: what was published with it: `"categories"`, params, MACs, metrics with their protocol, source, licence.
        hash: hexadecimal sha256, whole or its first digits.
        verified: how far `hash` vouches for the file: `"sha256"`, `"prefix"` or `"first-use"`.
        form: the form of the builder that the file needs.
        dialect: whose parameter names the file holds.
        aux: whether the file holds auxiliary heads.
        label_set: name of the label set of the outputs.
    """

    url: str
    transforms: Callable[[], Preprocessing]
    meta: Mapping[str, Any]
    hash: str
    verified: str
    form: str
    dialect: str
    aux: bool
    label_set: str

    @classmethod
    def from_entry(cls, entry: WeightsEntry) -> Self:
        """Makes the weights of a catalog row."""
        meta = {**entry.meta, "categories": resolve_metadata(entry.label_set).labels}
        return cls(
            url=entry.url,
            transforms=functools.partial(Preprocessing, mean=entry.mean, std=entry.std, **entry.resize),
            meta=types.MappingProxyType(meta),
            hash=entry.hash,
            verified=entry.verified,
            form=entry.form,
            dialect=entry.dialect,
            aux=entry.aux,
            label_set=entry.label_set,
        )


class _WeightsEnumMeta(EnumMeta):
    """Makes an unknown member name an error that lists the members."""

    def __getitem__(cls, name: str) -> Any:
        if name not in cls.__members__:
            known = ", ".join(cls.__members__) or "none"
            raise UnknownNameError(
                f"{cls.__name__} has no member {name!r}.{nearest(name, cls.__members__)} Members: {known}"
            )
        return cls.__members__[name]


class WeightsEnum(Enum, metaclass=_WeightsEnumMeta):
    """The weights of one builder; made from the catalog by `make_weights_enum`. `DEFAULT` is the best of them."""

    @classmethod
    def verify(cls, obj: Any) -> Any:
        """Returns the member that `obj` names: None, a member, a member's name, or `"EnumName.MEMBER"`.

        Raises:
            UnknownNameError: if there is no such member.
            TypeError: if `obj` is of another type, or a member of another enum.
        """
        if obj is None or isinstance(obj, cls):
            return obj
        if isinstance(obj, str):
            return cls[obj.removeprefix(cls.__name__ + ".")]
        raise TypeError(
            f"weights must be a member of {cls.__name__}, its name or None, got {obj!r} of type {type(obj).__name__}"
        )

    @property
    def url(self) -> str:
        """Where the file is."""
        return self._weights.url

    @property
    def transforms(self) -> Callable[[], Preprocessing]:
        """Makes the preprocessing that the weights expect."""
        return self._weights.transforms

    @property
    def meta(self) -> Mapping[str, Any]:
        """What was published with the file."""
        return self._weights.meta

    @property
    def _weights(self) -> Weights:
        weights: Weights = self.value
        return weights

    def get_state_dict(self, progress: bool = True) -> dict[str, Tensor]:
        """Downloads the file (once; later from torch.hub's folder), checks it and returns its tensors by name.

        The file takes its name in the folder only after it was checked as far as its entry says.

        Args:
            progress: whether to show a bar.

        Raises:
            CorruptFileError: if the file is not the published one, or is no checkpoint of plain tensors.
            WriteError: if it cannot be fetched or stored.
        """
        return _read_checkpoint(_fetch(self._weights, progress))

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    # Two members may hold equal values in different builders; the name is what makes a member.
    def __reduce_ex__(self, protocol: Any) -> Any:
        return getattr, (type(self), self.name)


def make_weights_enum(name: str, entry: ModelEntry, module: str) -> type[WeightsEnum]:
    """Makes the weights enum of a builder from its catalog row.

    Args:
        name: of the enum, as `"FCN_ResNet50_Weights"`.
        entry: the builder's row.
        module: where the enum can be imported from, for pickling.
    """
    members = {member: Weights.from_entry(row) for member, row in entry.weights.items()}
    if entry.default_weights is not None:
        members["DEFAULT"] = members[entry.default_weights]  # an equal value makes DEFAULT an alias
    # Enum's functional form: a call of the class makes a subclass, which type checkers know for literal calls alone
    make = cast("Callable[..., type[WeightsEnum]]", WeightsEnum)
    return make(name, members, module=module)


def _fetch(weights: Weights, progress: bool) -> Path:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(unquote(urlparse(weights.url).path)).name
    record = path.with_name(path.name + ".sha256")
    if weights.verified == "first-use" and record.is_file():
        expected = record.read_text(encoding="ascii").strip()
    else:
        expected = weights.hash
    if path.is_file():
        found = _sha256(path)
        if expected and not found.startswith(expected):
            raise CorruptFileError(
                f"{path} is not the file published at {weights.url}: its sha256 begins with {found[:16]}, expected "
                f"{expected[:16]}; delete the file to fetch it again"
            )
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if progress:
                print(f"downloading {weights.url} to {path}", file=sys.stderr)
            # writes to a temporary name, compares the digest's beginning, then renames
            torch.hub.download_url_to_file(weights.url, os.fspath(path), expected or None, progress=progress)
        except RuntimeError as error:
            raise CorruptFileError(
                f"the download of {weights.url} failed its check and was thrown away: {error}; try again, and report "
                "it if it stays so"
            ) from error
        except (URLError, OSError) as error:
            raise WriteError(
                f"cannot fetch {weights.url} to {path}: {error}; check the network and the folder, or fetch the file "
                "by hand and put it there"
            ) from error
        found = _sha256(path)
    if weights.verified == "first-use" and not record.is_file():
        write_text(record, found + "\n")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for files that are none of its own
        raise CorruptFileError(f"{path} cannot be read as a checkpoint of plain tensors: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InvalidArgumentError(f"{path} holds no plain dict of tensors by name")
    return content
