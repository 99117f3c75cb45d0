import argparse
import copy
import hashlib
import pickle
import sys
import types

import pytest
import torch

from seg_core.catalog import ModelEntry, WeightsEntry
from seg_core.errors import CorruptFileError, UnknownNameError, WriteError
from seg_core.files.download import read_manifest
from seg_core.model_files.foreign_pickle import consent
from seg_core.model_files.weights import WeightsEnum, make_weights_enum

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}


def make_entry(url="http://127.0.0.1/net.pth", digest="", verified="first-use"):
    row = WeightsEntry(
        url, digest, verified, "CamVid", (0.5,) * 3, (0.25,) * 3, {"shorter_side": 64}, meta={"params": 8}
    )
    other = WeightsEntry(url + "2", "ab", "prefix", "VOC", (0.5,) * 3, (0.25,) * 3)
    return ModelEntry(
        "a:b", weights_enum="Net_Weights", weights={"CAMVID": row, "VOC": other}, default_weights="CAMVID"
    )


@pytest.fixture
def module(monkeypatch):
    found = types.ModuleType("weights_example")
    monkeypatch.setitem(sys.modules, "weights_example", found)
    return found


@pytest.fixture
def enum(module):
    module.Net_Weights = make_weights_enum("Net_Weights", make_entry(), "weights_example")
    return module.Net_Weights


@pytest.fixture
def served(tmp_path, monkeypatch, serve):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "served"
    folder.mkdir()
    torch.save(STATE, folder / "net.pth")
    return folder, serve(folder) + "/net.pth"


def serve_enum(url, digest="", verified="first-use"):
    return make_weights_enum("Net_Weights", make_entry(url, digest, verified), "weights_example")


def test_enum_default_is_the_best_member_and_members_are_the_rest(enum):
    assert issubclass(enum, WeightsEnum)
    assert enum.DEFAULT is enum.CAMVID
    assert list(enum) == [enum.CAMVID, enum.VOC]
    assert repr(enum.DEFAULT) == "Net_Weights.CAMVID"


def test_member_carries_meta_url_and_preprocessing(enum):
    member = enum.CAMVID
    assert member.meta["categories"][0] == "Sky"
    assert member.meta["params"] == 8
    assert member.url.endswith("net.pth")
    preprocessing = member.transforms()
    assert (preprocessing.mean, preprocessing.shorter_side) == ((0.5,) * 3, 64)


@pytest.mark.parametrize("obj", ["CAMVID", "DEFAULT", "Net_Weights.CAMVID"])
def test_verify_name_returns_the_member(enum, obj):
    assert enum.verify(obj) is enum.CAMVID
    assert enum.verify(None) is None
    assert enum.verify(enum.VOC) is enum.VOC


def test_verify_unknown_name_lists_members(enum):
    with pytest.raises(UnknownNameError, match=r"Net_Weights has no member 'CAMVIT'. Did you mean 'CAMVID'\?.*DEFAULT"):
        enum.verify("CAMVIT")


def test_verify_other_type_raises(enum):
    with pytest.raises(TypeError, match="must be a member of Net_Weights, its name or None, got 3 of type int"):
        enum.verify(3)


def test_member_survives_copy_and_pickle(enum):
    assert pickle.loads(pickle.dumps(enum.VOC)) is enum.VOC
    assert copy.deepcopy(enum.VOC) is enum.VOC


def test_get_state_dict_downloads_once_and_records_first_use(served, module):
    folder, url = served
    member = serve_enum(url).DEFAULT
    assert torch.equal(member.get_state_dict(progress=False)["conv.weight"], STATE["conv.weight"])
    digest = hashlib.sha256((folder / "net.pth").read_bytes()).hexdigest()
    assert read_manifest()["net.pth"]["sha256"] == digest
    (folder / "net.pth").unlink()  # the second time must not need the server
    assert set(member.get_state_dict(progress=False)) == set(STATE)


def test_get_state_dict_stored_file_changed_after_first_use_is_refused(served, module):
    _, url = served
    member = serve_enum(url).DEFAULT
    member.get_state_dict(progress=False)
    with open(torch.hub.get_dir() + "/checkpoints/net.pth", "ab") as file:
        file.write(b"x")
    with pytest.raises(CorruptFileError, match="is not the file published at .*delete the file to fetch it again"):
        member.get_state_dict(progress=False)


def test_get_state_dict_wrong_prefix_leaves_nothing_behind(served, module, tmp_path):
    _, url = served
    with pytest.raises(CorruptFileError, match="expected a sha256 that begins with 00000000, got .* was deleted"):
        serve_enum(url, "00000000", "prefix").DEFAULT.get_state_dict(progress=False)
    assert not list((tmp_path / "home" / "hub" / "checkpoints").iterdir())


def test_get_state_dict_right_prefix_is_taken(served, module):
    folder, url = served
    prefix = hashlib.sha256((folder / "net.pth").read_bytes()).hexdigest()[:8]
    assert serve_enum(url, prefix, "prefix").DEFAULT.get_state_dict(progress=False)


def test_get_state_dict_missing_file_says_what_to_do(served, module):
    _, url = served
    with pytest.raises(WriteError, match="cannot fetch .*404.*download it by hand to that path"):
        serve_enum(url + "x").DEFAULT.get_state_dict(progress=False)


def test_get_state_dict_file_that_is_no_checkpoint_is_corrupt(served, module):
    folder, url = served
    (folder / "net.pth").write_bytes(b"no checkpoint")
    with pytest.raises(CorruptFileError, match="cannot be read as a checkpoint"):
        serve_enum(url).DEFAULT.get_state_dict(progress=False)


def test_get_state_dict_web_page_in_its_place_is_refused(served, module):
    folder, url = served
    (folder / "net.pth").write_bytes(b"<html>not found</html>")
    with pytest.raises(CorruptFileError, match="got a web page"):
        serve_enum(url).DEFAULT.get_state_dict(progress=False)


def test_get_state_dict_offline_says_where_the_file_goes(served, module, monkeypatch, tmp_path):
    _, url = served
    monkeypatch.setenv("SEG_OFFLINE", "1")
    place = tmp_path / "home" / "hub" / "checkpoints" / "net.pth"
    with pytest.raises(
        WriteError, match=f"cannot fetch {url}: .*SEG_OFFLINE.*The file belongs at {place}: download it"
    ):
        serve_enum(url).DEFAULT.get_state_dict(progress=False)


def test_get_state_dict_file_with_pickled_objects_needs_consent(served, module, monkeypatch):
    folder, url = served
    monkeypatch.delenv("SEG_OLD_CHECKPOINTS", raising=False)
    torch.save({"state_dict": STATE, "args": argparse.Namespace(lr=0.1)}, folder / "net.pth")
    member = serve_enum(url).DEFAULT
    with pytest.raises(CorruptFileError, match="could run code: argparse.Namespace. .*set SEG_OLD_CHECKPOINTS=1"):
        member.get_state_dict(progress=False)
    with consent():
        assert set(member.get_state_dict(progress=False)) == set(STATE)
    monkeypatch.setenv("SEG_OLD_CHECKPOINTS", "1")
    assert set(member.get_state_dict(progress=False)) == set(STATE)
