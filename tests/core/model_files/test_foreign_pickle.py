import copyreg
import importlib
import os
import pickle
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seg_core.errors import CorruptFileError
from seg_core.model_files.foreign_pickle import Inert, consent, foreign_parts, is_consented, load_inert, load_safely

STATE = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), count=torch.tensor(7))


@pytest.fixture(autouse=True)
def no_consent(monkeypatch):
    monkeypatch.delenv("SEG_OLD_CHECKPOINTS", raising=False)


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request, tmp_path):
    def save(content, name="net.pth"):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=request.param)
        return tmp_path / name

    return save


class Call:
    """Pickles as a call; a pickled function in its place can be called itself."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments

    def __call__(self):
        raise AssertionError


class Stateful:
    """Pickles as an object with a state, which the loader passes to `__setstate__`."""

    def __init__(self, path):
        self.path = path

    def __setstate__(self, state):
        Path(state["path"]).touch()


def hostile(path):
    text = os.fspath(path)
    module = Call(importlib.import_module, "os")
    return {
        "system": Call(os.system, f"touch {text}"),
        "eval": Call(eval, f"open({text!r}, 'w')"),
        "exec": Call(exec, f"open({text!r}, 'w')"),
        "getattr chain": Call(Call(getattr, module, "mkdir"), text),
        "path": Call(Path.touch, Path(path)),
        "map": Call(list, Call(map, Call(getattr, Path, "touch"), [Path(path)])),
        "__setstate__": Stateful(text),
        "nested __setstate__": Call(dict, [("a", [Stateful(text)])]),
    }


# hostile files --------------------------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("kind", hostile("x"))
def test_load_inert_hostile_file_has_no_effect_and_its_tensors_come_out(save, tmp_path, kind):
    effect = tmp_path / "effect"
    path = save({"state_dict": STATE, "other": hostile(effect)[kind]})
    content = load_inert(path)
    assert not effect.exists()
    assert list(content) == ["state_dict", "other"]
    assert list(content["state_dict"]) == list(STATE)
    assert all(torch.equal(content["state_dict"][name], tensor) for name, tensor in STATE.items())
    assert isinstance(content["other"], Inert)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", hostile("x"))
def test_hostile_files_of_these_tests_would_have_an_effect(save, tmp_path, kind):
    effect = tmp_path / "effect"
    path = save({"state_dict": STATE, "other": hostile(effect)[kind]})
    torch.load(path, weights_only=False)
    assert effect.exists()


@pytest.mark.parametrize("kind", hostile("x"))
def test_torch_refuses_the_hostile_files_with_weights_only(save, tmp_path, kind):
    path = save({"other": hostile(tmp_path / "effect")[kind]})
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert not (tmp_path / "effect").exists()


def write_pickle(path, pickled):
    """A file in torch's zip format that holds a pickle written by hand."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return path


@pytest.mark.parametrize(
    "pickled",
    [
        b"cbuiltins\neval\n(S'1 + 1'\ntR.",  # REDUCE
        b"(S'1 + 1'\nibuiltins\neval\n.",  # INST
        b"(cbuiltins\neval\nS'1 + 1'\no.",  # OBJ
        b"\x80\x02cbuiltins\neval\n(X\x05\x00\x00\x001 + 1t\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93(\x8c\x051 + 1t}\x92.",  # STACK_GLOBAL, NEWOBJ_EX
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93)}\x92\x8c\x01a\x8c\x01bs.",  # SETITEM
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93(\x8c\x01a\x8c\x01bu.",  # SETITEMS
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93(\x8c\x01a\x8c\x01be.",  # APPENDS
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x01aa.",  # APPEND
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93(\x8c\x01a\x90.",  # ADDITEMS
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93}\x8c\x01a\x8c\x01bsb.",  # BUILD
        b"\x80\x04\x8c\x08builtins\x8c\x0beval.__call\x93.",  # a dotted name
        b"cbuiltins\neval\n(cbuiltins\nlist\ntR.",  # an argument
        b"cbuiltins\neval\ncbuiltins\nlist\nR.",  # in place of the arguments
    ],
)
def test_load_inert_takes_every_operation_on_an_unknown_name(tmp_path, pickled):
    assert isinstance(load_inert(write_pickle(tmp_path / "net.pth", pickled)), Inert)


@pytest.mark.parametrize(
    ("name", "listed"),
    [("_rebuild_tensor_v2", torch._utils._rebuild_tensor_v2), ("UntypedStorage", torch.UntypedStorage)],
)
def test_load_inert_listed_names_cannot_be_changed_by_a_state(tmp_path, name, listed):
    # torch writes a patch file where a pickled module's source differs, under a name that the module's attributes say
    pickled = f"c{listed.__module__}\n{name}\nN}}S'evil'\nI1\ns".encode() + b"\x86b."
    load_inert(write_pickle(tmp_path / "net.pth", pickled))
    assert not hasattr(listed, "evil")
    pickle.loads(pickled)
    assert listed.evil == 1  # so much for others
    del listed.evil


