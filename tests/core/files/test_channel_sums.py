"""Mean and std of channels: exact, spread over a dataset, remembered, and without pixels that hold no data."""

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seg_core import DatasetMetadata
from seg_core.errors import InvalidArgumentError
from seg_core.files.channel_sums import combined_moments, measure_channels, moments_of
from seg_core.files.image_sums import ImageFile
from seg_core.labels.channels import ImageChannels

CHANNELS = ImageChannels(("height", "near"), range=((-100, 300), (0, 10000)))
METADATA = DatasetMetadata("Two", ("a", "b"), channels=CHANNELS)


class Files:
    """Images in .npy files; `read` lists those that were read."""

    def __init__(self, folder, images, metadata=METADATA):
        self.metadata, self.read = metadata, []
        self.paths = [folder / f"{index}.npy" for index in range(len(images))]
        for path, image in zip(self.paths, images, strict=True):
            np.save(path, image)
            os.utime(path, (1e9, 1e9))  # of long ago: the cache leaves out what has just changed

    def __len__(self):
        return len(self.paths)

    def image_file(self, index):
        def load(path):
            self.read.append(index)
            return np.load(path)

        return ImageFile(self.paths[index], load, "two channels")


def images(count, size=(20, 30), seed=0):
    rng = np.random.default_rng(seed)
    low, high = (np.array(ends) for ends in zip(*CHANNELS.ranges, strict=True))
    return [(low + (high - low) * rng.random((*size, 2)) ** 2).astype(np.float32) for _ in range(count)]


def scaled(pixels):
    low, high = (np.array(ends) for ends in zip(*CHANNELS.ranges, strict=True))
    return (np.asarray(pixels, np.float64) - low) / (high - low)


def test_measured_numbers_are_those_of_all_pixels_together(tmp_path):
    found = images(5)
    done = []
    measured = measure_channels(Files(tmp_path, found), progress=lambda *step: done.append(step))
    values = scaled(np.stack(found))
    assert measured.mean == pytest.approx(values.mean((0, 1, 2)), rel=1e-5)
    assert measured.std == pytest.approx(values.std((0, 1, 2)), rel=1e-5)
    assert measured.images == 5
    assert done[-1] == (5, 5)


def test_strips_and_parts_add_up_to_the_whole(monkeypatch):
    (image,) = images(1, (300, 40))
    whole = moments_of(image, None, CHANNELS)
    monkeypatch.setattr("seg_core.files.channel_sums._STRIP", 7 * 40)
    strips = moments_of(image, None, CHANNELS)
    parts = combined_moments(moments_of(part, None, CHANNELS) for part in np.split(image, [13, 13, 200]))
    for other in (strips, parts):
        assert other.pixels == whole.pixels == 12000
        assert other.mean == pytest.approx(whole.mean, rel=1e-12)
        assert other.squares == pytest.approx(whole.squares, rel=1e-9)


def test_at_most_so_many_images_are_read_spread_over_the_dataset(tmp_path):
    dataset = Files(tmp_path, images(10))
    assert measure_channels(dataset, limit=4).images == 4
    assert sorted(dataset.read) == [0, 2, 5, 7]


def test_files_are_remembered_until_they_or_what_counts_change(tmp_path):
    first, again = Files(tmp_path, images(3)), None
    expected = measure_channels(first)
    assert sorted(first.read) == [0, 1, 2]
    again = Files.__new__(Files)
    again.metadata, again.paths, again.read = METADATA, first.paths, []
    assert measure_channels(again) == expected
    assert again.read == []
    np.save(first.paths[1], images(1, seed=9)[0])
    os.utime(first.paths[1], (1e9 + 1, 1e9 + 1))
    assert measure_channels(again) != expected
    assert again.read == [1]
    again.metadata = replace(METADATA, channels=replace(CHANNELS, nodata=-9999))
    measure_channels(again)
    assert sorted(again.read) == [0, 1, 1, 2]


def test_pixels_without_data_do_not_count():
    (image,) = images(1)
    holed = image.copy()
    holed[:5] = [-100, 0]
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[:5] = 255
    values = scaled(image[5:])

    class Samples:
        metadata = METADATA

        def __len__(self):
            return 1

        def file_names(self, index):
            return ("0.tif",)

        def __getitem__(self, index):
            return torch.from_numpy(holed).permute(2, 0, 1), torch.from_numpy(mask)

    class Pixels(Samples):
        """As datasets of files know it."""

        def image_file(self, index):
            return ImageFile("0.tif", None, None)

        def read_pixels(self, index):
            return holed, mask != 255

    for dataset in (Samples(), Pixels()):
        found = measure_channels(dataset)
        assert found.mean == pytest.approx(values.mean((0, 1)), rel=1e-5)
        assert found.std == pytest.approx(values.std((0, 1)), rel=1e-5)


def test_large_image_is_measured_in_windows_if_it_can_be_read_so(monkeypatch):
    monkeypatch.setattr("seg_core.files.channel_sums._LARGEST_WHOLE", 1000)
    monkeypatch.setattr("seg_core.files.channel_sums._WINDOW", 16)
    (image,) = images(1, (64, 64))
    windows = []

    def read_window(index, top, left, height, width):
        windows.append((top, left, height, width))
        part = image[top : top + height, left : left + width]
        return torch.from_numpy(part).permute(2, 0, 1), torch.zeros(height, width, dtype=torch.uint8)

    class Large(SimpleNamespace):
        def __len__(self):
            return 1

    dataset = Large(
        metadata=METADATA,
        can_read_windows=lambda index: True,
        image_size=lambda index: (64, 64),
        read_window=read_window,
        image_file=lambda index: pytest.fail("the whole file is not read"),
    )
    dataset.image_file = lambda index: ImageFile("x.tif", lambda path: pytest.fail("the whole is read"), None)
    found = measure_channels(dataset)
    assert windows == [(top, left, 16, 16) for top in (0, 16, 32, 48) for left in (0, 16, 32, 48)]
    assert found.mean == pytest.approx(scaled(image).mean((0, 1)), rel=1e-5)  # 16 windows of 16 cover it


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((4, 4, 2), [5.0, 7.0], np.float32), r"channel 'height' has the value 5 in all pixels of the 1 image"),
        (np.full((4, 4, 2), [-100.0, 0.0], np.float32), r"the 1 image that mean and std were measured on hold no data"),
    ],
)
def test_channel_that_cannot_be_normalized_is_an_error(tmp_path, image, message):
    metadata = replace(METADATA, channels=replace(CHANNELS, nodata=-9999))
    with pytest.raises(InvalidArgumentError, match=message):
        measure_channels(Files(tmp_path, [image], metadata))
