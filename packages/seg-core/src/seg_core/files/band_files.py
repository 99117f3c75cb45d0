"""Opens the bands of image files.

TIFF, JPEG 2000 and the formats that Pillow does not know are read by GDAL (the extra `geo`), others by Pillow. Without
rasterio Pillow reads TIFFs too, if they are of a kind that it reads right: 8 bits, 16-bit gray and 32-bit float gray.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from seg_core.errors import CorruptFileError, ImageNotFoundError, MissingDependencyError
from seg_core.files.array_bands import bands_of_array, map_npy, open_zarr
from seg_core.files.bands import Bands, gains
from seg_core.files.gdal import import_rasterio, keep_gdal_file
from seg_core.files.gdal_bands import bands_of_gdal
from seg_core.files.gdal_formats import driver_of, is_vrt
from seg_core.files.images import read_header
from seg_core.files.pillow_bands import bands_of_deep_png, bands_of_pillow, check_kind, read_page_headers

__all__ = ["check_exists", "open_bands"]

_KNOWN = ("GTiff", "PNG", "JPEG", "WEBP", "BMP", "GIF")
"""Drivers of GDAL of formats whose header Pillow reads: GDAL reads some damaged ones, without their orientation."""


@contextlib.contextmanager
def open_bands(
    path: Path, expected: int | None, *, pages: bool, orientation: str, allow_vrt: bool = False
) -> Iterator[list[Bands]]:
    """Opens an image file, a `.npy` file or a zarr array.

    Args:
        path: the file.
        expected: number of bands, which tells the axis of the channels of an array; None if it is not known.
        pages: whether to open all pages of a TIFF; else the first.
        orientation: `"apply"` or `"stored"`.
        allow_vrt: whether a `.vrt` file may be read.

    Yields:
        The bands of each page.

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be read, or has values that are not those of channels, such as a palette.
        MissingDependencyError: if the library for this format is not installed.
    """
    check_exists(path)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        shape = map_npy(path)
        # mapped again for each read: pages that were read count as memory of the process as long as their map lives
        yield [bands_of_array(shape, str(path), expected, reopen=lambda: map_npy(path), has_windows=True)]
        return
    if suffix == ".zarr":
        array = open_zarr(path)
        yield [bands_of_array(array, str(path), expected, has_windows=gains(array.shape, array.chunks))]
        return
    if path.is_dir():
        raise CorruptFileError(f"{path} is a folder, not an image; give the path of a file in it")
    with contextlib.ExitStack() as stack:
        yield _opened_pages(path, stack, pages=pages, orientation=orientation, allow_vrt=allow_vrt)


def check_exists(path: Path) -> None:
    """Raises ImageNotFoundError if there is no such file."""
    if path.exists():
        return
    if path.is_symlink():
        raise ImageNotFoundError(f"{path} is a link to {path.readlink()}, which does not exist; correct the link")
    raise ImageNotFoundError(f"there is no image {path}; check the path")


def _opened_pages(
    path: Path, stack: contextlib.ExitStack, *, pages: bool, orientation: str, allow_vrt: bool
) -> list[Bands]:
    try:
        found = read_page_headers(path)
    except CorruptFileError:  # perhaps a format, or a kind of JPEG 2000, that only GDAL reads
        if driver_of(path) in _KNOWN:
            raise
        if not _has_rasterio():
            raise MissingDependencyError(
                f"image {path} is of a format that needs rasterio: pip install 'seg-core[geo]'"
            ) from None
        try:
            file = stack.enter_context(keep_gdal_file(path, allow_vrt=allow_vrt))
        except CorruptFileError:
            if not is_vrt(path):
                read_header(path)  # its error says more of what the file is
            raise
        return [bands_of_gdal(file, str(path), 1, is_checked=False)]
    opened_pages = []
    for page in found if pages else found[:1]:
        check_kind(path, page)
        tag = page.orientation if orientation == "apply" else 1
        if page.is_read_by_gdal and _has_rasterio():
            file = stack.enter_context(keep_gdal_file(path, page.number))
            bands = bands_of_gdal(file, str(path), tag, is_checked=True)
        elif page.is_read_by_pillow:
            bands = bands_of_pillow(path, page, orientation)
        elif page.format == "PNG":
            bands = bands_of_deep_png(path, page, tag)
        else:
            kind = "floating-point " if page.storage.is_float else "signed " if page.storage.is_signed else ""
            raise MissingDependencyError(
                f"image {path} has {page.storage.channels} channels of {kind}{page.storage.bits} bits, as {page.format}"
                ", which needs rasterio: pip install 'seg-core[geo]'"
            )
        opened_pages.append(replace(bands, num_pages=len(found)))
    return opened_pages


def _has_rasterio() -> bool:
    try:
        import_rasterio()
    except MissingDependencyError:
        return False
    return True
