import pytest
import torch

from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_core.registry import Registry
from seg_core.spec import (
    Option,
    build_named,
    check_params,
    documented_options,
    leading_parameters,
    param_problems,
    parameters_of,
    shown_default,
    takes,
    takes_any,
)


def sgd(params, lr, *, momentum=0.0, **extra):
    return params, lr, momentum, extra


def adam(params, lr=0.1, *, betas=(0.9, 0.99)):
    return params, lr, betas


class Loss:
    def __init__(self, factor, weight=None, ignore_index=255):
        self.arguments = (factor, weight, ignore_index)


def test_parameters_of_leaves_out_what_has_no_name():
    assert list(parameters_of(sgd)) == ["params", "lr", "momentum"]
    assert list(parameters_of(lambda first, /, *rest, last: None)) == ["last"]
    assert list(parameters_of(Loss)) == ["factor", "weight", "ignore_index"]
    assert parameters_of(adam)["lr"].default == 0.1


def test_takes_does_not_count_keywords_of_any_name():
    assert takes(Loss, "weight")
    assert not takes(sgd, "weight")
    assert not takes(sgd, "extra")


def test_params_that_fit_have_no_problems():
    assert param_problems("adam", adam, {"betas": (0.5, 0.9)}, ("params",)) == []
    assert param_problems("sgd", sgd, {"lr": 1, "nesterov": True}, ("params",)) == []
    check_params("adam", adam, {}, ("params",))


def test_problems_of_a_config_name_key_value_nearest_and_what_is_allowed():
    given = {"params": "they are the network's"}
    assert param_problems("adam", adam, {"beta": 0.5, "params": 1}, given, key="optimizer.params") == [
        "optimizer.params.beta = 0.5: adam has no such parameter. Did you mean 'betas'? Allowed: lr, betas",
        "optimizer.params.params = 1: not set here; they are the network's",
    ]
    assert param_problems("sgd", sgd, {}, given, key="optimizer.params") == [
        "optimizer.params.lr is missing: sgd has no default for it"
    ]


def test_problems_of_arguments_name_the_target():
    assert param_problems("loss 'Loss'", Loss, {"weigth": 1, "ignore_index": 0}, ["ignore_index"]) == [
        "loss 'Loss' has no parameter 'weigth'. Did you mean 'weight'? Allowed: factor, weight",
        "loss 'Loss': ignore_index cannot be given here",
        "factor is missing: loss 'Loss' has no default for it",
    ]
    assert param_problems("f", lambda: None, {"x": 1}) == ["f has no parameter 'x'. Allowed: none"]


def test_incomplete_params_are_fine_where_the_caller_adds_the_rest():
    assert param_problems("sgd", sgd, {}, ("params",), complete=False) == []


def test_check_params_raises_the_first_problem():
    with pytest.raises(InvalidArgumentError, match=r"^optimizer\.params\.a = 1: adam has no such parameter"):
        check_params("adam", adam, {"a": 1, "b": 2}, ("params",), key="optimizer.params")


@pytest.fixture
def things():
    registry = Registry("thing")
    registry.register("sgd", sgd)
    registry.register("Loss", Loss)
    return registry


def test_build_named_passes_what_the_target_takes_and_params_win(things):
    loss = build_named(things, "Loss", {"factor": 2, "ignore_index": 7}, weight=[1], ignore_index=255, reduction="mean")
    assert loss.arguments == (2, [1], 7)
    assert build_named(things, "sgd", {"lr": 0.5, "nesterov": True}, ["w"]) == (["w"], 0.5, 0.0, {"nesterov": True})


@pytest.mark.parametrize(
    ("name", "params", "error", "message"),
    [
        ("Los", {}, UnknownNameError, "unknown thing 'Los'. Did you mean 'Loss'"),
        ("Loss", {}, InvalidArgumentError, "factor is missing: thing 'Loss' has no default for it"),
        ("Loss", {"factor": 1, "x": 1}, InvalidArgumentError, "thing 'Loss' has no parameter 'x'"),
        ("sgd", {"lr": 1, "params": []}, InvalidArgumentError, "thing 'sgd': params cannot be given here"),
    ],
)
def test_build_named_says_what_is_wrong(things, name, params, error, message):
    with pytest.raises(error, match=message):
        build_named(things, name, params, *([[]] if name == "sgd" else []))


