"""One training step and one evaluation, as functions on the trainer's parts."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from seg_core.metrics.argmax import argmax_labels
from seg_core.metrics.metric_store import MetricStore
from seg_core.randomness import sample_generator
from seg_core.transforms.augment import SegmentationAugment
from seg_core.transforms.evaluation import EvaluationTransform
from seg_train.data.batches import Batch
from seg_train.losses.deep_supervision import DeepSupervision
from seg_train.losses.micro_batches import share_of
from seg_train.optim.optimizers import needs_closure
from seg_train.run.validation_loss import SplitLoss
from seg_train.run.ways import Way

__all__ = ["Parts", "StepResult", "evaluate_batches", "train_step"]


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
        accumulation_steps: parts that a process computes its samples in, one after the other.
    """

    model: nn.Module
    criterion: DeepSupervision
    optimizer: torch.optim.Optimizer
    augment: SegmentationAugment
    accelerator: Accelerator
    seed: int = 0
    max_grad_norm: float | None = None
    accumulation_steps: int = 1


@dataclass(frozen=True)
class StepResult:
    """What a step leaves: nothing in it has been waited for on a device.

    Attributes:
        loss: 0-d float, without graph: what this process's samples add to the loss of the step.
        labels: uint8 or uint16 (N, H, W), what the network took the pixels for.
        masks: int64 (N, H, W), after augmentation.
    """

    loss: Tensor
    labels: Tensor
    masks: Tensor


def train_step(parts: Parts, batch: Batch) -> StepResult:
    """Augments one batch, runs the network forward and backward, and takes one optimizer step.

    The batch may be computed in parts, by several processes or one part after the other; means over pixels are those
    over the whole batch all the same, see `seg_train.losses.micro_batches`.

    An optimizer that searches along a line (LBFGS) runs the network as often as it likes; the result is of the first
    time.

    Args:
        parts: network, loss, optimizer.
        batch: this process's samples, as many as `parts.accumulation_steps` divides.
    """
    parts.model.train()
    device, processes = parts.accelerator.device, parts.accelerator.num_processes
    images, masks = parts.augment(
        batch.images.to(device, non_blocking=True),
        batch.masks.to(device, non_blocking=True),
        generator=[sample_generator(parts.seed, batch.epoch, index, 1) for index in batch.places],
    )
    pieces = list(zip(images.chunk(parts.accumulation_steps), masks.chunk(parts.accumulation_steps), strict=True))
    shares: list[Tensor] | list[None] = [None] * len(pieces)
    if processes * len(pieces) > 1:
        own = torch.stack([parts.criterion.denominators(mask) for _, mask in pieces])
        shares = list(share_of(own, parts.accelerator.reduce(own.sum(0), "sum")))
    results: list[StepResult] = []

    def compute_gradients() -> Tensor:
        parts.optimizer.zero_grad(set_to_none=True)
        losses, labels = [], []
        for number, ((image, mask), share) in enumerate(zip(pieces, shares, strict=True), start=1):
            # gradients are sent to the other processes once, with the last piece
            unsent = parts.accelerator.no_sync(parts.model) if number < len(pieces) else contextlib.nullcontext()
            with unsent:
                with parts.accelerator.autocast():
                    outputs = parts.model(image)
                loss = parts.criterion(outputs, mask, share)
                # The processes' gradients are averaged, but their shares of the loss add up to it.
                parts.accelerator.backward(loss * processes if processes > 1 else loss)
            losses.append(loss.detach())
            labels.append(argmax_labels(outputs["out"].detach()))
        if parts.max_grad_norm is not None:
            parts.accelerator.clip_grad_norm_(parts.model.parameters(), parts.max_grad_norm)
        total = torch.stack(losses).sum() if len(losses) > 1 else losses[0]
        if not results:
            results.append(StepResult(total, torch.cat(labels) if len(labels) > 1 else labels[0], masks))
        return total

    if needs_closure(parts.optimizer):
        parts.optimizer.step(compute_gradients)  # type: ignore[arg-type] # torch wants a float, and takes this
    else:
        compute_gradients()
        parts.optimizer.step()
    parts.optimizer.zero_grad(set_to_none=True)
    return results[0]


@torch.inference_mode()
def evaluate_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    store: MetricStore,
    *,
    way: Way,
    transform: EvaluationTransform,
    device: torch.device,
    loss: SplitLoss | None = None,
    on_batch: Callable[[Batch, Tensor], None] | None = None,
) -> None:
    """Adds the results of `model` on `batches` to `store`; the network is in eval mode meanwhile.

    Args:
        model: on `device`.
        batches: each sample once, images resized by `transform` and masks at their own size.
        store: takes the label maps.
        way: of predicting.
        transform: normalizes.
        device: where to compute.
        loss: collects the loss of each image where the way of predicting gives logits.
        on_batch: called with each batch and its predicted labels, uint8 or uint16 (N, H, W), on `device`.
    """
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            images = transform.normalize(batch.images, device)
            masks = batch.masks.to(device, non_blocking=True)
            size = (masks.shape[-2], masks.shape[-1])
            labels, logits = way(model, images, size, wants_logits=loss is not None)
            store.store_results(masks, labels)
            if loss is not None and logits is not None:
                loss.add(logits, masks)
            if on_batch is not None:
                on_batch(batch, labels)
    finally:
        model.train(was_training)
