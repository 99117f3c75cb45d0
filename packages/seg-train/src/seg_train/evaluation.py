"""Scores of a network on a data set, for a loop of one's own; the trainer's evaluation is the same code."""

from collections.abc import Callable

from torch import Tensor, nn

from seg_core.augment import SegmentationAugment
from seg_core.interfaces import JointTransform, SegmentationDataset
from seg_core.metrics.metric_store import MetricStore
from seg_core.registry import PREDICTORS
from seg_core.transforms.crop import SegmentationTransform
from seg_train.engine import evaluate_batches
from seg_train.samples import Loader, evaluation_plan

__all__ = ["evaluate"]


def evaluate(
    model: nn.Module,
    dataset: SegmentationDataset,
    *,
    transform: JointTransform | None = None,
    augment: SegmentationAugment | None = None,
    predictor: str = "whole",
    batch_size: int = 1,
    num_workers: int = 0,
    criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> MetricStore:
    """Returns a store with the confusion matrix of `model` over all of `dataset`; `.summarize()` gives the scores.

    The network is in eval mode meanwhile, and in its former mode afterwards. It computes where its parameters are.

    Args:
        model: a network as `seg_models.get_model` gives it.
        dataset: of pictures with masks, without transforms of its own.
        transform: size of the pictures; None keeps each picture's own.
        augment: normalisation; None is ImageNet's.
        predictor: registered way of predicting.
        batch_size: pictures at a time; more than 1 needs pictures of one size.
        num_workers: reading processes; 0 reads in this one.
        criterion: `(logits, target) -> loss`, for the measure `"loss"`.

    Raises:
        UnknownNameError: if there is no such predictor.
        UserError: if a sample cannot be read or does not fit its metadata.
    """
    metadata = dataset.metadata
    device = next(model.parameters()).device
    store = MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index)
    loader = Loader(
        dataset,
        transform or SegmentationTransform(mask_fill=metadata.ignore_index),
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
    )
    evaluate_batches(
        model,
        loader.read(evaluation_plan(len(dataset), batch_size)),
        store,
        predict=PREDICTORS.get(predictor),
        augment=augment or SegmentationAugment(),
        device=device,
        criterion=criterion,
    )
    return store
