import builtins
import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, MissingDependencyError
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.figures import draw_overlay, draw_snapshots, plot_confusion_matrix, plot_running_metrics
from seg_core.plots.masks import draw_masks
from seg_core.plots.overlay import colorize, image_array, overlay

METADATA = DatasetMetadata(
    "three",
    ("road", "car", "a label whose name is much too long"),
    ((9, 8, 7), (255, 0, 0), (0, 0, 255)),
    ignore_color=(1, 2, 3),
)


@pytest.fixture
def labels():
    return np.array([[0, 1, 2], [255, 0, 1]], np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_colorize_gives_each_class_its_color(labels, dtype):
    expected = np.array(
        [[(9, 8, 7), (255, 0, 0), (0, 0, 255)], [(1, 2, 3), (9, 8, 7), (255, 0, 0)]],
        np.uint8,
    )
    for given in (labels.astype(dtype), torch.from_numpy(labels.astype(dtype))):
        colors = colorize(given, METADATA)
        assert colors.dtype == np.uint8
        assert np.array_equal(colors, expected)


def test_colorize_large_ignore_index_and_many_classes_work():
    metadata = DatasetMetadata("many", tuple(f"c{i}" for i in range(300)), ignore_index=65535, ignore_color=(5, 5, 5))
    colors = colorize(np.array([[0, 299, 65535]], np.uint16), metadata)
    assert [tuple(c) for c in colors[0].tolist()] == [metadata.colors[0], metadata.colors[299], (5, 5, 5)]


@pytest.mark.parametrize("value", [3, 254, -1, 256])
def test_colorize_id_out_of_range_raises(value):
    labels = np.zeros((2, 2), np.int32)
    labels[0] = value
    with pytest.raises(
        LabelOutOfRangeError, match=rf"outside of three: {value} \(2 pixels\); allowed are 0 to 2 and 255"
    ):
        colorize(labels, METADATA)


@pytest.mark.parametrize("labels", [np.zeros((2, 2)), np.zeros((1, 2, 2), np.uint8), torch.zeros(2, 2)])
def test_colorize_not_an_integer_map_raises(labels):
    with pytest.raises(InvalidArgumentError, match=r"labels must be integers \(H, W\), got float|got uint8 of shape"):
        colorize(labels, METADATA)


@pytest.mark.smoke
def test_overlay_mixes_colors_and_leaves_ignored_pixels(labels):
    image = np.full((2, 3, 3), 100, np.uint8)
    before = image.copy()
    mixed = overlay(image, labels, METADATA, alpha=0.25)
    expected = np.round(75 + 0.25 * colorize(labels, METADATA).astype(float))
    expected[1, 0] = 100
    assert mixed.dtype == np.uint8
    assert np.abs(mixed - expected).max() <= 1
    assert mixed[1, 0].tolist() == [100, 100, 100]
    assert np.array_equal(image, before)
    assert np.array_equal(overlay(image, labels, METADATA, alpha=0), image)
    full = overlay(image, labels, METADATA, alpha=1)
    assert np.array_equal(full[labels != 255], colorize(labels, METADATA)[labels != 255])


def test_contours_are_lines_in_the_colors_of_both_classes():
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 15:] = 1
    labels[:3] = 255
    image = np.full((20, 30, 3), 100, np.uint8)
    drawn = overlay(image, labels, METADATA, alpha=0, contours=True)
    expected = image.copy()
    expected[3:, 14], expected[3:, 15] = METADATA.colors[:2]
    expected[3, :15], expected[3, 15:] = METADATA.colors[:2]  # beside ignored pixels, which have no line
    np.testing.assert_array_equal(drawn, expected)
    inner = np.s_[5:, :13]
    mixed = overlay(image, labels, METADATA, contours=True)
    np.testing.assert_array_equal(mixed[inner], overlay(image, labels, METADATA)[inner])


