"""Parameters and images made by rule, so that two implementations of a network can be compared without a checkpoint.

The numbers are a hash of a tensor's name and of the position in it. They must stay as they are: the files in
tests/expected/fidelity hold what the original networks compute from them.
"""

import math
import zlib

import numpy as np
import torch

from seg_models import get_model
from seg_models.speed import counts


def hashed(name, count):
    """float64 (count,) in [-1, 1): position and name, mixed by the finaliser of murmur3."""
    state = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(zlib.crc32(name.encode()))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = (state ^ (state >> np.uint32(shift))) * np.uint32(factor)
    state ^= state >> np.uint32(16)
    return (state >> np.uint32(8)) * 2.0**-23 - 1


def tensor_by_rule(name, shape, gain):
    """The entry `name` of a state dict, float32; int64 zeros for counters."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    values = hashed(name, math.prod(shape))
    if len(shape) > 1:  # a kernel: unit variance at its output, times the gain
        values *= gain * math.sqrt(3 / math.prod(shape[1:]))
    elif name.endswith("running_var"):
        values = 1 + values / 2
    elif name.endswith("weight"):  # one number is a PReLU's slope, more are a norm's scales
        values = 0.25 + 0.05 * values if shape == [1] else 1 + 0.1 * values
    else:
        values *= 0.1
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def image_by_rule(height, width):
    """float32 (1, 3, height, width), about -2 to 2: two triangle waves and noise."""

    def wave(position, period):
        return np.abs(position % (2 * period) - period) * 2 / period - 1

    channel, row, column = np.ogrid[:3, :height, :width]
    noise = hashed(f"input:{height}x{width}", 3 * height * width).reshape(3, height, width)
    waves = wave(row + 5 * channel, 24.0) + wave(column + 9 * channel, 32.0)
    return torch.from_numpy((0.75 * waves + 0.5 * noise).astype(np.float32))[None]


_OF_A_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def shapes_of(spec):
    """Name -> shape of the published tensors, in order; the file writes a batch norm as its number of channels."""
    shapes = {}
    for name, shape in spec["state"].items():
        if isinstance(shape, int):
            shapes |= {f"{name}.{part}": [] if part == _OF_A_NORM[-1] else [shape] for part in _OF_A_NORM}
        else:
            shapes[name] = shape
    return shapes


def tensors_of(spec):
    """The published tensors, filled by rule."""
    return {name: tensor_by_rule(name, shape, spec["gain"]) for name, shape in shapes_of(spec).items()}


def worst_error(model, spec, dtype):
    """The largest error over all outputs and sizes, as a share of the output's standard deviation."""
    model = model.to(dtype)
    worst = 0.0
    for run in spec["runs"]:
        with torch.inference_mode():
            outputs = model(image_by_rule(*run["size"]).to(dtype))
        assert set(outputs) == set(run["outputs"])
        for name, expected in run["outputs"].items():
            assert list(outputs[name].shape) == expected["shape"]
            found = outputs[name].double().flatten()[expected["index"]]
            wanted = torch.tensor(expected[str(dtype).removeprefix("torch.")], dtype=torch.float64)
            worst = max(worst, ((found - wanted).abs().max() / expected["std"]).item())
    return worst


def count_macs(model, in_channels=3, size=(512, 1024)):
    """Multiply-accumulates of convolutions and matrix products for one image; give it a model on "meta"."""
    return counts.count_macs(model, torch.zeros(1, in_channels, *size, device="meta"))


def count_parameters(model):
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count(name, size, **options):
    """Trainable parameters and multiply-accumulates of a model by name, in eval mode."""
    with torch.device("meta"):
        model = get_model(name, **options).eval()
    return count_parameters(model), count_macs(model, size=size)
