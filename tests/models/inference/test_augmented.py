"""Test-time augmentation: each copy is transformed back, and probabilities are averaged."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import seg_models
from seg_core.errors import InvalidArgumentError
from seg_models import predict_tta
from seg_models.inference.augmented import _augment, _copies, _undo
from seg_models.inference.tiled import predict_tiled


class PerPixel(nn.Module):
    """A 1x1 convolution: flips and rotations of the image flip and rotate the logits."""

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
def test_copies_are_transformed_back(hflip, vflip, turns):
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
def test_no_copy_is_predicted_twice(hflip, vflip, turns, count):
    original = torch.arange(12.0).view(1, 1, 3, 4)
    copies = list(_copies(hflip, vflip, turns))
    augmented = [_augment(original, *copy) for copy in copies]
    assert len(copies) == count
    assert len({(image.shape, tuple(image.flatten().tolist())) for image in augmented}) == count
    for copy, image in zip(copies, augmented, strict=True):
        assert torch.equal(_undo(image, *copy), original)


def test_result_is_the_mean_probability_over_scales():
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


def test_left_right_pairs_are_swapped_in_mirrored_images():
    """With a network that predicts class 0 in the left half and class 1 in the right half, of mirrored images too."""

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


def test_left_right_pairs_default_to_the_metadata_of_the_model():
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


def test_predict_tiled_predicts_each_copy():
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
        ({"predict": lambda model, images: images[:, 0].long()}, "predict must return logits"),
    ],
)
def test_wrong_arguments_are_errors(options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        predict_tta(PerPixel(), images(), **options)


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_small", "enet"])
def test_resize_in_scratch_memory_equals_forward(name):
    """LRASPP ends with a bilinear resize, which is computed in reused memory; ENet does not."""
    torch.manual_seed(0)
    model = seg_models.get_model(name, num_classes=4).eval()
    image = torch.randn(2, 3, 40, 56)
    options = {"scales": (0.75, 1.0, 1.5), "vflip": True, "left_right_pairs": [(0, 2)]}
    found = predict_tta(model, image, **options)
    expected = predict_tta(model, image, predict=lambda network, images: network(images)["out"], **options)
    assert torch.equal(found, expected)
