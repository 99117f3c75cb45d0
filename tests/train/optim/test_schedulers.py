import io
import math

import pytest
import torch
from torch.optim import lr_scheduler

from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_train.optim.schedulers import build_scheduler
from tests.train.optim.scheduler_runs import advance, curve, make_optimizer, scores

STEPS = 40


def halved_every_seventh(step):
    return 0.5 ** (step // 7)


def slower(step):
    return 0.9 if step < 20 else 0.97


class Slope:
    """A callable object, whose attributes torch saves."""

    def __init__(self, slope):
        self.slope = slope

    def __call__(self, step):
        return 1 / (1 + self.slope * step)


slope = Slope(0.3)

# Each scheduler as a config has it, and as code with torch alone.
STEP = {"name": "StepLR", "params": {"step_size": 3}}
POWERS = {"name": "ExponentialLR", "params": {"gamma": 0.95}}
CASES = {
    "LambdaLR": (
        {"lr_lambda": f"{__name__}:halved_every_seventh"},
        lambda o: lr_scheduler.LambdaLR(o, halved_every_seventh),
    ),
    "MultiplicativeLR": (
        {"lr_lambda": [f"{__name__}:slower", f"{__name__}:halved_every_seventh"]},
        lambda o: lr_scheduler.MultiplicativeLR(o, [slower, halved_every_seventh]),
    ),
    "StepLR": ({"step_size": 6, "gamma": 0.3}, lambda o: lr_scheduler.StepLR(o, 6, 0.3)),
    "MultiStepLR": ({"milestones": [5, 5, 20]}, lambda o: lr_scheduler.MultiStepLR(o, [5, 5, 20])),
    "ConstantLR": ({"total_iters": 9}, lambda o: lr_scheduler.ConstantLR(o, total_iters=9)),
    "LinearLR": ({"total_iters": 8}, lambda o: lr_scheduler.LinearLR(o, total_iters=8)),
    "ExponentialLR": ({"gamma": 0.9}, lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
    "PolynomialLR": ({"power": 0.9}, lambda o: lr_scheduler.PolynomialLR(o, STEPS, 0.9)),
    "CosineAnnealingLR": ({"eta_min": 0.01}, lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, 0.01)),
    "CosineAnnealingWarmRestarts": (
        {"T_0": 5, "T_mult": 2},
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, 2),
    ),
    "CyclicLR": (
        {"base_lr": 0.01, "max_lr": 0.3, "step_size_up": 4, "scale_fn": f"{__name__}:halved_every_seventh"},
        lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.3, 4, scale_fn=halved_every_seventh),
    ),
    "OneCycleLR": ({}, lambda o: lr_scheduler.OneCycleLR(o, [0.1, 0.02], STEPS)),
    "SequentialLR": (
        {"schedulers": [STEP, {"name": "CosineAnnealingLR"}, {"name": "PolynomialLR"}], "milestones": [9, 20]},
        lambda o: lr_scheduler.SequentialLR(
            o,
            [
                lr_scheduler.StepLR(o, 3),
                lr_scheduler.CosineAnnealingLR(o, 11),
                lr_scheduler.PolynomialLR(o, STEPS - 20),
            ],
            [9, 20],
        ),
    ),
    "ChainedScheduler": (
        {"schedulers": [{"name": "PolynomialLR"}, POWERS]},
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.PolynomialLR(o, STEPS), lr_scheduler.ExponentialLR(o, 0.95)]
        ),
    ),
    "ReduceLROnPlateau": (
        {"patience": 2, "monitor": "miou"},
        lambda o: lr_scheduler.ReduceLROnPlateau(o, "max", patience=2),
    ),
}


def settings(optimizer):
    return [(group["lr"], group["momentum"]) for group in optimizer.param_groups]


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.smoke
@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # of torch's own SequentialLR
@pytest.mark.parametrize("name", [n for n in lr_scheduler.__all__ if n != "LRScheduler"])
def test_every_scheduler_by_name_equals_that_of_torch(name):
    params, make = CASES[name]
    ours, theirs = make_optimizer(), make_optimizer()
    scheduler = build_scheduler(ours, name, params, total=STEPS)
    expected = make(theirs)
    seen = []
    for step in range(STEPS - 1):
        assert settings(ours) == settings(theirs), step
        assert scheduler.get_last_lr() == rates(ours)
        seen.append(rates(ours)[0])
        advance(ours, scheduler, step)
        theirs.step()
        expected.step(*([scores(step)["miou"]] if name == "ReduceLROnPlateau" else []))
    assert len(set(seen)) > 1


