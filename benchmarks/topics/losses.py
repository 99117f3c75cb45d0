"""Losses, forward and backward: from float32 logits of a batch and its masks to value and gradient.

No pixel is ignored, because some peers do not support it; ours is also timed with ignored pixels, and so is the peer of
binary cross entropy, which takes targets as floats: to make them of the masks is part of its time. If a peer defines
the same loss up to a factor (for example, its mean includes the classes), its value times that factor must be ours. In
the same run, value and gradient of ours are compared with autograd on plain operations in float64.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.case import Case, Contender, DisagreementError, Goal, Kind
from benchmarks.inputs import blocky_labels, smooth_logits

__all__ = ["CASES"]

Loss = Callable[[Tensor, Tensor], Tensor]
Factor = Callable[["Inputs"], float]

IGNORED = 255
# relative, of values; some peers lose digits in sums over millions of float32 numbers
TOLERANCE = 2e-3
# of ours against float64; of gradients, the norm of the difference over the norm of the gradient
VALUE_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
# The Lovasz loss depends on the order of the errors; errors that are equal in float32 may be sorted differently.
ORDER_TOLERANCE = 1e-2


class Inputs(NamedTuple):
    """Logits float32 (N, K, H, W), their masks int64 (N, H, W), and the same masks with some pixels ignored."""

    logits: Tensor
    target: Tensor
    holed: Tensor


class Answer(NamedTuple):
    """Value of a contender times its factor, and for ours the float64 result; None if the peer defines another loss."""

    value: float | None
    gradient: Tensor | None = None
    expected: float | None = None
    slope: Tensor | None = None


# ---- ours, and the expected result -----------------------------------------------------------------------------------


def plain_cross_entropy(p: Tensor, target: Tensor) -> Tensor:
    """Returns the mean of -log p_t from probabilities (N, K, H, W)."""
    return -p.gather(1, target[:, None]).log().mean()


def plain_focal(p: Tensor, target: Tensor) -> Tensor:
    """Returns the mean of -(1 - p_t)^2 log p_t."""
    true = p.gather(1, target[:, None])
    return -((1 - true).square() * true.log()).mean()


def plain_dice(p: Tensor, target: Tensor) -> Tensor:
    """Returns 1 - 2 overlap / (predicted + true), averaged over the classes in the target."""
    overlap = torch.zeros(p.shape[1], dtype=p.dtype).index_add(
        0, target.flatten(), p.gather(1, target[:, None]).flatten()
    )
    true = target.flatten().bincount(minlength=p.shape[1])
    return (1 - 2 * overlap / (p.sum((0, 2, 3)) + true))[true > 0].mean()


def plain_lovasz(p: Tensor, target: Tensor) -> Tensor:
    """Returns the Lovasz extension of the Jaccard loss by the paper's algorithm, over the classes in the target."""
    losses = []
    for index in target.flatten().bincount().nonzero().flatten().tolist():
        own = (target == index).flatten().to(p.dtype)
        errors, order = (own - p[:, index].flatten()).abs().sort(descending=True)
        own = own[order]
        curve = 1 - (own.sum() - own.cumsum(0)) / (own.sum() + (1 - own).cumsum(0))
        losses.append(errors @ torch.cat([curve[:1], curve[1:] - curve[:-1]]))
    return torch.stack(losses).mean()


def plain_binary_cross_entropy(p: Tensor, target: Tensor) -> Tensor:
    """Returns the mean of -log p where the target is 1 and of -log(1 - p) where it is 0, from probabilities."""
    return -torch.where(target[:, None] == 1, p, 1 - p).log().mean()


def plain_binary_dice(p: Tensor, target: Tensor) -> Tensor:
    """Returns 1 - 2 overlap / (predicted + true) of the object."""
    return 1 - 2 * (p[:, 0] * target).sum() / (p.sum() + target.sum())


def _binary_cross_entropy() -> Loss:
    from seg_train import BinaryCrossEntropyLoss

    return BinaryCrossEntropyLoss()


def _binary_dice() -> Loss:
    from seg_train import DiceLoss

    return DiceLoss(task="binary")


def _cross_entropy() -> Loss:
    from seg_train import CrossEntropyLoss

    return CrossEntropyLoss()


def _focal() -> Loss:
    from seg_train import FocalLoss

    return FocalLoss()


def _dice() -> Loss:
    from seg_train import DiceLoss

    return DiceLoss()


def _lovasz() -> Loss:
    from seg_train import LovaszLoss

    return LovaszLoss()


# ---- peers -----------------------------------------------------------------------------------------------------------


def _torch_cross_entropy() -> Loss:
    return torch.nn.CrossEntropyLoss()


def _smp(name: str) -> Callable[[], Loss]:
    def make() -> Loss:
        import segmentation_models_pytorch as smp

        return getattr(smp.losses, name)("multiclass")

    return make


