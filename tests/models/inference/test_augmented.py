"""Test-time augmentation: each variant is undone, and the mean is that of probabilities."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import seg_models
from seg_core.errors import InvalidArgumentError
from seg_models import predict_tta
from seg_models.inference.augmented import _changed, _changed_back, _variants
from seg_models.inference.scratch import Scratch
from seg_models.inference.tiled import predict_tiled


class PerPixel(nn.Module):
    """The same wherever a pixel is: no flip and no turn changes what it says."""

    def __init__(self, num_classes=4):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, num_classes, 1)
        self.seen = []

    def forward(self, images):
        self.seen.append(tuple(images.shape[-2:]))
        return {"out": self.conv(images)}


def images(height=20, width=28):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("vflip", [False, True])
@pytest.mark.parametrize("hflip", [False, True])
def test_variants_are_undone(hflip, vflip, turns):
    model = PerPixel()
    found = predict_tta(model, images(), scales=(1.0,), hflip=hflip, vflip=vflip, quarter_turns=turns)
    with torch.inference_mode():
        expected = model.conv(images()).log_softmax(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("hflip", "vflip", "turns", "count"),
    [
        (False, False, False, 1),
        (True, False, False, 2),
        (True, True, False, 4),
        (False, False, True, 4),
        (True, True, True, 8),
    ],
)
def test_no_variant_is_predicted_twice(hflip, vflip, turns, count):
    original = torch.arange(12.0).view(1, 1, 3, 4)
    variants = list(_variants(hflip, vflip, turns))
    changed = [_changed(original, *variant) for variant in variants]
    assert len(variants) == count
    assert len({(c.shape, tuple(c.flatten().tolist())) for c in changed}) == count
    for variant, image in zip(variants, changed, strict=True):
        assert torch.equal(_changed_back(image, *variant), original)


def test_mean_is_that_of_probabilities_over_scales():
    model = PerPixel()
    found = predict_tta(model, images(), scales=(0.5, 1.5), hflip=False)
    total = torch.zeros(2, 4, 20, 28)
    for size, shrinks in (((10, 14), True), ((30, 42), False)):
        with torch.inference_mode():
            resized = F.interpolate(images(), size, mode="bilinear", antialias=shrinks)
            back = F.interpolate(model.conv(resized), (20, 28), mode="bilinear", align_corners=False)
            total += back.softmax(1)
    torch.testing.assert_close(found.exp(), total / 2, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2, 20, 28))
    assert model.seen == [(10, 14), (30, 42)]


def test_classes_of_a_side_change_places_in_mirrored_images():
    """A network that calls the left half class 0 and the right half class 1, in mirrored images as well."""

    class Halves(nn.Module):
        def forward(self, images):
            width = images.shape[-1]
            logits = torch.zeros(len(images), 3, *images.shape[-2:])
            logits[:, 0, :, : width // 2] = 5
            logits[:, 1, :, width // 2 :] = 5
            return {"out": logits}

    plain = Halves()(images())["out"].log_softmax(1)
    found = predict_tta(Halves(), images(), scales=(1.0,), hflip=True, left_right_pairs=[(0, 1)])
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)
    assert (predict_tta(Halves(), images(), scales=(1.0,), hflip=True) - plain).abs().max() > 1


def test_pairs_come_from_the_metadata_of_the_model(monkeypatch):
    from seg_core import DatasetMetadata

    class Info:
        metadata = DatasetMetadata("Body", ("left arm", "right arm", "head"), left_right_pairs=[[0, 1]])

    model = PerPixel(3)
    model.model_info = Info()
    mirrored = predict_tta(model, images(), scales=(1.0,))
    with torch.inference_mode():
        probabilities = model.conv(images()).softmax(1)
    expected = (probabilities + probabilities[:, [1, 0, 2]]) / 2
    torch.testing.assert_close(mirrored.exp(), expected, rtol=1e-4, atol=1e-5)


def test_works_within_tiles_and_tiles_within_it():
    import functools

    model = PerPixel()
    tiled = functools.partial(predict_tiled, tile=16)
    found = predict_tta(model, images(40, 40), scales=(1.0,), predict=tiled)
    with torch.inference_mode():
        torch.testing.assert_close(found, model.conv(images(40, 40)).log_softmax(1), rtol=1e-4, atol=1e-5)
    assert set(model.seen) == {(16, 16)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scales": ()}, "scales must hold at least one factor above 0"),
        ({"scales": (1.0, -1.0)}, "scales must hold"),
        ({"left_right_pairs": [(0, 9)]}, "left_right_pairs must hold class ids 0 to 3, got"),
        ({"predict": lambda model, images: images[:, 0].long()}, "predict must give logits"),
    ],
)
def test_wrong_arguments_are_told(options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        predict_tta(PerPixel(), images(), **options)


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "enet"])
def test_network_by_its_own_resize_gives_what_its_forward_gives(name):
    """LRASPP ends with a bilinear resize, which is done in memory that is used again; ENet does not."""
    torch.manual_seed(0)
    model = seg_models.get_model(name, num_classes=4).eval()
    image = torch.randn(2, 3, 40, 56)
    options = {"scales": (0.75, 1.0, 1.5), "vflip": True, "left_right_pairs": [(0, 2)]}
    found = predict_tta(model, image, **options)
    expected = predict_tta(model, image, predict=lambda network, images: network(images)["out"], **options)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("align_corners", [True, False])
def test_memory_of_a_resize_is_used_again(align_corners):
    scratch = Scratch()
    places = set()
    for size in ((24, 30), (6, 50), (1, 1)):
        logits = torch.randn(2, 3, 7, 9)
        found = scratch.resize(logits, size, align_corners, room=24 * 30)
        places.add(found.data_ptr())
        expected = F.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
        assert torch.equal(found, expected)
    assert len(places) == 1
    half = scratch.resize(torch.randn(1, 2, 4, 4, dtype=torch.float64), (8, 8))
    assert (half.dtype, half.shape) == (torch.float64, (1, 2, 8, 8))
