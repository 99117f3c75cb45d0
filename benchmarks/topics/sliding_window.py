"""One large image in tiles: the cost of blending beside the forward passes of the network."""

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.case import Case, Contender, DisagreementError, Goal
from benchmarks.inputs import make_image
from benchmarks.topics.networks import fill_in_order

__all__ = ["CASES", "Trivial", "normalized_image", "pixseg_test_time"]

NUM_CLASSES = 19
_TOLERANCE = 1e-5  # of the logits' standard deviation


class Trivial(nn.Module):
    """A network that costs almost nothing but its last step: stride 8, then bilinear upsampling, as in most networks.

    It has the interface of `SegmentationNetwork` without deriving from it, so that peers do not import ours.
    """

    def __init__(self) -> None:
        super().__init__()
        self.upsampling = {"out": ("bilinear", False)}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.classify = nn.Conv2d(3, NUM_CLASSES, 1)

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits at a stride of 8: float (N, 19, h, w)."""
        return {"out": self.classify(F.avg_pool2d(images, 8, ceil_mode=True))}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits at the size of the images: float (N, 19, H, W)."""
        logits = self.forward_logits(images)["out"]
        return {"out": F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)}


class _Inputs(NamedTuple):
    images: Tensor
    tile: tuple[int, int]
    overlap: float


def normalized_image(height: int, width: int) -> Tensor:
    """Returns float32 (1, 3, H, W), mean 0 and standard deviation 1 in each channel."""
    pixels = torch.from_numpy(make_image(height, width)).permute(2, 0, 1)[None].float()
    mean, std = pixels.mean((2, 3), keepdim=True), pixels.std((2, 3), keepdim=True)
    return ((pixels - mean) / std).contiguous()


def pixseg_test_time() -> ModuleType:
    """Returns pixseg's module `test_time` without the rest of its package, which needs loggers and plots."""
    import pixseg

    if "pixseg.pipeline" not in sys.modules:
        package = ModuleType("pixseg.pipeline")
        package.__path__ = [f"{path}/pipeline" for path in pixseg.__path__]
        sys.modules["pixseg.pipeline"] = package
    return importlib.import_module("pixseg.pipeline.test_time")


# -- networks


def _trivial() -> nn.Module:
    return Trivial().eval()


def _lraspp() -> nn.Module:
    import seg_models

    network: nn.Module = seg_models.get_model("lraspp_mobilenet_v3_large", num_classes=NUM_CLASSES).eval()
    fill_in_order(network)  # equal weights: every contender builds its own network
    return network


# -- contenders


def _ours(
    build: Callable[[], nn.Module], output: Literal["logits", "labels"] = "logits"
) -> Callable[[_Inputs], Callable[[], Tensor]]:
    def prepare(inputs: _Inputs) -> Callable[[], Tensor]:
        import seg_models

        network = build()
        return lambda: seg_models.predict_tiled(
            network, inputs.images, inputs.tile, inputs.overlap, blend="constant", output=output
        )

    return prepare


def _monai(build: Callable[[], nn.Module]) -> Callable[[_Inputs], Callable[[], Tensor]]:
    def prepare(inputs: _Inputs) -> Callable[[], Tensor]:
        from monai.inferers import sliding_window_inference

        network = build()

        def work() -> Tensor:
            with torch.inference_mode():
                logits: Tensor = sliding_window_inference(
                    inputs.images,
                    inputs.tile,
                    1,
                    lambda tiles: network(tiles)["out"],
                    overlap=inputs.overlap,
                    mode="constant",
                )
            return logits

        return work

    return prepare


def _pixseg(build: Callable[[], nn.Module]) -> Callable[[_Inputs], Callable[[], Tensor]]:
    def prepare(inputs: _Inputs) -> Callable[[], Tensor]:
        module = pixseg_test_time()
        network = build()

        def work() -> Tensor:
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Using a non-tuple sequence for multidimensional indexing")
                # one image per tile, 0 outside of it
                logits: Tensor = module.inference_with_sliding_window(network, inputs.images, inputs.tile).sum(0)
            return logits

        return work

    return prepare


