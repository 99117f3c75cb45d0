import pytest
import torch
from torch.optim import lr_scheduler

from seg_core.errors import InvalidArgumentError
from seg_train.optim.plateau import ReduceLROnPlateau
from seg_train.optim.schedulers import build_scheduler
from seg_train.optim.warmup import Scheduler
from tests.train.optim.scheduler_runs import curve, make_optimizer

STEPS = 40


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


def test_warm_up_as_long_as_the_run_is_an_error():
    section = {"name": "PolynomialLR", "warmup_steps": STEPS}
    with pytest.raises(InvalidArgumentError, match="warmup_steps must be fewer than the 40 steps of the run, got 40"):
        build_scheduler(make_optimizer(), total=STEPS, **section)


def test_scheduler_by_epochs_ignores_steps_and_stops_at_the_last():
    optimizer = make_optimizer()
    section = {"name": "StepLR", "interval": "epoch", "params": {"step_size": 1, "gamma": 0.5}}
    scheduler = build_scheduler(optimizer, total=3, **section)
    assert curve(optimizer, scheduler, 9, steps_per_epoch=3) == [0.1] * 3 + [0.05] * 3 + [0.025] * 3
    assert optimizer.param_groups[0]["lr"] == 0.025


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
