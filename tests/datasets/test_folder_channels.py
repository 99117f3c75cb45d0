"""FolderDataset with images of any channels: values of the files, several files per image, options, parts, reports."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core import DatasetNotFoundError, ImageChannels, InvalidArgumentError
from seg_core.errors import CorruptFileError
from seg_core.files.scan import scan_dataset
from seg_datasets import FolderDataset, unify
from seg_datasets.doctor.fake import fake
from seg_datasets.doctor.fake_channels import _geotiff
from seg_datasets.reading.pairs import Pair, PairList

LABELS = {"labels": ["ground", "leaf"]}
CHANNELS = {"names": ["red", "green", "blue", "nir"], "range": [0, 10000]}
SIZE = (6, 8)


def values(seed, channels=4, dtype=np.uint16, size=SIZE):
    return np.random.default_rng(seed).integers(1, 250 if dtype == np.uint8 else 9000, (*size, channels)).astype(dtype)


def put(path, pixels, names=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".png":
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)
    else:
        path.write_bytes(_geotiff(pixels, names or [""] * pixels.shape[-1]))
    return pixels


def masks(root, names, size=SIZE):
    for number, name in enumerate(names):
        path = root / f"masks/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, number % 2, np.uint8)).save(path)


def array(image):
    return np.asarray(image).transpose(1, 2, 0)


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_values_are_those_of_the_file(tmp_path, suffix, dtype):
    if suffix == ".tif":
        pytest.importorskip("rasterio")
    stored = {name: put(tmp_path / f"images/{name}{suffix}", values(i, dtype=dtype)) for i, name in enumerate("abc")}
    masks(tmp_path, "abc")
    channels = {**CHANNELS, "range": None} if dtype == np.uint8 else CHANNELS
    train = FolderDataset(tmp_path, LABELS, channels=channels)
    assert len(train) + len(FolderDataset(tmp_path, LABELS, "val", channels=channels)) == 3
    for index in range(len(train)):
        image, mask = train[index]
        name = Path(train.file_names(index)[0]).stem
        assert image.dtype == torch.from_numpy(stored[name]).dtype
        assert np.array_equal(array(image), stored[name])
        assert tuple(mask.shape) == SIZE == train.image_size(index)
    assert train.metadata.channels == ImageChannels(**channels)


def test_channels_of_classes_toml_are_those_of_the_dataset(tmp_path):
    put(tmp_path / "images/a.npy", values(0))
    put(tmp_path / "images/b.npy", values(1))
    masks(tmp_path, "ab")
    (tmp_path / "classes.toml").write_text(
        'labels = ["ground", "leaf"]\n[channels]\nnames = ["red", "green", "blue", "nir"]\nrange = [0, 10000]\n'
    )
    dataset = FolderDataset(tmp_path)
    assert dataset.metadata.channels == ImageChannels(**CHANNELS)
    assert FolderDataset.find_metadata(tmp_path).channels == ImageChannels(**CHANNELS)
    measured = {**CHANNELS, "mean": [0.1] * 4, "std": [0.2] * 4}
    assert FolderDataset(tmp_path, channels=measured).metadata.channels.mean == (0.1,) * 4  # says more, no other
    with pytest.raises(InvalidArgumentError, match=r"'range': \[0.0, 4095.0\].*contradicts the channels.*10000"):
        FolderDataset(tmp_path, channels={**CHANNELS, "range": [0, 4095]})
    problems = FolderDataset.option_problems(tmp_path, {"channels": {**CHANNELS, "range": [0, 4095]}})
    assert len(problems) == 1
    assert "contradicts" in problems[0]


def test_pixels_without_data_are_ignored_in_the_mask(tmp_path):
    pixels = values(0)
    pixels[0, :3] = 0
    put(tmp_path / "images/a.npy", pixels)
    put(tmp_path / "images/b.npy", pixels)
    masks(tmp_path, "ab")
    image, mask = FolderDataset(tmp_path, LABELS, channels={**CHANNELS, "nodata": 0})[0]
    assert (mask[0, :3] == 255).all()
    assert (mask == 255).sum() == 3
    assert np.array_equal(array(image), pixels)


def test_pixels_without_data_are_ignored_in_counts_too(tmp_path):
    pixels = values(0)
    pixels[:2] = 0
    for name in "ab":
        put(tmp_path / f"images/{name}.npy", pixels)
    masks(tmp_path, "ab")
    dataset = FolderDataset(tmp_path, LABELS, channels={**CHANNELS, "nodata": 0})
    scan = scan_dataset(dataset)
    assert scan.pixels.sum() == np.count_nonzero(np.asarray(dataset[0][1]) != 255) == SIZE[0] * SIZE[1] - 2 * SIZE[1]
    assert dataset.mask_file(0) is None
    assert FolderDataset(tmp_path, LABELS, channels=CHANNELS).mask_file(0) is not None


def test_a_fourth_band_that_gdal_marks_as_alpha_is_told(tmp_path):
    pytest.importorskip("rasterio")
    for number, name in enumerate("ab"):
        pixels = values(number, dtype=np.uint8)
        path = tmp_path / f"images/{name}.tif"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels, "RGBA").save(path)
    masks(tmp_path, "ab")
    with pytest.warns(UserWarning, match="fourth band, marked as alpha, which is left out.*bands = .1, 2, 3, 4."):
        image, _ = FolderDataset(tmp_path, LABELS)[0]
    assert image.shape[0] == 3
    channels = {"names": ["red", "green", "blue", "nir"], "bands": [1, 2, 3, 4]}
    assert FolderDataset(tmp_path, LABELS, channels=channels)[0][0].shape[0] == 4


def test_bands_choose_those_of_a_file_by_name_and_number(tmp_path):
    pytest.importorskip("rasterio")
    names = [f"B{number}" for number in range(1, 14)]
    stored = {name: put(tmp_path / f"images/{name}.tif", values(i, 13), names) for i, name in enumerate("ab")}
    masks(tmp_path, "ab")
    for bands, expected in ((["B8", "B4", "B3"], ("B8", "B4", "B3")), ([8, 4, 3], ("band_8", "band_4", "band_3"))):
        dataset = FolderDataset(tmp_path, LABELS, bands=bands, channels={"range": [0, 10000]})
        assert dataset.metadata.channels.names == expected
        stem = Path(dataset.file_names(0)[0]).stem
        assert np.array_equal(array(dataset[0][0]), stored[stem][..., [7, 3, 2]])
    with pytest.raises(CorruptFileError, match="B99.*B8"):
        FolderDataset(tmp_path, LABELS, bands=["B99"], channels={"range": [0, 10000]})[0]
    with pytest.raises(InvalidArgumentError, match="bands must be a list of numbers from 1"):
        FolderDataset(tmp_path, LABELS, bands="B8")


def stacked(root, lacking=()):
    stored = {}
    for number, name in enumerate(["s1", "s2", "s3"]):
        one, other = values(number, 1), values(number + 9, 1)
        put(root / f"red/{name}.tif", one)
        if name not in lacking:
            put(root / f"nir/{name}.tif", other)
        stored[name] = np.concatenate([one, other], -1)
    masks(root, stored)
    return stored


STACK = {
    "images": ["red/*.tif", "nir/*.tif"],
    "masks": "masks",
    "channels": {"names": ["red", "nir"], "range": [0, 10000]},
}


def test_files_of_the_same_name_are_one_image(tmp_path):
    pytest.importorskip("rasterio")
    stored = stacked(tmp_path)
    for split in ("train", "val"):
        dataset = FolderDataset(tmp_path, LABELS, split, **STACK)
        for index in range(len(dataset)):
            files = [Path(name).relative_to(tmp_path).as_posix() for name in dataset.file_names(index)]
            stem = Path(files[0]).stem
            assert files == [f"red/{stem}.tif", f"nir/{stem}.tif", f"masks/{stem}.png"]
            assert np.array_equal(array(dataset[index][0]), stored[stem])
    turned = FolderDataset(tmp_path, LABELS, **{**STACK, "images": ["nir/*.tif", "red/*.tif"]})
    stem = Path(turned.file_names(0)[0]).stem
    assert np.array_equal(array(turned[0][0]), stored[stem][..., ::-1])


def test_image_that_lacks_a_file_is_an_error_or_left_out(tmp_path):
    pytest.importorskip("rasterio")
    stacked(tmp_path, lacking=["s2"])
    with pytest.raises(DatasetNotFoundError, match=r"1 of 3 images lack a file: s2.tif has none in nir/\*.tif"):
        FolderDataset(tmp_path, LABELS, **STACK)
    with pytest.warns(UserWarning, match="1 of 3 images lack a file.*left out"):
        datasets = [FolderDataset(tmp_path, LABELS, split, **STACK, missing="skip") for split in ("train", "val")]
    assert sum(map(len, datasets)) == 2


def test_several_files_without_description_are_an_error_that_says_what_to_write(tmp_path):
    stacked(tmp_path)
    with pytest.raises(InvalidArgumentError, match="add channels = { names"):
        FolderDataset(tmp_path, LABELS, images=STACK["images"], masks="masks")


def test_pair_list_keeps_the_files_of_images():
    pairs = [Pair(Path("r/a"), Path("m/a"), (Path("n/a"), Path("h/a"))), Pair(Path("r/b"), None, (Path("n/b"),))]
    found = PairList(pairs)
    assert found == pairs
    assert list(found) == pairs
    assert found.names(0) == ("r/a", "n/a", "h/a", "m/a")
    assert found.names(1) == ("r/b", "n/b")
    assert found[1:] == pairs[1:]


@pytest.mark.parametrize("kind", ["npy", "tif", "rgb", "png"])
def test_part_of_a_sample_equals_the_crop_of_the_whole(tmp_path, kind):
    rasterio = pytest.importorskip("rasterio")
    size = (160, 192)
    channels = None if kind in ("rgb", "png") else CHANNELS
    for number, name in enumerate("ab"):
        pixels = values(number, 3 if channels is None else 4, np.uint8 if channels is None else np.uint16, size)
        pixels[:10, :20] = 0
        path = tmp_path / f"images/{name}.{'tif' if kind == 'rgb' else kind}"
        path.parent.mkdir(exist_ok=True)
        if kind in ("npy", "png"):
            put(path, pixels)
        else:
            tiled(rasterio, path, pixels)
        ids = np.random.default_rng(number).integers(0, 2, (*size, 1)).astype(np.uint8)
        (tmp_path / "masks").mkdir(exist_ok=True)
        tiled(rasterio, tmp_path / f"masks/{name}.tif", ids)
    options = {} if channels is None else {"channels": {**channels, "nodata": 0}}
    dataset = FolderDataset(tmp_path, LABELS, **options)
    assert dataset.image_size(0) == size
    assert dataset.can_read_windows(0) is (kind != "png")
    image, mask = dataset[0]
    for top, left, height, width in ((0, 0, 160, 192), (5, 11, 64, 32), (159, 191, 1, 1)):
        part, ids = dataset.read_window(0, top, left, height, width)
        rows, columns = slice(top, top + height), slice(left, left + width)
        assert type(part) is type(image)
        assert type(ids) is type(mask)
        assert torch.equal(part.to(torch.float64), image[:, rows, columns].to(torch.float64))
        assert (part.dtype, ids.dtype) == (image.dtype, mask.dtype)
        assert torch.equal(ids, mask[rows, columns])
    with pytest.raises(InvalidArgumentError, match="160 rows and 192 columns, got top 100"):
        dataset.read_window(0, 100, 0, 61, 10)


def tiled(rasterio, path, pixels):
    height, width, count = pixels.shape
    options = {"photometric": "RGB"} if count == 3 else {}
    options |= {"tiled": True, "blockxsize": 16, "blockysize": 16, "transform": rasterio.Affine(1, 0, 5, 0, -1, 5)}
    with rasterio.open(path, "w", "GTiff", width, height, count, dtype=pixels.dtype, **options) as file:
        file.write(pixels.transpose(2, 0, 1))


def test_inspect_describes_files_that_nobody_has_described(tmp_path):
    pytest.importorskip("rasterio")
    fake("FolderDataset", tmp_path / "d", channels=4, bits=16, images_per_split=4)
    (tmp_path / "d/classes.toml").write_text('labels = ["soil", "crop", "water"]\n')
    report = FolderDataset.inspect(tmp_path / "d")
    assert report.fits
    assert report.options["channels"] == {"names": ["red", "green", "blue", "nir"], "range": [0, 10000]}
    assert 'channels = { names = ["red", "green", "blue", "nir"], range = [0, 10000] }' in str(report)
    assert FolderDataset(tmp_path / "d", **report.options)[0][0].dtype == torch.uint16


def test_inspect_finds_arrays(tmp_path):
    for number in range(4):
        put(tmp_path / f"images/p{number}.npy", values(number, 4, size=(32, 40)))
    masks(tmp_path, [f"p{number}" for number in range(4)], (32, 40))
    report = FolderDataset.inspect(tmp_path)
    assert report.options["channels"]["range"] == [0, 10000]
    assert report.counts == {"train": 3, "val": 1}
    assert FolderDataset(tmp_path, **report.options)[0][0].shape == (4, 32, 40)


def test_joined_datasets_must_have_the_same_channels(tmp_path):
    put(tmp_path / "images/a.npy", values(0))
    put(tmp_path / "images/b.npy", values(1))
    masks(tmp_path, "ab")
    one = FolderDataset(tmp_path, LABELS, channels=CHANNELS)
    other = FolderDataset(tmp_path, LABELS, channels={**CHANNELS, "range": [0, 4095]})
    assert unify(one.metadata, [one, one]).metadata.channels == one.metadata.channels
    with pytest.raises(InvalidArgumentError, match=r"must have the same channels.*0 to 10000.*0 to 4095"):
        unify(one.metadata, [one, other])


def test_image_file_of_described_channels_is_named_by_how_it_is_read(tmp_path):
    put(tmp_path / "images/a.npy", values(0))
    put(tmp_path / "images/b.npy", values(1))
    masks(tmp_path, "ab")
    file = FolderDataset(tmp_path, LABELS, channels=CHANNELS).image_file(0)
    assert json.dumps(CHANNELS["names"]) in file.reader
    assert file.read(file.path).shape == (*SIZE, 4)
