"""The description of an image's channels: what it takes, what it refuses, and how it is stored."""

import json
import math

import pytest

from seg_core import DatasetMetadata, ImageChannels, InvalidArgumentError, resolve_metadata
from seg_core.labels.channels import RGB_CHANNELS

NAMES = ("blue", "green", "red", "nir")


def test_range_and_colors_follow_from_few_fields():
    channels = ImageChannels(NAMES, range=(0, 10000))
    assert channels.count == 4 and channels.rgb == channels.shown == (2, 1, 0)
    assert channels.ranges == ((0.0, 10000.0),) * 4 and not channels.is_rgb8 and not channels.is_bytes
    assert channels.fill == (0.0,) * 4
    assert str(channels) == "4 channels (blue, green, red, nir) from 0 to 10000"


def test_range_of_each_channel_and_fill_at_the_mean():
    channels = ImageChannels(("red", "green", "blue", "height"), ((0, 255),) * 3 + ((-10, 90),), mean=(0.5, 0, 0, 0.25))
    assert channels.ranges[3] == (-10.0, 90.0)
    assert channels.fill == (127.5, 0.0, 0.0, 15.0)
    assert str(channels) == "4 channels (red, green, blue, height) from 0 to 255, 0 to 255, 0 to 255, -10 to 90"


def test_without_colors_the_first_three_or_the_first_are_shown():
    assert ImageChannels(("a", "b", "c", "d")).rgb is None
    assert ImageChannels(("a", "b", "c", "d")).shown == (0, 1, 2)
    assert ImageChannels(("gray",)).shown == (0, 0, 0)
    assert ImageChannels(("B", "G", "R")).rgb == (2, 1, 0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"mean": (0.4, 0.4, 0.4), "std": (0.2, 0.2, 0.2)}, True),
        ({"range": (0, 255)}, False),
        ({"nodata": 0}, False),
        ({"bands": (3, 2, 1)}, False),
        ({"rgb": (2, 1, 0)}, False),
    ],
)
def test_only_plain_colors_are_read_as_such(fields, expected):
    assert ImageChannels(("red", "green", "blue"), **fields).is_rgb8 is expected


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"names": ()}, "names must be a list of names"),
        ({"names": "rgb"}, "names must be a list of names"),
        ({"names": ("a", "a")}, "'a' twice"),
        ({"names": ("a", " ")}, "names must be a list"),
        ({"names": NAMES, "range": (1, 1)}, "low < high"),
        ({"names": NAMES, "range": ((0, 1), (0, 1))}, "for each of 4 channels"),
        ({"names": NAMES, "range": (0, math.inf)}, "low < high"),
        ({"names": NAMES, "mean": (1, 2, 3)}, "mean must be 4 numbers, one per channel"),
        ({"names": NAMES, "std": (1, 2, 3, 0)}, "std must be 4 numbers above 0"),
        ({"names": NAMES, "mean": (1500, 1700, 1900, 2700)}, "mean must be of values scaled from the range to 0 to 1"),
        ({"names": NAMES, "rgb": (0, 1)}, "rgb must be the indices, 0 to 3"),
        ({"names": NAMES, "rgb": (0, 1, 4)}, "rgb must be the indices, 0 to 3"),
        ({"names": NAMES, "rgb": (0, 1, 1)}, "rgb must be the indices"),
        ({"names": NAMES, "nodata": "0"}, "nodata must be a number"),
        ({"names": NAMES, "bands": (0, 1, 2, 3)}, "bands must be a number from 1"),
        ({"names": NAMES, "bands": (1, 2, 3)}, "for each of 4 channels"),
        ({"names": NAMES, "bands": (1, 1, 2, 3)}, "bands must all be different"),
        ({"names": NAMES, "pages": 1}, "pages must be True or False"),
        ({"names": NAMES, "rang": (0, 1)}, "unknown key 'rang' in channels. Did you mean 'range'"),
        ({"range": (0, 1)}, "channels have no 'names'"),
    ],
)
def test_wrong_fields_are_named(fields, match):
    with pytest.raises(InvalidArgumentError, match=match):
        ImageChannels.from_dict(fields)


def test_a_table_must_be_one():
    with pytest.raises(InvalidArgumentError, match="channels must be a table"):
        DatasetMetadata("mine", ("a", "b"), channels=4)


def test_types_that_do_not_fit_the_range():
    with pytest.raises(InvalidArgumentError, match=r"have no range, which means 8 bits; give the range"):
        ImageChannels(NAMES).check_type("uint16", "image a.tif")
    with pytest.raises(InvalidArgumentError, match="image a.tif has values of 8 bits, and the range .* ends at 10000"):
        ImageChannels(NAMES, (0, 10000)).check_type("uint8", "image a.tif")
    ImageChannels(NAMES).check_type("uint8", "image a.tif")
    ImageChannels(NAMES, (0, 1)).check_type("float32", "image a.tif")
    ImageChannels(NAMES, (0, 300)).check_type("uint8", "image a.tif")
    ImageChannels(NAMES, ((0, 255),) * 3 + ((0, 9000),)).check_type("uint8", "image a.tif")


def test_metadata_hold_the_channels_and_files_of_colors_stay_as_they_were(tmp_path):
    plain = DatasetMetadata("mine", ("a", "b"))
    assert plain.channels is RGB_CHANNELS and "channels" not in plain.to_dict()
    fields = {"names": list(NAMES), "range": [0.0, 10000.0], "nodata": 0.0, "bands": ["B2", "B3", "B4", "B8"]}
    metadata = DatasetMetadata("mine", ("a", "b"), channels=fields)
    assert metadata.to_dict()["channels"] == fields
    assert DatasetMetadata.from_dict(json.loads(json.dumps(metadata.to_dict()))) == metadata
    file = tmp_path / "classes.toml"
    file.write_text('labels = ["a", "b"]\n[channels]\nnames = ["height"]\nrange = [0, 50]\nnodata = nan\n')
    channels = resolve_metadata(file).channels
    assert channels.count == 1 and math.isnan(channels.nodata)
    assert channels == ImageChannels(("height",), (0, 50), nodata=float("nan"))
    assert channels.to_dict()["nodata"] == "nan"  # JSON has no such number
    assert ImageChannels.from_dict(json.loads(json.dumps(channels.to_dict()))) == channels
    with pytest.raises(InvalidArgumentError, match=r"classes.toml: channels.range must be"):
        file.write_text('labels = ["a", "b"]\n[channels]\nnames = ["height"]\nrange = 50\n')
        resolve_metadata(file)
