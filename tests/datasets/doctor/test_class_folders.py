"""The doctor on masks with a file per class, and on other forms of the masks of a multilabel task."""

import shlex

import numpy as np
import pytest
from PIL import Image

import seg_datasets
from seg_core import DatasetNotFoundError, InvalidArgumentError, LabelMap, UnknownNameError
from seg_core.command import main
from seg_datasets import FolderDataset
from tests.datasets.class_folders import HEIGHT, LABELS, OPTIONS, WIDTH, planes, write


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


def findings(root, **options):
    return list(seg_datasets.check(root, **{**OPTIONS, **options}).findings)


def change(path, ids):
    Image.fromarray(np.asarray(ids, np.uint8)).save(path)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_the_missing_file_of_a_class_is_found_with_the_option_that_calls_it_absent(tmp_path):
    root = write(tmp_path)
    (root / "train/masks/square/s1.png").unlink()
    (one,) = findings(root)
    assert (one.kind, one.severity, one.file) == ("missing-mask", "error", "train/images/s1.png")
    assert one.detail == "the image has no mask of class square in train: there is no train/masks/square/s1.png"
    assert one.config == 'data.dataset.params.missing_class = "absent"'
    assert findings(root, missing_class="absent") == []
    with pytest.raises(DatasetNotFoundError, match=r"s1.png has none of square. .* set missing_class = 'absent'"):
        FolderDataset(root, **OPTIONS)
    # what is left out is told still
    (one,) = findings(root, missing="skip")
    assert (one.kind, one.severity) == ("missing-mask", "warning")


def test_the_missing_file_is_named_by_the_pattern(tmp_path):
    root = write(tmp_path, counts=(("train", 2), ("val", 2)))
    for path in root.glob("*/masks/*/*.png"):
        path.rename(path.parents[1] / f"{path.stem}_{path.parent.name}.png")
    (root / "val/masks/s3_round.png").unlink()
    (one,) = findings(root, masks="{split}/masks/*_{class}.png")
    assert one.detail.endswith("there is no val/masks/s3_round.png")


def test_a_file_of_a_class_in_a_lossy_format_is_told_as_such(tmp_path):
    root = write(tmp_path)
    path = root / "train/masks/dark/s0.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()
    (one,) = findings(root)
    assert (one.kind, one.file) == ("jpeg-mask", "train/masks/dark/s0.jpg")


def test_findings_name_the_file_of_the_class(tmp_path):
    root = write(tmp_path, counts=(("train", 6), ("val", 2)))
    masks = root / "train/masks"
    (masks / "round/s0.png").write_bytes(b"")
    (masks / "square/s0.png").write_bytes(b"no image")  # the second of the same image is told, too
    change(masks / "square/s1.png", np.zeros((9, 9)))
    for label in LABELS:
        change(masks / label / "s2.png", np.zeros((9, 9)))
    change(masks / "round/s3.png", 7 * planes(3)[0])
    Image.open(masks / "square/s4.png").convert("RGB").save(masks / "square/s4.png")
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), (200, 10, 10), np.uint8)).save(masks / "round/s5.png")
    found = {(one.kind, *one.files) for one in findings(root)}
    assert found == {
        ("empty-file", "train/masks/round/s0.png"),
        ("unreadable-mask", "train/masks/square/s0.png"),
        ("size-mismatch", "train/masks/square/s1.png"),
        ("size-mismatch", *(f"train/masks/{label}/s2.png" for label in LABELS)),
        ("id-out-of-range", "train/masks/round/s3.png"),
        ("rgb-mask", "train/masks/square/s4.png"),
        ("color-mask", "train/masks/round/s5.png"),
    }
    # such masks cannot be read by colors
    assert not any("colors" in one.config for one in findings(root))


