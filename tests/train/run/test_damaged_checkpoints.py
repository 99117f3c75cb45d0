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
from seg_train.optim.padam import Padam
from seg_train.optim.plateau import ReduceLROnPlateau
from seg_train.optim.warmup import Scheduler
from seg_train.run.checkpoint import get_random_state, load_checkpoint, set_random_state
from seg_train.run.rehearsal import check_scaler, rehearse_optimizer, rehearse_scheduler
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


def changes_of_states(content):
    """Returns values of the right type and of no use, by the keys that lead to them."""
    tensors = content["optimizer"]["state"]
    number, moment = next((n, name) for n, state in tensors.items() for name, t in state.items() if t.numel() > 1)
    state = ("optimizer", "state", number)
    groups = content["optimizer"]["param_groups"]
    return {
        (*state, moment): torch.zeros(2, 7),
        state: {moment: "x"},
        ("optimizer", "param_groups", 0, "lr"): "x",
        ("optimizer", "param_groups", len(groups) - 1, "weight_decay"): [1],
        ("scheduler", "scheduler", "last_epoch"): "x",
        ("scheduler", "steps"): "2",
        ("scheduler", "advanced"): -1,
        ("scheduler", "rates"): [0.1] * (len(groups) + 1),
    }


def test_optimizer_or_scheduler_that_cannot_be_stepped_is_told_at_the_start(stopped):
    tables, path, original = stopped
    for (*before, key), value in changes_of_states(original).items():
        content = copy.deepcopy(original)
        inner = functools.reduce(lambda value, step: value[step], before, content)
        assert key in inner
        inner[key] = value
        torch.save(content, path)
        told = "resumed"
        try:
            Trainer(load_config(tables), resume=path)
        except CorruptFileError as error:
            told = str(error)
        assert "last.pt is damaged" in told, (before, key, told)
    torch.save(original, path)
    assert Trainer(load_config(tables), resume=path).position.step == 2


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adafactor", "Padam", "RMSprop", "NAdam"])
def test_rehearsal_changes_nothing(name):
    layer = torch.nn.Conv2d(3, 4, 3)
    optimizer = (Padam if name == "Padam" else getattr(torch.optim, name))(layer.parameters(), lr=0.1)
    for _ in range(2):
        layer(torch.ones(1, 3, 4, 4)).sum().backward()
        optimizer.step()
    kept = copy.deepcopy((layer.state_dict(), optimizer.state_dict()))
    rehearse_optimizer(optimizer)
    torch.testing.assert_close((layer.state_dict(), optimizer.state_dict()), kept, rtol=0, atol=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3),
        lambda optimizer: torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.1),
        lambda optimizer: torch.optim.lr_scheduler.SequentialLR(
            optimizer,
            [torch.optim.lr_scheduler.ConstantLR(optimizer), torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)],
            milestones=[2],
        ),
        lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step),
        lambda optimizer: ReduceLROnPlateau(optimizer, monitor="miou"),
    ],
    ids=["OneCycleLR", "CosineAnnealingWarmRestarts", "CyclicLR", "SequentialLR", "LambdaLR", "ReduceLROnPlateau"],
)
def test_rehearsal_of_a_scheduler_changes_neither_it_nor_the_optimizer(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    scheduler = Scheduler(make(optimizer), 9)
    optimizer.step()
    scheduler.step()
    kept = copy.deepcopy((scheduler.state_dict(), optimizer.state_dict()))
    rehearse_scheduler(scheduler, scheduler.state_dict())
    assert scheduler.scheduler.optimizer is optimizer
    assert str((scheduler.state_dict(), optimizer.state_dict())) == str(kept)


def test_sums_of_scores_take_numbers_only(stopped):
    tables, path, original = stopped
    for key, value in {"samples": [], "matrix": torch.zeros(1, dtype=torch.int64), "loss": torch.zeros(2)}.items():
        torch.save({**original, "running": {**original["running"], key: value}}, path)
        with pytest.raises(CorruptFileError, match="last.pt is damaged"):
            Trainer(load_config(tables), resume=path)


def test_state_of_a_random_generator_that_would_be_read_beyond_its_end_is_refused():
    state = get_random_state()
    for place in (10**9, -1, 625, "x"):
        with pytest.raises(ValueError, match="the state of NumPy's random generator"):
            set_random_state({**state, "numpy": [*state["numpy"][:2], place, *state["numpy"][3:]]})
    set_random_state(state)


def test_gradient_scaler_takes_numbers_only():
    state = torch.amp.GradScaler("cpu").state_dict()
    check_scaler(state)
    for key, value in {"scale": "x", "growth_factor": float("nan"), "_growth_tracker": 1.5}.items():
        with pytest.raises(ValueError, match=f"{key} = .* of the gradient scaler"):
            check_scaler({**state, key: value})
