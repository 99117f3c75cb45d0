"""Writes the pages of docs/ that follow from the catalogs: the reference, the model zoo, datasets, and the chart.

`docs/reference/` has one page per room of each package, on which the site's builder puts the docstrings. `docs/zoo.md`,
`docs/datasets.md`, `docs/commands.md` and `docs/images/choice.svg` are made from the catalogs, and so is the table of
docs/howto/choosing.md between its marks.
"""

import importlib
import inspect
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from seg_core.catalog import WeightsEntry
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.catalog import DATASETS
from seg_models.catalog import MODELS
from seg_models.published import WEIGHTS

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- written by `hatch run site-pages` from the catalog -->\n"
END = "<!-- end of the table -->\n"
_WRITTEN = "Written by `hatch run site-pages` from the catalog.\n"

# package -> room -> what is in it, in the order of the pages
ROOMS = {
    "seg_core": {
        "labels": "Label sets, label maps, channels",
        "transforms": "Transforms and augmentation",
        "metrics": "Metrics and class weights",
        "files": "Reading files",
        "plots": "Figures and overlays",
        "model_files": "Model files and weights",
        "other": "Random seeds, registries, errors",
    },
    "seg_models": {
        "factory": "Networks by name",
        "networks": "Networks",
        "inference": "Prediction",
        "exporting": "Export",
        "speed": "Speed",
    },
    "seg_datasets": {
        "factory": "Datasets by name",
        "official": "Official datasets",
        "own": "Your own data, several datasets, Shapes",
        "doctor": "The doctor",
    },
    "seg_train": {
        "losses": "Losses",
        "optim": "Optimizers",
        "data": "Sampling",
        "config": "Config",
        "loggers": "Loggers",
        "run": "Training and evaluation",
    },
}
_OWN = ("folder", "unified", "shapes")
TITLES = {"seg_core": "seg-core", "seg_models": "seg-models", "seg_datasets": "seg-datasets", "seg_train": "seg-train"}


def main() -> int:
    for name, content in pages().items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    for old in (ROOT / "docs" / "reference").rglob("*.md"):
        if old.relative_to(ROOT).as_posix() not in pages():
            old.unlink()
    print(f"wrote {len(pages())} files below docs/")
    return 0


def pages() -> dict[str, str]:
    """Returns path below the root -> content."""
    choosing = ROOT / "docs" / "howto" / "choosing.md"
    return {
        **_reference(),
        "docs/zoo.md": _zoo(),
        "docs/datasets.md": _datasets(),
        "docs/commands.md": _commands(),
        "docs/images/choice.svg": _chart(_best("Cityscapes")),
        "docs/howto/choosing.md": _with_table(choosing.read_text(encoding="utf-8"), _choice_table()),
    }


# ---------------------------------------------------------------------------------------------------- the reference


def _reference() -> dict[str, str]:
    found = {}
    lines = [
        "# Reference",
        "",
        "The public names of each package, with their docstrings. A name is imported from its package: "
        "`from seg_core import MetricStore`.",
        "",
        "[Config keys](../config.md) has every key of a config, [Commands](../commands.md) every command.",
        "",
    ]
    for package, rooms in ROOMS.items():
        lines += [f"## {TITLES[package]}", ""]
        for room, title in rooms.items():
            found[f"docs/reference/{package}/{room}.md"] = _room(package, room, title)
            lines.append(f"- [{title}]({package}/{room}.md): {_some_names(package, room)}")
        lines.append("")
    return {"docs/reference/index.md": "\n".join(lines), **found}


def _room(package: str, room: str, title: str) -> str:
    if room == "networks":
        return _networks(title)
    lines = [f"# {title}", "", f"`{package}`", ""]
    for _, target in names_of(package, room):
        module, _, attribute = target.partition(":")
        lines += [f"::: {module}.{attribute}", ""]
    return "\n".join(lines)


