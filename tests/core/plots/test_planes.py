"""Drawing of binary label maps and of planes that may overlap."""

import numpy as np
import pytest
import torch

from seg_core import DatasetMetadata
from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError
from seg_core.plots.figures import draw_overlay, draw_snapshots
from seg_core.plots.masks import draw_masks
from seg_core.plots.overlay import colorize, has_ignored, overlay, seen_classes

RED, BLUE, VIOLET, GRAY = (200, 0, 0), (0, 0, 100), (100, 0, 50), (9, 9, 9)
VESSELS = DatasetMetadata("vessels", ("vessel",), (RED,), ignore_color=GRAY, task="binary")
DISCS = DatasetMetadata("discs", ("a", "b"), (RED, BLUE), ignore_color=GRAY, task="multilabel")
IMAGE = np.full((2, 4, 3), 50, np.uint8)
MASK = np.array([[0, 1, 255, 1], [0, 0, 1, 1]], np.uint8)
# columns: none, a, b, both; the last of the second row is ignored by both, the third by one
PLANES = np.array([[[0, 1, 0, 1], [0, 1, 255, 255]], [[0, 0, 1, 1], [0, 0, 1, 255]]], np.uint8)


def test_colors_of_a_binary_mask():
    colors = colorize(MASK, VESSELS)
    assert [tuple(c) for c in colors[0]] == [(0, 0, 0), RED, GRAY, RED]
    assert np.array_equal(colorize(MASK == 1, VESSELS)[0, 1], RED)


@pytest.mark.parametrize("planes", [PLANES, torch.from_numpy(PLANES)])
def test_colors_of_planes_are_means_where_they_overlap(planes):
    colors = colorize(planes, DISCS)
    assert [tuple(c) for c in colors[0]] == [(0, 0, 0), RED, BLUE, VIOLET]
    assert [tuple(c) for c in colors[1]] == [(0, 0, 0), RED, BLUE, GRAY]
    assert np.array_equal(colorize(PLANES[:, :1] == 1, DISCS), colors[:1])


@pytest.mark.parametrize(("labels", "metadata"), [(MASK, VESSELS), (PLANES, DISCS)])
def test_pixels_of_no_class_show_the_image(labels, metadata):
    shown = overlay(IMAGE, labels, metadata, alpha=1.0)
    drawn = (labels.reshape(-1, 2, 4) == 1).any(0)
    assert (shown[~drawn] == 50).all()
    assert np.array_equal(shown[drawn], colorize(labels, metadata)[drawn])
    half = overlay(IMAGE, labels, metadata, alpha=0.5)
    assert tuple(half[0, 1]) == (125, 25, 25)


def test_ignored_pixels_alone_are_hatched():
    shown = overlay(IMAGE, PLANES, DISCS, alpha=1.0, hatch_ignored=True)
    assert (shown[1, 3] != 50).all()
    assert (shown[:, 0] == 50).all()
    assert tuple(shown[1, 2]) == BLUE


def test_contours_of_each_class():
    planes = np.zeros((2, 12, 12), np.uint8)
    planes[0, 2:10, 2:10] = 1
    planes[1, 6:12, 6:12] = 1
    image = np.full((12, 12, 3), 50, np.uint8)
    shown = overlay(image, planes, DISCS, alpha=0, contours=True)
    assert tuple(shown[2, 2]) == RED
    assert tuple(shown[6, 9]) == BLUE  # of the later class where outlines cross
    assert tuple(shown[9, 3]) == RED
    assert (shown[4, 4] == 50).all()
    assert (shown[1, 2] == 50).all()
    binary = overlay(image, planes[0], VESSELS, alpha=0, contours=True)
    assert tuple(binary[2, 2]) == RED
    assert (binary[1, 2] == 50).all()
    assert (binary[4, 4] == 50).all()


def test_classes_that_occur():
    assert seen_classes(MASK, VESSELS) == [0]
    assert seen_classes(MASK * 0, VESSELS) == []
    assert seen_classes(PLANES, DISCS) == [0, 1]
    assert seen_classes(PLANES[:, :, :2], DISCS) == [0]
    assert has_ignored(MASK, VESSELS)
    assert has_ignored(PLANES, DISCS)
    assert not has_ignored(PLANES[:, :, :3], DISCS)
    assert overlay(np.full((60, 90, 3), 5, np.uint8), np.ones((60, 90), np.uint8), VESSELS, legend=True).shape[0] > 60


@pytest.mark.parametrize(
    ("labels", "metadata", "words"),
    [
        (PLANES, VESSELS, r"labels of a binary task must be 0 and 1, \(H, W\)"),
        (MASK, DISCS, r"labels of a multilabel task must be 0 and 1, \(2, H, W\)"),
        (PLANES[:1], DISCS, r"\(2, H, W\)"),
        (MASK.astype(np.float32), VESSELS, "float32"),
    ],
)
def test_labels_of_another_form(labels, metadata, words):
    with pytest.raises(InvalidArgumentError, match=words):
        colorize(labels, metadata)


def test_ids_other_than_0_and_1():
    with pytest.raises(LabelOutOfRangeError, match=r"allowed are 0 to 1 and 255"):
        colorize(MASK * 2, VESSELS)
    with pytest.raises(LabelOutOfRangeError, match=r"allowed are 0 to 1 and 255"):
        colorize(PLANES + 1, DISCS)


@pytest.mark.parametrize(("labels", "metadata", "seen"), [(MASK, VESSELS, ["vessel"]), (PLANES, DISCS, ["a", "b"])])
def test_figures(labels, metadata, seen):
    pytest.importorskip("matplotlib")

    def legend(figure):
        return [text.get_text() for text in figure.legends[0].get_texts()]

    assert legend(draw_overlay(IMAGE, labels, metadata, contours=True)) == seen
    assert legend(draw_snapshots([IMAGE], [labels], [labels], metadata)) == [*seen, "ignored"]
    assert legend(draw_masks([IMAGE], [labels], metadata)) == [*seen, "ignored"]
