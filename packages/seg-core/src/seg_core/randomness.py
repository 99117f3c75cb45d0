"""Seeds: one for a whole process, and one generator for each sample of each epoch."""

import random

import numpy as np
import torch

from seg_core.errors import InvalidArgumentError

__all__ = ["sample_generator", "sample_seed", "seed"]

_MASK = 2**64 - 1


def seed(value: int) -> None:
    """Seeds Python's, numpy's and torch's default random states (all devices).

    Args:
        value: 0 to 2**32 - 1, the range that all three accept.

    Raises:
        InvalidArgumentError: if `value` is outside of it.
    """
    if not 0 <= value < 2**32:
        raise InvalidArgumentError(f"seed must be from 0 to 2**32 - 1, got {value}")
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 - the state that other libraries draw from
    torch.manual_seed(value)


def sample_seed(run_seed: int, *key: int) -> int:
    """Returns a 64-bit seed that depends on the run's seed and every number of `key`, and on their order.

    Each number goes through the finalizer of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
    generators", OOPSLA 2014), so that neighboring epochs and indices give unrelated seeds.
    """
    state = run_seed & _MASK
    for number in key:
        state = (state + 0x9E3779B97F4A7C15 * ((number & _MASK) + 1)) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def sample_generator(run_seed: int, epoch: int, index: int, stream: int = 0) -> torch.Generator:
    """Returns the generator of sample `index` in `epoch`.

    The draws of a sample depend on these four numbers alone: not on workers, the order of samples, the batch, or where
    a run was resumed.

    Args:
        run_seed: the run's seed.
        epoch: counted from 0.
        index: position in the dataset.
        stream: 0 for the transform, 1 for the augmentation: two steps that draw independently for one sample.
    """
    generator = torch.Generator()
    generator.manual_seed(sample_seed(run_seed, epoch, index, stream))
    return generator
