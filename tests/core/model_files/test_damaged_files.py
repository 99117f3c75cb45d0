"""Damaged and absurd files: whatever is changed in them, they load, or an error of `seg_core.errors` names the file.

Each harness draws its changes from a seed, so that a failure can be repeated: it names the seed. They run for a few
hundred inputs here; `python tests/core/model_files/test_damaged_files.py 20000` runs more, and counts the outcomes.
"""

import copy
import functools
import json
import random
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from seg_core import BuildSpec, DatasetMetadata, Preprocessing, load_model, read_model_info, save_model
from seg_core.errors import CorruptFileError, UserError
from seg_core.model_files import digest
from seg_core.model_files.checkpoint_file import read_tensors
from seg_core.model_files.foreign_pickle import consent
from seg_core.registry import MODELS
from tests.fuzz.mutations import damaged

METADATA = DatasetMetadata("two", ("left", "right"), left_right_pairs=((0, 1),))
SELF: list[object] = [1]
SELF.append(SELF)
ABSURD = (
    10**9,
    10**30,
    -1,
    0,
    True,
    None,
    1e308,
    1e-9,
    float("nan"),
    float("-inf"),
    "",
    "a.pt",
    "x" * 2000,
    "\x1b[31mred\x1b[0m",
    "\ud800",
    "a\u202eb",
    [],
    {},
    [10**9] * 5,
    ["left", "left"],
    {"weights": "other.pt"},
    {1: 2},
    (1, 2),
    b"bytes",
    {1, 2},
    1j,
    torch.float16,
    torch.zeros(2),
    torch.Size([1]),
    SELF,
)


class Tiny(nn.Module):
    def __init__(self, num_classes, width):
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, width)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


def tiny(*, weights=None, num_classes=2, variant=None, width=1):
    model = Tiny(num_classes, width)
    model.build_spec = BuildSpec("tiny_damaged", variant or "paper", {"num_classes": num_classes, "width": width})
    return model


@pytest.fixture(autouse=True)
def registered():
    MODELS.register("tiny_damaged", tiny)


def model_file(path):
    save_model(
        tiny(width=3),
        path,
        metadata=METADATA,
        preprocessing=Preprocessing(scale=0.5),
        metrics={"miou": 0.5, "iou": {"left": 0.25, "right": float("nan")}},
        protocol="val, single scale",
    )
    return path