def _networks(title: str) -> str:
    lines = [
        f"# {title}",
        "",
        "One paper is one module, whose docstring says where the network departs from the paper, and what its variants "
        "are. A builder takes the options of its network, and those that all builders take: "
        "[`get_model`](factory.md) lists them. [Models](../../models.md) has sizes and the contract, "
        "[Model zoo](../../zoo.md) the published weights.",
        "",
    ]
    modules: dict[str, list[str]] = defaultdict(list)
    for name, entry in MODELS.items():
        modules[entry.target.partition(":")[0]].append(name)
    for module in sorted(modules):
        family = MODELS[modules[module][0]].family
        builders = ", ".join(f"`{name}`" for name in modules[module])
        options = [n for n in importlib.import_module(module).__all__ if n.endswith("Options")]
        lines += [f"## {family}", "", f"Builders: {builders}", "", _as_markdown(module), ""]
        for name in options:
            lines += [f"::: {module}.{name}", "    options:", "      heading_level: 3", ""]
    return "\n".join(lines)


def _as_markdown(module: str) -> str:
    """Returns the docstring of a module with URLs as links, and empty lines before its lists, as Markdown asks."""
    doc = inspect.getdoc(importlib.import_module(module)) or ""
    text = re.sub(r"(?<![<(])https?://[^\s,;)]+[^\s,;).]", r"<\g<0>>", doc)
    return re.sub(r"(?<!\n)\n(- (?:.|\n)*?)(?=\n\n|\Z)", r"\n\n\1", text)


def names_of(package: str, room: str) -> Iterator[tuple[str, str]]:
    """Yields the public names of a room and their targets; names that another package hands on are in its pages."""
    exports: dict[str, str] = importlib.import_module(f"{package}._exports").EXPORTS
    for name, target in sorted(exports.items(), key=lambda item: item[0].lower()):
        module = target.partition(":")[0]
        if module.startswith(f"{package}.") and room_of(package, module) == room:
            yield name, target


def room_of(package: str, module: str) -> str | None:
    """Returns the page of a module's names; None for published weights, which the zoo lists."""
    first = module.split(".")[1]
    if module == "seg_models.pretrained.enums":
        return None
    if package == "seg_datasets" and first in _OWN:
        return "own"
    return first if first in ROOMS[package] else "other"


def _some_names(package: str, room: str) -> str:
    if room == "networks":
        return "ENet, PSPNet, SegFormer and all others"
    names = [f"`{name}`" for name, _ in names_of(package, room)]
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


# ---------------------------------------------------------------------------------------------------- the model zoo


def _weights() -> Iterator[tuple[str, str, WeightsEntry]]:
    """Yields model, full name of the member, and its entry."""
    for model, (enum, members, *_) in WEIGHTS.items():
        for member, entry in members.items():
            yield model, f"{enum}.{member}", entry


def _zoo() -> str:
    by_data: dict[str, list[tuple[str, str, WeightsEntry]]] = defaultdict(list)
    for row in _weights():
        by_data[row[2].meta["data"]].append(row)
    lines = [
        "# Model zoo",
        "",
        _WRITTEN,
        f"{sum(map(len, by_data.values()))} pretrained networks of others, by dataset, the best published mIoU first. "
        "Name one by `weights=`; the file is then downloaded once, and checked as far as its source publishes a hash.",
        "",
        "```python",
        "from seg_models import get_model_weights",
        "",
        'weights = get_model_weights("pspnet_resnet50")["ADE20K"]  # nothing is downloaded so far',
        'print(weights.url, weights.meta["metrics"], len(weights.meta["categories"]))',
        "```",
        "",
        "<!-- not run: downloads the file -->",
        "```python",
        "from seg_models import Predictor",
        "",
        'predictor = Predictor("pspnet_resnet50", weights="ADE20K")',
        "```",
        "",
        "- **mIoU** and **TTA** (several scales and flips) are the scores that the source published, in percent. They "
        "were not measured here; [the protocols](concepts/evaluation.md) of two sources differ.",
        "- **ms** is one 512x1024 image, without auxiliary heads, in float32 on two cores of an AMD EPYC; **MiB** the "
        "memory beyond the network's own. **params** and **MACs** (one such image) count the auxiliary heads that the "
        "file has. Other machines order networks differently: `seg benchmark MODEL --size HxW`.",
        "- The [variant](concepts/variants.md) is the architecture that the file needs; it is chosen by itself.",
        "- Licenses are those of the files; the datasets have their own.",
        "",
    ]
    for data in sorted(by_data, key=str.lower):
        lines += [
            f"## {data}",
            "",
            "| `model` | `weights=` | mIoU | TTA | params | MACs | ms | MiB | variant | from |",
            "|---|---|---:|---:|---:|---:|---:|---:|---|---|",
        ]
        rows = sorted(by_data[data], key=lambda row: (-row[2].meta["metrics"].get("miou", -1), row[1]))
        lines += [_zoo_row(*row) for row in rows]
        lines.append("")
    return "\n".join(lines)


