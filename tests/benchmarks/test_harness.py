import dataclasses
import importlib
import json
import platform
import subprocess
import sys
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import __main__ as command
from benchmarks import loop, machine, memory, timing
from benchmarks.__main__ import main
from benchmarks.case import Case, Contender, DisagreementError, Goal, find_case
from benchmarks.inputs import IGNORED, blocky_labels, like_prediction, make_image, smooth_logits
from benchmarks.plot import plot_results
from benchmarks.report import CaseResult, as_data, as_number, as_text, judge
from benchmarks.timing import Timing, shuffled, time_case
from benchmarks.topics import (
    TOPICS,
    argmax,
    confusion_matrix,
    importing,
    label_remap,
    losses,
    mask_scan,
    networks,
    train_pipeline,
)
from seg_core.registry import MODELS
from seg_train import load_config

ROOT = Path(__file__).resolve().parents[2]

TOYS = {"toys": "toy_cases:CASES"}


@pytest.fixture
def toys(monkeypatch):
    """The toy cases, importable in this process and in its child processes."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", folder)
    import toy_cases

    yield toy_cases
    sys.modules.pop("toy_cases")


def result_of(case, seconds, extra=None):
    return CaseResult(case, Timing(seconds, dict.fromkeys(seconds, 1), "all equal"), extra or {})


# -- timing


def test_shuffled_each_round_has_its_own_repeatable_order():
    names = ["a", "b", "c", "d"]
    orders = [shuffled(names, index) for index in range(200)]
    assert all(sorted(order) == names for order in orders)
    assert orders == [shuffled(names, index) for index in range(200)]
    before_b = Counter(order[order.index("b") - 1] for order in orders if order[0] != "b")
    assert min(before_b[name] for name in "acd") > 25  # of 150, a third each


def test_time_case_calls_every_contender_once_a_round_in_the_order_of_the_round(monkeypatch):
    calls = []
    monkeypatch.setattr(timing, "_SHORTEST_SAMPLE", 0)  # one call per sample
    contenders = [Contender(name, lambda inputs, name=name: lambda: calls.append(name), "ours") for name in "abc"]
    timed = time_case(Case("order", "note the name", lambda quick: None, contenders, lambda answers: "equal"), 4)
    assert calls == [*"abc", *(name for index in range(4) for name in shuffled("abc", index))]  # the first warm up
    assert [len(seconds) for seconds in timed.seconds.values()] == [4, 4, 4]


def test_time_case_fast_work_is_repeated_within_a_sample(monkeypatch):
    now = [0.0]

    def work():
        now[0] += 0.001

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    case = Case("fast", "a millisecond", lambda quick: None, [Contender("ours", lambda inputs: work, "ours")], str)
    timed = time_case(case, 3)
    assert timed.repeats["ours"] == pytest.approx(20, abs=1)  # calls that take 20 ms
    assert timed.seconds["ours"] == pytest.approx([0.001] * 3)


def test_time_case_answers_come_from_answer_or_work_and_bounds_have_none():
    seen = {}
    contenders = [
        Contender("work", lambda inputs: lambda: inputs, "ours"),
        Contender("answer", lambda inputs: lambda: None, answer=lambda inputs: inputs + 1),
        Contender("bound", lambda inputs: lambda: 7, "bound"),
    ]
    case = Case("answers", "nothing", lambda quick: 10 if quick else 20, contenders, lambda a: seen.update(a) or "seen")
    assert time_case(case, 1, quick=True).agreement == "seen"
    assert seen == {"work": 10, "answer": 11}


def test_time_case_threads_are_limited_during_the_case_only():
    before = torch.get_num_threads()
    seen = []
    contender = Contender("ours", lambda inputs: lambda: seen.append(torch.get_num_threads()), "ours")
    time_case(Case("threads", "ask", lambda quick: None, [contender], lambda answers: "", threads=before + 1), 1)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


KEPT = """
from seg_models.speed.memory import status_mib
from benchmarks.timing import keep_freed_memory

def grown(keep):
    before = status_mib("VmRSS")
    with keep_freed_memory(keep):
        buffer = b"x" * (64 * 2**20)
        del buffer
        return status_mib("VmRSS") - before

