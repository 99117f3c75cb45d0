"""Whole networks: one image through ours and through the peers' implementations of the same paper.

Torchvision's networks, and two of SMP's, have the same structure as ours, tensor by tensor: all get equal weights, the
logits are compared, and ours should be neither slower nor larger. In the other cases SMP and pixseg use other strides,
widths or heads; those cases show what each implementation costs, without a goal. Networks that no peer has are timed
alone.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from benchmarks.case import Case, Contender, DisagreementError, Goal
from benchmarks.inputs import make_image
from seg_models.speed.counts import count_macs, count_parameters

__all__ = ["CASES", "fill_in_order"]

_Build = Callable[[], nn.Module]

NUM_CLASSES = 21
# networks that no peer has
ALONE = ("bisenetv2", "ddrnet23_slim", "fast_scnn", "pidnet_s", "pidnet_m", "pidnet_l", "regseg", "stdc1", "stdc2")
_TOLERANCE = 1e-4  # of the logits' standard deviation
_SLOWEST = 1.05  # our time over torchvision's
_LARGEST = 1.01  # our memory over torchvision's; differences below a hundredth come from the allocator


def _make_inputs(quick: bool) -> Tensor:
    """Returns one normalized image: float32 (1, 3, H, W), contiguous, as from ToTensor."""
    height, width = (64, 128) if quick else (512, 1024)
    pixels = torch.from_numpy(make_image(height, width)).permute(2, 0, 1)[None].float()
    mean, std = pixels.mean((2, 3), keepdim=True), pixels.std((2, 3), keepdim=True)
    return ((pixels - mean) / std).contiguous()


# -- builders, without trained weights


def _ours(name: str, **options: object) -> _Build:
    def build() -> nn.Module:
        import seg_models

        return seg_models.get_model(name, num_classes=NUM_CLASSES, **options)

    return build


def _torchvision(name: str) -> _Build:
    def build() -> nn.Module:
        from torchvision.models import get_model

        return get_model(name, num_classes=NUM_CLASSES, weights=None, weights_backbone=None)

    return build


def _smp(name: str, encoder: str) -> _Build:
    def build() -> nn.Module:
        import segmentation_models_pytorch as smp

        return getattr(smp, name)(encoder, encoder_weights=None, classes=NUM_CLASSES)

    return build


def _pixseg(name: str) -> _Build:
    def build() -> nn.Module:
        from pixseg.models import get_model

        options = {} if name == "enet" else {"weights_backbone": None}
        return get_model(name, num_classes=NUM_CLASSES, **options)

    return build


# -- contenders


def fill_in_order(network: nn.Module) -> None:
    """Fills every tensor with values that depend on its position and shape only: equal structures get equal weights.

    Convolutions keep the scale of their inputs (He et al., 2015). Statistics and affine parameters of norms are near
    their initial values, but none is 0 or 1, so that each of them influences the logits.
    """
    with torch.no_grad():
        for place, (name, tensor) in enumerate(network.state_dict().items()):
            generator = torch.Generator().manual_seed(place)
            if tensor.ndim > 1:
                tensor.normal_(0.0, math.sqrt(2 / tensor[0].numel()), generator=generator)
            elif name.endswith(("weight", "running_var")):
                tensor.uniform_(0.8, 1.2, generator=generator)
            elif tensor.is_floating_point():
                tensor.normal_(0.0, 0.1, generator=generator)


def _contender(name: str, build: _Build, distribution: str, fill: bool) -> Contender:
    def prepare(images: Tensor) -> Callable[[], Tensor]:
        network = build().eval()
        if fill:
            fill_in_order(network)

        def work() -> Tensor:
            with torch.inference_mode():
                outputs = network(images)
            return outputs if isinstance(outputs, Tensor) else outputs["out"]

        return work

    def facts(images: Tensor) -> Mapping[str, float]:
        network = build().eval().to("meta")  # SMP's transformers cannot be built there
        macs = count_macs(network, torch.empty(images.shape, device="meta"))
        return {"M parameters": count_parameters(network) / 1e6, "GMACs": macs / 1e9}

    return Contender(name, prepare, "ours" if name == "ours" else "peer", distribution, facts=facts)


# -- agreement


def check_shapes(answers: Mapping[str, Tensor]) -> str:
    """Returns the sentence for logits of different structures: of one shape, and finite."""
    shape = tuple(answers["ours"].shape)
    for name, logits in answers.items():
        if tuple(logits.shape) != shape:
            raise DisagreementError(f"logits of {name!r} have shape {tuple(logits.shape)}, those of 'ours' {shape}")
        if not bool(logits.isfinite().all()):
            raise DisagreementError(f"logits of {name!r} are not finite")
    return f"{'structures differ' if len(answers) > 1 else 'no peer'}; all give finite logits of shape {shape}"


def check_logits(answers: Mapping[str, Tensor]) -> str:
    """Returns the sentence of agreement for logits that must be equal up to rounding."""
    check_shapes(answers)
    (first, logits), *others = answers.items()
    std = float(logits.std())
    texts = []
    for name, other in others:
        worst = float((logits - other).abs().max()) / std
        if not worst <= _TOLERANCE:  # false for NaN too
            raise DisagreementError(
                f"logits of {name!r} and {first!r} differ by {worst:.1e} of their standard deviation"
            )
        texts.append(f"{name} {worst:.1e}")
    return (
        "with equal weights, largest difference of logits from ours, relative to their standard deviation "
        f"({std:.3g}): {'; '.join(texts)}"
    )


# -- cases


def _same(
    name: str, peer: str, build: _Build, distribution: str, rounds: int, quick: bool = False, **options: object
) -> Case:
    """Returns a case against the same structure of a peer; `options` select that structure in ours."""
    return Case(
        name=name,
        work="one image of 512x1024 to logits of 21 classes at its size; the same structure, the same weights",
        make_inputs=_make_inputs,
        contenders=(
            _contender("ours", _ours(name, **options), "seg-models", fill=True),
            _contender(peer, build, distribution, fill=True),
        ),
        check=check_logits,
        goals=(Goal("ours", peer, speed=1 / _SLOWEST, memory=_LARGEST),),
        rounds=rounds,
        keep_freed=True,
        quick=quick,
    )


def _as_torchvision(name: str, rounds: int, quick: bool = False) -> Case:
    return _same(name, "torchvision", _torchvision(name), "torchvision", rounds, quick, variant="torchvision")


def _as_smp(name: str, smp: str, rounds: int, quick: bool = False, **options: object) -> Case:
    build = _smp(smp, name.rpartition("_")[2])
    return _same(name, "SMP", build, "segmentation-models-pytorch", rounds, quick, **options)


def _other(
    name: str,
    smp: str | None = None,
    pixseg: bool = False,
    rounds: int = 7,
    quick: bool = False,
    encoder: str | None = None,
) -> Case:
    """Returns a case against SMP's class, with the backbone at the end of `name`, and pixseg's builder."""
    peers = []
    if smp is not None:
        encoder = encoder or name.rpartition("_")[2]
        peers.append(_contender("SMP", _smp(smp, encoder), "segmentation-models-pytorch", fill=False))
    if pixseg:
        peers.append(_contender("pixseg", _pixseg(name), "pixseg", fill=False))
    return Case(
        name=name,
        work="one image of 512x1024 to logits of 21 classes at its size; each as its authors implement the paper",
        make_inputs=_make_inputs,
        contenders=(_contender("ours", _ours(name), "seg-models", fill=False), *peers),
        check=check_shapes,
        rounds=rounds,
        memory_repeats=1,  # no goal depends on it, and a process takes seconds to start
        keep_freed=True,
        quick=quick,
    )


CASES = (
    _as_torchvision("lraspp_mobilenet_v3_large", rounds=25, quick=True),
    _as_torchvision("deeplabv3_mobilenet_v3_large", rounds=15),
    _as_torchvision("fcn_resnet50", rounds=7),
    _as_torchvision("deeplabv3_resnet50", rounds=7),
    _as_smp("unet_resnet34", "Unet", rounds=7),
    _as_smp("fpn_resnet34", "FPN", rounds=7, align_corners=True),
    _other("lraspp_resnet18", pixseg=True),
    _other("deeplabv3_resnet18", pixseg=True),
    _other("deeplabv3plus_resnet18", smp="DeepLabV3Plus"),
    _other("pspnet_resnet18", smp="PSPNet"),
    _other("pspnet_resnet50", pixseg=True, rounds=5),
    _other("upernet_resnet18", smp="UPerNet", pixseg=True, rounds=5, quick=True),
    _other("segformer_b0", smp="Segformer", encoder="mit_b0"),
    _other("bisenet_resnet18", pixseg=True),
    _other("sfnet_resnet18", pixseg=True),
    _other("sfnet_lite_resnet18", pixseg=True),
    _other("enet", pixseg=True),
    *(_other(name) for name in ALONE),
)
