"""Files of other people's training scripts: wrappers' prefixes, several networks in one, foreign tensors, channels."""

import logging

import pytest
import torch
from torch import nn

import seg_models
from seg_core import DatasetMetadata, Preprocessing, save_model
from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_models.builders.build import _is_path
from seg_models.pretrained.input_channels import inflate_kernels
from seg_models.pretrained.tensor_names import is_foreign

IMAGES = torch.linspace(-1, 1, 3 * 32 * 40).reshape(1, 3, 32, 40)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = seg_models.enet(num_classes=4).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            nn.init.uniform_(buffer)
    return network


@pytest.fixture
def load(tmp_path):
    """Saves content to a file and loads ENet from it, or from the network in it that is named."""

    def save_and_load(content, nest="", **options):
        torch.save(content, tmp_path / "net.pth")
        return seg_models.enet(weights=f"{tmp_path / 'net.pth'}{nest}", variant="paper", **options).eval()

    return save_and_load


def assert_same(loaded, network):
    assert loaded.randomly_initialized == ()
    ours = loaded.state_dict()
    for name, tensor in network.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(ours[name], tensor), name


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_file_without_counters_of_batch_norms_loads_as_in_torch(network, load, caplog):
    state = {n: t for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}
    seg_models.enet(num_classes=4).load_state_dict(state)  # strict
    assert_same(load(state), network)
    assert warnings_in(caplog) == []


def test_file_without_other_statistics_is_refused(network, load):
    state = {n: t for n, t in network.state_dict().items() if not n.endswith("running_var")}
    with pytest.raises(CorruptFileError, match="it lacks .*running_var"):
        load(state)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "model.net.module."]
)
def test_prefix_of_all_names_is_dropped_and_said(network, load, prefix, caplog):
    assert_same(load({f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}), network)
    (said,) = warnings_in(caplog)
    assert said.endswith(f"net.pth: dropped the prefix {prefix!r} of the names of its tensors")