print(grown(False), grown(True), grown(False))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_keep_freed_memory_a_large_buffer_stays_until_the_end():
    # in its own process: the history of the heap decides what happens to freed buffers
    done = subprocess.run([sys.executable, "-c", KEPT], cwd=ROOT, capture_output=True, text=True, check=True)
    before, kept, after = map(float, done.stdout.split())
    assert abs(before) < 2
    assert kept > 60
    assert abs(after) < 2


def test_ratio_is_the_median_of_the_ratios_within_rounds():
    # the ratio of the medians would be 3 / 2; the machine was busy in the second round
    timed = Timing({"ours": [1.0, 10.0, 2.0], "peer": [3.0, 20.0, 2.0]}, {}, "")
    assert timed.ratio("ours", "peer") == 2.0
    assert timed.median("peer") == 3.0
    assert timed.quartiles("ours") == (1.5, 6.0)
    assert Timing({"ours": [4.0]}, {}, "").quartiles("ours") == (4.0, 4.0)


def test_time_case_disagreement_stops_and_names_the_case(toys):
    with pytest.raises(DisagreementError, match=r"case 'wrong': answers are \{'ours': 1, 'peer': 2\}"):
        time_case(toys.WRONG, 1)


# -- memory


@pytest.mark.skipif(not memory.can_measure_memory(), reason="needs Linux")
def test_measure_memory_finds_what_one_call_allocates(toys):
    extra = memory.measure_memory(TOYS["toys"], toys.MEMORY, quick=True)
    assert 60 < extra["64 MiB"] < 70
    assert extra["nothing"] < 2


def test_measure_memory_quick_measures_only_those_that_memory_goals_name(toys, monkeypatch):
    goals = (Goal("ours", memory_mib=32), Goal("ours", "peer", speed=2))
    case = dataclasses.replace(toys.SMALL, memory=True, goals=goals)
    monkeypatch.setattr(memory.subprocess, "run", lambda command, **options: subprocess.CompletedProcess([], 0, "1.0"))
    assert set(memory.measure_memory(TOYS["toys"], case, quick=True)) == {"ours"}
    assert set(memory.measure_memory(TOYS["toys"], case)) == {"ours", "peer"}
    beside = dataclasses.replace(case, goals=[Goal("ours", "peer", memory=1.0)])
    assert set(memory.measure_memory(TOYS["toys"], beside, quick=True)) == {"ours", "peer"}


def test_measure_memory_where_it_cannot_be_measured_says_so(toys, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "can_measure_memory", lambda: False)
    assert memory.measure_memory(TOYS["toys"], toys.MEMORY) == {}
    case = dataclasses.replace(toys.SMALL, memory=True)
    result = result_of(case, {"ours": [1.0], "peer": [1.0], "bound": [1.0]})
    assert [verdict.met for verdict in judge(result)] == [True, None]
    assert "not measured  ours: extra memory, goal at most 32 MiB" in as_text("toys", {"date": "now"}, [result], False)


# -- reports


def test_judge_names_goals_met_and_not_met(toys):
    goals = (Goal("ours", "peer", speed=3), Goal("ours", "peer", speed=3.5), Goal("ours", memory_mib=20))
    case = dataclasses.replace(toys.SMALL, goals=goals)
    verdicts = judge(result_of(case, {"ours": [1.0], "peer": [3.25], "bound": [0.5]}, {"ours": 20.5, "peer": 1.0}))
    assert [str(verdict) for verdict in verdicts] == [
        "met           ours: 3.25x as fast as peer, goal at least 3.00x",
        "NOT met       ours: 3.25x as fast as peer, goal at least 3.50x",
        "NOT met       ours: 20.5 MiB extra, goal at most 20 MiB",
    ]


