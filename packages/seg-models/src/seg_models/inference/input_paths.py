"""Classifies paths and URLs: an image, a folder, a glob pattern, a video.

Separate from `inputs`, which reads the images, since this module imports neither torch nor Pillow: `seg predict` checks
its arguments with these functions before it spends seconds on importing torch.
"""

import glob
import os
from pathlib import Path

from seg_core.errors import ImageNotFoundError

__all__ = [
    "ARRAY_SUFFIXES",
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "is_folder",
    "is_pattern",
    "is_url",
    "is_video",
    "list_image_files",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif", ".jp2")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
# arrays that are read tile by tile
ARRAY_SUFFIXES = (".npy", ".zarr")


def is_url(source: object) -> bool:
    """Returns whether `source` is an http or https URL."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def is_folder(source: str | os.PathLike[str]) -> bool:
    """Returns whether `source` is a folder of images; a zarr array, which is a folder too, is not."""
    return Path(source).is_dir() and Path(source).suffix.lower() not in ARRAY_SUFFIXES


def is_video(source: str | os.PathLike[str]) -> bool:
    """Returns whether `source` has the suffix of a video."""
    return Path(source).suffix.lower() in VIDEO_SUFFIXES and not is_pattern(source)


def is_pattern(source: str | os.PathLike[str]) -> bool:
    """Returns whether `source` is a glob pattern such as `"*.jpg"`, and not an existing file of that name."""
    return glob.has_magic(os.fspath(source)) and not Path(source).exists()


def list_image_files(source: str | os.PathLike[str]) -> list[Path]:
    """Returns the images of a folder (without its subfolders), or the files that match a glob pattern, sorted.

    Raises:
        ImageNotFoundError: if there are none.
    """
    if is_folder(source):
        paths = sorted(Path(source).iterdir())
        found = [p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
        if not found:
            raise ImageNotFoundError(
                f"folder {os.fspath(source)} has no images ({', '.join(IMAGE_SUFFIXES)}); choose another folder"
            )
        return found
    matches = glob.glob(os.fspath(source), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    found = sorted(path for path in map(Path, matches) if path.is_file())
    if not found:
        raise ImageNotFoundError(f"no file matches {os.fspath(source)!r}; check the glob pattern")
    return found
