"""Descriptions that are well-formed and absurd: refused as a config is, before anything is built; and not written."""

import json
import time

import pytest
import torch
from torch import nn

from seg_core import BuildSpec, DatasetMetadata, ImageChannels, Preprocessing, load_model, save_model
from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.model_files.digest import digest_of
from seg_core.model_files.reading import description_of, parse_description
from seg_core.registry import MODELS

METADATA = DatasetMetadata("two", ("left", "right"))


class Wide(nn.Module):
    """A network whose sizes are arguments, with a table that its file does not hold."""

    def __init__(self, num_classes, width, layers, table, looks):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(layers))
        self.conv = nn.Conv2d(width, num_classes, 1)
        self.register_buffer("table", torch.zeros(table, table), persistent=False)
        if looks:
            self.conv.bias.data += float(self.conv.weight.detach().numpy().max())


def wide(*, num_classes=2, variant=None, width=3, layers=1, table=2, looks=False):
    model = Wide(num_classes, width, layers, table, looks)
    arguments = {"num_classes": num_classes, "width": width, "layers": layers, "table": table, "looks": looks}
    model.build_spec = BuildSpec("wide", variant or "paper", arguments)
    return model


@pytest.fixture(autouse=True)
def registered():
    MODELS.register("wide", wide)


def written(path, **changes):
    """Returns a model file with changed values at keys such as `"arguments.width"`, whose digest is right."""
    save_model(wide(), path, metadata=METADATA, preprocessing=Preprocessing())
    content = torch.load(path, weights_only=True)
    for key, value in changes.items():
        *tables, last = key.split("__")
        inner = content
        for table in tables:
            inner = inner[table]
        inner[last] = value
    content["digest"] = digest_of({key: value for key, value in content.items() if key != "digest"})
    torch.save(content, path)
    return path


def nested(depth):
    found = []
    for _ in range(depth):
        found = [found]
    return found


ABSURD = {
    "num_classes": ({"arguments__num_classes": 10**9}, r"num_classes'\] = 1000000000: must be 2"),
    "num_classes of 100 bits": ({"arguments__num_classes": 10**30}, "num_classes'] is an integer of over 64 bits"),
    "num_classes True": ({"arguments__num_classes": True}, "num_classes'] = True: must be 2"),
    "unknown argument": ({"arguments__depth": 3}, "no such parameter"),
    "weights": ({"arguments__weights": "other.pt"}, "arguments.weights = other.pt: not set here"),
    "list of arguments": ({"arguments": [["num_classes", 2]]}, "arguments = .*must be a table"),
    "builder None": ({"builder": None}, "builder = None: must be the name of a model"),
    "empty builder": ({"builder": " "}, "builder must be a name that is not empty"),
    "long builder": ({"builder": "x" * 10**6}, "builder has 1000000 characters"),
    "variant": ({"variant": {"paper": 1}}, "variant = {'paper': 1}: must be the name of a variant"),
    "NaN": ({"arguments__width": float("nan")}, "width'] = nan: must be a finite number"),
    "huge width": ({"arguments__width": 10**9}, "creates a tensor of shape (2, 1000000000, 1, 1), far larger"),
    "huge width, looking": ({"arguments__width": 10**9, "arguments__looks": True}, "creates a tensor of shape"),
    "huge table": ({"arguments__table": 10**6}, "creates a tensor of shape (1000000, 1000000)"),
    "many layers": ({"arguments__layers": 10**9}, "needs far more steps to be built than the tensors of its file"),
    "deep list": ({"arguments__width": nested(50)}, "is nested over 20 deep"),
    "key with half a character": ({"metrics": {"\ud800": 1}}, "holds half a character"),
    "scale 1e308": ({"preprocessing__scale": 1e308}, "scale must be a factor from 0.01 to 100, got 1e+308"),
    "scale 1e-9": ({"preprocessing__scale": 1e-9}, "scale must be a factor from 0.01 to 100, got 1e-09"),
    "huge side": ({"preprocessing__longer_side": 10**12}, "longer_side must be at most 1,048,576 pixels"),
    "huge size": ({"preprocessing__size": [10**12, 1]}, "size must be at most 1,048,576 pixels a side"),
    "std 1e-300": ({"preprocessing__std": [1e-300] * 3}, "std must be of values scaled to 0 to 1, from 1e-06"),
    "mean 1e300": ({"preprocessing__mean": [1e300] * 3}, "mean must be of values scaled to 0 to 1"),
    "half a character": ({"metadata__labels": ["left", "a\udc80"]}, "holds half a character, '\\udc80'"),
    "long label": ({"metadata__labels": ["left", "a" * 10**6]}, "labels[1] has 1000000 characters"),
    "long license": ({"metadata__license": "a" * 10**6}, "license has 1000000 characters"),
    "many labels": ({"metadata__labels": [str(i) for i in range(10**5)]}, "labels must be at most 65535 names"),
    "colors": ({"metadata__colors": [[10**30] * 3] * 2}, "is an integer of over 64 bits"),
    "protocol": ({"protocol": {"dataset": {}}}, "protocol: a protocol needs the keys"),
}


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_description_is_refused_before_anything_is_built(tmp_path, case):
    changes, words = ABSURD[case]
    path = written(tmp_path / "net.pt", **changes)
    start = time.monotonic()
    with pytest.raises(CorruptFileError) as caught:
        load_model(path)
    assert time.monotonic() - start < 10
    message = str(caught.value)
    assert message.startswith(str(path))
    assert words.replace("\\]", "]") in message or all(part in message for part in words.split(".*"))
    assert len(message) < 2000


