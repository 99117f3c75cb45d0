import pytest

from seg_core.errors import InvalidArgumentError
from seg_train.optim.schedulers import build_scheduler
from tests.train.optim.scheduler_runs import make_optimizer

STEPS = 40


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


def test_watched_score_that_is_not_computed_is_an_error():
    scheduler = build_scheduler(make_optimizer(), "ReduceLROnPlateau", {"monitor": "loss"}, total=STEPS)
    with pytest.raises(InvalidArgumentError, match="monitor='loss', which this evaluation does not compute; .* miou"):
        scheduler.end_epoch({"miou": 0.3})
