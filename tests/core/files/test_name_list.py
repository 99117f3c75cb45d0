"""Tests of the compact list of names: it gives back every string, and keeps no object per name."""

import gc
import os
import pickle
import sys
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_core.files.name_list import NameList

ODD = [
    "",
    "/data/images/000000000009.jpg",
    "/data/images/Größe-e\u0301-東京-🚲.png",
    "/data/images/" + "x" * 5000 + ".png",
    os.fsencode("/data/images/").decode() + b"caf\xe9.jpg".decode("utf-8", "surrogateescape"),  # not UTF-8
    "\ud83d alone, as Windows allows",
    "two\nlines",
    r"C:\data\images\a.png",
    r"\\server\share\b.png",
]
texts = st.text(st.characters(), max_size=20)  # with surrogates


@pytest.mark.parametrize("name", ODD)
def test_every_name_comes_back_alone_and_among_others(name):
    assert list(NameList([name])) == [NameList([name])[0]] == [name]
    names = NameList([*ODD, name])
    assert names[-1] == name
    assert [names[index] for index in range(len(names))] == list(names) == [*ODD, name]


@given(st.lists(texts), texts)
def test_any_strings_come_back(names, prefix):
    names = [prefix + name for name in names]
    compact = NameList(names)
    assert len(compact) == len(names)
    assert list(compact) == [compact[index] for index in range(len(names))] == names
    assert pickle.loads(pickle.dumps(compact)) == names


@given(st.lists(texts, max_size=8), st.slices(8))
def test_slices_are_those_of_a_list(names, part):
    compact = NameList(names)[part]
    assert isinstance(compact, NameList)
    assert compact == names[part]


def test_it_is_a_sequence_like_a_list():
    names = NameList(["b", "a", "b"])
    assert names == ["b", "a", "b"] == names
    assert names == ("b", "a", "b")
    assert names == NameList(iter(["b", "a", "b"]))
    assert names != ["b", "a"]
    assert names != "bab"
    assert names[-3] == "b"
    assert (names.index("a"), names.count("b"), "c" in names) == (1, 2, False)
    assert list(reversed(names)) == ["b", "a", "b"]
    assert repr(names) == "NameList(['b', 'a', 'b'])"
    assert not NameList()
    with pytest.raises(TypeError, match="unhashable"):
        hash(names)
    with pytest.raises(TypeError):
        names["a"]


@pytest.mark.parametrize("index", [3, -4])
def test_index_out_of_range_is_an_error(index):
    with pytest.raises(IndexError, match=f"index {index} is out of range for 3 names"):
        NameList("abc")[index]


def test_paths_are_stored_as_strings():
    assert NameList([Path("a") / "b.png", "c"]) == [str(Path("a") / "b.png"), "c"]
    assert NameList([PureWindowsPath("C:/a/b.png")]) == [r"C:\a\b.png"]


def test_what_names_begin_with_is_stored_once():
    folder, count = "/data/" + "long/" * 100, 10_000
    names = NameList(f"{folder}{number:06}.jpg" for number in range(count))
    assert len(pickle.dumps(names)) < count * (len("000000.jpg") + 8) + 1000


def test_it_has_no_object_per_name():
    def objects_of(names):
        return [found for found in gc.get_referents(names) if not isinstance(found, type)]

    few, many = NameList(["a", "b"]), NameList(map(str, range(10_000)))
    assert len(objects_of(many)) == len(objects_of(few)) <= 4
    assert sum(map(sys.getsizeof, objects_of(many))) < 10_000 * (4 + 8) + 1000


def test_what_names_end_with_is_stored_once():
    count = 1000
    names = NameList(f"{number:06}_gtFine_labelIds.png" for number in range(count))
    assert len(pickle.dumps(names)) < count * (6 + 8) + 1000
    assert NameList(["a", "ab", "xa"]) == ["a", "ab", "xa"]
    assert NameList(["aa", "aa", "a", "aaa"]) == ["aa", "aa", "a", "aaa"]


@given(st.lists(st.tuples(texts, texts)), texts, texts)
def test_pairs_of_any_strings_come_back(rows, prefix, suffix):
    rows = [(first, f"{prefix}{second}{suffix}") for first, second in rows]
    first, second = NameList.pair(iter(rows))
    assert list(zip(first, second, strict=True)) == rows
    assert second.where(len(name) > 2 for name in second) == [name for _, name in rows if len(name) > 2]


def test_names_that_differ_from_others_by_what_all_begin_and_end_with_take_their_memory():
    images, masks = NameList.pair((f"images/{number:05}.jpg", f"masks/{number:05}.png") for number in range(1000))
    assert masks[7] == "masks/00007.png"
    assert len(pickle.dumps([images, masks])) < len(pickle.dumps(images)) + 200
    assert masks.sharing(NameList(["b", "a"])) is masks


@given(st.lists(texts, min_size=1))
def test_prefix_is_the_longest_that_all_names_begin_with(names):
    assert NameList(names).prefix == os.path.commonprefix(names)  # noqa: RUF071
