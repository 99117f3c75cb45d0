"""Shows a prediction in notebooks: a self-contained page part with the overlay and the areas of the classes."""

import base64
import html
import importlib
import io
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.labels.channels import RGB_CHANNELS
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.overlay import overlay
from seg_core.text import visible

__all__ = ["in_notebook", "percent", "prediction_html", "show_html"]

_MAX_SIDE = 800  # pixels, of what is shown
_MIN_SIDE = 256  # smaller images are enlarged, and kept without loss
_CHIP = "display:inline-block;width:0.9em;height:0.9em;border:1px solid #888;vertical-align:-0.1em;background:"


def in_notebook() -> bool:
    """Returns whether this process is the kernel of a notebook (Jupyter, Colab, VS Code)."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def show_html(text: str) -> None:
    """Shows HTML below the cell of a notebook that is running."""
    # no dependency of ours: where a notebook runs, it is there
    display = importlib.import_module("IPython.display")
    display.display(display.HTML(text))


def prediction_html(
    title: str,
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[Any],
    metadata: DatasetMetadata,
    areas: Mapping[str, int],
    ignored: int,
    alpha: float = 0.5,
    *,
    contours: bool = False,
) -> str:
    """Returns a part of an HTML page: the overlay as an inline image, the classes with their colors and areas.

    Args:
        title: line above the image.
        image: uint8 (H, W, 3), RGB.
        labels: (H, W) class ids, or planes (K, H, W).
        metadata: names and colors of the classes.
        areas: pixels of each class that occurs, by its name, in the order of the list.
        ignored: number of pixels without a class.
        alpha: weight of the colors, 0 to 1.
        contours: whether regions are outlined.
    """
    height, width = labels.shape[-2:]
    factor = min(1.0, _MAX_SIDE / max(height, width))
    if factor < 1:
        # made smaller before colors are blended: an overlay of a large image takes seconds
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in ((size[1], height), (size[0], width)))
        labels = labels[..., rows, :][..., columns]
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    shown = Image.fromarray(overlay(image, labels, metadata, alpha, contours=contours, channels=RGB_CHANNELS))
    enlarged = max(1, _MIN_SIDE // max(height, width))
    style = f"width:{shown.width * enlarged}px;max-width:100%"
    style += ";image-rendering:pixelated" if enlarged > 1 else ""
    pixels = height * width
    lines = [_line(_color(metadata.colors[metadata.class_id(n)]), n, count / pixels) for n, count in areas.items()]
    if ignored:
        lines.append(_line("none", "(ignored)", ignored / pixels))
    title = html.escape(visible(title))
    return (
        f'<div><div>{title}</div><img alt="{title}" style="{style}" src="{_data_uri(shown)}">'
        f"<div>{' '.join(lines)}</div></div>"
    )


def percent(fraction: float) -> str:
    """Returns a fraction in percent.

    >>> percent(0.414), percent(0.0001), percent(1.0), percent(0.9999)
    ('41 %', '<1 %', '100 %', '>99 %')
    """
    if 0 < fraction < 0.01:
        return "<1 %"
    return ">99 %" if 0.99 < fraction < 1 else f"{fraction:.0%}".replace("%", " %")


def _line(background: str, name: str, fraction: float) -> str:
    return (
        f'<span style="display:inline-block;margin-right:1em"><span style="{_CHIP}{background}"></span> '
        f"{html.escape(visible(name))} {html.escape(percent(fraction))}</span>"
    )


def _color(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _data_uri(image: Image.Image) -> str:
    kind = "PNG" if max(image.size) <= _MIN_SIDE else "JPEG"
    data = io.BytesIO()
    image.save(data, kind, quality=90)  # PNG ignores the quality
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"
