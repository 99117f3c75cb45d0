"""Small images of every format, damaged at random, of which readers must raise no error but ours."""

import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from tests.fuzz.mutations import damaged

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (24, 20, 3)).astype(np.uint8)
IDS = RNG.integers(0, 5, (24, 20)).astype(np.uint8)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def seeds() -> dict[str, bytes]:
    """Returns the contents of valid files by their names."""
    rgb, gray = Image.fromarray(PIXELS), Image.fromarray(IDS)
    palette, pages = rgb.quantize(16), [Image.fromarray(IDS + step) for step in (1, 2)]
    exif = Image.Exif()
    exif[274] = 6
    found = {
        "rgb.png": _saved(rgb, "PNG"),
        "gray.png": _saved(gray, "PNG"),
        "palette.png": _saved(palette, "PNG", bits=4, transparency=1),
        "deep.png": _saved(Image.fromarray(IDS.astype(np.uint16) * 900), "PNG"),
        "frames.png": _saved(gray, "PNG", save_all=True, append_images=pages),
        "exif.jpg": _saved(rgb, "JPEG", exif=exif, icc_profile=b"\1" * 200),
        "progressive.jpg": _saved(rgb, "JPEG", progressive=True),
        "cmyk.jpg": _saved(rgb.convert("CMYK"), "JPEG"),
        "frames.gif": _saved(gray, "GIF", save_all=True, append_images=pages),
        "plain.tif": _saved(rgb, "TIFF"),
        "deflate.tif": _saved(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "lzw.tif": _saved(gray, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": _saved(rgb, "TIFF", compression="jpeg"),
        "pages.tif": _saved(gray, "TIFF", save_all=True, append_images=pages),
        "bits.tif": _saved(gray.convert("1"), "TIFF", compression="group4"),
        "float.tif": _saved(Image.fromarray(IDS.astype(np.float32)), "TIFF"),
        "rgb.bmp": _saved(rgb, "BMP"),
        "palette.bmp": _saved(palette, "BMP"),
        "rgb.ppm": _saved(rgb, "PPM"),
        "gray.pgm": _saved(gray, "PPM"),
        "bits.pbm": _saved(gray.convert("1"), "PPM"),
    }
    if features.check("webp"):
        found["rgb.webp"] = _saved(rgb, "WEBP")
        found["frames.webp"] = _saved(rgb, "WEBP", lossless=True, save_all=True, append_images=[rgb.rotate(90)])
    if features.check("jpg_2000"):
        found["rgb.jp2"] = _saved(rgb, "JPEG2000")
        found["gray.j2k"] = _saved(gray, "JPEG2000", irreversible=False)
    if features.check("avif"):
        found["rgb.avif"] = _saved(rgb, "AVIF")
    for name, array in {"rgb.npy": PIXELS, "bands.npy": IDS.astype(np.float32)[None], "turned.npy": PIXELS.T}.items():
        file = io.BytesIO()
        np.save(file, array)
        found[name] = file.getvalue()
    return found


def doors() -> dict[str, Callable[[Path], Any]]:
    """Returns the ways to read a file, by name."""
    from seg_core import ImageChannels, read_image, read_mask
    from seg_core.files.channel_files import read_channels
    from seg_core.files.images import Once, read_header, read_pages
    from seg_core.files.rasters import open_raster

    described = ImageChannels(("a", "b", "c"), range=(0, 255))
    once = Once()

    def predicted(source: bytes | Path, name: str) -> None:
        from seg_models.inference.reading import read_file  # seg-core is tested alone too

        read_file(source, name, 10**6, once)

    def by_parts(path: Path) -> None:
        with open_raster(path, 10**6) as raster:
            raster.read(0, 0, min(8, raster.height), min(8, raster.width))

    def all_pages(path: Path) -> None:
        for number, _ in enumerate(read_pages(path, max_pixels=10**6)):
            if number == 9:
                return

    return {
        "image": lambda path: read_image(path, max_pixels=10**6),
        "bytes": lambda path: predicted(path.read_bytes(), "x"),
        "mask": lambda path: read_mask(path, max_pixels=10**6),
        "header": read_header,
        "pages": all_pages,
        "file": lambda path: predicted(path, str(path)),
        "channels": lambda path: read_channels(path, described, max_pixels=10**6),
        "parts": by_parts,
    }


def inputs(seed: int, start: int = 0) -> Iterator[tuple[int, str, bytes]]:
    """Yields numbers, names and contents of damaged files without end, the same for the same seed."""
    originals = seeds()
    names = sorted(originals)
    number = start
    while True:
        rng = random.Random(seed * 1_000_003 + number)
        name = names[number % len(names)]
        yield number, name, damaged(originals[name], rng)
        number += 1
