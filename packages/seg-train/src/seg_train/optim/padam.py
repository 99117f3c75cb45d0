"""Padam: Adam with a smaller exponent of the denominator.

"Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural Networks", J. Chen, D. Zhou,
Y. Tang, Z. Yang, Y. Cao, Q. Gu, 2018, https://arxiv.org/abs/1806.06763, algorithm 1.
Reference code: https://github.com/uclaml/Padam.

Differs from the paper:
- The step is multiplied by sqrt(1 - beta2^t) / (1 - beta1^t), as in the authors' code. For `partial=0.5` this is Adam's
  bias correction; below 0.5 it acts as a warm-up of some thousand steps.
- `eps` is added to the root after the bias correction, as in torch's Adam; the authors' code adds it before, so that it
  has more influence in the first steps.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.optimizer import Optimizer, ParamsT

from seg_core.errors import InvalidArgumentError, MissingDependencyError

__all__ = ["Padam"]

_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
# Elements per thread in a strip: few enough for the denominators to stay in the cache, and enough to make the time for
# waking the threads negligible.
_STRIP = 2**18
# Elements whose denominators are in a device's memory at a time: 64 MiB in float32.
_PORTION = 2**24
# More square roots than this take longer than one power.
_MAX_ROOTS = 4


class Padam(Optimizer):
    """Partially adaptive momentum estimation.

    For the gradient g of a parameter x at step t, after adding `weight_decay` * x to g:

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        w = max(w, v)
        x = x - lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(w) + eps * sqrt(1 - beta2^t))^(2 * partial)

    With `partial=0.5` it is `torch.optim.Adam(amsgrad=True)`, with `partial=0` SGD with momentum. Below 0.5 it takes
    learning rates as high as those of SGD.

    The state has the names and shapes of that Adam's state. For float16 and bfloat16 parameters, state and update are
    in float32. In addition to the state, a step needs 1 MiB per thread on a CPU and 64 MiB on other devices.

    Args:
        params: parameters or parameter groups with their own options, as for every optimizer of torch.
        lr: learning rate, >= 0.
        betas: decay factors of m and v, 0 to below 1.
        eps: >= 0, lower bound of the denominator.
        weight_decay: factor >= 0 of the L2 penalty, which is added to the gradient as in the authors' code.
        partial: exponent p of w, 0 to 0.5: how much of Adam's adaptivity is used.
        compile: whether to compile the update into one pass over memory with torch.compile: about twice as fast on a
            CPU, after some seconds of compilation in the first step. On a CPU this needs a C++ compiler.

    Raises:
        InvalidArgumentError: if an argument is out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        partial: float = 0.125,
        *,
        compile: bool = False,  # noqa: A002 - the name that users expect
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "partial": partial,
            "compile": compile,
        }
        super().__init__(params, options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a parameter group with its own options, as for every optimizer of torch.

        Raises:
            InvalidArgumentError: if an option is out of range.
        """
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state of another Padam over the same parameters."""
        super().load_state_dict(state_dict)
        # torch casts moments to the parameters' type; those kept in float32 for precision are restored in float32.
        saved = [number for group in state_dict["param_groups"] for number in group["params"]]
        own = [param for group in self.param_groups for param in group["params"]]
        for number, param in zip(saved, own, strict=True):
            given = state_dict["state"].get(number)
            if given is None:
                continue
            state = self.state[param]
            state["step"] = given["step"].to("cpu", copy=True)
            if param.dtype != _moment_type(param):
                state.update({n: given[n].to(param.device, _moment_type(param), copy=True) for n in _MOMENTS})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Updates all parameters that have a gradient.

        Args:
            closure: recomputes the loss and the gradients; called once, before the step.

        Returns:
            The loss that the closure returned.

        Raises:
            InvalidArgumentError: if a gradient is sparse, or a parameter is complex.
            MissingDependencyError: if `compile=True` and torch cannot compile here.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            rule = _Rule(1 - beta1, 1 - beta2, group["weight_decay"] or None, 2 * group["partial"])
            compiled, fused, others = [], [], []
            for param in group["params"]:
                if param.grad is None:
                    continue
                work, is_flat = self._prepare(param, param.grad, group)
                if is_flat and group["compile"] and param.numel() > 1:  # does not pay for a scalar
                    compiled.append(work)
                elif is_flat and param.device.type in ("cpu", "cuda") and param.dtype == work.mean.dtype:
                    fused.append(work)
                else:
                    others.append(work)
            _update_compiled(compiled, rule)
            _update_fused(fused, rule)
            for work in others:
                _update(*work, *rule)
        return loss

    def _prepare(self, param: Tensor, grad: Tensor, group: dict[str, Any]) -> tuple["_Work", bool]:
        """Counts the step of one parameter; returns its tensors for the update, and whether they are flattened."""
        if grad.layout != torch.strided or not param.is_floating_point():
            raise InvalidArgumentError(
                f"Padam takes real parameters with dense gradients, got a parameter of type {param.dtype} and shape "
                f"{tuple(param.shape)} with a gradient of layout {grad.layout}; build an embedding with sparse=False"
            )
        state = self.state[param]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state.update({name: torch.zeros_like(param, dtype=_moment_type(param)) for name in _MOMENTS})
        state["step"] += 1
        steps = state["step"].item()
        beta1, beta2 = group["betas"]
        correction = math.sqrt(1 - beta2**steps)
        step_size = float(group["lr"]) * correction / (1 - beta1**steps)
        is_flat = _is_plain(param) and type(grad) is Tensor
        if is_flat:
            # so that an element has the same position in the memory of every tensor, whatever the order of the axes
            grad = _laid_as(param, grad)
            state.update({name: _laid_as(param, state[name]) for name in _MOMENTS})
        tensors = [param.detach(), grad, *(state[name] for name in _MOMENTS)]
        if is_flat:
            tensors = [tensor.as_strided((tensor.numel(),), (1,)) for tensor in tensors]
        param, grad, mean, square, peak = tensors
        return _Work(param, grad, mean, square, peak, step_size, group["eps"] * correction), is_flat


class _Rule(NamedTuple):
    """Options shared by the parameters of a group.

    Attributes:
        mean_share: weight of the new gradient in m, 1 - beta1.
        square_share: weight of its square in v, 1 - beta2.
        weight_decay: above 0, or None.
        exponent: of the root of w, 2 * partial.
    """

    mean_share: float
    square_share: float
    weight_decay: float | None
    exponent: float


class _Work(NamedTuple):
    """The update of one parameter, with tensors of one shape: `mean`, `square` and `peak` are m, v and w."""

    param: Tensor
    grad: Tensor
    mean: Tensor
    square: Tensor
    peak: Tensor
    step_size: float
    eps: float


def _update(
    param: Tensor,
    grad: Tensor,
    mean: Tensor,
    square: Tensor,
    peak: Tensor,
    step_size: float | Tensor,
    eps: float | Tensor,
    mean_share: float | Tensor,
    square_share: float | Tensor,
    weight_decay: float | Tensor | None,
    exponent: float,
) -> None:
    """Updates one parameter, in the type of its moments."""
    grad = grad.to(mean.dtype)
    if weight_decay is not None:
        grad = grad + weight_decay * param.to(mean.dtype)
    mean.lerp_(grad, mean_share)
    square.lerp_(grad * grad, square_share)
    peak.copy_(torch.maximum(peak, square))
    denominator = _power_(peak.sqrt() + eps, exponent)
    param.copy_(param.to(mean.dtype) - step_size * mean / denominator)


def _update_compiled(works: Sequence[_Work], rule: _Rule) -> None:
    """Updates each parameter in one pass over memory, with one kernel for all shapes."""
    # Numbers are passed as tensors, as the kernel would be recompiled for each new value of a float.
    as_tensor = functools.cache(lambda number, dtype: None if number is None else torch.tensor(number, dtype=dtype))
    # The largest first: the compiler decides by the first one whether to use all threads.
    for work in sorted(works, key=lambda w: w.param.numel(), reverse=True):
        # torch would recompile for views of tensors with another number of axes; `data` is not a view.
        tensors = (tensor.data for tensor in work[:5])
        numbers = (work.step_size, work.eps, rule.mean_share, rule.square_share, rule.weight_decay)
        _compiled_update()(*tensors, *(as_tensor(n, work.mean.dtype) for n in numbers), rule.exponent)
        torch.autograd.graph.increment_version(work.param)


@functools.cache
def _compiled_update() -> Callable[..., None]:
    from torch._dynamo.exc import BackendCompilerFailed  # importing it takes a second

    compiled = torch.compile(_update, dynamic=True)

    def update(*arguments: Any) -> None:
        try:
            compiled(*arguments)
        except BackendCompilerFailed as error:
            reason = str(error).removeprefix("backend='inductor' raised:").strip().splitlines()[0]
            raise MissingDependencyError(
                f"compile=True: torch cannot compile here ({reason}); install what is missing, or remove compile"
            ) from error

    return update


def _update_fused(works: Sequence[_Work], rule: _Rule) -> None:
    """Updates in two passes: first m, v and w with torch's fused Adam, then the parameters."""
    batches: defaultdict[tuple[torch.device, torch.dtype], list[_Work]] = defaultdict(list)
    for work in works:
        batches[work.param.device, work.param.dtype].append(work)
    for (device, _), batch in batches.items():
        params, grads, means, squares, peaks, *_ = map(list, zip(*batch, strict=True))
        # With a learning rate of 0 Adam updates all but the parameters; then neither step nor eps matters.
        adam(
            params,
            grads,
            means,
            squares,
            peaks,
            list(torch.ones(len(batch), device=device).unbind()),
            fused=True,
            amsgrad=True,
            beta1=1 - rule.mean_share,
            beta2=1 - rule.square_share,
            lr=0.0,
            weight_decay=rule.weight_decay or 0.0,
            eps=1.0,
            maximize=False,
        )
        if device.type == "cpu":
            _move_by_strips(batch, rule.exponent)
        else:
            for portion in _portions(batch):
                _move_together(portion, rule.exponent)


def _move_by_strips(batch: Sequence[_Work], exponent: float) -> None:
    """Updates the parameters strip by strip, so that the denominators stay in the cache."""
    strip = min(_STRIP * torch.get_num_threads(), max(work.param.numel() for work in batch))
    scratch = torch.empty(strip, dtype=batch[0].param.dtype)
    for work in batch:
        for start in range(0, work.param.numel(), strip):
            param, mean, peak = (t[start : start + strip] for t in (work.param, work.mean, work.peak))
            denominator = torch.sqrt(peak, out=scratch[: peak.numel()])
            _power_(denominator.add_(work.eps), exponent)
            param.addcdiv_(mean, denominator, value=-work.step_size)


def _move_together(batch: Sequence[_Work], exponent: float) -> None:
    """Updates the parameters with few kernel launches."""
    denominators = torch._foreach_sqrt([work.peak for work in batch])
    torch._foreach_add_(denominators, [work.eps for work in batch])
    roots = _num_roots(exponent)
    if roots is None:
        torch._foreach_pow_(denominators, exponent)
    else:
        for _ in range(roots):
            torch._foreach_sqrt_(denominators)
    torch._foreach_addcdiv_(
        [work.param for work in batch],
        [work.mean for work in batch],
        denominators,
        [-work.step_size for work in batch],
    )


def _portions(batch: Sequence[_Work]) -> Iterator[list[_Work]]:
    """Yields the work in portions of about `_PORTION` elements; a parameter is never divided."""
    portion: list[_Work] = []
    size = 0
    for work in batch:
        if portion and size + work.param.numel() > _PORTION:
            yield portion
            portion, size = [], 0
        portion.append(work)
        size += work.param.numel()
    yield portion


def _power_(base: Tensor, exponent: float) -> Tensor:
    """Raises `base` to `exponent` in place; for 1/2, 1/4, 1/8 ... by square roots, which are much faster."""
    roots = _num_roots(exponent)
    if roots is None:
        return base.pow_(exponent)
    for _ in range(roots):
        base.sqrt_()
    return base


def _num_roots(exponent: float) -> int | None:
    """Returns how many successive square roots equal that power, or None if computing the power is better."""
    for roots in range(_MAX_ROOTS + 1):
        if exponent == 0.5**roots:
            return roots
    return None


def _moment_type(param: Tensor) -> torch.dtype:
    return torch.float32 if param.dtype in (torch.float16, torch.bfloat16) else param.dtype


def _is_plain(tensor: Tensor) -> bool:
    """Returns whether this is an ordinary tensor with dense memory, in any order of the axes."""
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.numel() == 0:
        return False
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _laid_as(param: Tensor, tensor: Tensor) -> Tensor:
    """Returns `tensor` with its axes in memory ordered as those of `param`; a copy only if the order differs."""
    strides = zip(param.stride(), tensor.stride(), param.shape, strict=True)
    if all(own == other for own, other, size in strides if size > 1):
        return tensor
    return torch.empty_like(param, dtype=tensor.dtype).copy_(tensor)


def _check(options: dict[str, Any]) -> None:
    for name, low, high in (("lr", 0, math.inf), ("eps", 0, math.inf), ("weight_decay", 0, math.inf)):
        if not low <= options[name] < high:
            raise InvalidArgumentError(f"{name} must be a finite number of at least 0, got {options[name]}")
    if not 0 <= options["partial"] <= 0.5:
        raise InvalidArgumentError(
            f"partial must be between 0 (SGD with momentum) and 0.5 (Adam with amsgrad), got {options['partial']}"
        )
    betas = options["betas"]
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise InvalidArgumentError(f"betas must be two numbers >= 0 and < 1, got {betas}")
