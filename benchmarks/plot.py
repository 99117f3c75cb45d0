"""The figure of a run: one bar per contender, with a color each for ours, peers and bounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import CaseResult, as_number

__all__ = ["plot_results"]

# color-blind readers can tell blue, orange and gray apart, also in print
_COLORS = {"ours": "#0072B2", "peer": "#E69F00", "bound": "#999999"}
_MEANINGS = {"ours": "ours", "peer": "peers", "bound": "bound: unavoidable work"}
_LARGE_RANGE = 20  # slowest over fastest; beyond it a linear axis hides the fast ones


def plot_results(path: Path, topic: str, results: Sequence[CaseResult], quick: bool) -> None:
    """Writes a PNG with one panel per case, the fastest contender on top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    # not pyplot, which would look for a display and keep the figure in memory
    num_bars = [len(result.case.contenders) for result in results]
    figure = Figure(figsize=(10, 1.0 + sum(0.38 * n + 1.15 for n in num_bars)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(results), 1, squeeze=False, height_ratios=[n + 1 for n in num_bars])[:, 0]
    for panel, result in zip(panels, results, strict=True):
        _draw_case(panel, result)
    kinds = dict.fromkeys(c.kind for result in results for c in result.case.contenders)
    handles = [Patch(color=_COLORS[kind], label=_MEANINGS[kind]) for kind in _COLORS if kind in kinds]
    inputs = " (small inputs)" if quick else ""
    figure.suptitle(f"{topic}{inputs}: time of one call, shorter is better", fontsize=13)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _draw_case(panel: Any, result: CaseResult) -> None:
    case, timing = result.case, result.timing
    first = case.of_kind("ours")[0].name
    contenders = sorted(case.contenders, key=lambda contender: timing.median(contender.name))
    values = [1000 * timing.median(contender.name) for contender in contenders]
    rows = range(len(contenders))
    panel.barh(rows, values, color=[_COLORS[contender.kind] for contender in contenders], height=0.7)
    for row, contender, value in zip(rows, contenders, values, strict=True):
        text = f" {as_number(value)} ms"
        if contender.name != first:
            text += f"  ({as_number(timing.ratio(first, contender.name))}x)"
        if contender.name in result.memory:
            text += f"  +{result.memory[contender.name]:.0f} MiB"
        panel.text(value, row, text, va="center", fontsize=9)
    panel.set_yticks(rows, [contender.name for contender in contenders], fontsize=9)
    panel.invert_yaxis()
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_title(case.name, loc="left", fontsize=10, fontweight="bold")
    work = "ms" if case.images_per_call is None else f"ms for {case.images_per_call} images"
    note = f"in brackets the time over that of {first}"
    # room for the labels to the right of the longest bar
    if max(values) > _LARGE_RANGE * min(values):
        panel.set_xscale("log")
        panel.set_xlim(min(values) / 2, max(values) * (max(values) / min(values)) ** 0.45)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlabel(f"{work}, logarithmic; {note}", fontsize=9)
    else:
        panel.set_xlim(0, max(values) * 1.4)
        panel.set_xlabel(f"{work}; {note}", fontsize=9)
