"""The table of files behaves as a dict that is sorted by key, and keeps no object per file."""

import gc
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_core import DatasetNotFoundError
from seg_datasets.reading.file_table import FileTable, matched

keys = st.text("ab-._/\xe9\U0001f6b2", min_size=1, max_size=4)
files = st.dictionaries(keys, st.text("abc./", min_size=1, max_size=4).map(Path), max_size=12)


@given(files, keys)
def test_it_is_a_mapping_sorted_by_key(known, other):
    table = FileTable.of(known)
    assert list(table) == sorted(known)
    assert list(table.items()) == sorted(known.items())
    assert list(table.values()) == [known[key] for key in sorted(known)]
    assert list(table.rows()) == [(key, str(path)) for key, path in sorted(known.items())]
    assert table == known
    assert pickle.loads(pickle.dumps(table)) == known
    assert [table[key] for key in known] == list(known.values())
    assert table.get(other) == known.get(other)
    assert (other in table) == (other in known)
    assert FileTable.of(table) is table


@given(files, files)
def test_matched_is_what_two_dicts_share(one, other):
    tables = FileTable.of(one), FileTable.of(other)
    for table, rows in zip(tables, matched(*tables), strict=True):
        assert set(table.where(rows)) == one.keys() & other.keys()
        assert dict(table.where(~rows)) == {key: table[key] for key in table if key not in one.keys() & other.keys()}


def test_of_two_files_with_a_key_the_first_is_taken_or_an_error_names_both():
    found = [("b", "b.png"), ("a", "a.jpg"), ("b", "b.png"), ("b", "b.jpg"), ("a", "a.png")]
    assert FileTable(found) == {"a": Path("a.jpg"), "b": Path("b.png")}
    with pytest.raises(DatasetNotFoundError, match=r"^b: b\.png b\.jpg$"):
        FileTable(found, lambda key, one, other: DatasetNotFoundError(f"{key}: {one} {other}"))
    with pytest.raises(KeyError, match="c"):
        FileTable(found)["c"]


def test_keys_that_are_parts_of_the_paths_take_no_memory():
    def objects_of(table):
        found, left = {}, [table]
        while left:
            item = left.pop()
            if not isinstance(item, type) and id(item) not in found:
                found[id(item)] = item
                left += gc.get_referents(item)
        return found

    table = FileTable((f"{number:05}", f"/data/images/{number:05}.jpg") for number in range(10_000))
    assert len(objects_of(table)) < 12
    assert len(pickle.dumps(table)) < 10_000 * (5 + 8) + 1000
