"""SBD: .mat masks, lists, the warning about VOC's val, download."""

import pickle
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.errors import CorruptFileError, DatasetNotFoundError, LabelOutOfRangeError, MissingDependencyError
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.doctor.fake_mat import write_sbd
from seg_datasets.official.sbd import SBD, read_sbd_mask
from tests.datasets.trees import with_archives_at

HEIGHT, WIDTH = 6, 7
IDS = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 21
LISTS = {
    "train": ["2008_000002", "2008_000007"],
    "val": ["2008_000043"],
    "train_noval": ["2008_000002", "2008_000043"],
}


def make_tree(root):
    rng = np.random.default_rng(0)
    for name in {name for names in LISTS.values() for name in names}:
        image, mask = root / "img" / f"{name}.jpg", root / "cls" / f"{name}.mat"
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(image)
        write_sbd(mask, IDS, SBD.edition)
    for split, names in LISTS.items():
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return root


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "benchmark_RELEASE" / "dataset")


def test_item_mask_has_the_ids_of_the_file_and_ignores_none(root):
    _, mask = SBD(root, split="train_noval")[0]
    assert mask.dtype == torch.uint8
    assert torch.equal(mask, torch.from_numpy(IDS.astype(np.uint8)))


@pytest.mark.parametrize("split", ["train", "val"])
def test_split_with_images_of_voc_val_warns(root, split):
    with pytest.warns(
        UserWarning, match=rf"SBD {split} contains images of VOC 2012's val: .* SBD's train_noval"
    ) as caught:
        dataset = SBD(root, split=split)
    assert len(dataset) == len(LISTS[split])
    assert caught[0].filename == __file__


def test_split_train_noval_does_not_warn(root):  # warnings are errors here
    dataset = SBD(root, split="train_noval")
    assert [dataset.file_names(i)[1] for i in range(2)] == [
        str(root / "cls" / f"{name}.mat") for name in LISTS["train_noval"]
    ]


def test_train_noval_without_its_list_error_says_where_to_get_it(root):
    (root / "train_noval.txt").unlink()
    pattern = r"train_noval.txt \(not found\).*http://home.bharathh.info/pubs/codes/SBD/train_noval.txt, into the fold"
    with pytest.raises(DatasetNotFoundError, match=pattern):
        SBD(root, split="train_noval")


def test_mask_with_the_border_of_voc_is_an_error(root):
    ids = IDS.copy()
    ids[0, :3] = 255
    write_sbd(root / "cls" / "2008_000002.mat", ids, SBD.edition)
    with pytest.raises(LabelOutOfRangeError, match=r"2008_000002.mat contains ids .*: 255 \(3 pixels\). Allowed: 0-20"):
        SBD(root, split="train_noval")[0]


def test_mask_damaged_error_names_it(root):
    (root / "cls" / "2008_000002.mat").write_bytes(b"nothing")
    with pytest.raises(CorruptFileError, match=r"2008_000002.mat cannot be read"):
        SBD(root, split="train_noval")[0]


def test_item_without_scipy_error_says_what_to_install(root, monkeypatch):
    dataset = SBD(root, split="train_noval")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'seg-datasets\[mat\]'"):
        dataset[0]


def test_metadata_have_the_classes_of_voc():
    sbd, voc = resolve_metadata("SBD"), resolve_metadata("VOC")
    assert (sbd.labels, sbd.colors) == (voc.labels, voc.colors)


def test_label_set_voc_keeps_the_ids(root):
    dataset = SBD(root, split="train_noval", label_set="VOC")
    assert dataset.metadata.name == "VOC"
    assert torch.equal(dataset[0][1], torch.from_numpy(IDS.astype(np.uint8)))


def test_pickle_dataset_gives_the_same_samples(root):
    dataset = SBD(root, split="train_noval")
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[1][1], dataset[1][1])


def test_reader_is_pickled_by_name():
    assert pickle.loads(pickle.dumps(SBD.edition.mask_reader)) is read_sbd_mask


def test_download_puts_the_list_into_the_folder_of_the_others(tmp_path, serve):
    source = make_tree(tmp_path / "made" / "benchmark_RELEASE" / "dataset")
    web = tmp_path / "web"
    web.mkdir()
    (source / "train_noval.txt").rename(web / "train_noval.txt")
    with tarfile.open(web / "benchmark.tgz", "w:gz") as archive:
        archive.add(source.parent, "benchmark_RELEASE")

    class Local(SBD):
        edition = with_archives_at(SBD.edition, serve(web), digest="")

    dataset = Local(tmp_path / "data", split="train_noval", download=True)
    assert len(dataset) == 2
    folder = tmp_path / "data" / "benchmark_RELEASE" / "dataset"
    assert {"train.txt", "train_noval.txt"} <= {path.name for path in folder.iterdir()}
