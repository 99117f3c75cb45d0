"""The channels of a folder of one's own: from the metadata, from the options `channels` and `bands`, or both."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from seg_core.checks import is_integer
from seg_core.errors import InvalidArgumentError
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.metadata import DatasetMetadata

__all__ = ["channels_given", "with_channels"]


def channels_given(channels: Any, bands: Any) -> bool:
    """Returns whether one of the options was given."""
    return channels is not None or bands is not None


def with_channels(
    metadata: DatasetMetadata,
    channels: ImageChannels | Mapping[str, Any] | None,
    bands: Sequence[int | str] | None,
) -> DatasetMetadata:
    """Returns metadata with the channels that options describe.

    Args:
        metadata: the classes, which may have channels of their own.
        channels: the channels, or a table with their fields; `names` may be left out if there are `bands`.
        bands: bands of the files that are the channels, instead of those of `channels` or of the metadata. Without
            names these are the names.

    Raises:
        InvalidArgumentError: if a value is not allowed, or the options contradict the metadata.
    """
    if not channels_given(channels, bands):
        return metadata
    names = None if bands is None else _names(bands)
    own = metadata.channels
    if channels is None:
        described = own if own != RGB_CHANNELS else ImageChannels(names or ())
    elif isinstance(channels, ImageChannels):
        described = channels
    elif isinstance(channels, Mapping) and "names" not in channels and names is not None:
        described = ImageChannels.from_dict({**channels, "names": names})
    else:
        described = ImageChannels.from_dict(channels)
    if bands is not None:
        if described.bands and described.bands != tuple(bands):
            raise InvalidArgumentError(
                f"bands = {list(bands)} contradicts the bands {list(described.bands)} of the channels; remove one"
            )
        if own != RGB_CHANNELS and channels is None and len(bands) != own.count:
            raise InvalidArgumentError(
                f"bands = {list(bands)} are {len(bands)}, and the metadata {metadata.name!r} describe {own}; give a "
                "band for each of these"
            )
        described = replace(described, bands=tuple(bands))
    if own not in (RGB_CHANNELS, described) and not (channels is None and not own.bands):
        raise InvalidArgumentError(
            f"channels = {described.to_dict()} contradicts the channels of the metadata {metadata.name!r}, "
            f"{own.to_dict()}; remove the option, or correct the metadata"
        )
    return replace(metadata, channels=described)


def _names(bands: Any) -> tuple[str, ...]:
    """Returns the names of channels that are named by their bands alone."""
    is_list = isinstance(bands, Sequence) and not isinstance(bands, str)
    if not is_list or not bands or not all(is_integer(b, 1) or (isinstance(b, str) and b.strip()) for b in bands):
        raise InvalidArgumentError(
            f"bands must be a list of numbers from 1 or of descriptions of bands, such as ['nir', 'red'], got {bands!r}"
        )
    return tuple(band if isinstance(band, str) else f"band_{band}" for band in bands)