def _smp_binary_cross_entropy() -> Loss:
    import segmentation_models_pytorch as smp

    loss = smp.losses.SoftBCEWithLogitsLoss(ignore_index=IGNORED)
    return lambda logits, target: loss(logits, target[:, None].float())


def _smp_binary_dice() -> Loss:
    import segmentation_models_pytorch as smp

    return smp.losses.DiceLoss("binary", ignore_index=IGNORED)


def _monai_dice() -> Loss:
    import monai.losses

    loss = monai.losses.DiceLoss(to_onehot_y=True, softmax=True, batch=True, smooth_nr=0, smooth_dr=1e-12)
    return lambda logits, target: loss(logits, target[:, None])


def _monai_focal() -> Loss:
    import monai.losses

    loss = monai.losses.FocalLoss(to_onehot_y=True, use_softmax=True)
    return lambda logits, target: loss(logits, target[:, None])


def _kornia_dice() -> Loss:
    from kornia.losses import dice_loss

    return lambda logits, target: dice_loss(logits, target, average="macro")


def _kornia_focal() -> Loss:
    from kornia.losses import focal_loss

    return lambda logits, target: focal_loss(logits, target, alpha=None, gamma=2.0, reduction="mean")


def _pixseg(name: str, **options: Any) -> Callable[[], Loss]:
    def make() -> Loss:
        import pixseg.learn

        return getattr(pixseg.learn, name)(**options)

    return make


def _torchvision_focal() -> Loss:
    from torchvision.ops import sigmoid_focal_loss

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        truth = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        return sigmoid_focal_loss(logits, truth, alpha=-1, gamma=2, reduction="mean")

    return loss


# ---- cases -----------------------------------------------------------------------------------------------------------


def _make_inputs(shape: tuple[int, int, int]) -> Callable[[bool], Inputs]:
    num_images, num_classes, size = shape

    def make(quick: bool) -> Inputs:
        side = size // 8 if quick else size
        seeds = range(num_images)
        logits = torch.cat([smooth_logits(num_classes, side, side, seed) for seed in seeds])
        target, holed = (
            torch.stack([blocky_labels(side, side, max(num_classes, 2), ignored, seed) for seed in seeds]).long()
            for ignored in (0.0, 0.05)
        )
        return Inputs(logits, target, holed)

    return make


