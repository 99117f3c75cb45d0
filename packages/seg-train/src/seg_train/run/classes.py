"""Compares the classes of a network with those of the dataset that it is trained or evaluated on."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from seg_core.checks import is_integer
from seg_core.errors import ConfigError, UserError
from seg_core.labels.comparison import difference_of_classes
from seg_core.labels.conversion import label_map_between
from seg_core.labels.metadata import DatasetMetadata, list_label_sets
from seg_core.model_files.build_spec import OBJECT, BuildSpec
from seg_core.model_files.fit import unwrap
from seg_core.model_files.reading import ModelInfo
from seg_core.registry import MODELS
from seg_core.spec import takes

__all__ = ["classes_of", "comparing_classes", "settle_classes"]


def classes_of(network: nn.Module) -> DatasetMetadata | int | None:
    """Returns the classes of a network, their number if the names are not known, or None if neither is.

    They come from its weights or its model file (`model_info`), else from its builder (`build_spec`).
    """
    network = unwrap(network)
    info, spec = getattr(network, "model_info", None), getattr(network, "build_spec", None)
    if isinstance(info, ModelInfo):
        return info.metadata
    count = spec.arguments.get("num_classes") if isinstance(spec, BuildSpec) else None
    return count if is_integer(count) else None


@contextlib.contextmanager
def comparing_classes(network: nn.Module, dataset: DatasetMetadata) -> Iterator[None]:
    """Warns if the classes of a network that is evaluated are not those of the dataset.

    A network of which nothing is known is compared by the channels of the first logits that it returns meanwhile.

    Warns:
        UserWarning: with both numbers of classes, the first name that differs, and what to do.
    """
    classes = classes_of(network)
    if classes is not None:
        _warn_if_different(classes, dataset)
        yield
        return

    def compare(module: nn.Module, arguments: object, outputs: object) -> None:  # noqa: ARG001 - as torch calls it
        logits = outputs.get("out") if isinstance(outputs, Mapping) else outputs
        if isinstance(logits, Tensor) and logits.ndim == 4:
            handle.remove()
            _warn_if_different(logits.shape[1], dataset)

    handle = network.register_forward_hook(compare)
    try:
        yield
    finally:
        handle.remove()


def settle_classes(
    network: nn.Module, dataset: DatasetMetadata, warn: Callable[[str], Any] | None, builder: str
) -> None:
    """Compares the classes of a network, as built for a run, with the dataset's, which it has from then on.

    Args:
        network: as its builder returned it; `model_info`, what is known of its weights, is removed.
        dataset: classes of the run.
        warn: called with a warning if the weights are those of as many other classes; None for no warning.
        builder: name of the network's builder in the config.

    Raises:
        ConfigError: if the network has another number of classes.
    """
    classes = classes_of(network)
    found = None if classes is None else difference_of_classes(classes, dataset)
    count = classes.num_classes if isinstance(classes, DatasetMetadata) else classes
    if found is not None and count != dataset.num_classes:
        raise ConfigError(
            f"model.name: {found}, although its builder was called with num_classes={dataset.num_classes}; correct the "
            "builder"
        )
    if found is not None and warn is not None:
        warn(
            f"model.weights: {found}. The layer that predicts the classes is kept, so it starts with what it learned "
            f"of others.{_advice_on_names(builder, dataset)}"
        )
    if getattr(network, "model_info", None) is not None:
        network.model_info = None  # type: ignore[assignment]  # a plain attribute; its scores are not of this run


def _advice_on_names(builder: str, dataset: DatasetMetadata) -> str:
    if builder == OBJECT or not takes(MODELS.get(builder), "class_names"):  # such as a builder of the user's own
        return ""
    return (
        " To keep only what belongs to classes of the same name, set model.params.class_names = "
        f"{_listed(dataset.labels)}"
    )


def _warn_if_different(classes: DatasetMetadata | int, dataset: DatasetMetadata) -> None:
    found = difference_of_classes(classes, dataset)
    if found is not None:
        warnings.warn(f"{found}; they are compared by index. {_advice(classes, dataset)}", stacklevel=5)


def _advice(classes: DatasetMetadata | int, dataset: DatasetMetadata) -> str:
    if isinstance(classes, int):
        return (
            f"Build the network with num_classes={dataset.num_classes}, or take a dataset with the network's "
            f"{classes} classes"
        )
    if classes.name not in list_label_sets():
        return "Take a dataset with the classes that the network was trained on"
    try:
        label_map_between(dataset, classes)
    except UserError:
        return f"Take a dataset with the classes of {classes.name}, on which the network was trained"
    return f'Open the dataset with label_set="{classes.name}", which converts its classes to the network\'s'


def _listed(labels: tuple[str, ...]) -> str:
    shown = ", ".join(f'"{label}"' for label in labels[:3])
    return f"[{shown}, ...], all labels of the dataset" if len(labels) > 3 else f"[{shown}]"