@pytest.mark.parametrize(("side", "width"), [(1, 0), (2, 1), (100, 1), (800, 2), (2000, 3)])
def test_contours_are_wider_in_large_images(side, width):
    labels = np.zeros((side, side), np.uint8)
    labels[:, side // 2 :] = 1
    drawn = overlay(np.zeros((side, side, 3), np.uint8), labels, METADATA, alpha=0, contours=True)
    assert (drawn[0].any(axis=-1)).sum() == 2 * width


def test_overlay_takes_every_kind_of_image(labels):
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    expected = overlay(image, labels, METADATA)
    for given in (Image.fromarray(image), tensor, tensor / 255, image / 255):
        assert np.array_equal(overlay(given, torch.from_numpy(labels), METADATA), expected)


def test_overlay_wrong_arguments_are_told(labels):
    image = np.zeros((3, 2, 3), np.uint8)
    with pytest.raises(InvalidArgumentError, match="got image 3x2 and labels 2x3"):
        overlay(image, labels, METADATA)
    for alpha in (2, -0.1, float("nan"), "half", None):
        with pytest.raises(InvalidArgumentError, match=f"alpha must be between 0 and 1, got {alpha!r}"):
            overlay(image, labels, METADATA, alpha=alpha)
    with pytest.raises(InvalidArgumentError, match="one image"):
        overlay(torch.zeros(1, 3, 2, 3), labels, METADATA)


def test_plots_without_matplotlib_name_the_extra(monkeypatch):
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for draw in (
        lambda: plot_confusion_matrix(np.eye(2), ("a", "b")),
        lambda: plot_running_metrics({"loss": [(0, 1.0)]}),
        lambda: draw_snapshots([], [], [], METADATA),
        lambda: draw_overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8), METADATA),
    ):
        with pytest.raises(MissingDependencyError, match=r"pip install 'seg-core\[plot\]'"):
            draw()


# ---- other channels than three of 8 bits -----------------------------------------------------------------------------

BANDS = ImageChannels(("blue", "green", "red", "nir"), range=((0, 10000), (0, 10000), (1000, 11000), (0, 1)))


def test_image_array_shows_the_colors_scaled_from_the_range_and_clips_beyond_it():
    planes = np.array([[0, 5000], [10000, 60000]], np.uint16)
    image = np.stack([planes, planes // 2, planes, planes], -1)
    shown = image_array(image, BANDS)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[..., 2], [[0, 128], [255, 255]])  # blue
    np.testing.assert_array_equal(shown[..., 1], [[0, 64], [128, 255]])
    np.testing.assert_array_equal(shown[..., 0], [[0, 102], [230, 255]])  # red, from 1000 to 11000
    np.testing.assert_array_equal(image_array(torch.from_numpy(image).permute(2, 0, 1), BANDS), shown)
    # nothing is stretched to the values of one image
    np.testing.assert_array_equal(image_array(image[:1, :1], BANDS), shown[:1, :1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_image_array_shows_one_channel_as_gray_and_the_first_three_without_colors(dtype):
    gray = np.array([[0, 100], [200, 255]], dtype)
    before = gray.copy()
    shown = image_array(gray, ImageChannels(("height",), range=(0, 200)))
    np.testing.assert_array_equal(shown, np.stack([[[0, 128], [255, 255]]] * 3, -1))
    np.testing.assert_array_equal(gray, before)
    image = np.stack([gray, gray // 2, gray * 0, gray], -1)
    shown = image_array(image, ImageChannels(("a", "b", "c", "d"), range=(0, 255)))
    np.testing.assert_array_equal(shown, image[..., :3].round().astype(np.uint8))


def test_overlay_shows_the_channels_of_the_metadata_unless_others_are_given():
    metadata = dataclasses.replace(METADATA, channels=BANDS)
    image = np.full((4, 5, 4), 5000, np.uint16)
    labels = np.full((4, 5), 255, np.uint8)  # ignored: the image alone
    shown = image_array(image, BANDS)
    np.testing.assert_array_equal(overlay(image, labels, metadata), shown)
    np.testing.assert_array_equal(overlay(image, labels, METADATA, channels=BANDS), shown)
    np.testing.assert_array_equal(overlay(shown, labels, metadata, channels=RGB_CHANNELS), shown)
    with pytest.raises(InvalidArgumentError, match=r"an image must be \(H, W, 4\), with the 4 channels"):
        overlay(shown, labels, metadata)
    with pytest.raises(InvalidArgumentError, match="must have 3 channels, or 1 for gray, got 4"):
        overlay(image.astype(np.uint8), labels, METADATA)


def test_figures_show_images_of_other_channels():
    pytest.importorskip("matplotlib")
    metadata = dataclasses.replace(METADATA, channels=BANDS)
    image = np.full((4, 5, 4), 5000, np.uint16)
    labels = np.zeros((4, 5), np.uint8)
    shown = image_array(image, BANDS)
    for figure in (
        draw_snapshots([image], [labels], [labels], metadata),
        draw_snapshots([image], [labels], [labels], METADATA, channels=BANDS),
        draw_masks([image], [labels], metadata),
        draw_masks([image], [labels], METADATA, channels=BANDS),
    ):
        np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), shown)
    figure = draw_overlay(image, labels, METADATA, 0, channels=BANDS)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), shown)


def test_labels_of_bfloat16_are_refused():
    with pytest.raises(InvalidArgumentError, match="labels must be integers, got torch.bfloat16"):
        colorize(torch.zeros(2, 2, dtype=torch.bfloat16), METADATA)