def test_judge_memory_beside_a_peer_is_the_ratio_of_what_both_need(toys):
    case = dataclasses.replace(toys.SMALL, goals=[Goal("ours", "peer", speed=1, memory=1.01)])
    seconds = {"ours": [1.0], "peer": [2.0], "bound": [0.5]}
    assert list(map(str, judge(result_of(case, seconds, {"ours": 5.0, "peer": 5.0})))) == [
        "met           ours: 2.00x as fast as peer, goal at least 1.00x",
        "met           ours: 1.00x the extra memory of peer, goal at most 1.01x",
    ]
    (_, larger) = judge(result_of(case, seconds, {"ours": 6.0, "peer": 5.0}))
    assert str(larger) == "NOT met       ours: 1.20x the extra memory of peer, goal at most 1.01x"
    (_, unknown) = judge(result_of(case, seconds, {"ours": 6.0, "peer": 0.0}))
    assert str(unknown) == "not measured  ours: extra memory of peer, goal at most 1.01x"


def test_as_text_overview_has_a_row_per_pair_of_the_cases_with_facts(toys):
    peers = [Contender("same", lambda inputs: lambda: 1), Contender("other", lambda inputs: lambda: 1)]
    goals = [Goal("ours", "same", speed=0.9, memory=1.0)]
    case = dataclasses.replace(
        toys.SMALL, contenders=[toys.SMALL.contender("ours"), *peers], goals=goals, memory=True, images_per_call=None
    )
    seconds = {"ours": [0.002, 0.004], "same": [0.002, 0.004], "other": [0.001, 0.002]}
    facts = {"ours": {"GMACs": 3.0}, "same": {"GMACs": 3.0}, "other": {"GMACs": 0.5}}
    plain = result_of(toys.SMALL, {"ours": [1.0], "peer": [1.0], "bound": [1.0]})
    measured = dataclasses.replace(result_of(case, seconds, {"ours": 4.0, "same": 2.0, "other": 8.0}), facts=facts)
    text = as_text("toys", {"date": "now"}, [plain, measured], False)
    rows = [line.split("  ") for line in text.partition("== overview: ours / peer")[2].splitlines() if line]
    head, same, other = [[cell.strip() for cell in row if cell] for row in rows]
    assert head == ["peer", "GMACs", "ms", "time", "extra MiB", "memory", "goals"]
    assert same == ["small", "same", "3.00 / 3.00", "3.00 / 3.00", "1.00x", "4.0 / 2.0", "2.00x", "met, NOT met"]
    assert other == ["small", "other", "3.00 / 0.50", "3.00 / 1.50", "2.00x", "4.0 / 8.0", "0.50x"]
    assert "overview" not in as_text("toys", {"date": "now"}, [plain], False)
    unmeasured = dataclasses.replace(measured, memory={})
    assert "1.00x          -       -" in as_text("toys", {"date": "now"}, [unmeasured], False)
    ours, *_ = as_data("toys", {}, [measured], False)["cases"][0]["contenders"]
    assert ours["facts"] == {"GMACs": 3.0}


def test_as_text_has_an_aligned_row_per_contender(toys):
    case = dataclasses.replace(toys.SMALL, memory=True, keep_freed=True)
    seconds = {"ours": [0.002, 0.004], "peer": [0.02, 0.04], "bound": [0.0001, 0.0001]}
    text = as_text("toys", {"date": "today", "commit": "abc+changes"}, [result_of(case, seconds, {"ours": 1.25})], True)
    table = [line for line in text.splitlines() if line.startswith(("ours ", "peer ", "bound "))]
    assert [line.split() for line in table] == [
        ["ours", "ours", "3.00", "2.50", "-", "3.50", "333", "1.2"],
        ["peer", "peer", "30.0", "25.0", "-", "35.0", "33.3", "not", "measured", "10.0x"],
        ["bound", "bound", "0.10", "0.10", "-", "0.10", "10000", "0.04x"],
    ]
    assert len({line.index("-") for line in table}) == 1
    assert "date    today\ncommit  abc+changes\n" in text
    assert "A quick run on small inputs, " in text
    assert "\nrounds     2, freed memory kept for the next call\n" in text
    assert "agreement  all equal" in text


def test_as_number_has_about_three_digits():
    assert [as_number(value) for value in (0.123, 1.5, 12.34, 123.4, 12345.6)] == [
        "0.12",
        "1.50",
        "12.3",
        "123",
        "12346",
    ]


