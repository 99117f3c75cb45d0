"""seg_datasets.check of folders of binary and multilabel tasks."""

import numpy as np
import pytest
from PIL import Image

import seg_datasets
from seg_core import InvalidArgumentError
from seg_core.command import main
from seg_datasets import FolderDataset, fake
from tests.datasets.own_folders import HEIGHT, WIDTH, image, mask


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


def ids(*row):
    return np.resize(np.array(row, np.uint8), (HEIGHT, WIDTH))


def vessels(root, *masks, suffix=".png"):
    """A binary set with the same masks in train and val."""
    (root / "classes.toml").write_text('labels = ["vessel"]\ntask = "binary"\n')
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number, values in enumerate(masks):
            path = root / f"{split}/images/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
            mask(root / f"{split}/masks/{number}{suffix}", values)
    return root


def found(root, **options):
    return {one.kind: one for one in seg_datasets.check(root, **options).findings}


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_fakes_have_no_findings(tmp_path, task):
    root = fake("FolderDataset", tmp_path / "a", task=task, size=(48, 64), images_per_split=3)
    assert found(root) == {}


def test_masks_of_0_and_255_are_told_with_the_line_that_reads_them(tmp_path):
    root = vessels(tmp_path, ids(0, 255, 0), ids(0, 0, 255))
    report = found(root)
    assert list(report) == ["binary-0-255"]
    assert report["binary-0-255"].config == "data.dataset.params.label_map = { 0 = 0, 255 = 1 }"
    assert report["binary-0-255"].fix.startswith("Read 255 as 1 with this label_map")
    assert found(root, label_map={0: 0, 255: 1}) == {}


def test_ids_of_a_binary_task_are_not_one_too_high(tmp_path):
    report = found(vessels(tmp_path, ids(1, 2, 1), ids(2, 1, 1)))
    assert list(report) == ["id-out-of-range"]
    assert "those of a binary task are 0 and 1" in report["id-out-of-range"].detail
    assert report["id-out-of-range"].config.endswith("label_map = { 1 = 0, 2 = 1 }")


def test_a_class_that_no_mask_has_is_a_warning(tmp_path):
    report = found(vessels(tmp_path, ids(0, 1, 255), ids(0), ids(1, 0)))
    assert report == {}
    other = tmp_path / "other"
    other.mkdir()
    report = found(vessels(other, ids(0)))
    assert list(report) == ["class-absent"]
    assert "0 (vessel)" in report["class-absent"].detail


def test_smoothed_masks_of_a_binary_task_name_a_threshold_that_works(tmp_path):
    soft = np.zeros((24, 24), np.uint8)
    soft[6:18, 6:18] = 255
    soft = np.asarray(Image.fromarray(soft).resize((36, 36), Image.Resampling.BILINEAR))
    root = vessels(tmp_path, soft, np.ascontiguousarray(soft[::-1, ::-1]))
    for path in root.glob("*/images/*.png"):
        Image.open(path).resize((36, 36)).save(path)
    report = found(root)
    assert report["antialiased-mask"].config == "data.dataset.params.threshold = 128"
    assert not set(found(root, threshold=128)) & {"antialiased-mask", "id-out-of-range"}


def test_planes_without_their_class_are_named(tmp_path):
    root = fake("FolderDataset", tmp_path / "a", task="multilabel", size=(48, 64), images_per_split=2)
    for path in root.glob("train/masks/*.tif"):
        empty = Image.fromarray(np.zeros((48, 64), np.uint8))
        full = Image.fromarray(np.eye(48, 64, dtype=np.uint8))
        full.save(path, save_all=True, append_images=[empty, full])
    report = found(root)
    assert list(report) == ["class-absent"]
    assert "1 (green disc)" in report["class-absent"].detail


def test_files_per_class_are_checked(tmp_path):
    labels, options = ("one", "two"), {"images": "{split}/images", "masks": "{split}/masks/{class}"}
    classes = {"labels": list(labels), "task": "multilabel"}
    rng = np.random.default_rng(1)
    for split in ("train", "val"):
        for stem in "ab":
            image(tmp_path / f"{split}/images/{stem}.png")
            Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(
                tmp_path / f"{split}/images/{stem}.png"
            )
            for place, label in enumerate(labels):
                mask(tmp_path / f"{split}/masks/{label}/{stem}.png", ids(*([0] * place), 1, 0, 0))
    assert len(FolderDataset(tmp_path, classes, **options)) == 2
    assert found(tmp_path, classes=classes, **options) == {}
    mask(tmp_path / "val/masks/two/a.png", ids(0, 7))
    report = found(tmp_path, classes=classes, **options)
    assert set(report) == {"id-out-of-range"}
    (tmp_path / "val/masks/two/a.png").write_bytes(b"")
    assert set(found(tmp_path, classes=classes, **options)) == {"empty-file"}


def test_bits_of_no_class_are_a_finding(tmp_path):
    root = vessels(tmp_path, ids(1, 2, 3, 0))
    (root / "classes.toml").write_text('labels = ["a", "b"]\ntask = "multilabel"\n')
    assert found(root, masks_as="bits") == {}
    mask(root / "val/masks/0.png", ids(9))
    report = found(root, masks_as="bits")
    assert "with bits of no class" in report["unreadable-mask"].detail


def test_one_class_without_a_task_whose_masks_are_0_and_255_is_told_with_the_task_that_reads_them(tmp_path, capsys):
    root = vessels(tmp_path, ids(0, 255, 0), ids(0, 0, 255), ids(0))
    (root / "classes.toml").write_text('labels = ["vessel"]\n')
    report = found(root)
    assert list(report) == ["binary-0-255"]
    assert "there is one class, 'vessel', where two are needed (4 masks)" in report["binary-0-255"].detail
    assert 'rite task = "binary" beside labels = ["vessel"]' in report["binary-0-255"].fix
    assert report["binary-0-255"].config == "data.dataset.params.label_map = { 0 = 0, 255 = 1 }"
    assert main(["datasets", "check", str(root), "--strict"]) == 1
    assert 'task = "binary"' in capsys.readouterr().out
    (root / "classes.toml").write_text('labels = ["vessel"]\ntask = "binary"\n')
    assert found(root, label_map={0: 0, 255: 1}) == {}


@pytest.mark.parametrize("row", [(0, 1), (0, 1, 255), (0,), (0, 2)])
def test_one_class_without_a_task_is_an_error_as_for_what_reads_the_folder(tmp_path, capsys, row):
    root = vessels(tmp_path, ids(*row), ids(*row))
    (root / "classes.toml").write_text('labels = ["vessel"]\n')
    with pytest.raises(InvalidArgumentError, match="has one class, 'vessel', but at least two are needed"):
        found(root)
    assert main(["datasets", "check", str(root), "--strict"]) == 2
    assert 'write task = "binary"' in capsys.readouterr().err


def test_one_color_is_an_error(tmp_path):
    root = vessels(tmp_path, ids(0, 1, 0))
    (root / "classes.toml").write_text('labels = ["vessel"]\ncolors = [[255, 0, 0]]\n')
    for path in root.glob("*/masks/*.png"):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), (255, 0, 0), np.uint8)).save(path)
    with pytest.raises(InvalidArgumentError, match="at least two are needed"):
        found(root, colors=True)
