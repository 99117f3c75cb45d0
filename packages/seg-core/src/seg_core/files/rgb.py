"""Images of PIL as RGB."""

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["rgb_array", "to_rgb"]

_STRIP_PIXELS = 2**24


def rgb_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Returns an image as RGB (H, W, 3), a new array.

    A large one is converted in strips: Pillow's RGB takes four bytes per pixel, and copies as many twice.
    """
    width, height = image.size
    if width * height <= _STRIP_PIXELS:
        return np.array(to_rgb(image))
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = np.asarray(to_rgb(strip))
    return pixels


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns an 8-bit image of PIL in mode RGB: gray is repeated, alpha is dropped, a palette is looked up."""
    if image.mode == "RGB":
        return image
    if image.mode == "La":  # premultiplied alpha; Pillow converts it to LA only
        image = image.convert("LA")
    elif image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow needs this step before a palette with transparency becomes RGB
    return image.convert("RGB")
