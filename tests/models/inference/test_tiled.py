"""Windows side by side: their result is that of the whole image, and their number costs no memory."""

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
from seg_models.inference.tiled import tiled_blocks, window_starts


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
    assert max(size[0] for size in model.sizes) == min(batch_size, 4)  # of windows in a row


def test_windows_have_the_size_asked_for():
    model = Local()
    predict_tiled(model, images(), tile=(16, 32))
    assert {size[-2:] for size in model.sizes} == {(16, 32)}


def test_many_classes_give_uint16_labels():
    assert predict_tiled(Local(300), images(1), tile=32, output="labels").dtype == torch.uint16


def test_nothing_is_kept_for_gradients():
    assert not predict_tiled(Local(), images(), tile=16).requires_grad


@pytest.mark.parametrize("output", ["logits", "labels"])
def test_predict_tiled_asks_for_windows_of_the_image_alone(output):
    """Windows of the first pass are not predicted again, though the number of classes was learnt from it."""
    model = Local()
    predict_tiled(model, images(1, 40, 60), tile=20, output=output, batch_size=2)
    assert [size[0] for size in model.sizes] == [2, 2, 1] * 3


# -- blocks


def window_of(image, calls=None):
    def read(top, left, height, width):
        if calls is not None:
            calls.append((top, left, height, width))
        return image[:, top : top + height, left : left + width]

    return read


def put_together(blocks, num_classes, height, width, dtype=torch.float32):
    """Returns the image of the blocks, and how many of them each pixel is in."""
    logits, count = torch.full((num_classes, height, width), torch.nan, dtype=dtype), torch.zeros(height, width)
    for top, left, block in list(blocks):  # a list: blocks may be kept
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
def test_blocks_hold_every_pixel_once_and_are_bit_for_bit_those_of_one_group(size, blend, overlap, max_bytes):
    model = Local(reach=3)
    (image,) = images(1, *size)
    calls = []
    found = tiled_blocks(
        model.conv, window_of(image, calls), size, (16, 20), overlap, blend, batch_size=1, max_bytes=max_bytes
    )
    logits, count = put_together(found, 4, *size)
    assert (count == 1).all()
    assert torch.equal(logits, predict_tiled(model, image[None], (16, 20), overlap, blend)[0])
    for top, left, height, width in calls:
        assert (height, width) == (min(16, size[0]), min(20, size[1]))
        assert 0 <= top <= size[0] - height
        assert 0 <= left <= size[1] - width


@pytest.mark.parametrize("batch_size", [2, 3, 50])
def test_blocks_of_several_windows_in_one_pass_differ_by_rounding(batch_size):
    model = Local(reach=3)
    (image,) = images(1, 50, 93)
    seen = []

    def predict(windows):
        seen.append(len(windows))
        return model.conv(windows)

    found = tiled_blocks(predict, window_of(image), (50, 93), 16, batch_size=batch_size, max_bytes=4 * 4 * 16 * 40)
    logits, _ = put_together(found, 4, 50, 93)
    torch.testing.assert_close(logits, predict_tiled(model, image[None], 16)[0], rtol=1e-5, atol=1e-5)
    assert max(seen) == min(batch_size, 11)  # the first pass knows of no groups


def test_windows_that_reach_into_two_groups_are_all_that_is_predicted_twice():
    (image,) = images(1, 16, 200)
    calls = []
    model = Local(reach=0)
    # windows begin at 0, 8, ..., 184; a group takes 40 pixels, so that it begins at every fifth one
    list(tiled_blocks(model.conv, window_of(image, calls), (16, 200), 16, blend="constant", max_bytes=4 * 4 * 16 * 40))
    lefts = [left for _, left, _, _ in calls]
    assert lefts == [*range(0, 40, 8), *range(32, 80, 8), *range(72, 120, 8), *range(112, 160, 8), *range(152, 185, 8)]


