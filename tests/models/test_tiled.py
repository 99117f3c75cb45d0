"""Windows side by side: their result is that of the whole image, and their number costs no memory."""

import pytest
import torch
from torch import nn

from seg_core import argmax_labels
from seg_core.errors import InvalidArgumentError
from seg_models import predict_tiled
from seg_models.inference.tiled import window_starts


class Local(nn.Module):
    """Looks `reach` pixels to each side."""

    def __init__(self, num_classes=4, reach=3):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, num_classes, 2 * reach + 1, padding=reach)
        self.sizes = []

    def forward(self, images):
        self.sizes.append(tuple(images.shape))
        return {"out": self.conv(images)}


def images(count=2, height=50, width=70):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("length", "size", "overlap", "starts"),
    [
        (10, 4, 0.0, [0, 4, 6]),
        (10, 4, 0.5, [0, 2, 4, 6]),
        (11, 4, 0.5, [0, 2, 4, 6, 7]),
        (4, 4, 0.5, [0]),
        (3, 4, 0.5, [0]),
        (10, 4, 0.99, [0, 1, 2, 3, 4, 5, 6]),
        (9, 3, 0.0, [0, 3, 6]),
    ],
)
def test_windows_cover_all_and_the_last_one_is_moved_inside(length, size, overlap, starts):
    assert window_starts(length, size, overlap) == starts


@pytest.mark.parametrize(("height", "width"), [(50, 70), (24, 24), (25, 100), (24, 23), (7, 9), (100, 30)])
@pytest.mark.parametrize("overlap", [0.5, 0.75])
def test_reach_within_a_quarter_of_the_overlap_gives_the_whole_image(height, width, overlap):
    model = Local(reach=3)
    batch = images(height=height, width=width)
    with torch.inference_mode():
        whole = model.conv(batch)
    tiled = predict_tiled(model, batch, tile=(24, 24), overlap=overlap)
    torch.testing.assert_close(tiled, whole, rtol=1e-5, atol=1e-5)


def test_reach_beyond_it_does_not():
    """The test above can fail."""
    model = Local(reach=9)
    batch = images()
    with torch.inference_mode():
        assert (predict_tiled(model, batch, tile=24, overlap=0.25) - model.conv(batch)).abs().max() > 1e-2


@pytest.mark.parametrize("blend", ["hann", "constant"])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5, 0.9])
def test_weights_sum_to_one(blend, overlap):
    """A network of which each pixel says the same everywhere."""
    tiled = predict_tiled(Local(reach=0), images(), tile=(16, 20), overlap=overlap, blend=blend)
    torch.testing.assert_close(tiled, Local(reach=0).conv(images()).detach(), rtol=1e-5, atol=1e-5)


def test_constant_blending_is_the_mean_of_the_windows():
    model = Local(reach=3)
    batch = images(1, 30, 30)
    total, count = torch.zeros(1, 4, 30, 30), torch.zeros(30, 30)
    for top in (0, 8, 14):
        for left in (0, 8, 14):
            with torch.inference_mode():
                total[..., top : top + 16, left : left + 16] += model.conv(batch[..., top : top + 16, left : left + 16])
            count[top : top + 16, left : left + 16] += 1
    found = predict_tiled(model, batch, tile=16, overlap=0.5, blend="constant")
    torch.testing.assert_close(found, total / count, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("blend", ["hann", "constant"])
def test_labels_are_those_of_the_logits_and_batches_change_nothing(batch_size, blend):
    model = Local(reach=5)
    logits = predict_tiled(model, images(), tile=(24, 32), blend=blend)
    labels = predict_tiled(model, images(), tile=(24, 32), blend=blend, output="labels", batch_size=batch_size)
    assert labels.dtype == torch.uint8
    assert (labels == argmax_labels(logits)).float().mean() > 0.999
    assert max(size[0] for size in model.sizes) == batch_size if batch_size < 5 else 4


def test_windows_have_the_size_asked_for():
    model = Local()
    predict_tiled(model, images(), tile=(16, 32))
    assert {size[-2:] for size in model.sizes} == {(16, 32)}


def test_many_classes_give_uint16_labels():
    assert predict_tiled(Local(300), images(1), tile=32, output="labels").dtype == torch.uint16


def test_nothing_is_kept_for_gradients():
    assert not predict_tiled(Local(), images(), tile=16).requires_grad


def test_memory_does_not_grow_with_the_number_of_rows(monkeypatch):
    """What is summed up has the height of a window, for an image of any height."""
    import seg_models.inference.tiled as module

    bands = []
    finished = module._finished_bands

    def watch(*arguments):
        for band in finished(*arguments):
            bands.append(tuple(band.shape))
            yield band

    monkeypatch.setattr(module, "_finished_bands", watch)
    predict_tiled(Local(), images(1, 400, 20), tile=16, output="labels")
    assert sum(shape[1] for shape in bands) == 400
    assert max(shape[1] for shape in bands) <= 16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile": 0}, "tile must be"),
        ({"tile": (16, 16, 16)}, "tile must be"),
        ({"tile": (16.0, 16)}, "tile must be"),
        ({"overlap": 1.0}, "overlap must be a share from 0 to below 1, got 1.0"),
        ({"overlap": -0.1}, "overlap must be"),
        ({"blend": "gauss"}, "blend must be one of hann, constant, got 'gauss'"),
        ({"output": "label"}, "output must be one of logits, labels"),
        ({"batch_size": 0}, "batch_size must be"),
    ],
)
def test_wrong_arguments_are_told(options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        predict_tiled(Local(), images(), **{"tile": 16, **options})


@pytest.mark.parametrize("wrong", [torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)])
def test_wrong_images_are_told(wrong):
    with pytest.raises(InvalidArgumentError, match="images must be float"):
        predict_tiled(Local(), wrong, tile=16)