def test_load_inert_refuses_codes_of_copyreg(tmp_path):
    copyreg.add_extension("builtins", "eval", 77)
    try:
        pickle.loads(b"\x80\x02\x82\x4d.")  # from here on, any unpickler has it without asking for the name
        with pytest.raises(CorruptFileError, match="code 77 of copyreg"):
            load_inert(write_pickle(tmp_path / "net.pth", b"\x80\x02\x82\x4d(X\x05\x00\x00\x001 + 1tR."))
    finally:
        copyreg.remove_extension("builtins", "eval", 77)
        copyreg.clear_extension_cache()


def test_load_inert_drops_hooks_of_tensors(save):
    tensor = torch.ones(2, requires_grad=True)
    hooks = OrderedDict({1: torch.device})
    pickled = Call(torch._utils._rebuild_tensor_v2, tensor._typed_storage(), 0, (2,), (1,), True, hooks)
    (found,) = load_inert(save([pickled]))
    assert torch.equal(found, torch.ones(2))
    assert not found._backward_hooks


def test_load_inert_tensor_beyond_its_numbers_is_corrupt(save):
    storage = torch.ones(2)._typed_storage()
    pickled = Call(torch._utils._rebuild_tensor_v2, storage, 0, (1000,), (1,), False, OrderedDict())
    with pytest.raises(CorruptFileError, match="is larger than its storage|not resizable"):
        load_inert(save([pickled]))


def test_load_inert_refuses_torchscript_archives(tmp_path):
    path = write_pickle(tmp_path / "net.pt", b"N.")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", b"N.")
    with pytest.raises(CorruptFileError, match="is a TorchScript archive"):
        load_inert(path)


def test_load_inert_refuses_tar_archives_whose_unpacking_follows_links(tmp_path):
    victim = tmp_path / "victim"
    victim.touch()
    victim.chmod(0o600)
    with tarfile.open(tmp_path / "net.tar", "w") as archive:
        link = tarfile.TarInfo("storages")
        link.type, link.linkname, link.mode = tarfile.LNKTYPE, str(victim), 0o777
        archive.addfile(link)
    with pytest.raises(CorruptFileError, match="is a tar archive, which torch wrote before 2017"):
        load_inert(tmp_path / "net.tar")
    assert victim.stat().st_mode & 0o777 == 0o600


# honest files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def mmengine_file(save, monkeypatch):
    """A file as mmengine wrote it in 2023; its modules do not exist when it is read."""

    class HistoryBuffer:
        def __init__(self):
            self._log_history, self._count_history = np.arange(3.0), np.arange(3)
            self._statistics_methods = OrderedDict(mean=self.mean)

        def mean(self):
            raise AssertionError

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = "mmengine.logging.history_buffer", "HistoryBuffer"
    with monkeypatch.context() as patch:
        for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["mmengine.logging.history_buffer"].HistoryBuffer = HistoryBuffer
        return save(
            {
                "meta": {"epoch": 1, "dataset_meta": {"classes": ("road",), "palette": [[128, 64, 128]]}},
                "state_dict": STATE,
                "message_hub": {
                    "log_scalars": OrderedDict(loss=HistoryBuffer()),
                    "runtime_info": OrderedDict(iter=np.int64(3), best=np.float64(0.5)),
                },
            }
        )


def test_load_inert_mmengine_file_gives_tensors_and_plain_values(mmengine_file):
    content = load_inert(mmengine_file)
    assert torch.equal(content["state_dict"]["weight"], STATE["weight"])
    assert content["meta"]["dataset_meta"] == {"classes": ("road",), "palette": [[128, 64, 128]]}
    buffer = content["message_hub"]["log_scalars"]["loss"]
    assert repr(buffer) == "Inert('mmengine.logging.history_buffer.HistoryBuffer')"
    assert "mmengine" not in sys.modules


def test_load_safely_mmengine_file_needs_consent_and_says_how(mmengine_file):
    with pytest.raises(CorruptFileError) as caught:
        load_safely(mmengine_file)
    message = str(caught.value)
    assert f"{mmengine_file} holds more than plain tensors, which could run code: " in message
    assert "mmengine.logging.history_buffer.HistoryBuffer" in message
    assert "set SEG_OLD_CHECKPOINTS=1, or load inside `with seg_core.model_files.foreign_pickle.consent():`" in message
    with consent():
        assert torch.equal(load_safely(mmengine_file)["state_dict"]["weight"], STATE["weight"])
    with pytest.raises(pickle.UnpicklingError):
        torch.load(mmengine_file, weights_only=True)


