"""The network of a run in its several shapes: for steps, for evaluations, and as weights to save.

accelerate wraps it for several processes and for half precision. With `strategy = "fsdp"` each process holds a share of
every large tensor (torch's `fully_shard`; Zhao et al., "PyTorch FSDP", 2023, https://arxiv.org/abs/2304.11277), and
evaluations run on a whole copy, so that every way of predicting works and processes need not keep step.
"""

import copy
import functools
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from seg_core.errors import InvalidArgumentError

__all__ = ["RunNetwork", "WeightAverage", "synchronize_batch_norm", "train_depthwise_in_full_precision"]

# Tensors below this are cheaper to keep whole than to gather for each use.
_LEAST_SHARDED = 16_384


class WeightAverage:
    """An exponential moving average of all weights and statistics.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage, so that
    the first weights, which are random, are soon forgotten. Counters are copied.

    Args:
        tensors: a state dict; the average begins with its values.
        decay: between 0 and 1, per update.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the weights as they are now into the average."""
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        # whole tensors and those that processes share go through torch's operation apart
        groups: dict[type[Tensor], tuple[list[Tensor], list[Tensor]]] = {}
        for name, average in self.tensors.items():
            value = tensors[name].detach()
            if average.is_floating_point():
                averages, values = groups.setdefault(type(average), ([], []))
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        for averages, values in groups.values():
            torch._foreach_lerp_(averages, values, share)