def test_as_data_holds_the_figures_and_survives_json(toys):
    seconds = {"ours": [0.002, 0.004], "peer": [0.02, 0.04], "bound": [0.001, 0.001]}
    data = as_data("toys", {"date": "today"}, [result_of(toys.SMALL, seconds, {"ours": 1.5})], False)
    (case,) = json.loads(json.dumps(data))["cases"]
    ours, peer, bound = case["contenders"]
    assert ours["median_ms"] == pytest.approx(3)
    assert ours["samples_ms"] == pytest.approx([2, 4])
    assert ours["images_per_second"] == pytest.approx(1000 / 3)
    assert (ours["extra_mib"], peer["extra_mib"], bound["kind"]) == (1.5, None, "bound")
    assert case["ratios"][0] == {"ours": "ours", "other": "peer", "ratio": pytest.approx(10)}
    assert [goal["met"] for goal in case["goals"]] == [True, True]


@pytest.mark.parametrize("slowest", [2.0, 500.0])
def test_plot_results_is_a_readable_image(toys, tmp_path, slowest):
    seconds = {"ours": [1.0], "peer": [slowest], "bound": [0.5]}
    path = tmp_path / "new" / "plot.png"
    plot_results(path, "toys", [result_of(toys.SMALL, seconds)] * 2, quick=True)
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width == 1200
        assert 400 < image.height < 1200
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20


def test_describe_machine_names_versions_and_neither_host_nor_folder():
    facts = machine.describe_machine(["seg-core", "no-such-distribution"])
    assert f"torch {torch.__version__.split('+')[0]}" in facts["versions"]
    assert "no-such-distribution (not installed)" in facts["versions"]
    import platform

    everything = " ".join(facts.values())
    assert str(Path(__file__).parent.parent.parent) not in everything
    assert f" {platform.node()} " not in f" {everything} " or platform.node() in ("", "localhost")


# -- the command


def test_main_run_writes_and_prints_the_report(toys, tmp_path, capsys):
    assert main(["toys", "--only", "small", "--quick", "--rounds", "2", "--out", str(tmp_path)], TOYS) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "results.txt").read_text() in printed
    assert "met           toys, small: ours: " in printed
    data = json.loads((tmp_path / "results.json").read_text())
    assert len(data["cases"][0]["contenders"][0]["samples_ms"]) == 2
    assert (tmp_path / "results.png").exists()


def test_main_goal_not_met_is_no_failure(toys, tmp_path, capsys, monkeypatch):
    slow = dataclasses.replace(toys.SMALL, goals=[Goal("ours", "peer", speed=1000)])
    monkeypatch.setattr(toys, "CASES", (slow,))
    assert main(["all", "--quick", "--out", str(tmp_path)], TOYS) == 0
    assert "NOT met       toys, small: ours: " in capsys.readouterr().out


def test_main_disagreement_is_a_failure_that_names_topic_and_case(toys, tmp_path, capsys):
    assert main(["toys", "--only", "wrong", "--out", str(tmp_path)], TOYS) == 1
    assert "toys, case 'wrong': answers are" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_main_quick_run_leaves_out_slow_cases_unless_named(toys, tmp_path, monkeypatch):
    monkeypatch.setattr(toys, "CASES", (toys.SMALL, dataclasses.replace(toys.SMALL, name="slow", quick=False)))

    def cases_of(*arguments):
        assert main(["toys", "--rounds", "1", "--out", str(tmp_path), *arguments], TOYS) == 0
        return [case["name"] for case in json.loads((tmp_path / "results.json").read_text())["cases"]]

    assert cases_of() == ["small", "slow"]
    assert cases_of("--quick") == ["small"]
    assert cases_of("--quick", "--only", "slow") == ["slow"]


