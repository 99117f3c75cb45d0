"""`optimize`: the fastest way of predicting with a network on this machine."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from seg_core.checks import check_integer, is_number
from seg_core.errors import InvalidArgumentError, nearest
from seg_core.metrics.argmax import Thresholds
from seg_core.model_files.fit import is_compiled
from seg_models.inference.outputs import check_images
from seg_models.speed.network import OptimizedNetwork
from seg_models.speed.tuning import Settings
from seg_models.speed.ways import METHODS, PRECISIONS

__all__ = ["lazily_optimized", "optimize"]

_SIZES = 2  # that a Predictor tries
_OPTIONS = ("min_agreement", "max_error", "precisions", "methods", "compile", "time_limit", "remember", "max_sizes")


def optimize(
    model: nn.Module,
    images: Tensor | Sequence[Tensor],
    *,
    min_agreement: float = 0.995,
    max_error: float | None = None,
    precisions: Collection[str] = tuple(PRECISIONS),
    methods: Collection[str] = METHODS,
    compile: bool | Literal["auto"] = "auto",  # noqa: A002 - torch's word
    thresholds: Thresholds | None = None,
    time_limit: float = 60.0,
    remember: bool = True,
) -> OptimizedNetwork:
    """Returns a network that computes the same labels, in the fastest way that is found on this machine.

    Each way is built, its labels and logits are compared with those of the network itself ("eager"), and those that
    agree are timed in turn; the fastest is kept. Ways: channels last; batch norms folded into convolutions, with sums
    and activations fused into them; lower precision, where the processor computes in it; ONNX Runtime and OpenVINO,
    where installed; CUDA graphs on GPUs; torch.compile. `report` of the result says what was tried and gained, and
    `print(network.report)` shows it as a table.

    Example:
        ```python
        fast = optimize(model, images)  # images as they come: normalized, of the size that will be predicted
        print(fast.report)
        logits = fast(images)["out"]
        ```

    Args:
        model: a network of this package, or another that returns logits; it is put in eval mode and not changed.
        images: float (N, C, H, W), normalized, or several of these. Each shape is tried on its own. Agreement is
            measured on these images, so give real ones: on noise it says little.
        min_agreement: minimum fraction of pixels, 0 to 1, whose label is equal to eager's.
        max_error: maximum difference of a logit from eager's; None is any. With 1e-3, only ways that compute in float32
            remain in practice.
        precisions: `"fp32"`, `"bf16"`, `"fp16"`: the types that may be computed in. On CPUs `"fp16"` is not tried.
        methods: the ways that may be tried, of `"channels_last"`, `"fused"`, `"onnxruntime"`, `"openvino"`,
            `"cuda_graphs"`, `"compile"`.
        compile: whether torch.compile is tried, which takes from 10 to 200 seconds per precision and cannot be
            interrupted; `"auto"` tries it only if no other way but channels last works.
        thresholds: of a binary or multilabel task: the probabilities above 0 and below 1 that decide about labels; None
            uses those of the network's weights or model file, else 0.5 for a network of one class, else the class of
            the largest logit.
        time_limit: seconds after which no further way is tried. What is fastest of those before is kept.
        remember: whether the choice is remembered in the user's cache folder (`SEG_CACHE`), per machine, threads,
            versions, network, shape and tolerance, and used again: only its agreement is checked then.

    Raises:
        InvalidArgumentError: if an argument is not as described above.
    """
    given = [images] if isinstance(images, Tensor) else images
    if not isinstance(given, Sequence) or not given:
        raise InvalidArgumentError(f"images must be a float tensor (N, C, H, W) or a list of these, got {images!r}")
    for each in given:
        check_images(each)
    _check_model(model)
    spec = getattr(model, "build_spec", None)
    takes = None if spec is None else spec.arguments.get("in_channels", 3)
    if takes is not None and any(each.shape[1] != takes for each in given):
        raise InvalidArgumentError(f"images must have the {takes} channels of the model, got {tuple(given[0].shape)}")
    settings = _settings(
        min_agreement=min_agreement,
        max_error=max_error,
        precisions=precisions,
        methods=methods,
        compile=compile,
        thresholds=_thresholds(model, thresholds),
        time_limit=time_limit,
        remember=remember,
    )
    network = OptimizedNetwork(model, settings)
    shapes: dict[tuple[int, ...], list[Tensor]] = {}
    for each in given:
        shapes.setdefault(tuple(each.shape), []).append(each)
    for same in shapes.values():
        network.tune(same)
    return network


def lazily_optimized(model: nn.Module, options: Mapping[str, Any], thresholds: Thresholds | None) -> OptimizedNetwork:
    """Returns a network that is optimized at the first images, for the first two sizes that it is given.

    Args:
        model: as in `optimize`.
        options: keyword arguments of `optimize`, and `max_sizes`: how many sizes are tried.
        thresholds: of a binary or multilabel task; None for a multiclass task.

    Raises:
        InvalidArgumentError: if an option is not known or not allowed.
    """
    _check_model(model)
    for name in options:
        if name not in _OPTIONS:
            raise InvalidArgumentError(
                f"optimize has no option {name!r}.{nearest(str(name), _OPTIONS)} Options: {', '.join(_OPTIONS)}"
            )
    defaults: dict[str, Any] = dict(optimize.__kwdefaults__ or {})
    given = {name: value for name, value in options.items() if name != "max_sizes"}
    settings = _settings(**defaults | given | {"thresholds": thresholds})
    return OptimizedNetwork(model, settings, check_integer("max_sizes", options.get("max_sizes", _SIZES)))


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise InvalidArgumentError(f"model must be a network (torch.nn.Module), got {type(model).__name__}")
    if isinstance(model, OptimizedNetwork):
        raise InvalidArgumentError("the model is optimized already; pass its .model to try other options")
    if is_compiled(model):
        raise InvalidArgumentError(
            "the model is compiled; pass the network itself, and compile=True to try torch.compile"
        )


def _thresholds(model: nn.Module, given: Thresholds | None) -> Thresholds | None:
    info = getattr(model, "model_info", None)
    if given is not None:
        return given
    if info is not None:
        return info.thresholds
    spec = getattr(model, "build_spec", None)
    return 0.5 if spec is not None and spec.arguments.get("num_classes") == 1 else None


def _settings(
    *,
    min_agreement: float,
    max_error: float | None,
    precisions: Collection[str],
    methods: Collection[str],
    compile: bool | Literal["auto"],  # noqa: A002
    thresholds: Thresholds | None,
    time_limit: float,
    remember: bool,
) -> Settings:
    if not is_number(min_agreement) or not 0 <= min_agreement <= 1:
        raise InvalidArgumentError(f"min_agreement must be a fraction of pixels, 0 to 1, got {min_agreement!r}")
    if max_error is not None and (not is_number(max_error) or not max_error >= 0):
        raise InvalidArgumentError(f"max_error must be a difference of logits >= 0, or None, got {max_error!r}")
    if not is_number(time_limit) or not 0 < time_limit < math.inf:
        raise InvalidArgumentError(f"time_limit must be a number of seconds above 0, got {time_limit!r}")
    if compile not in (True, False, "auto"):
        raise InvalidArgumentError(f'compile must be True, False or "auto", got {compile!r}')
    for name, values, known in (("precisions", precisions, PRECISIONS), ("methods", methods, METHODS)):
        given = [values] if isinstance(values, str) else list(values)
        for value in given:
            if value not in known:
                raise InvalidArgumentError(f"{name} must be some of {', '.join(known)}, got {value!r}")
    return Settings(
        min_agreement=float(min_agreement),
        max_error=max_error,
        precisions=tuple(name for name in PRECISIONS if name in precisions),
        methods=tuple(name for name in METHODS if name in methods and (name != "compile" or compile is not False)),
        compile=None if compile == "auto" else bool(compile),
        thresholds=thresholds,
        time_limit=float(time_limit),
        remember=remember,
    )
