"""Seeds: one for a whole process, and one generator for each sample of each epoch."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import get_worker_info

from seg_core.errors import InvalidArgumentError

__all__ = ["DATASET_STREAM", "OWN_TRANSFORM_STREAM", "isolated_randomness", "sample_generator", "sample_seed", "seed"]

_MASK = 2**64 - 1

DATASET_STREAM = 2
"""Stream of what a dataset itself draws in `__getitem__`; see `sample_generator` for the others."""

OWN_TRANSFORM_STREAM = 3
"""Stream of what transforms of a user's own draw."""


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
        stream: 0 for the transform, 1 for the augmentation, 2 (`DATASET_STREAM`) for the dataset itself, 3
            (`OWN_TRANSFORM_STREAM`) for transforms of a user's own: steps that draw independently for one sample.
    """
    generator = torch.Generator()
    generator.manual_seed(sample_seed(run_seed, epoch, index, stream))
    return generator


@contextlib.contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Seeds the default random states for what happens inside, and restores them at the end, also after an error.

    These are Python's `random`, NumPy's legacy state (`np.random.rand`) and torch's default CPU generator. Code of a
    user that draws from them, such as a dataset's `__getitem__`, then draws the same for the same seed, and disturbs
    nobody else. In a worker process of a data loader, whose states nobody else uses, they are only seeded.

    Generators that the code makes itself are not reached. The states belong to the process, so threads share them: use
    one thread at a time.

    Args:
        seed: any integer; its lowest 64 bits count. `sample_seed(run_seed, epoch, index, DATASET_STREAM)` is that of a
            sample that a dataset reads.
    """
    if get_worker_info() is not None:
        _seed_defaults(seed)
        yield
        return
    python, numpy, default = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        _seed_defaults(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(default)


def _seed_defaults(seed: int) -> None:
    """Seeds the states of the CPU alone: `torch.manual_seed` would seed every GPU too, which takes longer."""
    seed &= _MASK
    random.seed(seed)
    short = (seed ^ seed >> 32) & 0xFFFFFFFF  # NumPy takes 32 bits, and torch's CPU generator uses no more
    np.random.seed(short)  # noqa: NPY002
    torch.default_generator.manual_seed(short)