def _recipe(build: Callable[[], nn.Module]) -> Callable[[_Inputs], Callable[[], Tensor]]:
    """Does the same as mmsegmentation's `slide_inference`; mmsegmentation cannot be installed with a current torch."""

    def prepare(inputs: _Inputs) -> Callable[[], Tensor]:
        network = build()
        images = inputs.images
        height, width = images.shape[-2:]

        def work() -> Tensor:
            with torch.inference_mode():
                total = images.new_zeros(len(images), NUM_CLASSES, height, width)
                count = images.new_zeros(len(images), 1, height, width)
                for top in _starts(height, inputs.tile[0], inputs.overlap):
                    for left in _starts(width, inputs.tile[1], inputs.overlap):
                        bottom, right = top + inputs.tile[0], left + inputs.tile[1]
                        logits = network(images[:, :, top:bottom, left:right])["out"]
                        total += F.pad(logits, (left, width - right, top, height - bottom))
                        count[:, :, top:bottom, left:right] += 1
                return total / count

        return work

    return prepare


def _passes(build: Callable[[], nn.Module]) -> Callable[[_Inputs], Callable[[], None]]:
    def prepare(inputs: _Inputs) -> Callable[[], None]:
        network = build()
        height, width = inputs.tile

        def work() -> None:
            with torch.inference_mode():
                for top in _starts(inputs.images.shape[-2], height, inputs.overlap):
                    for left in _starts(inputs.images.shape[-1], width, inputs.overlap):
                        network(inputs.images[:, :, top : top + height, left : left + width])

        return work

    return prepare


def _starts(length: int, size: int, overlap: float) -> Sequence[int]:
    """Returns where tiles start; sizes here divide lengths."""
    return range(0, length - size + 1, int(size * (1 - overlap)))


# -- agreement


def check_logits(answers: Mapping[str, Tensor]) -> str:
    """Returns the sentence of agreement for logits that must be equal up to rounding."""
    (first, logits), *others = answers.items()
    std = float(logits.std())
    texts = []
    for name, other in others:
        worst = float((logits - other).abs().max()) / std if logits.shape == other.shape else float("inf")
        if not worst <= _TOLERANCE:  # false for NaN too
            raise DisagreementError(
                f"logits of {name!r} and {first!r} differ by {worst:.1e} of their standard deviation"
            )
        texts.append(f"{name} {'none' if worst == 0 else f'{worst:.1e}'}")
    return f"largest difference from ours, relative to the logits' standard deviation ({std:.3g}): {'; '.join(texts)}"


# -- cases


def _make_inputs(overlap: float) -> Callable[[bool], _Inputs]:
    def make_inputs(quick: bool) -> _Inputs:
        height, width = (256, 512) if quick else (1024, 2048)
        return _Inputs(normalized_image(height, width), (height // 2, width // 2), overlap)

    return make_inputs


def _case(overlap: float, speed: float) -> Case:
    contenders = [
        Contender("ours", _ours(_trivial), "ours", "seg-models"),
        Contender("MONAI", _monai(_trivial), "peer", "monai"),
        Contender("mmsegmentation's recipe", _recipe(_trivial), "peer", "torch"),
        *([Contender("pixseg", _pixseg(_trivial), "peer", "pixseg")] if overlap == 0 else []),
        Contender("the passes alone", _passes(_trivial), "bound", "torch"),
    ]
    return Case(
        name=f"overlap {overlap:g}",
        work="one image of 1024x2048 to logits of 19 classes, tiles of 512x1024, equal weights, a trivial network",
        make_inputs=_make_inputs(overlap),
        contenders=tuple(contenders),
        check=check_logits,
        goals=(Goal("ours", "MONAI", speed=speed, memory=1.01),),
    )


_LRASPP = Case(
    name="lraspp",
    work="one image of 1024x2048 to logits of 19 classes, tiles of 512x1024 that overlap by half, LRASPP",
    make_inputs=_make_inputs(0.5),
    contenders=(
        Contender("ours", _ours(_lraspp), "ours", "seg-models"),
        Contender("MONAI", _monai(_lraspp), "peer", "monai"),
        Contender("the passes alone", _passes(_lraspp), "bound", "torch"),
    ),
    check=check_logits,
    goals=(Goal("ours", "the passes alone", speed=1 / 1.15),),
    rounds=7,
    keep_freed=True,
)


CASES = (_case(0.0, speed=1.5), _case(0.5, speed=1.3), _LRASPP)
