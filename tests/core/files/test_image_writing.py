"""Writing images for display, and the limits of formats."""

import numpy as np
import pytest
from PIL import Image

from seg_core.errors import InvalidArgumentError
from seg_core.files.image_writing import write_image


@pytest.mark.parametrize(
    ("name", "side", "limit"),
    [
        ("x.jpg", 65501, "JPEG has at most 65500 pixels a side"),
        ("x.JPEG", 65501, "JPEG has at most 65500 pixels a side"),
        ("x.webp", 16384, "WEBP has at most 16383 pixels a side"),
        ("x.gif", 65536, "GIF has at most 65535 pixels a side"),
        ("x.tga", 65536, ""),
    ],
)
@pytest.mark.parametrize("is_tall", [False, True])
def test_limit_of_a_format_is_named_and_the_advice_works(name, side, limit, is_tall, tmp_path):
    image = np.zeros((side, 4, 3) if is_tall else (4, side, 3), np.uint8)
    size = f"{image.shape[1]}x{image.shape[0]} pixels"
    with pytest.raises(InvalidArgumentError, match=f"{name} cannot hold an image of {size} .*{limit}.*; choose .png"):
        write_image(tmp_path / name, image)
    assert list(tmp_path.iterdir()) == []
    for advised in ("x.png", "x.tif"):
        write_image(tmp_path / advised, image)
        with Image.open(tmp_path / advised) as saved:
            assert saved.size == image.shape[1::-1]


@pytest.mark.parametrize(("name", "side"), [("x.jpg", 65500), ("x.webp", 16383), ("x.gif", 65535)])
def test_image_at_the_limit_is_written(name, side, tmp_path):
    write_image(tmp_path / name, np.zeros((2, side, 3), np.uint8))
    with Image.open(tmp_path / name) as saved:
        assert saved.size == (side, 2)


@pytest.mark.parametrize("name", ["x.xyz", "x", "x.psd", "x.ico", "x.icns"])
def test_suffix_that_is_read_only_unknown_or_of_icons_is_an_error(name, tmp_path):
    with pytest.raises(InvalidArgumentError, match="path must end in .png, .jpg or another image format"):
        write_image(tmp_path / name, np.zeros((300, 300, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_format_that_takes_no_color_says_so(tmp_path):
    with pytest.raises(InvalidArgumentError, match="x.xbm cannot hold .*: cannot write mode RGB as XBM; choose .png"):
        write_image(tmp_path / "x.xbm", np.zeros((3, 3, 3), np.uint8))
