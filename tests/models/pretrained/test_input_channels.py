"""Weights of colors in networks for other channels: the inflation rule, gray images, where the colors are."""

import dataclasses
import logging

import pytest
import torch
import torchvision

import seg_models
from seg_core import DatasetMetadata, ImageChannels, Preprocessing, save_model
from seg_core.errors import InvalidArgumentError
from seg_models import Predictor
from seg_models.pretrained.input_channels import color_kernels, gray_normalization, inflate_kernels

SAME = Preprocessing((0.5,) * 3, (0.25,) * 3)
TWO = DatasetMetadata("two", ("a", "b"))


@pytest.fixture
def saved(tmp_path):
    def save(name, preprocessing=SAME, metadata=TWO, **options):
        torch.manual_seed(0)
        network = seg_models.get_model(name, num_classes=2, **options).eval()
        save_model(network, tmp_path / "rgb.pt", metadata=metadata, preprocessing=preprocessing)
        return network, tmp_path / "rgb.pt"

    return save


def image_kernels(network, other):
    state, given = network.state_dict(), other.state_dict()
    return [name for name in state if state[name].shape != given[name].shape]


@pytest.mark.parametrize(
    ("name", "in_channels"),
    [
        *(("fcn_resnet18", count) for count in (1, 2, 4, 5, 12)),
        ("bisenet_resnet18", 4),
        ("segformer_b0", 12),
        ("pidnet_s", 5),
    ],
)
def test_whole_checkpoints_are_inflated(saved, name, in_channels):
    theirs, path = saved(name)
    ours = seg_models.get_model(name, weights=path, in_channels=in_channels)
    assert ours.randomly_initialized == ()
    names = image_kernels(theirs, ours)
    assert names
    for key, tensor in theirs.state_dict().items():
        expected = inflate_kernels(tensor, in_channels) if key in names else tensor
        assert torch.equal(ours.state_dict()[key], expected)


@pytest.mark.parametrize("name", ["fcn_resnet18", "bisenetv2", "segformer_b0"])
def test_a_gray_image_gives_the_logits_of_the_repeated_one(saved, name):
    """Through the normalization: with one mean and std for all colors, the one channel has the same ones."""
    theirs, path = saved(name)
    ours = seg_models.get_model(name, weights=path, in_channels=1).eval()
    assert ours.model_info.preprocessing == Preprocessing((0.5,), (0.25,), channels=ImageChannels(("gray",)))
    assert ours.model_info.metadata == dataclasses.replace(TWO, channels=ImageChannels(("gray",)))
    gray = torch.randint(0, 256, (64, 96), dtype=torch.uint8).numpy()
    theirs.model_info = ours.model_info
    repeated = Predictor(theirs, metadata=TWO, preprocessing=SAME, logits=True, device="cpu", channels=RGB)(gray)
    alone = Predictor(ours, logits=True, device="cpu")(gray)
    scale = abs(repeated.logits).max()
    torch.testing.assert_close(torch.tensor(alone.logits), torch.tensor(repeated.logits), rtol=0, atol=1e-4 * scale)


RGB = ImageChannels(("red", "green", "blue"))


def test_normalizations_that_differ_by_color_are_averaged_for_gray():
    gray = gray_normalization(Preprocessing(scale=0.5))
    assert (gray.scale, gray.channels) == (0.5, ImageChannels(("gray",)))
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    ours, theirs = gray.normalize(values), Preprocessing().normalize(values.expand(3, -1, -1))
    assert (ours - theirs).abs().max() < 0.21
    assert (ours - theirs.mean(0)).abs().max() < 0.002


def test_gray_of_16_bits_is_described_on_construction(saved):
    _, path = saved("fcn_resnet18")
    gray = ImageChannels(("gray",), range=(0, 65535))
    ours = seg_models.fcn_resnet18(weights=path, in_channels=gray)
    assert ours.model_info.preprocessing == Preprocessing((0.5,), (0.25,), channels=gray)
    assert ours.build_spec.arguments["in_channels"] == 1
    labels = Predictor(ours, device="cpu")(torch.randint(0, 60000, (1, 64, 64)).to(torch.uint16)).labels
    assert labels.shape == (64, 64)