@pytest.mark.parametrize("name", CASES)
def test_resume_gives_the_rates_of_an_uninterrupted_run(name):
    section = {"name": name, "params": CASES[name][0]}
    optimizer = make_optimizer()
    whole = curve(optimizer, build_scheduler(optimizer, total=STEPS, **section), STEPS)
    for stop in (0, 1, 9, 23):
        first = make_optimizer()
        scheduler = build_scheduler(first, total=STEPS, **section)
        curve(first, scheduler, stop)
        file = io.BytesIO()
        torch.save([first.state_dict(), scheduler.state_dict()], file)
        file.seek(0)
        optimizer_state, state = torch.load(file, weights_only=True)
        second = make_optimizer()
        scheduler = build_scheduler(second, total=STEPS, **section)
        second.load_state_dict(optimizer_state)
        scheduler.load_state_dict(state)
        assert curve(second, scheduler, STEPS, start=stop) == whole[stop:], stop


def test_load_state_dict_does_not_modify_its_argument():
    optimizer = make_optimizer()
    scheduler = build_scheduler(optimizer, "CyclicLR", CASES["CyclicLR"][0], total=STEPS)
    state = scheduler.state_dict()
    keys = set(state["scheduler"])
    scheduler.load_state_dict(state)
    scheduler.load_state_dict(state)
    assert set(state["scheduler"]) == keys


@pytest.mark.smoke
def test_polynomial_per_step_equals_that_of_the_papers():
    optimizer = make_optimizer()
    scheduler = build_scheduler(optimizer, "PolynomialLR", {"power": 0.9}, total=200)
    expected = [0.1 * (1 - step / 200) ** 0.9 for step in range(200)]
    assert curve(optimizer, scheduler, 200) == pytest.approx(expected, rel=1e-9)
    assert optimizer.param_groups[0]["lr"] > 0, "after the last step it does not change"


def test_callable_object_is_saved_with_its_attributes(monkeypatch):
    section = {"name": "LambdaLR", "params": {"lr_lambda": f"{__name__}:slope"}}
    state = build_scheduler(make_optimizer(), total=STEPS, **section).state_dict()
    monkeypatch.setattr(slope, "slope", 99.0)
    optimizer = make_optimizer()
    scheduler = build_scheduler(optimizer, total=STEPS, **section)
    scheduler.load_state_dict(state)
    advance(optimizer, scheduler, 0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 1.3)


def test_function_written_in_c_is_accepted_and_saved():
    optimizer = make_optimizer()
    scheduler = build_scheduler(optimizer, "LambdaLR", {"lr_lambda": "math:exp"}, total=STEPS)
    advance(optimizer, scheduler, 0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * math.e)
    assert scheduler.state_dict()["scheduler"]["lr_lambdas"] == [None, None]


