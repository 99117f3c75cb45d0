import random

import numpy as np
import pytest
import torch

from seg_core.errors import InvalidArgumentError
from seg_core.randomness import sample_generator, sample_seed, seed


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_seed_same_value_repeats_all_three_states():
    seed(3)
    first = draw()
    seed(3)
    assert draw() == first
    seed(4)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


@pytest.mark.parametrize("value", [-1, 2**32])
def test_seed_out_of_range_raises(value):
    with pytest.raises(InvalidArgumentError, match=rf"seed must be from 0 to 2\*\*32 - 1, got {value}"):
        seed(value)


def test_sample_seed_differs_for_every_key_and_order():
    seeds = {sample_seed(s, e, i, k) for s in range(4) for e in range(10) for i in range(100) for k in range(2)}
    assert len(seeds) == 4 * 10 * 100 * 2
    assert sample_seed(0, 1, 2) != sample_seed(0, 2, 1)


def test_sample_seed_is_the_same_in_every_process_and_release():
    assert sample_seed(7, 1, 2, 0) == 4280259475049965103


def test_sample_generator_draws_depend_on_the_numbers_alone():
    state = torch.random.get_rng_state()
    first = torch.rand(3, generator=sample_generator(1, 2, 3))
    assert torch.equal(first, torch.rand(3, generator=sample_generator(1, 2, 3)))
    assert not torch.equal(first, torch.rand(3, generator=sample_generator(1, 2, 3, stream=1)))
    assert torch.equal(state, torch.random.get_rng_state())


def test_sample_generator_neighbors_are_uncorrelated():
    draws = torch.stack([torch.rand(2, generator=sample_generator(0, e, i)) for e in range(10) for i in range(200)])
    assert abs(float(draws.mean()) - 0.5) < 0.02
    neighbors = np.corrcoef(draws[:-1, 0].numpy(), draws[1:, 0].numpy())[0, 1]
    assert abs(neighbors) < 0.08
