"""Ways of predicting as evaluations use them."""

import pytest
import torch
import torch.nn.functional as F

from seg_core import DatasetMetadata
from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_core.registry import MODELS, PREDICTORS
from seg_train.run.ways import Way, WayOptions

METADATA = DatasetMetadata("arms", ("body", "left", "right"), left_right_pairs=[[1, 2]])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MODELS.get("fcn_resnet18")(num_classes=3).eval()


IMAGES = torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
OPTIONS = [
    WayOptions(),
    WayOptions(predictor="labels"),
    WayOptions(tile=(32, 32)),
    WayOptions(tile=(32, 32), overlap=0.0, scales=(1.0,), hflip=True),
    WayOptions(scales=(0.5, 1.0)),
    WayOptions(hflip=True),
    WayOptions(predictor="augmented", params={"scales": [1.0], "vflip": True}),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", [(40, 56), (61, 80), (20, 30)])
def test_labels_do_not_depend_on_whether_logits_are_wanted(options, size, model):
    way = Way(options, METADATA)
    labels, logits = way(model, IMAGES, size)
    alone, nothing = way(model, IMAGES, size, wants_logits=False)
    assert nothing is None
    assert torch.equal(labels, alone)
    assert labels.shape == (2, *size)
    assert labels.dtype == torch.uint8
    if options.predictor == "labels":
        assert logits is None
    else:
        assert logits.shape == (2, 3, *size)
        assert (logits.argmax(1) == labels).float().mean() > 0.999


@pytest.mark.parametrize("size", [(40, 56), (61, 80)])
def test_whole_logits_are_those_of_the_network_resized(size, model):
    labels, logits = Way(WayOptions(), METADATA)(model, IMAGES, size)
    with torch.no_grad():
        expected = F.interpolate(model(IMAGES)["out"], size, mode="bilinear")
    torch.testing.assert_close(logits, expected)
    assert (labels == expected.argmax(1)).float().mean() > 0.999


def test_flipped_images_swap_left_and_right(model):
    swapped = Way(WayOptions(hflip=True), METADATA)(model, IMAGES, (40, 56))[1]
    same = Way(WayOptions(hflip=True), DatasetMetadata("plain", METADATA.labels))(model, IMAGES, (40, 56))[1]
    assert not torch.equal(swapped, same)
    named = Way(WayOptions(predictor="augmented", params={"scales": [1.0]}), METADATA)(model, IMAGES, (40, 56))[1]
    torch.testing.assert_close(swapped, named)


def test_tiles_within_augmentation_are_augmented_tile_by_tile(model):
    way = Way(WayOptions(tile=(32, 32), overlap=0.25, scales=(1.0, 1.25)), METADATA)
    tta = PREDICTORS.get("augmented")

    def inner(model, tiles):
        assert max(tiles.shape[-2:]) <= 32
        return tta(model, tiles, scales=(1.0, 1.25), hflip=False)

    expected = PREDICTORS.get("tiled")(model, IMAGES, tile=(32, 32), overlap=0.25, predict=inner)
    torch.testing.assert_close(way(model, IMAGES, (40, 56))[1], expected)


def test_images_smaller_than_the_network_takes_are_padded():
    model = MODELS.get("fcn_vgg16")(num_classes=3).eval()
    images = torch.randn(1, 3, 9, 12)
    with torch.no_grad():
        expected = model(F.pad(images, (0, 20, 0, 23)))["out"][..., :9, :12]
    for options in (WayOptions(), WayOptions(tile=(32, 32))):
        labels, logits = Way(options, METADATA)(model, images, (9, 12))
        torch.testing.assert_close(logits, expected)
        assert torch.equal(labels.long(), expected.argmax(1))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_protocol_says_how_and_gives_the_same_options(options):
    fields = options.protocol()
    again = WayOptions.of_protocol(fields)
    assert again.protocol() == fields
    assert fields["tile"] == options.tile
    assert fields["overlap"] == (None if options.tile is None else 0.5 if options.overlap is None else options.overlap)
    assert (fields["scales"] is not None) == options.augments
    assert fields["predictor"] in ("whole", "labels", "tiled", "augmented")


def test_own_way_gives_logits_or_labels_of_the_images_size(model):
    PREDICTORS.register("own", lambda model, images, gain=1.0: gain * model(images)["out"])
    PREDICTORS.register("own_labels", lambda model, images: model(images)["out"].argmax(1))
    labels, logits = Way(WayOptions(predictor="own", params={"gain": -1.0}), METADATA)(model, IMAGES, (61, 80))
    assert logits.shape == (2, 3, 61, 80)
    assert torch.equal(logits.argmax(1), labels.long())
    way = Way(WayOptions(predictor="own_labels"), METADATA)
    assert way(model, IMAGES, (40, 56))[1] is None
    with pytest.raises(InvalidArgumentError, match=r"'own_labels' returns labels of 40x56 pixels for masks of 61x80"):
        way(model, IMAGES, (61, 80))


def test_own_way_may_take_the_size(model):
    PREDICTORS.register(
        "sized", lambda model, images, size: F.interpolate(model(images)["out"], size, mode="nearest").argmax(1)
    )
    assert Way(WayOptions(predictor="sized"), METADATA)(model, IMAGES, (61, 80))[0].shape == (2, 61, 80)


def test_unknown_way_names_the_known():
    with pytest.raises(UnknownNameError, match="unknown way of predicting 'hole'. Did you mean 'whole'"):
        Way(WayOptions(predictor="hole"), METADATA)


@pytest.mark.parametrize(("predictor", "gives"), [("whole", True), ("labels", False), ("tiled", True)])
def test_whether_there_are_logits_is_tried_without_a_trace(predictor, gives, model):
    model.train()
    state, before = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    assert Way(WayOptions(predictor=predictor), METADATA).gives_logits(model) is gives
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
