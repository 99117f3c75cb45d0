"""Test-time augmentation: five scales of one image, each also mirrored, through a network that costs little."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.case import Case, Contender, DisagreementError, Goal
from benchmarks.topics.sliding_window import Trivial, normalized_image, pixseg_test_time

__all__ = ["CASES"]

_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)
_TOLERANCE = 1e-5  # of probabilities
_ONE_PASS = "ours, its largest pass alone"


def _make_inputs(quick: bool) -> Tensor:
    return normalized_image(*((128, 256) if quick else (512, 1024)))


def _ours(scales: Sequence[float], hflip: bool) -> Callable[[Tensor], Callable[[], Tensor]]:
    def prepare(images: Tensor) -> Callable[[], Tensor]:
        import seg_models

        network = Trivial().eval()
        return lambda: seg_models.predict_tta(network, images, scales, hflip=hflip)

    return prepare


def _recipe(images: Tensor) -> Callable[[], Tensor]:
    """Does the same as mmsegmentation's `SegTTAModel`; mmsegmentation cannot be installed with a current torch."""
    network = Trivial().eval()
    height, width = images.shape[-2:]

    def work() -> Tensor:
        results = []
        with torch.inference_mode():
            for scale in _SCALES:
                size = (round(height * scale), round(width * scale))
                resized = F.interpolate(images, size, mode="bilinear", antialias=scale < 1)
                for flip in (False, True):
                    logits = network(resized.flip(-1) if flip else resized)["out"]
                    logits = logits.flip(-1) if flip else logits
                    results.append(F.interpolate(logits, (height, width), mode="bilinear", align_corners=False))
            total = torch.zeros_like(results[0])
            for logits in results:
                total += logits.softmax(1)
            return total / len(results)

    return work


def _pixseg(images: Tensor) -> Callable[[], Tensor]:
    module = pixseg_test_time()
    network = Trivial().eval()
    passes = module.TestTimeAugmentations(_SCALES, (False, True), iter_product=True)

    def work() -> Tensor:
        logits: Tensor = module.inference_with_augmentations(network, images, passes)
        return logits.softmax(2).mean(0)

    return work


def _check(answers: Mapping[str, Tensor]) -> str:
    """Returns the sentence of agreement for mean probabilities that must be equal up to rounding."""
    ours = answers["ours"].exp()
    texts = []
    for name in ("mmsegmentation's recipe", "pixseg"):
        if name in answers:
            worst = float((ours - answers[name]).abs().max())
            if not worst <= _TOLERANCE:  # false for NaN too
                raise DisagreementError(f"probabilities of {name!r} differ from ours by {worst:.1e}")
            texts.append(f"{name} {worst:.1e}")
    return f"largest difference of a probability from ours: {'; '.join(texts)}"


CASES = (
    Case(
        name="5 scales x flip",
        work="one image of 512x1024 to the mean probabilities of 19 classes over ten passes, a trivial network",
        make_inputs=_make_inputs,
        contenders=(
            Contender("ours", _ours(_SCALES, hflip=True), "ours", "seg-models"),
            Contender(_ONE_PASS, _ours((max(_SCALES),), hflip=False), "ours", "seg-models"),
            Contender("mmsegmentation's recipe", _recipe, "peer", "torch"),
            Contender("pixseg", _pixseg, "peer", "pixseg"),
        ),
        check=_check,
        goals=(
            Goal("ours", "pixseg", speed=2.7),
            Goal("ours", "mmsegmentation's recipe", speed=1.8),
            Goal("ours", _ONE_PASS, memory=1.2),
        ),
    ),
)
