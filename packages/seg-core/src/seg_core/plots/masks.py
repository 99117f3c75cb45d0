"""A figure of images beside their masks."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.labels.channels import ImageChannels
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.current import makes_current
from seg_core.plots.figure_parts import DPI, add_legend, class_patches, figure_class, legend_layout, literal, patch
from seg_core.plots.overlay import ImageLike, Labels, colorize, has_ignored, image_array, seen_classes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_masks"]

_MAX_CELL = 2.6  # inches


@makes_current
def draw_masks(
    images: Sequence[ImageLike] | Tensor,
    masks: Sequence[Labels] | Tensor,
    metadata: DatasetMetadata,
    titles: Sequence[str] | None = None,
    *,
    channels: ImageChannels | None = None,
) -> "Figure":
    """Returns a figure of images, each with its mask on its right, two of them per row; below, a legend of the classes.

    Args:
        images: images as in `overlay`, not normalized; they may differ in size.
        masks: (H, W) class ids each, or planes, as in `colorize`.
        metadata: names and colors of the classes.
        titles: one short string per image, shown above it.
        channels: the channels of the images; by default those of the metadata.

    Raises:
        LabelOutOfRangeError: if an id is neither a class nor the ignored value.
        InvalidArgumentError: if there is no image, or numbers or sizes differ.
    """
    new_figure = figure_class()
    counts = {"images": len(images), "masks": len(masks)}
    if titles is not None:
        counts["titles"] = len(titles)
    if len(set(counts.values())) != 1 or not len(images):
        raise InvalidArgumentError(f"all arguments must have the same length, at least 1, got {counts}")
    shown = metadata.channels if channels is None else channels
    pairs = []
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        pair = image_array(image, shown), colorize(mask, metadata)
        if pair[0].shape[:2] != pair[1].shape[:2]:
            sizes = [part.shape[:2] for part in pair]
            raise InvalidArgumentError(f"image and mask {index} must have the same size, got (height, width) {sizes}")
        pairs.append(pair)
    seen = sorted({i for mask in masks for i in seen_classes(mask, metadata)})
    patches = class_patches(seen, metadata)
    if any(has_ignored(mask, metadata) for mask in masks):
        patches.append(patch(metadata.ignore_color, "ignored"))

    columns = min(len(pairs), 2)
    rows = math.ceil(len(pairs) / columns)
    # cells of one width; tall images get narrow ones, but wide enough for the titles
    aspect = max(image.shape[0] / image.shape[1] for image, _ in pairs)
    cell = max(min(_MAX_CELL, 3.4 / aspect), 1.6)
    height = min(cell * aspect, 3.4)
    width = 2 * columns * cell + 0.3
    legend_columns, legend_height = legend_layout([str(p.get_label()) for p in patches], width)
    title_height = 0.05 if titles is None else 0.27
    figure = new_figure(
        figsize=(width, rows * (height + title_height) + 0.2 + legend_height), dpi=DPI, layout="constrained"
    )
    axes = figure.subplots(rows, 2 * columns, squeeze=False).reshape(-1, 2)
    for index, (left, right) in enumerate(axes):
        if index >= len(pairs):
            left.set_visible(False)
            right.set_visible(False)
            continue
        for axis in (left, right):
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_color("0.8")
        image, colors = pairs[index]
        left.imshow(image)
        right.imshow(colors, interpolation="nearest")  # colors of classes are never mixed
        if titles is not None:
            left.set_title(literal(titles[index]), fontsize=8, loc="left", pad=3)
            left.title.set_in_layout(False)  # it reaches over the mask
    add_legend(figure, patches, legend_columns)
    return figure
