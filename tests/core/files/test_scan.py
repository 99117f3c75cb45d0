"""The scan of masks: what it finds, what it remembers, and which masks it reads."""

import dataclasses
import os
import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core import IGNORE, CorruptFileError, DatasetMetadata, InvalidArgumentError, LabelMap, LabelOutOfRangeError
from seg_core.files import mask_sources, scan_cache
from seg_core.files.images import read_mask
from seg_core.files.scan import MaskFile, cache_folder, scan_dataset, scan_masks
from seg_core.files.scan_findings import describe_scan
from tests.core.files.mask_datasets import InFiles, InMemory, masks


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path / "cache"))


class Reader:
    """Reads masks, and counts how often."""

    def __init__(self):
        self.names = []

    def __call__(self, path):
        self.names.append(path.name)
        return read_mask(path)


@pytest.fixture
def write(tmp_path):
    """Writes masks that were changed an hour ago; returns them as files of a dataset with three classes."""

    def write(*masks, read=read_mask, reader="ids", label_map=None):
        files = []
        for number, mask in enumerate(masks):
            path = tmp_path / f"{number}.png"
            Image.fromarray(mask if isinstance(mask, np.ndarray) else np.array(mask, np.uint8)).save(path)
            os.utime(path, ns=(0, 10**18 + number))
            files.append(MaskFile(path, read, reader, label_map or LabelMap.identity(3, 255)))
        return files

    return write


# ---- what is found ---------------------------------------------------------------------------------------------------


def test_masks_give_size_and_pixels_of_each_id(write):
    wide = np.array([[300, 300, 7]], np.uint16)
    assert scan_masks(write([[0, 0, 1], [1, 255, 1]], wide)) == [(2, 3, {0: 2, 1: 3, 255: 1}), (1, 3, {7: 1, 300: 2})]


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_dataset_gives_pixels_per_class_ignored_and_sizes(write, kind):
    rows = masks([0, 0, 1, 255], [1, 1, 1])
    found = scan_dataset(InFiles(write(*rows)) if kind == "files" else InMemory(*rows))
    assert found.pixels.tolist() == [[2, 1, 0], [0, 3, 0]]
    assert found.ignored.tolist() == [1, 0]
    assert found.sizes.tolist() == [[1, 4], [1, 3]]
    assert found.raw_ids == {0: {0}, 1: {1}, None: {255}}
    assert found.is_complete
    assert (found.wrong_ids, found.problem) == ({}, "")


def test_label_map_converts_the_ids_of_files(write):
    label_map = LabelMap({10: 0, 20: 2, 21: 2, 30: IGNORE})
    found = scan_dataset(InFiles(write(*masks([10, 20, 21, 30, 30]), label_map=label_map)))
    assert found.pixels.tolist() == [[1, 0, 2]]
    assert found.ignored.tolist() == [2]
    assert found.raw_ids == {0: {10}, 2: {20, 21}, None: {30}}


def test_label_map_that_ignores_others_has_no_wrong_ids(write):
    found = scan_dataset(InFiles(write(*masks([1, 99]), label_map=LabelMap({1: 0}, unlisted="ignore"))))
    assert (found.ignored.tolist(), found.wrong_ids) == ([1], {})


def test_wrong_ids_are_counted_and_the_first_file_is_named(write):
    files = write(*masks([0], [0, 3, 3, 9], [9]))
    found = scan_dataset(InFiles(files))
    assert found.wrong_ids == {3: 2, 9: 2}
    with pytest.raises(LabelOutOfRangeError) as caught:
        found.check_ids()
    assert f"mask {files[1].path} contains ids that are not allowed: 3 (2 pixels), 9 (1 pixel)" in str(caught.value)
    assert "Allowed: 0-2, 255; correct the mask" in str(caught.value)


def test_other_classes_than_those_of_the_files_are_checked_on_the_samples():
    found = scan_dataset(InMemory([[0, 4]]), num_classes=5, ignore_index=0)
    assert found.pixels.tolist() == [[0, 0, 0, 0, 1]]
    assert found.ignored.tolist() == [1]


def test_damaged_file_raises_its_error_and_what_was_read_is_kept(write):
    read = Reader()
    files = write(*masks([0], [1], [2]), read=read)
    sound = files[1].path.read_bytes()
    files[1].path.write_bytes(b"no image")
    with pytest.raises(CorruptFileError, match=r"1\.png cannot be read"):
        scan_masks(files)
    files[1].path.write_bytes(sound)
    read.names.clear()
    scan_masks(files)
    assert "0.png" not in read.names
    assert "1.png" in read.names


