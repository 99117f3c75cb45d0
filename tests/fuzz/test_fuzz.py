"""The fuzzer: that its loop tells every outcome apart, and a few inputs of each harness, the same in every run.

`hatch run fuzz` tries as many as there is time for.
"""

import json
import os
import random
import sys
import time

import pytest

from seg_core.errors import CorruptFileError
from tests.fuzz import harness as harnesses
from tests.fuzz import loop
from tests.fuzz.harness import BAD, NAMES, Difference, Harness, corpus_of, load, make_input
from tests.fuzz.loop import Counts, Finding, Worker, read_counts, run, save_finding, seeds, write_counts

# each with its number of inputs: in sum less than half a minute of computing, half of it imports
INPUTS = {
    "images": 200,
    "model_files": 120,
    "configs": 100,
    "command_lines": 60,
    "archives": 400,
    "functions": 300,
}
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="memory and time are limited by Linux' means")


# ---- a harness for the loop itself: what comes of an input stands in it ----------------------------------------------

NAME = "test_fuzz"


def attempt(data, folder):
    (folder / "left behind").write_text("x")
    match data.decode():
        case "refused":
            raise CorruptFileError("no")
        case "foreign":
            raise KeyError("x")
        case "difference":
            raise Difference("two")
        case "hang":
            while True:
                pass
        case "memory":
            bytearray(1 << 30)
        case "hidden memory":
            try:
                bytearray(1 << 30)
            except MemoryError as error:
                raise CorruptFileError("cannot be read") from error
        case "died":
            os._exit(9)
        case "quits":
            sys.exit(3)


HARNESS = Harness(
    lambda rng: b"right" if rng.random() < 0.5 else b"refused", attempt, ".txt", {"large": lambda: b"died"}
)


@pytest.fixture(scope="module")
def worker():
    found = Worker(NAME, seconds=0.5, memory=1 << 28)
    yield found
    found.close()


def test_every_outcome_is_told_and_the_process_is_replaced(worker):
    words = (
        "right",
        "refused",
        "foreign",
        "difference",
        "memory",
        "hidden memory",
        "quits",
        "died",
        "right",
        "hang",
        "right",
    )
    found = {word: worker.attempt(NAME, word.encode())[0] for word in words}
    assert found == {**{w: w for w in words}, "hidden memory": "memory", "quits": "foreign"}
    assert worker.attempt(NAME, "large")[0] == "died"


def test_place_of_an_exception_is_told(worker):
    outcome, text, place, seconds, peak = worker.attempt(NAME, b"foreign")
    assert (outcome, text) == ("foreign", "KeyError: 'x'")
    assert place.startswith("test_fuzz.py:")
    assert 0 <= seconds < 1
    assert peak > 1 << 20


def test_counts_are_kept_and_continued(worker, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "NAMES", (NAME,))
    path = tmp_path / "out" / "counts.json"
    counts = read_counts(path)
    run(worker, NAME, range(5), counts[NAME], pytest.fail)
    write_counts(path, counts)
    again = read_counts(path)
    assert again == counts
    assert again[NAME].next_seed == again[NAME].inputs == 5
    assert again[NAME].outcomes["right"] + again[NAME].outcomes["refused"] == 5
    assert next(seeds(again[NAME].next_seed)) == 5
    assert json.loads(path.read_text())[NAME]["inputs"] == 5


def test_a_finding_is_written_with_its_input(tmp_path):
    path = save_finding(Finding(NAME, 7, "foreign", "KeyError: '\ud800'", "x.py:1"), tmp_path / "findings")
    assert path.read_bytes() == make_input(NAME, HARNESS, 7)
    assert "KeyError" in path.with_name(f"{path.name}.txt").read_text()


def test_the_loop_stops_when_it_is_told_and_keeps_few_of_a_kind(worker):
    counts, found = Counts(), []
    run(worker, NAME, ["large"] * 5, counts, found.append)
    assert (counts.outcomes["died"], len(found)) == (5, 3)
    run(worker, NAME, range(100), counts, found.append, lambda: counts.inputs < 7)
    assert counts.inputs == 7
    assert "7 inputs" in counts.line()


# ---- the harnesses ---------------------------------------------------------------------------------------------------


def test_each_harness_is_known_and_has_a_number_of_inputs():
    assert set(INPUTS) == set(NAMES)
    for name in NAMES:
        assert (loop.Path(harnesses.__file__).parent / f"{name}.py").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_inputs_of_a_seed_are_always_the_same_and_differ(name):
    harness = load(name)
    first = [make_input(name, harness, seed) for seed in range(5)]
    random.seed(time.monotonic())
    assert [make_input(name, harness, seed) for seed in range(5)] == first
    assert len(set(first)) > 1


@pytest.fixture(scope="module")
def worker_of_all():
    found = Worker(*NAMES)
    yield found
    found.close()


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_right_or_refused(name, worker_of_all):
    counts, found = Counts(), []
    run(worker_of_all, name, [*corpus_of(name, load(name)), *range(INPUTS[name])], counts, found.append)
    shown = "\n".join(f"{f.what}: {f.outcome}: {f.text[:300]!a} at {f.place}" for f in found)
    assert not any(counts.outcomes[outcome] for outcome in BAD), f"hatch run fuzz --harness {name} --seed:\n{shown}"
    # a harness whose inputs are all refused, or all right, tries nothing
    assert counts.outcomes["right"] > INPUTS[name] // 50
    assert counts.outcomes["refused"] > INPUTS[name] // 50
