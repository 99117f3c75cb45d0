"""The network that `optimize` returns."""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError
from seg_core.modes import set_eval
from seg_models.inference.adapted import last_resize
from seg_models.networks.base import SegmentationNetwork
from seg_models.speed.report import OptimizationReport
from seg_models.speed.tuning import Settings, Tuned, tune
from seg_models.speed.ways import LogitsOnly, Run

__all__ = ["OptimizedNetwork"]


class OptimizedNetwork(SegmentationNetwork):
    """A network whose logits are computed in the fastest way that was found for images of their shape.

    Called like the network itself: float images (N, C, H, W) to a dict with `"out"`, float32 logits (N, K, H, W),
    without gradients. Images of other shapes than those that were tried are computed one by one if a single image of
    their size was tried, else in the fastest way that takes any size (another memory layout or precision), else by the
    network itself. It belongs to this process and this device: save the network itself.

    Attributes:
        model: the network itself, in eval mode.
        reports: what was tried, for each shape.
    """

    def __init__(self, model: nn.Module, settings: Settings, max_sizes: int = 0) -> None:
        super().__init__()
        set_eval(model)
        self.model = model
        align_corners = last_resize(model)
        direct = isinstance(model, SegmentationNetwork) and align_corners is not None
        self.upsampling = {"out": ("bilinear", bool(align_corners)) if direct else None}
        for name in ("build_spec", "model_info", "randomly_initialized"):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))
        self._module = LogitsOnly(model, direct)
        self._settings = settings
        self._max_sizes = max_sizes
        self._tuned: dict[tuple[int, ...], Tuned] = {}
        super().train(False)

    @property
    def backbone(self) -> Any:
        """The backbone of the network, which knows the minimum size of images."""
        return self.model.backbone

    @property
    def reports(self) -> tuple[OptimizationReport, ...]:
        """What was tried for each shape, in the order of the calls."""
        return tuple(tuned.report for tuned in self._tuned.values())

    @property
    def report(self) -> OptimizationReport:
        """What was tried for the first shape.

        Raises:
            InvalidArgumentError: if nothing was tried yet: `Predictor` does so at the first image.
        """
        if not self._tuned:
            raise InvalidArgumentError("nothing was optimized yet; predict an image first")
        return self.reports[0]

    def tune(self, images: Sequence[Tensor]) -> None:
        """Finds the fastest way for images of one shape: float (N, C, H, W) each."""
        first = next((each for each in self._parameters_of_model()), None)
        given = [each.detach() if first is None else each.detach().to(first.device, first.dtype) for each in images]
        self._tuned[tuple(given[0].shape)] = tune(self._module, self._at_size_of, given, self._settings)

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"`, logits before the final resize of the network, or at the images' size."""
        with torch.no_grad():
            logits = self._run_for(images)(images)
        return {"out": logits if logits.dtype == torch.float64 else logits.float()}

    def _run_for(self, images: Tensor) -> Run:
        shape = tuple(images.shape)
        if shape not in self._tuned and len(self._tuned) < self._max_sizes and not self._knows(shape[1:]):
            self.tune([images])
        if shape in self._tuned:
            return self._tuned[shape].run
        single = self._tuned.get((1, *shape[1:]))
        if single is not None:
            return lambda given: torch.cat([single.run(image[None]) for image in given])
        return next((tuned.any_size for tuned in self._tuned.values()), self._module)

    def _knows(self, shape: tuple[int, ...]) -> bool:
        """Returns whether images (C, H, W) were tried in batches of any number: the last batch is often smaller."""
        return any(known[1:] == shape for known in self._tuned)

    def _at_size_of(self, logits: Tensor, images: Tensor) -> Tensor:
        how = self.upsampling["out"]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if how is None:
            return logits
        return F.interpolate(logits, images.shape[-2:], mode=how[0], align_corners=how[1])

    def _parameters_of_model(self) -> Any:
        return (each for each in self.model.parameters() if each.is_floating_point())

    # ---- what cannot be done with it ---------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> "OptimizedNetwork":
        """Refuses train mode.

        Raises:
            InvalidArgumentError: if `mode` is True.
        """
        if mode:
            raise InvalidArgumentError("an optimized network predicts only; train its .model, and optimize that again")
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> "OptimizedNetwork":  # noqa: ARG002 - torch's signature
        """Refuses to be moved: the copies that compilers and runtimes hold would stay behind."""
        for each in self._parameters_of_model():
            moved = fn(each)
            if (moved.device, moved.dtype) != (each.device, each.dtype):
                raise InvalidArgumentError(
                    f"an optimized network stays {each.dtype} on {each.device}; move its .model, and optimize "
                    "that again"
                )
            break
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise InvalidArgumentError(
            "an optimized network belongs to its process and cannot be copied or saved; use its .model"
        )
