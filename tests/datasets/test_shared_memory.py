"""Datasets keep no Python object per sample: workers that are forked would each get a copy of all that they read."""

import gc
import pickle
import shutil
import types
from pathlib import Path

import pytest

from seg_core.metrics.protocol import digest_of_dataset
from seg_core.registry import DATASETS
from seg_datasets import COCOStuff, FolderDataset, catalog, unify
from seg_datasets.doctor.fake import fake
from seg_datasets.reading.base import OfficialDataset
from seg_datasets.reading.pairs import Pair, PairList
from tests.datasets import own_folders
from tests.datasets.trees import samples_from_workers

CLASSES = {"name": "two", "labels": ["a", "b"]}
ONCE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
OFFICIAL = sorted(name for name in catalog.DATASETS if issubclass(DATASETS.get(name), OfficialDataset))


def reachable(dataset):
    """Returns the objects that a dataset refers to, without classes and functions, which exist once."""
    found, left = {}, [dataset]
    while left:
        item = left.pop()
        if id(item) in found or isinstance(
            item, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType
        ):
            continue
        found[id(item)] = item
        left += gc.get_referents(item)
    return list(found.values())


def own_folder(root, count, **options):
    own_folders.write(root, own_folders.names(count))
    return FolderDataset(root, CLASSES, **options)


def coco(root, count):
    fake("COCOStuff", root)
    image, mask = map(Path, COCOStuff(root).file_names(0))
    for number in range(count):
        shutil.copy(image, image.with_name(f"{900000 + number:012}.jpg"))
        shutil.copy(mask, mask.with_name(f"{900000 + number:012}.png"))
    return COCOStuff(root)


def listed(root, count):
    own_folders.write(root, own_folders.names(count))
    (root / "train.txt").write_text("\n".join(own_folders.names(count)))
    return FolderDataset(root, CLASSES, split_file={"train": "train.txt"})


def united(root, count):
    return unify("COCOStuff27", [coco(root / "a", count), coco(root / "b", count)])


def grouped(root, count):
    return own_folder(root, count, groups="(.)$", folds=3)


@pytest.mark.parametrize("make", [own_folder, grouped, listed, coco, united])
def test_number_of_objects_does_not_depend_on_the_number_of_samples(tmp_path, make):
    few, many = make(tmp_path / "few", 10), make(tmp_path / "many", 70)
    assert len(many) > len(few) + 30
    assert len(reachable(many)) < len(reachable(few)) + 10  # Python keeps small numbers once


@pytest.mark.filterwarnings("ignore:SBD .* contains images of VOC")
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_datasets_keep_no_path_per_sample(fake_tree, name):
    dataset = DATASETS.get(name)(fake_tree(name), next(iter(DATASETS.get(name).edition.layout.splits)))
    paths = [found for found in reachable(dataset) if isinstance(found, Path | Pair)]
    assert paths == [dataset.root]
    assert not {*dataset.file_names(0)} & {found for found in reachable(dataset) if isinstance(found, str)}


def test_names_that_are_not_unicode_are_read_by_workers_and_survive_a_copy(tmp_path):
    names = ["Größe e\u0301 東京", "caf\udce9", "n" * 200]
    try:
        own_folders.write(tmp_path, names)
    except OSError:
        pytest.skip("this file system allows only names in Unicode")
    dataset = FolderDataset(tmp_path, CLASSES, images="images", masks="masks", val_fraction=0.1)
    val = FolderDataset(tmp_path, CLASSES, "val", images="images", masks="masks", val_fraction=0.1)
    found = {Path(part.file_names(index)[0]).stem for part in (dataset, val) for index in range(len(part))}
    assert found == set(names)
    copy = pickle.loads(pickle.dumps(dataset))
    assert [copy.file_names(index) for index in range(2)] == [dataset.file_names(index) for index in range(2)]
    assert digest_of_dataset(copy) == digest_of_dataset(dataset)
    with samples_from_workers(dataset) as samples:
        assert len(list(samples)) == 2


def test_pair_list_is_a_sequence_like_a_list():
    pairs = [Pair(Path("b/1.jpg"), Path("m/1.png")), Pair(Path("b/2.jpg"), None), Pair(Path("a"), Path("m/1.png"))]
    compact = PairList(iter(pairs))
    assert compact == pairs == list(compact)
    assert compact == PairList(pairs) == pickle.loads(pickle.dumps(compact))
    assert compact != pairs[:2]
    assert compact != "abc"
    assert [compact[index] for index in (-1, 0, 1)] == [pairs[index] for index in (-1, 0, 1)]
    assert compact[::2] == pairs[::2]
    assert isinstance(compact[::2], PairList)
    assert [compact.names(index) for index in range(3)] == [pair.names() for pair in pairs]
    assert pairs[1] in compact
    assert repr(compact) == f"PairList({pairs!r})"
    assert PairList([]) == []
    with pytest.raises(IndexError, match="index 3 is out of range"):
        compact[3]
    with pytest.raises(TypeError, match="unhashable"):
        hash(compact)
