"""Which driver of GDAL may open a file, and what beside the file GDAL would open with it.

GDAL chooses a driver by the content of a file, whatever its name. Some drivers read another place than the file: a VRT
or the description of a web service may lead to a URL, or to any file of the machine. Each file is therefore opened by
one driver, which its first bytes name, by its absolute path: GDAL takes a relative one such as
`GTIFF_DIR:1:/vsicurl/http:/...` for more than a path.
"""

import os
from pathlib import Path

from seg_core.errors import CorruptFileError

__all__ = ["FORMATS", "IMAGES", "absolute", "check_sidecars", "driver_of", "is_codestream", "is_vrt"]

_HEAD_BYTES = 4096

IMAGES = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
}
"""First bytes -> driver, of the files that a mosaic may be of."""

_DRIVERS = IMAGES | {
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"EHFA_HEADER_TAG": "HFA",
    b"NITF0": "NITF",
    b"NSIF0": "NITF",
    b"PCIDSK": "PCIDSK",
    b"GRIB": "GRIB",
    b"ncols": "AAIGrid",
    b"NCOLS": "AAIGrid",
}
FORMATS = "TIFF, PNG, JPEG, JPEG 2000, GIF, BMP, WebP, HFA (.img), ENVI, NITF, PCIDSK, GRIB, AAIGrid and .hgt"
"""The formats that GDAL reads here, for messages."""

# suffix of a file beside an image -> what it may begin with
_SIDECARS = {
    ".msk": (*(prefix for prefix, driver in IMAGES.items() if driver == "GTiff"),),
    ".ovr": (*(prefix for prefix, driver in IMAGES.items() if driver == "GTiff"), b"EHFA_HEADER_TAG"),
    ".aux": (b"EHFA_HEADER_TAG",),
}
_ELSEWHERE = (b"OVERVIEW_FILE", b"/vsi", b"<SourceFilename", b"<SourceDataset", b"<VRTDataset", b"<!ENTITY")
"""What in metadata names another file, or hides it."""
_MAX_METADATA = 2**26  # bytes of an .aux.xml


def absolute(path: Path) -> str:
    """Returns the path by which GDAL opens a file of this machine.

    Raises:
        CorruptFileError: if there is no such file.
    """
    name = os.path.abspath(path)  # noqa: PTH100 - not resolved: what is beside a link belongs to it
    if name.startswith("/vsi") or not os.path.isfile(name):  # noqa: PTH113
        raise CorruptFileError(f"{path} is no file of this machine; give the path of a file")
    return name


def driver_of(path: Path) -> str | None:
    """Returns the name of the driver of GDAL that opens a file, `"VRT"` too, or None if none may."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for prefix, driver in _DRIVERS.items():
        if head.startswith(prefix):
            return driver
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if is_vrt(path) and b"<VRTDataset" in head:
        return "VRT"
    if path.suffix.lower() == ".hgt":
        return "SRTMHGT"
    return "ENVI" if _has_envi_header(path) else None


def is_vrt(path: Path) -> bool:
    """Returns whether a file is a VRT by its name; under another one no file is read as such."""
    return path.suffix.lower() == ".vrt"


def is_codestream(path: Path) -> bool:
    """Returns whether a JPEG 2000 file has no boxes around its codestream."""
    return (_head(path) or b"").startswith(b"\xff\x4f")


def _has_envi_header(path: Path) -> bool:
    for header in (path.with_suffix(".hdr"), Path(f"{path}.hdr"), path.with_suffix(".HDR")):
        try:
            with header.open("rb") as file:
                if file.read(4) == b"ENVI":
                    return True
        except OSError:
            continue
    return False


def check_sidecars(path: Path) -> None:
    """Checks the files beside an image that GDAL opens with it: by any driver, so that each could lead elsewhere.

    Raises:
        CorruptFileError: if a mask or overviews beside it are no TIFF, or its metadata name another file.
    """
    for suffix, prefixes in _SIDECARS.items():
        for sidecar in _beside(path, suffix):
            for each in (sidecar, *(Path(f"{sidecar}{more}") for more in (".msk", ".ovr"))):
                head = _head(each)
                if head is not None and not head.startswith(prefixes):
                    raise CorruptFileError(
                        f"{path} has {each.name} beside it, which GDAL would read with it, and which is no image of a "
                        "format that masks and overviews have (TIFF, HFA); move it to another folder"
                    )
            _check_metadata(path, Path(f"{sidecar}.aux.xml"))
    _check_metadata(path, Path(f"{path}.aux.xml"))


def _beside(path: Path, suffix: str) -> set[Path]:
    return {Path(f"{path}{suffix}"), Path(f"{path}{suffix.upper()}"), path.with_suffix(suffix)} - {path}


def _head(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError:
        return None


def _check_metadata(path: Path, metadata: Path) -> None:
    try:
        if not metadata.is_file():
            return
        is_large = metadata.stat().st_size > _MAX_METADATA
        text = b"" if is_large else metadata.read_bytes()
    except OSError:
        return  # GDAL cannot read it either
    if is_large or any(word in text for word in _ELSEWHERE):
        problem = "are too large" if is_large else "name other files"
        raise CorruptFileError(
            f"{path} has {metadata.name} beside it, whose metadata {problem}; move it to another folder"
        )
