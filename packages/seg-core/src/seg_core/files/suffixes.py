"""Suffixes of image files: one list for all that search folders for images to predict.

Separate from `opening`, which reads the files, since this module does not import Pillow.
"""

__all__ = ["FORMAT_SUFFIXES", "IMAGE_SUFFIXES"]

FORMAT_SUFFIXES = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pam"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
}
"""Formats that `seg_core.files.opening` reads, as Pillow names them, and the suffixes of their files."""

IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMAT_SUFFIXES.values() for suffix in suffixes)
"""Suffixes of the image files that can be read, in lower case."""
