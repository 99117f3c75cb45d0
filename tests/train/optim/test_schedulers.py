import io
import math
import random

import pytest
import torch
from torch.optim import lr_scheduler

from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_train.optim.plateau import ReduceLROnPlateau
from seg_train.optim.schedulers import build_scheduler
from seg_train.optim.warmup import Scheduler

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


def make_optimizer():
    groups = [{"params": torch.nn.Parameter(torch.zeros(2)), "lr": 0.1}, {"params": torch.nn.Parameter(torch.zeros(1))}]
    return torch.optim.SGD(groups, lr=0.02, momentum=0.9)


def settings(optimizer):
    return [(group["lr"], group["momentum"]) for group in optimizer.param_groups]


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def scores(step):
    return {"miou": random.Random(step).random(), "loss": 1 / (step + 1)}


def advance(optimizer, scheduler, step, steps_per_epoch=1):
    """Makes one step as the trainer does."""
    optimizer.step()
    scheduler.step()
    if (step + 1) % steps_per_epoch == 0:
        scheduler.end_epoch(scores(step))


def curve(optimizer, scheduler, steps, steps_per_epoch=1, start=0):
    """Returns the learning rate of the first group at each step."""
    found = []
    for step in range(start, steps):
        found.append(optimizer.param_groups[0]["lr"])
        advance(optimizer, scheduler, step, steps_per_epoch)
    return found


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


@pytest.mark.smoke
def test_warm_up_before_a_scheduler_by_steps_leaves_it_the_rest_of_the_run():
    optimizer = make_optimizer()
    section = {"name": "PolynomialLR", "params": {"power": 0.9}, "warmup_steps": 15, "warmup_factor": 0.01}
    scheduler = build_scheduler(optimizer, total=100, **section)
    rising = [0.1 * (0.01 + 0.99 * step / 15) for step in range(15)]
    falling = [0.1 * (1 - step / 85) ** 0.9 for step in range(85)]
    assert curve(optimizer, scheduler, 100) == pytest.approx(rising + falling, rel=1e-9)


@pytest.mark.parametrize("name", ["PolynomialLR", "StepLR", "CosineAnnealingLR", "ExponentialLR", "OneCycleLR"])
def test_warm_up_equals_torch_sequence_of_linear_and_scheduler(name):
    from_torch, ours = make_optimizer(), make_optimizer()
    params = {"step_size": 7} if name == "StepLR" else {"gamma": 0.9} if name == "ExponentialLR" else {}
    linear = {"name": "LinearLR", "params": {"start_factor": 0.2, "total_iters": 10}}
    both = {"schedulers": [linear, {"name": name, "params": params}], "milestones": [10]}
    sequence = build_scheduler(from_torch, "SequentialLR", both, total=STEPS)
    section = {"name": name, "params": params, "warmup_steps": 10, "warmup_factor": 0.2}
    scheduler = build_scheduler(ours, total=STEPS, **section)
    assert curve(ours, scheduler, STEPS) == pytest.approx(curve(from_torch, sequence, STEPS), rel=1e-9)


