"""Prepares the network of a `Predictor`: what is known of it, and the type that it computes in."""

import copy
from typing import Any

import torch
from torch import nn

from seg_core.device import fastest_precision, warn_of_slow_bf16
from seg_core.errors import InvalidArgumentError
from seg_core.labels.comparison import check_several_outputs
from seg_core.labels.metadata import DatasetMetadata
from seg_core.model_files.fit import is_compiled
from seg_core.model_files.model_file import ModelInfo

__all__ = ["check_fit", "copied", "from_info", "usable_dtype"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def from_info(info: ModelInfo | None, name: str) -> Any:
    """Returns `metadata` or `preprocessing` of what is known of a network.

    Raises:
        InvalidArgumentError: if nothing is known.
    """
    if info is None:
        raise InvalidArgumentError(
            f"the model has no {name}: pass {name}=, or use a model file (save_model writes one) or published weights"
        )
    return getattr(info, name)


def check_fit(network: nn.Module, metadata: DatasetMetadata) -> None:
    """Checks that a network takes RGB images and has the classes of the metadata, as far as its description tells.

    Raises:
        InvalidArgumentError: if it does not, or if there is one class only.
    """
    check_several_outputs(metadata)
    spec = getattr(network, "build_spec", None)
    if spec is None:
        return
    if spec.arguments.get("num_classes") != metadata.num_classes:
        raise InvalidArgumentError(
            f"metadata {metadata.name!r} has {metadata.num_classes} classes but the model was built "
            f"with num_classes={spec.arguments.get('num_classes')}; pass the metadata that it was trained on"
        )
    if spec.arguments.get("in_channels", 3) != 3:
        raise InvalidArgumentError(
            f"the model takes {spec.arguments['in_channels']} channels, but Predictor passes RGB images; "
            "call the model itself"
        )


def copied(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Returns a copy of a network, whose type can be changed.

    Raises:
        InvalidArgumentError: if it is compiled in place, which its copy would not be.
    """
    result = copy.deepcopy(network)
    if is_compiled(network) and not is_compiled(result):
        raise InvalidArgumentError(
            f"dtype = {dtype}: the network is copied to change its type, and the copy of a network that is compiled in "
            f"place is not compiled; convert it yourself, by model.to({dtype}), and leave dtype out"
        )
    return result


def usable_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype | None:
    """Returns the type to compute in, None to keep that of the weights.

    Warns:
        UserWarning: if the processor does not compute in it.

    Raises:
        InvalidArgumentError: if there is no such type, or not on this device.
    """
    if dtype == "auto":
        dtype = fastest_precision(device)
    chosen = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if dtype is not None and chosen not in _DTYPES.values():
        raise InvalidArgumentError(
            f"dtype must be one of auto, {', '.join(_DTYPES)}, torch's names or None, got {dtype!r}"
        )
    if chosen == torch.float16 and device.type == "cpu":
        raise InvalidArgumentError('dtype "fp16" needs a GPU; on a CPU use "auto"')
    if chosen == torch.bfloat16:
        warn_of_slow_bf16(device, 'dtype="auto", or leave it out')
    return chosen