def test_supplied_params_are_not_missing_and_may_be_set():
    assert param_problems("sgd", sgd, {}, ("params",), supplied=("lr",)) == []
    assert param_problems("sgd", sgd, {"lr": 1}, ("params",), supplied=("lr",)) == []


def test_leading_parameters_are_those_passed_by_position():
    assert leading_parameters(lambda first, /, second, *rest, last: None, 3) == ["first", "second"]
    assert leading_parameters(Loss, 1) == ["factor"]


def test_takes_any_sees_keywords_of_any_name():
    assert takes_any(sgd)
    assert not takes_any(Loss)


class Base:
    """A base.

    Args:
        root: the folder: `a/b`,
            or another.
        size (int, optional): in pixels.
        low, high: limits.

    Attributes:
        shown: not a parameter.
    """

    def __init__(self, root, size=3, low=0, high=None):
        pass


class Derived(Base):
    """Other arguments are those of `Base`.

    Args:
        size: in meters.
        **options: of the writer.
    """

    def __init__(self, root, size=4, *, low=0, shown=None, **options):
        pass


def test_documented_options_are_those_of_the_class_and_its_bases():
    options = {option.name: option for option in documented_options(Derived)}
    assert list(options) == ["root", "size", "low", "shown"]
    assert options["root"].is_required
    assert options["root"].meaning == "the folder: `a/b`, or another."
    assert (options["size"].default, options["size"].meaning, options["size"].home) == (4, "in meters.", "Derived")
    assert (options["low"].meaning, options["low"].home) == ("limits.", "Base")
    assert options["shown"].meaning == "", "the attributes describe no parameters"
    assert [option.name for option in documented_options(Derived, without=("root", "low"))] == ["size", "shown"]
    assert documented_options(Base)[1].meaning == "in pixels."


def test_documented_options_of_a_function_without_a_docstring_have_no_meaning():
    assert [(option.name, option.meaning) for option in documented_options(adam)] == [
        ("params", ""),
        ("lr", ""),
        ("betas", ""),
    ]


def test_shown_default_is_written_as_in_a_config():
    assert [shown_default(option) for option in documented_options(adam)[1:]] == ["0.1", "[0.9, 0.99]"]
    assert shown_default(documented_options(Base)[3]) == "None"
    assert shown_default(Option("device", torch.device("cpu"), "", "")) == "device(type='cpu')"
    assert shown_default(Option("predict", adam, "", "")) == "adam"


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"lr": "1e-3"}, 'optimizer.params.lr = "1e-3": must be a number, without quotes: 0.001'),
        ({"lr": "0,01"}, 'optimizer.params.lr = "0,01": must be a number, without quotes: 0.01'),
        (
            {"betas": ["0.9", 0.99]},
            'optimizer.params.betas = ["0.9", 0.99]: must be a number, without quotes: [0.9, 0.99]',
        ),
        ({"width": "4"}, 'optimizer.params.width = "4": must be a number, without quotes: 4'),
        ({"limit": "2.5"}, 'optimizer.params.limit = "2.5": must be a number, without quotes: 2.5'),
        ({"lr": "fast"}, None),  # the target itself may know the word
        ({"name": "12"}, None),
        ({"size": "12"}, None),
        ({"lr": 1e-3, "betas": (0.9, 0.99), "width": 4, "limit": 1}, None),
    ],
)
def test_number_as_text_is_a_problem(params, problem):
    def target(lr=0.1, betas=(0.9, 0.999), width=3, limit: "float | None" = None, name="", size: "int | str" = ""):
        pass

    found = param_problems("target", target, params, key="optimizer.params", complete=False)
    assert found == ([] if problem is None else [problem])
