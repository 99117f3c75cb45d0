"""One training step, one epoch and one evaluation, as functions on the trainer's parts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from seg_core.argmax import argmax_labels
from seg_core.augment import SegmentationAugment
from seg_core.interfaces import Predict
from seg_core.metrics import MetricStore
from seg_core.randomness import sample_generator
from seg_train.samples import Batch

__all__ = ["Parts", "StepResult", "evaluate_batches", "total_loss", "train_epoch", "train_step"]


@dataclass
class Parts:
    """What a training step works with.

    Attributes:
        model: prepared by `accelerator`.
        criterion: `(logits, target) -> loss`.
        optimizer: prepared by `accelerator`.
        augment: applied to the batch on the device.
        accelerator: device, precision and processes.
        seed: of the run.
        aux_weight: factor of each auxiliary output's loss.
        max_grad_norm: limit of the gradient's norm, or None.
    """

    model: nn.Module
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    augment: SegmentationAugment
    accelerator: Accelerator
    seed: int = 0
    aux_weight: float = 0.4
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
    """Augments one batch, runs the network forward and backward, and takes one optimizer step."""
    device = parts.accelerator.device
    images, masks = parts.augment(
        batch.images.to(device, non_blocking=True),
        batch.masks.to(device, non_blocking=True),
        generator=[sample_generator(parts.seed, batch.epoch, index, 1) for index in batch.indices],
    )
    outputs = parts.model(images)
    loss = total_loss(outputs, masks, parts.criterion, parts.aux_weight)
    parts.accelerator.backward(loss)
    if parts.max_grad_norm is not None:
        parts.accelerator.clip_grad_norm_(parts.model.parameters(), parts.max_grad_norm)
    parts.optimizer.step()
    parts.optimizer.zero_grad(set_to_none=True)
    return StepResult(loss.detach(), outputs["out"].detach(), masks)


def total_loss(
    outputs: Mapping[str, Tensor], masks: Tensor, criterion: Callable[[Tensor, Tensor], Tensor], aux_weight: float
) -> Tensor:
    """Returns the loss of `"out"` plus `aux_weight` times that of each auxiliary output.

    Args:
        outputs: of the network, logits (N, K, H, W) each.
        masks: int64 (N, H, W).
        criterion: `(logits, target) -> loss`.
        aux_weight: factor.
    """
    loss = criterion(outputs["out"], masks)
    for name, logits in outputs.items():
        if name.startswith("aux"):
            loss = loss + aux_weight * criterion(logits, masks)
    return loss


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