@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # of torch's own SequentialLR
def test_chained_scheduler_takes_a_sequence():
    ours, theirs = make_optimizer(), make_optimizer()
    sequence = {"name": "SequentialLR", "params": {"schedulers": [STEP, {"name": "PolynomialLR"}], "milestones": [10]}}
    scheduler = build_scheduler(ours, "ChainedScheduler", {"schedulers": [sequence, POWERS]}, total=STEPS)
    parts = [lr_scheduler.StepLR(theirs, 3), lr_scheduler.PolynomialLR(theirs, STEPS - 10)]
    chain = [lr_scheduler.SequentialLR(theirs, parts, [10]), lr_scheduler.ExponentialLR(theirs, 0.95)]
    expected = lr_scheduler.ChainedScheduler(chain)
    for step in range(STEPS - 1):
        assert settings(ours) == settings(theirs), step
        advance(ours, scheduler, step)
        theirs.step()
        expected.step()


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("StepLR", {}, "step_size is missing: StepLR has no default for it"),
        ("StepLR", {"step_sise": 3, "step_size": 3}, "StepLR has no parameter 'step_sise'. Did you mean 'step_size'?"),
        ("StepLR", {"step_size": 3, "last_epoch": 3}, "StepLR: last_epoch cannot be given here"),
        ("SequentialLR", {}, "schedulers is missing: SequentialLR has no default for it"),
        ("SequentialLR", {"schedulers": [], "milestones": []}, "schedulers must be a list of at least one table"),
        ("ChainedScheduler", {"schedulers": ["StepLR"]}, "schedulers must be a list of at least one table"),
        ("ChainedScheduler", {"schedulers": [{"nam": "StepLR"}]}, r"schedulers\[0\] must have a name and"),
        (
            "ChainedScheduler",
            {"schedulers": [POWERS, {"name": "StepLR"}]},
            r"schedulers\[1\]: step_size is missing: StepLR",
        ),
        (
            "ChainedScheduler",
            {"schedulers": [{"name": "ExponentialLR", "params": {"gama": 1, "gamma": 1}}]},
            r"schedulers\[0\]: ExponentialLR has no parameter 'gama'. Did you mean 'gamma'\?",
        ),
        (
            "ChainedScheduler",
            {"schedulers": [{"name": "LinearLR", "params": {"start_factor": 7.0}}]},
            r"schedulers\[0\], LinearLR: Starting multiplicative factor",
        ),
        (
            "ChainedScheduler",
            {"schedulers": [STEP, {"name": "ReduceLROnPlateau"}]},
            r"schedulers\[1\]: ReduceLROnPlateau watches a score and cannot be combined with others; use it alone",
        ),
        (
            "SequentialLR",
            {"schedulers": [STEP, {"name": "ChainedScheduler", "params": {"schedulers": [STEP]}}], "milestones": [3]},
            r"schedulers\[1\]: ChainedScheduler cannot be part of a SequentialLR; list its schedulers here instead",
        ),
        (
            "SequentialLR",
            {"schedulers": [STEP, STEP], "milestones": [3, 4]},
            r"milestones must be 1 ascending ints above 0, one fewer than the 2 schedulers, got \[3, 4\]",
        ),
        ("SequentialLR", {"schedulers": [STEP] * 3, "milestones": [5, 5]}, "milestones must be 2 ascending ints"),
        ("SequentialLR", {"schedulers": [STEP] * 2, "milestones": 5}, "milestones must be 1 ascending ints"),
        ("LambdaLR", {"lr_lambda": "half"}, "lr_lambda = 'half' cannot be imported .* write 'package.module:function'"),
        ("LambdaLR", {"lr_lambda": "no.such:f"}, "lr_lambda = 'no.such:f' cannot be imported .No module named 'no'"),
        ("LambdaLR", {"lr_lambda": "math:f"}, "lr_lambda = 'math:f' cannot be imported .*has no attribute 'f'"),
        ("LambdaLR", {"lr_lambda": ["math:pi"]}, "lr_lambda = 'math:pi' is not a function but float"),
        ("ReduceLROnPlateau", {"monitor": "mIoU"}, "monitor must be one of miou, .*, got 'mIoU'. Did you mean 'miou'?"),
        ("ReduceLROnPlateau", {"mode": "up"}, "mode must be 'min' or 'max', got 'up'"),
        ("ReduceLROnPlateau", {"threshold_mode": "x"}, "threshold_mode must be 'rel' or 'abs', got 'x'"),
    ],
)
def test_wrong_arguments_are_errors(name, params, message):
    with pytest.raises(InvalidArgumentError, match=message):
        build_scheduler(make_optimizer(), name, params, total=STEPS)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown LR scheduler 'PolyLR'"):
        build_scheduler(make_optimizer(), "PolyLR", total=STEPS)
    params = {"schedulers": [STEP, {"name": "StepLr"}]}
    with pytest.raises(UnknownNameError, match=r"schedulers\[1\]: unknown LR scheduler 'StepLr'. Did you mean"):
        build_scheduler(make_optimizer(), "ChainedScheduler", params, total=STEPS)
