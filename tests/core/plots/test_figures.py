import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.errors import InvalidArgumentError, WriteError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.figures import (
    draw_overlay,
    draw_snapshots,
    exhibit_figure,
    plot_confusion_matrix,
    plot_running_metrics,
)
from seg_core.plots.masks import draw_masks
from seg_core.plots.overlay import colorize, overlay

pytest.importorskip("matplotlib", reason="figures need the extra seg-core[plot]")

METADATA = DatasetMetadata(
    "three",
    ("road", "car", "a label whose name is much too long"),
    ((9, 8, 7), (255, 0, 0), (0, 0, 255)),
    ignore_color=(1, 2, 3),
)


@pytest.fixture
def labels():
    return np.array([[0, 1, 2], [255, 0, 1]], np.uint8)


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.mark.smoke
def test_draw_snapshots_shows_rows_and_the_classes_seen(labels):
    images = torch.rand(2, 3, 2, 3)
    truths = np.stack([labels, labels])
    preds = torch.zeros(2, 2, 3, dtype=torch.uint8)
    figure = draw_snapshots(images, truths, preds, METADATA, titles=["first", "second"])
    assert len(figure.axes) == 6
    assert [axis.get_title() for axis in figure.axes[:3]] == ["image", "ground truth", "prediction"]
    assert [figure.axes[i].get_xlabel() for i in (0, 3)] == ["first", "second"]
    assert np.array_equal(figure.axes[4].images[0].get_array(), colorize(labels, METADATA))
    assert np.array_equal(figure.axes[5].images[0].get_array(), colorize(preds[1], METADATA))
    assert legend_texts(figure) == ["road", "car", "a label whose name is much…", "ignored"]
    figure = draw_snapshots(images, preds, preds, METADATA)
    assert legend_texts(figure) == ["road"]


@pytest.mark.parametrize("num_classes", [1, 4, 11, 21, 150])
def test_figures_everything_drawn_lies_inside(num_classes, tmp_path):
    names = tuple(f"{'a rather long class name' if i % 3 else 'class'} {i}" for i in range(num_classes))
    metadata = DatasetMetadata("m", names)
    ids = torch.arange(20 * 40).view(20, 40) % num_classes
    ids[0] = 255
    figures = [
        draw_snapshots([torch.rand(3, 20, 40), torch.rand(3, 40, 20)], [ids, ids.T], [ids, ids.T], metadata),
        plot_confusion_matrix(torch.eye(num_classes, dtype=torch.int64) * 7, names),
        draw_overlay(torch.rand(3, 40, 20), ids.T, metadata),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        inside = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert inside.x0 >= -0.05 and inside.y0 >= -0.05
        assert inside.x1 <= width + 0.05 and inside.y1 <= height + 0.05
    figure = figures[0]
    lowest = min(axis.get_window_extent().y0 for axis in figure.axes)
    assert figure.legends[0].get_window_extent().y1 <= lowest


def test_draw_overlay_shows_the_image_and_the_classes_seen(labels):
    image = np.full((2, 3, 3), 90, np.uint8)
    figure = draw_overlay(image, labels, METADATA, 0.25, contours=True)
    expected = overlay(image, labels, METADATA, 0.25, contours=True)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), expected)
    assert legend_texts(figure) == ["road", "car", "a label whose name is much…"]
    ignored = draw_overlay(image, np.full_like(labels, 255), METADATA)
    ignored.draw_without_rendering()
    assert legend_texts(ignored) == []


@pytest.mark.parametrize("count", [1, 2, 3])
def test_draw_masks_shows_each_image_beside_its_mask(labels, count):
    images = [np.full((2, 3, 3), 60 * index, np.uint8) for index in range(count)]
    titles = [f"name {index}" for index in range(count)]
    figure = draw_masks(images, [labels] * count, METADATA, titles)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert len(shown) == 2 * count
    for index in range(count):
        left, right = shown[2 * index : 2 * index + 2]
        assert left.get_title(loc="left") == f"name {index}"
        assert np.array_equal(left.images[0].get_array(), images[index])
        assert np.array_equal(right.images[0].get_array(), colorize(labels, METADATA))
    assert legend_texts(figure) == ["road", "car", "a label whose name is much…", "ignored"]


