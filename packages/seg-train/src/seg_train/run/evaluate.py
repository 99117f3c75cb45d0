"""Scores of a network on a dataset, for a loop of one's own; the trainer's evaluation is the same code."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from seg_core.interfaces import SegmentationDataset
from seg_core.metrics.metric_store import MetricStore
from seg_core.transforms.evaluation import EvaluationTransform
from seg_core.transforms.preprocessing import Preprocessing
from seg_train.data.batches import Loader, evaluation_plan
from seg_train.run.step import evaluate_batches
from seg_train.run.validation_loss import SplitLoss
from seg_train.run.ways import Way, WayOptions

__all__ = ["evaluate"]


def evaluate(
    model: nn.Module,
    dataset: SegmentationDataset,
    *,
    preprocessing: Preprocessing | None = None,
    predictor: str = "whole",
    predictor_params: Mapping[str, Any] | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> MetricStore:
    """Returns a store with the confusion matrix of `model` over all of `dataset`; `.summarize()` gives the scores.

    Masks are never resized: where `preprocessing` resizes an image, the logits are resized to its mask. The network is
    in eval mode meanwhile, and in its former mode afterwards. It computes where its parameters are.

    Args:
        model: a network as `seg_models.get_model` gives it.
        dataset: of images with masks, without transforms of its own.
        preprocessing: what images go through before the network; None takes what the model's weights or file say
            (`model.model_info`), or without that ImageNet's normalization at the images' own size.
        predictor: registered way of predicting.
        predictor_params: its arguments, as `{"tile": 512}` of `"tiled"`.
        batch_size: images at a time; those of unlike size are computed one by one.
        num_workers: reading processes; 0 reads in this one.
        criterion: `(logits, target) -> loss`, for the measure `"loss"` over the whole split, see
            `seg_train.run.validation_loss.SplitLoss`.

    Raises:
        UnknownNameError: if there is no such predictor.
        UserError: if a sample cannot be read or does not fit its metadata.
    """
    metadata = dataset.metadata
    device = next(model.parameters()).device
    if preprocessing is None:
        info = getattr(model, "model_info", None)
        preprocessing = Preprocessing() if info is None else info.preprocessing
    transform = EvaluationTransform(preprocessing)
    store = MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index)
    loss = None if criterion is None else SplitLoss(criterion, metadata.ignore_index)
    loader = Loader(
        dataset, transform, num_workers=num_workers, pin_memory=device.type == "cuda", splits_unlike_sizes=True
    )
    evaluate_batches(
        model,
        loader.read(evaluation_plan(len(dataset), batch_size)),
        store,
        way=Way(WayOptions(predictor=predictor, params=predictor_params or {}), metadata),
        transform=transform,
        device=device,
        loss=loss,
    )
    if loss is not None and loss.is_measured:
        store.store_measures(1, {"loss": loss.value()})
    return store
