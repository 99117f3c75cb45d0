"""The channels of a dataset's images: names, range of values, normalization, which are shown in color."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeGuard

from seg_core.checks import is_integer, is_number
from seg_core.errors import InvalidArgumentError, nearest
from seg_core.text import check_encodable

__all__ = ["RGB_CHANNELS", "ImageChannels"]

_BYTE = (0.0, 255.0)
_COLORS = (("red", "green", "blue"), ("r", "g", "b"))
_MOST = 10.0  # a mean or standard deviation beyond this many times the range is in another unit
_FARTHEST = 1e30  # end of a range, so that its width and its inverse are numbers of float32
_LONGEST_NAME = 500  # characters
_EXAMPLE = '{"names": ["red", "green", "blue", "nir"], "range": [0, 10000]}'

Range = tuple[float, float]


@dataclass(frozen=True)
class ImageChannels:
    """Describes the channels of images that are not three 8-bit channels of red, green and blue.

    An image is uint8, uint16 or float32 (C, H, W); its values are those of the file. A network gets them scaled from
    `range` to 0 to 1, then normalized by `mean` and `std`. Values beyond the range are scaled on, neither clipped nor
    refused.

    Attributes:
        names: names of the channels, in their order, all different.
        range: (low, high), the values that become 0 and 1: one pair for all channels, or a pair per channel, such as
            that of colors and that of a height. None is (0, 255), and allows images of 8 bits only.
        mean: mean of each channel, of values scaled to 0 to 1; None if it is not known.
        std: standard deviation of each channel, of values scaled to 0 to 1; None if it is not known.
        rgb: indices of the channels for red, green and blue: those that are shown, and that color augmentation takes as
            colors. By default those of these names; None if there are none.
        nodata: value of the pixels without data: a pixel has none if all its channels have this value; with `nan`, if
            any channel is NaN. Where files are read and images are predicted, such pixels are ignored, and a network
            gets the low end of the range there (the nearest value of the image's type). None if there are none.
        bands: which bands of a file the channels are, in their order: numbers from 1, or descriptions of the bands as
            GDAL shows them. Empty for all bands of a file with as many, or, of a file with more, those whose
            descriptions are `names`.
        pages: whether the pages of a TIFF are the bands.

    Raises:
        InvalidArgumentError: if a value is not as described above.

    Example:
        >>> channels = ImageChannels(("blue", "green", "red", "nir"), range=(0, 10000))
        >>> channels.rgb
        (2, 1, 0)
    """

    names: tuple[str, ...]
    range: Range | tuple[Range, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    rgb: tuple[int, int, int] | None = None
    nodata: float | None = None  # the string "nan" is taken too, since JSON has no such number
    bands: tuple[int | str, ...] = ()
    pages: bool = False

    def __post_init__(self) -> None:
        names = _checked_names("channels.names", self.names)
        # the dataclass is frozen; lists from JSON and TOML are converted to tuples
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "range", _checked_range(self.range, len(names)))
        for key in ("mean", "std"):
            object.__setattr__(self, key, _checked_numbers(key, getattr(self, key), len(names), positive=key == "std"))
        object.__setattr__(self, "rgb", _checked_rgb(self.rgb, names))
        if isinstance(self.nodata, str) and self.nodata == "nan":
            object.__setattr__(self, "nodata", math.nan)
        if self.nodata is not None and not (is_number(self.nodata) or _is_nan(self.nodata)):
            raise InvalidArgumentError(f"channels.nodata must be a number, nan or None, got {self.nodata!r}")
        if self.nodata is not None and math.isnan(self.nodata):
            object.__setattr__(self, "nodata", math.nan)  # one object, so that equal descriptions are equal
        object.__setattr__(self, "bands", _checked_bands(self.bands, len(names)))
        if not isinstance(self.pages, bool):
            raise InvalidArgumentError(f"channels.pages must be True or False, got {self.pages!r}")

    @property
    def count(self) -> int:
        """Number of channels."""
        return len(self.names)

    @property
    def ranges(self) -> tuple[Range, ...]:
        """(low, high) of each channel; (0, 255) if `range` is not given."""
        if self.range is None:
            return (_BYTE,) * self.count
        if isinstance(self.range[0], tuple):
            return self.range
        return (self.range,) * self.count

    @property
    def is_rgb8(self) -> bool:
        """Whether they are red, green and blue of 8 bits; every kind of file that shows colors is then read as RGB."""
        given = (self.range, self.nodata, self.bands, self.pages)
        return self.count == 3 and self.rgb == (0, 1, 2) and given == (None, None, (), False)

    @property
    def is_bytes(self) -> bool:
        """Whether the range of all channels is 0 to 255."""
        return all(pair == _BYTE for pair in self.ranges)

    @property
    def shown(self) -> tuple[int, int, int]:
        """Indices of the channels that are shown as red, green and blue.

        These are `rgb`; without it the first three channels, or the first alone, as gray.
        """
        if self.rgb is not None:
            return self.rgb
        return (0, 1, 2) if self.count >= 3 else (0, 0, 0)

    @property
    def fill(self) -> tuple[float, ...]:
        """Value of each channel outside of an image: the mean, or the low end of the range if it is not known."""
        ends = self.ranges
        return tuple(
            low if self.mean is None else low + (high - low) * self.mean[i] for i, (low, high) in enumerate(ends)
        )

    def lows_in(self, dtype: Any) -> tuple[float, ...]:
        """Returns the low end of the range of each channel, as near as a number type of images has it.

        Args:
            dtype: uint8, uint16 or a float, of numpy or torch.
        """
        largest = {"uint8": 255, "uint16": 65535}.get(str(dtype).removeprefix("torch."))
        lows = (low for low, _ in self.ranges)
        return tuple(lows) if largest is None else tuple(float(min(max(round(low), 0), largest)) for low in lows)

    def check_type(self, dtype: Any, what: str, bits: int | None = None) -> None:
        """Checks that values of a number type can be those of the range.

        Args:
            dtype: number type of an image, of numpy or torch.
            what: the image, for messages, such as `"image a.tif"`.
            bits: bits of a stored sample, if they are fewer than those of the type.

        Raises:
            InvalidArgumentError: if the range is not given and the type is not uint8; or if all values of the type lie
                in the first 255 of a larger range.
        """
        is_byte = str(dtype).removeprefix("torch.") == "uint8"
        if self.range is None and not is_byte:
            raise InvalidArgumentError(
                f"{what} has values of type {dtype}, and the channels have no range, which means 8 bits; give the "
                "range of the values to be scaled to 0 to 1: channels = { range = [0, 10000] } for reflectances in "
                "16 bits (`seg datasets stats` measures it)"
            )
        high = max(high for _, high in self.ranges)
        if is_byte and high > 2 * _BYTE[1] and (bits is None or bits <= 8) and self._is_uniform:
            raise InvalidArgumentError(
                f"{what} has values of 8 bits, and the range of the channels ends at {high:g}; convert it to the type "
                "of the other images, or correct the range"
            )

    @property
    def _is_uniform(self) -> bool:
        return len(set(self.ranges)) == 1

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields that are given, as plain strings, numbers and lists, for JSON and TOML."""
        defaults = {"rgb": _rgb_of(self.names), "bands": (), "pages": False}
        given = {key: value for key, value in asdict(self).items() if value != defaults.get(key)}
        plain = {key: _listed(value) for key, value in given.items()}
        return plain | {"nodata": "nan"} if self.nodata is math.nan else plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ImageChannels":
        """Returns the description from a mapping with the fields of `to_dict`; only `names` is required.

        Raises:
            InvalidArgumentError: if it is no mapping, a key is unknown, `names` is missing, or a value is not allowed.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping):
            raise InvalidArgumentError(f"channels must be a table such as {_EXAMPLE}, got {values!r}")
        for key in values:
            if key not in known:
                raise InvalidArgumentError(
                    f"unknown key {key!r} in channels.{nearest(str(key), known)} Known: {', '.join(known)}"
                )
        if "names" not in values:
            raise InvalidArgumentError(f"channels have no 'names', one per channel, as in {_EXAMPLE}")
        return cls(**values)

    def __str__(self) -> str:
        if self.range is None:
            where = "of 8 bits"
        elif self._is_uniform:
            where = "from {:g} to {:g}".format(*self.ranges[0])
        else:
            where = "from " + ", ".join(f"{low:g} to {high:g}" for low, high in self.ranges)
        return f"{self.count} channel{'s' if self.count > 1 else ''} ({', '.join(self.names)}) {where}"


def _checked_names(key: str, names: Any) -> tuple[str, ...]:
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    if not is_list or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise InvalidArgumentError(f"{key} must be a list of names, one per channel, got {names!r}")
    for name in names:
        check_encodable(f"a name of {key}", name, _LONGEST_NAME)
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise InvalidArgumentError(f"{key} must all be different, got {twice!r} twice")
    return tuple(names)


def _checked_range(given: Any, count: int) -> Range | tuple[Range, ...] | None:
    if given is None:
        return None
    if _is_pair(given):
        return _pair(given)
    if isinstance(given, Sequence) and len(given) == count and all(map(_is_pair, given)):
        return tuple(map(_pair, given))
    raise InvalidArgumentError(
        f"channels.range must be [low, high] with low < high <= {_FARTHEST:g}, or such a pair for each of "
        f"{count} channels, got {given!r}"
    )


def _is_pair(value: Any) -> bool:
    is_list = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    return is_list and all(is_number(end) and abs(end) <= _FARTHEST for end in value) and value[0] < value[1]


def _pair(value: Sequence[float]) -> Range:
    return float(value[0]), float(value[1])


def _checked_numbers(key: str, given: Any, count: int, *, positive: bool) -> tuple[float, ...] | None:
    if given is None:
        return None
    is_list = isinstance(given, Sequence) and not isinstance(given, str) and len(given) == count
    if not is_list or not all(is_number(v) and (v > 0 or not positive) for v in given):
        above = " above 0" if positive else ""
        raise InvalidArgumentError(
            f"channels.{key} must be {count} numbers{above}, one per channel, of values scaled to 0 to 1, got {given!r}"
        )
    if any(abs(v) > _MOST for v in given):
        raise InvalidArgumentError(
            f"channels.{key} must be of values scaled from the range to 0 to 1, got {given!r}; scale it as the values "
            "are: (mean - low) / (high - low), std / (high - low)"
        )
    return tuple(map(float, given))


def _checked_rgb(given: Any, names: Sequence[str]) -> tuple[int, int, int] | None:
    if given is None:
        return _rgb_of(names)
    is_list = isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 3
    if not is_list or not all(is_integer(i, 0) and i < len(names) for i in given) or len(set(given)) < 3:
        raise InvalidArgumentError(
            f"channels.rgb must be the indices, 0 to {len(names) - 1}, of the three channels for red, green and blue, "
            f"got {given!r}"
        )
    return given[0], given[1], given[2]


def _rgb_of(names: Sequence[str]) -> tuple[int, int, int] | None:
    """Returns the indices of the channels that are named red, green and blue."""
    lower = [name.strip().lower() for name in names]
    for red, green, blue in _COLORS:
        if all(lower.count(color) == 1 for color in (red, green, blue)):
            return lower.index(red), lower.index(green), lower.index(blue)
    return None


def _checked_bands(given: Any, count: int) -> tuple[int | str, ...]:
    is_list = isinstance(given, Sequence) and not isinstance(given, str)
    if is_list and not len(given):
        return ()
    if not is_list or len(given) != count or not all(is_integer(b, 1) or (isinstance(b, str) and b) for b in given):
        raise InvalidArgumentError(
            f"channels.bands must be a number from 1, or the description of a band, for each of {count} channels, got "
            f"{given!r}"
        )
    if len(set(given)) < len(given):
        raise InvalidArgumentError(f"channels.bands must all be different, got {given!r}")
    return tuple(given)


def _is_nan(value: object) -> TypeGuard[float]:
    return isinstance(value, float) and math.isnan(value)


def _listed(value: Any) -> Any:
    return [_listed(inner) for inner in value] if isinstance(value, tuple) else value


RGB_CHANNELS = ImageChannels(("red", "green", "blue"))
"""What an image has if nothing else is said: three channels of 8 bits."""
