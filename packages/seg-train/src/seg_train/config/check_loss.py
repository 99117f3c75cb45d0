"""Checks the losses of a config: their names, their params, and what they need of dataset and network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seg_core.catalog import ModelEntry
from seg_core.errors import InvalidArgumentError, UnknownNameError, UserError, nearest
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import TASKS
from seg_core.metrics.class_weights import class_weights
from seg_core.registry import LOSSES, MODELS
from seg_core.spec import takes
from seg_train.config import params
from seg_train.config.names import known
from seg_train.config.schema import CriterionSection, ModelSection
from seg_train.config.task import losses_of, task_problems, weights_problem
from seg_train.losses.checking import checked_weight

__all__ = ["check_criterion", "check_outputs"]


def check_criterion(criterion: CriterionSection, metadata: DatasetMetadata | None, problems: list[str]) -> None:
    """Checks the losses and the class weights, as far as the task and the classes are known."""
    weights = criterion.class_weights
    tasks = TASKS if metadata is None else (metadata.task,)
    told: list[list[str]] = []
    for name in losses_of(criterion, tasks):  # without a name one of them is the loss
        told.append([])
        wrong_task = (
            [] if metadata is None else list(task_problems("criterion", name, criterion.params, metadata, is_main=True))
        )
        if wrong_task:
            told[-1] += wrong_task
            continue
        loss = _check_loss("criterion", name, criterion.params, tasks, told[-1])
        if loss is not None and weights != "none" and not takes(loss, "weight"):
            told[-1].append(f"criterion.class_weights: {name} takes no class weights; remove the key")
        if not told[-1]:
            break
    if told[-1]:
        problems += told[0]
    problem = None if metadata is None else weights_problem(weights, metadata)
    if problem is not None:
        problems.append(problem)
    elif isinstance(weights, str) and weights != "none":
        try:
            class_weights([1], weights)
        except UnknownNameError as error:
            problems.append(
                f'criterion.class_weights = "{weights}": {error}, "none", or a list of one number per class'
            )
        except InvalidArgumentError:
            pass  # the scheme is known and needs more than plain counts
    elif not isinstance(weights, str):
        try:
            checked_weight(weights, "criterion.class_weights")
        except InvalidArgumentError as error:
            problems.append(str(error))
        if metadata is not None and len(weights) != metadata.num_classes:
            problems.append(
                f"criterion.class_weights has {len(weights)} numbers but {metadata.name} has {metadata.num_classes} "
                f"classes; give one number for each of {', '.join(metadata.labels)}"
            )
    for name, output in criterion.outputs.items():
        if output.name is not None:
            key = f"criterion.outputs.{name}"
            wrong_task = [] if metadata is None else list(task_problems(key, output.name, output.params, metadata))
            problems += wrong_task
            if not wrong_task:
                _check_loss(key, output.name, output.params, tasks, problems)


def _check_loss(
    key: str, name: str, given: Mapping[str, Any], tasks: Sequence[str], problems: list[str]
) -> Callable[..., Any] | None:
    """Checks a loss and the losses in it for any of the tasks; returns its class, or None if there is no such loss."""
    loss = known(LOSSES, f"{key}.name", name, problems)
    if loss is None:
        return None
    found = len(problems)
    problems.extend(params.LOSS.problems(key, name, loss, given))
    if name == "CombinedLoss" and isinstance(given.get("losses"), list):
        for place, part in enumerate(given["losses"]):
            if isinstance(part, Mapping) and isinstance(part.get("name"), str):
                inner = part.get("params", {})
                if isinstance(inner, Mapping):
                    _check_loss(f"{key}.params.losses[{place}]", part["name"], inner, tasks, problems)
    if found == len(problems):
        # the dataset has another value, which is as good here
        options: dict[str, Any] = {"ignore_index": 255} if takes(loss, "ignore_index") else {}
        wrong = []
        for task in tasks if takes(loss, "task") else tasks[:1]:
            try:
                loss(**{**({"task": task} if takes(loss, "task") else {}), **options, **given})
                return loss
            except (UserError, TypeError) as error:
                wrong.append(f"{key}.params: {error}")
        problems.append(wrong[0])
    return loss


def check_outputs(criterion: CriterionSection, model: ModelSection, problems: list[str]) -> None:
    """Checks that the network has the outputs that the losses need."""
    entry = MODELS.entry(model.name)
    if not isinstance(entry, ModelEntry) or not entry.outputs:
        return
    if model.aux_loss and len(entry.outputs) == 1:
        problems.append(f"model.aux_loss = true: {model.name} has no auxiliary heads; remove it")
    given = entry.outputs if model.aux_loss else entry.outputs[:1]
    wanted = {f"criterion.outputs.{name}": name for name in criterion.outputs}
    if criterion.boundary_aware_weight:
        wanted[f"criterion.boundary_aware_weight = {criterion.boundary_aware_weight}"] = "boundary"
    default = CriterionSection.model_fields["aux_weight"].default
    if criterion.aux_weight not in (0, default) and not any(name.startswith("aux") for name in given):
        # any auxiliary output is sufficient
        first = next((name for name in entry.outputs if name.startswith("aux")), "aux")
        wanted[f"criterion.aux_weight = {criterion.aux_weight}"] = first
    for key, name in wanted.items():
        if name in given:
            continue
        if name in entry.outputs:
            problems.append(f"{key}: {model.name} returns {name} only with auxiliary heads; set model.aux_loss = true")
        else:
            hint = nearest(name, entry.outputs)
            problems.append(f"{key}: {model.name} has no output {name!r}.{hint} It has: {', '.join(entry.outputs)}")
    problems.extend(
        f"criterion.outputs.{name} is missing: {model.name} returns {name} with model.aux_loss = true, which needs a "
        'loss; write for example {weight = 1.0, name = "BoundaryLoss"}, or weight = 0'
        for name in given
        if name != "out" and not name.startswith("aux") and name not in criterion.outputs
    )
