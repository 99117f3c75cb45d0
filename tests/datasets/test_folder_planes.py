"""FolderDataset of multilabel tasks: masks of planes from a file per class, pages, bands, arrays and bits."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core import CorruptFileError, DatasetNotFoundError, InvalidArgumentError, LabelOutOfRangeError
from seg_core.files.scan import scan_dataset
from seg_datasets import FolderDataset
from seg_datasets.reading.pairs import PairList
from tests.datasets.own_folders import HEIGHT, WIDTH, image, mask

LABELS = ("disc", "cup", "rim line")
DISCS = {"labels": list(LABELS), "task": "multilabel"}
IN_FOLDERS = {"images": "{split}/images", "masks": "{split}/masks/{class}"}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


def planes(number=0):
    """Planes (K, H, W) that overlap, with ignored pixels in one."""
    result = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    result[0, :, 1:], result[1, 1:, 2 + number :], result[2, 0, 0] = 1, 1, 255
    return result


def write(root, save, count=2):
    for number in range(count):
        image(root / f"train/images/{number}.png", number)
        (root / "train/masks").mkdir(parents=True, exist_ok=True)
        save(root / "train/masks", str(number), planes(number))
    return root


def per_class(folder, stem, values):
    for label, plane in zip(LABELS, values, strict=True):
        mask(folder / label / f"{stem}.png", plane)


def pages(folder, stem, values):
    first, *others = map(Image.fromarray, values)
    first.save(folder / f"{stem}.tif", save_all=True, append_images=others)


def bands(folder, stem, values):
    Image.fromarray(np.ascontiguousarray(values.transpose(1, 2, 0))).save(folder / f"{stem}.png")


def array(folder, stem, values):
    np.save(folder / f"{stem}.npy", values)


def check(dataset):
    for number in range(len(dataset)):
        found = dataset[number][1]
        assert type(found).__name__ == "Mask"
        assert found.dtype == torch.uint8
        assert (found.numpy() == planes(number)).all()
    scan = scan_dataset(dataset)
    assert scan.pixels.tolist() == [[int((plane == 1).sum()) for plane in planes(number)] for number in range(2)]
    assert scan.ignored.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("save", "options"),
    [(per_class, IN_FOLDERS), (pages, {}), (bands, {}), (array, {}), (array, {"masks_as": "planes"})],
)
def test_planes_are_read_from_files_of_each_kind(tmp_path, save, options):
    dataset = FolderDataset(write(tmp_path, save), DISCS, **options)
    check(dataset)
    assert FolderDataset.option_problems(tmp_path, {"metadata": DISCS, **options}) == []
    check(pickle.loads(pickle.dumps(dataset)))
    whole = dataset[1]
    part = dataset.read_window(1, 1, 2, 2, 3)
    assert torch.equal(part[0], whole[0][:, 1:3, 2:5])
    assert torch.equal(part[1], whole[1][:, 1:3, 2:5])


def test_classes_may_be_at_the_end_of_names(tmp_path):
    def save(folder, stem, values):
        for label, plane in zip(LABELS, values, strict=True):
            mask(folder / f"{stem}_{label}.png", plane)

    dataset = FolderDataset(
        write(tmp_path, save), DISCS, images="train/images", masks="train/masks/*_{class}.png", val_fraction=0.5
    )
    other = FolderDataset(
        tmp_path, DISCS, "val", images="train/images", masks="train/masks/*_{class}.png", val_fraction=0.5
    )
    for one in (dataset, other):
        stem = int(one.pair(0).image.stem)
        assert (one[0][1].numpy() == planes(stem)).all()
        assert [path.name for path in one.pair(0).planes] == [f"{stem}_{label}.png" for label in LABELS]
        assert len(one.file_names(0)) == 4


def test_a_missing_file_is_an_error_or_an_absent_class(tmp_path):
    write(tmp_path, per_class)
    (tmp_path / "train/masks/cup/1.png").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"1 of 2 images lack .* 1\.png has none of cup.*missing_class = 'a"):
        FolderDataset(tmp_path, DISCS, **IN_FOLDERS)
    dataset = FolderDataset(tmp_path, DISCS, **IN_FOLDERS, missing_class="absent")
    expected = planes(1)
    expected[1] = 0
    assert (dataset[1][1].numpy() == expected).all()
    assert (dataset[0][1].numpy() == planes(0)).all()
    with pytest.warns(UserWarning, match="these images are left out"):
        assert len(FolderDataset(tmp_path, DISCS, **IN_FOLDERS, missing="skip")) == 1


def test_images_left_out_for_a_class_do_not_part_the_groups_of_the_others(tmp_path):
    names = [f"{group}_{number}" for group in "abcdefgh" for number in range(3)]
    for name in names:
        image(tmp_path / f"images/{name}.png")
        for label in LABELS:
            mask(tmp_path / f"masks/{label}/{name}.png", 0)
    for name in ("a_0", "c_1"):
        (tmp_path / f"masks/cup/{name}.png").unlink()
    options = {"images": "images", "masks": "masks/{class}", "groups": "^(.)_", "missing": "skip"}
    stems = []
    for split in ("train", "val"):
        with pytest.warns(UserWarning, match="these images are left out"):
            dataset = FolderDataset(tmp_path, DISCS, split, **options)
        stems.append([dataset.pair(index).image.stem for index in range(len(dataset))])
    train, val = stems
    assert sorted(train + val) == sorted(set(names) - {"a_0", "c_1"})
    assert not {stem[0] for stem in train} & {stem[0] for stem in val}


def test_an_absent_class_is_0_although_the_label_map_has_no_such_id(tmp_path):
    image(tmp_path / "train/images/a.png")
    mask(tmp_path / "train/masks/disc/a.png", np.resize(np.array([7, 9], np.uint8), (HEIGHT, WIDTH)))
    dataset = FolderDataset(tmp_path, DISCS, **IN_FOLDERS, missing_class="absent", label_map={7: 0, 9: 1})
    assert dataset[0][1].flatten(1).sum(1).tolist() == [HEIGHT * WIDTH // 2, 0, 0]


def test_planes_of_0_and_255_are_read_by_a_label_map(tmp_path):
    write(tmp_path, lambda folder, stem, values: array(folder, stem, (values == 1) * np.uint8(255)))
    dataset = FolderDataset(tmp_path, DISCS, label_map={0: 0, 255: 1})
    assert (dataset[1][1].numpy() == (planes(1) == 1)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bits_are_classes(tmp_path, dtype):
    def save(folder, stem, values):
        ids = sum((plane == 1).astype(dtype) << place for place, plane in enumerate(values))
        ids[values[2] == 255] = 255
        Image.fromarray(ids.astype(dtype)).save(folder / f"{stem}.png")

    dataset = FolderDataset(write(tmp_path, save), DISCS, masks_as="bits")
    for number in range(2):
        expected = planes(number)
        expected[:, 0, 0] = 255  # a value of all bits is ignored in all planes
        assert (dataset[number][1].numpy() == expected).all()
    assert scan_dataset(dataset).ignored.tolist() == [3, 3]


def test_bits_of_no_class_are_an_error(tmp_path):
    write(tmp_path, lambda folder, stem, _: mask(folder / f"{stem}.png", 9))
    with pytest.raises(LabelOutOfRangeError, match="holds 9, with bits of no class: 3 classes have the values 0 to 7"):
        _ = FolderDataset(tmp_path, DISCS, masks_as="bits")[0]


def test_all_bits_of_eight_classes_are_all_classes(tmp_path):
    write(tmp_path, lambda folder, stem, _: mask(folder / f"{stem}.png", 255))
    metadata = {"labels": [f"c{i}" for i in range(8)], "task": "multilabel"}
    assert (FolderDataset(tmp_path, metadata, masks_as="bits")[0][1] == 1).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"masks_as": "bands"}, "masks_as must be"),
        ({"masks_as": "bits", "label_map": {0: 0}}, "label_map has nothing to convert"),
        ({"masks_as": "bits", **IN_FOLDERS}, "masks_as = 'bits' is of masks in one file"),
        ({"missing_class": "absent"}, "is of masks with a file per class"),
        ({"missing_class": "skip", **IN_FOLDERS}, "missing_class must be"),
        ({"threshold": 128}, "threshold = 128 is of a binary task"),
        ({"label_map": {0: 2}}, "multilabel task hold 0"),
    ],
)
def test_options_that_do_not_fit_are_errors(tmp_path, options, text):
    write(tmp_path, array)
    with pytest.raises(InvalidArgumentError, match=text):
        FolderDataset(tmp_path, DISCS, **options)
    with pytest.raises(InvalidArgumentError, match='task = "multilabel"'):
        FolderDataset(tmp_path, {"labels": ["a", "b"]}, masks_as="bits")


def test_files_without_planes_say_what_is_read_how(tmp_path):
    write(tmp_path, lambda folder, stem, _: mask(folder / f"{stem}.png", 1))
    with pytest.raises(CorruptFileError, match='does not hold 3 planes.*masks/{class}.*masks_as = "bits"'):
        _ = FolderDataset(tmp_path, DISCS)[0]
    other = tmp_path / "other"
    write(other, lambda folder, stem, values: array(folder, stem, values[:2]))
    with pytest.raises(CorruptFileError, match=r"shape \(2, 4, 6\) of uint8; a mask of 3 classes is \(3, height"):
        _ = FolderDataset(other, DISCS)[0]


def test_masks_of_the_classes_must_have_one_size(tmp_path):
    write(tmp_path, per_class)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "train/masks/cup/0.png")
    with pytest.raises(CorruptFileError, match="cup/0.png has 2x2 pixels"):
        _ = FolderDataset(tmp_path, DISCS, **IN_FOLDERS)[0]


def test_lists_of_pairs_keep_the_files_of_each_class(tmp_path):
    write(tmp_path, per_class)
    (tmp_path / "train/masks/disc/1.png").unlink()
    dataset = FolderDataset(tmp_path, DISCS, **IN_FOLDERS, missing_class="absent")
    pairs = [dataset.pair(index) for index in range(2)]
    assert pairs[1].planes[0] is None
    assert pairs[1].mask == pairs[1].planes[1]
    again = PairList(pairs)
    assert list(again) == pairs
    assert list(again.where([False, True])) == pairs[1:]
    assert again.names(1) == pairs[1].names()
