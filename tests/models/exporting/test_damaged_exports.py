"""Damaged exported files: whatever is changed in them, they run, or an error of `seg_core.errors` names the file."""

import functools
import json
import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from seg_core.errors import CorruptFileError, UserError
from seg_models import export
from seg_models.exporting.description import ExportDescription
from seg_models.exporting.load import load_exported_network
from tests.fuzz.mutations import damaged

SUFFIXES = {".onnx": ("onnx", "onnxscript", "onnxruntime"), ".pt2": (), ".xml": ("onnx", "onnxscript", "openvino")}
ABSURD = (
    10**9,
    10**30,
    -1,
    0,
    True,
    None,
    1e308,
    float("nan"),
    "",
    "x" * 2000,
    "\x1b[31m",
    "\ud800",
    [],
    {},
    [1],
    [[]],
)


def outcome(path: Path, seed: object) -> str:
    """Loads a file and runs it; returns "ran", or the name of the error."""
    try:
        network = load_exported_network(path)
        size = network.description.size or (40, 48)
        if max(size) <= 64:
            network(torch.zeros(1, network.model_info.metadata.channels.count, *size))
    except UserError as error:
        if isinstance(error, CorruptFileError):
            assert path.stem in str(error), f"seed {seed}: {error}"
        return type(error).__name__
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return "ran"


def outcome_of_damage(path: Path, originals: dict[Path, bytes], seed: object) -> str:
    draw = random.Random(repr(seed))
    for file, data in originals.items():
        file.write_bytes(data)
    chosen = draw.choice(list(originals))
    chosen.write_bytes(damaged(originals[chosen], draw))
    return outcome(path, seed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_export_runs_or_an_error_names_it(tmp_path, tiny, described, suffix):
    for name in SUFFIXES[suffix]:
        pytest.importorskip(name)
    path = tmp_path / f"net{suffix}"
    export(tiny(), path, **described)
    originals = {file: file.read_bytes() for file in tmp_path.iterdir()}
    found = Counter(outcome_of_damage(path, originals, (suffix, seed)) for seed in range(12))
    assert found["CorruptFileError"] > 0


def places(value, path=()):
    """Yields the paths to all values inside of tables and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed_description(text: str, draw: random.Random) -> str:
    """Returns a description with one or two absurd values, or a removed key."""
    content = json.loads(text)
    for _ in range(draw.choice((1, 1, 2))):
        *before, key = draw.choice(list(places(content)))
        inner = functools.reduce(lambda value, step: value[step], before, content)
        if draw.random() < 0.2:
            del inner[key]
        else:
            inner[key] = json.loads(json.dumps(draw.choice(ABSURD)))
    found = json.dumps(content)
    return damaged(found.encode(), draw).decode("latin-1") if draw.random() < 0.2 else found


def description_outcome(text: str, seed: object) -> str:
    try:
        ExportDescription.from_json("net.onnx", changed_description(text, random.Random(repr(seed))))
    except CorruptFileError as error:
        assert "net.onnx" in str(error)
        return "CorruptFileError"
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return "read"


def test_damaged_description_is_read_or_an_error_names_the_file(tmp_path, tiny, described):
    export(tiny(), tmp_path / "net.pt2", **described)
    text = load_exported_network(tmp_path / "net.pt2").description.to_json()
    found = Counter(description_outcome(text, seed) for seed in range(300))
    assert found["CorruptFileError"] > 100


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"format_version": ' + "9" * 5000 + "}", "\ud800"])
def test_description_that_is_nested_or_huge_is_refused(text):
    with pytest.raises(CorruptFileError, match="net.onnx"):
        ExportDescription.from_json("net.onnx", text)
