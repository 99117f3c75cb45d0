"""Prediction of images larger than memory, from TIFF, .npy and zarr to TIFF and .npy."""

import numpy as np
import pytest
from PIL import Image

from seg_core.errors import CorruptFileError, InvalidArgumentError, WriteError
from seg_core.transforms.preprocessing import Preprocessing
from seg_models import Predictor
from tests.tiff_files import geo_reference, read_tiff, write_tiff

rasterio = pytest.importorskip("rasterio")


@pytest.mark.parametrize("ending", [".tif", ".npy"])
@pytest.mark.parametrize("kind", ["tiff", "npy", "zarr", "array", "planes", "gray"])
def test_predict_to_file_equals_predicting_the_image_in_memory(kind, ending, shades, image, tmp_path):
    source = tmp_path / f"image.{kind}"
    if kind == "tiff":
        write_tiff(source, image, tiled=True, blockxsize=32, blockysize=32)
    elif kind == "npy":
        np.save(source, image)
    elif kind == "zarr":
        zarr = pytest.importorskip("zarr")
        stored = zarr.open_array(str(source), mode="w", shape=image.shape, chunks=(32, 32, 3), dtype="u1")
        stored[:] = image
    else:
        source = {"array": image, "planes": image.transpose(2, 0, 1), "gray": image[:, :, 0]}[kind]
    predictor = Predictor(shades, tile=(24, 40), batch_size=2)
    fractions = []
    result = predictor.predict_to_file(source, tmp_path / f"labels{ending}", on_progress=fractions.append)
    expected = predictor(image)
    labels = np.load(result.path) if ending == ".npy" else read_tiff(result.path)[0]
    np.testing.assert_array_equal(labels, expected.labels)
    assert labels.dtype == np.uint8
    assert result.size == (70, 90)
    assert result.areas == expected.areas
    assert len(expected.areas) == 3
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_tiff_of_labels_is_tiled_and_has_palette_and_geo_reference(shades, image, tmp_path):
    write_tiff(tmp_path / "image.tif", image, **geo_reference())
    Predictor(shades, tile=32).predict_to_file(tmp_path / "image.tif", tmp_path / "labels.tif")
    _, profile, colors = read_tiff(tmp_path / "labels.tif")
    assert profile["tiled"]
    assert profile["compress"] == "deflate"
    assert (profile["crs"], profile["transform"]) == (
        rasterio.crs.CRS.from_string("EPSG:32633"),
        geo_reference()["transform"],
    )
    assert profile["nodata"] == 255
    assert [colors[i][:3] for i in (0, 1, 2, 255)] == [(0, 0, 200), (0, 200, 0), (200, 0, 0), (0, 0, 0)]
    with Image.open(tmp_path / "labels.tif") as shown:
        assert shown.mode == "P"
    prediction = Predictor(shades)(tmp_path / "image.tif")
    prediction.save(tmp_path / "whole.tif")
    labels, whole, _ = read_tiff(tmp_path / "whole.tif")
    np.testing.assert_array_equal(labels, prediction.labels)
    assert (whole["crs"], whole["transform"]) == (profile["crs"], profile["transform"])


def test_scale_of_the_preprocessing_applies_to_each_tile(shades, image, tmp_path):
    half = Preprocessing((0.5,) * 3, (0.5,) * 3, scale=0.5)
    seen = []
    shades.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    predictor = Predictor(shades, preprocessing=half, tile=16)
    predictor.predict_to_file(image, tmp_path / "labels.npy")
    assert set(seen) == {(16, 16)}
    labels, expected = np.load(tmp_path / "labels.npy"), Predictor(shades, preprocessing=half)(image).labels
    assert (labels == expected).mean() > 0.98


@pytest.mark.parametrize(
    ("options", "target", "words"),
    [
        ({}, "labels.tif", "predicts tile by tile; give the predictor tile="),
        ({"tile": 16, "scores": True}, "labels.tif", "writes labels only; remove scores="),
        ({"tile": 16, "min_region": 5}, "labels.tif", "min_region=5 needs the whole label map"),
        ({"tile": 16, "preprocessing": Preprocessing(shorter_side=9)}, "labels.tif", "by {'shorter_side': 9}, which"),
        ({"tile": 16, "preprocessing": Preprocessing(longer_side=9)}, "labels.tif", "by {'longer_side': 9}, which"),
        (
            {"tile": 16, "preprocessing": Preprocessing(size=(9, 9))},
            "labels.tif",
            "which gives no scale for a single tile",
        ),
        ({"tile": 16}, "labels.png", "target must end in .tif, .tiff or .npy"),
    ],
)
def test_options_that_need_the_whole_image_are_errors(options, target, words, shades, image, tmp_path):
    with pytest.raises(InvalidArgumentError, match=words):
        Predictor(shades, **options).predict_to_file(image, tmp_path / target)
    assert list(tmp_path.iterdir()) == []


