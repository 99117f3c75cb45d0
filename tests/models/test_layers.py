import pytest
import torch

from seg_models.layers import PReLU


def run(layer, features, gradient):
    features = features.clone(memory_format=torch.preserve_format).requires_grad_()
    layer.zero_grad()
    output = layer(features)
    output.backward(gradient)
    return output.detach(), features.grad, layer.weight.grad


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_prelu_equals_torchs_in_output_and_gradients(memory_format):
    ours, theirs = PReLU(6).double(), torch.nn.PReLU(6).double()
    slopes = torch.linspace(-0.5, 1.5, 6)
    for layer in (ours, theirs):
        layer.weight.data.copy_(slopes)
    features = torch.randn(3, 6, 5, 7, dtype=torch.float64).to(memory_format=memory_format)
    features[0, :, 0, 0] = 0
    gradient = torch.randn_like(features)
    for found, expected in zip(run(ours, features, gradient), run(theirs, features, gradient), strict=True):
        torch.testing.assert_close(found, expected)
    assert ours(features).is_contiguous(memory_format=memory_format)


def test_prelu_gradients_are_those_of_finite_differences():
    layer = PReLU(2).double()
    features = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(layer, {"weight": w}, x), (features, layer.weight)
    )


def test_prelu_under_autocast_keeps_bfloat16_and_trains_in_float32():
    layer = PReLU(4)
    features = torch.randn(2, 4, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(features)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    assert features.grad.dtype == torch.bfloat16
    expected = torch.where(features > 0, features, features * 0.25).detach()
    torch.testing.assert_close(output.detach(), expected)


def test_prelu_state_dict_is_torchs():
    assert {k: v.shape for k, v in PReLU(3).state_dict().items()} == {"weight": (3,)}
    PReLU(3).load_state_dict(torch.nn.PReLU(3).state_dict())