@pytest.mark.parametrize("part", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"])
def test_wrapper_within_the_network_is_dropped_and_said(network, load, part, caplog):
    state = network.state_dict()
    first = next(iter(state)).partition(".")[0]
    wrapped = {n.replace(f"{first}.", f"{first}.{part}.", 1) if n.startswith(first) else n: t for n, t in state.items()}
    assert wrapped.keys() != state.keys()
    assert_same(load(wrapped), network)
    assert f"net.pth: dropped the parts '{part}' of the names" in caplog.text


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_file_of_a_wrapped_network_loads(network, load, wrap):
    assert_same(load(wrap(network).state_dict()), network)


def test_tensors_of_a_flop_counter_and_a_loss_are_left_out_and_named(network, load, caplog):
    extra = {
        "total_ops": torch.zeros(1, dtype=torch.float64),
        "encoder.total_params": torch.zeros(1),
        "criterion.weight": torch.ones(4),
        "loss_fn.ce.weight": torch.ones(4),
        "val_metrics.confmat": torch.ones(4, 4),
    }
    assert_same(load({**network.state_dict(), **extra}), network)
    (said,) = warnings_in(caplog)
    assert said.endswith(f"net.pth: left out tensors that are not of the network: {', '.join(extra)}")


def test_prefix_is_found_beside_tensors_of_a_loss(network, load, caplog):
    state = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    assert_same(load({"state_dict": {**state, "criterion.weight": torch.ones(4)}, "epoch": 3}), network)
    assert "dropped the prefix 'model.'" in caplog.text
    assert "left out tensors that are not of the network: criterion.weight" in caplog.text


def test_other_surplus_tensors_are_refused(network, load):
    with pytest.raises(CorruptFileError, match=r"it also holds projector\.weight"):
        load({**network.state_dict(), "projector.weight": torch.ones(4)})


@pytest.mark.parametrize("name", ["enet", "bisenet_resnet18", "pidnet_s", "stdc1", "segformer_b0", "sfnet_resnet18"])
def test_no_network_has_tensors_that_would_be_left_out(name):
    with torch.device("meta"):
        network = seg_models.get_model(name, aux_loss=True if name in ("pidnet_s", "stdc1") else None)
    assert not [tensor for tensor in network.state_dict() if is_foreign(tensor)]


def test_one_of_several_networks_is_named_in_weights(network, load):
    other = {f"module.{name}": torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    content = {"model": other, "ema": network.state_dict(), "epoch": 3}
    with pytest.raises(InvalidArgumentError, match=r"several networks: 'model' .* and 'ema' .*net\.pth#model"):
        load(content)
    assert_same(load(content, "#ema"), network)
    assert not any(parameter.any() for parameter in load(content, "#model").parameters())


def test_networks_beside_each_other_in_one_dict_are_named(network, load):
    state = network.state_dict()
    both = {**{f"student.{n}": t for n, t in state.items()}, **{f"teacher.module.{n}": t for n, t in state.items()}}
    with pytest.raises(
        CorruptFileError, match=r"under 'student' and 'teacher': choose them with .*net\.pth#student or "
    ):
        load(both)
    assert_same(load(both, "#teacher"), network)


def test_file_whose_name_holds_a_mark_is_found(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "run#3.pth")
    assert_same(seg_models.enet(weights=tmp_path / "run#3.pth", variant="paper"), network)
    torch.save({"ema": network.state_dict(), "model": {}}, tmp_path / "run#4.pth")
    assert_same(seg_models.enet(weights=f"{tmp_path / 'run#4.pth'}#ema", variant="paper"), network)


def test_run_folder_gives_its_best_weights(network, tmp_path, monkeypatch, caplog):
    facts = {"metadata": DatasetMetadata("four", tuple("abcd")), "preprocessing": Preprocessing()}
    save_model(network, tmp_path / "model_best.pt", **facts)
    save_model(seg_models.enet(num_classes=4), tmp_path / "model.pt", **facts)
    assert_same(seg_models.enet(weights=tmp_path), network)
    assert "taking the best weights of the run" in caplog.text
    monkeypatch.chdir(tmp_path.parent)
    assert_same(seg_models.enet(weights=tmp_path.name), network)
    (tmp_path / "DEFAULT").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not _is_path("enet", "DEFAULT")
    with pytest.raises(InvalidArgumentError, match="is a model file, which holds one network; remove #ema"):
        seg_models.enet(weights=f"{tmp_path / 'model.pt'}#ema")


# ---- channels of the images ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fcn_resnet18", "bisenetv2", "segformer_b0"])
@pytest.mark.parametrize("channels", [1, 4])
def test_weights_for_rgb_are_inflated_by_the_rule_of_backbones(name, channels, tmp_path):
    torch.manual_seed(0)
    theirs = seg_models.get_model(name, num_classes=3).eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    ours = seg_models.get_model(name, weights=tmp_path / "net.pth", in_channels=channels).eval()
    assert ours.randomly_initialized == ()
    state = ours.state_dict()
    changed = [n for n, tensor in theirs.state_dict().items() if tensor.shape != state[n].shape]
    assert changed
    for tensor in changed:
        assert torch.equal(state[tensor], inflate_kernels(theirs.state_dict()[tensor], channels))
    if channels == 1:  # a gray image gives the same result
        gray = IMAGES[:, :1]
        with torch.inference_mode():
            assert torch.allclose(ours(gray)["out"], theirs(gray.expand(-1, 3, -1, -1))["out"], atol=1e-4)


def test_model_files_and_published_weights_are_inflated_too(tmp_path, monkeypatch, expected, fidelity):
    theirs = seg_models.fcn_resnet18(num_classes=4)
    metadata = DatasetMetadata("four", tuple("abcd"))
    save_model(theirs, tmp_path / "model.pt", metadata=metadata, preprocessing=Preprocessing())
    ours = seg_models.fcn_resnet18(weights=tmp_path / "model.pt", in_channels=5)
    kernels = theirs.backbone.conv1.weight
    assert torch.equal(ours.backbone.conv1.weight, inflate_kernels(kernels, 5))
    assert ours.build_spec.arguments["in_channels"] == 5
    tensors = fidelity.tensors_of(expected("fidelity/mmsegmentation/ddrnet_23-slim.json"))
    monkeypatch.setattr(seg_models.DDRNet23_Slim_Weights, "get_state_dict", lambda self, progress=True: tensors)
    assert seg_models.ddrnet23_slim(weights="DEFAULT", in_channels=4).randomly_initialized == ()


def test_weights_for_other_channels_name_them(tmp_path):
    torch.save(seg_models.fcn_resnet18(num_classes=3, in_channels=4).state_dict(), tmp_path / "net.pth")
    for channels in (3, 5):
        with pytest.raises(
            InvalidArgumentError, match=f"for images of 4 channels, not in_channels={channels}, .*set in_c"
        ):
            seg_models.fcn_resnet18(weights=tmp_path / "net.pth", in_channels=channels)
    assert seg_models.fcn_resnet18(weights=tmp_path / "net.pth", in_channels=4).randomly_initialized == ()


def test_network_of_which_more_than_the_first_convolution_depends_on_channels_says_so(network, load):
    with pytest.raises(
        InvalidArgumentError, match="is for images of 3 channels, and cannot be inflated to in_channels=4"
    ):
        load(network.state_dict(), in_channels=4)