def test_unreadable_image_is_named_and_nothing_is_written(shades, tmp_path):
    sources = tmp_path / "in"
    sources.mkdir()
    write_tiff(sources / "deep.tif", np.zeros((8, 8), np.uint16))
    write_tiff(sources / "five.tif", np.zeros((8, 8, 5), np.uint8))
    (sources / "text.tif").write_text("no image")
    (sources / "text.npy").write_text("no array")
    np.save(sources / "row.npy", np.zeros(7, np.uint8))
    np.save(sources / "int.npy", np.zeros((7, 7, 3), np.int64))
    (sources / "empty.zarr").mkdir()
    predictor = Predictor(shades, tile=4)
    for name, error, words in (
        ("deep.tif", InvalidArgumentError, "1 channels of uint16; an image has 1 to 4 channels of uint8"),
        ("five.tif", InvalidArgumentError, "5 channels"),
        ("text.tif", CorruptFileError, "text.tif cannot be read: it is none of PNG"),
        ("text.npy", CorruptFileError, "cannot be read as an array"),
        ("row.npy", InvalidArgumentError, r"got .* of shape \(7,\)"),
        ("int.npy", InvalidArgumentError, "image must be uint8 in 0 to 255 or float in 0 to 1, got int64"),
        ("gone.tif", FileNotFoundError, "there is no image"),
        ("empty.zarr", CorruptFileError, "cannot be read as a zarr array"),
    ):
        if name.endswith("zarr"):
            pytest.importorskip("zarr")
        with pytest.raises(error, match=words):
            predictor.predict_to_file(sources / name, tmp_path / "out" / "labels.tif")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_interrupt_leaves_no_file(shades, image, tmp_path):
    calls = []

    def interrupt(fraction):
        calls.append(fraction)
        if len(calls) == 2:
            raise KeyboardInterrupt

    for name in ("labels.tif", "labels.npy"):
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            Predictor(shades, tile=16).predict_to_file(image, tmp_path / name, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_raises_and_leaves_no_file(shades, small_disk):
    noise = np.random.default_rng(0).integers(0, 256, (700, 700), np.uint8)
    predictor = Predictor(shades, tile=256)
    for name in ("labels.npy", "labels.tif"):
        with pytest.raises(WriteError, match=rf"cannot write .*{name}: [Nn]o space left on (device|its disk); check"):
            predictor.predict_to_file(noise, small_disk / name)
    assert list(small_disk.iterdir()) == []


def test_truncated_source_is_named_and_not_the_target(shades, image, tmp_path):
    write_tiff(tmp_path / "cut.tif", image, tiled=True, blockxsize=32, blockysize=32)
    (tmp_path / "cut.tif").write_bytes((tmp_path / "cut.tif").read_bytes()[:-9000])
    for name in ("labels.tif", "labels.npy"):
        with pytest.raises(CorruptFileError, match=r"cut.tif cannot be read at row \d+"):
            Predictor(shades, tile=16).predict_to_file(tmp_path / "cut.tif", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["cut.tif"]


@pytest.mark.parametrize("kind", ["same", "spelling", "symlink", "hard link", "link to it", "memory map"])
def test_result_never_replaces_its_image(kind, shades, image, tmp_path):
    source = target = tmp_path / ("image.npy" if kind == "memory map" else "image.tif")
    if kind == "memory map":
        np.save(source, image)
    else:
        write_tiff(source, image)
    before = source.read_bytes()
    if kind == "spelling":
        (tmp_path / "folder").mkdir()
        target = tmp_path / "folder" / ".." / "image.tif"
    elif kind in ("symlink", "hard link"):
        target = tmp_path / "link.tif"
        target.symlink_to(source) if kind == "symlink" else target.hardlink_to(source)
    elif kind == "link to it":
        source = tmp_path / "link.tif"
        source.symlink_to(target)
    elif kind == "memory map":
        source = np.load(source, mmap_mode="r")[2:]

    def not_called(_module, _inputs):
        raise AssertionError("predicted before the check")

    words = "is the image that is predicted .* and would be replaced by the result; choose another file"
    hook = shades.register_forward_pre_hook(not_called)
    with pytest.raises(InvalidArgumentError, match=words):
        Predictor(shades, tile=16).predict_to_file(source, target)
    hook.remove()
    if kind != "memory map":
        prediction = Predictor(shades)(source)
        for save in (prediction.save, prediction.save_overlay):
            with pytest.raises(InvalidArgumentError, match=words):
                save(target)
    assert target.read_bytes() == before


def test_result_may_replace_an_older_result(shades, image, tmp_path):
    write_tiff(tmp_path / "image.tif", image)
    prediction = Predictor(shades)(tmp_path / "image.tif")
    for _ in range(2):
        Predictor(shades, tile=16).predict_to_file(tmp_path / "image.tif", tmp_path / "labels.tif")
        prediction.save(tmp_path / "labels.tif")
    (tmp_path / "image.tif").unlink()
    prediction.save(tmp_path / "image.tif")
