"""One training step, one epoch and one evaluation, as functions on the trainer's parts."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from seg_core.argmax import argmax_labels
from seg_core.augment import SegmentationAugment
from seg_core.interfaces import Predict
from seg_core.metrics import MetricStore
from seg_core.randomness import sample_generator
from seg_train.losses.deep_supervision import DeepSupervision
from seg_train.optimizers import needs_closure
from seg_train.samples import Batch

__all__ = ["Parts", "StepResult", "evaluate_batches", "train_epoch", "train_step"]


@dataclass
class Parts:
    """What a training step works with.

    Attributes:
        model: prepared by `accelerator`.
        criterion: the loss of all outputs, and within it that of the logits alone.
        optimizer: prepared by `accelerator`.
        augment: applied to the batch on the device.
        accelerator: device, precision and processes.
        seed: of the run.
        max_grad_norm: limit of the gradient's norm, or None.
    """

    model: nn.Module
    criterion: DeepSupervision
    optimizer: torch.optim.Optimizer
    augment: SegmentationAugment
    accelerator: Accelerator
    seed: int = 0
    max_grad_norm: float | None = None


@dataclass(frozen=True)
class StepResult:
    """What a step leaves: nothing in it has been waited for on a device.

    Attributes:
        loss: 0-d float, without graph.
        logits: float (N, K, H, W) of `"out"`, without graph.
        masks: int64 (N, H, W), after augmentation.
    """

    loss: Tensor
    logits: Tensor
    masks: Tensor


def train_step(parts: Parts, batch: Batch) -> StepResult:
    """Augments one batch, runs the network forward and backward, and takes one optimizer step.

    An optimizer that searches along a line (LBFGS) runs the network as often as it likes; the result is of the first
    time.
    """
    device = parts.accelerator.device
    images, masks = parts.augment(
        batch.images.to(device, non_blocking=True),
        batch.masks.to(device, non_blocking=True),
        generator=[sample_generator(parts.seed, batch.epoch, index, 1) for index in batch.places],
    )
    results: list[StepResult] = []

    def compute_gradients() -> Any:
        parts.optimizer.zero_grad(set_to_none=True)
        outputs = parts.model(images)
        loss: Tensor = parts.criterion(outputs, masks)
        parts.accelerator.backward(loss)
        if parts.max_grad_norm is not None:
            parts.accelerator.clip_grad_norm_(parts.model.parameters(), parts.max_grad_norm)
        if not results:
            results.append(StepResult(loss.detach(), outputs["out"].detach(), masks))
        return loss.detach()

    if needs_closure(parts.optimizer):
        parts.optimizer.step(compute_gradients)
    else:
        compute_gradients()
        parts.optimizer.step()
    parts.optimizer.zero_grad(set_to_none=True)
    return results[0]


def train_epoch(parts: Parts, batches: Iterable[Batch]) -> Iterator[StepResult]:
    """Trains on each batch in turn; yields after each step, so that the caller decides what to log and when to stop."""
    parts.model.train()
    for batch in batches:
        yield train_step(parts, batch)


@torch.inference_mode()
def evaluate_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    store: MetricStore,
    *,
    predict: Predict,
    augment: SegmentationAugment,
    device: torch.device,
    criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
    on_batch: Callable[[Batch, Tensor], None] | None = None,
) -> None:
    """Adds the results of `model` on `batches` to `store`; the network is in eval mode meanwhile.

    Args:
        model: on `device`.
        batches: each sample once.
        store: takes the label maps, and the measure `"loss"` where there is a criterion and the predictor gives logits.
        predict: way of predicting.
        augment: normalisation; it must not be random.
        device: where to compute.
        criterion: `(logits, target) -> loss`.
        on_batch: called with each batch and its predicted labels, uint8 or uint16 (N, H, W), on `device`.
    """
    was_training = model.training
    # The augmentation draws even where it only normalises; an evaluation must not disturb what the training draws.
    generator = torch.Generator()
    model.eval()
    try:
        for batch in batches:
            images, _ = augment(batch.images.to(device, non_blocking=True), generator=generator)
            masks = batch.masks.to(device, non_blocking=True)
            result = predict(model, images)
            labels = argmax_labels(result) if result.is_floating_point() else result
            store.store_results(masks, labels)
            if criterion is not None and result.is_floating_point():
                store.store_measures(len(batch.indices), {"loss": criterion(result, masks)})
            if on_batch is not None:
                on_batch(batch, labels)
    finally:
        model.train(was_training)
