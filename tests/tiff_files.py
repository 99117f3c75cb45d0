"""TIFF files for tests, written and read with rasterio."""

import warnings

import numpy as np


def geo_reference():
    """Returns the options of `write_tiff` for an image of half a meter per pixel in UTM zone 33."""
    import rasterio

    return {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_600_000)}


def write_tiff(path, image, **options):
    """Writes an array (H, W) or (H, W, C)."""
    import rasterio

    bands = np.atleast_3d(image).transpose(2, 0, 1)
    shape = {"height": bands.shape[1], "width": bands.shape[2], "count": len(bands), "dtype": bands.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
            file.write(bands)


def read_tiff(path):
    """Returns the first channel, the profile, and the palette of 8-bit files."""
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        warnings.simplefilter("ignore", rasterio.errors.NodataShadowWarning)
        with rasterio.open(path) as file:
            return file.read(1), dict(file.profile), file.colormap(1) if file.dtypes[0] == "uint8" else None