def _zoo_row(model: str, member: str, entry: WeightsEntry) -> str:
    meta = entry.meta
    metrics = meta["metrics"]
    cells = [
        f"`{model}`",
        f"`{member.partition('.')[2]}`",
        _percent(metrics.get("miou")),
        _percent(metrics.get("miou_tta")),
        f"{meta['num_params'] / 1e6:.1f} M",
        f"{meta['macs'] / 1e9:.1f} G",
        f"{meta['time'] * 1000:.0f}",
        f"{meta['memory'] / 2**20:.0f}",
        entry.variant or "",
        meta["license"],
    ]
    return f"| {' | '.join(cells)} |"


def _percent(score: float | None) -> str:
    return "" if score is None else f"{100 * score:.1f}"


# --------------------------------------------------------------------------------------------- choosing a network


def _best(data: str) -> list[dict[str, Any]]:
    """Returns the best published weights of each model for a dataset, the best score first."""
    best: dict[str, dict[str, Any]] = {}
    for model, _, entry in _weights():
        meta = entry.meta
        score = meta["metrics"].get("miou")
        if meta["data"] != data or score is None or score <= best.get(model, {"miou": 0})["miou"]:
            continue
        best[model] = {"model": model, "miou": score, "ms": meta["time"] * 1000, "params": MODELS[model].params}
    return sorted(best.values(), key=lambda row: -row["miou"])


