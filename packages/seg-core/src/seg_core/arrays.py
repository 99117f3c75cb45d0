"""Converts arrays of NumPy to tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["tensor_of_array"]


def tensor_of_array(array: np.ndarray[Any, Any]) -> Tensor:
    """Returns an array of numbers as a tensor of the same shape, which shares its memory where torch can.

    `torch.from_numpy` rejects other byte orders, negative strides (flipped views) and those of a field of a record, and
    warns about read-only memory: these arrays are copied.

    Args:
        array: of any type that torch has; long doubles become float64.
    """
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:  # long double, which torch does not know
        array = array.astype(np.float64)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not array.flags.writeable or any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(array)
