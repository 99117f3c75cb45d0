"""One training step: augment, forward, backward, optimizer."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from seg_core.errors import ConfigError
from seg_core.labels.tasks import MULTICLASS
from seg_core.randomness import sample_generator
from seg_core.transforms.augment import SegmentationAugment
from seg_train.data.batches import Batch
from seg_train.losses.deep_supervision import DeepSupervision
from seg_train.losses.micro_batches import share_of
from seg_train.optim.optimizers import needs_closure
from seg_train.run.labels import labels_of

__all__ = ["Parts", "StepResult", "train_step"]


@dataclass
class Parts:
    """Everything a training step needs.

    Attributes:
        model: prepared by `accelerator`.
        criterion: the loss of all outputs; its `criterion` is the loss of the main logits.
        optimizer: prepared by `accelerator`.
        augment: applied to the batch on the device.
        accelerator: device, precision and processes.
        frozen: modules that stay in eval mode, such as frozen batch norm.
        seed: seed of the run.
        max_grad_norm: gradients are clipped to this norm, or None.
        accumulation_steps: number of micro-batches that a process splits its samples into.
        num_classes: number of channels that the main logits must have; None does not check it.
        task: of the dataset.
    """

    model: nn.Module
    criterion: DeepSupervision
    optimizer: torch.optim.Optimizer
    augment: SegmentationAugment
    accelerator: Accelerator
    frozen: Sequence[nn.Module] = ()
    seed: int = 0
    max_grad_norm: float | None = None
    accumulation_steps: int = 1
    num_classes: int | None = None
    task: str = MULTICLASS


@dataclass(frozen=True)
class StepResult:
    """The result of a step; reading it synchronizes with the device.

    Attributes:
        loss: 0-d float, detached: the share of this process's samples in the loss of the step.
        labels: uint8 or uint16 (N, H, W), the predicted classes; for a multilabel task (N, K, H, W) of 0 and 1.
        masks: integers of the same shape, ground truth after augmentation.
    """

    loss: Tensor
    labels: Tensor
    masks: Tensor


def train_step(parts: Parts, batch: Batch) -> StepResult:
    """Augments one batch, runs the network forward and backward, and takes one optimizer step.

    Several processes may share the batch, and each may split its samples into micro-batches. Means over pixels are
    still those of the whole batch, see `seg_train.losses.micro_batches`.

    An optimizer with a line search (LBFGS) runs the network several times; the result is that of the first run.

    Args:
        parts: network, loss, optimizer.
        batch: this process's samples; `parts.accumulation_steps` divides their number.

    Raises:
        ConfigError: if the network returns another number of classes than the dataset has.
    """
    parts.model.train()
    for module in parts.frozen:
        module.training = False
    device, processes = parts.accelerator.device, parts.accelerator.num_processes
    images, masks = parts.augment(
        batch.images.to(device, non_blocking=True),
        batch.masks.to(device, non_blocking=True),
        generator=[sample_generator(parts.seed, batch.epoch, index, 1) for index in batch.places],
    )
    count = parts.accumulation_steps
    micro_batches = list(zip(images.chunk(count), masks.chunk(count), strict=True))
    shares: list[Tensor] | list[None] = [None] * len(micro_batches)
    if processes * len(micro_batches) > 1:
        own = torch.stack([parts.criterion.denominators(mask) for _, mask in micro_batches])
        shares = list(share_of(own, parts.accelerator.reduce(own.sum(0), "sum")))
    results: list[StepResult] = []

    def compute_gradients() -> Tensor:
        parts.optimizer.zero_grad(set_to_none=True)
        losses, labels = [], []
        for number, ((image, mask), share) in enumerate(zip(micro_batches, shares, strict=True), start=1):
            # gradients are exchanged between processes once, with the last micro-batch
            is_last = number == len(micro_batches)
            with contextlib.nullcontext() if is_last else parts.accelerator.no_sync(parts.model):
                with parts.accelerator.autocast():
                    outputs = _outputs_of(parts.model(image), image)
                _check_channels(outputs["out"], parts.num_classes)
                loss = parts.criterion(outputs, mask, share)
                if not loss.requires_grad:
                    raise ConfigError(
                        "the loss has no gradient: what the network returns does not depend on a parameter that "
                        "requires one; do not detach its outputs, and call nothing under torch.no_grad()"
                    )
                # DDP averages the gradients of the processes, but their shares of the loss add up to the loss.
                parts.accelerator.backward(loss * processes if processes > 1 else loss)
            losses.append(loss.detach())
            labels.append(labels_of(outputs["out"].detach(), parts.task))
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


def _outputs_of(returned: Any, images: Tensor) -> Mapping[str, Tensor]:
    """Returns the outputs by name; a network of one's own may return the logits alone, at any size.

    Raises:
        ConfigError: if there are no logits in what the network returned.
    """
    if isinstance(returned, Mapping) and "out" in returned:
        return returned
    logits = returned.get("logits") if isinstance(returned, Mapping) else returned
    if not isinstance(logits, Tensor) or logits.ndim != 4:
        found = f"a dict with {', '.join(map(str, returned))}" if isinstance(returned, Mapping) else str(type(returned))
        raise ConfigError(
            'the network must return its logits, float (N, K, H, W), or a dict with them as "out", and returned '
            f"{tuple(logits.shape) if isinstance(logits, Tensor) else found}; wrap it in a module that does"
        )
    if logits.shape[-2:] != images.shape[-2:]:
        logits = F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
    return {"out": logits}


def _check_channels(logits: Tensor, num_classes: int | None) -> None:
    if num_classes is not None and logits.shape[1] != num_classes:
        raise ConfigError(
            f"the network (model.name) returns logits of {logits.shape[1]} classes, but the dataset has {num_classes}; "
            "build it with as many outputs: a builder is called with num_classes"
        )
