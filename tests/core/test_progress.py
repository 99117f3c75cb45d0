import io
import re
import sys
from importlib.util import find_spec

import pytest

from seg_core.errors import UsageError
from seg_core.progress import (
    BarProgress,
    PlainProgress,
    Progress,
    QuietProgress,
    StatusLine,
    StepState,
    make_progress,
    print_table,
    table,
)

needs_rich = pytest.mark.skipif(find_spec("rich") is None, reason="the bar needs the extra seg-core[cli]")


def state(step, epoch=3, loss=0.5, miou=0.25, images_per_second=12.34):
    return StepState(step, epoch, 9, loss, miou, images_per_second, data_wait=0.031, memory_mib=1536.0)


def test_plain_progress_prints_step_loss_miou_speed_and_remaining_time():
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.start(total_steps=100, done_steps=0)
    progress.step(state(50))
    progress.message("epoch 3 is over")
    progress.close()
    first, second = stream.getvalue().splitlines()
    assert re.fullmatch(
        r"step 50/100  epoch 3/9  loss 0\.5000  mIoU 0\.2500  12\.3 images/s  data wait 3%  1\.5 GiB  0:00 left", first
    )
    assert second == "epoch 3 is over"


def test_remaining_time_counts_from_where_a_run_was_resumed(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("seg_core.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.start(total_steps=4000, done_steps=90)
    now[0] += 20
    progress.step(state(100))
    assert stream.getvalue().endswith("2:10:00 left\n")


def test_due_is_true_once_per_interval(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("seg_core.progress.time.monotonic", lambda: now[0])
    progress = PlainProgress(io.StringIO())
    assert not progress.due()
    now[0] += 10
    assert progress.due()
    assert not progress.due()


def test_base_progress_is_never_due():
    assert not Progress().due()


def test_make_progress_without_terminal_is_plain(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(make_progress(), PlainProgress)


@pytest.mark.parametrize(
    ("installed", "kind"), [pytest.param(True, BarProgress, marks=needs_rich), (False, PlainProgress)]
)
def test_make_progress_on_a_terminal_takes_rich_where_it_is(monkeypatch, installed, kind):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    assert isinstance(make_progress(), kind)


@needs_rich
def test_bar_shows_loss_miou_speed(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    progress = BarProgress()
    progress.start(10, 0)
    progress.step(state(4, epoch=2, images_per_second=33.3))
    progress.message("[epoch] done")
    progress.close()
    progress.close()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert re.search(r"epoch 2/9 .*4/10 loss 0\.5000  mIoU 0\.2500  33\.3 images/s  data wait 3%  1\.5 GiB", text)
    assert "[epoch] done" in text


def test_make_progress_in_a_later_process_of_a_launcher_shows_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert type(make_progress()) is Progress


def test_plain_part_prints_only_when_it_is_time_to(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("seg_core.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.part("counting", 1, 40)
    now[0] += 11
    progress.part("counting", 20, 40)
    progress.part("counting", 21, 40)
    assert stream.getvalue() == "counting 20/40\n"


@needs_rich
def test_bar_part_is_shown_until_it_is_over(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    progress = BarProgress()
    progress.part("counting", 1, 2)
    assert [task.description for task in progress._bar.tasks] == ["counting"]
    progress.part("counting", 2, 2)
    assert not progress._bar.tasks
    progress.close()
    progress.start(total_steps=10, done_steps=0)  # a bar that was closed can be started again
    progress.step(state(5, epoch=1))
    progress.part("evaluating", 1, 4)
    steps, part = progress._bar.tasks
    assert (steps.description, steps.completed) == ("epoch 1/9", 5)
    assert steps.fields["state"] == "loss 0.5000  mIoU 0.2500  12.3 images/s  data wait 3%  1.5 GiB"
    assert (part.description, part.completed, part.total) == ("evaluating", 1, 4)
    progress.close()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("plain", PlainProgress), ("quiet", QuietProgress), pytest.param("bar", BarProgress, marks=needs_rich)],
)
def test_modes_can_be_chosen(mode, kind):
    assert type(make_progress(mode)) is kind


def test_unknown_mode_is_an_error():
    with pytest.raises(UsageError, match="progress must be one of auto, bar, plain, quiet, got 'loud'"):
        make_progress("loud")


def test_bar_without_rich_is_an_error(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs rich"):
        make_progress("bar")


def test_quiet_shows_warnings_alone():
    stream = io.StringIO()
    progress = QuietProgress(stream)
    progress.start(10, 0)
    progress.step(state(5))
    progress.part("evaluating", 1, 2)
    progress.message("epoch 3 is over")
    progress.warn("no network")
    progress.close()
    assert stream.getvalue() == "warning: no network\n"


@needs_rich
def test_plain_and_bar_show_warnings(monkeypatch):
    stream = io.StringIO()
    PlainProgress(stream).warn("no network")
    monkeypatch.setattr(sys, "stderr", stream)
    BarProgress().warn("no [key]")
    assert stream.getvalue().splitlines() == ["warning: no network", "warning: no [key]"]


def test_warning_without_progress_is_one_of_python():
    with pytest.warns(UserWarning, match="no network"):
        Progress().warn("no network")


# ---- one line --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_status_line_on_a_terminal_is_rewritten():
    stream = Terminal()
    line = StatusLine(stream=stream)
    line.show("10 of 12")
    line.show("10 of 12")
    line.show("9")
    line.message("skipped: a.jpg")
    line.show("12")
    line.close()
    assert stream.getvalue() == "\r10 of 12\r9       \rskipped: a.jpg\n\r12\n"


def test_status_line_elsewhere_prints_changes_at_most_once_per_interval(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("seg_core.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    line = StatusLine(interval=30.0, stream=stream)
    for shown in ("1", "2", "3", "4"):
        now[0] += 20
        line.show(shown)
    line.message("skipped")
    line.close("5 of 5")
    assert stream.getvalue().splitlines() == ["2", "4", "skipped", "5 of 5"]


def test_status_line_without_interval_prints_every_change():
    stream = io.StringIO()
    line = StatusLine(stream=stream)
    for shown in ("10 %", "10 %", "20 %"):
        line.show(shown)
    line.close()
    assert stream.getvalue() == "10 %\n20 %\n"


def test_closed_status_line_that_showed_nothing_prints_nothing():
    stream = Terminal()
    StatusLine(stream=stream).close()
    assert stream.getvalue() == ""


# ---- tables ----------------------------------------------------------------------------------------------------------

ROWS = [["[red]road", "0.98", "main street"], ["sky", "absent", ""]]


def test_table_aligns_the_first_column_left_and_the_others_right():
    assert table(["class", "IoU"], [row[:2] for row in ROWS]).splitlines() == [
        "class         IoU",
        "[red]road    0.98",
        "sky        absent",
    ]


def test_table_takes_an_alignment_per_column_and_has_no_trailing_spaces():
    assert table(["class", "IoU", ""], iter(ROWS), "lrl").splitlines() == [
        "class         IoU",
        "[red]road    0.98  main street",
        "sky        absent",
    ]


def test_table_without_rows_is_its_header():
    assert table(["name", "params"], []) == "name  params"


def test_print_table_outside_of_a_terminal_is_plain_text(capsys):
    print_table(["class", "IoU", ""], ROWS, "lrl")
    assert capsys.readouterr().out == table(["class", "IoU", ""], ROWS, "lrl") + "\n"


def test_print_table_on_a_terminal_shows_brackets_literally(monkeypatch, capsys):
    pytest.importorskip("rich")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table(["class", "[b]IoU"], [row[:2] for row in ROWS])
    out = capsys.readouterr().out
    assert "[b]IoU" in out
    assert "[red]road" in out
    assert "absent" in out


def test_print_table_on_a_terminal_without_rich_is_plain_text(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    print_table(["class", "IoU"], [["sky", "1"]])
    assert capsys.readouterr().out == "class  IoU\nsky      1\n"


def test_tables_states_and_messages_show_control_characters_readably(monkeypatch, capsys):
    hostile, shown = "a\x1b[2J\r\nb\u202e", r"a\x1b[2J\x0d\x0ab\u202e"
    assert table([hostile, "n"], [[hostile, "1"]]) == f"{shown}  n\n{shown}  1"
    stream = io.StringIO()
    StatusLine(stream=stream).message(hostile)
    PlainProgress(stream).warn(hostile)
    QuietProgress(stream).warn(hostile)
    lines = shown.replace(r"\x0a", "\n")
    assert stream.getvalue() == f"{shown}\n" + f"warning: {lines}\n" * 2


@needs_rich
def test_rich_shows_control_characters_readably(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(["class\x9b"], [["a\x1b[2J\u202e\n"]])
    assert "\x1b[2J" not in (found := capsys.readouterr().out)
    assert r"a\x1b[2J\u202e\x0a" in found
    assert r"class\x9b" in found