def test_warm_up_is_a_factor_on_a_scheduler_by_epochs():
    optimizer = make_optimizer()
    # 4 steps per epoch: the warm-up ends within the third epoch
    scheduler = Scheduler(
        lr_scheduler.ExponentialLR(optimizer, 0.5), 5, interval="epoch", warmup_steps=10, warmup_factor=0.5
    )
    expected = [0.1 * 0.5 ** (step // 4) * min(1, 0.5 + 0.5 * step / 10) for step in range(20)]
    found = curve(optimizer, scheduler, 20, steps_per_epoch=4)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found[10:] == [0.1 * 0.5 ** (step // 4) for step in range(10, 20)], "exact once the warm-up is over"


def test_warm_up_with_a_watched_score_counts_the_epochs_of_the_whole_run():
    optimizer = make_optimizer()
    section = {"name": "ReduceLROnPlateau", "params": {"monitor": "loss", "patience": 0, "factor": 0.5}}
    scheduler = Scheduler(
        build_scheduler(optimizer, total=8, **section).scheduler, 8, warmup_steps=4, warmup_factor=0.5
    )
    found = []
    for step in range(8):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
        if step % 2:  # the first epoch sets the mark, no later one improves on it
            scheduler.end_epoch({"loss": 1.0})
    assert found == pytest.approx([0.05, 0.0625, 0.075, 0.0875, 0.05, 0.05, 0.025, 0.025], rel=1e-9)


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("stop", [0, 3, 4, 7, 10, 12])
def test_resume_within_and_after_the_warm_up(interval, stop):
    def start():
        optimizer = make_optimizer()
        main = lr_scheduler.PolynomialLR(optimizer, 12, 0.9)
        return optimizer, Scheduler(main, 12, interval=interval, warmup_steps=10, warmup_factor=0.1)

    whole = curve(*start(), 24, 2)
    optimizer, scheduler = start()
    curve(optimizer, scheduler, stop, 2)
    resumed, again = start()
    resumed.load_state_dict(optimizer.state_dict())
    again.load_state_dict(scheduler.state_dict())
    assert curve(resumed, again, 24, 2, start=stop) == whole[stop:]


def test_warm_up_keeps_a_rate_that_is_a_tensor():
    rate = torch.tensor(0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = Scheduler(lr_scheduler.ExponentialLR(optimizer, 0.5), 10, warmup_steps=2, warmup_factor=0.5)
    held = optimizer.param_groups[0]["lr"]
    found = []
    for _ in range(4):
        found.append(float(held))
        optimizer.step()
        scheduler.step()
    assert found == pytest.approx([0.05, 0.075, 0.1, 0.05])


@pytest.mark.parametrize(("monitor", "better"), [("miou", 1), ("dice", 1), ("loss", -1)])
def test_plateau_knows_whether_higher_or_lower_is_better(monitor, better):
    optimizer = make_optimizer()
    section = {"name": "ReduceLROnPlateau", "params": {"monitor": monitor, "patience": 0}}
    scheduler = build_scheduler(optimizer, total=100, **section)
    for epoch in range(4):
        scheduler.end_epoch({monitor: 5 + better * epoch})
    assert optimizer.param_groups[0]["lr"] == 0.1
    scheduler.end_epoch({monitor: 5 + better * 2})
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_plateau_counts_epochs_whatever_the_interval():
    optimizer = make_optimizer()
    section = {"name": "ReduceLROnPlateau", "interval": "step", "params": {"patience": 1, "mode": "max"}}
    scheduler = build_scheduler(optimizer, total=3, **section)
    for _ in range(20):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.1
    for _ in range(3):
        scheduler.end_epoch({"miou": 0.2})
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_scheduler_by_epochs_ignores_steps_and_stops_at_the_last():
    optimizer = make_optimizer()
    section = {"name": "StepLR", "interval": "epoch", "params": {"step_size": 1, "gamma": 0.5}}
    scheduler = build_scheduler(optimizer, total=3, **section)
    assert curve(optimizer, scheduler, 9, steps_per_epoch=3) == [0.1] * 3 + [0.05] * 3 + [0.025] * 3
    assert optimizer.param_groups[0]["lr"] == 0.025


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
        ("StepLR", {}, "StepLR needs step_size; add to lr_scheduler.params"),
        ("StepLR", {"step_sise": 3, "step_size": 3}, "StepLR has no argument 'step_sise'. Did you mean 'step_size'?"),
        ("StepLR", {"step_size": 3, "last_epoch": 3}, "StepLR has no argument 'last_epoch'. It has: step_size, gamma"),
        ("SequentialLR", {}, "SequentialLR needs schedulers, milestones; add"),
        ("SequentialLR", {"schedulers": [], "milestones": []}, "schedulers must be a list of at least one table"),
        ("ChainedScheduler", {"schedulers": ["StepLR"]}, "schedulers must be a list of at least one table"),
        ("ChainedScheduler", {"schedulers": [{"nam": "StepLR"}]}, r"schedulers\[0\] must hold a name and"),
        ("ChainedScheduler", {"schedulers": [POWERS, {"name": "StepLR"}]}, r"schedulers\[1\]: StepLR needs step_size"),
        (
            "ChainedScheduler",
            {"schedulers": [{"name": "ExponentialLR", "params": {"gama": 1, "gamma": 1}}]},
            r"schedulers\[0\]: ExponentialLR has no argument 'gama'. Did you mean 'gamma'\?",
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


def test_watched_score_that_is_not_computed_is_an_error():
    scheduler = build_scheduler(make_optimizer(), "ReduceLROnPlateau", {"monitor": "loss"}, total=STEPS)
    with pytest.raises(InvalidArgumentError, match="monitor='loss', which this evaluation does not compute; .* miou"):
        scheduler.end_epoch({"miou": 0.3})


def test_warm_up_as_long_as_the_run_is_an_error():
    section = {"name": "PolynomialLR", "warmup_steps": STEPS}
    with pytest.raises(InvalidArgumentError, match="warmup_steps must be fewer than the 40 steps of the run, got 40"):
        build_scheduler(make_optimizer(), total=STEPS, **section)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval": "batch"}, "interval must be 'step' or 'epoch', got 'batch'"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0, got -1"),
        ({"warmup_factor": 0.0}, "warmup_factor must be above 0 and at most 1, got 0.0"),
        ({"warmup_factor": 1.5}, "warmup_factor must be above 0 and at most 1, got 1.5"),
    ],
)
def test_scheduler_checks_its_arguments(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Scheduler(lr_scheduler.StepLR(make_optimizer(), 3), 10, **options)


def test_plateau_of_torch_without_a_score_is_an_error():
    with pytest.raises(InvalidArgumentError, match="does not say which score it watches"):
        Scheduler(lr_scheduler.ReduceLROnPlateau(make_optimizer()), 10)
    assert ReduceLROnPlateau(make_optimizer()).monitor == "miou"
