"""Figures: snapshots and overlays of predictions, confusion matrix, curves.

They are matplotlib `Figure` objects, created without pyplot, so that nothing needs closing.
matplotlib is an extra (`pip install 'seg-core[plot]'`).
"""

import io
import math
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.files.atomic import atomic_path
from seg_core.labels.channels import ImageChannels
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.current import current_figure, forget_figure, makes_current
from seg_core.plots.figure_parts import (
    DPI,
    MAX_NAME,
    add_legend,
    class_patches,
    figure_class,
    legend_layout,
    literal,
    patch,
)
from seg_core.plots.legend import short_name
from seg_core.plots.overlay import ImageLike, Labels, colorize, has_ignored, image_array, overlay, seen_classes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_overlay", "draw_snapshots", "exhibit_figure", "plot_confusion_matrix", "plot_running_metrics"]

_MAX_NUMBERED_CLASSES = 25  # above that, numbers in the cells of a confusion matrix are not readable
# line styles of curves, by where they were measured; others, such as those of the EMA, are dotted
_LINES = {"train": "--", "val": "-", "": "-"}
_WITHOUT_WINDOWS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")  # backends of matplotlib
_SCORES = ("iou", "acc", "dice", "f1", "precision", "recall", "score")


@makes_current
def draw_snapshots(
    images: Sequence[ImageLike] | Tensor,
    truths: Sequence[Labels] | Tensor,
    preds: Sequence[Labels] | Tensor,
    metadata: DatasetMetadata,
    titles: Sequence[str] | None = None,
    *,
    channels: ImageChannels | None = None,
) -> "Figure":
    """Returns a figure with one row per image: image, ground truth, prediction; below, a legend of the classes seen.

    Args:
        images: images as in `overlay`, not normalized; they may differ in size.
        truths: ground truth, (H, W) class ids each, or planes, as in `colorize`.
        preds: predicted class ids, of the same sizes.
        metadata: names and colors of the classes.
        titles: one short string per image, shown under it.
        channels: the channels of the images; by default those of the metadata.

    Raises:
        LabelOutOfRangeError: if an id is neither a class nor the ignored value.
        InvalidArgumentError: if there is no image, or numbers or sizes differ.
    """
    new_figure = figure_class()
    counts = {"images": len(images), "truths": len(truths), "preds": len(preds)}
    if titles is not None:
        counts["titles"] = len(titles)
    if len(set(counts.values())) != 1 or not len(images):
        raise InvalidArgumentError(f"all arguments must have the same length, at least 1, got {counts}")
    shown = metadata.channels if channels is None else channels
    rows = []
    for index, (image, truth, pred) in enumerate(zip(images, truths, preds, strict=True)):
        row = [image_array(image, shown), colorize(truth, metadata), colorize(pred, metadata)]
        sizes = [part.shape[:2] for part in row]
        if len(set(sizes)) != 1:
            raise InvalidArgumentError(
                f"image, ground truth and prediction {index} must have the same size, got (height, width) {sizes}"
            )
        rows.append(row)
    seen = sorted({i for labels in (*truths, *preds) for i in seen_classes(labels, metadata)})
    patches = class_patches(seen, metadata)
    if any(has_ignored(labels, metadata) for labels in (*truths, *preds)):
        patches.append(patch(metadata.ignore_color, "ignored"))

    # cells of one width; tall images get narrow ones, so that a row is never higher than 4 inches
    aspects = [row[0].shape[0] / row[0].shape[1] for row in rows]
    cell = min(3.4, 4 / max(aspects))
    width = max(3 * cell + 0.3, 5.0)
    columns, legend_height = legend_layout([str(p.get_label()) for p in patches], width)
    heights = [cell * a + (0.25 if titles else 0.05) for a in aspects]
    figure = new_figure(figsize=(width, sum(heights) + 0.4 + legend_height), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(rows), 3, squeeze=False, height_ratios=aspects)
    for index, row in enumerate(rows):
        for column, (axis, part) in enumerate(zip(axes[index], row, strict=True)):
            # colors of classes are never mixed; images are resampled by matplotlib's default
            axis.imshow(part, interpolation=None if column == 0 else "nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_color("0.8")
            if index == 0:
                axis.set_title(("image", "ground truth", "prediction")[column], fontsize=10)
        if titles is not None:
            axes[index][0].set_xlabel(literal(titles[index]), fontsize=8, labelpad=2, loc="left")
    add_legend(figure, patches, columns)
    return figure


@makes_current
def draw_overlay(
    image: ImageLike,
    labels: Labels,
    metadata: DatasetMetadata,
    alpha: float = 0.5,
    *,
    contours: bool = False,
    channels: ImageChannels | None = None,
) -> "Figure":
    """Returns a figure of an image overlaid with the colors of its classes; below, a legend of the classes seen.

    Args:
        image: image as in `overlay`.
        labels: (H, W) class ids, or planes, as in `colorize`.
        metadata: names and colors of the classes.
        alpha: weight of the colors, 0 (image alone) to 1 (colors alone).
        contours: whether regions are outlined.
        channels: the channels of the image; by default those of the metadata.

    Raises:
        LabelOutOfRangeError: if an id is neither a class nor the ignored value.
        InvalidArgumentError: if the sizes differ or an argument is not allowed.
    """
    new_figure = figure_class()
    pixels = overlay(image, labels, metadata, alpha, contours=contours, channels=channels)
    patches = class_patches(seen_classes(labels, metadata), metadata)
    aspect = pixels.shape[0] / pixels.shape[1]
    cell = min(8.0, 6 / aspect)
    width = max(cell, 5.0)
    columns, legend_height = legend_layout([str(p.get_label()) for p in patches], width)
    figure = new_figure(figsize=(width, cell * aspect + 0.2 + legend_height), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.imshow(pixels)
    axis.set_axis_off()
    if patches:
        add_legend(figure, patches, columns)
    return figure


@makes_current
def plot_confusion_matrix(matrix: npt.ArrayLike | Tensor, labels: Sequence[str], normalize: bool = True) -> "Figure":
    """Returns a figure of a confusion matrix: rows are the ground truth, columns the prediction.

    Args:
        matrix: (K, K) pixel counts, `matrix[truth, prediction]`.
        labels: K class names.
        normalize: whether to show each row in percent of its pixels (the diagonal is the accuracy of the class), or
            counts, colored by their logarithm. A row without pixels is hatched.

    Raises:
        InvalidArgumentError: if the matrix is not (K, K) or holds a negative or infinite number.
    """
    new_figure = figure_class()
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm, Normalize

    counts = np.asarray(matrix.detach().cpu() if isinstance(matrix, Tensor) else matrix, dtype=np.float64)
    if counts.shape != (len(labels), len(labels)) or not len(labels):
        raise InvalidArgumentError(
            f"matrix must be ({len(labels)}, {len(labels)}) for {len(labels)} labels, got shape {counts.shape}"
        )
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise InvalidArgumentError("matrix must hold counts of pixels, got a negative, infinite or undefined number")
    sums = counts.sum(axis=1, keepdims=True)
    absent = np.flatnonzero(sums[:, 0] == 0)
    shown = 100 * counts / np.where(sums > 0, sums, 1) if normalize else counts
    norm = Normalize(0, 100) if normalize else LogNorm(1, max(10.0, counts.max()))

    num_classes = len(labels)
    numbered = num_classes <= _MAX_NUMBERED_CLASSES
    cell = 0.42 if numbered else max(0.11, 0.42 * _MAX_NUMBERED_CLASSES / num_classes)
    font = 9 if numbered else max(5.0, min(9.0, cell * 72 * 0.8))
    names = [literal(short_name(label, MAX_NAME)) for label in labels]
    margin = max(map(len, names)) * font / 72 * 0.6 + 0.6
    side = num_classes * cell
    figure = new_figure(
        figsize=(max(side + margin + 1.0, 4.2), max(side + margin + 0.3, 3.4)), dpi=DPI, layout="constrained"
    )
    axis = figure.subplots()
    colors = colormaps["Blues"].with_extremes(bad="white")
    drawn = axis.imshow(np.ma.masked_equal(shown, 0), cmap=colors, norm=norm, interpolation="nearest")
    for row in absent:
        axis.axhspan(row - 0.5, row + 0.5, facecolor="0.96", edgecolor="0.8", hatch="////", linewidth=0)
    axis.set_xticks(range(num_classes), names, rotation=90, fontsize=font)
    axis.set_yticks(range(num_classes), names, fontsize=font)
    axis.tick_params(length=2 if numbered else 1, width=0.5, pad=2)
    axis.set_xlabel("prediction")
    axis.set_ylabel("ground truth")
    axis.set_xticks(np.arange(num_classes + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(num_classes + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="0.9", linewidth=0.5 if numbered else 0.2)
    axis.tick_params(which="minor", length=0)
    if numbered:
        for (row, column), value in np.ndenumerate(shown):
            if value > 0:
                dark = float(norm(value)) > 0.55
                text = f"{value:.0f}" if normalize else _abbreviated(value)
                axis.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "0.15")
    bar = figure.colorbar(drawn, ax=axis, shrink=min(1.0, 4 / side), aspect=25, pad=0.02)
    bar.set_label("% of the class's pixels" if normalize else "pixels")
    bar.outline.set_linewidth(0.5)
    return figure


@makes_current
def plot_running_metrics(history: Mapping[str, Sequence[tuple[float, float]]]) -> "Figure":
    """Returns a figure with the curves of a run: losses, scores (0 to 1) and everything else in separate panels.

    Args:
        history: name of a metric -> its (step, value) pairs. A name is `<where>/<metric>` (`train/loss`, `val/miou`),
            `<where>/<metric>/<class>` (a panel per metric), or just a metric. Each metric has one color; `train` is
            dashed, anything but `train` and `val` is dotted. An undefined value leaves a gap.

    Raises:
        InvalidArgumentError: if there are no values.
    """
    new_figure = figure_class()
    panels: dict[str, list[str]] = {}
    for name, pairs in history.items():
        if len(pairs):
            panels.setdefault(_panel(name), []).append(name)
    if not panels:
        raise InvalidArgumentError(f"history holds no values, got metrics {list(history)}; log at least one step")
    order = sorted(panels, key=lambda p: {"loss": 0, "scores": 1}.get(p, 2 if _is_score(p) else 3))
    columns = min(len(order), 2 if len(order) <= 4 else 3)
    rows = math.ceil(len(order) / columns)
    figure = new_figure(figsize=(5.2 * columns + 0.2, 3.4 * rows), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, order, strict=False):
        _draw_curves(axis, {name: history[name] for name in panels[panel]})
        axis.set_title(panel, fontsize=10)
        low, high = axis.dataLim.intervaly
        if _is_score(panel) and 0 <= low <= high <= 1:
            axis.set_ylim(0, 1)
    for axis in axes[len(order) :]:
        axis.set_visible(False)
    return figure


def exhibit_figure(
    figure: "Figure | None" = None, show: bool = False, save_to: str | os.PathLike[str] | None = None
) -> None:
    """Shows a figure, writes it to a file, or both; then closes it.

    Args:
        figure: any matplotlib figure; None takes the current one: the last one that this package drew in this thread,
            or pyplot's current figure if that was made later.
        show: whether to open it in a window (or the notebook) and wait until it is closed.
        save_to: file to write, in the format of its suffix (`.png`, `.pdf`, `.svg`, ...); missing folders are created.

    Raises:
        InvalidArgumentError: if there is no current figure, if matplotlib cannot write the format, or if the format
            holds no figure of this size.
        WriteError: if the file cannot be written.

    Warns:
        UserWarning: if matplotlib has no window to show it in, as without a display.
    """
    if figure is None:
        figure = current_figure()
        if figure is None:
            raise InvalidArgumentError(
                "figure is None, and there is no current figure: pass one, or draw one before, such as by "
                "plot_confusion_matrix"
            )
    if save_to is not None:
        formats = figure.canvas.get_supported_filetypes()
        if Path(save_to).suffix.lower().removeprefix(".") not in formats:
            raise InvalidArgumentError(
                f"save_to must end in a known format, got {os.fspath(save_to)!r}; known: {', '.join(sorted(formats))}"
            )
        content = io.BytesIO()  # in memory first: the same errors tell of a format's limits and of a full disk
        try:
            figure.savefig(content, format=Path(save_to).suffix.lower().removeprefix("."), dpi=figure.dpi)
        except (OSError, ValueError) as error:
            width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
            raise InvalidArgumentError(
                f"{os.fspath(save_to)} cannot hold a figure of {width}x{height} pixels (width x height): {error}; "
                "choose .png or .pdf, or a smaller figure"
            ) from error
        with atomic_path(save_to) as temporary:
            temporary.write_bytes(content.getbuffer())
    if show:
        _show(figure)
    forget_figure(figure)
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:  # pyplot keeps its figures until they are closed
        pyplot.close(figure)


def _show(figure: "Figure") -> None:
    """Shows a figure; one created without pyplot is shown in the window of a new pyplot figure."""
    import matplotlib.pyplot as plt

    if plt.get_backend().lower() in _WITHOUT_WINDOWS:
        warnings.warn(
            f"the figure is not shown: matplotlib's backend {plt.get_backend()!r} opens no window, as without a "
            "display; save it to a file (save_to= of exhibit_figure, Prediction.save_overlay), or choose a backend",
            stacklevel=4,
        )
        return
    if figure.canvas.manager is None:
        canvas = plt.figure(figsize=figure.get_size_inches(), dpi=figure.dpi).canvas
        canvas.figure = figure
        figure.set_canvas(canvas)
    plt.show(block=True)


def _abbreviated(count: float) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.{0 if count >= 10 * unit else 1}f}{letter}"
    return f"{count:.0f}"


def _panel(name: str) -> str:
    metric = _split(name)[1].lower()
    group = metric.partition("/")[0]
    if "loss" in metric:
        return "loss"
    if "/" in metric:  # one curve per class
        return group
    return "scores" if _is_score(metric) else metric


def _is_score(metric: str) -> bool:
    return any(score in metric for score in _SCORES)


def _split(name: str) -> tuple[str, str]:
    """Returns where a metric was measured, and the metric."""
    where, slash, metric = name.partition("/")
    return (where, metric) if slash else ("", name)


def _draw_curves(axis: "Axes", curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    metrics = list(dict.fromkeys(_split(name)[1] for name in curves))
    few = len(metrics) <= 10
    palette = colormaps["tab10" if few else "turbo"](range(10) if few else np.linspace(0.05, 0.95, len(metrics)))
    color_of = dict(zip(metrics, palette, strict=False))
    for name, pairs in curves.items():
        where, metric = _split(name)
        steps, values = np.asarray(pairs, dtype=np.float64).T
        values = np.where(np.isfinite(values), values, np.nan)
        axis.plot(
            steps,
            values,
            label=name,
            color=color_of[metric],
            linewidth=1.5,
            linestyle=_LINES.get(where, ":"),
            marker="o" if len(steps) <= 30 else None,
            markersize=3,
        )
    axis.set_xlabel("step", fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.tick_params(labelsize=8)
    axis.grid(color="0.92")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if len(curves) <= 8:
        axis.legend(fontsize=7, frameon=False)
    else:  # to the right of the panel, since inside it would hide the curves
        axis.legend(
            fontsize=6,
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(1, 1),
            ncols=math.ceil(len(curves) / 22),
            borderaxespad=0,
            columnspacing=1,
        )
