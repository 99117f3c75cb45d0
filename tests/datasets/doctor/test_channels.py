"""The doctor on images of any channels: check, stats, preview, and the sets that `fake` invents."""

import json
import shutil
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image

import seg_datasets
from seg_core import DatasetNotFoundError, ImageChannels, InvalidArgumentError
from seg_core.command import main
from seg_datasets import FolderDataset
from seg_datasets.doctor.channel_stats import ChannelStats
from seg_datasets.doctor.fake import fake
from seg_datasets.doctor.fake_channels import _geotiff
from seg_datasets.official.isprs import Potsdam, Vaihingen

SETS = [(4, 16), (1, 16), (1, 8), (2, 32), (7, 8)]
RGBN = ("red", "green", "blue", "nir")


def invented(folder, channels, bits, described=True, images=4):
    pytest.importorskip("rasterio")
    root = fake("FolderDataset", folder, channels=channels, bits=bits, images_per_split=images, size=(32, 40))
    if not described:
        (root / "classes.toml").write_text('labels = ["soil", "crop", "water"]\n')
    return root


def kinds(report):
    return sorted({(found.kind, found.severity) for found in report.findings})


@pytest.mark.parametrize(("channels", "bits"), SETS)
def test_invented_set_is_clean_and_its_classes_differ_in_the_last_channel_alone(tmp_path, channels, bits):
    root = invented(tmp_path / "d", channels, bits)
    assert seg_datasets.check(root).findings == []
    dataset = FolderDataset(root)
    assert dataset.metadata.channels.count == channels
    low, high = dataset.metadata.channels.ranges[-1]
    pixels, ids = zip(*((image.double().flatten(1), mask.flatten()) for image, mask in dataset), strict=True)
    pixels, ids = (torch.cat(pixels, 1) - low) / (high - low), torch.cat(ids)
    known = ids < 3
    decided = (pixels[-1, known] * 3).floor().clamp(0, 2)
    assert (decided == ids[known]).double().mean() > 0.95
    for other in pixels[:-1, known]:
        means = torch.stack([other[ids[known] == label].mean() for label in range(3)])
        assert (means - 0.5).abs().max() < 0.05