def test_the_check_before_a_run_names_the_file_of_the_class(tmp_path, capsys):
    root = write(tmp_path)
    (root / "train/masks/square/s1.png").write_bytes(b"no image")
    dataset = FolderDataset(root, **OPTIONS)
    report = dataset.file_faults(split="train", scan=None)
    assert [(fault.kind, fault.files) for fault in report.faults] == [
        ("unreadable-mask", ["train/masks/square/s1.png"])
    ]
    # the command that is named reads the folder as the run does
    program, *words = shlex.split(report.rest)
    assert (program, words[:3]) == ("seg", ["datasets", "check", str(root)])
    assert main(words) == 1
    assert "train/masks/square/s1.png: the mask cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        {"label_map": {0: 0, 255: 1}},
        {"label_map": LabelMap({0: 0, 255: 1})},
        {"threshold": 128},
        {"metadata": {"labels": ["a", "b"]}, "label_map": {"0": "ignore", "255": 1}, "missing": "skip"},
    ],
)
def test_the_command_that_reads_all_files_has_the_options(tmp_path, options, capsys):
    root = write(tmp_path, how="binary", values=(255, 255, 255))
    report = FolderDataset(root, **options).file_faults(split="train", scan=None)
    assert main(shlex.split(report.rest)[1:]) == 0
    assert "is clean" in capsys.readouterr().out


def test_files_of_all_classes_are_counted(tmp_path):
    assert seg_datasets.check(write(tmp_path), **OPTIONS).summary["files"] == 5 * 4


def test_masks_beside_each_other_are_told_with_the_pattern_that_reads_them(tmp_path):
    root = write(tmp_path)
    with pytest.raises(DatasetNotFoundError, match="dark, round, square hold masks .* masks = '{split}/masks/{class}'"):
        FolderDataset(root)


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["files", "pages", "bands", "npy"])
def test_planes_of_0_and_255_are_an_error_whose_line_mends_it(tmp_path, how):
    root = write(tmp_path, how=how, values=(255, 255, 255))
    options = OPTIONS if how == "files" else {}
    (one,) = seg_datasets.check(root, **options).findings
    assert (one.kind, one.severity) == ("binary-0-255", "error")
    assert one.config == "data.dataset.params.label_map = { 0 = 0, 255 = 1 }"
    assert seg_datasets.check(root, label_map={0: 0, 255: 1}, **options).findings == []


@pytest.mark.parametrize("how", ["files", "pages", "bands", "npy"])
def test_a_single_class_of_0_and_255_is_an_error_whose_line_mends_it(tmp_path, how):
    root = write(tmp_path, how=how, values=(1, 255, 1))
    options = OPTIONS if how == "files" else {}
    (one,) = seg_datasets.check(root, **options).findings
    assert (one.kind, one.severity) == ("binary-0-255", "error")
    assert one.detail.startswith("there is no 1 but 255 for class 1 (square), and 1 for others")
    assert one.config == "data.dataset.params.label_map = { 0 = 0, 1 = 1, 255 = 1 }"
    assert len(one.files) == 5
    assert all("/square/" in file for file in one.files) == (how == "files")
    assert seg_datasets.check(root, label_map={0: 0, 1: 1, 255: 1}, **options).findings == []


def test_files_of_a_class_that_hold_255_in_some_masks_are_named(tmp_path):
    root = write(tmp_path, counts=(("train", 6), ("val", 2)))
    for number in (1, 4):
        change(root / f"train/masks/dark/s{number}.png", 255 * planes(number)[2])
    (one,) = findings(root)
    assert one.files == ("train/masks/dark/s1.png", "train/masks/dark/s4.png")
    assert "there is no 1 but 255 for class 2 (dark) in these masks, and 1 in 6 others" in one.detail


def test_a_class_beside_really_ignored_pixels_is_mended_by_its_files(tmp_path):
    root = write(tmp_path, values=(1, 255, 1))
    for number, split in enumerate(("train", "train", "train", "val", "val")):
        ids = planes(number)[2]
        ids[0, -4:] = 255
        change(root / f"{split}/masks/dark/s{number}.png", ids)
    (one,) = findings(root)
    assert one.kind == "binary-0-255"
    assert not one.config
    assert "Image.fromarray((mask == 255).astype('uint8')).save(OUT)" in one.fix
    for path in root.glob("*/masks/square/*.png"):
        mask = np.asarray(Image.open(path))
        change(path, mask == 255)
    assert findings(root) == []


def test_an_area_that_is_ignored_in_all_classes_is_no_fault(tmp_path):
    root = write(tmp_path)
    for path in root.glob("*/masks/*/*.png"):
        mask = np.array(Image.open(path))
        mask[:, -5:] = 255
        change(path, np.where(mask == 255, 255, 0) if path.parent.name == "square" else mask)
    found = findings(root)
    assert {one.kind for one in found} == {"class-absent"}
    assert all("1 (square)" in one.detail for one in found)