def test_no_window_without_overlap_is_predicted_twice():
    (image,) = images(1, 32, 96)
    calls = []
    list(tiled_blocks(Local().conv, window_of(image, calls), (32, 96), 16, overlap=0.0, max_bytes=1))
    assert sorted(calls) == [(top, left, 16, 16) for top in (0, 16) for left in range(0, 96, 16)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_blocks_are_float32_but_for_float64(dtype):
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    image = torch.rand(3, 40, 50).to(dtype)
    logits, _ = put_together(tiled_blocks(lambda w: w, window_of(image), (40, 50), 16), 3, 40, 50, kept)
    torch.testing.assert_close(logits, image.to(kept), rtol=1e-6, atol=1e-6)


def test_blocks_have_no_gradients_and_leave_the_mode_of_who_takes_them():
    model = Local()
    (image,) = images(1)
    for _, _, block in tiled_blocks(model.conv, window_of(image), (50, 70), 16):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert not block.requires_grad


def test_what_predict_returns_is_left_alone():
    """A predictor may hand out what it still needs."""
    kept = torch.ones(1, 2, 16, 16)
    for overlap in (0.0, 0.5):
        blocks = tiled_blocks(lambda windows: kept, window_of(torch.zeros(3, 40, 40)), (40, 40), 16, overlap)
        logits, _ = put_together(blocks, 2, 40, 40)
        torch.testing.assert_close(logits, torch.ones(2, 40, 40))
    assert torch.equal(kept, torch.ones(1, 2, 16, 16))


def test_blocks_are_of_bounded_size(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_BYTES", 4 * 4 * 70 * 3)
    (image,) = images(1)
    heights = [block.shape[1] for _, _, block in tiled_blocks(Local().conv, window_of(image), (50, 70), 16)]
    assert max(heights) == 3
    assert sum(heights) == 50
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1)
    assert len(list(tiled_blocks(Local().conv, window_of(image), (50, 70), 16))) == 50


class Largest(TorchDispatchMode):
    """Notes the bytes of the largest memory that an operation returns."""

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
    """The largest memory that appears is that of the sums, whatever the size of the image."""
    limit = 64 * 16 * 64 * 4  # classes, height of a window, width of the smallest image, bytes
    monkeypatch.setattr(module, "_MAX_BYTES", limit)
    conv = nn.Conv2d(1, 64, 1)
    largest = []
    for height, width in [(64, 64), (400, 64), (64, 400), (200, 400)]:
        image = torch.zeros(1, height, width, dtype=torch.float16)  # smaller than the sums
        with Largest() as watch:
            if output == "labels":
                predict_tiled(lambda windows: {"out": conv(windows.float())}, image[None], 16, output="labels")
            else:
                read = window_of(image)
                for _ in tiled_blocks(lambda w: conv(w.float()), read, (height, width), 16, max_bytes=limit):
                    pass
        largest.append(watch.bytes)
    assert max(largest) <= limit


def test_logits_are_summed_up_in_the_result():
    """Beside it nothing is larger than a window."""
    with Largest() as watch:
        result = predict_tiled(Local(), images(1, 64, 200), 16)
    assert watch.bytes == result.untyped_storage().nbytes()


GROWTH = """
import resource
import torch
from seg_models.inference.tiled import tiled_blocks

torch.set_num_threads(1)
for height in (512, 4096):
    for _ in tiled_blocks(lambda w: w.repeat(1, 8, 1, 1), lambda t, l, h, w: torch.zeros(1, h, w), (height, 1024), 256):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count in other units")
def test_memory_of_the_process_does_not_grow_with_the_image():
    """In a process of its own, by the system's figure of its largest size."""
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    small, large = (int(line) / 1024 for line in done.stdout.split())
    assert large - small < 16  # MiB; the logits of the large image would be 128


def test_a_network_that_gives_no_logits_of_the_windows_is_told():
    for wrong in (lambda w: w[..., ::2, ::2], lambda w: w[0], lambda w: w.long(), lambda w: w[:0]):
        with pytest.raises(InvalidArgumentError, match=r"predict must give float logits \(1, K, 16, 16\)"):
            next(tiled_blocks(wrong, window_of(torch.zeros(3, 40, 40)), (40, 40), 16))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (0, 5)}, "size must be the image's"),
        ({"size": (5, 5, 5)}, "size must be the image's"),
        ({"size": (5.0, 5)}, "size must be the image's"),
        ({"max_bytes": 0}, "max_bytes must be a number of bytes from 1 on, got 0"),
        ({"max_bytes": 2.0**20}, "max_bytes must be"),
        ({"tile": (16, -1)}, "tile must be"),
        ({"overlap": 1}, "overlap must be"),
        ({"blend": "mean"}, "blend must be"),
        ({"batch_size": True}, "batch_size must be"),
    ],
)
def test_wrong_arguments_of_blocks_are_told_before_the_first_one(options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        tiled_blocks(Local().conv, window_of(images()[0]), **{"size": (50, 70), "tile": 16, **options})


# -- arguments


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