def test_draw_masks_wrong_arguments_raise(labels):
    image = np.zeros((2, 3, 3), np.uint8)
    with pytest.raises(InvalidArgumentError, match="same length, at least 1, got {'images': 1, 'masks': 2}"):
        draw_masks([image], [labels, labels], METADATA)
    with pytest.raises(InvalidArgumentError, match="at least 1"):
        draw_masks([], [], METADATA)
    with pytest.raises(InvalidArgumentError, match="'titles': 2"):
        draw_masks([image], [labels], METADATA, ["a", "b"])
    with pytest.raises(InvalidArgumentError, match="image and mask 0 must have the same size"):
        draw_masks([image], [labels.T], METADATA)


def test_draw_snapshots_wrong_arguments_raise(labels):
    image = np.zeros((2, 3, 3), np.uint8)
    with pytest.raises(InvalidArgumentError, match="the same length, at least 1, got .*'images': 1, 'truths': 2"):
        draw_snapshots([image], [labels, labels], [labels], METADATA)
    with pytest.raises(InvalidArgumentError, match="at least 1, got .*'images': 0"):
        draw_snapshots([], [], [], METADATA)
    with pytest.raises(InvalidArgumentError, match="'titles': 2"):
        draw_snapshots([image], [labels], [labels], METADATA, titles=["a", "b"])
    with pytest.raises(InvalidArgumentError, match="image, ground truth and prediction 0 must have the same size"):
        draw_snapshots([image], [labels], [labels.T], METADATA)


MATRIX = np.array([[90, 10, 0], [0, 0, 0], [1, 1, 1998]])


def cell_texts(figure):
    return {text.get_position(): text.get_text() for text in figure.axes[0].texts}


@pytest.mark.parametrize("matrix", [MATRIX, torch.from_numpy(MATRIX), MATRIX.tolist()])
def test_plot_confusion_matrix_shows_percent_of_each_row(matrix):
    figure = plot_confusion_matrix(matrix, ("a", "b", "c"))
    axis = figure.axes[0]
    shown = axis.images[0].get_array()
    assert np.allclose(shown.filled(0), [[90, 10, 0], [0, 0, 0], [0.05, 0.05, 99.9]])
    assert axis.get_ylabel() == "ground truth"
    assert axis.get_xlabel() == "prediction"
    assert cell_texts(figure) == {(0, 0): "90", (1, 0): "10", (0, 2): "0", (1, 2): "0", (2, 2): "100"}
    hatched = [patch for patch in axis.patches if patch.get_hatch()]
    assert [patch.get_y() for patch in hatched] == [0.5]  # the absent class


def test_plot_confusion_matrix_counts_are_abbreviated():
    matrix = np.diag([3, 4_500, 12_345_678])
    figure = plot_confusion_matrix(matrix, ("a", "b", "c"), normalize=False)
    assert list(cell_texts(figure).values()) == ["3", "4.5k", "12M"]
    plot_confusion_matrix(np.zeros((3, 3)), ("a", "b", "c"), normalize=False).draw_without_rendering()


def test_plot_confusion_matrix_many_classes_have_no_numbers():
    figure = plot_confusion_matrix(np.eye(26), [f"c{i}" for i in range(26)])
    assert not cell_texts(figure)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [f"c{i}" for i in range(26)]


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.zeros((2, 3)), r"matrix must be \(3, 3\) for 3 labels, got shape \(2, 3\)"),
        (np.full((3, 3), -1), "counts of pixels, got a negative"),
        (np.full((3, 3), np.nan), "undefined number"),
    ],
)
def test_plot_confusion_matrix_wrong_matrix_raises(matrix, words):
    with pytest.raises(InvalidArgumentError, match=words):
        plot_confusion_matrix(matrix, ("a", "b", "c"))


