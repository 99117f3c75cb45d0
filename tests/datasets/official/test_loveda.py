"""LoveDA: shifted ids, domains, missing partners, download."""

import hashlib
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core import DatasetNotFoundError, InvalidArgumentError, LabelOutOfRangeError
from seg_datasets.official.loveda import LoveDA
from tests.datasets.trees import with_archives_at

FILES = {
    "Train/Rural": ("0", "1"),
    "Train/Urban": ("1366",),
    "Val/Rural": ("2522",),
    "Val/Urban": ("3514", "3515"),
    "Test/Rural": ("4191",),
    "Test/Urban": ("5167",),
}


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for folder, names in FILES.items():
        for kind in ("images_png", "masks_png") if not folder.startswith("Test") else ("images_png",):
            (tmp_path / folder / kind).mkdir(parents=True)
        for name in names:
            pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / "images_png" / f"{name}.png")
            if not folder.startswith("Test"):
                ids = np.arange(24, dtype=np.uint8).reshape(4, 6) % 8
                Image.fromarray(ids).save(tmp_path / folder / "masks_png" / f"{name}.png")
    return tmp_path


def names(dataset):
    return ["/".join(dataset.file_names(i)[0].replace("\\", "/").split("/")[-4:]) for i in range(len(dataset))]


def test_item_ids_are_shifted_and_no_data_ignored(root):
    _, mask = LoveDA(root)[0]
    expected = torch.arange(24).reshape(4, 6) % 8 - 1
    expected[expected == -1] = 255
    assert torch.equal(mask.long(), expected)
    assert LoveDA(root).metadata.labels[0] == "background"


def test_item_id_beyond_the_classes_error_names_it(root):
    Image.fromarray(np.full((4, 6), 8, np.uint8)).save(root / "Train/Rural/masks_png/0.png")
    with pytest.raises(LabelOutOfRangeError, match=r"0.png contains ids that are not allowed: 8 \(24 pixels\)"):
        LoveDA(root)[0]


@pytest.mark.parametrize("split, official", [("train", "Train"), ("val", "Val"), ("test", "Test")])
def test_domain_none_reads_both_and_each_reads_its_own(root, split, official):
    rural = [f"{official}/Rural/images_png/{name}.png" for name in FILES[f"{official}/Rural"]]
    urban = [f"{official}/Urban/images_png/{name}.png" for name in FILES[f"{official}/Urban"]]
    assert names(LoveDA(root, split)) == rural + urban
    assert names(LoveDA(root, split, domain="rural")) == rural
    assert names(LoveDA(root, official, domain="urban")) == urban


def test_domain_masks_belong_to_the_images(root):
    dataset = LoveDA(root, domain="urban")
    assert dataset.file_names(0)[1] == str(root / "Train/Urban/masks_png/1366.png")


def test_domain_of_which_nothing_is_on_disk_is_an_error_only_if_asked_for(root):
    (root / "Train/Rural").rename(root / "elsewhere")
    assert names(LoveDA(root)) == ["Train/Urban/images_png/1366.png"]
    with pytest.raises(DatasetNotFoundError, match=r"Train/Rural/images_png/\*\.png \(0 found\)"):
        LoveDA(root, domain="rural")


@pytest.mark.parametrize("domain, hint", [("Rural", "Did you mean 'rural'"), ("", ""), (1, "")])
def test_domain_unknown_error_lists_the_allowed(root, domain, hint):
    with pytest.raises(
        InvalidArgumentError, match=rf"domain must be 'rural' or 'urban', got .*{hint}.* None gives both"
    ):
        LoveDA(root, domain=domain)


def test_masks_without_images_are_an_error_or_left_out(root):
    for name in ("2", "3"):
        Image.fromarray(np.ones((4, 6), np.uint8)).save(root / f"Train/Rural/masks_png/{name}.png")
    with pytest.raises(DatasetNotFoundError, match=r"masks without an image: 2 \(2.png, 3.png\).*missing='skip'"):
        LoveDA(root)
    with pytest.warns(UserWarning, match=r"masks without an image: 2 \(2.png, 3.png\); these are left out"):
        dataset = LoveDA(root, missing="skip")
    assert len(dataset) == 3


def test_test_split_has_no_masks(root):
    image, mask = LoveDA(root, "test")[1]
    assert image.shape == (3, 4, 6)
    assert mask is None


def test_archives_one_per_split_with_md5():
    for edition in LoveDA.editions.values():
        assert [archive.splits for archive in edition.layout.archives] == [("train",), ("val",), ("test",)]
        assert all(re.fullmatch(r"md5:[0-9a-f]{32}", archive.digest) for archive in edition.layout.archives)


def test_download_fetches_only_the_archive_of_the_split(root, tmp_path_factory, serve, monkeypatch):
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("download")
    with zipfile.ZipFile(site / "Val.zip", "w") as archive:
        for file in (root / "Val").rglob("*.png"):
            archive.write(file, file.relative_to(root))
    digest = "md5:" + hashlib.md5((site / "Val.zip").read_bytes()).hexdigest()
    # the server has no other archive: a request for one would fail
    edition = with_archives_at(LoveDA.editions["urban"], serve(site), digest=digest)
    monkeypatch.setattr(LoveDA, "editions", {"urban": edition})
    dataset = LoveDA(folder, "val", domain="urban", download=True)
    assert names(dataset) == ["Val/Urban/images_png/3514.png", "Val/Urban/images_png/3515.png"]
