"""Classes and preprocessing of a network whose file does not describe them: `--classes`, or ids."""

import sys
from typing import TYPE_CHECKING, Any

from seg_core.errors import DatasetNotFoundError, InvalidArgumentError, UnknownNameError, UsageError, counted
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata

if TYPE_CHECKING:
    from torch import nn

__all__ = ["describe", "parse_classes"]


def parse_classes(text: str | None) -> DatasetMetadata | None:
    """Returns the classes that `--classes` names: a label set, or a .toml or .json file.

    Raises:
        UsageError: if there is no such label set or file, or the file does not hold valid classes.
        CorruptFileError: if the file cannot be read.
    """
    try:
        return None if text is None else resolve_metadata(text)
    except (DatasetNotFoundError, InvalidArgumentError, UnknownNameError) as error:
        raise UsageError(f"--classes: {error}") from error


def describe(network: "nn.Module", given: str, classes: DatasetMetadata | None, scale: float | None) -> dict[str, Any]:
    """Returns `metadata` and `preprocessing` of `Predictor` as far as the network does not bring them.

    Channels of the images that `--classes` describes count more than those of the network. A network without classes
    gets its ids as names, with generated colors; one without preprocessing ImageNet's mean and std. Both are said on
    stderr.

    Args:
        network: with `model_info` if its file or weights describe it.
        given: the user's words for the network, for messages.
        classes: those of `--classes`, or None.
        scale: of `--scale`, or None.

    Raises:
        UsageError: if the network has another number of classes than `--classes`, or no known number.
    """
    from seg_core.transforms.preprocessing import Preprocessing

    info = getattr(network, "model_info", None)
    spec = getattr(network, "build_spec", None)
    count = None if spec is None else spec.arguments.get("num_classes")
    if classes is not None and count not in (None, classes.num_classes):
        raise UsageError(
            f"--classes: {classes.name!r} has {counted(classes.num_classes, 'class', 'classes')}, but {given} has "
            f"{count}; name the classes that it was trained on"
        )
    options: dict[str, Any] = {} if classes is None else {"metadata": classes}
    described = None if classes is None or classes.channels.is_rgb8 else classes.channels
    if info is not None:
        if scale is None:
            return options
        known = info.preprocessing if described is None else info.preprocessing.for_channels(described)
        return options | {"preprocessing": known.with_resize({"scale": scale})}
    if described is not None and described.mean is not None and described.std is not None:
        return options | {
            "preprocessing": Preprocessing(described.mean, described.std, scale=scale, channels=described)
        }
    unknown = [
        "its preprocessing: using ImageNet's mean and std" + (", and the images' own size" if scale is None else "")
    ]
    if classes is None:
        if count is None:
            raise UsageError(
                f"{given} says neither its classes nor their number; name them with --classes FILE or DATASET"
            )
        options["metadata"] = DatasetMetadata("ids", tuple(map(str, range(count))), ignore_index=max(255, count))
        unknown.insert(
            0, f"its classes: writing ids 0 to {count - 1}, in generated colors (--classes FILE or DATASET names them)"
        )
    print(f"seg: {given} does not say {'; nor '.join(unknown)}", file=sys.stderr)
    return options | {"preprocessing": Preprocessing(scale=scale)}