def test_plot_running_metrics_groups_curves_into_panels():
    history = {
        "lr": [(0, 1e-3), (10, 1e-4)],
        "val/miou": [(5, 0.2), (10, 0.4)],
        "train/loss": [(i, 3 - i / 10) for i in range(40)],
        "val/loss": [(5, 2.5), (10, float("inf"))],
        "val/acc": [(5, 0.6), (10, 0.7)],
        "val/iou/road": [(5, 0.6)],
        "val/iou/car": [(5, 0.7)],
        "val/empty": [],
    }
    figure = plot_running_metrics(history)
    panels = {
        axis.get_title(): {line.get_label(): line for line in axis.lines} for axis in figure.axes if axis.get_visible()
    }
    assert {title: set(lines) for title, lines in panels.items()} == {
        "loss": {"train/loss", "val/loss"},
        "scores": {"val/miou", "val/acc"},
        "iou": {"val/iou/road", "val/iou/car"},
        "lr": {"lr"},
    }
    assert list(panels) == ["loss", "scores", "iou", "lr"]
    train, val = panels["loss"]["train/loss"], panels["loss"]["val/loss"]
    assert train.get_linestyle() == "--" and val.get_linestyle() == "-"
    assert tuple(train.get_color()) == tuple(val.get_color())
    assert np.isnan(val.get_ydata()[1])
    accuracy = panels["scores"]["val/acc"]
    assert tuple(accuracy.get_color()) != tuple(panels["scores"]["val/miou"].get_color())
    assert figure.axes[1].get_ylim() == (0, 1)
    figure.draw_without_rendering()


def test_plot_running_metrics_many_curves_stay_beside_their_legend():
    history = {f"val/iou/class {i}": [(0, 0.1), (1, i / 150)] for i in range(150)}
    figure = plot_running_metrics({"val/miou": [(0, 0.1)], **history})
    figure.draw_without_rendering()
    axis = figure.axes[1]
    legend = axis.get_legend().get_window_extent()
    assert legend.x0 >= axis.get_window_extent().x1 - 1
    assert legend.x1 <= figure.bbox.x1 + 1
    assert axis.get_window_extent().width > 150


def test_plot_running_metrics_without_values_raises():
    with pytest.raises(InvalidArgumentError, match="history holds no values, got metrics"):
        plot_running_metrics({"loss": []})


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_exhibit_figure_writes_the_file_and_nothing_else(tmp_path, suffix):
    path = tmp_path / "plots" / f"figure{suffix}"
    exhibit_figure(plot_running_metrics({"loss": [(0, 1.0)]}), save_to=path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    if suffix == ".png":
        with Image.open(path) as image:
            assert min(image.size) > 200


@pytest.mark.parametrize("name", ["figure", "figure.doc"])
def test_exhibit_figure_unknown_format_raises(tmp_path, name):
    with pytest.raises(InvalidArgumentError, match=r"save_to must end in a known format, got .*; known: .*png"):
        exhibit_figure(plot_running_metrics({"loss": [(0, 1.0)]}), save_to=tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".webp", ".jpg"])
def test_exhibit_figure_too_large_for_the_format_raises(tmp_path, suffix):
    from matplotlib.figure import Figure

    words = f"figure{suffix} cannot hold a figure of 66000x20 pixels .*; choose .png"
    with pytest.raises(InvalidArgumentError, match=words):
        exhibit_figure(Figure((660, 0.2), dpi=100), save_to=tmp_path / f"figure{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_exhibit_figure_folder_that_cannot_be_made_raises(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write"):
        exhibit_figure(plot_running_metrics({"loss": [(0, 1.0)]}), save_to=tmp_path / "file" / "figure.png")


