"""Checkpoints whose archive is intact and whose content is not: resumed, or one error names the file."""

import copy
import functools
import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from seg_core.errors import CorruptFileError, UserError
from seg_train import Trainer, load_config
from seg_train.run.checkpoint import load_checkpoint
from tests.train.run.test_trainer import run_until

ABSURD = (10**9, 10**30, -1, 0, True, None, 1e308, float("nan"), "", "x" * 99, "\x1b[31m", [], {}, [1], {"a": 1}, b"b")
TENSORS = (torch.zeros(2), torch.zeros(0), torch.tensor(3), torch.zeros(7, 7, dtype=torch.int64))


def places(value, path=()):
    """Yields the paths to all values inside of tables and short lists."""
    is_list = isinstance(value, list) and len(value) < 50
    items = value.items() if isinstance(value, dict) else enumerate(value) if is_list else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(content, draw):
    """Returns a content with one absurd value, or without one of its keys; all parts are as likely."""
    content = copy.deepcopy(content)
    part = draw.choice(list(content))
    *before, key = draw.choice([(part,), *[(part, *place) for place in places(content[part])]])
    inner = functools.reduce(lambda value, step: value[step], before, content)
    if draw.random() < 0.2:
        del inner[key]
    else:
        inner[key] = copy.deepcopy(draw.choice(ABSURD + TENSORS))
    return content


def outcome(tables, path, original, seed):
    torch.save(changed(original, random.Random(seed)), path)
    try:
        Trainer(load_config(tables), resume=path)
    except UserError as error:
        if isinstance(error, CorruptFileError):
            assert str(path) in str(error), f"seed {seed}: {error}"
        return type(error).__name__
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return "resumed"


@pytest.fixture
def stopped(tables):
    """The tables of a run that was stopped, its checkpoint, and what that holds."""
    tables["trainer"]["ema_decay"] = 0.9
    run_until(tables, 2)
    path = next(Path(tables["paths"]["output"]).glob("**/last.pt"))
    return tables, path, torch.load(path, weights_only=True)


def test_damaged_content_is_resumed_or_an_error_names_the_checkpoint(stopped):
    tables, path, original = stopped
    found = Counter(outcome(tables, path, original, seed) for seed in range(12))
    assert found["CorruptFileError"] > 2
    torch.save(original, path)
    assert Trainer(load_config(tables), resume=True).position.step == 2


@pytest.mark.parametrize("content", [[1], {"format": 3}, {"format": "seg-checkpoint"}, torch.zeros(2)])
def test_other_content_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "last.pt"
    torch.save(content, path)
    words = r"last.pt (is a PyTorch file but not a checkpoint|has format version None)"
    with pytest.raises(CorruptFileError, match=words):
        load_checkpoint(path)