def test_description_of_an_exported_file_is_checked_alike(tmp_path):
    info = load_model(written(tmp_path / "net.pt")).model_info
    content = json.loads(json.dumps(description_of(info)))
    assert parse_description("net.onnx", content) == info
    content["metadata"]["labels"][0] = "\ud800"
    with pytest.raises(CorruptFileError, match="net.onnx is a damaged model file: metadata.*half a character"):
        parse_description("net.onnx", content)


HOLDS_ITSELF: list[object] = [1]
HOLDS_ITSELF.append(HOLDS_ITSELF)


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"a": HOLDS_ITSELF}, "metrics holds itself, or is nested very deep"),
        ({"a": nested(50)}, "is nested over 20 deep"),
        ({"a": 2**64}, r"metrics\['a'\] is an integer of over 64 bits"),
        ({"a": "\ud800"}, r"metrics\['a'\] = '\\ud800' holds half a character"),
        ({"a" * 1000: 1}, "a key of metrics has 1000 characters"),
    ],
)
def test_what_would_be_refused_is_not_written(tmp_path, metrics, words):
    with pytest.raises(InvalidArgumentError, match=words):
        save_model(wide(), tmp_path / "net.pt", metadata=METADATA, preprocessing=Preprocessing(), metrics=metrics)
    assert not list(tmp_path.iterdir())


def test_argument_that_is_no_number_is_not_written(tmp_path):
    model = wide()
    model.build_spec.arguments["width"] = float("inf")
    with pytest.raises(InvalidArgumentError, match=r"arguments\['width'\] = inf: must be a finite number"):
        save_model(model, tmp_path / "net.pt", metadata=METADATA, preprocessing=Preprocessing())


def test_builders_bug_keeps_its_cause(tmp_path):
    path = written(tmp_path / "net.pt")

    def broken(*, num_classes=2, variant=None, width=3, layers=1, table=2, looks=False):
        raise ZeroDivisionError("a bug")

    MODELS._objects["wide"] = broken
    with pytest.raises(CorruptFileError, match="ZeroDivisionError: a bug") as caught:
        load_model(path)
    causes, error = [], caught.value
    while error is not None:
        causes.append(type(error))
        error = error.__cause__
    assert causes[-1] is ZeroDivisionError


def test_labels_with_control_characters_stay_as_they_are_in_the_file(tmp_path):
    labels = ("a\x1b[31m", "b\u202e\n")
    path = tmp_path / "net.pt"
    save_model(wide(), path, metadata=DatasetMetadata("two", labels), preprocessing=Preprocessing())
    assert load_model(path).model_info.metadata.labels == labels


@pytest.mark.parametrize(
    "values", [{"names": ["a\ud800"]}, {"names": ["a" * 1000]}, {"names": ["a"], "range": [0, 1e308]}]
)
def test_absurd_channels_are_refused(values):
    with pytest.raises(InvalidArgumentError, match=r"half a character|1000 characters|low < high <= 1e\+30"):
        ImageChannels.from_dict(values)
