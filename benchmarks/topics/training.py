"""One training step, from bytes to new weights: 4 images of 256x256, SGD with momentum.

The peer is torchvision's reference recipe for segmentation (references/segmentation/train.py), reimplemented: the
network in the default layout and in float32, torch's `cross_entropy` with 255 ignored, torch's SGD, a polynomial
scheduler per step. Ours uses the trainer's defaults: channels last, the fused optimizer, and bf16 if the processor
supports it. It also normalizes the images within the step, which the recipe does in its data loader.

torchvision has no ENet: there the recipe trains ours.
"""

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.case import Case, Contender, DisagreementError, Goal
from benchmarks.inputs import make_image
from benchmarks.topics.networks import fill_in_order

__all__ = ["CASES"]

NUM_CLASSES = 21
_LR, _MOMENTUM, _DECAY = 0.01, 0.9, 1e-4
# of the loss before the first step, and of the losses after it: float32 gradients of these batches of four differ by
# 2 to 3 % from float64, in either layout
_TOLERANCES = {"ours, fp32": (1e-4, 3e-2), "ours": (1e-2, 3e-2)}


class _Inputs(NamedTuple):
    """uint8 (N, 3, H, W) in 0 to 255, and uint8 (N, H, W) with class ids and 255."""

    images: Tensor
    masks: Tensor


def _make_inputs(quick: bool) -> _Inputs:
    size, count = (64, 2) if quick else (256, 4)
    arrays = [make_image(size, size, seed=seed) for seed in range(count)]
    images = torch.stack([torch.from_numpy(array).permute(2, 0, 1) for array in arrays])
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, NUM_CLASSES, (count, 1, 8, 8), generator=generator).float()
    masks = F.interpolate(blocks, (size, size))[:, 0].to(torch.uint8)
    masks[:, : size // 16] = 255
    return _Inputs(images.contiguous(memory_format=torch.channels_last), masks)


def _settle(network: nn.Module) -> None:
    """Gives a network the common initial weights, and removes dropout, whose draws depend on the layout."""
    fill_in_order(network)
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0


def _ours(name: str, precision: str, variant: str | None) -> Callable[[_Inputs], Callable[[], Tensor]]:
    def prepare(inputs: _Inputs) -> Callable[[], Tensor]:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        import seg_models
        from seg_core.device import fastest_precision
        from seg_core.transforms.augment import SegmentationAugment
        from seg_train.data.batches import Batch
        from seg_train.losses.cross_entropy import CrossEntropyLoss
        from seg_train.losses.deep_supervision import DeepSupervision
        from seg_train.optim.optimizers import build_optimizer
        from seg_train.run.model import train_depthwise_in_full_precision
        from seg_train.run.step import Parts, train_step

        chosen = fastest_precision(torch.device("cpu")) if precision == "auto" else precision
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(cpu=True, mixed_precision={"fp32": "no"}.get(chosen, chosen))
        # all accelerators of a process share a state; here two precisions are used side by side
        accelerator.state = copy.copy(accelerator.state)
        network = seg_models.get_model(name, num_classes=NUM_CLASSES, variant=variant)
        _settle(network)
        network = network.to(memory_format=torch.channels_last)
        if chosen == "bf16":
            train_depthwise_in_full_precision(network)
        params = {"lr": _LR, "momentum": _MOMENTUM, "weight_decay": _DECAY}
        optimizer = build_optimizer(network, "SGD", params)
        model, optimizer = accelerator.prepare(network, optimizer)
        parts = Parts(model, DeepSupervision(CrossEntropyLoss()), optimizer, SegmentationAugment(), accelerator)
        places = list(range(len(inputs.images)))

        def work() -> Tensor:
            return train_step(parts, Batch(inputs.images, inputs.masks, places, 0, places)).loss

        return work

    return prepare


def _recipe(build: Callable[[], nn.Module]) -> Callable[[_Inputs], Callable[[], Tensor]]:
    def prepare(inputs: _Inputs) -> Callable[[], Tensor]:
        from seg_core.transforms.preprocessing import IMAGENET_MEAN, IMAGENET_STD, normalize

        network = build()
        _settle(network)
        network.train()
        images = normalize(inputs.images, IMAGENET_MEAN, IMAGENET_STD).contiguous()
        targets = inputs.masks.long()
        optimizer = torch.optim.SGD(network.parameters(), lr=_LR, momentum=_MOMENTUM, weight_decay=_DECAY)
        scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=10**9, power=0.9)

        def work() -> Tensor:
            outputs = network(images)
            losses = {key: F.cross_entropy(value, targets, ignore_index=255) for key, value in outputs.items()}
            loss = losses["out"] if len(losses) == 1 else losses["out"] + 0.5 * losses["aux"]
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # of torch
            optimizer.step()
            scheduler.step()
            return loss.detach()

        return work

    return prepare


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision.models import get_model

        return get_model(name, num_classes=NUM_CLASSES, weights=None, weights_backbone=None)

    return build


def _seg_models(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import seg_models

        return seg_models.get_model(name, num_classes=NUM_CLASSES)

    return build


def _losses(prepare: Callable[[_Inputs], Callable[[], Tensor]]) -> Callable[[_Inputs], Tensor]:
    """Returns a function that computes the losses of the first three steps of a new network."""

    def answer(inputs: _Inputs) -> Tensor:
        work = prepare(inputs)
        return torch.stack([work().float() for _ in range(3)])

    return answer


def check_losses(answers: Mapping[str, Tensor]) -> str:
    """Returns the sentence of agreement for the losses of the first steps from equal weights."""
    reference = answers["torchvision's recipe"]
    texts = []
    for name, (at_first, later) in _TOLERANCES.items():
        differences = ((answers[name] - reference) / reference).abs()
        first, worst = float(differences[0]), float(differences.max())
        if not (first <= at_first and worst <= later):
            raise DisagreementError(
                f"losses of {name!r} are {answers[name].tolist()}, those of the recipe {reference.tolist()}"
            )
        texts.append(f"{name} {first:.1e}, {worst:.1e}")
    return f"relative difference of losses, before the first step and at most in three steps: {'; '.join(texts)}"


def _case(
    name: str,
    build: Callable[[], nn.Module],
    variant: str | None,
    speed: float,
    memory: float | None,
    quick: bool = False,
) -> Case:
    def contender(label: str, prepare: Callable[[_Inputs], Callable[[], Tensor]], distribution: str) -> Contender:
        kind = "ours" if label.startswith("ours") else "peer"
        return Contender(label, prepare, kind, distribution, answer=_losses(prepare))  # type: ignore[arg-type]  # two literals

    return Case(
        name=name,
        work="one training step of 4 images of 256x256, SGD with momentum, 21 classes",
        make_inputs=_make_inputs,
        contenders=(
            contender("ours", _ours(name, "auto", variant), "seg-train"),
            contender("ours, fp32", _ours(name, "fp32", variant), "seg-train"),
            contender("torchvision's recipe", _recipe(build), "torchvision"),
        ),
        check=check_losses,
        goals=(Goal("ours", "torchvision's recipe", speed=speed, memory=memory),),
        images_per_call=4,
        rounds=5,
        keep_freed=True,
        quick=quick,
    )


CASES = (
    _case("fcn_resnet50", _torchvision("fcn_resnet50"), "torchvision", speed=2.5, memory=0.65),
    _case(
        "lraspp_mobilenet_v3_large", _torchvision("lraspp_mobilenet_v3_large"), "torchvision", speed=1.2, memory=None
    ),
    _case("enet", _seg_models("enet"), None, speed=1.5, memory=None, quick=True),
)
