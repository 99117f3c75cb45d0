import numpy as np
import pytest

from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_core.plots.legend import add_legend
from seg_core.plots.overlay import overlay

METADATA = DatasetMetadata("three", ("road", "car", "sky"), ((250, 0, 0), (0, 250, 0), (0, 0, 250)))


def has_color(pixels, color):
    return bool((pixels == np.array(color, np.uint8)).all(axis=-1).any())


def halves(height=60, width=200):
    """A black image, and its labels: road on the left, sky on the right."""
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 2
    return np.zeros((height, width, 3), np.uint8), labels


def test_legend_below_the_image_shows_the_classes_that_occur():
    image, labels = halves()
    plain = overlay(image, labels, METADATA)
    shown = overlay(image, labels, METADATA, legend=True)
    assert shown.dtype == np.uint8
    assert shown.shape[1] == 200
    np.testing.assert_array_equal(shown[:60], plain)
    strip = shown[60:]
    assert [has_color(strip, color) for color in METADATA.colors] == [True, False, True]
    assert has_color(strip, (32, 32, 32)), "the names"


def test_legend_of_ignored_pixels_alone_is_none():
    image, labels = halves()
    labels[:] = 255
    np.testing.assert_array_equal(overlay(image, labels, METADATA, legend=True), image)
    assert overlay(image, labels, METADATA, legend=[]).shape == image.shape


def test_legend_of_named_classes_has_one_size_whatever_occurs():
    image, labels = halves()
    names = ["sky", "car"]
    first = overlay(image, labels, METADATA, legend=names)
    second = overlay(image, np.zeros_like(labels), METADATA, legend=names)
    assert first.shape == second.shape
    np.testing.assert_array_equal(first[60:], second[60:])
    assert [has_color(first[60:], color) for color in METADATA.colors] == [False, True, True]
    assert not np.array_equal(first[60:], overlay(image, labels, METADATA, legend=["car", "sky"])[60:])


def test_legend_of_a_tiny_image_widens_it_and_letters_grow_with_large_ones():
    tiny = add_legend(np.zeros((4, 4, 3), np.uint8), [0], METADATA)
    assert tiny.shape[1] > 30
    assert (tiny[:4, 4:] == 255).all()
    heights = [add_legend(np.zeros((n, n, 3), np.uint8), [0], METADATA).shape[0] - n for n in (100, 2000)]
    assert heights[1] > 2 * heights[0]


def test_legend_of_150_classes_has_a_chip_for_each():
    metadata = resolve_metadata("ADE20K")
    shown = add_legend(np.zeros((300, 400, 3), np.uint8), range(150), metadata)
    assert shown.shape[1] == 400
    assert all(has_color(shown[300:], color) for color in metadata.colors)


def strip_of(*names):
    metadata = DatasetMetadata("names", names, ((9, 9, 9),) * len(names))
    return add_legend(np.zeros((60, 300, 3), np.uint8), range(len(names)), metadata)[60:]


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("道路", "class 0"),
        ("дорога", "class 0"),
        ("道路 road", "class 0"),
        ("Gebäude", "Gebaude"),
        ("m²", "m2"),
        ("two\nlines\tlong", "two lines long"),
        ("\u200b", "class 0"),
        ("x" * 60, "x" * 41 + "..."),
    ],
)
def test_legend_draws_names_that_the_font_lacks_in_other_letters(name, drawn):
    np.testing.assert_array_equal(strip_of(name), strip_of(drawn))
    assert not np.array_equal(strip_of(drawn), strip_of("other"))


@pytest.mark.parametrize("legend", ["road", 1, {"road": 0}, None])
def test_legend_that_is_no_list_of_names_raises(legend):
    with pytest.raises(InvalidArgumentError, match="legend must be True, False or a list of class names, got"):
        overlay(*halves(), METADATA, legend=legend)


def test_legend_of_an_unknown_class_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown class 'Car' of three. Did you mean 'car'\?"):
        overlay(*halves(), METADATA, legend=["Car"])
