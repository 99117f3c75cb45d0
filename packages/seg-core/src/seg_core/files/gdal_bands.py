"""The bands of files that GDAL reads, by rasterio (the extra `geo`)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import CorruptFileError
from seg_core.files.bands import Bands, BandsRead, Window, differs, gains
from seg_core.files.gdal import gdal_errors, import_rasterio, quiet_gdal
from seg_core.files.images import Header
from seg_core.files.orientation import stored_window, turned
from seg_core.files.validity import FOR_DISPLAY

__all__ = ["bands_of_gdal", "unlike_whole"]


def unlike_whole(file: Any, header: Header | None) -> str:
    """Returns why GDAL gives other pixels than `seg_core.files.images.read_image`, or "" if it gives the same.

    GDAL returns the stored samples, without turning them upright or converting their colors to RGB.
    """
    if header is not None and header.orientation != 1:
        return f"orientation tag {header.orientation}"
    if file.colorinterp[0].name == "palette":
        return "a palette"
    if header is not None and header.unlike:
        return header.unlike
    bits = file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    return f"{bits} bits per channel" if bits else ""


def bands_of_gdal(file: Any, name: str, tag: int, *, is_checked: bool) -> Bands:
    """Returns the bands of an opened file of rasterio, which stays open as long as they are read.

    Args:
        file: the file.
        name: its name, for messages.
        tag: the orientation tag to apply.
        is_checked: whether the header told that its values are those of channels. GDAL gives a TIFF whose white is zero
            a palette too.

    Raises:
        CorruptFileError: if its values are not those of channels.
    """
    if not file.count:
        inside = f": {', '.join(file.subdatasets[:3])}" if file.subdatasets else ""
        raise CorruptFileError(
            f"image {name} has no bands of its own, but holds several images{inside}; save the one to read as GeoTIFF, "
            "by gdal_translate SUBDATASET OUT.tif"
        )
    kinds = [color.name for color in file.colorinterp]
    if not is_checked and (unread := {"palette": "a palette", "cyan": "CMYK colors"}.get(kinds[0])):
        raise CorruptFileError(
            f"image {name} has {unread} instead of channels; convert it to red, green and blue: gdal_translate -expand "
            "rgb IN OUT.tif"
        )
    alpha = frozenset(band for band, kind in enumerate(kinds) if kind == "alpha")
    dtypes = tuple(np.dtype(kind) if not kind.startswith("complex") else np.dtype(complex) for kind in file.dtypes)
    bits = file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    size = (file.height, file.width)
    rasterio = import_rasterio()

    def read(indices: Sequence[int], window: Window | None) -> BandsRead:
        place = None
        if window is not None:
            top, left, height, width = stored_window(window, size, tag)
            place = rasterio.windows.Window(left, top, width, height)
        try:
            numbers = [index + 1 for index in indices]
            common = np.result_type(*(dtypes[index] for index in indices))
            values = file.read(numbers, window=place, out_dtype=None if len(set(dtypes)) == 1 else common)
            valid = _valid_of_gdal(file, indices, values, place, alpha)
        except gdal_errors() as error:
            # rasterio's own text only says that there is a cause
            raise CorruptFileError(f"image {name} cannot be read: {error.__cause__ or error}; replace it") from error
        return turned(values, tag), None if valid is None else turned(valid, tag)

    return Bands(
        name,
        *(size if tag < 5 else size[::-1]),
        dtypes,
        read,
        tuple(text or "" for text in file.descriptions),
        alpha,
        int(bits) if bits else None,
        bool(alpha) or any(flag.name != "all_valid" for flags in file.mask_flag_enums for flag in flags),
        all(gains(size, shape) for shape in file.block_shapes),
    )


def _valid_of_gdal(
    file: Any, indices: Sequence[int], values: npt.NDArray[Any], window: Any, alpha: frozenset[int]
) -> npt.NDArray[np.bool_] | None:
    """Returns which pixels hold data, as `validity.valid_of`, of the bands that are read; alpha may be one of them."""
    is_for_display = file.driver in FOR_DISPLAY
    flags = {flag.name for index in indices for flag in file.mask_flag_enums[index]}
    valid: npt.NDArray[np.bool_] | None = None
    if "nodata" in flags and not is_for_display:
        valid = differs(values, [file.nodatavals[index] for index in indices])
    if "per_dataset" in flags and "alpha" not in flags:
        with quiet_gdal():
            masked = (file.read_masks([index + 1 for index in indices], window=window) != 0).any(0)
        valid = masked if valid is None else valid & masked
    if alpha and not alpha & set(indices) and not is_for_display:
        opaque = file.read(min(alpha) + 1, window=window) != 0
        valid = opaque if valid is None else valid & opaque
    return valid
