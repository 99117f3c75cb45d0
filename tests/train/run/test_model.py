"""What the trainer changes in a network for speed does not change what each module computes."""

import copy
import pickle
import types
import warnings

import pytest
import torch
from torch import nn

from seg_core import load_model
from seg_train import Trainer, evaluate, load_config
from seg_train.run.model import RunNetwork, synchronize_batch_norm, train_depthwise_in_full_precision

# plain depthwise convolutions of all strides and kernels, `Conv2dSame` (tf_), mixed kernels, attention, normalizations
BACKBONES = (
    "tf_efficientnet_lite0",
    "tf_mobilenetv3_small_minimal_100",
    "tf_mixnet_s",
    "mixnet_s",
    "mobilenetv3_small_050",
    "convnext_atto",
    "efficientvit_b0",
    "repvit_m0_9",
    "ghostnet_050",
    "hardcorenas_a",
    "fbnetc_100",
    "mnasnet_small",
    "semnasnet_075",
    "mobilevit_xxs",
    "pvt_v2_b0",
    "nf_regnet_b0",
)


class Pair(nn.Conv2d):
    """A convolution that takes a second argument."""

    def forward(self, features, offset):
        return super().forward(features) + offset


def depthwise(network):
    return [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]


def outputs_of(network, images):
    """Name of each module -> what it gave, in the order of calls."""
    seen = []
    hooks = [
        module.register_forward_hook(lambda _, inputs, output, name=name: seen.append((name, output)))
        for name, module in network.named_modules()
    ]
    torch.manual_seed(1)  # dropout
    network(images)
    for hook in hooks:
        hook.remove()
    return seen


def tensors(output):
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output
    return [tensor for value in values for tensor in tensors(value)]


def assert_same_outputs(plain, changed, images):
    one, other = outputs_of(plain, images), outputs_of(changed, images)
    assert [name for name, _ in one] == [name for name, _ in other]
    for (name, expected), (_, found) in zip(one, other, strict=True):
        for a, b in zip(tensors(expected), tensors(found), strict=True):
            assert a.dtype == b.dtype, name
            assert torch.equal(a, b), name


@pytest.mark.parametrize("name", BACKBONES)
def test_every_module_of_a_backbone_computes_what_it_computed(name):
    timm = pytest.importorskip("timm")
    plain = timm.create_model(name, pretrained=False, features_only=True)
    changed = copy.deepcopy(plain)
    train_depthwise_in_full_precision(changed)
    changed = copy.deepcopy(changed)  # as the copy that evaluates the EMA
    images = torch.rand(2, 3, 64, 64)
    assert_same_outputs(plain.train(), changed.train(), images)
    with torch.no_grad():
        assert_same_outputs(plain.eval(), changed.eval(), images)
        with torch.autocast("cpu", torch.bfloat16):
            assert_same_outputs(plain, changed, images)
    shapes = {}
    with torch.autocast("cpu", torch.bfloat16):
        for key, network in (("plain", plain), ("changed", changed)):
            found = outputs_of(network.train(), images)
            shapes[key] = [(module, [t.shape for t in tensors(output)]) for module, output in found]
    assert shapes["plain"] == shapes["changed"]
    if depthwise(plain):
        widened = {id(m) for m in depthwise(changed)}
        dtypes = {t.dtype for m, o in found for t in tensors(o) if id(changed.get_submodule(m)) in widened}
        assert dtypes == {torch.float32}, "the gradients of these are slow in bf16"


def test_other_arguments_and_replaced_forwards_are_kept():
    convolution = Pair(4, 4, 3, groups=4)
    replaced = nn.Conv2d(4, 4, 3, groups=4)
    replaced.forward = own = types.MethodType(lambda module, features: features * 2, replaced)
    network = nn.ModuleList([convolution, replaced])
    images = torch.rand(1, 4, 8, 8)
    expected = convolution(images, offset=3.0)
    train_depthwise_in_full_precision(network)
    assert torch.equal(convolution(images, offset=3.0), expected)
    assert replaced.forward is own
    convolution.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert convolution(images, 0.0).isfinite().all(), "weights of half precision get features of theirs"


def test_changed_network_can_be_copied_pickled_exported_and_compiled():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, stride=2, groups=8))
    train_depthwise_in_full_precision(network)
    images = torch.rand(1, 3, 16, 16)
    expected = network(images)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(images), expected)
        other[1].weight.data.zero_()
        other[1].bias.data.zero_()
        assert not other(images).any(), "it computes with weights of its own"
    assert torch.equal(network(images), expected)
    with torch.no_grad():
        assert torch.equal(torch.export.export(network, (images,)).module()(images), expected)
    torch.testing.assert_close(torch.compile(network, backend="eager")(images), expected)


def test_evaluation_copy_of_a_changed_network_has_the_average_weights():
    from accelerate import Accelerator

    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, stride=2, groups=8))
    train_depthwise_in_full_precision(network)
    run = RunNetwork(network, Accelerator(cpu=True), ema_decay=0.9)
    images = torch.rand(1, 3, 16, 16)
    before = network(images)
    network[1].weight.data.add_(1)
    assert torch.equal(run.for_evaluation("ema")(images), before)
    assert not torch.equal(run.for_evaluation("last")(images), before)


def many_gpus():
    return types.SimpleNamespace(num_processes=2, device=torch.device("cuda"))


def test_batch_norm_over_processes_keeps_what_a_subclass_does_besides():
    """timm's `BatchNormAct2d` ends in an activation, which torch's conversion would drop."""
    layers = pytest.importorskip("timm.layers")
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(layers.BatchNormAct2d(4)))
    network[2].requires_grad_(False)
    plain = copy.deepcopy(network)
    with pytest.warns(UserWarning, match="sync_batch_norm does not synchronize these layers.*1 BatchNormAct2d"):
        found = synchronize_batch_norm(network, many_gpus())
    assert [type(m).__name__ for m in found.modules()][1:] == [
        "Conv2d",
        "SyncBatchNorm",
        "Sequential",
        "BatchNormAct2d",
        "Identity",
        "ReLU",
    ]
    assert found is network
    images = torch.rand(2, 3, 5, 5)
    assert torch.equal(network.eval()(images), plain.eval()(images))


def test_batch_norm_over_processes_of_plain_layers_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = synchronize_batch_norm(nn.Sequential(nn.BatchNorm2d(4), nn.SyncBatchNorm(4)), many_gpus())
        assert type(synchronize_batch_norm(nn.BatchNorm2d(4), many_gpus())) is nn.SyncBatchNorm
    assert [type(m) for m in found] == [nn.SyncBatchNorm, nn.SyncBatchNorm]


def test_last_scores_of_a_bf16_run_are_those_of_its_model_file(tables, stripes):
    """On a backbone whose depthwise convolutions pad in a `forward` of their own, with crops of 64 pixels."""
    pytest.importorskip("timm")
    tables["model"] = {"name": "lraspp", "params": {"backbone": "timm:tf_mobilenetv3_small_minimal_100"}}
    tables["data"]["transform"] = {"train": {"size": [64, 64]}}
    tables["trainer"] |= {"precision": "bf16", "ema_decay": 0.5}
    result = Trainer(load_config(tables)).run()
    for prefix, name in (("", "model.pt"), ("ema_", "model_ema.pt")):
        with torch.autocast("cpu", torch.bfloat16):
            store = evaluate(load_model(result.run_dir / name), stripes(split="val"), batch_size=1)
        scores = store.summarize()
        for score in ("miou", "acc", "macc"):
            assert scores[score] == result.scores[prefix + score], (name, score)
