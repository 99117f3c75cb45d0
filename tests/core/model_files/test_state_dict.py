from collections import OrderedDict

import pytest
import torch

from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.model_files.foreign_pickle import Inert
from seg_core.model_files.state_dict import tensors_of

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}
EMA = {name: tensor + 1 for name, tensor in STATE.items()}
TWO = {"model": STATE, "ema": {"module": EMA, "updates": 7}}
PREFIXED = {
    "state_dict": {
        **{f"student.{name}": tensor for name, tensor in STATE.items()},
        **{f"teacher.{name}": tensor for name, tensor in EMA.items()},
    }
}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        OrderedDict(STATE),
        {"meta": {"epoch": 1}, "state_dict": STATE},
        {"model": STATE, "optimizer": {}},
        {"model_state_dict": STATE, "epoch": 3},
        {"state_dict": STATE, "loss": torch.ones(1), "model_state_dict": 5},
        {"ema": STATE},
        {"ema": {"module": STATE, "decay": 0.9}},
        {"model_ema": STATE},
        {"teacher": STATE},
        {"net": STATE},
        {"params": STATE},
        {"params_ema": STATE},
        {"epoch": 3, "segmenter": STATE},
        {"checkpoint": {"model": STATE}, "optimizer": {"state": {"conv.weight": STATE}}},
        {"model": STATE, "criterion": {}},
        {"state_dict": {**STATE, "head._extra_state": {"any": 1}}},
        {"state_dict": None, "model": STATE},
    ],
)
def test_tensors_of_finds_them_in_the_dict_or_under_its_usual_names(content):
    assert tensors_of(content, "net.pth") == STATE


def test_tensors_of_parameter_with_such_a_name_is_a_parameter():
    tensors = {"model": torch.ones(1), "state_dict": torch.ones(2)}
    assert tensors_of(tensors, "net.pth") == tensors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            [1],
            "net.pth holds an object of type list, not tensors by name, as a plain dict or under",
        ),
        (Inert("a.Net"), "net.pth holds an object of type Inert"),
        ({}, "net.pth holds an empty dict, not tensors"),
        ({"state_dict": {}}, "net.pth holds an empty dict under 'state_dict', not tensors"),
        (
            {"a": torch.ones(1), "b": 1, 2: torch.ones(1)},
            r"net.pth holds a dict with 'b' \(int\), 2 \(Tensor\), not tensors",
        ),
        ({"model": {**STATE, "x": "y"}}, r"net.pth holds a dict under 'model' with 'x' \(str\), not tensors"),
        (dict.fromkeys("abcde"), r"with 'a' \(NoneType\), .*'c' \(NoneType\) and 2 more, not tensors"),
    ],
)
def test_tensors_of_other_content_says_what_it_is(content, message):
    with pytest.raises(CorruptFileError, match=message):
        tensors_of(content, "net.pth")


def test_several_networks_in_one_file_are_named_and_one_is_chosen():
    words = (
        r"net.pth holds several networks: 'model' \(2 tensors\) and 'ema.module' \(2 tensors\); choose one by its name "
        r"after a #, as in net.pth#model"
    )
    with pytest.raises(InvalidArgumentError, match=words):
        tensors_of(TWO, "net.pth")
    assert tensors_of(TWO, "net.pth", "model") == STATE
    assert tensors_of(TWO, "net.pth", "ema") == tensors_of(TWO, "net.pth", "ema.module") == EMA
    weights = {"weight": torch.ones(3)}
    assert tensors_of({"criterion": weights, "model": {**STATE, "a": torch.ones(1)}}, "net.pth", "criterion") == weights


def test_network_under_an_unusual_name_beside_a_usual_one_is_named_too():
    with pytest.raises(InvalidArgumentError, match=r"several networks: 'model' .* and 'average.tensors' .*#model"):
        tensors_of({"model": STATE, "average": {"tensors": EMA, "updates": 3}}, "net.pth")
    many = {f"{name}.{i}": tensor for i in range(3) for name, tensor in STATE.items()}
    assert tensors_of({"model": many, "centers": STATE}, "net.pth") == many


def test_prefix_of_the_names_can_be_chosen_like_a_network():
    assert tensors_of(PREFIXED, "net.pth", "teacher") == EMA
    assert tensors_of(PREFIXED["state_dict"], "net.pth", "student") == STATE


def test_published_file_with_several_networks_takes_the_preferred_one():
    assert tensors_of({"ema_state_dict": EMA, "state_dict": STATE}, "net.pth", preferred="state_dict") == STATE
    assert tensors_of({"model": STATE}, "net.pth", preferred="state_dict") == STATE


@pytest.mark.parametrize(
    ("content", "nest", "message"),
    [
        (
            TWO,
            "em",
            r"net.pth holds nothing under 'em'. It holds: model, ema.module; write one of them",
        ),
        (STATE, "ema", "net.pth holds nothing under 'ema'. It holds: conv; .* or remove #ema"),
        ({"a": {"x": STATE, "y": EMA}}, "a", "several networks under 'a'; choose one: a.x, a.y"),
        ({"a": STATE, "b": EMA}, None, "several networks: 'a' .* and 'b'"),
    ],
)
def test_choice_that_is_not_there_names_what_is(content, nest, message):
    with pytest.raises(InvalidArgumentError, match=message):
        tensors_of(content, "net.pth", nest)
