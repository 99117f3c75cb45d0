import pickle

import pytest

from seg_core import errors
from seg_core.errors import UserError, counted, id_ranges, nearest

CLASSES = [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_error_shows_its_message_and_survives_pickling(cls):
    error = pickle.loads(pickle.dumps(cls("the message")))
    assert type(error) is cls
    assert str(error) == "the message"
    assert isinstance(error, UserError)


def test_errors_are_the_builtins_that_users_expect():
    assert issubclass(errors.InvalidArgumentError, ValueError)
    assert issubclass(errors.InvalidTypeError, TypeError)
    assert issubclass(errors.UnknownNameError, ValueError)
    assert issubclass(errors.DatasetNotFoundError, FileNotFoundError)
    assert issubclass(errors.MissingDependencyError, ImportError)
    assert issubclass(errors.WriteError, OSError)


def test_exit_code_is_2_for_wrong_requests_and_1_for_failures():
    assert {c.__name__ for c in CLASSES if c.exit_code == 2} == {
        "UsageError",
        "ConfigError",
        "UnknownNameError",
        "InvalidArgumentError",
        "InvalidTypeError",
        "DatasetNotFoundError",
        "MissingModelFileError",
        "WrongTargetError",
    }
    assert {c.exit_code for c in CLASSES} == {1, 2}


def test_nearest_close_name_suggests_it_whatever_the_case():
    assert nearest("camvid", ["CamVid", "Shapes"]) == " Did you mean 'CamVid'?"


def test_nearest_nothing_close_returns_empty():
    assert nearest("xyz", ["CamVid", "Shapes"]) == ""


def test_id_ranges_are_cut_at_a_limit_with_the_number_of_other_ids():
    ids = [0, 1, 2, 5, 7, 8, 9, 255]
    assert id_ranges(ids) == id_ranges(ids, 4) == "0-2, 5, 7-9, 255"
    assert id_ranges(ids, 2) == "0-2, 5 and 4 more"


def test_counted_has_the_noun_in_its_number():
    assert [counted(n, "mask") for n in (0, 1, 2)] == ["0 masks", "1 mask", "2 masks"]
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