def test_invented_geotiff_has_georeference_and_descriptions(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    root = invented(tmp_path / "d", 4, 16)
    path = next((root / "train/images").glob("*.tif"))
    with rasterio.open(path) as file:
        assert (file.descriptions, file.dtypes, file.crs.to_epsg()) == (RGBN, ("uint16",) * 4, 32632)
        assert file.transform.a == 10
        assert np.array_equal(file.read(), np.asarray(FolderDataset(root)[0][0]))


def test_fake_channels_of_another_dataset_or_with_faults_are_an_error(tmp_path):
    with pytest.raises(InvalidArgumentError, match="channels = 4 and bits = 8 are of a FolderDataset without faults"):
        fake("CamVid", tmp_path / "a", channels=4)
    with pytest.raises(InvalidArgumentError, match=r"leave them out for faults \(alpha\)"):
        fake("FolderDataset", tmp_path / "b", channels=4, faults=["alpha"])
    with pytest.raises(InvalidArgumentError, match="bits must be 8, 16 or 32"):
        fake("FolderDataset", tmp_path / "c", channels=4, bits=12)
    assert main(["datasets", "fake", "FolderDataset", str(tmp_path / "d"), "--channels", "1", "--bits", "16"]) == 0
    assert 'names = ["gray"]' in (tmp_path / "d/classes.toml").read_text()


@pytest.mark.parametrize(
    ("channels", "bits", "kind"), [(4, 16, "wrong-bit-depth"), (1, 16, "wrong-bit-depth"), (4, 8, "mixed-channels")]
)
def test_undescribed_folder_gets_the_line_of_a_config_that_makes_it_clean(tmp_path, channels, bits, kind):
    root = invented(tmp_path / "d", channels, bits, described=False)
    report = seg_datasets.check(root)
    assert kinds(report) == [(kind, "error")]
    assert len(report.findings) == 12
    line = report.findings[0].config
    assert line.startswith("data.dataset.params.channels = { names = [")
    options = tomllib.loads(line)["data"]["dataset"]["params"]
    assert seg_datasets.check(root, **options).findings == []
    table = line.removeprefix("data.dataset.params.")
    (root / "classes.toml").write_text(f'labels = ["soil", "crop", "water"]\n{table}\n')
    assert seg_datasets.check(root).findings == []


def test_mixed_folder_is_refused_and_the_files_are_named(tmp_path):
    root = invented(tmp_path / "d", 4, 8)
    path = next((root / "train/images").glob("*.tif"))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    report = seg_datasets.check(root)
    assert kinds(report) == [("mixed-channels", "error")]
    (found,) = report.findings
    assert found.files == (f"train/images/{path.name}",)
    assert "3 bands" in found.detail
    assert "4 channels (red, green, blue, nir)" in found.detail
    undescribed = seg_datasets.check(root, classes={"labels": ["soil", "crop", "water"]})
    assert kinds(undescribed) == [("mixed-channels", "error")]
    assert f"train/images/{path.name}" not in {name for one in undescribed.findings for name in one.files}
    assert not any(one.config for one in undescribed.findings)  # no description fits all
    (root / "classes.toml").write_text('labels = ["soil", "crop", "water"]\n')
    with pytest.raises(DatasetNotFoundError, match="images have different channels: "):
        seg_datasets.stats(root)


def test_files_that_do_not_fit_are_told_by_kind(tmp_path):
    root = invented(tmp_path / "d", 4, 16, images=6)
    paths = sorted((root / "train/images").glob("*.tif"))
    rng = np.random.default_rng(0)
    paths[0].write_bytes(_geotiff(rng.integers(0, 200, (32, 40, 4), dtype=np.uint8), RGBN))
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    paths[2].write_bytes(b"")
    shutil.copy(paths[3], root / "val/images" / next((root / "val/images").glob("*.tif")).name)
    found = {(one.kind, one.files[0]) for one in seg_datasets.check(root).findings}
    names = [f"train/images/{path.name}" for path in paths]
    assert {("wrong-bit-depth", names[0]), ("unreadable-image", names[1]), ("empty-file", names[2])} <= found
    assert any(kind == "duplicate-across-splits" for kind, _ in found)


def test_image_that_lacks_a_file_is_a_finding(tmp_path):
    pytest.importorskip("rasterio")
    rng = np.random.default_rng(0)
    for name in "abcd":
        for band in ("red", "nir"):
            path = tmp_path / band / f"{name}.tif"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(_geotiff(rng.integers(0, 9000, (32, 40, 1)).astype(np.uint16), [band]))
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 2, (32, 40), dtype=np.uint8)).save(tmp_path / f"masks/{name}.png")
    options = {
        "images": ["red/*.tif", "nir/*.tif"],
        "masks": "masks",
        "channels": {"names": ["red", "nir"], "range": [0, 10000]},
        "classes": {"labels": ["a", "b"]},
    }
    assert seg_datasets.check(tmp_path, **options).findings == []
    (tmp_path / "nir/b.tif").unlink()
    (found,) = seg_datasets.check(tmp_path, **options).findings
    assert (found.kind, found.files) == ("missing-image", ("red/b.tif",))
    assert "nir/*.tif" in found.detail
    assert seg_datasets.check(tmp_path, **options, missing="skip").counts() == {"missing-image": 1}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_channel_stats_are_those_of_all_pixels(dtype):
    rng = np.random.default_rng(0)
    scale = 255 if dtype == np.uint8 else 9000
    images = [(rng.random((50, 60, 2)) ** 2 * scale).astype(dtype) for _ in range(3)]
    valid = rng.random((50, 60)) < 0.7
    channels = ImageChannels(("a", "b"), range=(100, 300))
    total = ChannelStats.of(channels, images[0], valid)
    for image in images[1:]:
        total = total.joined(ChannelStats.of(channels, image))
    pixels = np.concatenate([images[0][valid], *(image.reshape(-1, 2) for image in images[1:])]).astype(np.float64)
    assert total.pixels == len(pixels)
    assert np.allclose(total.means, pixels.mean(0))
    assert np.allclose(total.deviations, pixels.std(0))
    assert np.allclose(total.mean, (pixels.mean(0) - 100) / 200)
    assert np.allclose(total.std, pixels.std(0) / 200)
    assert np.array_equal(total.smallest, pixels.min(0))
    assert np.array_equal(total.largest, pixels.max(0))
    low, high = total.ends
    expected = np.percentile(pixels, [0.1, 99.9], axis=0, method="inverted_cdf")
    assert np.allclose([low, high], expected, rtol=0.01, atol=0.01)


def test_channel_stats_of_types_that_differ_are_joined():
    channels = ImageChannels(("a",), range=(-10, 10))
    one = np.full((4, 4, 1), 200, np.uint8)
    other = np.full((4, 4, 1), -3.5, np.float32)
    total = ChannelStats.of(channels, one).joined(ChannelStats.of(channels, other))
    assert (total.smallest[0], total.largest[0]) == (-3.5, 200)
    assert total.means[0] == pytest.approx(98.25)
    assert total.ends[0][0] == pytest.approx(-3.5, rel=0.01)
    assert total.ends[1][0] == pytest.approx(200, rel=0.01)