# ---- where the colors are --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "colors"),
    [
        (("red", "green", "blue"), [0, 1, 2]),
        (("blue", "green", "red", "nir"), [2, 1, 0, 0]),
        (("nir", "red", "swir", "green", "blue"), [0, 0, 1, 1, 2]),
        (("red", "green", "blue", "a", "b", "c", "d"), [0, 1, 2, 0, 1, 2, 0]),
        (("nir", "red", "green"), None),
    ],
)
def test_each_channel_gets_the_kernel_of_its_color(names, colors):
    assert color_kernels(ImageChannels(names)) == colors


NIR_FIRST = ImageChannels(("nir", "red", "green", "blue"), range=(0, 10000), mean=(0.1,) * 4, std=(0.2,) * 4)
BGR = ImageChannels(("blue", "green", "red"), range=(0, 10000))


@pytest.mark.parametrize("name", ["fcn_resnet18", "bisenetv2"])
@pytest.mark.parametrize("channels", [NIR_FIRST, BGR])
def test_weights_of_colors_go_to_these_colors(saved, name, channels):
    theirs, path = saved(name)
    ours = seg_models.get_model(name, weights=path, in_channels=channels)
    colors = color_kernels(channels)
    names = image_kernels(theirs, seg_models.get_model(name, in_channels=5, num_classes=2))
    for key, tensor in theirs.state_dict().items():
        expected = tensor[:, colors] * (3 / channels.count) if key in names else tensor
        torch.testing.assert_close(ours.state_dict()[key], expected)
    assert ours.model_info.metadata.channels == ours.model_info.preprocessing.channels == channels
    assert ours.model_info.preprocessing.mean == (channels.mean or SAME.mean)


def test_weights_of_the_same_channels_stay_where_they_are(saved):
    channels = dataclasses.replace(BGR, mean=(0.5,) * 3, std=(0.25,) * 3)
    theirs, path = saved(
        "fcn_resnet18", dataclasses.replace(SAME, channels=channels), dataclasses.replace(TWO, channels=channels)
    )
    ours = seg_models.fcn_resnet18(weights=path, in_channels=channels)
    assert torch.equal(ours.backbone.conv1.weight, theirs.backbone.conv1.weight)
    # tensors that do not say what their three channels are stay too
    torch.save(theirs.state_dict(), path.with_name("plain.pth"))
    plain = seg_models.fcn_resnet18(weights=path.with_name("plain.pth"), in_channels=channels)
    assert torch.equal(plain.backbone.conv1.weight, theirs.backbone.conv1.weight)


@pytest.mark.parametrize("channels", [NIR_FIRST, BGR])
def test_weights_of_the_backbone_go_to_these_colors(channels, monkeypatch):
    state = torchvision.models.resnet18().state_dict()
    enum = torchvision.models.get_model_weights("resnet18")
    monkeypatch.setattr(enum, "get_state_dict", lambda self, **options: state)
    monkeypatch.setattr("seg_models.backbones.base.fetch", lambda *args, **options: None)  # as if it were there
    ours = seg_models.bisenet_resnet18(num_classes=2, weights_backbone="DEFAULT", in_channels=channels)
    expected = state["conv1.weight"][:, color_kernels(channels)] * (3 / channels.count)
    torch.testing.assert_close(ours.context_path.backbone.conv1.weight, expected)
    # what is randomly initialized has no colors: no channel repeats another
    kernels = ours.spatial_path[0][0].weight
    assert not any(torch.equal(kernels[:, i], kernels[:, j]) for i in range(channels.count) for j in range(i))


def test_a_network_whose_colors_cannot_move_says_so(saved, caplog):
    _, path = saved("enet")
    with caplog.at_level(logging.WARNING):
        seg_models.enet(weights=path, in_channels=ImageChannels(("red", "green", "blue"), range=(0, 9)))
    assert not caplog.records
    seg_models.enet(weights=path, in_channels=BGR)
    assert "takes its first channels as red, green and blue" in caplog.text


# ---- weights of other described channels -----------------------------------------------------------------------------


def described(*names):
    return ImageChannels(names, range=(0, 10000))


def save_described(saved, name, channels):
    count = channels.count
    means = tuple(0.1 * (index + 1) for index in range(count))
    preprocessing = Preprocessing(means, (0.2,) * count, channels=channels)
    return saved(name, preprocessing, dataclasses.replace(TWO, channels=channels), in_channels=count)