def checkpoint(path, zipped=True):
    content = {"model": tiny(width=3).state_dict(), "optimizer": {"state": {0: {"exp": torch.ones(3)}}, "lr": [0.1]}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


# ---- changes of bytes ------------------------------------------------------------------------------------------------


def changed_member(path: Path, draw: random.Random) -> None:
    """Changes one member of an archive, whose directory and checksums then fit again."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    # most of the pickle, which is the structure
    chosen = draw.choice([name for name in members if name.endswith("data.pkl")] * 4 + list(members))
    members[chosen] = damaged(members[chosen], draw)
    with zipfile.ZipFile(path, "w", draw.choice((zipfile.ZIP_STORED,) * 3 + (zipfile.ZIP_DEFLATED,))) as archive:
        for name, data in members.items():
            if draw.random() > 0.01:
                archive.writestr(name, data)


# ---- changes of the description --------------------------------------------------------------------------------------


def places(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Yields the paths to all values inside of tables and lists, which may hold themselves."""
    if len(path) > 6:
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed_content(content: dict, draw: random.Random) -> None:
    """Puts absurd values into a description, or removes, renames or adds some; its digest is right afterwards."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        *before, key = draw.choice([place for place in places(content) if place[0] != "digest"])
        inner = functools.reduce(lambda value, step: value[step], before, content)
        kind = draw.randrange(8)
        if kind == 0:
            del inner[key]
        elif kind == 1 and isinstance(inner, dict):
            added = draw.choice(("weights", "extra", "x" * 1000, "\ud800", 3, (1, (2,))))
            inner[added] = copy.deepcopy(draw.choice(ABSURD))
        elif kind == 2 and isinstance(inner[key], list | str):
            inner[key] = inner[key] * draw.choice((0, 2, 1000))
        else:
            inner[key] = copy.deepcopy(draw.choice(ABSURD))
    if draw.random() < 0.8:
        try:
            content["digest"] = digest.digest_of({key: value for key, value in content.items() if key != "digest"})
        except (TypeError, RecursionError):  # no digest fits
            content.pop("digest", None)


# ---- the harnesses ---------------------------------------------------------------------------------------------------


def read_model(path: Path, draw: random.Random) -> None:
    load_model(path, verify=draw.random() < 0.5)


def read_any(path: Path, draw: random.Random) -> None:
    if draw.random() < 0.5:
        read_tensors(path)
    else:
        with consent():
            read_tensors(path)


def read_info(path: Path, _: random.Random) -> None:
    read_model_info(path, verify=False)


def damage_bytes(path: Path, draw: random.Random) -> None:
    path.write_bytes(damaged(path.read_bytes(), draw))


def damage_content(path: Path, draw: random.Random) -> None:
    content = torch.load(path, weights_only=True)
    changed_content(content, draw)
    torch.save(content, path)


def safetensors(path: Path) -> Path:
    files = pytest.importorskip("safetensors.torch")
    path = path.with_suffix(".safetensors")
    files.save_file(tiny(width=3).state_dict(), path)
    return path


def damage_header(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    *before, key = draw.choice(list(places(header)))
    inner = functools.reduce(lambda value, step: value[step], before, header)
    inner[key] = draw.choice([value for value in ABSURD[:22] if value is not SELF] + [[2**62, 2**62], "F64", "U8"])
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


Harness = tuple[Callable[[Path], Path], Callable[[Path, random.Random], None], Callable[[Path, random.Random], None]]
HARNESSES: dict[str, Harness] = {
    "model file, bytes": (model_file, damage_bytes, read_model),
    "model file, member": (model_file, changed_member, read_model),
    "model file, description": (model_file, damage_content, read_model),
    "model file, description, info": (model_file, damage_content, read_info),
    "checkpoint, bytes": (checkpoint, damage_bytes, read_any),
    "checkpoint, member": (checkpoint, changed_member, read_any),
    "checkpoint of torch 1.5, bytes": (functools.partial(checkpoint, zipped=False), damage_bytes, read_any),
    "safetensors, bytes": (safetensors, damage_bytes, read_any),
    "safetensors, header": (safetensors, damage_header, read_any),
}


def outcome(harness: Harness, original: bytes, path: Path, seed: object) -> str:
    """Returns what one input does: "read", or the name of the error."""
    _, damage, read = harness
    path.write_bytes(original)
    draw = random.Random(repr(seed))
    damage(path, draw)
    try:
        read(path, draw)
    except UserError as error:
        if isinstance(error, CorruptFileError):
            assert path.name in str(error), f"seed {seed}: the file is not named: {error}"
        assert len(str(error)) < 5000, f"seed {seed}: a message of {len(str(error))} characters"
        return type(error).__name__
    except Exception as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return "read"


@pytest.mark.filterwarnings("ignore:.*has no digest")
@pytest.mark.parametrize("name", HARNESSES)
def test_damaged_file_is_read_or_an_error_names_it(tmp_path, name):
    path = HARNESSES[name][0](tmp_path / "net.pt")
    original = path.read_bytes()
    found = Counter(outcome(HARNESSES[name], original, path, (name, seed)) for seed in range(40))
    assert set(found) - {"read"}, "no change did any damage"


def count_outcomes(number: int, first: int) -> None:
    """Runs all harnesses on `number` inputs altogether, within 4 GB, and prints the outcomes and the slowest input."""
    import resource
    import tempfile
    import warnings

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    MODELS.register("tiny_damaged", tiny)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, harness in HARNESSES.items():
            path = harness[0](Path(folder) / "net.pt")
            original, found, slowest = path.read_bytes(), Counter[str](), 0.0
            for seed in range(first, first + number // len(HARNESSES)):
                begin = time.monotonic()
                try:
                    found[outcome(harness, original, path, (name, seed))] += 1
                except AssertionError as error:
                    found["FOREIGN"] += 1
                    print(ascii(str(error))[:300], flush=True)
                slowest = max(slowest, time.monotonic() - begin)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(f"{name}: {dict(found)}; slowest {slowest:.2f} s, {memory} MiB", flush=True)


if __name__ == "__main__":
    count_outcomes(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