def test_main_quick_run_measures_memory_only_where_a_goal_needs_it(toys, tmp_path, monkeypatch):
    without = dataclasses.replace(toys.SMALL, memory=True, goals=())
    monkeypatch.setattr(toys, "CASES", (dataclasses.replace(toys.SMALL, name="goal", memory=True), without))
    measured = []
    monkeypatch.setattr(command, "measure_memory", lambda reference, case, quick: measured.append(case.name) or {})
    arguments = ["toys", "--rounds", "1", "--out", str(tmp_path)]
    assert main([*arguments, "--quick"], TOYS) == 0
    assert measured == ["goal"]
    assert main(arguments, TOYS) == 0
    assert measured == ["goal", "goal", "small"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["argmin"], f"unknown topic 'argmin'; known are all, {', '.join(TOPICS)}"),
        (["argmax", "--only", "7 classes"], "unknown case '7 classes'; argmax has '19 classes', '150 classes'"),
        (["argmax", "--rounds", "0"], "--rounds must be at least 1, got 0"),
    ],
)
def test_main_wrong_argument_names_what_is_allowed(arguments, words, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert words in capsys.readouterr().err


def test_main_missing_peer_names_it_and_the_environment(toys, monkeypatch, tmp_path, capsys):
    def prepare(inputs):
        import no_such_peer  # noqa: F401

    peers = [*toys.SMALL.contenders, Contender("missing", prepare)]
    monkeypatch.setattr(toys, "CASES", (dataclasses.replace(toys.SMALL, contenders=peers),))
    with pytest.raises(SystemExit):
        main(["toys", "--out", str(tmp_path)], TOYS)
    assert "no_such_peer is not installed" in capsys.readouterr().err


def test_case_wrong_names_are_errors():
    contender = Contender("ours", lambda inputs: lambda: None, "ours")
    with pytest.raises(ValueError, match="must have different names"):
        Case("twice", "", lambda quick: None, [contender, contender], lambda answers: "")
    with pytest.raises(ValueError, match=r"goals of 'goal' name \['peer'\]; its contenders are \['ours'\]"):
        Case("goal", "", lambda quick: None, [contender], lambda answers: "", [Goal("ours", "peer", speed=2)])
    for goal in ({"peer": "peer"}, {"speed": 2}, {"memory": 1}):
        with pytest.raises(ValueError, match="peer and speed or memory belong together"):
            Goal("ours", **goal)


# -- inputs


def test_blocky_labels_are_regions_with_ignored_pixels_and_repeat():
    labels = blocky_labels(256, 512, 19)
    assert labels.dtype == torch.uint8
    assert set(labels.unique().tolist()) <= {*range(19), IGNORED}
    assert float((labels == IGNORED).float().mean()) == pytest.approx(0.05, abs=1e-3)
    assert 0.005 < float((labels[:, 1:] != labels[:, :-1]).float().mean()) < 0.05
    assert labels.equal(blocky_labels(256, 512, 19))
    assert not labels.equal(blocky_labels(256, 512, 19, seed=1))


def test_like_prediction_agrees_but_near_borders_and_in_regions():
    truth = blocky_labels(256, 512, 19)
    pred = like_prediction(truth, 19)
    assert int(pred.max()) < 19
    valid = truth != IGNORED
    assert 0.7 < float((pred == truth)[valid].float().mean()) < 0.95


def test_smooth_logits_and_image_have_neighbors_alike():
    logits = smooth_logits(5, 64, 96)
    assert logits.shape == (1, 5, 64, 96)
    assert float(logits.diff(dim=-1).abs().mean()) < 0.2 * float(logits.std())
    assert logits.equal(smooth_logits(5, 64, 96))
    image = make_image(64, 96)
    assert (image.shape, image.dtype) == ((64, 96, 3), np.uint8)
    assert np.abs(np.diff(image.astype(int), axis=1)).mean() < 0.5 * image.std()


# -- topics: ours at quick size, confirmed by a brute force


def ours(case, inputs):
    """The answers of our contenders, each also prepared and called once."""
    answers = {}
    for contender in case.of_kind("ours"):
        result = contender.prepare(inputs)()
        answers[contender.name] = result if contender.answer is None else contender.answer(inputs)
    return answers


@pytest.mark.parametrize("reference", TOPICS.values(), ids=TOPICS)
def test_topics_cases_have_names_ours_and_peers(reference):
    module, attribute = reference.split(":")
    cases = getattr(importlib.import_module(module), attribute)
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert find_case(reference, case.name) is case
        assert case.of_kind("ours")
        # no other library takes as many channels
        assert case.of_kind("peer") or case.name in (*networks.ALONE, "12 channels")


@pytest.mark.parametrize("case", losses.CASES, ids=lambda case: case.name)
def test_losses_ours_agree_with_float64_and_what_differs_is_noticed(case):
    answers = ours(case, case.make_inputs(True))
    assert "of float64, its gradient within" in case.check(answers)
    right = answers["ours"]
    for wrong in (right._replace(value=right.value * 1.001), right._replace(gradient=right.gradient * 1.1)):
        with pytest.raises(DisagreementError, match="'ours' differs from float64"):
            case.check({**answers, "ours": wrong})
    with pytest.raises(DisagreementError, match="'peer' gives"):
        case.check({**answers, "peer": losses.Answer(right.value * 1.01)})


def test_label_remap_ours_agree_with_a_loop_and_what_differs_is_noticed():
    for case in label_remap.CASES[:2]:
        answers = ours(case, case.make_inputs(True))
        assert "values equal" in case.check({**answers, "again": answers["ours"].copy()})
        with pytest.raises(DisagreementError):
            case.check({**answers, "wrong": answers["ours"] ^ 1})


def test_mask_scan_ours_agree_with_a_loop_and_what_differs_is_noticed():
    (case,) = mask_scan.CASES
    paths = case.make_inputs(True)[:3]
    answers = {contender.name: contender.prepare(paths)() for contender in case.contenders}
    assert case.check(answers) == "the counts of all 3 masks are equal"
    with pytest.raises(DisagreementError, match="'wrong' and 'ours' differ"):
        case.check({**answers, "wrong": answers["ours"][:2]})


def test_confusion_matrix_ours_agree_with_brute_force():
    (case,) = confusion_matrix.CASES
    inputs = case.make_inputs(True)
    matrix = torch.zeros(19, 19, dtype=torch.int64)
    pairs, counts = torch.stack([inputs.truth.flatten(), inputs.pred.flatten()]).unique(dim=1, return_counts=True)
    for (truth, pred), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        if truth != IGNORED:
            matrix[truth, pred] = count
    answers = ours(case, inputs)
    assert answers["ours uint8"].equal(matrix)
    assert "all counts equal" in case.check(answers)
    right = matrix.diagonal()[None]
    sums = (right, matrix.sum(0)[None] - right, matrix.sum(1)[None] - right, None)
    assert "all counts equal" in case.check({**answers, "SMP": sums})
    with pytest.raises(DisagreementError, match="the counts of 'SMP' and 'ours uint8' differ"):
        case.check({**answers, "SMP": (right, right, right, None)})
    with pytest.raises(DisagreementError, match="the counts of 'peer' and 'ours uint8' differ"):
        case.check({**answers, "peer": (matrix + 1).numpy()})


@pytest.mark.parametrize("case", argmax.CASES, ids=lambda case: case.name)
def test_argmax_ours_agrees_with_numpy(case):
    logits = case.make_inputs(True)
    answers = ours(case, logits)
    assert np.array_equal(answers["ours"].numpy(), logits.numpy().argmax(1))
    other = answers["ours"].clone()
    other[0, 0, :3] += 1
    with pytest.raises(DisagreementError, match="'torch' and 'ours' differ in 3 labels"):
        case.check({**answers, "torch": other})


@pytest.mark.parametrize("case", [c for c in train_pipeline.CASES if c.of_kind("peer")], ids=lambda case: case.name)
def test_train_pipeline_ours_agrees_with_pillow_and_torchvision(case):
    inputs = case.make_inputs(True)
    samples = ours(case, inputs)["ours"]
    image, mask = samples["plain"]
    height, width = inputs.crop
    expected = np.asarray(Image.fromarray(inputs.image).resize((width, height), Image.Resampling.BILINEAR)) / 255
    mean, std = (np.array(v)[:, None, None] for v in (train_pipeline.MEAN, train_pipeline.STD))
    assert np.abs(image.numpy() * std + mean - expected.transpose(2, 0, 1)).max() < 1.5 / 255
    assert np.array_equal(mask.numpy(), inputs.mask[1::2, 1::2])
    peers = {c.name: c.answer(inputs) for c in case.of_kind("peer") if c.distribution == "torchvision"}
    assert "equal labels compared with torchvision" in case.check({"ours": samples, **peers})
    shifted = {setting: (image.roll(8, -1), mask) for setting, (image, mask) in samples.items()}
    with pytest.raises(DisagreementError, match=r"compared with 'torchvision .*': ours 0\.\d+, "):
        case.check({"ours": shifted, **peers})


def test_train_pipeline_of_many_channels_agrees_with_the_colors_that_they_repeat():
    (case,) = [c for c in train_pipeline.CASES if not c.of_kind("peer")]
    answers = ours(case, case.make_inputs(True))
    assert "equal masks" in case.check(answers)
    name = case.contenders[0].name
    brighter = {setting: (image + 0.1, mask) for setting, (image, mask) in answers[name].items()}
    with pytest.raises(DisagreementError, match="12 channels, mean difference"):
        case.check({**answers, name: brighter})


@pytest.mark.parametrize("case", networks.CASES, ids=lambda case: case.name)
def test_networks_ours_agree_with_torchvision_and_have_finite_logits(case):
    images = case.make_inputs(True)
    assert images.is_contiguous()
    assert images.std().item() == pytest.approx(1, abs=1e-3)
    answers = ours(case, images)
    peers = {c.name: c.prepare(images)() for c in case.of_kind("peer") if c.distribution == "torchvision"}
    sentence = case.check({**answers, **peers})
    if not case.goals:
        assert sentence.endswith("; all give finite logits of shape (1, 21, 64, 128)")
        return
    if not peers:  # its peer is no dependency of the tests: the benchmark itself compares
        return
    assert "torchvision" in sentence
    shifted = {**answers, "torchvision": peers["torchvision"] + 1e-3 * answers["ours"].std()}
    with pytest.raises(DisagreementError, match=r"logits of 'torchvision' and 'ours' differ by 1\.0e-03"):
        case.check(shifted)
    with pytest.raises(DisagreementError, match="logits of 'torchvision' are not finite"):
        case.check({**answers, "torchvision": answers["ours"] * float("nan")})
    with pytest.raises(DisagreementError, match=r"logits of 'torchvision' have shape \(1, 21, 64, 64\)"):
        case.check({**answers, "torchvision": answers["ours"][..., :64]})


@pytest.mark.parametrize("name", ["enet", "bisenet_resnet18", "upernet_resnet18"])
def test_networks_facts_are_those_of_the_catalog(name):
    case = find_case(TOPICS["networks"], name)
    facts = case.contender("ours").facts(torch.empty(1, 3, 512, 1024, device="meta"))
    entry = MODELS.entry(name)
    assert facts == {"M parameters": pytest.approx(entry.params / 1e6), "GMACs": pytest.approx(entry.macs / 1e9)}


def test_fill_in_order_depends_on_places_and_shapes_alone_and_leaves_no_neutral_value():
    first = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3), torch.nn.BatchNorm2d(64))
    second = torch.nn.Sequential(OrderedDict(conv=torch.nn.Conv2d(3, 64, 3), norm=torch.nn.BatchNorm2d(64)))
    networks.fill_in_order(first)
    networks.fill_in_order(second)
    state = first.state_dict()
    assert all(torch.equal(*pair) for pair in zip(state.values(), second.state_dict().values(), strict=True))
    assert float(state["0.weight"].std()) == pytest.approx((2 / 27) ** 0.5, rel=0.1)
    floats = [tensor for tensor in state.values() if tensor.is_floating_point()]
    assert not any(((tensor == 0) | (tensor == 1)).any() for tensor in floats)
    assert float(state["1.running_var"].min()) > 0.5
    assert not torch.equal(state["1.bias"], state["1.running_mean"])


def test_loop_config_is_valid(tmp_path):
    config = loop._config(tmp_path, "cost", 50, epochs=1)
    config["model"]["name"] = "enet"  # the benchmark registers its own network
    assert load_config(config).data.dataset.params == {"length": 50, "size": [32, 32]}


def test_import_ours_is_light_and_a_heavy_import_disagrees():
    (case,) = importing.CASES
    contender = case.contender("seg_models")
    assert contender.prepare(None)() == ""
    assert contender.answer(None) == []
    assert "none of ours imports torchvision" in case.check({"seg_models": [], "torchvision": []})
    with pytest.raises(DisagreementError, match="'seg_models' imports torchvision, matplotlib"):
        case.check({"seg_models": ["torchvision", "matplotlib"]})