@pytest.mark.parametrize(("mask", "message"), [(np.zeros((2, 2, 2), np.uint8), "uint8"), (np.zeros((2, 2)), "float64")])
def test_samples_that_are_no_masks_are_named(mask, message):
    dataset = InMemory()
    dataset.masks = [mask]
    with pytest.raises(InvalidArgumentError, match=rf"mask of sample 0 has shape .* and holds {message}"):
        scan_dataset(dataset)


@pytest.mark.parametrize(
    "mask", [np.array([[True, False]]), torch.tensor([[[1, 0]]]), Image.fromarray(np.array([[1, 0]], np.uint8))]
)
def test_samples_may_be_of_every_kind_that_training_takes(mask):
    dataset = InMemory()
    dataset.masks = [mask]
    dataset.__class__ = type("Any", (InMemory,), {"__getitem__": lambda self, index: (None, self.masks[index])})
    assert scan_dataset(dataset).pixels.tolist() == [[1, 1, 0]]


def test_check_of_another_name_is_an_error():
    with pytest.raises(
        InvalidArgumentError, match="check must be one of auto, full, sample, got 'ful'. Did you mean 'full'"
    ):
        scan_dataset(InMemory([[0]]), "ful")


def test_attributes_of_an_inner_dataset_are_not_its_masks(write):
    class Wrapper(InMemory):
        def __getattr__(self, name):
            return getattr(InFiles(write(*masks([0, 0]))), name)

    assert scan_dataset(Wrapper([[1, 1]])).pixels.tolist() == [[0, 2, 0]]


@pytest.mark.parametrize(
    ("sample", "words"),
    [({"image": 0, "mask": 1}, "is a dict with the keys 'image', 'mask'"), ((0, 1, 2), "is a tuple of 3")],
)
def test_samples_that_are_no_pairs_are_named(sample, words):
    dataset = InMemory([[0]])
    dataset.__class__ = type("Any", (InMemory,), {"__getitem__": lambda self, index: sample})
    with pytest.raises(InvalidArgumentError, match=rf"sample 0 {words}; the dataset must return the pair"):
        scan_dataset(dataset)


def test_mask_file_of_another_kind_is_named():
    with pytest.raises(InvalidArgumentError, match=r"mask_file of InFiles must return a .*MaskFile or None, got Posix"):
        scan_dataset(InFiles([Path("a.png")]))


@pytest.mark.parametrize("broken", [None, 17])
def test_slow_samples_are_read_by_workers_in_their_order(monkeypatch, broken):
    monkeypatch.setattr(mask_sources, "_SLOW", 0.0)
    dataset = InMemory(*[[[index % 3] * (index + 1)] for index in range(24)])
    if broken is not None:
        dataset.masks[broken] = np.zeros((2, 2, 2), np.uint8)
        with pytest.raises(InvalidArgumentError, match="mask of sample 17 has shape"):
            scan_dataset(dataset, num_workers=2)
    else:
        found = scan_dataset(dataset, num_workers=2)
        assert found.sizes[:, 1].tolist() == list(range(1, 25))
        assert found.pixels.argmax(1).tolist() == [index % 3 for index in range(24)]


def test_wide_masks_are_counted_in_strips(monkeypatch):
    monkeypatch.setattr(mask_sources, "_STRIP", 3)
    ids = np.random.default_rng(0).integers(0, 400, (10, 7)).astype(np.uint16)
    dataset = InMemory(metadata=DatasetMetadata("many", tuple(map(str, range(400))), ignore_index=65535))
    dataset.masks = [ids]
    dataset.__class__ = type("Any", (InMemory,), {"__getitem__": lambda self, index: (None, self.masks[index])})
    assert scan_dataset(dataset).pixels[0].tolist() == np.bincount(ids.ravel(), minlength=400).tolist()


