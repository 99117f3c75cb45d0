"""Which bands of the files of an image are its channels."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from seg_core.errors import CorruptFileError
from seg_core.files.bands import Bands
from seg_core.labels.channels import ImageChannels

__all__ = ["Choice", "Part", "choose_bands"]

_LISTED = 20


@dataclass(frozen=True)
class Part:
    """The bands of one file that are channels.

    Attributes:
        bands: the file.
        indices: its bands, from 0.
        places: the channels that they are, from 0.
    """

    bands: Bands
    indices: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """The bands that are channels.

    Attributes:
        parts: of each file from which bands are read.
        name: `"image a.tif"` or the like, for messages.
    """

    parts: list[Part]
    name: str


@dataclass(frozen=True)
class _Band:
    file: Bands
    index: int

    @property
    def description(self) -> str:
        return self.file.descriptions[self.index]

    @property
    def is_alpha(self) -> bool:
        return self.index in self.file.alpha


def choose_bands(files: Sequence[Bands], channels: ImageChannels) -> Choice:
    """Returns the bands that are the channels described.

    Args:
        files: the files or pages of an image, in their order; their bands are numbered through, from 1.
        channels: the channels.

    Raises:
        CorruptFileError: if the files do not fit the description, or a band has values that no image has.
    """
    names = list(dict.fromkeys(file.name for file in files))
    name = f"image {names[0]}" if len(names) == 1 else f"the image of {' and '.join(names)}"
    stack = [_Band(file, index) for file in files for index in range(len(file.dtypes))]
    chosen = _by_bands(name, stack, channels) if channels.bands else _by_count(name, files, stack, channels)
    for number in chosen:
        dtype = stack[number].file.dtypes[stack[number].index]
        if dtype.kind not in "buif":
            raise CorruptFileError(
                f"{name} has values of type {dtype}; channels are integers or floats: save them as such (of complex "
                "values the real part, the magnitude or the phase)"
            )
    parts: dict[int, Part] = {}
    for place, number in enumerate(chosen):
        band = stack[number]
        part = parts.setdefault(id(band.file), Part(band.file))
        part.indices.append(band.index)
        part.places.append(place)
    return Choice(list(parts.values()), name)


def _by_bands(name: str, stack: list[_Band], channels: ImageChannels) -> list[int]:
    chosen = []
    descriptions = [band.description for band in stack]
    for band in channels.bands:
        if isinstance(band, str):
            count = descriptions.count(band)
            if count != 1:
                has = "no band" if not count else f"{count} bands"
                raise CorruptFileError(
                    f"{name} has {has} with the description {band!r}, which channels.bands names; it has "
                    f"{_listed(stack)}: write one of their descriptions, or the number of the band"
                )
            chosen.append(descriptions.index(band))
        elif band > len(stack):
            raise CorruptFileError(
                f"{name} has no band {band}, which channels.bands names; it has {_listed(stack)}{_of_pages(stack)}: "
                f"write numbers from 1 to {len(stack)}"
            )
        else:
            chosen.append(band - 1)
    return chosen


def _by_count(name: str, files: Sequence[Bands], stack: list[_Band], channels: ImageChannels) -> list[int]:
    plain = [number for number, band in enumerate(stack) if not band.is_alpha]
    descriptions = [stack[number].description.strip().casefold() for number in plain]
    wanted = [channel.strip().casefold() for channel in channels.names]
    if len(set(wanted)) == len(wanted) and all(descriptions.count(channel) == 1 for channel in wanted):
        return [plain[descriptions.index(channel)] for channel in wanted]
    count = channels.count
    if len(plain) == count:
        for place, description in enumerate(descriptions):
            if description in wanted and wanted[place] != description:
                raise CorruptFileError(
                    f"{name} has {_listed(stack)}, of which the descriptions say another order than that of the "
                    f"{channels}; say which bands they are by number, in the order of the names: channels = {{ bands = "
                    f"{[number + 1 for number in plain]} }} for that of the file"
                )
        return plain
    where = f"{name} has {_listed(stack)}, and {channels} {'are' if count > 1 else 'is'} described"
    if len(stack) == count:
        alpha = ", ".join(str(number + 1) for number, band in enumerate(stack) if band.is_alpha)
        raise CorruptFileError(
            f"{where}; band {alpha} is marked as alpha, which is no channel: if it is data, write channels = {{ bands "
            f"= {list(range(1, count + 1))} }}, else describe the other channels alone"
        )
    if len(plain) > count:
        numbers = [number + 1 for number in plain[:count]]
        raise CorruptFileError(
            f"{where}; say which bands they are, by number or description, in the order of the names: channels = {{ "
            f"bands = {numbers} }} for the first{f' {count}' if count > 1 else ''}; or describe all of them"
        )
    pages = next((file for file in files if file.num_pages > 1), None)
    if pages is not None and not channels.pages:
        raise CorruptFileError(
            f"{where}; {pages.name} has {pages.num_pages} pages, of which the first is read: if the pages are the "
            "bands, write channels = { pages = true }"
        )
    raise CorruptFileError(
        f"{where}; describe the channels that all images have: channels = {{ names = [...] }} with {len(plain)} names, "
        "or remove the file; if the other bands are in files of their own, give these too, in the order of the names"
    )


def _of_pages(stack: list[_Band]) -> str:
    count = stack[0].file.num_pages
    return f" on its first page of {count} (channels = {{ pages = true }} takes all)" if count > 1 else ""


def _listed(stack: list[_Band]) -> str:
    """Returns the bands of an image for a message: `"3 bands of uint8 (1 'red', 2 'green', 3 alpha)"`."""
    kinds = list(dict.fromkeys(str(band.file.dtypes[band.index]) for band in stack))
    texts = []
    for number, band in enumerate(stack, start=1):
        text = f" {band.description!r}" if band.description else ""
        texts.append(f"{number}{text}{' alpha' if band.is_alpha else ''}")
    shown = ", ".join(texts[:_LISTED]) + (", ..." if len(texts) > _LISTED else "")
    is_told = any(" " in text for text in texts)
    return (
        f"{len(stack)} band{'s' if len(stack) > 1 else ''} of {' and '.join(kinds)}{f' ({shown})' if is_told else ''}"
    )
