"""Values that can hardly be those of the range are told, others are not."""

import warnings

import numpy as np
import pytest

from seg_core import ImageChannels
from seg_core.files.channel_values import doubt_about_values, warn_of_values
from seg_core.files.images import Once

REFLECTANCE = ImageChannels(("red", "nir"), range=(0, 10000))


def image(low, high, dtype):
    return np.random.default_rng(0).uniform(low, high, (80, 70, 2)).astype(dtype)


@pytest.mark.parametrize(
    ("values", "channels", "told"),
    [
        (image(700, 6900, np.uint16), REFLECTANCE, ""),
        (image(0, 90, np.uint16), REFLECTANCE, ""),  # a dark scene
        (image(9000, 40000, np.uint16), REFLECTANCE, ""),  # clouds
        (image(0, 1, np.float32), REFLECTANCE, "at most 0.99"),
        (image(700, 6900, np.uint16), ImageChannels(("red", "nir"), range=(0, 1)), "its range is 0 to 1"),
        (image(900, 6900, np.uint16), ImageChannels(("red", "nir"), range=(0, 255)), "its range is 0 to 255"),
        (image(0, 1, np.float32), ImageChannels(("a", "b"), range=(0, 1)), ""),
        (image(-1, 1, np.float32), ImageChannels(("a", "b"), range=(-100, 100)), ""),
        (image(700, 6900, np.uint16), ImageChannels(("a", "b"), range=((0, 10000), (0, 1))), "channel 'b'"),
    ],
)
def test_doubts(values, channels, told):
    doubt = doubt_about_values(values, channels)
    assert bool(doubt) == bool(told) and told in doubt


def test_it_is_told_once():
    once = Once()
    with pytest.warns(UserWarning, match="image a.tif: the values of channel 'red' are at most .*correct the range"):
        warn_of_values(image(0, 1, np.float32), REFLECTANCE, "a.tif", once)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_values(image(0, 1, np.float32), REFLECTANCE, "b.tif", once)