def test_samples_are_read_without_advancing_any_generator():
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    scan_dataset(InMemory([[0]]))
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_progress_counts_every_mask(write):
    files, seen = write(*masks([0], [1], [2])), []
    for _ in range(2):  # the second time all are known
        scan_masks(files, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


# ---- what is remembered ----------------------------------------------------------------------------------------------


def test_second_scan_reads_nothing(write):
    read = Reader()
    files = write(*masks([0, 1], [2, 2]), read=read)
    first = scan_masks(files)
    assert scan_masks(files) == first
    assert sorted(read.names) == ["0.png", "1.png"]


def test_changed_file_is_read_again(write):
    read = Reader()
    files = write(*masks([0, 1], [2, 2]), read=read)
    scan_masks(files)
    Image.fromarray(np.array([[1, 1]], np.uint8)).save(files[1].path)
    os.utime(files[1].path, ns=(0, 2 * 10**18))
    assert scan_masks(files)[1].counts == {1: 2}
    assert read.names.count("1.png") == 2


def test_file_changed_just_now_is_not_remembered(write):
    read = Reader()
    files = write(*masks([0]), read=read)
    files[0].path.touch()
    scan_masks(files)
    scan_masks(files)
    assert read.names == ["0.png", "0.png"]


def test_another_reader_reads_again_and_one_without_a_name_always(write):
    read = Reader()
    (file,) = write(*masks([0]), read=read)
    for reader, number in (("ids", 1), ("colors", 2), ("colors", 2), (None, 3), (None, 4)):
        scan_masks([dataclasses.replace(file, reader=reader)])
        assert len(read.names) == number


@pytest.mark.parametrize("how", ["copied with its time", "link to another folder"])
def test_another_file_of_the_same_name_size_and_time_is_read_again(tmp_path, write, how):
    for name, value in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "0.tif"  # uncompressed: its size does not depend on its ids
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)
        os.utime(path, ns=(0, 10**18))
    if how == "copied with its time":
        path, change = tmp_path / "a/0.tif", lambda: shutil.copy2(tmp_path / "b/0.tif", tmp_path / "a/0.tif")
    else:
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "a")
        path, change = link / "0.tif", lambda: (link.unlink(), link.symlink_to(tmp_path / "b"))
    file = MaskFile(path, read_mask, "ids", LabelMap.identity(2))
    assert scan_masks([file])[0].counts == {0: 16}
    change()
    assert scan_masks([file])[0].counts == {1: 16}


def test_names_that_are_no_text_are_remembered(tmp_path, write):
    files = write(*masks([1]))
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    try:
        files[0].path.rename(odd)
    except OSError:
        pytest.skip("this file system takes text only")
    read = Reader()
    for _ in range(2):
        assert scan_masks([MaskFile(odd, read, "ids", files[0].label_map)]) == [(1, 1, {1: 1})]
    assert len(read.names) == 1


@pytest.mark.parametrize("damage", ["file", "folder", "row"])
def test_cache_that_cannot_be_used_warns_once_and_the_scan_is_right(write, damage):
    scan_cache._warn_once.cache_clear()
    files = write(*masks([0, 1]))
    path = cache_folder() / "masks.sqlite3"
    if damage == "file":
        path.parent.mkdir()
        path.write_bytes(b"no database, but long enough to have a header of one" * 9)
    elif damage == "folder":
        path.parent.write_bytes(b"a file where the folder should be")
    else:
        scan_masks(files)
        with sqlite3.connect(path) as database:
            database.execute("UPDATE mask_files SET counts = '{broken'")
    with pytest.warns(UserWarning, match=r"cannot use its cache .*masks\.sqlite3 .*set SEG_CACHE") as caught:
        for _ in range(2):
            assert scan_masks(files) == [(1, 2, {0: 1, 1: 1})]
    assert len(caught) == 1


def test_cache_folder_is_that_of_the_platform_unless_set(monkeypatch):
    monkeypatch.setenv("SEG_CACHE", "~/mine")
    assert cache_folder() == Path.home() / "mine"
    monkeypatch.delenv("SEG_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/seg")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache/seg"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path.home() / "Library/Caches/seg"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert cache_folder() == Path("/local/seg")


# ---- which masks are read --------------------------------------------------------------------------------------------


@pytest.fixture
def small_sample(monkeypatch):
    monkeypatch.setattr(mask_sources, "SAMPLE_SIZE", 4)
    monkeypatch.setattr(mask_sources, "_TRIAL", 2)


@pytest.mark.usefixtures("small_sample")
def test_sample_is_spread_over_the_dataset():
    found = scan_dataset(InMemory(*[[[0]]] * 10), "sample")
    assert list(found.indices) == [0, 2, 5, 7]
    assert not found.is_complete
    assert describe_scan(found).startswith("4 of 10 masks")


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize(("limit", "number"), [(60.0, 10), (0.0, 4)])
def test_auto_reads_all_if_the_first_ones_were_quick(monkeypatch, limit, number):
    monkeypatch.setattr(mask_sources, "_LIMIT", limit)
    assert len(scan_dataset(InMemory(*[[[0]]] * 10), "auto").indices) == number


@pytest.mark.usefixtures("small_sample")
def test_auto_reads_all_if_they_are_remembered(monkeypatch, write):
    files = write(*masks(*[[0]] * 10))
    scan_masks(files)
    monkeypatch.setattr(mask_sources, "_LIMIT", 0.0)
    assert scan_dataset(InFiles(files), "auto").is_complete