def test_a_class_that_is_ignored_everywhere_is_told(tmp_path):
    root = write(tmp_path)
    for path in root.glob("val/masks/dark/*.png"):
        change(path, np.full((HEIGHT, WIDTH), 255))
    (one,) = findings(root)
    assert (one.kind, one.file) == ("all-ignored", "val")
    assert "all pixels of class 2 (dark) are ignored in all masks of val, so it cannot be scored" in one.detail


def test_a_split_without_a_1_is_an_error_although_another_has_ignored_pixels(tmp_path):
    root = write(tmp_path, how="binary", counts=(("train", 6), ("val", 2)))
    for path in root.glob("train/masks/*.png"):
        mask = np.array(Image.open(path))
        mask[0, 0] = 255
        change(path, mask)
    for path in root.glob("val/masks/*.png"):
        change(path, 255 * np.array(Image.open(path)))
    (one,) = seg_datasets.check(root).findings
    assert (one.kind, one.severity, one.file) == ("class-absent", "error", "val")
    assert "all pixels are background or ignored: if 255 is the object in these masks, save them with 1" in one.detail


def test_masks_of_one_band_name_the_option_for_bits(tmp_path):
    root = write(tmp_path, how="bits")
    found = seg_datasets.check(root).findings
    assert {(one.kind, one.config) for one in found} == {("unreadable-mask", 'data.dataset.params.masks_as = "bits"')}
    assert found[0].detail == "the mask does not hold 3 planes of 8 bits, but 1 band"
    assert seg_datasets.check(root, masks_as="bits").findings == []


def test_jpeg_masks_of_a_binary_task_name_a_threshold_that_works(tmp_path):
    root = write(tmp_path, how="binary", values=(255, 255, 255))
    for path in root.glob("*/masks/*.png"):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    found = seg_datasets.check(root).findings
    assert {(one.kind, one.config) for one in found} == {("jpeg-mask", "data.dataset.params.threshold = 128")}
    assert seg_datasets.check(root, threshold=128).findings == []


# ---- statistics, comparison, sheet -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("files", OPTIONS),
        ("files", {}),  # found by the folders
        ("pages", {}),
        ("bands", {}),
        ("npy", {}),
        ("bits", {"masks_as": "bits"}),
        ("bits", {}),
    ],
)
@pytest.mark.filterwarnings("ignore:the masks in .* are read with:UserWarning")
def test_statistics_of_all_forms_are_the_same(tmp_path, how, options):
    root = write(tmp_path, how=how)
    found = seg_datasets.stats(root, **options).splits["train"]
    assert found.pixels.tolist() == sum(planes(number).sum((1, 2), dtype=int) for number in range(3)).tolist()
    assert found.images.tolist() == [3, 3, 3]
    assert seg_datasets.compare(root, **options).sides[0].stats.pixels.tolist() == found.pixels.tolist()
    sheet = seg_datasets.preview(root, class_name="square", split="val", **options)
    assert sheet.ndim == 3


@pytest.mark.parametrize("how", ["files", "binary"])
@pytest.mark.filterwarnings("ignore:the masks in .* are read with:UserWarning")
def test_statistics_of_masks_of_0_and_255_are_of_what_they_show(tmp_path, how):
    root = write(tmp_path, how=how, values=(255, 255, 255))
    found = seg_datasets.stats(root, **(OPTIONS if how == "files" else {})).splits["val"]
    assert found.pixels[0] == sum(planes(number)[0].sum(dtype=int) for number in (3, 4))
    assert found.ignored == 0


def test_options_without_the_classes_they_need_say_what_to_write(tmp_path):
    root = write(tmp_path, classes=False)
    for action in (seg_datasets.check, seg_datasets.stats):
        with pytest.raises((InvalidArgumentError, DatasetNotFoundError), match=r'two lines such as .* task = "multil'):
            action(root, **OPTIONS)
    write(root)
    assert findings(root) == []


def test_options_of_another_task_are_an_error_that_names_it(tmp_path):
    root = write(tmp_path)
    with pytest.raises(InvalidArgumentError, match=r"threshold is of a binary task, and the classes are of a multilab"):
        seg_datasets.check(root, threshold=128)


def test_a_class_of_a_set_of_one_is_named(tmp_path):
    root = write(tmp_path, how="binary")
    with pytest.raises(UnknownNameError, match="Did you mean 'round'"):
        seg_datasets.preview(root, class_name="rond")
