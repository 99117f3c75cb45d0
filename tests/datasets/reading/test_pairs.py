"""Pairing image and mask files by name."""

import pytest

from seg_core import DatasetNotFoundError
from seg_datasets.reading.pairs import Pair, PairList, describe_folder, files_by_stem, pair_by_key


def test_files_by_stem_upper_case_suffix_is_found_and_order_is_by_stem(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.txt", ".d.png"):
        (tmp_path / name).touch()
    assert list(files_by_stem(tmp_path, (".png", ".jpg"))) == ["a", "b"]


def test_describe_folder_counts_matching_and_other_files(tmp_path):
    for name in ("a.png", "b.gif", "c.gif", "README"):
        (tmp_path / name).touch()
    description = describe_folder(tmp_path, (".png",), "images")
    assert description == f"{tmp_path}: 1 images, 3 other entries (.gif, no suffix)"


def test_pair_by_key_nothing_pairs_is_an_error_and_skip_is_not_advised(tmp_path):
    images, masks = {"a": tmp_path / "a.jpg"}, {"b": tmp_path / "b.png"}
    for missing in ("error", "skip"):
        with pytest.raises(
            DatasetNotFoundError, match=r"1 images and 1 masks do not pair.* or unpack X again$"
        ) as caught:
            pair_by_key(images, masks, "X train", missing, "unpack X again")
        assert "skip" not in str(caught.value)


def test_pair_by_key_some_pair_skip_is_advised_and_leaves_out(tmp_path):
    images, masks = {key: tmp_path / f"{key}.jpg" for key in "ab"}, {"b": tmp_path / "b.png"}
    with pytest.raises(DatasetNotFoundError, match=r"listed, leave them out with missing='skip', or unpack X again$"):
        pair_by_key(images, masks, "X train", "error", "unpack X again")
    with pytest.warns(UserWarning, match="these are left out"):
        assert pair_by_key(images, masks, "X train", "skip") == [Pair(images["b"], masks["b"])]


def test_pair_by_key_explanation_takes_the_place_of_general_advice(tmp_path):
    images, masks = {"a": tmp_path / "a.jpg"}, {"b": tmp_path / "b.png"}
    with pytest.raises(DatasetNotFoundError, match=r"without an image: 1 \(b.png\). Rename b$"):
        pair_by_key(images, masks, "X train", "error", explain=lambda: "Rename b")


def test_files_by_stem_decomposed_name_has_the_composed_stem(tmp_path):
    (tmp_path / "a\u0308.png").touch()
    assert list(files_by_stem(tmp_path, (".png",))) == ["\xe4"]


def test_paths_of_a_pair_as_strings(tmp_path):
    image, mask, band = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    pairs = [Pair(image, mask), Pair(image, None), Pair(image, mask, (band,)), Pair(image, band, (), (None, band))]
    assert [PairList(pairs).strings(row) for row in range(4)] == [
        (str(image), str(mask), (), ()),
        (str(image), "", (), ()),
        (str(image), str(mask), (str(band),), ()),
        (str(image), str(band), (), ("", str(band))),
    ]
    assert PairList(pairs[:2]).strings(1) == (str(image), "", (), ())
