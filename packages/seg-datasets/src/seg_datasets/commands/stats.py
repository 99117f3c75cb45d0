"""`seg datasets stats`: prints the statistics of a dataset."""

import argparse
from typing import TYPE_CHECKING, Any

from seg_core.errors import UsageError, counted, nearest
from seg_core.labels.tasks import MULTICLASS
from seg_core.progress import print_table
from seg_datasets.commands.arguments import (
    TARGET_HELP,
    add_classes,
    add_json,
    check_json,
    classes_of,
    reading_progress,
    write_result,
)
from seg_datasets.reading.channel_text import channel_lines, channel_table

if TYPE_CHECKING:
    from seg_datasets.doctor.stats import DataStats, SplitStats

__all__ = ["color_text", "configure", "percent", "run", "size_range"]

_MOST_TOGETHER = 20  # classes; a wider table is not readable

_EPILOG = """\
Shares are of all pixels of the masks, ignored ones included. Mean and std (standard deviation) are those of red, green
and blue over all pixels, 0 to 1. Of other channels the values are those of the files: smallest, largest, those below
which 0.1 % and 99.9 % are, mean and std; with lines that describe the channels, for classes.toml. Class weights are
those of train, or else of the first split with masks. What a file holds is remembered, so that another run reads only
files that have changed.

Of a binary or multilabel task there are no class weights, and the JSON has the key task.

The JSON has the keys dataset, root, classes, ignore_index, splits (split -> images, sizes as [height, width], mean,
std, channels with name, range, min, low, high, max, mean and std of images that are not RGB, classes with name, pixels,
share and images, ignored, together: K x K numbers of images) and class_weights (split, and scheme -> K weights).

examples:
  seg datasets stats my_data --split train --split val
  seg datasets stats CamVid --root data/camvid --json stats.json
  seg datasets stats my_data --config --scheme enet
"""


