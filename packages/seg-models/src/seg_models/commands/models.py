"""`seg models`: lists the models of the installed packages, and shows one of them, or a file. Names need no torch."""

import argparse
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from seg_core.catalog import ModelEntry, WeightsEntry
from seg_core.command import Command
from seg_core.errors import InvalidArgumentError, UnknownNameError, UsageError, nearest
from seg_core.model_files.load_network import looks_like_path
from seg_core.own_code import add_import_option, import_modules
from seg_core.progress import print_table
from seg_core.registry import MODELS
from seg_models.factory import list_models

__all__ = ["MODELS_COMMAND"]

# how a file is verified when it is downloaded
_VERIFIED = {
    "sha256": "by its published sha256",
    "prefix": "by the first digits of its sha256, which are in its name",
    "first-use": "by its first download; no hash is published, and this toolkit was not tested with the file",
}
_HEADER = ("name", "params", "MACs", "weights", "best mIoU", "")
_ALIGN = "lrrrrl"


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", metavar="NETWORK", help="only models of this network, such as PSPNet")
    parser.add_argument("--backbone", metavar="NAME", help="only models on this backbone, such as resnet18")
    parser.add_argument(
        "--data", metavar="NAME", help="only models with weights for this dataset or label set, such as Cityscapes"
    )
    parser.add_argument(
        "--max-params", metavar="MILLIONS", type=float, help="only models with at most this many million parameters"
    )
    parser.add_argument(
        "--sort",
        choices=("name", "params", "macs", "score"),
        default="name",
        help="order of the list: by name (the default), smallest params or MACs first, or best score first",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("show", help="show a model: facts, outputs, variants, weights; or what is in a file")
    show.add_argument("name", metavar="NAME|FILE|RUN", help="a name from `seg models`, a model file, checkpoint or run")
    add_import_option(show)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.action == "show":
        import_modules(arguments.imports)
        print(_describe(arguments.name))
        return 0
    names = _sorted(_selected(arguments), arguments.sort, arguments.data)
    print_table(_HEADER, [_row(name, arguments.data) for name in names], _ALIGN)
    print(f"\n{_footer()}")
    return 0


def _selected(arguments: argparse.Namespace) -> list[str]:
    """Returns the names of the models that match all filters.

    Raises:
        UnknownNameError: if a filter matches no model.
    """
    entries = {name: entry for name in list_models() if isinstance(entry := MODELS.entry(name), ModelEntry)}
    data = {name: {called for w in entry.weights.values() for called in _data_of(w)} for name, entry in entries.items()}
    kept = list_models()
    for option, values in (
        ("family", {name: {entry.family} for name, entry in entries.items()}),
        ("backbone", {name: {entry.backbone} - {None} for name, entry in entries.items()}),
        ("data", data),
    ):
        wanted = getattr(arguments, option)
        if wanted is None:
            continue
        known = sorted({str(value) for found in values.values() for value in found})
        if wanted.lower() not in (value.lower() for value in known):
            raise UnknownNameError(
                f"--{option} {wanted!r} matches no model.{nearest(wanted, known)} Known: {', '.join(known)}"
            )
        kept = [n for n in kept if wanted.lower() in (str(value).lower() for value in values.get(n, ()))]
    if arguments.max_params is not None:
        if not arguments.max_params > 0:
            raise UsageError(f"--max-params {arguments.max_params} must be a number of millions above 0, such as 10")
        kept = [n for n in kept if n in entries and entries[n].params <= arguments.max_params * 1e6]
    return kept


def _data_of(weights: WeightsEntry) -> tuple[str, str]:
    """Returns the names of the data that weights were trained on: its own and that of the label set."""
    return str(weights.meta.get("data", "")), weights.label_set


def _best_score(name: str, data: str | None) -> tuple[float, str] | None:
    """Returns the best published mIoU of a model (one scale, no flips) and its dataset; None if none is published.

    Args:
        name: name of the model.
        data: only weights for this dataset or label set count; None counts all.
    """
    entry = MODELS.entry(name)
    scores = [
        (float(weights.meta["metrics"]["miou"]), _data_of(weights)[0] or weights.label_set)
        for weights in (entry.weights.values() if isinstance(entry, ModelEntry) else ())
        if "miou" in weights.meta.get("metrics", {})
        and (data is None or data.lower() in (called.lower() for called in _data_of(weights)))
    ]
    return max(scores, default=None)


def _sorted(names: Sequence[str], order: str, data: str | None) -> list[str]:
    """Returns names in the order that `--sort` names; those without a value come last, equal ones by name."""

    def value(name: str) -> float:
        entry = MODELS.entry(name)
        if order == "score":
            best = _best_score(name, data)
            return math.inf if best is None else -best[0]
        if order == "name" or not isinstance(entry, ModelEntry):
            return math.inf
        return entry.params if order == "params" else entry.macs

    return sorted(names, key=lambda name: (value(name), name))


def _row(name: str, data: str | None) -> tuple[str, ...]:
    entry = MODELS.entry(name)
    if not isinstance(entry, ModelEntry):
        return name, "?", "?", "?", "?", ""
    score, dataset = _best_score(name, data) or (None, "")
    shown = "-" if score is None else f"{score:.3f}"
    return name, _millions(entry.params), _billions(entry.macs), str(len(entry.weights)), shown, dataset


def _footer() -> str:
    names = [name for name in MODELS if getattr(MODELS.entry(name), "any_backbone", False)]
    networks = textwrap.fill(", ".join(names), 98)
    return (
        "params at 21 classes, MACs of one 3x512x1024 image, both without auxiliary heads.\n"
        "best mIoU: the highest that is published for the model's weights, at one scale. Scores on\n"
        "different datasets do not compare; --data NAME shows those on one. -: none is published.\n"
        f"On any backbone, with create(NETWORK, backbone=NAME):\n{networks}.\n"
        "`seg models show NAME` describes one model and lists all its weights and scores."
    )


def _describe(name: str) -> str:
    if not name.strip():
        raise UsageError("NAME is empty; `seg models` lists the names")
    if name in MODELS or not (looks_like_path(name) or Path(name).is_dir()):
        return _details(name)
    from seg_models.commands.model_facts import describe_file  # imports torch

    try:
        return describe_file(name)
    except InvalidArgumentError as error:
        raise UsageError(str(error)) from error


def _details(name: str) -> str:
    """Returns the output of `seg models show NAME`."""
    entry = MODELS.entry(name)
    lines = [f"{name}: {entry.summary}" if entry.summary else name, ""]
    if not isinstance(entry, ModelEntry):
        return "\n".join([*lines, f"built by  {entry.target}"])
    facts = [("network", entry.family)]
    if entry.any_backbone:
        facts.append(("backbone", f'any: create("{name}", backbone="resnet50"), or "timm:" and a timm name'))
    else:
        facts += [
            ("backbone", entry.backbone or "none"),
            ("params", f"{entry.params:,} at 21 classes, without auxiliary heads"),
            ("MACs", f"{_billions(entry.macs)} for one 3x512x1024 image"),
            ("min size", f"{entry.min_size}x{entry.min_size} pixels"),
        ]
    facts += [
        ("outputs", ", ".join(entry.outputs) + (" (auxiliary ones with aux_loss=True)" if entry.outputs[1:] else "")),
        ("variants", ", ".join(entry.variants)),
        ("built by", entry.target),
        ("package", MODELS.origin(name)),
    ]
    lines += [f"{title:<9} {text}" for title, text in facts]
    if not entry.weights:
        return "\n".join([*lines, "weights   none published"])
    lines += ["", f"weights ({entry.weights_enum})"]
    for member, weights in entry.weights.items():
        default = "  (DEFAULT)" if member == entry.default_weights else ""
        scores = ", ".join(f"{k} {v:.3f}" for k, v in weights.meta.get("metrics", {}).items())
        lines += [f"  {member}{default}", f"    classes   {weights.label_set}"]
        for title, text in (
            ("scores", scores),
            ("protocol", weights.meta.get("protocol", "")),
            ("size", _size(weights)),
            ("variant", weights.variant),
            ("key rules", weights.key_rules),
            ("verified", _VERIFIED[weights.verified]),
            ("note", weights.meta.get("note", "")),
            ("source", weights.meta.get("source", "")),
            ("license", weights.meta.get("license", "")),
            ("file", weights.url),
        ):
            if text:
                lines.append(f"    {title:<9} {text}")
    return "\n".join(lines)


def _size(weights: WeightsEntry) -> str:
    params, macs = weights.meta.get("num_params"), weights.meta.get("macs")
    if params is None or macs is None:
        return ""
    heads = ", with auxiliary heads" if weights.aux else ""
    size = f"{_millions(params)} parameters, {_billions(macs)} MACs{heads}"
    if "time" not in weights.meta:
        return size
    cost = f"{weights.meta['time']:.2f} s, {weights.meta['memory'] / 2**20:.0f} MiB"
    return f"{size}; {cost} for {weights.meta['measured']}"


def _millions(number: int) -> str:
    return f"{number / 1e6:.2f} M"


def _billions(number: int) -> str:
    return f"{number / 1e9:.1f} G"


MODELS_COMMAND = Command(
    configure=_configure,
    run=_run,
    description="Lists the models of the installed packages; `show NAME` shows one of them, `show FILE` a model file.",
    epilog="examples:\n  seg models\n  seg models --data Cityscapes --max-params 10 --sort score\n  "
    "seg models show fcn_resnet50\n  seg models show runs/camvid",
)
