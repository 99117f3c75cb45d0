import random

import numpy as np
import pytest
import torch

from seg_core.errors import InvalidArgumentError
from seg_core.randomness import isolated_randomness, sample_generator, sample_seed, seed


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


def test_isolated_randomness_draws_depend_on_the_seed_alone():
    with isolated_randomness(7):
        first = draw()
    draw()
    with isolated_randomness(7):
        assert draw() == first
    for other in (8, 7 + 2**40, -1):
        with isolated_randomness(other):
            assert all(a != b for a, b in zip(draw(), first, strict=True))


@pytest.mark.parametrize("error", [None, KeyError, GeneratorExit])
def test_isolated_randomness_restores_the_states_also_after_an_error(error):
    seed(3)
    random.gauss(0, 1), np.random.randn()  # both keep a second number for the next call
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = random.gauss(0, 1), np.random.randn(), draw()
    random.setstate(states[0]), np.random.set_state(states[1]), torch.set_rng_state(states[2])
    try:
        with isolated_randomness(1):
            draw()
            random.gauss(0, 1)
            if error is not None:
                raise error
    except (KeyError, GeneratorExit) as caught:
        assert type(caught) is error
    else:
        assert error is None
    assert (random.gauss(0, 1), np.random.randn(), draw()) == expected


def test_isolated_randomness_within_another_continues_it_afterwards():
    with isolated_randomness(1):
        expected = [draw(), draw()]
    with isolated_randomness(1):
        first = draw()
        with isolated_randomness(2):
            draw()
        assert [first, draw()] == expected
