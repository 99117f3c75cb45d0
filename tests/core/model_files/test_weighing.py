"""Files that ask for far more time or memory than they have bytes, and those that only look so."""

import io
import pickle
import pickletools
import resource
import zipfile
from collections import Counter, OrderedDict

import pytest
import torch

from seg_core import load_model
from seg_core.errors import CorruptFileError
from seg_core.model_files import pickle_scale
from seg_core.model_files.checkpoint_file import read_tensors
from seg_core.model_files.digest import digest_of
from seg_core.model_files.foreign_pickle import consent, load_safely
from seg_core.model_files.weighing import load_plain, weigh

TOO_MUCH = "asks for far more time or memory than a checkpoint of its size"


@pytest.fixture(autouse=True)
def bounded_memory():
    """A file that gets through must not take the memory of the machine."""
    former = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (24 << 30, former[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, former)


def archive(path, pickled, members=(), compression=zipfile.ZIP_STORED):
    """Writes a file of torch's zip format around a pickle."""
    with zipfile.ZipFile(path, "w", compression) as written:
        written.writestr("net/data.pkl", pickled)
        written.writestr("net/version", b"3\n")
        written.writestr("net/byteorder", b"little")
        for name, data in members:
            written.writestr(f"net/{name}", data)
    return path


def legacy(path, pickled):
    """Writes a file of torch's format before 1.6 around a pickle."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    path.write_bytes(b"".join([magic, pickle.dumps(1001, 2), pickle.dumps(system, 2), pickled, pickle.dumps([], 2)]))
    return path


def doubled(start, double, times=60):
    """Returns operations that put a container on the stack that holds the one before twice, and so on."""
    found = b"\x80\x02" + start
    for number in range(times):
        found += b"q" + bytes([number]) + b"0" + double(b"h" + bytes([number]))
    return found


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu%stQ"


def tensor(numel, size, stride, offset=b"K\x00"):
    """Returns operations that rebuild a tensor; numbers are operations too."""
    storage = STORAGE % numel
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + offset
        + b"("
        + size
        + b"t("
        + stride
        + b"t\x89ccollections\nOrderedDict\n)RtR."
    )


def number(value):
    return pickle.dumps(value, 2)[2:-1]


TUPLES = doubled(b")", lambda get: get + get + b"\x86")  # pairs of the pair before
HOSTILE = {
    "lists that double": doubled(b"]", lambda get: b"](" + get + get + b"e") + b".",
    "tuples that double": TUPLES + b".",
    "tables that double": doubled(b"}", lambda get: b"}(K\x01" + get + b"K\x02" + get + b"u") + b".",
    "a key that doubles": b"\x80\x02}" + TUPLES[2:] + b"K\x01s.",
    "keys that double, of several": b"\x80\x02}(" + TUPLES[2:] + b"K\x01u.",
    "a set of a tuple that doubles": b"\x80\x04\x8f(" + TUPLES[2:] + b"\x90.",
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "tables that hold each other": b"\x80\x02}q\x00K\x01}q\x01K\x01h\x00ss.",
    "a deep tuple": b"\x80\x02)" + b"\x85" * 10_000 + b".",
    "a deep list": b"\x80\x02" + b"]" * 10_000 + b"a" * 9_999 + b".",
    "a huge number of bytes": b"\x80\x02c__builtin__\nbytearray\n" + number(10**12) + b"\x85R.",
    "bytes by another codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf32\x86R.",
    "a tensor by its size": b"\x80\x02ctorch\nFloatTensor\n" + number(10**12) + b"\x85R.",
    "a tensor by its size, as new object": b"\x80\x02ctorch\nTensor\n" + number(10**12) + b"\x85\x81.",
    "a storage by its size": b"\x80\x02ctorch.storage\nUntypedStorage\n" + number(10**12) + b"\x85R.",
    "a storage that is not there": tensor(number(10**12), number(1), number(1)),
    "a tensor larger than its storage": tensor(number(1), number(10**12), number(1)),
    "a tensor that begins behind its storage": tensor(number(1), number(1), number(1), offset=number(10**12)),
    "a tensor that repeats its value": tensor(number(1), number(10**12), number(0)),
    "a size that is copied on and on": (
        b"\x80\x02(" + b"K\x01" * 20_000 + b"tq\x000](" + b"ctorch\nSize\nh\x00\x85R" * 20_000 + b"e."
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("pack", [archive, legacy])
def test_pickle_that_stands_for_too_much_is_refused_with_and_without_consent(tmp_path, pack, case):
    path = pack(tmp_path / "net.pth", HOSTILE[case])
    with pytest.raises(CorruptFileError, match=f"net.pth {TOO_MUCH}"):
        load_safely(path)
    with consent(), pytest.raises(CorruptFileError, match=TOO_MUCH):
        load_safely(path)
    with pytest.raises(CorruptFileError, match=TOO_MUCH):
        load_model(path)
    with pytest.raises(CorruptFileError, match=TOO_MUCH):
        read_tensors(path)


def test_pickle_of_too_many_operations_is_refused_before_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_scale, "_MOST_OPERATIONS", 1000)
    path = archive(tmp_path / "net.pth", b"\x80\x02(" + b"K\x01" * 1000)  # it has no end
    with pytest.raises(CorruptFileError, match=r"over 1,000 operations"):
        load_safely(path)


def test_archive_that_expands_is_refused_before_it_is_unpacked(tmp_path):
    path = archive(tmp_path / "net.pth", b"\x80\x02N.", [("data/0", bytes(2**27))], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    with pytest.raises(CorruptFileError, match=f"{TOO_MUCH}: unpacked, its members would be far larger"):
        load_safely(path)
    with pytest.raises(CorruptFileError, match="unpacked, its members would be far larger"):
        load_model(path)


def test_archive_with_a_pickle_of_zeros_ends_soon(tmp_path):
    path = archive(tmp_path / "net.pth", bytes(2**24), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CorruptFileError, match="cannot be read"):
        load_safely(path)


def test_length_in_a_legacy_file_allocates_nothing(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(b"\x80\x02\x8d" + (2**40).to_bytes(8, "little") + b"x")
    with pytest.raises(CorruptFileError, match="cannot be read"):
        load_safely(path)


def test_archive_behind_another_is_refused_since_readers_take_different_directories(tmp_path):
    path = archive(tmp_path / "net.pth", b"\x80\x02N.")
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(CorruptFileError, match="cannot be read as a checkpoint"):
        load_safely(path)
    with consent(), pytest.raises(CorruptFileError, match="holds something in front of its archive"):
        load_safely(path)
    with pytest.raises(CorruptFileError, match="holds something in front of its archive"):
        load_model(path)


def test_large_archives_have_another_end_and_are_weighed_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)  # the count beyond which the end is that of a large archive
    path = archive(tmp_path / "net.pth", b"\x80\x02N.")
    assert b"PK\6\7" in path.read_bytes()
    assert load_plain(path) is None


def plain_contents():
    shared = [1.5, "name", None]
    weight = torch.arange(24.0).reshape(2, 3, 4)
    tied = OrderedDict(one=weight, two=weight, half=weight[1], turned=weight.mT, bfloat=weight.bfloat16())
    tied._metadata = {"": {"version": 1}}
    return {
        "net": tied,
        "parameter": torch.nn.Parameter(torch.zeros(2)),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
        "repeated": torch.zeros(1).expand(100),
        "complex": torch.zeros(2, dtype=torch.complex64),
        "counter": Counter(a=3),
        "bytes": b"\xff\0" * 9,
        "set": {1, 2},
        "shared": [shared] * 1000,
        "keys": {(1, "a"): 2, 3: 4, None: True},
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "many": list(range(5000)),
        "size": weight.shape,
        "large": 10**30,
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_writes_is_read_as_torch_reads_it(tmp_path, zipped):
    path = tmp_path / "net.pth"
    torch.save(plain_contents(), path, _use_new_zipfile_serialization=zipped)
    found, expected = load_plain(path), torch.load(path, weights_only=True)
    assert found.keys() == expected.keys()
    assert found["net"].keys() == expected["net"].keys()
    assert all(torch.equal(found["net"][name], expected["net"][name]) for name in expected["net"])
    plain = ("counter", "bytes", "set", "shared", "keys", "dtype", "device", "many", "size", "large")
    assert all(found[name] == expected[name] for name in plain)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_all_protocols_are_weighed_as_what_they_hold(tmp_path, protocol):
    content = {"a": [1, 2.5, "x", b"y", (3, (4,)), {5}, frozenset([6]), bytearray(b"z"), 2**70], "b": [[]] * 100}
    pickled = pickle.dumps(content, protocol)
    assert len(list(pickletools.genops(io.BytesIO(pickled)))) > 100
    weigh(archive(tmp_path / "net.pth", pickled))


def test_a_digest_of_what_holds_itself_or_repeats_without_measure_is_refused_at_once():
    itself = {"a": [0] * 1000}
    itself["b"] = itself["c"] = itself
    with pytest.raises(TypeError, match="it holds itself"):
        digest_of(itself)
    value = [0]
    for _ in range(40):
        value = [value, value]
    with pytest.raises(TypeError, match=r"it holds \d+ values, at most 5000000 are read again"):
        digest_of({"x": value})
    shared = [1, 2]
    assert digest_of({"x": [shared, shared]}) == digest_of({"x": [[1, 2], [1, 2]]})
