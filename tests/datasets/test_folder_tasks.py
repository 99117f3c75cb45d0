"""FolderDataset of binary tasks: ids 0 and 1, label maps, thresholds."""

import numpy as np
import pytest
from PIL import Image

from seg_core import CorruptFileError, InvalidArgumentError, LabelOutOfRangeError
from seg_core.files.scan import scan_dataset
from seg_core.files.scan_findings import find_problems
from seg_core.labels.raw_ids import label_map_line
from seg_datasets import FolderDataset
from tests.datasets.own_folders import HEIGHT, WIDTH, image, mask

VESSEL = {"labels": ["vessel"], "task": "binary"}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


def ids(*row):
    return np.resize(np.array(row, np.uint8), (HEIGHT, WIDTH))


def write(root, *masks, suffix=".png"):
    for number, values in enumerate(masks):
        image(root / f"train/images/{number}.png", number)
        mask(root / f"train/masks/{number}{suffix}", values)
    return root


def test_ids_of_a_binary_task_are_0_1_and_ignored(tmp_path):
    dataset = FolderDataset(write(tmp_path, ids(0, 1, 255), ids(0)), VESSEL)
    assert (dataset[0][1].numpy() == ids(0, 1, 255)).all()
    assert dataset.metadata.num_classes == 1
    with pytest.raises(LabelOutOfRangeError, match=r"label_map = \{ 0 = 0, 255 = 1 \}.*threshold = 128"):
        _ = FolderDataset(write(tmp_path, ids(0, 7)), VESSEL)[0]


def test_classes_toml_may_say_that_the_task_is_binary(tmp_path):
    (write(tmp_path, ids(0, 1)) / "classes.toml").write_text('labels = ["vessel"]\ntask = "binary"\n')
    dataset = FolderDataset(tmp_path)
    assert dataset.metadata.task == "binary"
    assert set(dataset[0][1].unique().tolist()) == {0, 1}


def test_the_line_about_masks_of_0_and_255_works(tmp_path):
    write(tmp_path, ids(0, 255), ids(0))
    dataset = FolderDataset(tmp_path, VESSEL)
    (found,) = find_problems(scan_dataset(dataset), dataset.metadata)
    assert found.is_error
    assert label_map_line(found.label_map) == "label_map = { 0 = 0, 255 = 1 }"
    mended = FolderDataset(tmp_path, VESSEL, label_map={"0": 0, "255": 1})
    assert (mended[0][1].numpy() == ids(0, 1)).all()
    assert find_problems(scan_dataset(mended), mended.metadata) == []


def test_label_maps_of_a_binary_task_lead_to_0_1_and_ignored(tmp_path):
    write(tmp_path, ids(0, 128, 255))
    dataset = FolderDataset(tmp_path, VESSEL, label_map={0: 0, 128: "ignore", 255: 1})
    assert (dataset[0][1].numpy() == ids(0, 255, 1)).all()
    with pytest.raises(InvalidArgumentError, match="train ids 2.*binary task hold 0 for the background"):
        FolderDataset(tmp_path, VESSEL, label_map={0: 0, 128: 1, 255: 2})
    assert "binary task" in FolderDataset.option_problems(tmp_path, {"metadata": VESSEL, "label_map": {0: 2}})[0]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg"])
def test_threshold_reads_smoothed_and_lossy_masks(tmp_path, suffix):
    soft = np.zeros((HEIGHT, WIDTH), np.uint8)
    soft[:, 3:] = 250
    dataset = FolderDataset(write(tmp_path, soft, suffix=suffix), VESSEL, threshold=128)
    assert (dataset[0][1].numpy() == (soft >= 128)).all()
    scan = scan_dataset(dataset)
    assert scan.pixels.tolist() == [[12]]
    assert find_problems(scan, dataset.metadata) == []


def test_threshold_is_the_smallest_value_of_the_object(tmp_path):
    dataset = FolderDataset(write(tmp_path, ids(0, 127, 128, 255)), VESSEL, threshold=128)
    assert (dataset[0][1].numpy() == ids(0, 0, 1, 1)).all()


@pytest.mark.parametrize("mode", ["1", "RGB", "P", "LA"])
def test_threshold_takes_masks_of_other_modes(tmp_path, mode):
    gray = Image.fromarray(ids(0, 255))
    stored = gray.convert(mode)
    image(tmp_path / "images/a.png"), image(tmp_path / "images/b.png")
    (tmp_path / "masks").mkdir()
    for stem in "ab":
        stored.save(tmp_path / f"masks/{stem}.png")
    dataset = FolderDataset(tmp_path, VESSEL, threshold=128)
    assert (dataset[0][1].numpy() == ids(0, 1)).all()


def test_threshold_of_a_color_image_is_an_error(tmp_path):
    write(tmp_path, ids(0))
    image(tmp_path / "train/masks/0.png", 5)
    with pytest.raises(CorruptFileError, match="is a color image, and threshold = 128"):
        _ = FolderDataset(tmp_path, VESSEL, threshold=128)[0]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threshold": 0}, "threshold must be a gray value from 1 to 65535"),
        ({"threshold": 0.5}, "threshold must be a gray value from 1 to 65535"),
        ({"threshold": 128, "label_map": {0: 0}}, "label_map has nothing to convert"),
        ({"threshold": 128, "colors": True}, "colors has nothing to convert"),
        ({"colors": True}, "colors = true reads one class per pixel"),
    ],
)
def test_options_that_do_not_fit_a_binary_task_are_errors(tmp_path, options, text):
    write(tmp_path, ids(0))
    with pytest.raises(InvalidArgumentError, match=text):
        FolderDataset(tmp_path, VESSEL, **options)


def test_threshold_of_a_multiclass_task_is_an_error_that_names_the_binary_one(tmp_path):
    write(tmp_path, ids(0))
    with pytest.raises(InvalidArgumentError, match='task = "binary"'):
        FolderDataset(tmp_path, {"labels": ["a", "b"]}, threshold=128)
