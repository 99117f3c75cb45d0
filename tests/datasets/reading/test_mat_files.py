"""Masks in MATLAB files: what is read, and damaged files."""

import re
import sys

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from seg_core.errors import CorruptFileError, DatasetNotFoundError, MissingDependencyError
from seg_datasets.doctor.fake_mat import write_pascal_context, write_sbd
from seg_datasets.official.pascal_context import PascalContext
from seg_datasets.official.sbd import SBD
from seg_datasets.reading.mat_files import read_mat

IDS = (np.arange(6 * 7).reshape(6, 7) % 21).astype(np.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "2008_000002.mat"


def test_read_mat_field_of_a_struct_gives_its_ids(path):
    savemat(path, {"GTcls": {"Segmentation": IDS, "CategoriesPresent": [1, 2]}, "other": [[1]]})
    ids = read_mat(path, "GTcls", "Segmentation")
    np.testing.assert_array_equal(ids, IDS)
    assert ids.dtype == np.uint8


def test_read_mat_variable_with_large_ids_keeps_them(path):
    savemat(path, {"LabelMap": IDS.astype(np.uint16) + 400})
    ids = read_mat(path, "LabelMap")
    np.testing.assert_array_equal(ids, IDS.astype(int) + 400)
    assert ids.dtype == np.uint16


def test_read_mat_doubles_with_integer_values_give_ids(path):
    savemat(path, {"LabelMap": IDS.astype(float)})
    ids = read_mat(path, "LabelMap")
    np.testing.assert_array_equal(ids, IDS)
    assert ids.dtype == np.uint16


@pytest.mark.parametrize("value", [0.5, -1.0, 65536.0, np.nan])
def test_read_mat_value_that_is_no_id_error_names_the_file(path, value):
    values = IDS.astype(float)
    values[2, 3] = value
    savemat(path, {"LabelMap": values})
    with pytest.raises(CorruptFileError, match=rf"mask {re.escape(str(path))} .* ids are integers from 0 to 65535"):
        read_mat(path, "LabelMap")


@pytest.mark.parametrize(
    "value", [np.zeros((2, 3, 3), np.uint8), np.zeros((0, 3), np.uint8), "a string", np.array([["x"]], dtype=object)]
)
def test_read_mat_variable_that_is_no_mask_error_describes_it(path, value):
    savemat(path, {"LabelMap": value})
    with pytest.raises(CorruptFileError, match=r"it contains .* of shape .*, expected ids \(H, W\); replace the file"):
        read_mat(path, "LabelMap")


@pytest.mark.parametrize(
    "variables", [{"GTinst": {"Segmentation": IDS}}, {"GTcls": {"Categories": IDS}}, {"GTcls": IDS}]
)
def test_read_mat_other_variables_error_names_file_and_field(path, variables):
    savemat(path, variables)
    with pytest.raises(CorruptFileError, match=rf"{re.escape(str(path))} .* no GTcls.Segmentation in it"):
        read_mat(path, "GTcls", "Segmentation")


@pytest.mark.parametrize(
    "contents",
    [b"", b"no matlab file", b"\x89HDF\r\n\x1a\n", b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\0" * 600],
)
def test_read_mat_file_of_another_kind_error_names_it(path, contents):
    path.write_bytes(contents)
    with pytest.raises(CorruptFileError, match=rf"mask {re.escape(str(path))} cannot be read"):
        read_mat(path, "GTcls", "Segmentation")


def test_read_mat_file_truncated_error_says_so(path):
    write_sbd(path, IDS, SBD.edition)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptFileError, match="it is truncated"):
        read_mat(path, "GTcls", "Segmentation")


def test_read_mat_byte_changed_anywhere_is_an_error_or_harmless(path):
    write_sbd(path, IDS, SBD.edition)
    contents = path.read_bytes()
    outcomes = set()
    for place in range(len(contents)):
        path.write_bytes(contents[:place] + bytes([contents[place] ^ 0xFF]) + contents[place + 1 :])
        try:
            np.testing.assert_array_equal(read_mat(path, "GTcls", "Segmentation"), IDS)
            outcomes.add("harmless")
        except CorruptFileError as error:
            assert str(path) in str(error)
            outcomes.add("error")
            assert place >= 124  # only descriptive text before
    assert outcomes == {"harmless", "error"}


def test_read_mat_file_missing_error_names_it(path):
    with pytest.raises(DatasetNotFoundError, match=rf"mask {re.escape(str(path))} no longer exists"):
        read_mat(path, "GTcls", "Segmentation")


def test_read_mat_without_scipy_error_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingDependencyError, match=r"2008_000002.mat .* pip install 'seg-datasets\[mat\]'"):
        read_mat(path, "GTcls", "Segmentation")


def test_write_sbd_has_the_official_structure(path):
    ids = np.zeros((5, 6), np.uint8)
    ids[1:3, 2:4] = 15
    write_sbd(path, ids, SBD.edition)
    contents = loadmat(path)
    np.testing.assert_array_equal(contents["GTcls"][0]["Segmentation"][0], ids)
    assert contents["GTcls"][0]["CategoriesPresent"][0].tolist() == [[15]]
    boundaries = [contents["GTcls"][0]["Boundaries"][0][k][0].toarray() for k in range(20)]
    assert boundaries[14].tolist() == [
        [0, 0, 1, 1, 0, 0],
        [0, 1, 0, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert not any(boundary.any() for k, boundary in enumerate(boundaries) if k != 14)


def test_write_pascal_context_mat_holds_the_459_labels(path):
    write_pascal_context(path, np.array([[0, 1, 2, 59]]), PascalContext.edition)
    assert loadmat(path)["LabelMap"].tolist() == [[1, 2, 9, 458]]  # 1 is not among the 59


@pytest.mark.parametrize("write", [write_sbd, write_pascal_context])
def test_write_without_scipy_error_says_what_to_install(path, write, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'seg-datasets\[mat\]'"):
        write(path, IDS, None)
