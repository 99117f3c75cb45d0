"""What every model of the catalog promises.

`TestContract` is the contract: one test for each promise, run for every model. By default only one model of each
network is tested; the others are marked `full`. `hatch run models` tests all and writes the table of docs/models.md.
"""

import copy
import inspect
import io
import pickle

import pytest
import torch
from torchvision.ops import StochasticDepth

import seg_models
from seg_core.interfaces import Network
from seg_models.catalog import MODELS
from seg_models.networks.base import resize_outputs

NAMES = seg_models.list_models()
# the lightest of each network, on each kind of backbone; `TestSkipsOfFCN` stands in for fcn_vgg16, of 134 M parameters
DEFAULT = {
    "bisenet_resnet18",
    "deeplabv3_resnet18",
    "deeplabv3plus_xception",
    "bisenetv2",
    "ddrnet23_slim",
    "enet",
    "fast_scnn",
    "fcn_resnet18",
    "fpn_efficientnet_b0",
    "lraspp_mobilenet_v3_small",
    "pidnet_s",
    "pspnet_resnet18",
    "regseg",
    "segformer_b0",
    "sfnet_lite_resnet18",
    "sfnet_resnet18",
    "stdc1",
    "unet_resnet34",
    "upernet_resnet18",
}
# channels of an output that has no logits of classes
CHANNELS = {"boundary": 1}
# a bias before a batch norm, with nothing but a linear layer in between: training takes it out again
WITHOUT_GRADIENT = {"bisenetv2": {"semantic.embedding.context.1.bias"}}
STANDARD = ["weights", "progress", "num_classes", "class_names", "aux_loss", "weights_backbone"]
STANDARD += ["in_channels", "variant"]

default_model = pytest.mark.parametrize("name", sorted(DEFAULT))
every_model = pytest.mark.parametrize("name", NAMES)
# grouped by model, so that each is built once
contract = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in DEFAULT else [pytest.mark.full]) for n in NAMES], scope="class"
)


def with_aux(name):
    return {"aux_loss": True} if len(MODELS[name].outputs) > 1 else {}


@pytest.fixture(scope="module")
def built():
    """A model by name with all its outputs, 3 classes, in eval mode; the last is kept, so tests must not change it."""
    last = {}

    def get(name):
        if name not in last:
            last.clear()
            torch.manual_seed(0)
            with torch.inference_mode(False):  # some tests ask from within inference mode
                last[name] = seg_models.get_model(name, num_classes=3, **with_aux(name)).eval()
        return last[name]

    return get


@contract
class TestContract:
    def test_builds_without_network(self, name, built):
        # tests cannot reach the internet, see conftest.py
        model = built(name)
        assert isinstance(model, Network)
        assert tuple(model.upsampling) == MODELS[name].outputs
        assert model.randomly_initialized == ()

    @pytest.mark.smoke
    def test_any_size(self, name, built):
        smallest = MODELS[name].min_size
        assert smallest <= 64
        for size in ((64, 96), (97, 65), (smallest, smallest), (smallest + 9, smallest)):
            with torch.inference_mode():
                outputs = built(name)(torch.randn(2, 3, *size))
            assert tuple(outputs) == MODELS[name].outputs
            for key, output in outputs.items():
                assert output.shape == (2, CHANNELS.get(key, 3), *size)
                assert output.dtype == torch.float32
                assert output.isfinite().all()

    @pytest.mark.smoke
    @pytest.mark.parametrize("size", [(64, 64), (64, 97)])
    def test_batch_of_one_trains(self, name, built, size):
        model = copy.deepcopy(built(name)).train()
        sum(output.square().mean() for output in model(torch.randn(1, 3, *size)).values()).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())

    @pytest.mark.parametrize(("in_channels", "num_classes"), [(1, 1), (5, 2), (3, 21)])
    def test_channels_and_classes(self, name, in_channels, num_classes):
        model = seg_models.get_model(name, in_channels=in_channels, num_classes=num_classes).eval()
        with torch.inference_mode():
            assert model(torch.randn(1, in_channels, 48, 40))["out"].shape == (1, num_classes, 48, 40)
        assert model.build_spec.arguments["in_channels"] == in_channels
        assert model.build_spec.arguments["num_classes"] == num_classes

    @pytest.mark.smoke
    def test_every_parameter_gets_a_gradient(self, name, built):
        model = copy.deepcopy(built(name)).train()
        for module in model.modules():
            if isinstance(module, StochasticDepth):
                module.p = 0.0  # a block may be dropped at random for the whole batch
        sum(output.square().mean() for output in model(torch.randn(2, 3, 64, 72)).values()).backward()
        without = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
        assert set(without) <= WITHOUT_GRADIENT.get(name, set())
        assert all(p.grad.isfinite().all() for p in model.parameters())

    def test_eval_is_deterministic(self, name, built):
        images = torch.randn(1, 3, 64, 48)
        with torch.inference_mode():
            first, second = built(name)(images), built(name)(images)
        assert all(torch.equal(first[key], second[key]) for key in first)

    def test_forward_is_resized_logits(self, name, built):
        model, images = built(name), torch.randn(1, 3, 65, 48)
        with torch.inference_mode():
            whole, logits = model(images), model.forward_logits(images)
            assert set(model.upsampling) == set(logits)
            resized = resize_outputs(logits, (65, 48), model.upsampling)
        for key in whole:
            assert torch.equal(whole[key], resized[key])
            if model.upsampling[key] is None:
                assert logits[key].shape[-2:] == (65, 48)

    def test_compile_whole_graph(self, name, built):
        torch._dynamo.reset()
        model, images = built(name), torch.randn(1, 3, 64, 48)
        with torch.no_grad():
            expected = model(images)
            found = torch.compile(model, fullgraph=True, backend="eager")(images)
        for key in expected:
            assert_close(found[key], expected[key])

    def test_export_any_size(self, name, built):
        program = exported(built(name)).module()
        for size in ((66, 96), (97, 65)):
            images = torch.randn(1, 3, *size)
            with torch.no_grad():
                expected, found = built(name)(images), program(images)
            for key in expected:
                assert_close(found[key], expected[key])

    def test_onnx_any_size(self, name, built):
        pytest.importorskip("onnxscript")
        runtime = pytest.importorskip("onnxruntime")
        file = io.BytesIO()
        torch.onnx.export(exported(built(name)), dynamo=True, verbose=False).save(file)
        session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        for size in ((66, 96), (97, 65)):
            images = torch.randn(1, 3, *size)
            with torch.no_grad():
                expected = built(name)(images)
            found = session.run(None, {session.get_inputs()[0].name: images.numpy()})
            for key, output in zip(expected, found, strict=True):
                assert_close(torch.from_numpy(output), expected[key])

    def test_pickle_and_deepcopy(self, name, built):
        model, images = built(name), torch.randn(1, 3, 64, 48)
        with torch.inference_mode():
            expected = model(images)["out"]
            for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
                assert torch.equal(other(images)["out"], expected)
                assert other.build_spec == model.build_spec

    def test_state_dict_files(self, name, built, tmp_path):
        model, images = built(name), torch.randn(1, 3, 64, 48)
        tensors = model.state_dict()
        torch.save(tensors, tmp_path / "model.pth")
        again = seg_models.get_model(name, weights=tmp_path / "model.pth", **with_aux(name)).eval()
        assert again.randomly_initialized == ()
        assert again.build_spec == model.build_spec
        with torch.inference_mode():
            assert torch.equal(again(images)["out"], model(images)["out"])
        safetensors = pytest.importorskip("safetensors.torch")
        safetensors.save_file(tensors, tmp_path / "model.safetensors")
        read = safetensors.load_file(tmp_path / "model.safetensors")
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[key], tensors[key]) for key in tensors)


