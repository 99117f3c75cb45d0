import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError
from seg_models import get_model, predict_labels, predict_tiled, predict_tta, predict_whole


def first_channels(count):
    """Returns a network whose logits are the first channels of the images."""
    return lambda images: images[:, :count].clone()


def logits_of(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)) * 2


@pytest.mark.parametrize(("count", "thresholds"), [(1, 0.5), (1, [0.8]), (3, 0.3), (3, (0.2, 0.5, 0.9))])
def test_planes_are_probabilities_above_thresholds(count, thresholds):
    images = logits_of(2, 3, 24, 20)
    limits = torch.tensor(thresholds if isinstance(thresholds, list | tuple) else [thresholds] * count)
    expected = (images[:, :count].sigmoid() > limits[:, None, None]).to(torch.uint8)
    network = first_channels(count)
    assert torch.equal(predict_labels(network, images, thresholds=thresholds), expected)
    labels, logits = predict_whole(network, images, None, "both", thresholds=thresholds)
    assert torch.equal(labels, expected)
    assert torch.equal(logits, images[:, :count])
    assert torch.equal(predict_tiled(network, images, 8, output="labels", thresholds=thresholds), expected)
    assert torch.equal(predict_tiled(network, images, 64, output="labels", thresholds=thresholds), expected)


def test_planes_at_another_size_are_those_of_the_resized_logits():
    images = logits_of(1, 3, 9, 7)
    full = F.interpolate(images, (36, 35), mode="bilinear")
    found = predict_labels(first_channels(3), images, (36, 35), thresholds=(0.3, 0.5, 0.7))
    expected = full > torch.tensor([0.3, 0.5, 0.7]).logit()[:, None, None]
    assert found.shape == (1, 3, 36, 35)
    assert (found != expected).float().mean() < 1e-3


def test_planes_of_a_network_that_ends_with_a_resize():
    model = get_model("fcn_resnet18", num_classes=2).eval()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        full = model(images)["out"]
    middle = full.sigmoid().flatten(2).median(-1).values[0].tolist()
    labels, logits = predict_whole(model, images, None, "both", thresholds=middle)
    assert torch.allclose(logits, full, atol=1e-5)
    assert labels.shape == (1, 2, 64, 64)
    assert (labels != (full.sigmoid() > torch.tensor(middle)[:, None, None])).float().mean() < 1e-3
    assert 0.4 < labels.float().mean() < 0.6


@pytest.mark.parametrize("predict", [predict_labels, lambda *a, **k: predict_tiled(*a, 8, output="labels", **k)])
@pytest.mark.parametrize("wrong", [0, 1, [0.5], "0.5"])
def test_thresholds_that_are_not_allowed(predict, wrong):
    with pytest.raises(InvalidArgumentError, match="thresholds must be"):
        predict(first_channels(3), torch.zeros(1, 3, 16, 16), thresholds=wrong)


def test_nan_has_no_planes():
    images = torch.full((1, 3, 8, 8), torch.nan)
    with pytest.raises(InvalidArgumentError, match="NaN"):
        predict_labels(first_channels(1), images, thresholds=0.5)


class Shifted(nn.Module):
    """Logits that differ with the flip of the image."""

    def forward(self, images):
        ramp = torch.linspace(-2, 2, images.shape[-1])
        return images[:, :2] + ramp


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_augmentation_averages_sigmoids(task):
    count = 1 if task == "binary" else 2
    images = logits_of(2, 3, 12, 10)

    def network(x):
        return Shifted()(x)[:, :count]

    found = predict_tta(network, images, scales=(1.0,), task=task)
    mirrored = network(images.flip(-1)).flip(-1)
    expected = (network(images).sigmoid() + mirrored.sigmoid()) / 2
    assert torch.allclose(found.sigmoid(), expected, atol=1e-6)


def test_augmentation_stays_finite_and_swaps_left_and_right():
    sure = predict_tta(lambda x: torch.full_like(x[:, :1], 200.0), torch.zeros(1, 3, 8, 8), (1.0,), task="binary")
    assert sure.isfinite().all()
    assert (sure > 10).all()
    images = logits_of(1, 3, 6, 6)
    found = predict_tta(first_channels(2), images, (1.0,), left_right_pairs=((0, 1),), task="multilabel")
    expected = (images[:, :2].sigmoid() + images[:, :2].flip(1).sigmoid()) / 2
    assert torch.allclose(found.sigmoid(), expected, atol=1e-6)


def test_augmentation_of_an_unknown_task():
    with pytest.raises(InvalidArgumentError, match="task must be one of"):
        predict_tta(first_channels(2), torch.zeros(1, 3, 8, 8), task="multi-label")