def test_stats_fills_the_description_in(tmp_path, capsys):
    root = invented(tmp_path / "d", 4, 16, described=False)
    with pytest.warns(UserWarning, match="are read with channels = .*as their files suggest"):
        found = seg_datasets.stats(root)
    channels = found.channels
    assert (channels.names, channels.ranges) == (RGBN, ((0, 10000),) * 4)
    dataset = FolderDataset(root, channels={"names": list(RGBN), "range": [0, 10000]})
    pixels = torch.cat([image.double().flatten(1) for image, _ in dataset], 1) / 10000
    assert channels.mean == pytest.approx(pixels.mean(1).tolist(), rel=1e-5)
    assert channels.std == pytest.approx(pixels.std(1, correction=0).tolist(), rel=1e-5)
    with pytest.warns(UserWarning, match="as their files suggest"):
        assert main(["datasets", "stats", str(root)]) == 0
    text = capsys.readouterr().out
    lines = text[text.index("[channels]") :].split("\n\n")[0]
    (root / "classes.toml").write_text(f'labels = ["soil", "crop", "water"]\n{lines}\n')
    assert FolderDataset(root).metadata.channels == channels
    assert seg_datasets.check(root).findings == []
    assert main(["datasets", "stats", str(root), "--config"]) == 0
    config = tomllib.loads(capsys.readouterr().out)
    assert ImageChannels(**config["data"]["dataset"]["params"]["channels"]) == channels
    assert main(["datasets", "stats", str(root), "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["splits"]["train"]["channels"]] == list(RGBN)


def test_preview_shows_the_channels_that_are_colors(tmp_path):
    pytest.importorskip("rasterio")
    pixels = np.zeros((96, 96, 4), np.uint16)
    pixels[..., 1] = 10000  # red
    for name in "ab":
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / f"images/{name}.tif").write_bytes(_geotiff(pixels, ("nir", "red", "green", "blue")))
        ids = np.full((96, 96), 255, np.uint8)
        ids[:8, :8], ids[:8, 8:16] = 0, 1
        Image.fromarray(ids).save(tmp_path / f"masks/{name}.png")
    sheet = seg_datasets.preview(
        tmp_path, num_classes=2, channels={"names": ["nir", "red", "green", "blue"], "range": [0, 10000]}
    )
    red, green, blue = sheet.reshape(-1, 3).astype(int).T
    assert ((red > 150) & (green < 130) & (blue < 130)).sum() > 5000
    assert ((green > 150) & (red < 130)).sum() < 1000  # but for the colors of the classes


def test_page_shows_files_of_many_bands(tmp_path):
    root = invented(tmp_path / "d", 4, 16, described=False)
    assert main(["datasets", "check", str(root), "--html", str(tmp_path / "r.html")]) == 1
    text = (tmp_path / "r.html").read_text()
    assert "cannot be shown" not in text
    assert "data:image" in text


def test_compare_of_described_channels(tmp_path, capsys):
    root = invented(tmp_path / "d", 2, 32)
    assert main(["datasets", "compare", str(root)]) == 0
    assert "mean of red, nir" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "edition", "option", "cls"),
    [("Potsdam", "RGBIR", {"bands": "RGBIR"}, Potsdam), ("Vaihingen", "full-height", {"height": True}, Vaihingen)],
)
def test_official_images_of_four_channels_are_clean(tmp_path, name, edition, option, cls):
    rasterio = pytest.importorskip("rasterio")
    root = fake(name, tmp_path / "d", edition=edition)
    assert seg_datasets.check(name, root, **option).findings == []
    dataset = cls(root, **option)
    files = dataset.file_names(0)
    stored = []
    for path in files[:-1]:
        with rasterio.open(path) as file:
            stored.append(file.read())
    assert np.array_equal(np.asarray(dataset[0][0]), np.concatenate(stored).astype(dataset[0][0].numpy().dtype))
    assert dataset.metadata.channels.count == 4
    if name == "Vaihingen":
        (root / "Vaihingen" if (root / "Vaihingen").is_dir() else root).joinpath(
            "dsm/dsm_09cm_matching_area1.tif"
        ).unlink()
        with pytest.raises(DatasetNotFoundError, match="1 of 16 images lack a file of dsm/"):
            cls(root, **option)
        assert seg_datasets.check(name, root, **option).counts() == {"missing-image": 1}
