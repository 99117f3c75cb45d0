import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, UnknownNameError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.metrics.class_weights import PixelCounts, class_weights, count_pixels, describe_schemes

# CamVid train (367 images of 480x360) as published: pixels, images that hold the class, median-frequency weight
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
    """A dataset of masks without images."""

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


def test_count_pixels_counts_classes_ignored_and_images():
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
        LabelOutOfRangeError, match=r"mask of sample 1 contains .*: 5 \(2 pixels\). Allowed: 0-1, 255; correct"
    ):
        count_pixels(dataset, num_classes=2)
    dataset.file_names = lambda index: (f"{index}.jpg", f"{index}.png")
    with pytest.raises(LabelOutOfRangeError, match=r"mask of sample 1 \(1\.jpg, 1\.png\) contains"):
        count_pixels(dataset, num_classes=2)


def test_count_pixels_without_masks_or_classes_says_what_to_do():
    with pytest.raises(InvalidArgumentError, match="num_classes must be given, since the dataset has no metadata"):
        count_pixels(Masks(*MASKS))
    with pytest.raises(InvalidArgumentError, match="sample 0 has no mask; choose a split that has masks"):
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
    # shares among the pixels of their images: 5/10, 3/10, 3/3
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


SCHEMES_OF_COUNTS = ["enet", "inverse", "inverse_sqrt", "inverse_log", "effective_number"]
# from a class of one pixel to more than two billion
WIDE = [1, 50, 7_000, 900_000, 30_000_000, 1_000_000_000, 2_500_000_000]


@pytest.mark.parametrize("counts", [[row[0] for row in CAMVID], WIDE, [3, 3], [9]])
@pytest.mark.parametrize(
    ("scheme", "formula"),
    [
        ("inverse", lambda p: 1 / p),
        ("inverse_sqrt", lambda p: p**-0.5),
        ("inverse_log", lambda p: math.log(1 + 1 / p)),
    ],
)
def test_class_weights_inverse_schemes_follow_the_formula_with_a_mean_of_one(scheme, formula, counts):
    total = math.fsum(counts)
    raw = [formula(n / total) for n in counts]
    mean = math.fsum(n * w for n, w in zip(counts, raw, strict=True)) / total
    weights = class_weights(counts, scheme)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([w / mean for w in raw], rel=1e-6)


def test_class_weights_inverse_is_the_balanced_weight_of_scikit_learn():
    assert class_weights([1, 2, 7], "inverse").tolist() == pytest.approx([10 / 3, 10 / 6, 10 / 21])


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999, 1 - 1e-9, 1 - 1e-15, None])
@pytest.mark.parametrize("counts", [[row[0] for row in CAMVID], WIDE, [9]])
def test_class_weights_effective_number_is_that_of_exact_arithmetic(counts, beta):
    # in fractions, where 1 - beta^n keeps all its digits
    rest = Fraction(1, sum(counts)) if beta is None else 1 - Fraction(beta)
    raw = []
    for n in counts:
        power = _power(1 - rest, n)
        raw.append(float(rest / (1 - power)))
    expected = [w * len(counts) / math.fsum(raw) for w in raw]
    weights = class_weights(counts, "effective_number", beta=beta)
    assert weights.tolist() == pytest.approx(expected, rel=1e-6)
    assert float(weights.sum()) == pytest.approx(len(counts))


def _power(base, exponent):
    """Returns a fraction's power by squaring, rounded to 60 digits after each product."""
    result, unit = Fraction(1), 10**60
    while exponent:
        if exponent % 2:
            result = Fraction(round(result * base * unit), unit)
        base = Fraction(round(base * base * unit), unit)
        exponent //= 2
    return result


@pytest.mark.parametrize("scheme", SCHEMES_OF_COUNTS)
def test_class_weights_rarer_classes_weigh_more(scheme):
    weights = class_weights(WIDE, scheme)
    assert weights.isfinite().all()
    assert (weights > 0).all()
    # ENet's bound leaves the rarest alike in float32
    steps = weights.diff()
    assert (steps <= 0).all()
    assert scheme == "enet" or (steps < 0).all()


