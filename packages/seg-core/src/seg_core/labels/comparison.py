"""Compares the classes that a network was trained on with those of a dataset."""

from seg_core.errors import InvalidArgumentError, counted
from seg_core.labels.channels import ImageChannels
from seg_core.labels.metadata import DatasetMetadata, list_label_sets, resolve_metadata
from seg_core.labels.tasks import MULTICLASS

__all__ = [
    "ONE_CHANNEL_ADVICE",
    "check_several_classes",
    "check_several_outputs",
    "difference_of_channels",
    "difference_of_classes",
    "family_of",
]

ONE_CHANNEL_ADVICE = (
    "for a network of one channel, trained with binary cross-entropy, describe its class by metadata of a binary task, "
    'DatasetMetadata(name, [label], task="binary"), which Predictor, save_model and --classes take; in a loop of your '
    "own pass thresholds=0.5 (to predict_tta task='binary')"
)


def difference_of_classes(
    network: DatasetMetadata | int, dataset: DatasetMetadata, other: str = "the dataset"
) -> str | None:
    """Returns how the classes of a network differ from those of a dataset, or None if they do not, as far as known.

    Classes are compared by index, their names as they are written.

    Args:
        network: classes of the network, or only their number.
        dataset: classes of the dataset.
        other: what the message calls it.

    Returns:
        Both numbers of classes, and the first name that differs.
    """
    if isinstance(network, int):
        if network == dataset.num_classes:
            return None
        own = "1 class, which it predicts everywhere," if network == 1 else f"{network} classes"
        text = f"the network has {own} but {other} {dataset.num_classes} ({dataset.name})"
        if (related := _related(network, dataset)) is None:
            return text
        return f"{text}; {related.name} has {network}, and {_first_name(related, dataset, f'in {related.name}', other)}"
    if network.labels == dataset.labels:
        return None
    first = _first_name(network, dataset, "for the network", other)
    if network.num_classes == dataset.num_classes:
        return (
            f"the network ({network.name}) and {other} ({dataset.name}) have "
            f"{counted(dataset.num_classes, 'class', 'classes')} each, but {first}"
        )
    own = counted(network.num_classes, "class", "classes")
    return f"the network has {own} ({network.name}) but {other} {dataset.num_classes} ({dataset.name}), and {first}"


def difference_of_channels(
    one: ImageChannels, another: ImageChannels, name: str = "the network", other: str = "the dataset"
) -> str | None:
    """Returns how the channels of a network differ from those of a dataset, or None if a network takes both alike.

    Channels are compared by their number, names, order and range; not by their mean and standard deviation, or by where
    they are in files.

    Args:
        one: channels that a network was trained on.
        another: channels of the dataset.
        name: what the message calls the first.
        other: what the message calls the second.

    Returns:
        Both channels, and the first difference unless it is their number.
    """
    if (one.names, one.ranges) == (another.names, another.ranges):
        return None
    text = f"{name} has {one}, but {other} has {another}"
    if one.count != another.count:
        return text
    for index, (own, theirs) in enumerate(zip(one.names, another.names, strict=True)):
        if own != theirs:
            return f"{text}: channel {index} is {own!r} in {name} and {theirs!r} in {other}"
    for label, own_range, their_range in zip(one.names, one.ranges, another.ranges, strict=True):
        if own_range != their_range:
            shown = ["{:g} to {:g}".format(*pair) for pair in (own_range, their_range)]
            return f"{text}: the range of {label!r} is {shown[0]} in {name} and {shown[1]} in {other}"
    return text


def family_of(name: str) -> tuple[DatasetMetadata, ...]:
    """Returns the known label sets whose names begin as this one does, itself included: other classes of the same data.

    >>> [metadata.name for metadata in family_of("iSAID15")]
    ['iSAID', 'iSAID15']
    """
    known = list_label_sets()
    if name not in known:
        return ()
    shortest = min((other for other in known if name.startswith(other)), key=len)
    return tuple(resolve_metadata(other) for other in known if other.startswith(shortest))


def check_several_classes(metadata: DatasetMetadata) -> None:
    """Raises InvalidArgumentError if a multiclass task has only one class; the message says what to do."""
    if metadata.num_classes > 1 or metadata.task != MULTICLASS:
        return
    label = metadata.labels[0]
    raise InvalidArgumentError(
        f"{metadata.name} has one class, {label!r}, but at least two are needed: networks choose one of the classes "
        "for each pixel, and the only one always wins, with a loss of 0 and an IoU of 1. Beside labels = "
        f'[{_quoted(label)}] write task = "binary", with masks of 0 for the background and 1 for {label}; or give the '
        f'rest of the image a class of its own: labels = ["background", {_quoted(label)}], with the same masks'
    )


def check_several_outputs(metadata: DatasetMetadata) -> None:
    """Raises InvalidArgumentError if a network has only one class to choose from; the message says what to do.

    Of a task other than multiclass one class is enough.
    """
    if metadata.num_classes > 1 or metadata.task != MULTICLASS:
        return
    label = metadata.labels[0]
    raise InvalidArgumentError(
        f"{metadata.name} has one class, {label!r}: a prediction is one of the classes for each pixel, so every pixel "
        f'would be that one; {ONE_CHANNEL_ADVICE}; or train with two classes: labels = ["background", {_quoted(label)}]'
    )


def _first_name(network: DatasetMetadata, dataset: DatasetMetadata, where: str, other: str) -> str:
    """Returns the first difference of names; `where` says whose the first ones are, `other` whose the second."""
    for index, (own, another) in enumerate(zip(network.labels, dataset.labels, strict=False)):
        if own != another:
            return f"class {index} is {own!r} {where} and {another!r} in {other}"
    index = min(network.num_classes, dataset.num_classes)
    longer, missing = (network, f"in {other}") if network.num_classes > index else (dataset, where)
    return f"class {index}, {longer.labels[index]!r}, is missing {missing}"


def _related(count: int, dataset: DatasetMetadata) -> DatasetMetadata | None:
    """Returns the label set of the same family with that number of classes: for CityscapesClass and 34 Cityscapes."""
    return next((found for found in family_of(dataset.name) if found.num_classes == count), None)


def _quoted(label: str) -> str:
    return '"' + label.replace("\\", "\\\\").replace('"', '\\"') + '"'