def _step(loss: Loss, logits: Tensor, target: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """Returns the timed work: computes value and gradient."""
    leaf = logits.detach().requires_grad_()

    def step() -> tuple[Tensor, Tensor]:
        leaf.grad = None
        value = loss(leaf, target)
        value.backward()  # type: ignore[no-untyped-call]  # of torch
        assert leaf.grad is not None
        return value.detach(), leaf.grad

    return step


def _ours(make: Callable[[], Loss], plain: Loss) -> Contender:
    def answer(inputs: Inputs) -> Answer:
        value, gradient = _step(make(), inputs.logits, inputs.target)()
        leaf = inputs.logits.double().requires_grad_()
        expected = plain(leaf.softmax(1) if leaf.shape[1] > 1 else leaf.sigmoid(), inputs.target)
        (slope,) = torch.autograd.grad(expected, leaf)
        return Answer(float(value), gradient, float(expected.detach()), slope.float())

    return Contender("ours", lambda i: _step(make(), i.logits, i.target), "ours", "seg-train", answer)


def _ours_ignoring(make: Callable[[], Loss]) -> Contender:
    return _ignoring("ours", "ours", "seg-train", make)


def _ignoring(name: str, kind: Kind, distribution: str, make: Callable[[], Loss]) -> Contender:
    return Contender(
        f"{name}, 5 % ignored",
        lambda i: _step(make(), i.logits, i.holed),
        kind,
        distribution,
        lambda _: Answer(None),
    )


def _peer(name: str, distribution: str, make: Callable[[], Loss], factor: Factor | None = None) -> Contender:
    """Returns a peer whose value times `factor` equals ours; `factor=None` if it defines another loss."""

    def answer(inputs: Inputs) -> Answer:
        if factor is None:
            return Answer(None)
        value, _ = _step(make(), inputs.logits, inputs.target)()
        return Answer(float(value) * factor(inputs))

    return Contender(name, lambda i: _step(make(), i.logits, i.target), "peer", distribution, answer)


def _same(_: Inputs) -> float:
    return 1.0


def _per_class(inputs: Inputs) -> float:
    """Its mean also includes the classes."""
    return float(inputs.logits.shape[1])


def _absent_are_0(inputs: Inputs) -> float:
    """Absent classes count as 0 in its mean."""
    return inputs.logits.shape[1] / _num_present(inputs)


def _all_occur(inputs: Inputs) -> float:
    """Absent classes count as 1 in its mean, so it is the same loss only if all classes are present."""
    return 1.0 if _num_present(inputs) == inputs.logits.shape[1] else float("nan")


def _num_present(inputs: Inputs) -> int:
    return int(inputs.target.flatten().bincount().count_nonzero())


def check_values(answers: Mapping[str, Answer], gradient_tolerance: float = GRADIENT_TOLERANCE) -> str:
    """Returns the sentence of agreement: ours with float64, and peers that define the same loss with ours."""
    ours = answers["ours"]
    assert ours.value is not None and ours.expected is not None and ours.gradient is not None and ours.slope is not None
    off = abs(ours.value - ours.expected) / abs(ours.expected)
    slope_off = float((ours.gradient - ours.slope).norm() / ours.slope.norm())
    if not off < VALUE_TOLERANCE or not slope_off < gradient_tolerance:
        raise DisagreementError(
            f"'ours' differs from float64 by {off:.1e}, its gradient by {slope_off:.1e} of its length"
        )
    same = {name: answer.value for name, answer in answers.items() if name != "ours" and answer.value is not None}
    same = {name: value for name, value in same.items() if value == value}
    for name, value in same.items():
        if abs(value - ours.value) > TOLERANCE * abs(ours.value):
            raise DisagreementError(f"{name!r} gives {value:.6f}, 'ours' {ours.value:.6f}")
    return (
        f"ours within {off:.0e} of float64, its gradient within {slope_off:.0e} of its length; the same loss: "
        f"{', '.join(same) or 'none'}"
    )


def _case(
    loss: str,
    shape: tuple[int, int, int],
    make: Callable[[], Loss],
    plain: Loss,
    peers: tuple[Contender, ...],
    goals: tuple[Goal, ...],
    gradient_tolerance: float = GRADIENT_TOLERANCE,
) -> Case:
    num_images, num_classes, size = shape
    return Case(
        name=f"{loss} {num_classes}",
        work=f"{loss}, forward and backward, logits ({num_images}, {num_classes}, {size}, {size})",
        make_inputs=_make_inputs(shape),
        contenders=(_ours(make, plain), _ours_ignoring(make), *peers),
        check=lambda answers: check_values(answers, gradient_tolerance),
        goals=goals,
        rounds=7,
        quick=num_classes < 100,
    )


def _cases() -> tuple[Case, ...]:
    cases = []
    for shape in ((4, 19, 512), (2, 150, 512)):
        cases += [
            _case(
                "cross entropy",
                shape,
                _cross_entropy,
                plain_cross_entropy,
                (_peer("torch", "torch", _torch_cross_entropy, _same),),
                (Goal("ours", "torch", speed=1 / 0.75, memory=0.5),),
            ),
            _case(
                "Dice",
                shape,
                _dice,
                plain_dice,
                (
                    _peer("SMP", "segmentation-models-pytorch", _smp("DiceLoss"), _absent_are_0),
                    _peer("MONAI", "monai", _monai_dice, _all_occur),
                    _peer("kornia", "kornia", _kornia_dice),
                    _peer("pixseg", "pixseg", _pixseg("DiceLoss")),
                ),
                (Goal("ours", "SMP", speed=4), Goal("ours", "kornia", speed=1.3, memory=1 / 3)),
            ),
            _case(
                "focal",
                shape,
                _focal,
                plain_focal,
                (
                    _peer("SMP", "segmentation-models-pytorch", _smp("FocalLoss")),
                    _peer("MONAI", "monai", _monai_focal, _per_class),
                    _peer("kornia", "kornia", _kornia_focal, _per_class),
                    _peer("pixseg", "pixseg", _pixseg("FocalLoss", gamma=2), _same),
                    _peer("torchvision", "torchvision", _torchvision_focal),
                ),
                (Goal("ours", "SMP", speed=8), Goal("ours", "kornia", memory=0.65)),
            ),
        ]
    cases.append(
        _case(
            "Lovasz",
            (4, 19, 512),
            _lovasz,
            plain_lovasz,
            (_peer("SMP", "segmentation-models-pytorch", _smp("LovaszLoss"), _same),),
            (Goal("ours", "SMP", speed=2),),
            ORDER_TOLERANCE,
        )
    )
    shape = (8, 1, 512)
    cases += [
        _case(
            "binary cross entropy",
            shape,
            _binary_cross_entropy,
            plain_binary_cross_entropy,
            (
                _peer("SMP", "segmentation-models-pytorch", _smp_binary_cross_entropy, _same),
                _ignoring("SMP", "peer", "segmentation-models-pytorch", _smp_binary_cross_entropy),
            ),
            (Goal("ours", "SMP", speed=1), Goal("ours, 5 % ignored", "SMP, 5 % ignored", speed=1)),
        ),
        _case(
            "binary Dice",
            shape,
            _binary_dice,
            plain_binary_dice,
            (
                _peer("SMP", "segmentation-models-pytorch", _smp_binary_dice, _same),
                _ignoring("SMP", "peer", "segmentation-models-pytorch", _smp_binary_dice),
            ),
            (Goal("ours", "SMP", speed=1), Goal("ours, 5 % ignored", "SMP, 5 % ignored", speed=1)),
        ),
    ]
    return tuple(cases)


CASES = _cases()
