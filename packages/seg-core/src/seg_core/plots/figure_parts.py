"""Parts that figures share: matplotlib's class, and legends of classes."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from seg_core.errors import MissingDependencyError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.legend import short_name
from seg_core.text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

__all__ = ["DPI", "MAX_NAME", "add_legend", "class_patches", "figure_class", "legend_layout", "literal", "patch"]

DPI = 120
MAX_NAME = 28  # characters of a class name
_LEGEND_ROW = 0.2  # inches
_LEGEND_LETTER = 0.078  # inches, at the legend's font size


def figure_class() -> "type[Figure]":
    """Returns matplotlib's class of figures.

    Raises:
        MissingDependencyError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("figures need matplotlib: pip install 'seg-core[plot]'") from error
    return Figure


def _unit(color: Sequence[int]) -> tuple[float, float, float]:
    red, green, blue = color
    return red / 255, green / 255, blue / 255


def class_patches(class_ids: Iterable[int], metadata: DatasetMetadata) -> list["Patch"]:
    """Returns the entries of a legend for these classes."""
    return [patch(metadata.colors[i], short_name(metadata.labels[i], MAX_NAME)) for i in class_ids]


def literal(text: str) -> str:
    """Returns a text that matplotlib draws as it is: its formulas begin with $, and it has no control characters."""
    return visible(text).replace("$", r"\$")


def patch(color: Sequence[int], label: str) -> "Patch":
    """Returns an entry of a legend: a color, 0 to 255 per channel, and its name."""
    from matplotlib.patches import Patch

    # the edge shows white classes on white paper
    return Patch(facecolor=_unit(color), label=literal(label), edgecolor="0.5", linewidth=0.5)


def add_legend(figure: "Figure", patches: list["Patch"], columns: int) -> None:
    """Adds a legend below the axes."""
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
        columnspacing=1.2,
        handlelength=1.4,
        handletextpad=0.5,
    )


def legend_layout(names: Iterable[str], width: float) -> tuple[int, float]:
    """Returns columns and height in inches of a legend that fits into `width` inches."""
    names = list(names)
    column = max(map(len, names), default=1) * _LEGEND_LETTER + 0.42
    rows = math.ceil(len(names) / max(1, int(width / column))) or 1
    return math.ceil(len(names) / rows), rows * _LEGEND_ROW  # rows of about equal length
