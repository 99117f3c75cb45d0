"""`benchmark`: times by a fake clock, counts, comparisons, memory, and what a report says."""

import gc
import os
import subprocess
import sys
import types
from dataclasses import replace

import pytest
import torch
from torch import nn

import seg_models
from seg_core.errors import InvalidArgumentError, NotEnoughMemoryError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.transforms.preprocessing import Preprocessing
from seg_models.speed import benchmark as room
from seg_models.speed.contenders import load_contender
from seg_models.speed.counts import bytes_of_weights, count_macs, count_parameters
from seg_models.speed.machine import Peak, measure_peak
from seg_models.speed.memory import can_measure_memory
from seg_models.speed.timing import Times, ratio_of, time_in_turn

SIZE = (32, 48)


class Clock:
    """Time passes only by what is done: each call of `work(seconds)` takes as long as it says."""

    def __init__(self):
        self.now = 100.0
        self.calls = []

    def __call__(self):
        return self.now

    def work(self, name, *seconds):
        """A call that takes these seconds, in turn."""
        pattern = list(seconds)

        def call():
            self.calls.append(name)
            self.now += pattern[self.calls.count(name) % len(pattern)]

        return call


class Tiny(nn.Module):
    """A network of another library: two convolutions, logits as a tensor."""

    def __init__(self, classes=3, channels=3):
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, classes, 1)
        self.seen = []

    def forward(self, images):
        self.seen.append((tuple(images.shape), images.dtype, self.training))
        return self.last(self.norm(self.first(images)))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The peak is no part of most tests: 100 GFLOP/s; and torch computes in one thread."""
    monkeypatch.setattr(room, "measure_peak", lambda device, dtype, name, *_: Peak(100.0, 80.0, 512, name))


def measured(*models, **options):
    return seg_models.benchmark(
        models[0], **{"compare": models[1:], "size": SIZE, "device": "cpu", "seconds": 0.01} | options
    )


# ---- times -----------------------------------------------------------------------------------------------------------


def test_percentiles_are_given_only_of_enough_calls():
    times = Times.of([0.1, 0.3, 0.2])
    assert times == Times(3, median=0.2, fastest=0.1, p10=None, p90=None, p99=None)
    times = Times.of([n / 10 for n in range(11)])
    assert times.p10 == pytest.approx(0.1)
    assert times.p90 == pytest.approx(0.9)
    assert times.p99 is None
    assert Times.of([n / 100 for n in range(101)]).p99 == pytest.approx(0.99)


def test_ratios_are_those_within_each_round():
    # a machine that becomes ten times as slow changes the times, not the ratio
    baseline = [1.0, 1.0, 10.0, 10.0] * 3
    ratio = ratio_of([0.5, 0.5, 5.0, 20.0] * 3, baseline)
    assert (ratio.rounds, ratio.median, ratio.faster_in) == (12, 0.5, 9)
    assert ratio.p10 == 0.5
    assert ratio.p90 == 2.0
    assert ratio_of([1.0], [2.0]).p10 is None


def test_kinds_are_warmed_up_and_called_in_turn_for_the_given_time():
    clock = Clock()
    found = time_in_turn({"a": clock.work("a", 0.125), "b": clock.work("b", 0.25)}, 1.875, clock=clock)
    assert found["a"] == [0.125] * 10  # 10 rounds of 0.375 s are 1.875 s for each of two
    assert found["b"] == [0.25] * 10
    warm_up, rounds = clock.calls[:-20], clock.calls[-20:]
    assert warm_up == ["a", "a", "b", "b"]
    assert all(set(rounds[at : at + 2]) == {"a", "b"} for at in range(0, 20, 2))
    assert {tuple(rounds[at : at + 2]) for at in range(0, 20, 2)} == {("a", "b"), ("b", "a")}


def test_slow_calls_are_timed_three_times_and_fast_ones_a_bounded_number_of_times():
    clock = Clock()
    assert len(time_in_turn({"a": clock.work("a", 60.0)}, 1.0, clock=clock)["a"]) == 3
    assert len(time_in_turn({"a": clock.work("b", 1e-3)}, 1.0, clock=clock, max_rounds=50)["a"]) == 50


def test_a_time_ends_when_the_device_has_done_its_work():
    clock = Clock()
    waiting = clock.work("device", 0.25)
    found = time_in_turn({"a": clock.work("a", 0.1)}, 1.0, wait=waiting, clock=clock)
    assert found["a"][0] == pytest.approx(0.35)


def test_garbage_collection_is_off_meanwhile_and_on_again_after_an_error():
    states = []
    time_in_turn({"a": lambda: states.append(gc.isenabled())}, 0.001, max_rounds=5)
    assert states[-1] is False
    assert gc.isenabled()
    calls = iter([None, None])
    with pytest.raises(StopIteration):
        time_in_turn({"a": lambda: next(calls)}, 0.0, clock=Clock())
    assert gc.isenabled()


def test_the_peak_is_the_fastest_call_of_a_size_that_takes_long_enough():
    clock = Clock()
    ticks = iter([1.0, 0.5, 0.8] * 1000)

    def tick():
        clock.now += next(ticks)
        return clock.now

    peak = measure_peak(torch.device("cpu"), torch.float32, "fp32", 2.0, tick)
    assert peak.side == 512
    assert peak.matrix_product == pytest.approx(2 * 512**3 / 0.5e9)
    assert peak.gflops == max(peak.matrix_product, peak.convolution)
    assert "512x512 matrices" in str(peak)


# ---- counts and memory -----------------------------------------------------------------------------------------------


def test_macs_parameters_and_bytes_are_those_counted_by_hand():
    network = Tiny()
    assert count_macs(network, torch.zeros(2, 3, 8, 8)) == 2 * 64 * (3 * 9 * 4 + 4 * 3)
    assert network.seen == [((2, 3, 8, 8), torch.float32, False)]
    assert network.training
    assert count_parameters(network) == (3 * 9 * 4 + 4) + 8 + (4 * 3 + 3)
    assert bytes_of_weights(network) == 4 * (count_parameters(network) + 8) + 8  # batch norm counts its calls in int64


_MEMORY = """
import torch
from seg_models.speed.memory import extra_mib, returning_memory