def assert_close(found, expected):
    """Equal but for the rounding of another order of operations."""
    assert (found - expected).abs().max() < 1e-4 * expected.std()


def exported(model):
    """The model as a program for any height and width from 65 on; torch gives a side of one feature another meaning."""
    height, width = (torch.export.Dim(side, min=65, max=4096) for side in ("height", "width"))
    with torch.no_grad():
        return torch.export.export(
            model, (torch.randn(1, 3, 72, 96),), dynamic_shapes={"images": {2: height, 3: width}}
        )


@default_model
def test_keys_depend_on_aux_loss_alone(name, built):
    plain = seg_models.get_model(name, num_classes=3)
    images = torch.randn(2, 3, 64, 64)
    for training in (True, False):
        with torch.no_grad():
            assert list(plain.train(training)(images)) == ["out"]
            assert tuple(copy.deepcopy(built(name)).train(training)(images)) == MODELS[name].outputs


@every_model
def test_build_spec_builds_the_same_network_and_is_plain_data(name):
    with torch.device("meta"):
        model = seg_models.get_model(name, num_classes=3, **with_aux(name))
        spec = model.build_spec
        again = seg_models.get_model(name, variant=spec.variant, **spec.arguments)
    assert spec.builder == name
    assert spec.variant == MODELS[name].variants[0]
    assert all(isinstance(value, int | float | str | bool | tuple) for value in spec.arguments.values())
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (again, model)]
    assert shapes[0] == shapes[1]


@every_model
def test_catalog_facts_are_true(name, fidelity):
    entry = MODELS[name]
    with torch.device("meta"):
        model = seg_models.get_model(name, num_classes=21).eval()
    assert fidelity.count_parameters(model) == entry.params
    for variant in entry.variants:
        with torch.device("meta"):
            assert seg_models.get_model(name, variant=variant).build_spec.variant == variant


@contract
def test_macs_of_the_catalog_are_true(name, fidelity):
    with torch.device("meta"):
        model = seg_models.get_model(name, num_classes=21).eval()
    assert fidelity.count_macs(model) == MODELS[name].macs


@every_model
def test_builder_has_the_standard_keywords_and_a_documentation(name):
    builder = seg_models.get_model_builder(name)
    assert builder is getattr(seg_models, name)
    assert builder.__name__ == name
    parameters = inspect.signature(builder).parameters
    assert list(parameters)[: len(STANDARD)] == STANDARD
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())
    for parameter in parameters:
        assert f"{parameter}: " in builder.__doc__
    module = inspect.getmodule(builder)
    assert "arxiv.org" in module.__doc__
    assert "Differs from the paper:" in module.__doc__


@pytest.mark.smoke
@default_model
def test_autocast_channels_last_stays_near_full_precision(name, built):
    model = copy.deepcopy(built(name)).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected = built(name)(images)["out"]
        with torch.autocast("cpu", torch.bfloat16):
            found = model(images.to(memory_format=torch.channels_last))["out"]
    # bfloat16 has 8 bits; unpooling takes other positions on near ties, so the typical error counts
    assert (found.float() - expected).abs().median() < 0.05 * expected.std()
