"""The network of a run: wrapped for training steps, whole for evaluations, and as weights to save.

accelerate wraps it for several processes and for half precision. With `strategy = "fsdp"` each process holds a shard of
every large tensor (torch's `fully_shard`; Zhao et al., "PyTorch FSDP", 2023, https://arxiv.org/abs/2304.11277).
Evaluations then run on a full copy, so that every predictor works and processes need not run in lockstep.
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
from seg_train.run.ema import WeightAverage

__all__ = ["RunNetwork", "synchronize_batch_norm", "train_depthwise_in_full_precision"]

# Smaller tensors are cheaper to keep whole than to gather for each use.
_MIN_SHARDED = 16_384


class RunNetwork:
    """The network of a run, with the EMA of its weights if there is one.

    Args:
        network: as built, on the device; it is wrapped in place.
        accelerator: device, precision and processes.
        strategy: `"ddp"`, or `"fsdp"` to shard weights over the processes.
        ema_decay: decay of the EMA per step, or None for no EMA.

    Attributes:
        prepared: the wrapped network, which training steps call; set by `prepare`.
        optimizer: of the weights, not wrapped; set by `prepare`.
        average: the EMA of the weights, or None.
    """

    prepared: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(
        self, network: nn.Module, accelerator: Accelerator, *, strategy: str = "ddp", ema_decay: float | None = None
    ) -> None:
        self._accelerator = accelerator
        self.network = network
        self.sharded = strategy == "fsdp" and accelerator.num_processes > 1
        # A separate full network that weights are copied into before they are evaluated.
        self._copy = copy.deepcopy(network) if self.sharded or ema_decay is not None else None
        if self.sharded:
            _shard(network, accelerator)
        self.average = None if ema_decay is None else WeightAverage(network.state_dict(), ema_decay)

    def prepare(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Wraps network and optimizer for training steps, and returns the wrapped optimizer."""
        if self.sharded:
            self.prepared = self.network
            wrapped: torch.optim.Optimizer = self._accelerator.prepare(optimizer)
        else:
            self.prepared, wrapped = self._accelerator.prepare(self.network, optimizer)
        self.optimizer = optimizer
        return wrapped

    def after_step(self) -> None:
        """Updates the EMA after an optimizer step."""
        if self.average is not None:
            self.average.update(self.network.state_dict())

    def whole_weights(self, which: str = "last") -> dict[str, Tensor]:
        """Returns the full weights, on the device; every process must call it.

        Args:
            which: `"last"`, or `"ema"` for their EMA.
        """
        if which == "ema":
            assert self.average is not None
            tensors = self.average.tensors
        else:
            tensors = self.network.state_dict()
        return {name: _whole(tensor) for name, tensor in tensors.items()}

    def for_evaluation(self, which: str = "last") -> nn.Module:
        """Returns a network with these weights, equal on all processes; every process must call it.

        Args:
            which: `"last"`, or `"ema"` for their EMA.
        """
        network = self.network
        if which == "ema" or self.sharded:
            assert self._copy is not None
            network = self._copy
            network.load_state_dict(self.whole_weights(which))
        if self._accelerator.num_processes > 1:
            # After a step each process has its own batch norm statistics; all must evaluate what is saved.
            buffers = list(network.buffers())
            if buffers:
                broadcast(buffers)
        return network

    def state(self) -> dict[str, Any]:
        """Returns weights, EMA and optimizer state for a checkpoint; every process must call it."""
        average = self.average
        return {
            "model": self.whole_weights(),
            "average": None if average is None else {"tensors": self.whole_weights("ema"), "updates": average.updates},
            "optimizer": self._optimizer_state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        _fill(self.network.state_dict(), state["model"])
        if self.average is not None:
            _fill(self.average.tensors, state["average"]["tensors"])
            self.average.updates = state["average"]["updates"]
        if not self.sharded:
            self.optimizer.load_state_dict(state["optimizer"])
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(self.network, self.optimizer, state["optimizer"], options=options)

    def release(self) -> None:
        """Removes what half precision has added to `forward` of the network and its layers; no step may follow.

        A network that was passed to the trainer as an object then computes as before.
        """
        for module in self.network.modules():
            own = vars(module)
            added = own.get("forward")
            if isinstance(added, functools.partial) and added.func is _forward_in_full_precision:
                del own["forward"]
        own = vars(self.network)
        former = own.pop("_original_forward", None)  # accelerate's name
        if former is not None:
            own["forward"] = former
            if getattr(former, "__func__", None) is type(self.network).forward:
                del own["forward"]  # the method of the class, which a copy must not share

    def _optimizer_state(self) -> dict[str, Any]:
        if not self.sharded:
            return self.optimizer.state_dict()
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return dict(get_optimizer_state_dict(self.network, self.optimizer, options=options))


def synchronize_batch_norm(network: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Returns `network` with synchronized batch norm on several GPUs, and unchanged otherwise.

    Subclasses of batch norm that override `forward` (timm's `BatchNormAct2d` ends in the activation) are not converted,
    with a warning: torch's conversion would drop what that `forward` adds.
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
            f"trainer.sync_batch_norm does not synchronize these layers: {found}. They do more than batch norm, and "
            "torch converts only its own layers; each process keeps its own statistics for them",
            stacklevel=4,
        )
    return converted


def _convert_plain_batch_norm(module: nn.Module, kept: "Counter[str]") -> nn.Module:
    if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
        if type(module).forward is _BatchNorm.forward and "forward" not in vars(module):
            return nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # of torch
        kept[type(module).__name__] += 1
    for name, child in module.named_children():
        replacement = _convert_plain_batch_norm(child, kept)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


def train_depthwise_in_full_precision(network: nn.Module) -> None:
    """Runs the depthwise convolutions of `network` in float32 while gradients are computed.

    On CPUs the gradients of such convolutions with a stride or a 5x5 kernel are several times slower in bf16 than in
    float32; their forward pass is not. The gradients also become more exact.

    Subclasses (timm's `Conv2dSame` pads first) keep their own `forward`, and layers with an already replaced `forward`
    are unchanged.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 and "forward" not in vars(module):
            # a partial, not a bound method: it can be pickled, and a deep copy of the network refers to its own layer
            module.forward = functools.partial(_forward_in_full_precision, module)  # type: ignore[method-assign]


def _forward_in_full_precision(convolution: nn.Conv2d, features: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    forward: Callable[..., Tensor] = type(convolution).forward
    if not torch.is_grad_enabled():
        return forward(convolution, features, *args, **kwargs)
    with torch.autocast(features.device.type, enabled=False):
        return forward(convolution, features.to(convolution.weight.dtype), *args, **kwargs)


def _shard(network: nn.Module, accelerator: Accelerator) -> None:
    """Shards every large tensor over the processes; convolutions and linear layers gather theirs when they run."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for module in network.modules():
        # only these exact classes: other modules may read each other's weights without calling each other
        if type(module) in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear):
            weight = module.weight
            if isinstance(weight, Tensor) and weight.numel() >= _MIN_SHARDED:
                fully_shard(module, mesh=mesh)
    fully_shard(network, mesh=mesh)


def _whole(tensor: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    whole = tensor.detach()
    return whole.full_tensor() if isinstance(whole, DTensor) else whole


@torch.no_grad()
def _fill(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copies values into the tensors of the same names; each process fills its shard."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if tensors.keys() != values.keys():
        wrong = sorted(tensors.keys() ^ values.keys())
        names = ", ".join(wrong[:5])
        raise InvalidArgumentError(f"the checkpoint is of another network: only one of the two has {names}")
    for name, tensor in tensors.items():
        value = values[name]
        if value.shape != tensor.shape:
            raise InvalidArgumentError(
                f"the checkpoint is of another network: its tensor {name} has shape {tuple(value.shape)}, and that of "
                f"the network {tuple(tensor.shape)}"
            )
        if isinstance(tensor, DTensor):
            value = distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)
        tensor.copy_(value)