def test_foreign_parts_are_what_plain_tensors_do_not_need(mmengine_file, save):
    parts = foreign_parts(mmengine_file)
    assert {"mmengine.logging.history_buffer.HistoryBuffer", "numpy.ndarray", "__builtin__.getattr"} <= set(parts)
    assert not [part for part in parts if part.startswith(("torch.", "collections."))]
    assert foreign_parts(save({"a": STATE})) == []


def test_load_inert_plain_values_are_the_saved_ones(save):
    shared = torch.arange(12.0).reshape(3, 4)
    content = {
        "half": torch.ones(2).half(),
        "bool": torch.tensor([True, False]),
        "int": torch.tensor([1, 2], dtype=torch.int32),
        "bfloat": torch.ones(2, dtype=torch.bfloat16),
        "empty": torch.empty(0, 3),
        "view": shared[1:, ::2],
        "whole": shared,
        "parameter": nn.Parameter(torch.ones(2)),
        "plain": [1, 2.5, "a", None, True, (1, 2), {"b": b"c"[:0]}],
        "torch": (torch.Size([1, 2]), torch.float16, torch.device("cuda", 1)),
    }
    found = load_inert(save(content))
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(found[name], value)
            assert found[name].dtype == value.dtype
            assert type(found[name]) is torch.Tensor
    assert found["view"].untyped_storage().data_ptr() == found["whole"].untyped_storage().data_ptr()
    assert found["torch"] == content["torch"]
    assert found["plain"][:-1] == content["plain"][:-1]


def test_load_inert_tensor_of_a_newer_type_comes_out(tmp_path):
    torch.save({"a": torch.ones(2, dtype=torch.uint16)}, tmp_path / "net.pth")
    assert load_inert(tmp_path / "net.pth")["a"].dtype == torch.uint16


def test_load_inert_whole_pickled_network_is_inert(save):
    assert isinstance(load_inert(save(nn.Linear(2, 2))), Inert)


def test_load_inert_state_of_a_network_with_its_metadata(save):
    state = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict()
    found = load_inert(save(state))
    assert list(found) == list(state)
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_load_safely_file_of_a_later_protocol_needs_consent(tmp_path, protocol):
    torch.save(STATE, tmp_path / "net.pth", pickle_protocol=protocol)
    with pytest.raises(CorruptFileError, match=f"which could run code: pickle protocol {protocol}"):
        load_safely(tmp_path / "net.pth")
    with consent():
        assert torch.equal(load_safely(tmp_path / "net.pth")["weight"], STATE["weight"])


# damaged files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [load_inert, load_safely])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.98])
def test_truncated_file_is_corrupt(save, read, part):
    path = save({"a": torch.arange(2000.0), "b": torch.ones(2000)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(
        CorruptFileError, match="cannot be read as a checkpoint: it is truncated, or no file of torch.save"
    ):
        read(path)


@pytest.mark.parametrize("read", [load_inert, load_safely])
@pytest.mark.parametrize(
    "content",
    [
        b"<html>not found</html>",
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        b"PK\x03\x04" + bytes(99),
        pickle.dumps([1]),
        b"\x80\x02.",
    ],
)
def test_file_of_another_kind_is_corrupt(tmp_path, read, content):
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(CorruptFileError, match="net.pth .*"):
        read(tmp_path / "net.pth")


def test_load_safely_truncated_file_is_corrupt_with_consent_too(save):
    path = save(STATE)
    path.write_bytes(path.read_bytes()[:-30])
    with consent(), pytest.raises(CorruptFileError, match="it is truncated"):
        load_safely(path)


# consent --------------------------------------------------------------------------------------------------------------


def test_consent_holds_inside_the_block_and_is_taken_back_after_an_error():
    assert not is_consented()
    with consent():
        assert is_consented()
        with consent():
            pass
        assert is_consented()
    with pytest.raises(ZeroDivisionError), consent():
        raise ZeroDivisionError
    assert not is_consented()


@pytest.mark.parametrize(("value", "given"), [("1", True), ("0", False), ("", False), ("yes", False)])
def test_consent_by_the_environment(monkeypatch, value, given):
    monkeypatch.setenv("SEG_OLD_CHECKPOINTS", value)
    assert is_consented() is given


def test_load_safely_plain_file_needs_no_consent(save):
    assert torch.equal(load_safely(save({"a": STATE}))["a"]["weight"], STATE["weight"])


def test_inert_takes_everything():
    inert = Inert("a.b")
    inert.c = 1
    inert["d"] = 2
    assert repr(inert.c(1, x=2).e) == "Inert('a.b.c.e')"
    assert list(inert) == []
    assert not hasattr(inert, "__wrapped__")
