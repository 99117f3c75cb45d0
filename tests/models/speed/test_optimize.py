"""`optimize`, and `Predictor(optimize=...)`: what is tried, chosen, refused and remembered."""

import copy
import json
import logging
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import seg_models
from seg_core.errors import InvalidArgumentError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.transforms.preprocessing import Preprocessing
from seg_models import Predictor, optimize, predict_labels, predict_tiled
from seg_models.speed import measuring, tuning, ways
from seg_models.speed.network import OptimizedNetwork
from seg_models.speed.ways import Way


class Small(nn.Module):
    """Three classes from two convolutions, as a network of another library: logits as a tensor."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, num_classes, 1)
        )

    def forward(self, images):
        return self.body(images)


@pytest.fixture
def images():
    return torch.randn(1, 3, 24, 32)


@pytest.fixture(autouse=True)
def _own_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def invented(monkeypatch):
    """Replaces the ways by invented ones, `invented(name=(seconds, run))`, whose times a fake clock gives."""
    now = [0.0]
    monkeypatch.setattr(measuring, "_clock", lambda: now[0])

    def install(eager_seconds=1.0, **given):
        built = []

        def build(self, module, images, programs):
            built.append(self.method)
            seconds, run = given[self.method]
            if isinstance(run, Exception):
                raise run

            def timed(images):
                now[0] += seconds
                return run(module.network, images)

            return timed

        original = ways.LogitsOnly.forward

        def eager(self, images):
            now[0] += eager_seconds
            return original(self, images)

        monkeypatch.setattr(ways.LogitsOnly, "forward", eager)
        monkeypatch.setattr(Way, "build", build)
        monkeypatch.setattr(tuning, "find_ways", lambda *_: [Way(name) for name in given])
        return built

    return install


def exact(network, images):
    return network(images)


def off_by(amount):
    return lambda network, images: network(images) + amount


def flipped(network, images):
    return -network(images)


# ---- choice ----------------------------------------------------------------------------------------------------------


def test_fastest_way_that_agrees_is_chosen(invented, images):
    invented(
        channels_last=(0.8, exact), fused=(0.5, exact), openvino=(0.1, flipped), compile=(0.2, ValueError("no\nway"))
    )
    network = optimize(Small(), images, compile=True)
    report = network.report
    assert report.chosen == "fused"
    assert report.speedup == pytest.approx(2)
    found = {attempt.name: attempt for attempt in report.attempts}
    assert list(found) == ["eager", "channels_last", "fused", "openvino", "compile"]
    assert found["openvino"].note == "refused: min_agreement is 99.50%"
    assert found["openvino"].seconds is None
    assert found["openvino"].agreement < 0.9
    assert found["compile"].note == "failed: ValueError: no"
    assert found["fused"].seconds == pytest.approx(0.5)
    assert "* fused" in str(report)
    assert "2.00x" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["chosen"] == "fused"


def test_eager_is_kept_if_nothing_is_faster(invented, images):
    invented(channels_last=(1.5, exact), fused=(0.99, exact))  # a gain within the noise is none
    model = Small()
    network = optimize(model, images)
    assert network.report.chosen == "eager"
    assert network.report.speedup == 1
    torch.testing.assert_close(network(images)["out"], model(images).detach())


def test_max_error_refuses_what_min_agreement_allows(invented, images):
    invented(channels_last=(0.5, off_by(0.01)), fused=(0.7, off_by(0.0001)))
    assert optimize(Small(), images).report.chosen == "channels_last"
    report = optimize(Small(), images, max_error=0.001).report
    assert report.chosen == "fused"
    assert report.attempts[1].note == "refused: max_error is 0.001"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_refused(invented, images, value):
    invented(fused=(0.1, lambda network, images: network(images).index_fill(2, torch.tensor([0]), value)))
    report = optimize(Small(), images, min_agreement=0).report
    assert (report.chosen, report.attempts[1].note) == ("eager", "refused: logits that are not finite")


def test_agreement_is_over_all_images_of_a_shape(invented):
    def wrong_for_dark(network, images):
        return -network(images) if float(images.mean()) < -1 else network(images)

    invented(fused=(0.1, wrong_for_dark))
    bright, dark = torch.randn(1, 3, 16, 16), torch.randn(1, 3, 16, 16) - 5
    assert optimize(Small(), bright).report.chosen == "fused"
    assert optimize(Small(), [bright, dark], remember=False).report.chosen == "eager"


def test_binary_and_multilabel_labels_are_those_of_thresholds(invented, images):
    invented(fused=(0.1, off_by(3.0)))  # the largest logit is the same class, the thresholds are not
    assert optimize(Small(), images).report.chosen == "fused"
    assert optimize(Small(), images, thresholds=0.5).report.chosen == "eager"


def test_time_limit_leaves_out_later_ways(invented, images, monkeypatch):
    seconds = iter([0.0, 1.0, 100.0, 100.0, 100.0])
    monkeypatch.setattr(tuning.time, "monotonic", lambda: next(seconds))
    built = invented(channels_last=(0.5, exact), fused=(0.1, exact))
    report = optimize(Small(), images, remember=False).report
    assert built == ["channels_last"]
    assert report.chosen == "channels_last"
    assert report.attempts[2].note == "left out: the time limit of 60 s was reached"


# ---- remembered ------------------------------------------------------------------------------------------------------


def test_choice_is_remembered_and_checked_again(invented, images, monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path))
    built = invented(channels_last=(0.8, exact), fused=(0.5, exact), openvino=(0.9, exact))
    model = Small()
    first = optimize(model, images).report
    assert (first.remembered, len(built)) == (False, 3)
    built.clear()
    second = optimize(copy.deepcopy(model), images).report
    assert second.remembered
    assert built == ["channels_last", "fused"]  # what is chosen, and what is for other sizes
    assert (second.chosen, second.speedup) == ("fused", pytest.approx(2))
    assert "(remembered)" in second.summary
    for changed in ({"remember": False}, {"min_agreement": 0.5}):
        assert not optimize(model, images, **changed).report.remembered
    assert not optimize(model, torch.randn(1, 3, 16, 16)).report.remembered


def test_remembered_choice_that_no_longer_agrees_is_forgotten(invented, images, monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path))
    invented(fused=(0.5, exact), openvino=(0.7, exact))
    assert optimize(Small(), images).report.chosen == "fused"
    invented(fused=(0.5, flipped), openvino=(0.7, exact))
    report = optimize(Small(), images).report
    assert (report.remembered, report.chosen) == (False, "openvino")


def test_damaged_or_missing_memory_does_not_stop_it(invented, images, monkeypatch, tmp_path):
    invented(fused=(0.5, exact))
    (tmp_path / "optimized.json").write_text("[1, 2")
    monkeypatch.setenv("SEG_CACHE", str(tmp_path))
    assert not optimize(Small(), images).report.remembered
    assert optimize(Small(), images).report.remembered
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEG_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be remembered"):
        assert optimize(Small(), images).report.chosen == "fused"


# ---- the network that is returned ------------------------------------------------------------------------------------


def test_real_ways_give_the_labels_of_the_network(images):
    model = Small()
    # without the runtimes, whose export takes seconds
    network = optimize(model, images, methods=["channels_last", "fused"], precisions=["fp32"], remember=False)
    assert [attempt.note for attempt in network.report.attempts] == [""] * 3
    with torch.no_grad():
        torch.testing.assert_close(network(images)["out"], model(images), rtol=1e-4, atol=1e-5)
        other = torch.randn(2, 3, 40, 16)
        torch.testing.assert_close(network(other)["out"], model(other), rtol=1e-4, atol=1e-5)
    assert not network(images)["out"].requires_grad
    assert model.body[0].weight.requires_grad
    assert torch.equal(predict_labels(network, images), predict_labels(model, images))


def test_batches_of_a_known_size_are_computed_image_by_image(invented, images):
    seen = []

    def note(network, images):
        seen.append(tuple(images.shape))
        return network(images)

    invented(fused=(0.1, note))
    model = Small()
    network = optimize(model, images)
    seen.clear()
    batch = torch.randn(3, 3, 24, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(batch)["out"], model(batch))
    assert seen == [(1, 3, 24, 32)] * 3
    seen.clear()
    network(torch.randn(1, 3, 25, 32))  # another size: not by a way of one shape
    assert seen == []


def test_logits_before_the_last_resize_are_used(images):
    model = seg_models.fast_scnn(num_classes=3).eval()
    images = torch.randn(1, 3, 64, 64)
    network = optimize(model, images, methods=["channels_last"], precisions=["fp32"], remember=False)
    assert network.upsampling == {"out": model.upsampling["out"]}
    assert network.forward_logits(images)["out"].shape == model.forward_logits(images)["out"].shape
    assert network.build_spec == model.build_spec
    assert torch.equal(predict_labels(network, images), predict_labels(model, images))
    assert torch.equal(
        predict_tiled(network, images, tile=32, output="labels"), predict_tiled(model, images, tile=32, output="labels")
    )


def test_optimized_network_refuses_what_its_copies_would_miss(images):
    enet = seg_models.get_model("enet", num_classes=3).eval()
    with pytest.raises(InvalidArgumentError, match=r"must have the 3 channels of the model, got \(1, 4, 64, 64\)"):
        optimize(enet, torch.zeros(1, 4, 64, 64))
    network = optimize(Small(), images, methods=["channels_last"], precisions=["fp32"], remember=False)
    assert network.eval() is network
    assert network.to("cpu", torch.float32) is network
    for action in (network.train, network.double, lambda: copy.deepcopy(network)):
        with pytest.raises(InvalidArgumentError, match=r"\.model"):
            action()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_agreement": 1.5}, "min_agreement must be a fraction of pixels, 0 to 1, got 1.5"),
        ({"max_error": -1}, "max_error must be a difference of logits >= 0, or None, got -1"),
        ({"time_limit": 0}, "time_limit must be a number of seconds above 0, got 0"),
        ({"compile": "yes"}, "compile must be True, False or"),
        ({"methods": ["tensorrt"]}, "methods must be some of channels_last, fused"),
        ({"precisions": "int8"}, "precisions must be some of fp32, bf16, fp16, got 'int8'"),
    ],
)
def test_wrong_arguments_are_explained(images, arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        optimize(Small(), images, **arguments)


def test_wrong_models_and_images_are_explained(images):
    with pytest.raises(InvalidArgumentError, match="images must be a float tensor"):
        optimize(Small(), torch.zeros(3, 24, 32))
    with pytest.raises(InvalidArgumentError, match="a list of these, got"):
        optimize(Small(), [])
    with pytest.raises(InvalidArgumentError, match="model must be a network"):
        optimize("enet", images)
    network = optimize(Small(), images, methods=["channels_last"], precisions=["fp32"], remember=False)
    with pytest.raises(InvalidArgumentError, match="optimized already; pass its .model"):
        optimize(network, images)


# ---- what can be tried -----------------------------------------------------------------------------------------------


def test_ways_by_device_and_type(monkeypatch):
    monkeypatch.setattr(ways, "has_bf16", lambda device: False)
    monkeypatch.setattr(ways.importlib.util, "find_spec", lambda name: name)  # as if all runtimes were installed
    cpu = ways.find_ways(torch.device("cpu"), torch.float32, list(ways.PRECISIONS), ways.METHODS)
    names = [way.name for way in cpu]
    assert "cuda_graphs" not in names
    assert "openvino bf16" in names
    assert not any("fp16" in name for name in names)
    assert {way.why_not for way in cpu if way.precision} == {"this processor does not compute in bf16"}
    gpu = ways.find_ways(torch.device("cuda"), torch.float32, list(ways.PRECISIONS), ways.METHODS)
    assert [way.name for way in gpu if way.method == "cuda_graphs"] == [
        "cuda_graphs",
        "cuda_graphs fp16",
        "cuda_graphs bf16",
    ]
    half = ways.find_ways(torch.device("cpu"), torch.bfloat16, list(ways.PRECISIONS), ways.METHODS)
    assert {way.precision for way in half} == {""}
    assert {way.why_not for way in half if way.method == "openvino"} == {"the weights are bfloat16, not float32"}


def test_missing_runtime_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(ways.importlib.util, "find_spec", lambda name: None)
    found = {way.name: way for way in ways.find_ways(torch.device("cpu"), torch.float32, ["fp32"], ways.METHODS)}
    assert found["onnxruntime"].why_not.endswith("pip install 'seg-models[export]'")
    assert found["openvino"].why_not.endswith("pip install 'seg-models[export,openvino]'")
    monkeypatch.setattr(ways.shutil, "which", lambda name: None)
    (compiled,) = ways.find_ways(torch.device("cpu"), torch.float32, ["fp32"], ["compile"])
    assert "C++ compiler" in compiled.why_not


@pytest.mark.parametrize(("method", "packages"), [("onnxruntime", ["onnxruntime"]), ("openvino", ["openvino"])])
def test_runtimes_compute_what_the_network_computes(images, method, packages):
    for package in ("onnx", "onnxscript", *packages):
        pytest.importorskip(package)
    module = ways.LogitsOnly(Small().eval(), direct=False)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # those of the exporter
        run = Way(method).build(module, images, {})
        torch.testing.assert_close(run(images), module(images), rtol=1e-4, atol=1e-5)
        first = run(images)
        run(images + 1)
        torch.testing.assert_close(first, module(images), rtol=1e-4, atol=1e-5)  # its memory is not reused


@pytest.mark.full
def test_compiled_way_computes_what_the_network_computes(images):
    (way,) = ways.find_ways(torch.device("cpu"), torch.float32, ["fp32"], ["compile"])
    if way.why_not:
        pytest.skip(way.why_not)
    module = ways.LogitsOnly(Small().eval(), direct=False)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # those of the compiler
        torch.testing.assert_close(way.build(module, images, {})(images), module(images), rtol=1e-4, atol=1e-5)


def test_onnx_program_is_made_once(monkeypatch, images):
    made = []
    monkeypatch.setattr(ways, "onnx_bytes", lambda module, images: made.append(1) or b"program")
    monkeypatch.setattr(ways, "run_openvino", lambda program, precision: (program, precision))
    programs = {}
    module = ways.LogitsOnly(Small(), direct=False)
    assert Way("openvino").build(module, images, programs) == (b"program", "fp32")
    assert Way("openvino", "bf16").build(module, images, programs) == (b"program", "bf16")
    assert made == [1]


# ---- Predictor -------------------------------------------------------------------------------------------------------

CLASSES = DatasetMetadata("three", ("a", "b", "c"))
QUICK = {"methods": ["channels_last"], "precisions": ["fp32"], "remember": False}


def test_predictor_optimizes_at_the_first_images(caplog):
    model = seg_models.fast_scnn(num_classes=3)
    predictor = Predictor(model, metadata=CLASSES, preprocessing=Preprocessing(), optimize=QUICK | {"max_sizes": 2})
    with pytest.raises(InvalidArgumentError, match="nothing was optimized yet; predict an image first"):
        _ = predictor.optimized.report
    plain = Predictor(model, metadata=CLASSES, preprocessing=Preprocessing())
    assert plain.optimized is None
    random = np.random.default_rng(0)
    with caplog.at_level(logging.INFO, "seg_models"):
        for size in ((64, 72), (64, 72), (72, 64), (80, 80)):
            image = random.integers(0, 256, (*size, 3), np.uint8)
            assert (predictor(image).labels == plain(image).labels).mean() > 0.99
    assert [report.shape[-2:] for report in predictor.optimized.reports] == [(64, 72), (72, 64)]
    assert [record.message[:19] for record in caplog.records if "optimized" in record.message] == [
        "optimized for 64x72", "optimized for 72x64",
    ]  # fmt: skip
    assert predictor.model is model


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_predictor_of_other_tasks_and_channels(task):
    from seg_core import ImageChannels

    labels = ("wet",) if task == "binary" else ("wet", "green")
    channels = ImageChannels(("red", "green", "blue", "nir"), range=(0, 255), mean=(0.5,) * 4, std=(0.2,) * 4)
    metadata = DatasetMetadata("task", labels, task=task, channels=channels)
    model = seg_models.enet(num_classes=len(labels), in_channels=4)
    options = {"metadata": metadata, "channels": channels, "scores": True}
    image = np.random.default_rng(0).integers(0, 256, (32, 40, 4), np.uint8)
    expected = Predictor(model, **options)(image)
    found = Predictor(model, optimize=QUICK, **options)(image)
    assert (found.labels == expected.labels).mean() > 0.99
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)


def test_predictor_explains_wrong_options():
    model = seg_models.enet(num_classes=3)
    given = {"metadata": CLASSES, "preprocessing": Preprocessing()}
    with pytest.raises(InvalidArgumentError, match="optimize has no option 'min_agreemnt'.*min_agreement"):
        Predictor(model, optimize={"min_agreemnt": 1}, **given)
    with pytest.raises(InvalidArgumentError, match="optimize must be True, False or a dict of options, got 3"):
        Predictor(model, optimize=3, **given)


def test_nothing_is_optimized_before_it_is_asked_for(shades):
    network = OptimizedNetwork(shades, tuning.Settings(0.995, None, ("fp32",), (), None, None, 60.0, remember=False))
    assert network.reports == ()
