import pytest
import torch
from torch import nn

from seg_core.errors import InvalidArgumentError
from seg_models import enet
from seg_models.networks.enet import Bottleneck, Downsampling, Upsampling


def test_structure_is_that_of_table_1():
    model = enet(num_classes=4)
    shapes = {}
    for name in ("initial", "down1", "section1", "down2", "section2", "section3", "up4", "section4", "up5", "section5"):
        getattr(model, name).register_forward_hook(
            lambda _module, _inputs, out, name=name: shapes.update(
                {name: tuple((out[0] if isinstance(out, tuple) else out).shape[1:])}
            )
        )
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 64, 96))
    assert shapes == {
        "initial": (16, 32, 48),
        "down1": (64, 16, 24),
        "section1": (64, 16, 24),
        "down2": (128, 8, 12),
        "section2": (128, 8, 12),
        "section3": (128, 8, 12),
        "up4": (64, 16, 24),
        "section4": (64, 16, 24),
        "up5": (16, 32, 48),
        "section5": (16, 32, 48),
    }
    kernels = [m.extension[1][0] for m in model.section2]
    assert [k.kernel_size for k in kernels] == [(3, 3), (3, 3), (5, 1), (3, 3), (3, 3), (3, 3), (5, 1), (3, 3)]
    assert [k.dilation[0] for k in kernels] == [1, 2, 1, 4, 1, 8, 1, 16]


def test_every_convolution_but_the_last_has_no_bias_and_is_followed_by_batch_norm():
    model = enet()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m for m in convolutions if m.bias is not None] == [model.classifier]
    assert len(norms) == len(convolutions) - 1
    assert all(m.num_parameters > 1 for m in model.modules() if isinstance(m, nn.PReLU))


def test_dropout_rates_are_the_papers():
    model = enet()
    rates = {
        name: {m.p for m in getattr(model, name).modules() if isinstance(m, nn.Dropout2d)}
        for name in ("down1", "section1", "down2", "section2", "section3", "up4", "section4", "up5", "section5")
    }
    assert rates.pop("down1") == {0.01}
    assert rates.pop("section1") == {0.01}
    assert set(map(frozenset, rates.values())) == {frozenset({0.1})}


def test_parameters_round_to_the_papers():
    assert round(sum(p.numel() for p in enet(num_classes=20).parameters()) / 1e6, 2) == 0.37


def test_size_that_is_no_multiple_of_8_equals_the_cropped_padded_image():
    model, images = enet(num_classes=2).eval(), torch.randn(1, 3, 21, 34)
    padded = torch.zeros(1, 3, 24, 40)
    padded[..., :21, :34] = images
    with torch.no_grad():
        assert torch.equal(model(images)["out"], model(padded)["out"][..., :21, :34])


def test_unpooling_puts_values_where_pooling_took_them():
    down, up = Downsampling(4, 8, 0.0).eval(), Upsampling(8, 4, 0.0).eval()
    features = torch.randn(1, 4, 6, 8)
    _, positions = down(features)
    up.extension = nn.Sequential(nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False))
    nn.init.zeros_(up.extension[0].weight)
    with torch.no_grad():
        result = up(torch.randn(1, 8, 3, 4), positions)
    largest = nn.functional.interpolate(nn.functional.max_pool2d(features, 2), scale_factor=2) == features
    assert torch.equal(result != 0, largest)


def test_bottleneck_with_silent_branch_passes_positive_features():
    block = Bottleneck(8, 0.0).eval()
    nn.init.zeros_(block.extension[-1][1].weight)
    features = torch.rand(1, 8, 4, 4)
    assert torch.equal(block(features), features)


def test_in_channels_above_51_is_refused():
    with pytest.raises(InvalidArgumentError, match="in_channels must be at most 51 for ENet, got 52"):
        enet(in_channels=52)


@pytest.mark.smoke
def test_training_steps_lower_the_loss_in_bfloat16_and_channels_last():
    model = enet(num_classes=2).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    masks = torch.zeros(4, 32, 32, dtype=torch.long)
    masks[:, 8:24, 12:28] = 1
    images = (torch.randn(4, 3, 32, 32) + 3 * masks[:, None]).to(memory_format=torch.channels_last)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)["out"]
        loss = nn.functional.cross_entropy(logits.float(), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