def configure(actions: Any) -> None:
    """Adds the parser of this action to those of `seg datasets`."""
    parser = actions.add_parser(
        "stats",
        help="pixels and images per class, sizes, colors, co-occurrence, class weights",
        description="Counts pixels and images per class, and computes sizes, colors, co-occurrence and class weights.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="NAME|DIR", help=TARGET_HELP)
    parser.add_argument("--root", metavar="DIR", help="folder of a dataset that is given by name")
    parser.add_argument(
        "--split", action="append", metavar="SPLIT", help="a split; may be repeated (default: train, val and test)"
    )
    add_classes(parser)
    add_json(parser)
    parser.add_argument(
        "--config",
        action="store_true",
        help="print lines for a config instead of the tables: the class weights, and the channels of images that are "
        "not red, green and blue of 8 bits",
    )
    parser.add_argument(
        "--scheme", metavar="SCHEME", help="of the class weights that --config prints (median_frequency)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the statistics; returns the exit code."""
    from seg_core.metrics.class_weights import describe_schemes
    from seg_datasets.doctor.stats import stats

    check_json(arguments)
    if arguments.scheme is not None:
        if not arguments.config:
            raise UsageError("--scheme belongs to --config; without it the table shows the weights by every scheme")
        if arguments.scheme not in (known := describe_schemes()):
            hint = nearest(arguments.scheme, known)
            raise UsageError(f"--scheme must be one of {', '.join(known)}, got {arguments.scheme!r}.{hint}")
    if arguments.config and arguments.json is True:
        raise UsageError("--config and --json both print to stdout; add a FILE to --json")
    with reading_progress() as progress:
        found = stats(arguments.target, arguments.root, arguments.split, progress=progress, **classes_of(arguments))

    def show() -> None:
        if arguments.config:
            print(_config_lines(found, arguments.scheme or "median_frequency"))
        else:
            _show(found)

    write_result(arguments, found.to_dict(), show)
    return 0


# ---- tables ----------------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    """Returns a share in percent, with three decimals as rare classes need."""
    return f"{100 * share:.3f} %"


def size_range(split: "SplitStats") -> str:
    """Returns the sizes of images, as width x height."""
    texts = [f"{width}x{height}" for height, width in split.spread]
    if len(split.sizes) == 1:
        return f"all {texts[0]}"
    return f"{texts[0]} to {texts[2]}, median {texts[1]}, {len(split.sizes)} different"


def color_text(values: Any) -> str:
    """Returns the mean or the standard deviation of red, green and blue."""
    return " ".join(f"{value:.4f}" for value in values)


def _show(found: "DataStats") -> None:
    metadata = found.metadata
    place = "" if found.root is None else f" in {found.root}"
    what = counted(metadata.num_classes, "class", "classes")
    of_task = "" if metadata.task == MULTICLASS else f" of a {metadata.task} task"
    print(f"{found.name}{place}: {what}{of_task}, {metadata.ignore_index} is ignored\n")
    if metadata.channels.is_rgb8:
        print_table(
            ("split", "images", "width x height", "mean of red, green, blue", "std"),
            [
                (name, f"{split.num_images:,}", size_range(split), color_text(split.mean), color_text(split.std))
                for name, split in found.splits.items()
            ],
            "lrlll",
        )
    else:
        print_table(
            ("split", "images", "width x height"),
            [(name, f"{split.num_images:,}", size_range(split)) for name, split in found.splits.items()],
            "lrl",
        )
        _show_channels(found)
    with_masks = {name: split for name, split in found.splits.items() if split.has_masks}
    for name in found.splits.keys() - with_masks.keys():
        print(f"\n{name} has no masks.")
    if not with_masks:
        return
    print()
    _show_classes(found, with_masks)
    weights = found.all_weights()
    name = found.weights_split or ""
    if weights:
        print(f"\nclass weights by {name} (schemes of seg_core.class_weights and of criterion.class_weights)\n")
        rows = zip(metadata.labels, *weights.values(), strict=True)
        print_table(("class", *weights), [(label, *map(_weight, numbers)) for label, *numbers in rows])
        absent = [metadata.labels[index] for index in (with_masks[name].pixels == 0).nonzero()[0]]
        if absent:
            print(f"\n{_list(absent)}: in no mask of {name}, so the weights are arbitrary")
    if metadata.num_classes > 1:
        _show_together(found, name)


def _show_channels(found: "DataStats") -> None:
    print("\nvalues of the channels, over the pixels that hold data\n")
    rows = []
    for name, split in found.splits.items():
        for own in split.channels.rows() if split.channels is not None else ():
            numbers = (own[key] for key in ("min", "low", "high", "max", "mean", "std"))
            rows.append((name, own["name"], *(f"{number:.6g}" for number in numbers)))
    print_table(("split", "channel", "min", "0.1 %", "99.9 %", "max", "mean", "std"), rows, "llrrrrrr")
    if found.channels is not None:
        what = "suggested by the files and their values; correct it" if found.is_guessed else "as described"
        print(f"\nlines for classes.toml: {what}; mean and std are of values scaled from the range to 0 to 1\n")
        print(f"[channels]\n{channel_lines(found.channels)}")


def _show_classes(found: "DataStats", splits: "dict[str, SplitStats]") -> None:
    header = ["", "class"]
    rows = [[str(index), label] for index, label in enumerate(found.metadata.labels)]
    last = [str(found.metadata.ignore_index), "(ignored)"]
    for name, split in splits.items():
        header += [f"{name} pixels", "share", "images"]
        numbers = zip(split.pixels.tolist(), split.shares.tolist(), split.images.tolist(), strict=True)
        for row, (pixels, share, images) in zip(rows, numbers, strict=True):
            row += [f"{pixels:,}", percent(share), f"{images:,}"] if pixels else ["absent", "", ""]
        last += [f"{split.ignored:,}", percent(split.ignored_share), f"{split.ignored_images:,}"]
    print_table(header, [*rows, last], "rl" + "rrr" * len(splits))


def _show_together(found: "DataStats", name: str) -> None:
    labels = found.metadata.labels
    if len(labels) > _MOST_TOGETHER:
        print(f"\nimages that contain two classes: a table of {len(labels)} x {len(labels)}, see --json")
        return
    print(f"\nimages of {name} that contain both classes\n")
    rows = found.splits[name].together.tolist()
    print_table(
        ("", "class", *map(str, range(len(labels)))),
        [(str(index), label, *map(str, row)) for index, (label, row) in enumerate(zip(labels, rows, strict=True))],
        "rl" + "r" * len(labels),
    )


def _weight(value: float) -> str:
    return f"{value:.4f}"


def _list(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


# ---- lines for a config ----------------------------------------------------------------------------------------------


def _config_lines(found: "DataStats", scheme: str) -> str:
    name = found.weights_split
    weights = found.class_weights(scheme, name).tolist()
    assert name is not None  # otherwise there are no weights
    split = found.splits[name]
    absent = [label for label, pixels in zip(found.metadata.labels, split.pixels, strict=True) if not pixels]
    lines = [
        f"# {found.name} {name}, {split.num_images} images; classes: {', '.join(found.metadata.labels)}",
        f'# class_weights = "{scheme}" computes the same numbers at the start of a run on this data',
    ]
    if absent:
        lines.append(f"# in no mask: {', '.join(absent)}")
    if found.channels is not None:
        lines += ["[data.dataset.params]", f"channels = {channel_table(found.channels)}", ""]
    return "\n".join([*lines, "[criterion]", f"class_weights = [{', '.join(f'{weight:.6g}' for weight in weights)}]"])
