"""Prediction in overlapping tiles: it equals that of the whole image, and memory does not grow with the image."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import seg_models.inference.tiled as module
from seg_core import argmax_labels
from seg_core.errors import InvalidArgumentError
from seg_models import predict_tiled
from seg_models.inference.tiled import tiled_blocks


class Local(nn.Module):
    """A network with a receptive field of `reach` pixels to each side."""

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


@pytest.mark.parametrize(("height", "width"), [(50, 70), (24, 24), (25, 100), (24, 23), (7, 9), (100, 30)])
@pytest.mark.parametrize("overlap", [0.5, 0.75])
def test_reach_within_a_quarter_of_the_overlap_equals_the_whole_image(height, width, overlap):
    model = Local(reach=3)
    batch = images(height=height, width=width)
    with torch.inference_mode():
        whole = model.conv(batch)
    tiled = predict_tiled(model, batch, tile=(24, 24), overlap=overlap)
    torch.testing.assert_close(tiled, whole, rtol=1e-5, atol=1e-5)


def test_reach_beyond_a_quarter_of_the_overlap_differs():
    """Shows that the test above can fail."""
    model = Local(reach=9)
    batch = images()
    with torch.inference_mode():
        assert (predict_tiled(model, batch, tile=24, overlap=0.25) - model.conv(batch)).abs().max() > 1e-2


@pytest.mark.parametrize("blend", ["hann", "constant"])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5, 0.9])
def test_weights_sum_to_one(blend, overlap):
    """With a 1x1 convolution, whose logits do not depend on the tile."""
    tiled = predict_tiled(Local(reach=0), images(1, 30, 40), tile=(16, 20), overlap=overlap, blend=blend)
    torch.testing.assert_close(tiled, Local(reach=0).conv(images(1, 30, 40)).detach(), rtol=1e-5, atol=1e-5)


def test_constant_blending_is_the_mean_of_the_tiles():
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
def test_labels_equal_the_argmax_for_any_batch_size(batch_size, blend):
    model = Local(reach=5)
    logits = predict_tiled(model, images(), tile=(24, 32), blend=blend)
    labels = predict_tiled(model, images(), tile=(24, 32), blend=blend, output="labels", batch_size=batch_size)
    assert labels.dtype == torch.uint8
    assert (labels == argmax_labels(logits)).float().mean() > 0.999
    assert max(size[0] for size in model.sizes) == min(batch_size, 4)  # tiles in a row


def test_tiles_have_the_requested_size():
    model = Local()
    predict_tiled(model, images(), tile=(16, 32))
    assert {size[-2:] for size in model.sizes} == {(16, 32)}


def test_many_classes_give_uint16_labels():
    assert predict_tiled(Local(300), images(1), tile=32, output="labels").dtype == torch.uint16


def test_result_requires_no_gradient():
    assert not predict_tiled(Local(), images(), tile=16).requires_grad


@pytest.mark.parametrize("output", ["logits", "labels"])
def test_no_tile_is_predicted_twice(output):
    """Tiles of the first pass, which shows the number of classes, are not predicted again."""
    model = Local()
    predict_tiled(model, images(1, 40, 60), tile=20, output=output, batch_size=2)
    assert [size[0] for size in model.sizes] == [2, 2, 1] * 3


# ---- blocks ----------------------------------------------------------------------------------------------------------


def reader_of(image, calls=None):
    def read(top, left, height, width):
        if calls is not None:
            calls.append((top, left, height, width))
        return image[:, top : top + height, left : left + width]

    return read


def join_and_count(blocks, num_classes, height, width, dtype=torch.float32):
    """Returns the image joined from blocks, and the number of blocks that each pixel is in."""
    logits, count = torch.full((num_classes, height, width), torch.nan, dtype=dtype), torch.zeros(height, width)
    for top, left, block in list(blocks):  # blocks may be kept in a list
        assert block.dtype == dtype
        part = (..., slice(top, top + block.shape[1]), slice(left, left + block.shape[2]))
        assert logits[part].shape == block.shape
        logits[part] = block
        count[part] += 1
    return logits, count


@pytest.mark.parametrize("max_bytes", [1, 4 * 4 * 16 * 30, 4 * 4 * 16 * 60, 2**29])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("blend", ["hann", "constant"])
@pytest.mark.parametrize("size", [(50, 93), (16, 20), (9, 100), (64, 11), (17, 21)])
def test_blocks_hold_every_pixel_once_and_equal_predict_tiled_exactly(size, blend, overlap, max_bytes):
    model = Local(reach=3)
    (image,) = images(1, *size)
    calls = []
    found = tiled_blocks(
        model.conv, reader_of(image, calls), size, (16, 20), overlap, blend, batch_size=1, max_bytes=max_bytes
    )
    logits, count = join_and_count(found, 4, *size)
    assert (count == 1).all()
    assert torch.equal(logits, predict_tiled(model, image[None], (16, 20), overlap, blend)[0])
    for top, left, height, width in calls:
        assert (height, width) == (min(16, size[0]), min(20, size[1]))
        assert 0 <= top <= size[0] - height
        assert 0 <= left <= size[1] - width


@pytest.mark.parametrize("batch_size", [2, 3, 50])
def test_blocks_of_several_tiles_in_one_pass_differ_by_rounding(batch_size):
    model = Local(reach=3)
    (image,) = images(1, 50, 93)
    seen = []

    def predict(tiles):
        seen.append(len(tiles))
        return model.conv(tiles)

    found = tiled_blocks(predict, reader_of(image), (50, 93), 16, batch_size=batch_size, max_bytes=4 * 4 * 16 * 40)
    logits, _ = join_and_count(found, 4, 50, 93)
    torch.testing.assert_close(logits, predict_tiled(model, image[None], 16)[0], rtol=1e-5, atol=1e-5)
    assert max(seen) == min(batch_size, 11)  # the first pass is made before the groups are known


def test_only_tiles_that_reach_into_two_groups_are_predicted_twice():
    (image,) = images(1, 16, 200)
    calls = []
    model = Local(reach=0)
    # tiles begin at 0, 8, ..., 184; a group has 40 pixels, so it begins at every fifth tile
    list(tiled_blocks(model.conv, reader_of(image, calls), (16, 200), 16, blend="constant", max_bytes=4 * 4 * 16 * 40))
    lefts = [left for _, left, _, _ in calls]
    assert lefts == [*range(0, 40, 8), *range(32, 80, 8), *range(72, 120, 8), *range(112, 160, 8), *range(152, 185, 8)]


def test_without_overlap_no_tile_is_predicted_twice():
    (image,) = images(1, 32, 96)
    calls = []
    list(tiled_blocks(Local().conv, reader_of(image, calls), (32, 96), 16, overlap=0.0, max_bytes=1))
    assert sorted(calls) == [(top, left, 16, 16) for top in (0, 16) for left in range(0, 96, 16)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_blocks_are_float32_or_float64(dtype):
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    image = torch.rand(3, 40, 50).to(dtype)
    logits, _ = join_and_count(tiled_blocks(lambda w: w, reader_of(image), (40, 50), 16), 3, 40, 50, expected)
    torch.testing.assert_close(logits, image.to(expected), rtol=1e-6, atol=1e-6)


def test_blocks_require_no_gradient_and_leave_the_modes_of_the_caller():
    model = Local()
    (image,) = images(1)
    for _, _, block in tiled_blocks(model.conv, reader_of(image), (50, 70), 16):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert not block.requires_grad


def test_logits_of_predict_are_not_modified():
    """`predict` may return memory that it still uses."""
    kept = torch.ones(1, 2, 16, 16)
    for overlap in (0.0, 0.5):
        blocks = tiled_blocks(lambda tiles: kept, reader_of(torch.zeros(3, 40, 40)), (40, 40), 16, overlap)
        logits, _ = join_and_count(blocks, 2, 40, 40)
        torch.testing.assert_close(logits, torch.ones(2, 40, 40))
    assert torch.equal(kept, torch.ones(1, 2, 16, 16))


def test_blocks_have_a_bounded_size(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_BYTES", 4 * 4 * 70 * 3)
    (image,) = images(1)
    heights = [block.shape[1] for _, _, block in tiled_blocks(Local().conv, reader_of(image), (50, 70), 16)]
    assert max(heights) == 3
    assert sum(heights) == 50
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1)
    assert len(list(tiled_blocks(Local().conv, reader_of(image), (50, 70), 16))) == 50


class Largest(TorchDispatchMode):
    """Records the bytes of the largest storage that an operation returns."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("output", ["blocks", "labels"])
