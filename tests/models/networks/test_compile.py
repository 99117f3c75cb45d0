"""What inductor, the default backend of `torch.compile`, makes of networks agrees with eager execution.

`TestContract.test_compile_whole_graph` shows for every model that torch traces it. Here the code is generated and
compiled too, which takes up to a minute for a network: by default two networks, and the layers that once had no code
for dynamic sizes; the lightest model of each network with `hatch run models`.
"""

import shutil

import pytest
import torch

import seg_models
from seg_core.registry import MODELS
from seg_models.backbones.mit import EfficientAttention, MixTransformer, PatchEmbedding
from seg_models.networks.segformer import SegFormer, SegFormerOptions

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++ to compile for the CPU")


def lightest():
    """Returns the model of each network that has the fewest parameters, by the catalog."""
    entries = {name: MODELS.entry(name) for name in seg_models.list_models()}
    by_size = sorted(entries, key=lambda name: entries[name].params, reverse=True)
    return sorted({entries[name].family: name for name in by_size}.values())


LIGHTEST = lightest()


@pytest.fixture(autouse=True)
def fresh():
    """Compiles anew: dynamo decides by what it has seen before which sizes are dynamic."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def assert_compiled_agrees(model, sizes, **options):
    compiled = torch.compile(model, **options)
    for size in sizes:
        images = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected, found = model(images), compiled(images)
        assert list(found) == list(expected)
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=0, atol=1e-4)


def small_segformer():
    """One block of each stage, with the reductions and heads of MiT, few channels."""
    torch.manual_seed(0)
    return SegFormer(MixTransformer(3, 4, (1, 1, 1, 1)), 2, SegFormerOptions(width=8)).eval()


class Attention(torch.nn.Module):
    """The first layers of SegFormer."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(PatchEmbedding(3, 4, 4), EfficientAttention(4, 1, 8))

    def forward(self, images):
        return {"out": self.layers(images.permute(0, 2, 3, 1))}


def test_attention_of_dynamic_sizes():
    torch.manual_seed(0)
    # one key in height at 60, which once had no code if it was dynamic
    assert_compiled_agrees(Attention().eval(), [(60, 96), (59, 93)], dynamic=True)


@pytest.mark.full
def test_segformer_of_dynamic_sizes():
    assert_compiled_agrees(small_segformer(), [(60, 96), (97, 65)], dynamic=True)


@pytest.mark.full
def test_segformer_becomes_dynamic_by_itself():
    assert_compiled_agrees(small_segformer(), [(64, 96), (60, 96), (97, 65)])


@pytest.mark.parametrize(
    "name",
    [name if name in ("enet", "segformer_b0") else pytest.param(name, marks=pytest.mark.full) for name in LIGHTEST],
)
def test_lightest_of_each_network(name):
    torch.manual_seed(0)
    assert_compiled_agrees(seg_models.get_model(name, num_classes=2).eval(), [(64, 96)])


@pytest.mark.full
@pytest.mark.parametrize("name", LIGHTEST)
def test_lightest_of_each_network_of_dynamic_sizes(name):
    torch.manual_seed(0)
    model = seg_models.get_model(name, num_classes=2).eval()
    assert_compiled_agrees(model, [(60, 96), (97, 65)], dynamic=True)
