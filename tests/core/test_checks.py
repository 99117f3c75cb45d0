import numpy as np
import pytest

from seg_core.checks import check_integer, is_integer, is_number
from seg_core.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("value", "minimum", "expected"),
    [
        (3, None, True),
        (-3, None, True),
        (0, 0, True),
        (0, 1, False),
        (True, None, False),
        (2.0, None, False),
        ("2", None, False),
        (np.int64(2), None, False),
        (None, None, False),
    ],
)
def test_is_integer_takes_ints_from_the_minimum_on(value, minimum, expected):
    assert is_integer(value, minimum) is expected


@pytest.mark.parametrize("value", [0, -2, 0.5, pytest.param(10**400, id="larger than any float")])
def test_is_number_takes_finite_numbers(value):
    assert is_number(value)


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), "1", None, [1], 1j])
def test_is_number_refuses_everything_else(value):
    assert not is_number(value)


def test_check_integer_returns_the_value():
    assert check_integer("batch_size", 4) == 4
    assert check_integer("num_workers", 0, minimum=0) == 0


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "4", None])
def test_check_integer_error_names_argument_bound_and_value(value):
    with pytest.raises(InvalidArgumentError) as raised:
        check_integer("batch_size", value)
    assert str(raised.value) == f"batch_size must be an integer >= 1, got {value!r}"
    with pytest.raises(InvalidArgumentError, match="batch_size must be an integer from 1 to 3, got 4"):
        check_integer("batch_size", 4, maximum=3)