def _front(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the networks that no other one beats in score and latency at once."""
    return [row for row in rows if not any(o["miou"] > row["miou"] and o["ms"] <= row["ms"] for o in rows)]


def _choice_table() -> str:
    lines = []
    for data in ("Cityscapes", "ADE20K"):
        lines += [f"**{data}**", "", "| network | mIoU | ms | params |", "|---|---:|---:|---:|"]
        for row in _front(_best(data)):
            size = f"{row['params'] / 1e6:.1f} M"
            lines.append(f"| `{row['model']}` | {_percent(row['miou'])} | {row['ms']:.0f} | {size} |")
        lines.append("")
    return "\n".join(lines)


def _with_table(text: str, table: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"docs/howto/choosing.md lacks the marks of the table, {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{table}\n{end}{after}"


_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 900, 520, 64, 24, 24, 56


def _chart(rows: list[dict[str, Any]]) -> str:
    """Returns an SVG: latency (log) and score of each network as a disc whose area is the number of parameters."""
    low, high = math.log10(min(r["ms"] for r in rows) / 1.4), math.log10(max(r["ms"] for r in rows) * 1.6)
    bottom, top = 62.0, 83.0
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(ms: float) -> float:
        return _LEFT + (math.log10(ms) - low) / (high - low) * plot_width

    def y(score: float) -> float:
        return _TOP + (top - 100 * score) / (top - bottom) * plot_height

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="13">',
        "<title>Published mIoU on Cityscapes, latency on two CPU cores; the area is the number of parameters</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="#ffffff"/>',
    ]
    for score in range(65, 81, 5):
        at = y(score / 100)
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#e3e3e8"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#444">{score}</text>')
    for ms in (20, 50, 100, 200, 500, 1000, 2000, 5000):
        if low < math.log10(ms) < high:
            parts.append(f'<path d="M{x(ms):.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#e3e3e8"/>')
            parts.append(
                f'<text x="{x(ms):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle" fill="#444">{ms}</text>'
            )
    parts += [
        f'<text x="{_LEFT + plot_width / 2:.0f}" y="{_HEIGHT - 12}" text-anchor="middle" fill="#222">'
        "ms per 512x1024 image, two CPU cores (log scale)</text>",
        f'<text transform="translate(18 {_TOP + plot_height / 2:.0f}) rotate(-90)" text-anchor="middle" fill="#222">'
        "published mIoU on Cityscapes val, %</text>",
    ]
    front = {row["model"] for row in _front(rows)}
    for row in sorted(rows, key=lambda r: -r["params"]):
        radius = 2.4 * math.sqrt(row["params"] / 1e6)
        color = "#3f51b5" if row["model"] in front else "#9aa0ad"
        label = f"{row['model']}: {_percent(row['miou'])} %, {row['ms']:.0f} ms, {row['params'] / 1e6:.1f} M parameters"
        parts.append(
            f'<circle cx="{x(row["ms"]):.1f}" cy="{y(row["miou"]):.1f}" r="{max(radius, 3):.1f}" fill="{color}" '
            f'fill-opacity="0.35" stroke="{color}"><title>{escape(label)}</title></circle>'
        )
    above = False  # labels of neighbors alternate, so that they do not cover each other
    for row in rows:
        if row["model"] in front:
            shift = max(2.4 * math.sqrt(row["params"] / 1e6), 3) + (6 if above else 15)
            at = y(row["miou"]) + (-shift if above else shift)
            parts.append(
                f'<text x="{x(row["ms"]):.1f}" y="{at:.1f}" text-anchor="middle" fill="#1a237e" '
                f'font-weight="600" font-size="12">{escape(row["model"])}</text>'
            )
            above = not above
    return "\n".join([*parts, "</svg>"]) + "\n"


# ---------------------------------------------------------------------------------------- commands and datasets


def _commands() -> str:
    lines = [
        "# Commands",
        "",
        _WRITTEN,
        "`seg` lists the commands of the packages that are installed. `seg COMMAND --help` prints the options of one, "
        "with examples.",
        "",
        "| command | package | what |",
        "|---|---|---|",
    ]
    found = []
    for package in ("seg_core", "seg_models", "seg_datasets", "seg_train"):
        commands = getattr(importlib.import_module(f"{package}.catalog"), "COMMANDS", {})
        found += [(name, package, entry.summary) for name, entry in commands.items()]
    lines += [f"| `seg {name}` | {TITLES[package]} | {summary} |" for name, package, summary in sorted(found)]
    lines += [
        "",
        "- `-s KEY=VALUE` sets one key of a config, or one option of a dataset; it may be repeated.",
        "- `--json [FILE]` writes what a command prints as data.",
        "- Exit codes: 0 is success, 1 means findings or failures, 2 a wrong command line, 130 Ctrl-C.",
        "- `SEG_OFFLINE=1` forbids downloads, `SEG_CACHE` names the folder of caches, `TORCH_HOME` that of weights.",
        "",
    ]
    return "\n".join(lines)


def _datasets() -> str:
    lines = [
        "# Datasets",
        "",
        _WRITTEN,
        "`get_dataset(NAME, root, split=...)` reads the official layout of a dataset; `seg datasets show NAME` prints "
        "the folders that it expects, and `seg datasets fake NAME DIR` writes a small invented tree of the same names, "
        "to try things on. The files of most datasets must be downloaded by you, since their licenses ask for an "
        "agreement; those with a yes under *download* are fetched by `download=True`, or by "
        "`seg datasets download NAME DIR`.",
        "",
        "| dataset | classes | what | splits | download |",
        "|---|---:|---|---|---|",
    ]
    names = sorted(DATASETS, key=str.lower)
    for name in names:
        entry = DATASETS[name]
        classes = "yours" if entry.label_set is None else str(resolve_metadata(entry.label_set).num_classes)
        link = name if entry.label_set is None or name == "Shapes" else f"[{name}](#{name.lower()})"
        fetched = "yes" if entry.download else ""
        lines.append(f"| {link} | {classes} | {entry.summary} | {', '.join(entry.splits)} | {fetched} |")
    lines += [
        "",
        "[Your own data](howto/own-data.md) needs no dataset class: `FolderDataset` reads folders of images and masks.",
        "",
    ]
    for name in names:
        entry = DATASETS[name]
        if entry.label_set is None or name == "Shapes":
            continue
        metadata = resolve_metadata(entry.label_set)
        lines += [f"## {name}", "", f"{entry.summary[0].upper()}{entry.summary[1:]}.", ""]
        facts = [("source", metadata.source), ("license", metadata.license), ("cite", metadata.citation)]
        lines += [f"- {what}: {_linked(text)}" for what, text in facts if text]
        lines += [f"- {metadata.num_classes} classes: {', '.join(metadata.labels)}", ""]
    return "\n".join(lines)


def _linked(text: str) -> str:
    return f"<{text}>" if text.startswith("http") and " " not in text else text


if __name__ == "__main__":
    raise SystemExit(main())
