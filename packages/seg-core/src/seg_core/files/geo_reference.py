"""The geographic location of an image: read from its file, and applied to pixel coordinates."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import CorruptFileError
from seg_core.files.gdal import import_rasterio, open_gdal_file
from seg_core.files.images import read_header
from seg_core.files.pages import pages_of_tiff

__all__ = ["GeoReference", "Locate", "geo_reference_of", "orientation_of", "read_geo_reference"]

Locate = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], tuple[Any, Any]]
"""Pixel coordinates x (to the right) and y (down) of n points, from the upper left corner -> their coordinates."""

_TIFF_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class GeoReference:
    """The geographic location of an image.

    Attributes:
        crs: rasterio's coordinate reference system; None if the file has none.
        transform: affine map from pixels (x to the right, y down) to its coordinates; None if there is none.
        gcps: rasterio's ground control points, of an image without `transform`.
        rpcs: rasterio's rational polynomial coefficients, or None.
    """

    crs: Any = None
    transform: Any = None
    gcps: tuple[Any, ...] = ()
    rpcs: Any = None

    @contextlib.contextmanager
    def located(self) -> Iterator[tuple[Locate, Any] | None]:
        """Yields a function from pixels to coordinates, and the CRS of these or None; None without a location.

        Of the transform, the ground control points (by GDAL's polynomial through them) and the rational polynomial
        coefficients (at their mean height), the first one that the image has is used.
        """
        transforms = import_rasterio().transform
        if self.transform is not None:
            affine = self.transform
            yield (
                (lambda x, y: (affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f)),
                (self.crs),
            )
        elif self.gcps:
            with transforms.GCPTransformer(list(self.gcps)) as transformer:
                yield (lambda x, y: transformer.xy(y, x, offset="ul")), self.crs
        elif self.rpcs is not None:
            with transforms.RPCTransformer(self.rpcs, RPC_HEIGHT=self.rpcs.height_off) as transformer:
                yield (lambda x, y: transformer.xy(y, x, offset="ul")), "EPSG:4326"
        else:
            yield None


def geo_reference_of(file: Any, orientation: int = 1) -> GeoReference | None:
    """Returns the geo reference of an opened file of rasterio, or None if it has none.

    Args:
        file: the file; its geo reference applies to the pixels as stored.
        orientation: orientation tag of the file; the result applies to the upright image.
    """
    points, points_crs = file.gcps
    has_transform = not file.transform.is_identity  # which rasterio returns if there is none
    found = GeoReference(
        crs=(file.crs or (None if has_transform else points_crs)) or None,
        transform=file.transform if has_transform else None,
        gcps=() if has_transform else tuple(points),
        rpcs=file.rpcs,
    )
    if found == GeoReference():
        return None
    return found if orientation == 1 else _upright(found, orientation, file)


def read_geo_reference(source: str | None, shape: tuple[int, ...], page: int = 0) -> GeoReference | None:
    """Returns the geo reference of an image file, or None if `source` is no file or has none.

    It is read as GDAL does: from the file itself (GeoTIFF, JPEG 2000), or from a world file or an `.aux.xml` beside it.

    Args:
        source: path or URL of the image.
        shape: (H, W) of the label map that was predicted; for another size the geo reference would be wrong.
        page: number of the page of a TIFF, as `read_pages` counts them.
    """
    if source is None or not Path(source).is_file():
        return None
    path = Path(source)
    try:
        number, orientation = 0, orientation_of(path)
        if page:
            found = pages_of_tiff(path)[page:]
            if not found:  # a frame of another format
                return None
            number, orientation = found[0].number, found[0].orientation
        # of a VRT that was predicted; the files that it leads to are not opened here
        with open_gdal_file(path, number, allow_vrt=True) as file:
            size = (file.height, file.width) if orientation < 5 else (file.width, file.height)
            return geo_reference_of(file, orientation) if size == shape else None
    except CorruptFileError:
        if path.suffix.lower() in _TIFF_SUFFIXES:
            raise
        return None  # a format that GDAL does not read


def orientation_of(path: Path) -> int:
    """Returns the orientation tag of an image file, 1 to 8; 1 for formats that only GDAL reads."""
    try:
        return read_header(path).orientation
    except CorruptFileError:
        return 1


def _upright(found: GeoReference, orientation: int, file: Any) -> GeoReference:
    """Returns the geo reference of the upright image, given that of the stored one."""
    width, height = file.width, file.height
    # from the upright pixels to the stored ones: stored x = a x + b y + c, stored y = d x + e y + f
    stored = import_rasterio().Affine(
        *{
            2: (-1, 0, width, 0, 1, 0),
            3: (-1, 0, width, 0, -1, height),
            4: (1, 0, 0, 0, -1, height),
            5: (0, 1, 0, 1, 0, 0),
            6: (0, 1, 0, -1, 0, height),
            7: (0, -1, width, -1, 0, height),
            8: (0, -1, width, 1, 0, 0),
        }[orientation]
    )
    if found.rpcs is not None:
        warnings.warn(
            f"{file.name} has rational polynomial coefficients and orientation tag {orientation}; they hold for the "
            "pixels as stored and are left out: save the image upright, without the tag, first",
            stacklevel=4,
        )
    back = ~stored
    points = [
        import_rasterio().control.GroundControlPoint(
            row=back.d * point.col + back.e * point.row + back.f,
            col=back.a * point.col + back.b * point.row + back.c,
            x=point.x,
            y=point.y,
            z=point.z,
            id=point.id,
            info=point.info,
        )
        for point in found.gcps
    ]
    transform = None if found.transform is None else _composed(found.transform, stored)
    return replace(found, transform=transform, gcps=tuple(points), rpcs=None)


def _composed(outer: Any, inner: Any) -> Any:
    """Returns the affine map that applies `inner`, then `outer`; the operator for it depends on affine's version."""
    matrix = np.array(outer).reshape(3, 3) @ np.array(inner).reshape(3, 3)
    return import_rasterio().Affine(*map(float, matrix.ravel()[:6]))
