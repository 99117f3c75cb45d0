"""Glob patterns of official layouts: keys, `**`, names in any form of Unicode, lists of names."""

import codecs
import unicodedata

import pytest

from seg_core import DatasetNotFoundError
from seg_datasets.reading.layout import Layout, SplitFiles, find_matches, read_listing

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "zürich") for form in ("NFC", "NFD"))


def touch(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def layout(files):
    return Layout("Mine", "get Mine", "tree", {"train": files}, {})


def test_find_matches_double_star_takes_any_folders(tmp_path):
    touch(tmp_path, "in/a.png", "in/x/b.png", "in/x/y/c.PNG", "in/x/d.jpg", "in/.hidden/e.png", "out/f.png")
    assert list(find_matches(tmp_path, "in/**/*.png")) == ["a", "x/b", "x/y/c"]
    assert list(find_matches(tmp_path, "**/y/*.png")) == ["in/x/c"]
    assert list(find_matches(tmp_path, "in/*/**/*.png")) == ["x/b", "x/y/c"]


def test_find_matches_suffixes_are_no_part_of_the_key(tmp_path):
    touch(tmp_path, "a_x.png", "b_x.JPG", "c_x.txt", "d.png")
    assert list(find_matches(tmp_path, "*_x", suffixes=(".png", ".jpg"))) == ["a", "b"]
    assert list(find_matches(tmp_path, "*_x.png", suffixes=(".png", ".jpg"))) == ["a"]


def test_find_matches_two_files_with_one_key_error_names_both(tmp_path):
    touch(tmp_path, "a.png", "a.jpg")
    with pytest.raises(DatasetNotFoundError, match=r"a.jpg and a.png both match \*, which pairs files by name"):
        find_matches(tmp_path, "*", suffixes=(".png", ".jpg"))


@pytest.mark.parametrize(("images", "masks"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_layout_names_in_any_form_of_unicode_pair(tmp_path, images, masks):
    touch(tmp_path, f"images/{images}/{images}_1.jpg", f"masks/{masks}/{masks}_1.png")
    (pair,) = layout(SplitFiles(("images/*/*.jpg",), ("masks/*/*.png",))).find(tmp_path, "train")
    assert (pair.image.name, pair.mask.name) == (f"{images}_1.jpg", f"{masks}_1.png")


@pytest.mark.parametrize("name", [COMPOSED, DECOMPOSED])
def test_layout_keys_and_lists_in_any_form_of_unicode_select_files(tmp_path, name):
    touch(tmp_path, f"images/{COMPOSED}.jpg", f"masks/{DECOMPOSED}.png", "images/other.jpg", "masks/other.png")
    images, masks = ("images/*.jpg",), ("masks/*.png",)
    assert len(layout(SplitFiles(images, masks, keys=(name,))).find(tmp_path, "train")) == 1
    (tmp_path / "train.txt").write_bytes(codecs.BOM_UTF8 + f"images/{name}.jpg\r\n".encode())
    assert len(layout(SplitFiles(images, masks, listing="train.txt")).find(tmp_path, "train")) == 1


def test_read_listing_utf_16_of_powershell(tmp_path):
    (tmp_path / "list.txt").write_bytes("a.jpg\r\nb\r\n".encode("utf-16"))
    assert read_listing(tmp_path / "list.txt") == {"a", "b"}


def test_layout_nothing_pairs_error_does_not_advise_to_skip(tmp_path):
    touch(tmp_path, "images/a.jpg", "masks/b.png")
    files = SplitFiles(("images/*.jpg",), ("masks/*.png",))
    for missing in ("error", "skip"):
        with pytest.raises(DatasetNotFoundError, match=r"do not pair.*or get Mine again$") as caught:
            layout(files).find(tmp_path, "train", missing)
        assert "skip" not in str(caught.value)
