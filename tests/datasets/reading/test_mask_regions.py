"""Areas of masks: classes, smoothed edges, images, numbers of objects."""

import numpy as np
import pytest

from seg_datasets.reading.mask_regions import Regions, object_channel, object_numbers, smoothed


def regions(*masks):
    found = Regions()
    for mask in masks:
        found.add(np.asarray(mask))
    return found


def bands(*values, width=8, height=24):
    return np.repeat([values], height, 0).repeat(width, 1)


def test_inner_pixels_have_eight_neighbors_of_the_same_value():
    found = regions(bands(0, 7, width=4, height=5))
    assert found.counts == {0: 20, 7: 20}
    assert found.inner == {0: 6, 7: 6}
    assert regions([[1, 1]]).inner == {}


def soft(*values):
    """Areas of 0 and 255 with columns of one pixel between them."""
    return np.concatenate([bands(0, width=20), bands(*values, width=1), bands(255, width=20)], 1)


def test_values_of_edges_between_areas_are_smoothed():
    assert smoothed(regions(soft(64, 191))) == ([0, 255], [64, 191])


@pytest.mark.parametrize(
    "mask",
    [
        soft(128),  # one value may be a thin class
        bands(0, 64, 191, 255),  # areas
        np.concatenate([bands(0, width=20), bands(1, 2, width=1), bands(3, width=20)], 1),  # ids from 0
        np.concatenate([bands(40, width=20), bands(0, 255, width=1), bands(90, width=20)], 1),  # not between
        bands(*range(0, 250, 10), width=1),  # no areas at all
    ],
)
def test_thin_classes_and_areas_are_not_smoothed(mask):
    assert smoothed(regions(mask)) is None


def packed(red, green, blue):
    return red << 16 | green << 8 | blue


def test_blends_of_two_colors_are_smoothed_and_other_thin_colors_are_classes():
    red, blue = packed(200, 0, 0), packed(0, 0, 200)

    def mask(*thin):
        return np.concatenate([bands(red, width=20), bands(*thin, width=1), bands(blue, width=20)], 1)

    blends = [packed(150, 0, 50), packed(50, 0, 150)]
    solid, edges = smoothed(regions(mask(*blends)), channels=3)
    assert (set(solid), set(edges)) == ({red, blue}, set(blends))
    assert smoothed(regions(mask(packed(0, 200, 0), packed(90, 90, 90))), channels=3) is None


def test_images_have_many_values_without_areas():
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 200, (40, 40))
    body = np.zeros((80, 80), np.int64)
    body[20:60, 20:60] = noise  # black around it
    ramp = np.add.outer(np.arange(40), np.arange(40))
    assert regions(noise).are_images
    assert regions(body).are_images
    assert regions(ramp).are_images
    assert not regions(np.kron(noise[:8, :8], np.ones((6, 6), np.int64))).are_images
    assert not regions(bands(*range(20), width=1)).are_images  # few values
    assert not Regions().are_images


@pytest.mark.parametrize(
    ("masks", "text"),
    [
        ([{7, 24000, 24001}, {7, 24002, 25000, 25001, 25002}], "class * 1000 + number"),
        ([{0, *range(1, n + 1)} for n in (2, 3, 5, 6, 8)], "the ids 1 to n"),
        ([{0, *range(30 * n, 30 * n + 30)} for n in range(1, 6)], "most are in one mask alone"),
        ([{0, 1000, 2000}] * 6, ""),
        ([{7, 1000, 1001, 2000, 3000}] * 6, ""),
        ([{0, 1, 2}, {0, 2}, {0, 1}, {0, 1, 2}, {0}, {1}], ""),
        ([{0, *range(1, 9)}] * 6, ""),  # the same in all
        ([{n % 7, 3 * n % 11, n % 150} for n in range(300)], ""),
    ],
)
def test_numbers_of_objects_have_a_pattern(masks, text):
    found = object_numbers(masks)
    assert text in found
    assert bool(found) == bool(text)


def test_channel_that_alone_has_few_values_is_named():
    assert "channel G alone has the values 0-2" in object_channel([(n, n % 3, 0) for n in range(12)])
    voc = [(a, b, c) for a in (0, 64, 128, 192) for b in (0, 64, 128) for c in (0, 128)]
    assert object_channel(voc) == ""
    assert object_channel([]) == ""
