"""The figure that was drawn last, for `exhibit_figure` without a figure."""

import functools
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["current_figure", "forget_figure", "makes_current"]

P = ParamSpec("P")
_last = threading.local()  # loggers may draw in a thread of their own


def makes_current(draw: "Callable[P, Figure]") -> "Callable[P, Figure]":
    """Keeps the figure that `draw` returns until it is exhibited or another one is drawn."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        figure = draw(*args, **kwargs)
        _last.figure, _last.beside = figure, _active()
        return figure

    return drawn


def current_figure() -> "Figure | None":
    """Returns the last figure of this package, or pyplot's current one if that is newer; None if there is none."""
    active = _active()
    kept: Figure | None = getattr(_last, "figure", None)
    if kept is None or (active is not None and active is not _last.beside):
        return None if active is None else active.canvas.figure
    return kept


def forget_figure(figure: "Figure") -> None:
    """Lets go of `figure` if it is the current one."""
    if getattr(_last, "figure", None) is figure:
        _last.figure = _last.beside = None


def _active() -> Any:
    """Returns what pyplot keeps its current figure in; None without one, and without importing pyplot."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    return None if helpers is None else helpers.Gcf.get_active()
