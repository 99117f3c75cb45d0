"""The channels of images in model files: stored in the metadata, given to the preprocessing, checked on writing."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from seg_core import BuildSpec, DatasetMetadata, ImageChannels, Preprocessing, load_model, read_model_info, save_model
from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.model_files.digest import digest_of
from seg_core.registry import MODELS

NIR = ImageChannels(("red", "green", "blue", "nir"), range=(0, 10000), nodata=0)
RGB = DatasetMetadata("two", ("left", "right"), colors=((1, 2, 3), (4, 5, 6)))
METADATA = dataclasses.replace(RGB, channels=NIR)
PREPROCESSING = Preprocessing(mean=(0.1, 0.2, 0.3, 0.4), std=(0.5, 0.5, 0.5, 0.5), channels=NIR)


class Tiny(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, images):
        return {"out": self.conv(images)}


def tiny(*, weights=None, num_classes=2, variant=None, in_channels=3):
    model = Tiny(num_classes, in_channels)
    model.build_spec = BuildSpec("tiny_channels", "paper", {"num_classes": num_classes, "in_channels": in_channels})
    return model


@pytest.fixture(autouse=True)
def registered():
    MODELS.register("tiny_channels", tiny)


@pytest.mark.parametrize(
    "channels",
    [
        NIR,
        ImageChannels(("gray",), range=(0, 65535), nodata=math.nan),
        ImageChannels(("b", "g", "r"), range=((0, 1), (0, 2), (-1, 3)), mean=(0.1, 0.2, 0.3), std=(1, 2, 3)),
        ImageChannels(("red", "green", "blue"), bands=("B4", 3, 2), pages=True),
    ],
)
def test_the_channels_are_read_back_and_the_preprocessing_has_them(tmp_path, channels):
    metadata = dataclasses.replace(RGB, channels=channels)
    preprocessing = Preprocessing((0.25,) * channels.count, (0.5,) * channels.count, scale=0.5, channels=channels)
    model = tiny(in_channels=channels.count)
    save_model(model, tmp_path / "x.pt", metadata=metadata, preprocessing=preprocessing)
    info = read_model_info(tmp_path / "x.pt")
    assert (info.metadata, info.preprocessing) == (metadata, preprocessing)
    content = torch.load(tmp_path / "x.pt", weights_only=True)
    assert "channels" not in content["preprocessing"]
    assert load_model(tmp_path / "x.pt").model_info.preprocessing.channels is not None


def test_files_of_color_images_have_no_word_of_channels(tmp_path):
    save_model(tiny(), tmp_path / "x.pt", metadata=RGB, preprocessing=Preprocessing())
    content = torch.load(tmp_path / "x.pt", weights_only=True)
    assert "channels" not in content["metadata"]
    assert "channels" not in content["preprocessing"]
    assert read_model_info(tmp_path / "x.pt").preprocessing == Preprocessing()


@pytest.mark.parametrize(
    ("metadata", "preprocessing", "in_channels", "words"),
    [
        (METADATA, Preprocessing(), 4, r"preprocessing is for the 3 channels \(red, green, blue\) of 8 bits.*metadata"),
        (RGB, PREPROCESSING, 3, r"preprocessing is for the 4 channels .*their names, range, nodata differ"),
        (METADATA, PREPROCESSING, 3, r"the 4 channels \(red, green, blue, nir\) .*built with in_channels=3"),
        (RGB, Preprocessing(), 4, r"the 3 channels .*built with in_channels=4; pass metadata with its 4"),
    ],
)
def test_other_channels_are_not_written(tmp_path, metadata, preprocessing, in_channels, words):
    model = tiny(in_channels=in_channels)
    with pytest.raises(InvalidArgumentError, match=words):
        save_model(model, tmp_path / "x.pt", metadata=metadata, preprocessing=preprocessing)
    assert not (tmp_path / "x.pt").exists()


def test_the_advice_of_the_message_works(tmp_path):
    preprocessing = Preprocessing((0, 0, 0, 0), (1, 1, 1, 1), channels=ImageChannels(("a", "b", "c", "d")))
    save_model(
        tiny(in_channels=4),
        tmp_path / "x.pt",
        metadata=METADATA,
        preprocessing=preprocessing.for_channels(METADATA.channels),
    )
    assert read_model_info(tmp_path / "x.pt").preprocessing.mean == (0, 0, 0, 0)


def test_normalization_of_another_number_of_channels_is_damage(tmp_path):
    save_model(tiny(in_channels=4), tmp_path / "x.pt", metadata=METADATA, preprocessing=PREPROCESSING)
    content = torch.load(tmp_path / "x.pt", weights_only=True)
    content["preprocessing"]["mean"] = [0.1, 0.2, 0.3]
    del content["digest"]
    torch.save(content | {"digest": digest_of(content)}, tmp_path / "x.pt")
    with pytest.raises(CorruptFileError, match="preprocessing: mean must be 4 numbers"):
        read_model_info(tmp_path / "x.pt")


def test_files_that_say_nothing_of_the_channels_of_their_network_are_read(tmp_path):
    """Such as those written before channels were described, of networks for 4 channels."""
    save_model(tiny(in_channels=4), tmp_path / "x.pt", metadata=METADATA, preprocessing=PREPROCESSING)
    content = torch.load(tmp_path / "x.pt", weights_only=True)
    del content["metadata"]["channels"]
    content["preprocessing"] = Preprocessing().to_dict()
    del content["digest"]
    torch.save(content | {"digest": digest_of(content)}, tmp_path / "x.pt")
    assert load_model(tmp_path / "x.pt").model_info.metadata.channels.is_rgb8
