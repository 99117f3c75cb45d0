"""What every model of the catalog keeps, whatever its network."""

import copy
import inspect
import pickle

import pytest
import torch

import seg_models
from seg_core.interfaces import Network
from seg_models.catalog import MODELS
from seg_models.networks.base import resize_outputs

SIZES = [(64, 64), (33, 50), (24, 9)]
STANDARD = ["weights", "progress", "num_classes", "aux_loss", "weights_backbone", "in_channels", "form"]

every_model = pytest.mark.parametrize("name", sorted(MODELS))
with_aux = pytest.mark.parametrize("name", sorted(n for n, e in MODELS.items() if len(e.outputs) > 1))


@pytest.fixture(scope="module")
def built():
    """Models by name with all their outputs, 3 classes, in eval mode; made once, so tests must not change them."""
    made = {}

    def get(name):
        if name not in made:
            torch.manual_seed(0)
            options = {"aux_loss": True} if len(MODELS[name].outputs) > 1 else {}
            with torch.inference_mode(False):  # some tests ask from within inference mode
                made[name] = seg_models.get_model(name, num_classes=3, **options).eval()
        return made[name]

    return get


@pytest.mark.smoke
@every_model
@pytest.mark.parametrize("size", SIZES)
def test_forward_any_size_gives_logits_at_input_size(name, size, built):
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        outputs = built(name)(images)
    assert tuple(outputs) == MODELS[name].outputs
    for output in outputs.values():
        assert output.shape == (2, 3, *size)
        assert output.dtype == torch.float32
        assert output.isfinite().all()


@every_model
def test_network_keeps_to_the_interface(name, built):
    assert isinstance(built(name), Network)
    assert tuple(built(name).upsampling) == MODELS[name].outputs


@every_model
def test_forward_smallest_size_works(name, built):
    side = MODELS[name].min_size
    with torch.inference_mode():
        assert built(name)(torch.randn(1, 3, side, side))["out"].shape == (1, 3, side, side)


@every_model
def test_forward_is_forward_logits_then_upsampling(name, built):
    model, images = built(name), torch.randn(1, 3, 40, 36)
    with torch.inference_mode():
        whole, logits = model(images), model.forward_logits(images)
        assert set(model.upsampling) == set(logits)
        resized = resize_outputs(logits, (40, 36), model.upsampling)
    for key in whole:
        assert torch.equal(whole[key], resized[key])
        if model.upsampling[key] is None:
            assert logits[key].shape[-2:] == (40, 36)


@every_model
@pytest.mark.parametrize(("in_channels", "num_classes"), [(1, 1), (5, 2), (3, 21)])
def test_channels_and_classes_other_numbers_are_taken(name, in_channels, num_classes):
    model = seg_models.get_model(name, in_channels=in_channels, num_classes=num_classes).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, in_channels, 16, 24))["out"].shape == (1, num_classes, 16, 24)
    assert model.build_spec.arguments["in_channels"] == in_channels
    assert model.build_spec.arguments["num_classes"] == num_classes


@pytest.mark.smoke
@every_model
def test_every_trainable_parameter_gets_a_gradient(name, built):
    model = copy.deepcopy(built(name)).train()
    sum(output.square().mean() for output in model(torch.randn(2, 3, 40, 40)).values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not without
    assert all(p.grad.isfinite().all() for p in model.parameters())


@every_model
def test_eval_output_is_deterministic_and_copies_agree(name, built):
    model, images = built(name), torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        first = model(images)["out"]
        for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(images)["out"], first)
    assert pickle.loads(pickle.dumps(model)).build_spec == model.build_spec


@with_aux
def test_keys_depend_on_aux_loss_alone(name, built):
    plain = seg_models.get_model(name, num_classes=3)
    images = torch.randn(2, 3, 32, 32)
    for training in (True, False):
        with torch.no_grad():
            assert list(plain.train(training)(images)) == ["out"]
            assert tuple(copy.deepcopy(built(name)).train(training)(images)) == MODELS[name].outputs


@every_model
def test_checkpoint_saved_and_named_as_weights_gives_the_same_output(name, built, tmp_path):
    model, images = built(name), torch.randn(1, 3, 32, 32)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    options = {"aux_loss": True} if len(MODELS[name].outputs) > 1 else {}
    again = seg_models.get_model(name, weights=tmp_path / "model.pth", **options).eval()
    assert again.initialised_anew == ()
    assert again.build_spec == model.build_spec
    with torch.inference_mode():
        assert torch.equal(again(images)["out"], model(images)["out"])


@every_model
def test_build_spec_builds_the_same_network_and_is_plain_data(name, built):
    spec = built(name).build_spec
    assert spec.builder == name
    assert spec.form == MODELS[name].forms[0]
    assert all(isinstance(value, int | float | str | bool) for value in spec.arguments.values())
    with torch.device("meta"):
        again = seg_models.get_model(name, form=spec.form, **spec.arguments)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (again, built(name))]
    assert shapes[0] == shapes[1]


@every_model
def test_catalog_facts_are_true(name, fidelity):
    entry = MODELS[name]
    with torch.device("meta"):
        model = seg_models.get_model(name, num_classes=21).eval()
    assert fidelity.count_parameters(model) == entry.params
    assert fidelity.count_macs(model) == entry.macs
    for form in entry.forms:
        with torch.device("meta"):
            assert seg_models.get_model(name, form=form).build_spec.form == form


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
@every_model
def test_autocast_channels_last_stays_near_full_precision(name, built):
    model = copy.deepcopy(built(name)).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 48, 64)
    with torch.inference_mode():
        expected = built(name)(images)["out"]
        with torch.autocast("cpu", torch.bfloat16):
            found = model(images.to(memory_format=torch.channels_last))["out"]
    # bfloat16 has 8 bits; unpooling takes other positions on near ties, so the typical error counts
    assert (found.float() - expected).abs().median() < 0.05 * expected.std()


@every_model
def test_compile_traces_the_whole_graph(name, built):
    torch._dynamo.reset()
    model, images = built(name), torch.randn(1, 3, 40, 36)
    with torch.no_grad():
        expected = model(images)["out"]
        found = torch.compile(model, fullgraph=True, backend="eager")(images)["out"]
    torch.testing.assert_close(found, expected)


@every_model
def test_export_with_dynamic_size_agrees_with_eager(name, built):
    # torch cannot prove that padding and cropping undo each other, so the sizes are multiples of the largest stride
    height, width = (8 * torch.export.Dim(side, min=2, max=64) for side in ("rows", "columns"))
    model = built(name)
    with torch.no_grad():
        program = torch.export.export(
            model, (torch.randn(1, 3, 40, 32),), dynamic_shapes={"images": {2: height, 3: width}}
        ).module()
        images = torch.randn(1, 3, 56, 64)
        expected, found = model(images), program(images)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key])
