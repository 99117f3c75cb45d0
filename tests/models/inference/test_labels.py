"""Labels from low-resolution logits, compared with torch's interpolation and argmax."""

import functools
import importlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import seg_models
from seg_core.errors import InvalidArgumentError
from seg_core.metrics.argmax import threshold_labels
from seg_core.registry import PREDICTORS
from seg_models import labels_from_logits, predict_labels


def blocky(count, classes, height, width, seed=0):
    """Logits with large regions of one class, similar to those of networks."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, classes, max(height // 6, 2), max(width // 6, 2), generator=generator)
    noise = 0.05 * torch.randn(count, classes, height, width, generator=generator)
    return 3 * F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False) + noise


def reference(logits, size, align_corners):
    return F.interpolate(logits.double(), size, mode="bilinear", align_corners=align_corners)


def assert_same(labels, full):
    """Equal, except where two classes are within rounding of each other."""
    assert labels.dtype == (torch.uint8 if full.shape[1] <= 256 else torch.uint16)
    taken = full.gather(1, labels.long()[:, None])[:, 0]
    assert float((full.max(1).values - taken).max()) <= 1e-5
    assert float((labels.long() != full.argmax(1)).double().mean()) < 1e-3


SIZES = [
    ((24, 31), (192, 248)), ((24, 31), (185, 241)), ((17, 9), (65, 97)), ((30, 30), (61, 400)), ((1, 1), (40, 30)),
    ((2, 1), (33, 20)), ((1, 7), (9, 50)), ((20, 20), (20, 20)), ((40, 30), (17, 11)), ((40, 8), (20, 64)),
    ((9, 9), (1, 1)), ((12, 12), (1, 90)),
]  # fmt: skip


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("low", "size"), SIZES)
def test_labels_equal_interpolation_and_argmax(low, size, align_corners):
    logits = blocky(2, 7, *low)
    labels = labels_from_logits(logits, size, align_corners=align_corners)
    assert_same(labels, reference(logits, size, align_corners))


@pytest.mark.parametrize("align_corners", [False, True])
def test_noise_without_regions_gives_the_same(align_corners):
    logits = torch.randn(1, 5, 20, 24, generator=torch.Generator().manual_seed(1))
    labels = labels_from_logits(logits, (160, 192), align_corners=align_corners)
    assert_same(labels, reference(logits, (160, 192), align_corners))


@pytest.mark.parametrize("classes", [1, 2, 150, 300])
def test_any_number_of_classes(classes):
    logits = blocky(1, classes, 12, 16)
    assert_same(labels_from_logits(logits, (96, 128)), reference(logits, (96, 128), False))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(dtype):
    logits = blocky(1, 6, 12, 16).to(dtype)
    assert_same(labels_from_logits(logits, (90, 128)), reference(logits, (90, 128), False))


def test_channels_last_logits():
    logits = blocky(2, 6, 12, 16)
    found = labels_from_logits(logits.contiguous(memory_format=torch.channels_last), (90, 128))
    assert torch.equal(found, labels_from_logits(logits, (90, 128)))


def test_only_borders_are_interpolated(monkeypatch):
    logits = torch.zeros(1, 3, 16, 16)
    logits[:, 1, :, 8:] = 1.0
    computed = []
    module = importlib.import_module("seg_models.inference.labels")
    argmax = module._argmax_along
    monkeypatch.setattr(
        module, "_argmax_along", lambda left, *others: computed.append(left.numel() * 8) or argmax(left, *others)
    )
    labels = labels_from_logits(logits, (128, 128))
    assert_same(labels, reference(logits, (128, 128), False) + torch.tensor([1e-9, 0, 0])[:, None, None])
    assert 0 < sum(computed) < 0.2 * 3 * 128 * 128


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("thresholds", [0.5, 0.2, (0.5, 0.1, 0.9)])
@pytest.mark.parametrize(("low", "size"), SIZES)
def test_thresholds_equal_interpolation_and_comparison(low, size, thresholds, align_corners):
    logits = blocky(2, 3, *low)
    labels = labels_from_logits(logits, size, align_corners=align_corners, thresholds=thresholds)
    full = reference(logits, size, align_corners)
    limits = torch.tensor([thresholds] * 3 if isinstance(thresholds, float) else thresholds).double().logit()
    distance = full - limits[:, None, None]
    assert labels.dtype == torch.uint8 and labels.shape == full.shape
    wrong = labels.bool() != (distance > 0)
    assert float(distance[wrong].abs().max() if wrong.any() else 0) <= 1e-5
    assert float(wrong.double().mean()) < 1e-3
    assert torch.equal(threshold_labels(full, thresholds).bool(), distance > 0)


def test_one_class_has_a_threshold_and_only_cells_at_its_border_are_interpolated(monkeypatch):
    logits = torch.full((1, 1, 16, 16), -2.0)
    logits[:, :, :, 8:] = 2.0
    module = importlib.import_module("seg_models.inference.labels")
    argmax, computed = module._argmax_along, []
    monkeypatch.setattr(
        module, "_argmax_along", lambda left, *others: computed.append(left.numel() * 8) or argmax(left, *others)
    )
    labels = labels_from_logits(logits, (128, 128), thresholds=0.5)
    assert labels[..., :64].max() == 0 and labels[..., 64:].min() == 1
    assert 0 < sum(computed) < 0.2 * 2 * 128 * 128


@pytest.mark.parametrize("thresholds", [0, 1.0, "0.5", (0.5,), (0.5, 2)])
def test_thresholds_that_are_none_are_named(thresholds):
    for function in (functools.partial(labels_from_logits, size=(8, 8)), threshold_labels):
        with pytest.raises(InvalidArgumentError, match="thresholds must be a number above 0 and below 1, or 2 such"):
            function(torch.zeros(1, 2, 4, 4), thresholds=thresholds)


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_small", "enet"])
def test_predict_labels_equals_the_argmax_of_the_network(name):
    torch.manual_seed(0)
    model = seg_models.get_model(name, num_classes=5).eval()
    images = torch.rand(2, 3, 75, 98)
    with torch.inference_mode():
        full = model(images)["out"]
    labels = predict_labels(model, images)
    taken = full.gather(1, labels.long()[:, None])[:, 0]
    assert float((full.max(1).values - taken).max()) <= 1e-4 * float(full.abs().max())
    assert PREDICTORS.get("labels") is predict_labels


def test_predict_labels_takes_any_network():
    class Custom(nn.Module):
        def forward(self, images):
            return {"out": images}

    images = torch.rand(1, 3, 9, 11)
    assert torch.equal(predict_labels(Custom(), images).long(), images.argmax(1))


@pytest.mark.parametrize(
    ("logits", "size", "words"),
    [
        (torch.zeros(3, 4, 4), (8, 8), r"\(N, K, h, w\).* got torch.float32 \(3, 4, 4\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), (8, 8), "floating point"),
        (torch.zeros(1, 3, 0, 4), (8, 8), "with values"),
        (torch.zeros(1, 3, 4, 4), (0, 8), r"at least 1 pixel, got \(0, 8\)"),
    ],
)
def test_wrong_arguments_are_errors(logits, size, words):
    with pytest.raises(InvalidArgumentError, match=words):
        labels_from_logits(logits, size)
