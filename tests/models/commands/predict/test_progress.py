"""The progress of `seg predict`."""

import io
import re
import sys
from importlib.util import find_spec

import pytest

from seg_models.commands.predict.progress import ImageProgress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("seg_models.commands.predict.progress.time.perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize("bar", [True, False])
def test_remaining_time_is_shown_on_a_terminal(bar, clock, monkeypatch):
    if bar and find_spec("rich") is None:
        pytest.skip("needs rich")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "100")
    if not bar:
        monkeypatch.setattr("seg_core.progress._has_rich", lambda: False)
    progress = ImageProgress(40)
    for _ in range(4):
        clock[0] += 10
        progress.advance()
    progress.show_fraction(0.5)
    progress.report("a.jpg cannot be read")
    progress.finish()
    progress.finish()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert re.search(r"seg: skipped: a\.jpg cannot be read *\n", text)
    assert "5/40 images, 0.1 images/s" in text
    if bar:
        assert re.search(r"predicting .* 4/40 .*-:--:--|predicting .* 4/40 .*\d:\d\d:\d\d", text)
    else:
        assert "4/40 images, 0.1 images/s, 6:00 left" in text


def test_number_that_is_not_known_has_no_remaining_time(clock, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("seg_core.progress._has_rich", lambda: False)
    progress = ImageProgress(None)
    clock[0] += 10
    progress.advance()
    assert stream.getvalue() == "\r1 image, 0.1 images/s"
    assert progress.describe() == "1 image"


@pytest.mark.skipif(find_spec("rich") is None, reason="needs rich")
def test_processes_of_a_launcher_draw_no_bars(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert ImageProgress(2)._bar is not None
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert ImageProgress(2)._bar is None
