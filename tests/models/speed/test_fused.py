"""The fused graph computes what the network computes."""

import copy

import pytest
import torch
from torch import nn

import seg_models
from seg_models.speed.fused import fuse, prelu_of_rows
from seg_models.speed.ways import LogitsOnly


class Mixed(nn.Module):
    """One of each thing that is folded or fused, and of those that must not be."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.depthwise_norm = nn.BatchNorm2d(8)
        self.slope = nn.PReLU(8)
        self.shared = nn.Conv2d(8, 8, 1)
        self.shared_norm = nn.BatchNorm2d(8, affine=False)
        self.alone_norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False)
        self.up_norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 5, 1, padding="same")

    def forward(self, images):
        pooled = nn.functional.max_pool2d(images, 2)
        first = nn.functional.relu(self.stem_norm(self.stem(pooled)), inplace=True)
        second = nn.functional.hardswish(self.depthwise_norm(self.depthwise(first)))
        read_twice = self.shared(second)
        joined = self.shared_norm(read_twice) + read_twice  # the convolution's own result is read as well
        summed = nn.functional.relu(first + self.shared(joined))
        summed = summed * torch.sigmoid(first + self.shared(summed))  # a sum is fused with no other activation
        scaled = first + self.shared(nn.functional.adaptive_avg_pool2d(summed, 1))  # the summands differ in size
        features = self.slope(self.alone_norm(nn.functional.leaky_relu(scaled + summed, 0.2)))
        return self.last(nn.functional.hardtanh(self.up_norm(self.up(features)), -2.0, 3.0))


def randomized(network):
    """The network in eval mode, with values in its norms and slopes that all have an effect."""
    generator = torch.Generator().manual_seed(0)
    for module in network.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            if module.affine:
                with torch.no_grad():
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(0, 0.2, generator=generator)
        if isinstance(module, nn.PReLU):
            with torch.no_grad():
                module.weight.uniform_(-0.5, 1.5, generator=generator)
    return network


def fused(network, images, dtype=torch.float32):
    exact = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    own = copy.deepcopy(network).to(dtype).to(memory_format=torch.channels_last)
    example = images.to(dtype).contiguous(memory_format=torch.channels_last)
    run = fuse(own, example, exact)
    with torch.no_grad():
        return run, run(images.contiguous(memory_format=torch.channels_last))


def test_fused_graph_computes_what_the_network_computes():
    network, images = randomized(Mixed()), torch.randn(2, 3, 16, 24)
    run, logits = fused(network, images)
    with torch.no_grad():
        torch.testing.assert_close(logits, network(images), rtol=1e-4, atol=1e-5)
    left = [str(node.target) for node in run.graph.nodes if node.op == "call_function"]
    # the two norms that cannot be folded: one whose convolution is read twice, one without a convolution
    assert sum("batch_norm" in name for name in left) == 2
    assert sum(name == "aten.conv2d.default" for name in left) == 0
    assert not any("relu.default" in name and "prelu" not in name and "leaky" not in name for name in left)


def test_fused_graph_in_bf16_is_as_exact_as_bf16():
    network, images = randomized(Mixed()), torch.randn(2, 3, 16, 24)
    _, logits = fused(network, images, torch.bfloat16)
    with torch.no_grad():
        expected = network(images)
    assert logits.dtype == torch.bfloat16
    assert float((logits.float() - expected).abs().max()) < 0.05 * float(expected.abs().max())


class Positions(nn.Module):
    """Unpooling to the positions of the maxima, which rounding would move."""

    def __init__(self):
        super().__init__()
        self.before = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.between = nn.Conv2d(8, 8, 1)
        self.after = nn.Conv2d(8, 4, 1)

    def forward(self, images):
        pooled, positions = nn.functional.max_pool2d(self.before(images), 2, return_indices=True)
        return self.after(nn.functional.max_unpool2d(self.between(pooled), positions, 2))


def test_positions_of_maxima_are_those_of_full_precision():
    network, images = randomized(Positions()), torch.randn(2, 3, 32, 32)
    run, logits = fused(network, images, torch.bfloat16)
    with torch.no_grad():
        expected = network(images)
    assert logits.dtype == torch.bfloat16
    # one moved position would be off by a value, not by its rounding
    assert float((logits.float() - expected).abs().max()) < 0.02 * float(expected.abs().max())
    kernels = [value for name, value in run.named_buffers() if name.startswith("_folded") and value.ndim == 4]
    assert sorted(str(kernel.dtype) for kernel in kernels) == ["torch.bfloat16"] * 2 + ["torch.float32"]


def test_prelu_of_rows_is_equal_to_torchs():
    slope = torch.randn(6)
    for features in (torch.randn(2, 6, 4, 5), torch.randn(2, 6, 4, 5).contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(
            prelu_of_rows(features, slope, slope.repeat(8)), torch.prelu(features, slope), rtol=0, atol=0
        )


@pytest.mark.full
@pytest.mark.parametrize(
    "name",
    [
        "bisenetv2",
        "ddrnet23_slim",
        "deeplabv3plus_resnet18",
        "enet",
        "fast_scnn",
        "fcn_resnet18",
        "fpn_resnet34",
        "lraspp_mobilenet_v3_large",
        "pidnet_s",
        "pspnet_resnet18",
        "regseg",
        "segformer_b0",
        "sfnet_resnet18",
        "stdc1",
        "unet_resnet34",
        "upernet_resnet18",
    ],
)
def test_fused_network_of_each_family(name):
    module = LogitsOnly(randomized(seg_models.get_model(name, num_classes=3)), direct=True)
    images = torch.randn(1, 3, 96, 128)
    _, logits = fused(module, images)
    with torch.no_grad():
        expected = module(images)
    assert float((logits - expected).abs().max()) < 1e-3 * float(expected.std())