@pytest.mark.parametrize("name", ["fcn_resnet18", "bisenetv2"])
@pytest.mark.parametrize(
    ("own", "wanted", "sources"),
    [
        (("red", "green", "blue", "nir"), ("blue", "Green", "red", "nir"), [2, 1, 0, 3]),
        (("nir", "red", "green"), ("green", "nir", "red"), [2, 0, 1]),
        (("nir", "red", "green"), ("red", "green", "blue", "nir"), [1, 2, 0, 0]),
        (("red", "green", "blue", "nir"), ("nir", "red", "green"), [3, 0, 1]),
        (("a", "b"), ("c", "b", "a", "d", "e"), [0, 1, 0, 1, 0]),
    ],
)
def test_weights_go_to_the_channels_of_the_same_names(saved, caplog, name, own, wanted, sources):
    theirs, path = save_described(saved, name, described(*own))
    with caplog.at_level(logging.WARNING):
        ours = seg_models.get_model(name, weights=path, in_channels=described(*wanted))
    assert not caplog.records
    names = image_kernels(theirs, seg_models.get_model(name, in_channels=9, num_classes=2))
    assert names
    for key, tensor in theirs.state_dict().items():
        expected = tensor[:, sources] * min(1, len(own) / len(wanted)) if key in names else tensor
        torch.testing.assert_close(ours.state_dict()[key], expected)
    if len(wanted) <= len(own):
        assert ours.model_info.preprocessing.mean == tuple(0.1 * (index + 1) for index in sources)
        assert ours.model_info.metadata.channels == described(*wanted)


def test_the_same_image_with_its_channels_in_another_order_has_the_same_logits(saved):
    own, wanted = described("red", "green", "blue", "nir"), described("nir", "blue", "green", "red")
    _, path = save_described(saved, "fcn_resnet18", own)
    ours = seg_models.fcn_resnet18(weights=path, in_channels=wanted)
    image = torch.randint(0, 10000, (4, 64, 64)).to(torch.int32).to(torch.uint16)
    expected = Predictor(path, logits=True, device="cpu")(image).logits
    found = Predictor(ours, logits=True, device="cpu")(image[[3, 2, 1, 0]]).logits
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "wanted", "reason"),
    [
        ("fcn_resnet18", ("red", "green", "swir"), "not all of them have the same names"),
        ("fcn_resnet18", ("blue", "green", "red", "height"), "not all of them have the same names"),
        ("enet", ("red", "green", "nir"), "more than the first convolution"),
    ],
)
def test_weights_that_cannot_be_placed_by_name_are_told(saved, caplog, name, wanted, reason):
    theirs, path = save_described(saved, name, described("nir", "red", "green"))
    with caplog.at_level(logging.WARNING):
        ours = seg_models.get_model(name, weights=path, in_channels=described(*wanted))
    (record,) = caplog.records
    text = record.getMessage()
    assert "is for 3 channels (nir, red, green) from 0 to 10000" in text
    assert f"({', '.join(wanted)})" in text
    assert reason in text
    for key, tensor in theirs.state_dict().items():
        found = ours.state_dict()[key]
        assert torch.equal(found, tensor if found.shape == tensor.shape else inflate_kernels(tensor, len(wanted)))


def test_selected_classes_keep_the_channels_of_the_file(tmp_path):
    network = seg_models.fcn_resnet18(num_classes=2, in_channels=4)
    metadata = dataclasses.replace(TWO, channels=NIR_FIRST)
    preprocessing = Preprocessing((0.1,) * 4, (0.2,) * 4, channels=NIR_FIRST)
    save_model(network, tmp_path / "x.pt", metadata=metadata, preprocessing=preprocessing)
    ours = seg_models.fcn_resnet18(weights=tmp_path / "x.pt", in_channels=4, class_names=["b"])
    assert ours.model_info.metadata.channels == ours.model_info.preprocessing.channels == NIR_FIRST


def test_a_wrong_number_of_channels_is_an_error():
    with pytest.raises(InvalidArgumentError, match="in_channels must be an integer >= 1, got 0"):
        seg_models.fcn_resnet18(in_channels=0)
