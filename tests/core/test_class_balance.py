import math

import numpy as np
import pytest
import torch

from seg_core.class_balance import PixelCounts, class_weights, count_pixels
from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, UnknownNameError
from seg_core.metadata import DatasetMetadata

# CamVid train (367 pictures of 480x360) as published: pixels, pictures that hold the class, median-frequency weight
CAMVID = [
    (10682767, 366, 0.2793),
    (14750079, 365, 0.2017),
    (623349, 366, 4.7865),
    (20076880, 367, 0.149),
    (2845085, 349, 1.0),
    (6166762, 319, 0.4217),
    (743859, 351, 3.8467),
    (714595, 173, 1.9736),
    (3719877, 360, 0.7889),
    (405385, 317, 6.3747),
    (184967, 201, 8.8587),
]


class Masks:
    """A data set of masks without pictures."""

    def __init__(self, *masks, metadata=None):
        self.masks = masks
        self.metadata = metadata

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        return None, self.masks[index]


MASKS = (
    torch.tensor([[0, 0, 1], [255, 0, 0]], dtype=torch.uint8),
    np.array([[1, 1], [0, 255]]),
    torch.tensor([[2, 2, 2]]),
)


def test_count_pixels_counts_classes_ignored_and_pictures():
    counts = count_pixels(Masks(*MASKS), num_classes=4)
    assert counts.pixels.dtype == torch.int64
    assert counts.pixels.tolist() == [5, 3, 3, 0]
    assert counts.image_pixels.tolist() == [10, 10, 3, 0]
    assert counts.ignored == 2
    assert counts.num_images == 3


def test_count_pixels_takes_classes_and_ignored_value_from_the_metadata():
    metadata = DatasetMetadata("mine", ("a", "b"), ignore_index=7)
    counts = count_pixels(Masks(np.array([[0, 7, 1, 1]]), metadata=metadata))
    assert counts.pixels.tolist() == [1, 2]
    assert counts.ignored == 1
    counts = count_pixels(Masks(np.array([[0, 9, 1, 8]]), metadata=metadata), num_classes=9, ignore_index=9)
    assert counts.pixels.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1]


def test_count_pixels_reports_progress():
    seen = []
    count_pixels(Masks(*MASKS), num_classes=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_count_pixels_wrong_value_names_sample_and_file():
    dataset = Masks(MASKS[0], np.array([[5, 0, 5]]))
    with pytest.raises(
        LabelOutOfRangeError, match=r"mask of sample 1: .*5 \(2 pixels\); allowed are the class ids 0 to 1"
    ):
        count_pixels(dataset, num_classes=2)
    dataset.file_names = lambda index: (f"{index}.jpg", f"{index}.png")
    with pytest.raises(LabelOutOfRangeError, match=r"mask of sample 1 \(1\.jpg, 1\.png\): "):
        count_pixels(dataset, num_classes=2)


def test_count_pixels_without_masks_or_classes_says_what_to_do():
    with pytest.raises(InvalidArgumentError, match="num_classes must be given, since the data set has no metadata"):
        count_pixels(Masks(*MASKS))
    with pytest.raises(InvalidArgumentError, match="sample 0 has no mask; count a split that has masks"):
        count_pixels(Masks(None), num_classes=2)


def camvid_counts():
    pixels = torch.tensor([row[0] for row in CAMVID])
    images = torch.tensor([row[1] for row in CAMVID])
    return PixelCounts(pixels, images * 480 * 360, ignored=2503995, num_images=367)


def test_class_weights_median_frequency_gives_the_published_camvid_weights():
    weights = class_weights(camvid_counts(), "median_frequency")
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([row[2] for row in CAMVID], abs=5e-5)


def test_class_weights_enet_follows_the_formula():
    pixels = [row[0] for row in CAMVID]
    expected = [1 / math.log(1.02 + count / sum(pixels)) for count in pixels]
    weights = class_weights(camvid_counts())
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(expected)
    for plain in (pixels, tuple(pixels), np.array(pixels), torch.tensor(pixels), [p / 1000 for p in pixels]):
        assert class_weights(plain, "enet").tolist() == pytest.approx(expected)
    assert class_weights([1, 3], "enet", c=1.1).tolist() == pytest.approx([1 / math.log(1.35), 1 / math.log(1.85)])


@pytest.mark.smoke
def test_class_weights_data_set_is_counted():
    metadata = DatasetMetadata("mine", ("a", "b", "c"))
    dataset = Masks(*MASKS, metadata=metadata)
    # shares among the pixels of their pictures: 5/10, 3/10, 3/3
    assert class_weights(dataset, "median_frequency").tolist() == pytest.approx([1.0, 5 / 3, 0.5])
    assert torch.equal(class_weights(dataset), class_weights([5, 3, 3]))


def test_class_weights_even_number_of_classes_takes_the_mean_of_the_middle_two():
    counts = PixelCounts(torch.tensor([1, 3]), torch.tensor([10, 10]), 0, 1)
    assert class_weights(counts, "median_frequency").tolist() == pytest.approx([2.0, 2 / 3])


def test_class_weights_absent_class_is_finite_and_warns():
    counts = PixelCounts(torch.tensor([1, 0, 3]), torch.tensor([10, 0, 10]), 0, 1)
    with pytest.warns(UserWarning, match="classes 1 do not occur"):
        weights = class_weights(counts, "median_frequency")
    assert weights.tolist() == pytest.approx([2.0, 2.0, 2 / 3])
    with pytest.warns(UserWarning, match="classes 0, 2 do not occur"):
        weights = class_weights([0, 4, 0])
    assert weights.tolist() == pytest.approx([1 / math.log(1.02), 1 / math.log(2.02), 1 / math.log(1.02)])


@pytest.mark.parametrize(
    ("source", "scheme", "options", "error", "words"),
    [
        ([1, 2], "e_net", {}, UnknownNameError, r"unknown scheme 'e_net' .*Did you mean 'enet'\? Known: enet, median"),
        ([1, 2], "median_frequency", {}, InvalidArgumentError, "needs the pixels of the pictures .* count_pixels"),
        ([1, 2], "enet", {"C": 1.1}, InvalidArgumentError, r"no option 'C'\. Did you mean 'c'\? It has: c"),
        ([1, 2], "median_frequency", {"c": 1.1}, InvalidArgumentError, r"no option 'c'\. It has: none"),
        ([1, 2], "enet", {"c": 1.0}, InvalidArgumentError, "c must be greater than 1"),
        ([1, -2], "enet", {}, InvalidArgumentError, r"counts must be numbers of pixels, at least 0, got \[1.0, -2.0\]"),
        ([1, math.nan], "enet", {}, InvalidArgumentError, "counts must be numbers of pixels"),
        ([0, 0], "enet", {}, InvalidArgumentError, "no pixel has a class"),
    ],
)
def test_class_weights_wrong_argument_is_named(source, scheme, options, error, words):
    with pytest.raises(error, match=words):
        class_weights(source, scheme, **options)
