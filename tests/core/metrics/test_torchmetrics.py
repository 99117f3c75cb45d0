"""Scores of binary and multilabel tasks beside torchmetrics: which are the same, and how the others differ.

The figures are those of torchmetrics 1.9.0 with torch 2.15.0 on the sample below, computed in float32; where it is
installed they are computed again. docs/losses.md has the table.
"""

import math

import numpy as np
import pytest
import torch

from seg_core import MetricStore

NAMES = {
    "iou": "JaccardIndex",
    "dice": "F1Score",
    "precision": "Precision",
    "recall": "Recall",
    "specificity": "Specificity",
    "acc": "Accuracy",
    "ap": "AveragePrecision",
}
FIGURES = {
    "binary iou": 0.3875,
    "binary dice": 0.5585586,
    "binary precision": 0.4626866,
    "binary recall": 0.7045454,
    "binary specificity": 0.5135135,
    "binary acc": 0.5847458,
    "binary ap": 0.544464,
    "none iou": [0.4929577, 0.4545455, 0.0],
    "macro iou": 0.3158344,
    "micro iou": 0.3282828,
    "none dice": [0.6603774, 0.625, 0.0],
    "macro dice": 0.4284591,
    "micro dice": 0.4942966,
    "none precision": [0.5645161, 0.5357143, 0.0],
    "macro precision": 0.3667434,
    "micro precision": 0.3631285,
    "none recall": [0.7954546, 0.75, 0.0],
    "macro recall": 0.5151515,
    "micro recall": 0.7738096,
    "none specificity": [0.6086956, 0.6578947, 0.512],
    "macro specificity": 0.5928635,
    "micro specificity": 0.5777778,
    "none acc": [0.6814159, 0.6896552, 0.512],
    "macro acc": 0.6276904,
    "micro acc": 0.6242938,
    "none ap": [0.6620817, 0.5765402, 0.0],
    "macro ap": 0.412874,
    "micro ap": 0.4404458,
    "MeanIoU": [0.3888889, 0.3571429, 0.0],
    "DiceScore samplewise": [0.5591701, 0.5244992, 0.0],
    "DiceScore global": [0.56, 0.5263158, 0.0],
}


def sample(classes):
    """Scores and targets (2, K, 8, 9), some of them ignored; the last of several classes does not occur."""
    rng = np.random.default_rng(7)
    scores = rng.integers(0, 1000, (2, classes, 8, 9)) / 1000 + 0.0005
    truth = (rng.random(scores.shape) < 0.7 * scores).astype(np.int64)
    if classes > 1:
        truth[:, -1] = 0
    truth[rng.random(scores.shape) < 0.15] = 255
    return torch.from_numpy(scores).float(), torch.from_numpy(truth)


def ours(classes):
    scores, truth = sample(classes)
    store = MetricStore(classes, task="binary" if classes == 1 else "multilabel")
    store.store_results(truth, (scores > 0.5).to(torch.uint8), scores)
    return store.summarize()


def theirs():
    """Computes FIGURES with torchmetrics."""
    import torchmetrics.classification as classification
    import torchmetrics.segmentation as segmentation

    found = {}
    scores, truth = sample(1)
    for name, title in NAMES.items():
        found[f"binary {name}"] = float(getattr(classification, f"Binary{title}")(ignore_index=255)(scores, truth))
    scores, truth = sample(3)
    for name, title in NAMES.items():
        for average in ("none", "macro", "micro"):
            metric = getattr(classification, f"Multilabel{title}")(num_labels=3, average=average, ignore_index=255)
            found[f"{average} {name}"] = metric(scores, truth).tolist()
    labels, known = (scores > 0.5).long(), truth.where(truth != 255, 0)  # these two ignore nothing
    found["MeanIoU"] = segmentation.MeanIoU(num_classes=3, per_class=True)(labels, known).tolist()
    for level in ("samplewise", "global"):
        metric = segmentation.DiceScore(num_classes=3, average="none", aggregation_level=level)
        found[f"DiceScore {level}"] = metric(labels, known).tolist()
    return found


def near(value):
    return pytest.approx(value, abs=1e-6)


def test_figures_are_those_of_torchmetrics():
    pytest.importorskip("torchmetrics")
    for name, value in theirs().items():
        assert value == near(FIGURES[name]), name


@pytest.mark.parametrize("name", NAMES)
def test_binary_scores_are_the_same(name):
    assert ours(1)["miou" if name == "iou" else name] == near(FIGURES[f"binary {name}"])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "acc"])
def test_scores_of_each_class_are_the_same_but_for_absent_classes(name):
    """Recall and average precision of a class without a pixel are 0 there, and undefined here."""
    *present, absent = ours(3)[f"{name}_per_class"]
    *expected, of_absent = FIGURES[f"none {name}"]
    assert present == near(expected)
    assert of_absent == near(0.512 if name == "specificity" else 0.0)
    assert math.isnan(absent) if name in ("recall", "ap") else absent == near(of_absent)


def test_means_over_the_classes():
    found = ours(3)
    for name, own in (("iou", "miou"), ("dice", "dice"), ("precision", "precision"), ("specificity", "specificity")):
        assert found[own] == near(FIGURES[f"macro {name}"])
    for name in ("recall", "ap"):  # the absent class is left out of the mean here, and counts as 0 there
        assert found[name] == near(FIGURES[f"macro {name}"] * 3 / 2)
    assert found["acc"] == near(FIGURES["micro acc"])  # over all pixels and classes


def test_scores_of_the_segmentation_module():
    scores, truth = sample(3)
    store = MetricStore(3, task="multilabel")
    store.store_results(truth.where(truth != 255, 0), (scores > 0.5).to(torch.uint8))
    found = store.summarize()
    assert found["iou_per_class"] == near(FIGURES["MeanIoU"])
    assert found["dice_per_class"] == near(FIGURES["DiceScore global"])
    assert found["dice_per_class"] != near(FIGURES["DiceScore samplewise"])  # its default is a mean over the images
