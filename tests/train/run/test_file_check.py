"""The check of files before the first step of a run: what the doctor finds without decoding images."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import random_split

from seg_core.errors import ConfigError, CorruptFileError, LabelOutOfRangeError, UserError
from seg_core.files import mask_sources
from seg_core.model_files.build_spec import OBJECT
from seg_core.progress import PlainProgress
from seg_datasets import check, fake, get_dataset
from seg_datasets.doctor import headers
from seg_datasets.doctor.kinds import KINDS
from seg_train import Trainer, load_config

IMAGE, MASK, VAL_IMAGE = "train/images/t3.png", "train/masks/t3.png", "val/images/v1.png"
SIZE = (32, 24)  # width, height


def noise(number, size=SIZE):
    return np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)


def areas(size=SIZE):
    ids = np.zeros((size[1], size[0]), np.uint8)
    ids[: size[1] // 2] = 1
    return ids


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "own data"
    for split, count in (("train", 6), ("val", 3)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for number in range(count):
            name = f"{split[0]}{number}.png"
            Image.fromarray(noise(number + 100 * len(split))).save(root / split / "images" / name)
            Image.fromarray(areas()).save(root / split / "masks" / name)
    (root / "classes.toml").write_text('labels = ["ground", "thing"]\n')
    return root


@pytest.fixture
def start(tables, root, capsys):
    """Builds the trainer of a run on the folder, and returns what it printed."""

    def start(*settings, **own):
        tables["data"] |= {"check": "auto", "dataset": {"name": "FolderDataset", "root": str(root)}} | own
        Trainer(load_config(tables, list(settings)), progress=PlainProgress())
        return capsys.readouterr().err

    return start


def tagged(path, tag, size=SIZE):
    exif = Image.Exif()
    exif[274] = tag
    Image.fromarray(noise(7, size)).save(path, "PNG", exif=exif)


def jpeg_in(path):
    Image.fromarray(areas()).convert("L").save(path, "JPEG")


def oriented_mask(path):
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(areas()).save(path, exif=exif)


def float_mask(path):
    path.unlink()
    Image.fromarray(areas().astype(np.float32)).save(path.with_suffix(".tif"))


def color_mask(path):
    Image.fromarray(np.array([[0, 0, 0], [200, 10, 10]], np.uint8)[areas()]).save(path)


ERRORS = {
    "size-mismatch": (MASK, lambda path: Image.fromarray(areas((20, 24))).save(path)),
    "empty-file of an image": (IMAGE, lambda path: path.write_bytes(b"")),
    "empty-file of a mask": (MASK, lambda path: path.write_bytes(b"")),
    "unreadable-image": (IMAGE, lambda path: path.write_bytes(b"no image")),
    "unreadable-image that is gone": (IMAGE, lambda path: (path.unlink(), path.symlink_to("nowhere"))),
    "unreadable-mask": (MASK, lambda path: path.write_bytes(path.read_bytes()[:60])),
    "wrong-bit-depth of an image": (IMAGE, lambda path: Image.fromarray(areas().astype(np.uint16)).save(path)),
    "jpeg-mask": (MASK, jpeg_in),
    "orientation of a mask": (MASK, oriented_mask),
    "orientation of an image": (IMAGE, lambda path: tagged(path, 6)),
    "float-mask": (MASK, float_mask),
    "color-mask": (MASK, color_mask),
    "duplicate-across-splits": (VAL_IMAGE, lambda path: shutil.copy(path.parents[2] / IMAGE, path)),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_of_the_doctor_ends_a_run_before_its_first_step_with_the_same_sentences(case, root, start, tmp_path):
    file, plant = ERRORS[case]
    plant(root / file)
    with pytest.raises(CorruptFileError) as caught:
        start()
    text = str(caught.value)
    kind = case.partition(" ")[0]
    splits = None if kind == "duplicate-across-splits" else [file.partition("/")[0]]  # a run looks at one at a time
    found = next(one for one in check(root, splits=splits).findings if one.kind == kind)
    assert found.file.partition(".")[0] == file.partition(".")[0]
    assert text.startswith(f"{file.partition('/')[0]}: files are wrong:\n{kind}: {KINDS[kind].meaning}\n")
    assert f"  {found.file}: {found.detail}" in text
    assert f"  fix: {found.fix}\n" in text
    assert (f"  config: {found.config_line}\n" in text) == bool(found.config)
    assert text.endswith(f"\nseg datasets check '{root}' reads all files and lists everything")
    assert not list(tmp_path.glob("runs/*"))


def test_clean_files_give_one_line_that_names_the_doctor(root, start):
    lines = start().splitlines()
    assert (
        f"files: the headers of 9 images were read; seg datasets check '{root}' decodes them, and finds more" in lines
    )
    assert not [line for line in lines if "wrong" in line or "arning" in line]


def test_all_wrong_files_are_told_at_once_although_the_scan_ends_at_the_first(root, start):
    (root / MASK).write_bytes(b"")
    (root / "train/masks/t5.png").write_bytes(b"no mask")
    (root / "train/images/t1.png").write_bytes(b"")
    color_mask(root / "train/masks/t4.png")
    with pytest.raises(CorruptFileError) as caught:
        start()
    for part in ("empty-file (2): ", "unreadable-mask: ", "color-mask: ", "t1.png", "t3.png", "t4.png", "t5.png"):
        assert part in str(caught.value)


def test_the_config_line_of_an_error_makes_the_run_start(root, start):
    tagged(root / IMAGE, 6)
    with pytest.raises(CorruptFileError) as caught:
        start()
    line = str(caught.value).partition("seg train ... -s ")[2].partition("\n")[0].strip("'")
    assert line == 'data.dataset.params.orientation="stored"'
    start(line)


def test_masks_of_three_equal_channels_are_an_error_of_the_doctor_and_are_read_in_a_run(root, start):
    Image.open(root / MASK).convert("RGB").save(root / MASK)
    with pytest.warns(UserWarning, match="three channels are equal"):
        start()
    report = check(root)
    assert report.counts() == {"rgb-mask": 1}
    assert report.exit_code() == 1


def test_a_plain_image_in_both_splits_is_a_warning(root, start):
    for file in (IMAGE, VAL_IMAGE):
        Image.new("RGB", SIZE, "white").save(root / file)
    text = start()
    assert f"val: duplicate-across-splits: {KINDS['duplicate-across-splits'].meaning}" in text
    assert f"{VAL_IMAGE}: the file is the same as {IMAGE}, an image of one color: it is in train and val" in text


def test_a_run_that_scores_what_it_learns_from_is_told_nothing_of_duplicates(root, start, tables):
    own = {"name": "FolderDataset", "root": str(root), "val_split": "train"}
    assert "duplicate" not in start(dataset=own)


def test_off_looks_at_nothing(root, start):
    (root / IMAGE).write_bytes(b"")
    (root / MASK).write_bytes(b"")
    assert "files:" not in start(check="off")


def test_subsets_of_one_folder_are_checked_as_subsets(root, tables):
    whole = get_dataset("FolderDataset", root, "train")
    (root / IMAGE).write_bytes(b"")
    train, other = random_split(whole, [0.5, 0.5])
    train.indices, other.indices = [0, 1, 2], [4, 5]
    tables["data"] |= {"check": "full", "dataset": {"name": OBJECT}, "loader": {"batch_size": 1, "num_workers": 0}}
    Trainer(load_config(tables), train_set=train, val_set=other)  # the wrong file is in none
    other.indices = [4, 2]
    with pytest.raises(CorruptFileError, match="the image is listed twice: it is in train and val"):
        Trainer(load_config(tables), train_set=train, val_set=other)
    other.indices = [4, 3]
    with pytest.raises(CorruptFileError, match="the file has 0 bytes"):
        Trainer(load_config(tables), train_set=train, val_set=other)


def test_samples_that_are_more_than_files_are_not_checked(root, tables):
    train, val = (get_dataset("FolderDataset", root, split, transforms=lambda *own: own) for split in ("train", "val"))
    shutil.copy(root / IMAGE, root / VAL_IMAGE)
    assert train.file_faults("full", split="train", scan=None) is None
    tables["data"] |= {"check": "full", "dataset": {"name": OBJECT}}
    Trainer(load_config(tables), train_set=train, val_set=val)  # what these return is checked alone


def aged(root):
    """Makes files old enough to be remembered."""
    for path in root.rglob("*.png"):
        os.utime(path, (1e9, 1e9))


def test_a_second_start_reads_no_header_and_finds_the_same(root, start, monkeypatch):
    (root / IMAGE).write_bytes(b"no image")
    aged(root)
    with pytest.raises(CorruptFileError) as first:
        start()
    monkeypatch.setattr(headers, "read_header", None)
    with pytest.raises(CorruptFileError) as second:
        start()
    assert str(first.value) == str(second.value)


def test_a_file_that_was_changed_is_read_again(root, start):
    aged(root)
    start()
    (root / IMAGE).write_bytes(b"no image")
    with pytest.raises(CorruptFileError, match=r"train/images/t3\.png: the image cannot be read"):
        start()


def test_a_sample_of_many_images_is_read_and_said_to_be_one(root, start, monkeypatch):
    monkeypatch.setattr(mask_sources, "SAMPLE_SIZE", 2)
    (root / "train/images/t1.png").write_bytes(b"")  # not among 0 and 3
    assert "files: the headers of 4 of 9 images were read; " in start(check="sample")
    with pytest.raises(CorruptFileError, match="the file has 0 bytes"):
        start(check="full")


def test_ids_that_are_no_class_are_told_first(root, start):
    Image.fromarray(areas() * 7).save(root / MASK)
    (root / IMAGE).write_bytes(b"")
    with pytest.raises(LabelOutOfRangeError):
        start()


def test_official_splits_may_share_an_image(tmp_path, tables, capsys):
    camvid = fake("CamVid", tmp_path / "x")
    train, val = (get_dataset("CamVid", camvid, split) for split in ("train", "val"))
    shutil.copy(train.file_names(0)[0], val.file_names(0)[0])
    tables["data"] |= {"check": "full", "dataset": {"name": "CamVid", "root": str(camvid)}}
    tables["data"]["loader"]["batch_size"] = 1
    Trainer(load_config(tables), progress=PlainProgress())
    text = capsys.readouterr().err
    assert "val: duplicate-across-splits: " in text
    assert f"seg datasets check CamVid --root {camvid} decodes them" in text


def test_errors_are_errors_of_users(root, start):
    (root / IMAGE).write_bytes(b"")
    with pytest.raises(UserError) as caught:
        start()
    assert not isinstance(caught.value, ConfigError)
    assert caught.value.exit_code == 1
