"""Mosaics: VRT files, in which GDAL reads parts of an image from other files.

A VRT may lead GDAL to any file of the machine, to a URL or to code. One is opened only if its user said so, and only if
it is a plain mosaic of image files of this machine.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.files.gdal_formats import IMAGES, check_sidecars

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["check_mosaic", "refused_mosaic"]

_MAX_BYTES = 2**26
_HEAD_BYTES = 16
_BANDS = (None, "VRTSourcedRasterBand")
_ELEMENTS = re.compile(
    r"VRTDataset|SRS|GeoTransform|GCPList|GCP|Metadata|MDI|VRTRasterBand|Description|NoDataValue|"
    r"HideNoDataValue|UnitType|Offset|Scale|CategoryNames|Category|ColorInterp|ColorTable|Entry|SimpleSource|"
    r"ComplexSource|AveragedSource|NoDataFromMaskSource|SourceFilename|SourceBand|SourceProperties|SrcRect|"
    r"DstRect|NODATA|UseMaskBand|ScaleOffset|ScaleRatio|ColorTableComponent|LUT|Exponent|SrcMin|SrcMax|DstMin|"
    r"DstMax|Clamp|MaskBand|BlockXSize|BlockYSize|MinMax|Histograms|HistItem|HistMin|HistMax|BucketCount|"
    r"IncludeOutOfRange|Approximate|HistCounts|GDALRasterAttributeTable|FieldDefn|Name|Type|Usage|Row|F"
)


def refused_mosaic(path: Path) -> InvalidArgumentError:
    """Returns the error of a VRT that was not allowed."""
    return InvalidArgumentError(
        f"{path} is a VRT, which leads to other files; if you trust it, allow it: --allow-vrt of seg predict, "
        "allow_vrt=True in Python; or convert it: gdal_translate IN OUT.tif"
    )


def check_mosaic(path: Path) -> None:
    """Checks that a VRT is a plain mosaic of TIFF, PNG, JPEG or JPEG 2000 files of this machine.

    Raises:
        CorruptFileError: if it holds anything else, such as URLs, other VRTs, code or warps.
    """
    from xml.etree import ElementTree  # slow to import, and rarely needed

    content = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b""
    if not content:
        raise _refused(path, f"it is empty, or has more than {_MAX_BYTES} bytes")
    if b"<!" in content.replace(b"<!--", b""):
        raise _refused(path, "it declares a document type")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise _refused(path, f"it is no XML: {error}") from error
    seen = set()
    for element in root.iter():
        if not _ELEMENTS.fullmatch(str(element.tag)) or (element.tag == "VRTDataset") != (element is root):
            raise _refused(path, f"it holds {element.tag}")
        kind = element.get("subClass")
        if kind not in (_BANDS if element.tag == "VRTRasterBand" else (None,)):
            raise _refused(path, f"it holds a {kind}")
        if element.tag == "MDI" and element.get("key", "").upper() == "OVERVIEW_FILE":
            raise _refused(path, "its metadata name another file")
        if element.tag == "SourceFilename":
            seen.add(_source(path, element))
    for source in seen:
        _check_source(path, source)


def _source(path: Path, element: "Element") -> Path:
    """Returns the absolute path of a source."""
    name = element.text or ""
    is_relative = element.get("relativeToVRT", "0") == "1"
    # GDAL takes a name for more than a path where it has a colon; and one is relative to the VRT or not at all
    is_plain = not re.search(r"[:<>\0]", name) if is_relative else Path(name).is_absolute()
    if not name or not is_plain or name.startswith(("/vsi", "\\")) or name != name.strip() or "/vsi" in name:
        raise _refused(
            path, f'its source {name!r} is no file beside it (relativeToVRT="1") and no absolute path of one'
        )
    return Path(os.path.abspath(path)).parent / name  # noqa: PTH100 - as GDAL joins them


def _check_source(path: Path, source: Path) -> None:
    try:
        with source.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise _refused(path, f"its source {source} cannot be read: {error.strerror}") from error
    # without the zero byte a driver that reads text could take the file for its own
    if not source.is_file() or not head.startswith(tuple(IMAGES)) or b"\0" not in head:
        raise _refused(path, f"its source {source} is no TIFF, PNG, JPEG or JPEG 2000 file")
    check_sidecars(source)


def _refused(path: Path, reason: str) -> CorruptFileError:
    return CorruptFileError(
        f"{path} is no plain mosaic of image files: {reason}; if you trust it, convert it: gdal_translate IN OUT.tif"
    )