def test_memory_does_not_grow_with_the_image(output, monkeypatch):
    """The largest storage is that of the sums, for any size of the image."""
    limit = 64 * 16 * 64 * 4  # classes, height of a tile, width of the smallest image, bytes
    monkeypatch.setattr(module, "_MAX_BYTES", limit)
    conv = nn.Conv2d(1, 64, 1)
    largest = []
    for height, width in [(64, 64), (160, 64), (64, 160), (96, 160)]:
        image = torch.zeros(1, height, width, dtype=torch.float16)  # smaller than the sums
        with Largest() as watch:
            if output == "labels":
                predict_tiled(lambda tiles: {"out": conv(tiles.float())}, image[None], 16, output="labels")
            else:
                read = reader_of(image)
                for _ in tiled_blocks(lambda w: conv(w.float()), read, (height, width), 16, max_bytes=limit):
                    pass
        largest.append(watch.bytes)
    assert max(largest) <= limit


def test_logits_are_summed_in_the_result():
    """Nothing else is larger than a tile."""
    with Largest() as watch:
        result = predict_tiled(Local(), images(1, 64, 200), 16)
    assert watch.bytes == result.untyped_storage().nbytes()


GROWTH = """
import resource
import torch
from seg_models.inference.tiled import tiled_blocks

torch.set_num_threads(1)
for height in (512, 2560):
    for _ in tiled_blocks(lambda w: w.repeat(1, 8, 1, 1), lambda t, l, h, w: torch.zeros(1, h, w), (height, 1024), 256):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems report other units")
def test_memory_of_the_process_does_not_grow_with_the_image():
    """In a new process, by its peak resident size."""
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    small, large = (int(line) / 1024 for line in done.stdout.split())
    assert large - small < 16  # MiB; the logits of the large image would take 80


def test_predict_that_returns_no_logits_of_the_tiles_is_an_error():
    for wrong in (lambda w: w[..., ::2, ::2], lambda w: w[0], lambda w: w.long(), lambda w: w[:0]):
        with pytest.raises(InvalidArgumentError, match=r"predict must return float logits \(1, K, 16, 16\)"):
            next(tiled_blocks(wrong, reader_of(torch.zeros(3, 40, 40)), (40, 40), 16))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (0, 5)}, "size must be the image's"),
        ({"size": (5, 5, 5)}, "size must be the image's"),
        ({"size": (5.0, 5)}, "size must be the image's"),
        ({"max_bytes": 0}, "max_bytes must be an integer >= 1, got 0"),
        ({"max_bytes": 2.0**20}, "max_bytes must be"),
        ({"tile": (16, -1)}, "tile must be"),
        ({"overlap": 1}, "overlap must be"),
        ({"blend": "mean"}, "blend must be"),
        ({"batch_size": True}, "batch_size must be"),
    ],
)
def test_wrong_arguments_of_tiled_blocks_raise_before_the_first_block(options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        tiled_blocks(Local().conv, reader_of(images()[0]), **{"size": (50, 70), "tile": 16, **options})


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile": 0}, "tile must be"),
        ({"tile": (16, 16, 16)}, "tile must be"),
        ({"tile": (16.0, 16)}, "tile must be"),
        ({"overlap": 1.0}, "overlap must be a fraction from 0 to below 1, got 1.0"),
        ({"overlap": -0.1}, "overlap must be"),
        ({"blend": "gauss"}, "blend must be one of hann, constant, got 'gauss'"),
        ({"output": "label"}, "output must be one of logits, labels"),
        ({"batch_size": 0}, "batch_size must be"),
    ],
)
def test_wrong_arguments_are_errors(options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        predict_tiled(Local(), images(), **{"tile": 16, **options})


@pytest.mark.parametrize("wrong", [torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)])
def test_wrong_images_are_errors(wrong):
    with pytest.raises(InvalidArgumentError, match="images must be a float tensor"):
        predict_tiled(Local(), wrong, tile=16)