class RunNetwork:
    """The network, wrapped for the run, with its average where one is wanted.

    Args:
        network: as its builder made it, on the device; it is wrapped in place.
        accelerator: device, precision and processes.
        strategy: `"ddp"`, or `"fsdp"` to share weights among processes.
        ema_decay: decay of the average per step, or None for none.

    Attributes:
        prepared: what a training step calls; set by `prepare`.
        average: of the weights, or None.
    """

    prepared: nn.Module

    def __init__(
        self, network: nn.Module, accelerator: Accelerator, *, strategy: str = "ddp", ema_decay: float | None = None
    ) -> None:
        self._accelerator = accelerator
        self.network = network
        self.sharded = strategy == "fsdp" and accelerator.num_processes > 1
        # A whole network of its own, which weights are put into before they are evaluated.
        self._copy = copy.deepcopy(network) if self.sharded or ema_decay is not None else None
        if self.sharded:
            _shard(network, accelerator)
        self.average = None if ema_decay is None else WeightAverage(network.state_dict(), ema_decay)

    def prepare(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Wraps network and optimizer for steps; returns the latter."""
        if self.sharded:
            self.prepared = self.network
            wrapped: torch.optim.Optimizer = self._accelerator.prepare(optimizer)
        else:
            self.prepared, wrapped = self._accelerator.prepare(self.network, optimizer)
        self._optimizer = optimizer
        return wrapped

    def after_step(self) -> None:
        """Takes the weights of a step into the average."""
        if self.average is not None:
            self.average.update(self.network.state_dict())

    def whole_weights(self, which: str = "last") -> dict[str, Tensor]:
        """Returns all weights, on the device; every process must call it.

        Args:
            which: `"last"`, or `"ema"` for the average.
        """
        if which == "ema":
            assert self.average is not None
            tensors = self.average.tensors
        else:
            tensors = self.network.state_dict()
        return {name: _whole(tensor) for name, tensor in tensors.items()}

    def for_evaluation(self, which: str = "last") -> nn.Module:
        """Returns a network with these weights, the same on all processes; every process must call it.

        Args:
            which: `"last"`, or `"ema"` for the average.
        """
        network = self.network
        if which == "ema" or self.sharded:
            assert self._copy is not None
            network = self._copy
            network.load_state_dict(self.whole_weights(which))
        if self._accelerator.num_processes > 1:
            # After a step each process has its own statistics of batch norm; all evaluate what is saved.
            buffers = list(network.buffers())
            if buffers:
                broadcast(buffers)
        return network

    def state(self) -> dict[str, Any]:
        """Returns weights, average and optimizer as a checkpoint holds them; every process must call it."""
        average = self.average
        return {
            "model": self.whole_weights(),
            "average": None if average is None else {"tensors": self.whole_weights("ema"), "updates": average.updates},
            "optimizer": self._optimizer_state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""
        _fill(self.network.state_dict(), state["model"])
        if self.average is not None:
            _fill(self.average.tensors, state["average"]["tensors"])
            self.average.updates = state["average"]["updates"]
        if not self.sharded:
            self._optimizer.load_state_dict(state["optimizer"])
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(self.network, self._optimizer, state["optimizer"], options=options)

    def _optimizer_state(self) -> dict[str, Any]:
        if not self.sharded:
            return self._optimizer.state_dict()
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return dict(get_optimizer_state_dict(self.network, self._optimizer, options=options))


def synchronize_batch_norm(network: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Returns `network` with batch norm over all processes where torch can do that: on several GPUs.

    Layers of subclasses with a `forward` of their own (timm's `BatchNormAct2d` ends in the activation) are left as they
    are, with a warning: torch's conversion would drop what that `forward` does besides.
    """
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        return _convert_batch_norm(network)
    return network


def _convert_batch_norm(network: nn.Module) -> nn.Module:
    kept: Counter[str] = Counter()
    converted = _convert_plain_batch_norm(network, kept)
    if kept:
        found = ", ".join(f"{count} {name}" for name, count in kept.items())
        warnings.warn(
            f"trainer.sync_batch_norm leaves these layers as they are, with statistics of each process: {found}. They "
            "do more than batch norm, and torch can only synchronize its own layers",
            stacklevel=4,
        )
    return converted


def _convert_plain_batch_norm(module: nn.Module, kept: "Counter[str]") -> nn.Module:
    if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
        if type(module).forward is _BatchNorm.forward and "forward" not in vars(module):
            converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
            return converted
        kept[type(module).__name__] += 1
    for name, child in module.named_children():
        replacement = _convert_plain_batch_norm(child, kept)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


def train_depthwise_in_full_precision(network: nn.Module) -> None:
    """Takes the depthwise convolutions of `network` out of autocast while gradients are computed.

    For CPUs, whose bf16 is several times slower than float32 in the gradients of such convolutions with a stride or a
    kernel of 5 pixels; their forward pass is not. The gradients are the more exact for it.

    What a layer computes stays its own: subclasses (timm's `Conv2dSame` pads first) are called by their own `forward`,
    and layers whose `forward` somebody else has replaced are left alone.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 and "forward" not in vars(module):
            # not a bound method: that could not be pickled; a deep copy of the network gets one for its own layer
            module.forward = functools.partial(_forward_in_full_precision, module)  # type: ignore[method-assign]


def _forward_in_full_precision(convolution: nn.Conv2d, features: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    forward: Callable[..., Tensor] = type(convolution).forward
    if not torch.is_grad_enabled():
        return forward(convolution, features, *args, **kwargs)
    with torch.autocast(features.device.type, enabled=False):
        return forward(convolution, features.to(convolution.weight.dtype), *args, **kwargs)


def _shard(network: nn.Module, accelerator: Accelerator) -> None:
    """Splits every large tensor among the processes; convolutions and linear layers gather theirs when they run."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for module in network.modules():
        # the plain classes alone: others may use each other's weights without calling each other
        if type(module) in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear):
            weight = module.weight
            if isinstance(weight, Tensor) and weight.numel() >= _LEAST_SHARDED:
                fully_shard(module, mesh=mesh)
    fully_shard(network, mesh=mesh)


def _whole(tensor: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    whole = tensor.detach()
    return whole.full_tensor() if isinstance(whole, DTensor) else whole


@torch.no_grad()
def _fill(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copies values into tensors of the same names, each process its share."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if tensors.keys() != values.keys():
        wrong = sorted(tensors.keys() ^ values.keys())
        raise InvalidArgumentError(f"the checkpoint is of another network: {', '.join(wrong[:5])} are on one side only")
    for name, tensor in tensors.items():
        value = values[name]
        if isinstance(tensor, DTensor):
            value = distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)
        tensor.copy_(value)
