"""From the logits of a `Predictor` to its labels and scores, for the task of its metadata.

Labels of a multiclass task are ids (H, W), those of a binary task 0 and 1 (H, W), those of a multilabel task planes
(K, H, W) of 0 and 1.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import BINARY, MULTICLASS, MULTILABEL
from seg_core.metrics.argmax import Thresholds, argmax_labels, threshold_labels
from seg_core.metrics.decidable import check_decidable
from seg_core.metrics.thresholds import class_thresholds
from seg_core.model_files.reading import ModelInfo
from seg_models.inference.classes import kept_classes
from seg_models.inference.outputs import top_probabilities
from seg_models.inference.regions import ignore_invalid, remove_small_regions

__all__ = ["decide", "finish", "labels_shape", "thresholds_of", "without_others"]


def thresholds_of(
    given: Thresholds | None, threshold: float | None, metadata: DatasetMetadata, info: ModelInfo | None
) -> tuple[float, ...] | None:
    """Returns the thresholds of a `Predictor`, one per class: those given, else those of the model file, else 0.5 each.

    Args:
        given: the argument `thresholds`.
        threshold: the argument `threshold`, of multiclass tasks only.
        metadata: the classes and their task.
        info: what is known of the network.

    Returns:
        None for a multiclass task.

    Raises:
        InvalidArgumentError: if a threshold is not allowed, or one of the arguments is that of another task.
    """
    if metadata.task != MULTICLASS and threshold is not None:
        raise InvalidArgumentError(
            f"threshold = {threshold!r} ignores pixels of unsure classes in a multiclass task, and the task of "
            f"{metadata.name!r} is {metadata.task}; pass thresholds={threshold!r}, which the probability of a class "
            "must exceed"
        )
    same = info is not None and (info.metadata.task, info.metadata.labels) == (metadata.task, metadata.labels)
    if given is None and info is not None and same:
        return info.thresholds
    return class_thresholds(given, metadata)


def labels_shape(metadata: DatasetMetadata, size: tuple[int, int]) -> tuple[int, ...]:
    """Returns the shape of the labels of an image of (height, width) `size`."""
    return (metadata.num_classes, *size) if metadata.task == MULTILABEL else size


def decide(predictor: Any, logits: Tensor) -> tuple[npt.NDArray[Any], Tensor | None]:
    """Returns the labels of logits, and the probabilities if scores or a threshold need them.

    Args:
        predictor: the `Predictor`.
        logits: float (K, h, w).

    Returns:
        Labels: ids (h, w), or planes (K, h, w).
        Probabilities: float32 (h, w), those of the predicted classes; of another task than multiclass (K, h, w), those
            of all.

    Raises:
        InvalidArgumentError: as `check_decidable`.
    """
    metadata = predictor.metadata
    check_decidable(logits, metadata.task)
    if metadata.task != MULTICLASS:
        planes = threshold_labels(logits, predictor.thresholds)
        labels = (planes[0] if metadata.task == BINARY else planes).cpu().numpy()
        return labels, torch.sigmoid(logits.float()) if predictor.scores else None
    ids = argmax_labels(logits).cpu().numpy().astype(predictor._id_dtype, copy=False)
    if not predictor.scores and predictor.threshold is None:
        return ids, None
    probabilities = top_probabilities(logits)
    if predictor.threshold is not None:
        ids[(probabilities < predictor.threshold).cpu().numpy()] = metadata.ignore_index
    return ids, probabilities


def without_others(predictor: Any, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns labels with the classes of `only` alone: pixels of others are ignored, planes of others empty."""
    if predictor.only is None:
        return labels
    if predictor.metadata.task == MULTICLASS:
        return predictor._kept.take(labels)
    if predictor.metadata.task == MULTILABEL:
        kept = np.isin(np.arange(len(labels)), kept_classes(predictor.only, predictor.metadata))
        return labels * kept[:, None, None]
    return labels  # the only class of a binary task


def finish(
    predictor: Any,
    labels: npt.NDArray[Any],
    scores: npt.NDArray[np.float32] | None,
    valid: npt.NDArray[np.bool_] | None,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32] | None]:
    """Returns labels and scores of an image as its `Prediction` has them; planes are boolean.

    Args:
        predictor: the `Predictor`, for `min_region` and `only`.
        labels: ids (H, W) or planes (K, H, W).
        scores: float32 (H, W) or (K, H, W), or None.
        valid: bool (H, W), whether pixels hold data; None if all do.
    """
    has_planes = predictor.metadata.task == MULTILABEL
    if predictor.min_region > 1:
        if has_planes:
            labels = np.stack([remove_small_regions(plane, predictor.min_region, valid) for plane in labels])
        else:
            labels = remove_small_regions(labels, predictor.min_region, valid)
    labels = without_others(predictor, labels)
    if has_planes:
        labels = labels.astype(np.bool_)
    if valid is not None:
        # a boolean plane has no third value; the prediction knows which pixels hold data
        labels = labels & valid if has_planes else ignore_invalid(labels, valid, predictor.metadata.ignore_index)
        scores = None if scores is None else np.where(valid, scores, np.float32(0))
    return labels, scores