def work():
    torch.ones(8 * 2**20 // 4).sum()  # freed before the next
    return torch.ones(4 * 2**20 // 4)

with returning_memory():
    work()
    print(extra_mib(work, torch.device("cpu")))
"""


@pytest.mark.skipif(not can_measure_memory(), reason="this system does not tell the peak memory of a process")
def test_memory_is_the_peak_of_a_call_not_what_it_leaves():
    # in a process of its own: one that has run other tests has freed memory left, which a call may take
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", _MEMORY], env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(8, abs=1.5)


# ---- the report ------------------------------------------------------------------------------------------------------


def test_a_network_is_measured_alone_and_from_image_to_labels_by_batch_size():
    network = Tiny()
    report = measured(network, batch_sizes=(4, 1, 4))
    assert [(row.step, row.batch_size) for row in report.rows] == [
        ("network", 1),
        ("image to labels", 1),
        ("network", 4),
        ("image to labels", 4),
    ]
    assert {shape for shape, *_ in network.seen} == {(1, 3, *SIZE), (4, 3, *SIZE)}
    assert not any(training for *_, training in network.seen)
    assert network.training  # as before
    (model,) = report.models
    assert (model.name, model.params) == ("Tiny", count_parameters(network))
    assert model.macs == 32 * 48 * (3 * 9 * 4 + 4 * 3)
    for row in report.rows:
        assert row.images_per_second == pytest.approx(row.batch_size / row.times.median)
        assert row.times.runs >= 3
        if row.step == "network":
            assert row.gflops == pytest.approx(2e-9 * model.macs * row.batch_size / row.times.median)
            assert row.of_peak == pytest.approx(row.gflops / 100)
        else:
            assert row.gflops is row.of_peak is None


def test_the_report_is_plain_data_and_a_text_that_says_how_it_was_measured():
    report = measured("enet", Tiny(), threads=1)
    values = report.to_dict()
    assert set(values) == {"machine", "size", "dtype", "models", "rows", "compare", "notes", "versions"}
    assert values["size"] == [32, 48]
    assert values["machine"]["threads"] == 1
    assert values["machine"]["peak"]["gflops"] == 100.0
    assert [model["name"] for model in values["models"]] == ["enet", "Tiny"]
    assert "random weights" in values["models"][0]["note"]
    assert values["versions"]["torch"] == torch.__version__
    (network, labels) = values["compare"]
    assert (network["model"], network["baseline"], network["step"]) == ("Tiny", "enet", "network")
    assert labels["step"] == "image to labels"
    assert 0 < network["ratio"] < 1
    assert network["faster_in"] == network["rounds"] >= 3
    text = str(report)
    for part in (
        f"1 thread, {torch.backends.cpu.get_cpu_capability()}",
        "100 GFLOP/s in fp32",
        "images   32x48 pixels, fp32",
        "model    enet: 0.37 M parameters (1.4 MiB)",
        "time beside enet",
        "one call of Predictor, on images in memory: preprocessing, network, labels",
        "2 x MACs x batch / median",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 140


def test_a_busy_machine_is_said():
    report = measured(Tiny(), Tiny(), end_to_end=False)
    calm = replace(report.machine, load=1.0, cores=4)
    row = replace(report.rows[0], times=Times(200, 0.11, 0.1, 0.1, 0.12, 0.13))
    quiet = replace(report, machine=calm, rows=(row,), compare=())
    assert "note: " not in str(quiet)
    assert quiet.to_dict()["notes"] == []
    loaded = str(replace(quiet, machine=replace(calm, load=6.5)))
    assert "note: the load average was 6.5 on 4 cores at the start" in loaded
    varying = str(replace(quiet, rows=(replace(row, times=Times(200, 0.2, 0.1, 0.1, 0.9, 1.0)),)))
    assert "note: the median of equal calls is up to 2.0 times the minimum" in varying
    few = replace(report.compare[0], ratio=ratio_of([1.0] * 9, [2.0] * 9))
    assert "note: fewer than 10 rounds say little about a ratio" in str(replace(quiet, compare=(few,)))


def test_models_of_equal_names_are_numbered():
    report = measured(Tiny(), Tiny(classes=5), end_to_end=False)
    assert [row.model for row in report.rows] == ["Tiny (1)", "Tiny (2)"]
    assert report.compare[0].baseline == "Tiny (1)"


def test_threads_are_set_meanwhile_only():
    before = torch.get_num_threads()
    seen = []

    class Threads(Tiny):
        def forward(self, images):
            seen.append(torch.get_num_threads())
            return super().forward(images)

    report = measured(Threads(), threads=before + 1)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
    assert report.machine.threads == before + 1


def test_another_type_of_weights_is_that_of_a_copy():
    network = Tiny()
    report = measured(network, dtype="fp64", end_to_end=False)
    assert report.dtype == "fp64"
    assert next(network.parameters()).dtype == torch.float32
    assert network.seen == []


def test_a_model_file_brings_classes_channels_and_normalization(tmp_path):
    network = seg_models.fast_scnn(num_classes=2).eval()
    two = DatasetMetadata("two", ("sky", "ground"))
    seg_models.save_model(network, tmp_path / "m.pt", metadata=two, preprocessing=Preprocessing(shorter_side=512))
    report = measured(tmp_path / "m.pt", size=(64, 64))
    assert [row.step for row in report.rows] == ["network", "image to labels"]
    assert report.models[0].note == ""
    # the resize is left out: the network saw the size that was asked for in both steps
    assert report.rows[1].times.median < 5 * report.rows[0].times.median


def test_other_channels_and_tasks_are_measured_too():
    report = measured(Tiny(channels=5))
    assert [row.step for row in report.rows] == ["network", "image to labels"]
    report = measured(Tiny(classes=1))
    assert [row.step for row in report.rows] == ["network"]
    (note,) = [note for note in report.notes if "Tiny" in note]
    assert "image to labels was not measured" in note
    assert f"note: {note}" in str(report)


# ---- what fails ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"size": (0, 5)}, "size must be (height, width)"),
        ({"size": "512"}, "size must be (height, width)"),
        ({"batch_sizes": ()}, "batch_sizes must name at least one"),
        ({"batch_sizes": (0,)}, "batch_sizes must be an integer >= 1"),
        ({"threads": 0}, "threads must be an integer >= 1"),
        ({"seconds": 0}, "seconds must be a number above 0"),
        ({"seconds": float("nan")}, "seconds must be a number above 0"),
        ({"device": "nope"}, "nope"),
        ({"dtype": "int8"}, "dtype must be one of"),
    ],
)
def test_wrong_arguments_are_named(options, part):
    with pytest.raises(InvalidArgumentError) as error:
        measured(Tiny(), **options)
    assert part in str(error.value)


def test_images_below_the_minimum_size_of_a_network_are_refused():
    with pytest.raises(InvalidArgumentError, match="size 16x16 is too small for segformer_b0, .* at least 29 pixels"):
        measured("segformer_b0", size=(16, 16))


def test_a_network_that_fails_is_named_with_the_images_it_got():
    class Fixed(Tiny):
        def forward(self, images):
            if len(images) != 1:
                raise RuntimeError("expected batch 1\nand a long trace")
            return super().forward(images)

    with pytest.raises(InvalidArgumentError) as error:
        measured(Fixed(), batch_sizes=(1, 2))
    assert "Fixed fails on images (2, 3, 32, 48): RuntimeError: expected batch 1; an exported" in str(error.value)


def test_batches_that_do_not_fit_are_left_out_and_said():
    class Large(Tiny):
        def forward(self, images):
            if len(images) >= self.limit:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
            return super().forward(images)

    network = Large()
    network.limit = 4
    report = measured(network, batch_sizes=(1, 2, 4, 8), end_to_end=False)
    assert [row.batch_size for row in report.rows] == [1, 2]
    assert "batch size 4 and above: out of memory" in report.notes
    network.limit = 1
    with pytest.raises(NotEnoughMemoryError, match="lower the batch size"):
        measured(network)


def test_options_of_a_builder_are_for_models_by_name(tmp_path):
    assert load_contender("enet", options={"num_classes": 7}).network.build_spec.arguments["num_classes"] == 7
    with pytest.raises(InvalidArgumentError, match="num_classes cannot be set for model file"):
        load_contender(tmp_path / "m.pt", options={"num_classes": 7})


# ---- optimize --------------------------------------------------------------------------------------------------------


def test_an_optimized_network_is_measured_beside_its_original(monkeypatch):
    seen = {}

    class Folded(nn.Module):
        report = "batch norms folded: 1\nlabels agree: 100 %"

        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network.last(self.network.first(images))

    def optimize(model, images, *, thresholds=None):
        seen["images"], seen["training"] = [tuple(batch.shape) for batch in images], model.training
        return Folded(model)

    module = types.ModuleType("seg_models.speed.optimize")
    module.optimize = optimize
    monkeypatch.setitem(sys.modules, "seg_models.speed.optimize", module)
    report = measured(Tiny(), optimize=True, batch_sizes=(2, 1))
    assert seen == {"images": [(1, 3, *SIZE), (2, 3, *SIZE)], "training": False}
    assert [model.name for model in report.models] == ["Tiny", "Tiny, optimized"]
    assert report.models[1].macs == report.models[0].macs
    assert report.models[1].optimized == Folded.report
    assert {(c.model, c.baseline) for c in report.compare} == {("Tiny, optimized", "Tiny")}
    assert len(report.compare) == 4  # steps and batch sizes
    assert "         batch norms folded: 1\n         labels agree: 100 %" in str(report)