def test_exhibit_figure_show_gives_the_figure_a_window_and_closes_it(monkeypatch):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure = plot_running_metrics({"loss": [(0, 1.0)]})
    shown = []

    def show(block):
        shown.extend(
            manager.canvas.figure for manager in map(plt._pylab_helpers.Gcf.get_fig_manager, plt.get_fignums())
        )

    monkeypatch.setattr(plt, "show", show)
    monkeypatch.setattr(plt, "get_backend", lambda: "qtagg")
    exhibit_figure(figure, show=True)
    assert shown == [figure]
    assert not plt.get_fignums()
    own = plt.figure()
    exhibit_figure(own, show=True)
    assert shown == [figure, own]
    assert not plt.get_fignums()


def test_overlay_needs_no_matplotlib_and_figures_leave_pyplot_alone():
    program = (
        "import sys, numpy as np\n"
        "from seg_core import DatasetMetadata, overlay, plot_confusion_matrix\n"
        "m = DatasetMetadata('m', ('a', 'b'))\n"
        "overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8), m)\n"
        "assert 'matplotlib' not in sys.modules and 'torchvision' not in sys.modules\n"
        "plot_confusion_matrix(np.eye(2), ('a', 'b'))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_exhibit_figure_show_without_a_display_says_to_save_it():
    import matplotlib

    matplotlib.use("agg")
    with pytest.warns(UserWarning, match="'agg' opens no window, .*; save it to a file"):
        exhibit_figure(plot_running_metrics({"loss": [(0, 1.0)]}), show=True)


def test_figures_draw_names_literally_formulas_and_control_characters_too(labels):
    names = ("$\\frac{$", "a\x1b[2J\u202e", "$1")
    metadata = DatasetMetadata("three", names, ((9, 8, 7), (255, 0, 0), (0, 0, 255)))
    image = np.zeros((2, 3, 3), np.uint8)
    figures = [
        draw_snapshots(torch.zeros(1, 3, 2, 3), labels[None], labels[None], metadata, titles=["$\\frac{$"]),
        plot_confusion_matrix(np.eye(3, dtype=np.int64), names),
        draw_overlay(image, labels, metadata),
    ]
    for figure in figures:
        figure.canvas.draw()  # raises for a formula that is none
    assert legend_texts(figures[0])[:2] == [r"\$\frac{\$", r"a\x1b[2J\u202e"]


def test_exhibit_figure_takes_the_current_figure_when_none_is_given(tmp_path):
    plot_running_metrics({"loss": [(0, 1.0)]})
    figure = plot_confusion_matrix([[3, 1], [0, 2]], ["a", "b"])
    exhibit_figure(figure, save_to=tmp_path / "given.png")
    plot_confusion_matrix([[3, 1], [0, 2]], ["a", "b"])
    exhibit_figure(show=False, save_to=tmp_path / "current.png")
    assert (tmp_path / "current.png").read_bytes() == (tmp_path / "given.png").read_bytes()
    with pytest.raises(InvalidArgumentError, match="there is no current figure: pass one, or draw one before"):
        exhibit_figure(save_to=tmp_path / "again.png")


def test_current_figure_is_the_one_of_pyplot_if_that_is_newer(tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    older = pyplot.figure(figsize=(1, 1), dpi=50)
    plot_confusion_matrix([[3, 1], [0, 2]], ["a", "b"])
    exhibit_figure(save_to=tmp_path / "ours.png")
    plot_confusion_matrix([[3, 1], [0, 2]], ["a", "b"])
    newer = pyplot.figure(figsize=(2, 1), dpi=50)
    exhibit_figure(save_to=tmp_path / "newer.png")
    assert not pyplot.fignum_exists(newer.number) and pyplot.fignum_exists(older.number)
    pyplot.close(older)
    with Image.open(tmp_path / "newer.png") as image, Image.open(tmp_path / "ours.png") as ours:
        assert image.size == (100, 50) and ours.size != (50, 50)