def test_class_weights_effective_number_with_a_small_beta_is_the_same_for_all_large_classes():
    weights = class_weights([10**9, 10**8, 10], "effective_number", beta=0.9999)
    assert weights[0] == weights[1]
    assert weights[2] > 900 * weights[0]


@pytest.mark.parametrize("scheme", SCHEMES_OF_COUNTS[1:])
def test_class_weights_absent_class_weighs_as_the_rarest_and_warns(scheme):
    with pytest.warns(UserWarning, match="classes 1, 3 do not occur"):
        weights = class_weights([5, 0, 1_000_000_000, 0], scheme)
    assert weights.isfinite().all()
    assert weights[1] == weights[3] == weights[0] > weights[2] > 0


@pytest.mark.parametrize(
    ("source", "scheme", "options", "error", "words"),
    [
        ([1, 2], "e_net", {}, UnknownNameError, r"unknown scheme 'e_net' .*Did you mean 'enet'\? Known: enet, median"),
        ([1, 2], "median_frequency", {}, InvalidArgumentError, "needs the pixels of the images .* count_pixels"),
        ([1, 2], "enet", {"C": 1.1}, InvalidArgumentError, r"no parameter 'C'\. Did you mean 'c'\? Allowed: c"),
        ([1, 2], "median_frequency", {"c": 1.1}, InvalidArgumentError, r"no parameter 'c'\. Allowed: none"),
        ([1, 2], "effective_number", {"beta": 1.0}, InvalidArgumentError, r"beta must be in \[0, 1\).*, got 1\.0"),
        ([1, 2], "effective_number", {"beta": -0.1}, InvalidArgumentError, r"beta must be in \[0, 1\)"),
        ([1, 2], "effective_number", {"beta": math.nan}, InvalidArgumentError, r"beta must be in \[0, 1\)"),
        ([1, 2], "inverse", {"beta": 0.9}, InvalidArgumentError, r"no parameter 'beta'\. Allowed: none"),
        ([1, 2], "enet", {"c": 1.0}, InvalidArgumentError, "c must be greater than 1"),
        ([1, -2], "enet", {}, InvalidArgumentError, r"counts must be numbers of pixels >= 0, got \[1.0, -2.0\]"),
        ([1, math.nan], "enet", {}, InvalidArgumentError, "counts must be numbers of pixels"),
        ([0, 0], "enet", {}, InvalidArgumentError, "no pixel has a class"),
    ],
)
def test_class_weights_wrong_argument_is_named(source, scheme, options, error, words):
    with pytest.raises(error, match=words):
        class_weights(source, scheme, **options)


def test_class_weights_that_would_not_be_finite_and_positive_are_an_error():
    with pytest.raises(InvalidArgumentError, match=r"'enet' with c=inf gives weights that are not .*: \[0.0, 0.0\]"):
        class_weights([1, 2], "enet", c=math.inf)


@pytest.mark.parametrize("source", [torch.ones(1, 2), np.ones((1, 2)), torch.tensor(5), "CamVid", 3])
def test_class_weights_of_other_than_counts_or_a_dataset_say_what_is_allowed(source):
    with pytest.raises(InvalidArgumentError, match="source must be a dataset, the result of count_pixels, or one num"):
        class_weights(source, "inverse")


def test_describe_schemes_has_the_formula_of_each_and_a_meaning_of_each_option():
    described = describe_schemes()
    for name, (formula, options) in described.items():
        class_weights([1, 2] if name != "median_frequency" else PixelCounts(*map(torch.tensor, ([1], [1])), 0, 1), name)
        assert formula, name
        assert all(option.meaning and not option.is_required for option in options), name
    assert described["inverse"] == (
        '1 / p (G. King, L. Zeng, Logistic regression in rare events data, 2001; "balanced" in scikit-learn).',
        [],
    )
    assert [(option.name, option.default) for option in described["enet"][1]] == [("c", 1.02)]
    with pytest.raises(UnknownNameError, match=f"Known: {', '.join(described)}"):
        class_weights([1], "other")


@pytest.mark.parametrize("num_classes", [0, -1, 10**9, 2.0])
def test_number_of_classes_that_no_label_map_has(num_classes):
    with pytest.raises(InvalidArgumentError, match="num_classes must be an integer from 1 to 65535"):
        count_pixels(Masks(*MASKS), num_classes=num_classes)
