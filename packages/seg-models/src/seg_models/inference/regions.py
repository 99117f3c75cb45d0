"""Connected regions of a label map: removal of small ones, and polygons. Needs rasterio, the extra `geo`."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.checks import check_integer
from seg_core.errors import InvalidArgumentError
from seg_core.files.gdal import gdal_errors, import_rasterio
from seg_core.files.geo_reference import GeoReference, Locate
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTICLASS

__all__ = ["ignore_invalid", "polygons", "remove_small_regions"]


def ignore_invalid(labels: npt.NDArray[Any], valid: npt.NDArray[np.bool_], ignore_index: int) -> npt.NDArray[Any]:
    """Returns a label map with `ignore_index` where the image has no data.

    Args:
        labels: uint8 or uint16 (H, W), or planes (K, H, W).
        valid: bool (H, W), whether the pixels of the image hold data.
        ignore_index: 0 to 65535; if it does not fit into the type of `labels`, the result is uint16.
    """
    dtype = np.promote_types(labels.dtype, np.min_scalar_type(ignore_index))
    return np.where(valid, labels, np.array(ignore_index, dtype))


def remove_small_regions(
    labels: npt.NDArray[Any], min_pixels: int, valid: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[Any]:
    """Returns a label map in which small regions have the id of their largest neighbor (GDAL's sieve filter).

    Pixels are connected through their sides. Regions of ignored pixels are removed like any other.

    Args:
        labels: uint8 or uint16 (H, W).
        min_pixels: regions with fewer pixels are removed.
        valid: bool (H, W), whether the pixels of the image hold data; the others belong to no region.

    Raises:
        InvalidArgumentError: if `min_pixels` is below 1.
        MissingDependencyError: if rasterio is not installed.
    """
    if check_integer("min_pixels", min_pixels) == 1:
        return labels
    return import_rasterio().features.sieve(labels, min_pixels, mask=valid, connectivity=4)


def polygons(
    labels: npt.NDArray[Any], metadata: DatasetMetadata, geo_reference: GeoReference | None = None
) -> Iterator[dict[str, Any]]:
    """Yields a GeoJSON feature for each region of a class; ignored pixels and the background have none.

    Args:
        labels: uint8 or uint16 (H, W); of a multilabel task planes (K, H, W), whose regions are yielded by class.
        metadata: names and colors of the classes.
        geo_reference: if it has a location, coordinates are longitude and latitude (WGS 84), or without a CRS those
            of the geo reference; else pixels, x to the right and y down. Outer rings are counterclockwise in these
            coordinates, and holes clockwise.

    Raises:
        InvalidArgumentError: if the CRS does not reach where the pixels are.
        MissingDependencyError: if rasterio is not installed.
    """
    import_rasterio()
    with (geo_reference or GeoReference()).located() as location:
        if location is not None:
            locate, crs = location
            location = locate, crs if _is_on_earth(crs) else None
        for class_id, geometry in _shapes(labels, metadata):
            pixels = round(sum(map(_signed_area, geometry["coordinates"])))
            if location is not None:
                geometry = _on_the_ground(geometry["coordinates"], *location)
            geometry["coordinates"] = _wound(geometry["coordinates"])
            properties = {"class_id": class_id, "class": metadata.labels[class_id], "pixels": abs(pixels)}
            yield {"type": "Feature", "geometry": geometry, "properties": properties}


def _shapes(labels: npt.NDArray[Any], metadata: DatasetMetadata) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the class, an index of the metadata, and the polygon in pixels of each region."""
    shapes = import_rasterio().features.shapes
    if metadata.task == MULTICLASS:
        for geometry, value in shapes(labels, mask=labels != metadata.ignore_index, connectivity=4):
            yield int(value), geometry
        return
    for class_id, plane in enumerate(labels.reshape(-1, *labels.shape[-2:])):
        is_class = plane == 1
        for geometry, _ in shapes(is_class.astype(np.uint8), mask=is_class, connectivity=4):
            yield class_id, geometry


def _on_the_ground(rings: list[list[tuple[float, float]]], locate: Locate, crs: Any) -> dict[str, Any]:
    """Returns the GeoJSON polygon of rings in pixels."""
    located = []
    for ring in rings:
        with np.errstate(invalid="ignore", over="ignore"):
            x, y = locate(*np.asarray(ring, np.float64).T)
        located.append(list(zip(map(float, x), map(float, y), strict=True)))
        if not np.isfinite(located[-1]).all():
            raise InvalidArgumentError(
                "the image's location has numbers that are not finite, which GeoJSON does not hold; correct its "
                "transform (gdal_edit.py -a_ullr), or save the labels as .tif"
            )
    polygon = {"type": "Polygon", "coordinates": located}
    if crs is None:
        return polygon
    try:
        return import_rasterio().warp.transform_geom(crs, "EPSG:4326", polygon)
    except gdal_errors() as error:
        x, y = located[0][0]
        raise InvalidArgumentError(
            f"the image's location ({x:g}, {y:g}) has no longitude and latitude by its CRS, {crs}: {error}; correct "
            "its transform or CRS (gdal_edit.py -a_srs), or save the labels as .tif"
        ) from error


def _is_on_earth(crs: Any) -> bool:
    """Returns whether a CRS can be converted to longitude and latitude; warns if it cannot, as that of a plan."""
    if crs is None:
        return False
    rasterio = import_rasterio()
    try:
        rasterio.warp.transform(crs, "EPSG:4326", [0.0], [0.0])
    except rasterio._err.CPLE_NotSupportedError:
        warnings.warn(
            f"the CRS of the image, {crs!s:.60}, has no place on the earth: the coordinates of its polygons are those "
            "of its transform, not longitude and latitude",
            stacklevel=4,
        )
        return False
    except gdal_errors():  # this point may lie outside of its domain
        pass
    return True


def _wound(rings: list[list[tuple[float, float]]]) -> list[list[tuple[float, float]]]:
    """Returns the rings of a polygon as RFC 7946 has them: the outer one counterclockwise, holes clockwise."""
    return [
        list(ring) if (_signed_area(ring) >= 0) == (number == 0) else list(ring)[::-1]
        for number, ring in enumerate(rings)
    ]


def _signed_area(ring: list[tuple[float, float]]) -> float:
    """Returns the area of a closed ring; a hole runs the other way, so its area has the other sign."""
    x, y = np.asarray(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)
