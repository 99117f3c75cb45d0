"""Connected regions of a label map: removal of small ones, and polygons. Needs rasterio, the extra `geo`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.checks import check_integer
from seg_core.files.rasters import GeoReference, import_rasterio
from seg_core.labels.metadata import DatasetMetadata

__all__ = ["polygons", "remove_small_regions"]


def remove_small_regions(labels: npt.NDArray[Any], min_pixels: int) -> npt.NDArray[Any]:
    """Returns a label map in which small regions have the id of their largest neighbor (GDAL's sieve filter).

    Pixels are connected through their sides. Regions of ignored pixels are removed like any other.

    Args:
        labels: uint8 or uint16 (H, W).
        min_pixels: regions with fewer pixels are removed.

    Raises:
        InvalidArgumentError: if `min_pixels` is below 1.
        MissingDependencyError: if rasterio is not installed.
    """
    if check_integer("min_pixels", min_pixels) == 1:
        return labels
    return import_rasterio().features.sieve(labels, min_pixels, connectivity=4)


def polygons(
    labels: npt.NDArray[Any], metadata: DatasetMetadata, geo_reference: GeoReference | None = None
) -> Iterator[dict[str, Any]]:
    """Yields a GeoJSON feature for each region of a class; ignored pixels have none.

    Args:
        labels: uint8 or uint16 (H, W).
        metadata: names and colors of the classes.
        geo_reference: if given, coordinates are longitude and latitude (WGS 84); else pixels, x to the right and y
            down.

    Raises:
        MissingDependencyError: if rasterio is not installed.
    """
    rasterio = import_rasterio()
    shown = labels != metadata.ignore_index
    for geometry, value in rasterio.features.shapes(labels, mask=shown, connectivity=4):
        pixels = round(sum(map(_signed_area, geometry["coordinates"])))
        if geo_reference is not None:
            a, b, c, d, e, f = tuple(geo_reference.transform)[:6]
            mapped = [[(a * x + b * y + c, d * x + e * y + f) for x, y in ring] for ring in geometry["coordinates"]]
            geometry = {"type": "Polygon", "coordinates": mapped}
            geometry = rasterio.warp.transform_geom(geo_reference.crs, "EPSG:4326", geometry)
        properties = {"class_id": int(value), "class": metadata.labels[int(value)], "pixels": abs(pixels)}
        yield {"type": "Feature", "geometry": geometry, "properties": properties}


def _signed_area(ring: list[tuple[float, float]]) -> float:
    """Returns the area of a closed ring; a hole runs the other way, so its area has the other sign."""
    x, y = np.asarray(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)
