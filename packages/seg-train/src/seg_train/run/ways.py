"""Prediction in evaluations: a registered predictor with its options, with results at the size of the masks.

Masks are never resized: if an image was resized for the network, its logits are resized to the mask. The trainer,
`seg eval` and `evaluate` all predict through `Way`, so that the same options produce the same label maps.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import BINARY, MULTICLASS
from seg_core.metrics.argmax import Thresholds, argmax_labels
from seg_core.metrics.decidable import check_decidable
from seg_core.modes import eval_mode
from seg_core.own_code import naming
from seg_core.registry import PREDICTORS
from seg_core.spec import takes
from seg_train.run.labels import labels_of

__all__ = ["Way", "WayOptions"]

_OVERLAP = 0.5


@dataclass(frozen=True)
class WayOptions:
    """Prediction options, as in configs, `-s` and protocols.

    Attributes:
        tile: (height, width) in pixels of the tiles, or None for whole images.
        overlap: fraction of a tile that the next one overlaps; None uses 0.5.
        scales: scales of test-time augmentation, or None.
        hflip: whether flipped images are predicted too.
        predictor: name of a registered predictor, if none of the above is set.
        params: its arguments.
    """

    tile: tuple[int, int] | None = None
    overlap: float | None = None
    scales: tuple[float, ...] | None = None
    hflip: bool = False
    predictor: str = "whole"
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def augments(self) -> bool:
        """Whether there is test-time augmentation."""
        return self.scales is not None or self.hflip

    def protocol(self) -> dict[str, Any]:
        """Returns the fields of an `EvaluationProtocol` that say how images are predicted."""
        name = "tiled" if self.tile is not None else "augmented" if self.augments else self.predictor
        scales = self.scales
        if self.augments and scales is None:
            scales = (1.0,)
        overlap = None
        if self.tile is not None:
            overlap = _OVERLAP if self.overlap is None else float(self.overlap)
        return {
            "tile": self.tile,
            "overlap": overlap,
            "scales": scales,
            "hflip": self.hflip,
            "predictor": name,
            "predictor_params": dict(self.params),
        }

    @classmethod
    def of_protocol(cls, protocol: Mapping[str, Any]) -> "WayOptions":
        """Returns options with the same results as those that `protocol` was made from."""
        is_short = protocol.get("tile") is not None or protocol.get("scales") is not None or protocol.get("hflip")
        tile, scales = protocol.get("tile"), protocol.get("scales")
        return cls(
            tile=None if tile is None else (tile[0], tile[1]),
            overlap=protocol.get("overlap"),
            scales=None if scales is None else tuple(scales),
            hflip=bool(protocol.get("hflip")),
            predictor="whole" if is_short else protocol.get("predictor", "whole"),
            params={} if is_short else dict(protocol.get("predictor_params", {})),
        )


class Way:
    """A predictor with its options, ready to use.

    Args:
        options: prediction options.
        metadata: of the classes; its `left_right_pairs` are swapped in flipped images.
        thresholds: of a binary or multilabel task: probability above which a pixel has a class, one or one per class.

    Raises:
        UnknownNameError: if there is no such predictor.
    """

    def __init__(self, options: WayOptions, metadata: DatasetMetadata, thresholds: Thresholds = 0.5) -> None:
        pairs = metadata.left_right_pairs or ()
        self.options = options
        self.task = metadata.task
        self._thresholds = thresholds
        if options.tile is None and not options.augments:
            way = PREDICTORS.get(options.predictor)
            params = dict(options.params)
            if takes(way, "left_right_pairs"):
                params.setdefault("left_right_pairs", pairs)
            if takes(way, "task"):
                params.setdefault("task", metadata.task)
        else:
            params = {}
            if options.augments:
                way = PREDICTORS.get("augmented")
                scales = options.scales or (1.0,)
                params = {
                    "scales": scales,
                    "hflip": options.hflip,
                    "left_right_pairs": pairs,
                    "task": metadata.task,
                }
            if options.tile is not None:
                inner = functools.partial(way, **params) if options.augments else None
                way = PREDICTORS.get("tiled")
                overlap = _OVERLAP if options.overlap is None else options.overlap
                params = {"tile": options.tile, "overlap": overlap, "predict": inner}
        self._takes_thresholds = takes(way, "thresholds")
        self._takes_size = takes(way, "size")
        self._gives_both = self._takes_size and takes(way, "output")
        # tiles can return labels row by row, without the logits of the whole image
        self._gives_labels = way is PREDICTORS.get("tiled") if "tiled" in PREDICTORS else False
        self._predict = functools.partial(way, **params) if params else way

    def __call__(
        self, model: nn.Module, images: Tensor, size: tuple[int, int], *, wants_logits: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the labels at `size`, and the logits if they are requested and the predictor returns them.

        Args:
            model: network in eval mode.
            images: float (N, C, h, w), normalized, on the model's device.
            size: (height, width) in pixels of the result: of the mask, or of the original image if there is none.
            wants_logits: whether logits are needed; without them less memory is used. Those of binary and multilabel
                tasks are always returned, for their scores.

        Returns:
            Labels: uint8 (N, H, W), class ids; uint16 for more than 256 classes. Of a binary task 0 and 1, of a
                multilabel task 0 and 1 as uint8 (N, K, H, W).
            Logits: float (N, K, H, W); None if they are not requested or the predictor returns labels only.

        Raises:
            InvalidArgumentError: if the predictor returns labels of another size, which cannot be resized, or no
                tensor, or does not take one of its options.
        """
        if self.task != MULTICLASS:
            return self._by_thresholds(model, images, size)
        if self._gives_both:
            if wants_logits:
                both = self._call(model, images, size=size, output="both")
                if not isinstance(both, tuple) or len(both) != 2:
                    raise InvalidArgumentError(
                        f"the predictor {self.options.predictor!r} (evaluation.predictor) must return labels and "
                        f'logits for output="both", got {type(both).__name__}'
                    )
                return both
            return self._call(model, images, size=size, output="labels"), None
        same = tuple(images.shape[-2:]) == size
        if self._takes_size:
            result = self._call(model, images, size=size)
        elif self._gives_labels and same and not wants_logits:
            result = self._call(model, images, output="labels")
        else:
            result = self._call(model, images)
        self._check_result(result, size)
        if not result.is_floating_point():
            return result, None
        if tuple(result.shape[-2:]) != size:
            result = F.interpolate(result.float(), size, mode="bilinear", align_corners=False)
        return argmax_labels(result), result if wants_logits else None

    def _by_thresholds(self, model: nn.Module, images: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """Returns the labels of a binary or multilabel task, and the logits."""
        options: dict[str, Any] = {"size": size} if self._takes_size else {}
        if self._takes_thresholds:
            options["thresholds"] = self._thresholds
        result = self._call(model, images, **options)
        self._check_result(result, size)
        if not result.is_floating_point():
            planes = result.to(torch.uint8)
            is_plane = self.task == BINARY and planes.ndim == 4
            return planes[:, 0] if is_plane else planes, None
        check_decidable(result, self.task)
        if tuple(result.shape[-2:]) != size:
            result = F.interpolate(result.float(), size, mode="bilinear", align_corners=False)
        return labels_of(result, self.task, self._thresholds), result

    def _check_result(self, result: object, size: tuple[int, int]) -> None:
        """Checks what a predictor returned.

        Raises:
            InvalidArgumentError: if it is no tensor, or labels of another size.
        """
        if not isinstance(result, Tensor):
            raise InvalidArgumentError(
                f"the predictor {self.options.predictor!r} (evaluation.predictor) must return logits (N, K, H, W) or "
                f"labels (N, H, W), a tensor, got {type(result).__name__}"
            )
        if not result.is_floating_point() and tuple(result.shape[-2:]) != size:
            raise InvalidArgumentError(
                f"the predictor {self.options.predictor!r} returns labels of "
                f"{result.shape[-2]}x{result.shape[-1]} pixels for masks of {size[0]}x{size[1]} (height x width), "
                "but labels cannot be resized; let it return logits or take a keyword `size`, or leave out resize"
            )

    def _call(self, model: nn.Module, images: Tensor, **options: Any) -> Any:
        """Calls the predictor; an option that it passes on to something that does not take it is told as such."""
        name = self.options.predictor
        try:
            with naming("evaluation.predictor", name):
                return self._predict(model, images, **options)
        except TypeError as error:
            for param, value in self.options.params.items():
                if f"unexpected keyword argument '{param}'" in str(error):
                    raise InvalidArgumentError(
                        f"evaluation.params.{param} = {value}: the predictor {name!r} passes it on, and it is not "
                        f"taken there ({error}); correct or remove it"
                    ) from error
            raise

    def gives_logits(self, model: nn.Module, in_channels: int = 3) -> bool:
        """Returns whether the predictor returns logits to compute a loss from; tries it on one small image.

        The random state and the mode of `model` stay the same.

        Args:
            model: network on its device.
            in_channels: number of channels of the images.
        """
        device = next(iter(model.parameters()), torch.zeros(())).device
        fork = torch.random.fork_rng(devices=[] if device.type == "cpu" else None)
        with eval_mode(model), torch.inference_mode(), fork:
            image = torch.zeros(1, in_channels, 64, 64, device=device)
            return self(model, image, (64, 64))[1] is not None
