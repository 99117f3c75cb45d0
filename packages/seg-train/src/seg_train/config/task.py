"""What the task of a dataset asks of a config: the loss, and weights of classes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import BINARY, MULTICLASS
from seg_train.config.schema import CriterionSection, TrainConfig

__all__ = ["default_loss", "losses_of", "task_problems", "weights_problem", "with_loss_of_task"]

_CROSS_ENTROPY, _BINARY_CROSS_ENTROPY = "CrossEntropyLoss", "BinaryCrossEntropyLoss"


def default_loss(task: str) -> str:
    """Returns the name of the loss of a config without `criterion.name`."""
    return _CROSS_ENTROPY if task == MULTICLASS else _BINARY_CROSS_ENTROPY


def losses_of(criterion: CriterionSection, tasks: Sequence[str]) -> list[str]:
    """Returns the name of the main loss, or without `criterion.name` the defaults of all tasks."""
    if "name" in criterion.model_fields_set:
        return [criterion.name]
    return list(dict.fromkeys(map(default_loss, tasks)))


def with_loss_of_task(config: TrainConfig, metadata: DatasetMetadata) -> TrainConfig:
    """Returns the config that names the loss of the dataset's task, if it names none itself."""
    name = default_loss(metadata.task)
    if "name" in config.criterion.model_fields_set or config.criterion.name == name:
        return config
    return config.model_copy(update={"criterion": config.criterion.model_copy(update={"name": name})})


def task_problems(
    key: str, name: str, params: Mapping[str, Any], metadata: DatasetMetadata, *, is_main: bool = False
) -> Iterator[str]:
    """Yields what is wrong with a loss, and those in it, for the task of a dataset.

    Args:
        key: of the loss, such as `"criterion"`.
        name: of the loss.
        params: its params.
        metadata: of the dataset.
        is_main: whether it is the main loss, which has a default.
    """
    task, wanted = metadata.task, default_loss(metadata.task)
    if name in (_CROSS_ENTROPY, _BINARY_CROSS_ENTROPY) and name != wanted:
        yield (
            f'{key}.name = "{name}": is not for the task "{task}" of {metadata.name}; set {key}.name = "{wanted}"'
            + ", or remove the key, since that is its default" * is_main
        )
    losses = params.get("losses")
    if name == "CombinedLoss" and isinstance(losses, list):
        for place, part in enumerate(losses):
            if isinstance(part, Mapping) and isinstance(part.get("name"), str):
                inner = part.get("params")
                known = inner if isinstance(inner, Mapping) else {}
                yield from task_problems(f"{key}.params.losses[{place}]", part["name"], known, metadata)


def weights_problem(weights: object, metadata: DatasetMetadata) -> str | None:
    """Returns what is wrong with `criterion.class_weights` for the task of a dataset, or None."""
    if weights == "none" or metadata.task == MULTICLASS:
        return None
    factor = 'criterion = { name = "BinaryCrossEntropyLoss", params = { pos_weight = 5.0 } }'
    if metadata.task == BINARY:
        return (
            f'criterion.class_weights: {metadata.name} has the task "binary" with one class, which has no other to be '
            f"weighed against; remove the key, and set pos_weight, the factor of the object's pixels: {factor}"
        )
    if isinstance(weights, str):
        return (
            f'criterion.class_weights = "{weights}": a scheme weighs classes that share the pixels, but '
            f'{metadata.name} has the task "multilabel", whose classes overlap; give one number per class, or set '
            f"pos_weight, the factor of the pixels with a class: {factor}"
        )
    return None
