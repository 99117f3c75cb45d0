"""Configs: TOML that is damaged, values of the wrong kind anywhere, files that extend others, and overrides."""

import copy
import functools
import random
from pathlib import Path
from typing import Any

import tomli_w

from seg_train import load_config
from seg_train.config.files import read_tables
from seg_train.config.migrate import CONFIG_FORMAT
from seg_train.config.schema import TrainConfig, all_keys
from tests.fuzz.harness import Difference, Harness
from tests.fuzz.mutations import damaged, hostile_value

_EXAMPLES = Path(__file__).parents[2] / "examples" / "configs"
_SEPARATOR = b"\n#=====\n"  # between the config, the one that it may extend, and the overrides, one a line
_NAMES = (
    "enet",
    "AdamW",
    "SGD",
    "Padam",
    "CosineAnnealingLR",
    "LambdaLR",
    "DiceLoss",
    "CombinedLoss",
    "Shapes",
    "VOC",
    "auto",
)
_NAMES += ("none", "bf16", "wandb", "first", "multilabel", "linear", "0.5", "enett", "my_code:Net", "FolderDataset")


@functools.cache
def _example(name: str) -> dict[str, Any]:
    return read_tables(_EXAMPLES / name).values


@functools.cache
def _names() -> list[str]:
    return sorted(path.name for path in _EXAMPLES.glob("*.toml"))


def _value(rng: random.Random) -> Any:
    if rng.random() < 0.3:
        return rng.choice(_NAMES)
    if rng.random() < 0.1:
        return {"name": rng.choice(_NAMES), "params": {rng.choice(("lr", "losses", "x")): hostile_value(rng)}}
    return hostile_value(rng)


def _changed(tables: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    tables = copy.deepcopy(tables)
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        *path, last = rng.choice(all_keys()).split(".")
        table = tables
        for part in path:
            inner = table.get(part)
            if not isinstance(inner, dict):
                inner = table[part] = {}
            table = inner
        if rng.random() < 0.15:
            last = rng.choice((last + "s", last.upper(), last.replace("_", "-"), "params", "x\x1b[0m", ""))
        if rng.random() < 0.1:
            table.pop(last, None)
        else:
            table[last] = _value(rng)
    return tables


def _text(tables: dict[str, Any]) -> bytes:
    return tomli_w.dumps(tables).encode("utf-8", "surrogatepass")


def _override(rng: random.Random) -> str:
    value = _value(rng)
    shown = tomli_w.dumps({"v": value}).partition("= ")[2].strip() if rng.random() < 0.5 else str(value)
    text = f"{rng.choice(all_keys())}{rng.choice(('=', '=', '=', '', '.x='))}{shown[:200]}"
    return text.replace("\n", " ").replace("\0", "")


def _make(rng: random.Random) -> bytes:
    tables = _changed(_example(rng.choice(_names())), rng)
    base, overrides = b"", []
    if rng.random() < 0.2:
        tables["extends"] = rng.choice(
            ("base.toml", ["base.toml"], "run.toml", ["base.toml", "base.toml"], [], 3, "gone.toml", ".")
        )
        base = _text(_changed({}, rng))
    if rng.random() < 0.3:
        overrides = [_override(rng) for _ in range(rng.choice((1, 2)))]
    data = _text(tables)
    if rng.random() < 0.3:
        data = damaged(data, rng)
    return _SEPARATOR.join((data, base, "\n".join(overrides).encode("utf-8", "surrogatepass")))


def _attempt(data: bytes, folder: Path) -> None:
    parts = data.split(_SEPARATOR)
    path = folder / "run.toml"
    path.write_bytes(parts[0])
    if len(parts) > 1 and parts[1]:
        (folder / "base.toml").write_bytes(parts[1])
    overrides = parts[2].decode("utf-8", "surrogateescape").split("\n") if len(parts) > 2 and parts[2] else []
    before = {file.name for file in folder.iterdir()}
    try:
        config = load_config(path, overrides)
    finally:
        if added := {file.name for file in folder.iterdir()} - before:
            raise Difference(f"loading a config has written {sorted(added)}")
    _compare(config, load_config(path, overrides), "read twice")
    # as a run writes it into its folder, and reads it again
    stored = folder / "config.toml"
    stored.write_text(tomli_w.dumps({"format": CONFIG_FORMAT, **config.to_dict()}), encoding="utf-8")
    _compare(config, load_config(stored, stored=True), "written and read")
    _compare(config, load_config(config.to_dict(), stored=False), "as tables")


def _compare(config: TrainConfig, other: TrainConfig, what: str) -> None:
    if (one := repr(config.to_dict())) != (two := repr(other.to_dict())):
        at = next(place for place, (a, b) in enumerate(zip(one + " ", two + " ", strict=False)) if a != b)
        raise Difference(f"{what}: ...{one[max(0, at - 60) : at + 30]}... is ...{two[max(0, at - 60) : at + 30]}...")


def _deep(text: str, count: int) -> bytes:
    return b"x = " + text.encode() * count


HARNESS = Harness(
    _make,
    _attempt,
    ".toml",
    {
        "nested-arrays": lambda: _deep("[", 5000) + b"]" * 5000,
        "nested-tables": lambda: _deep("{a=", 5000) + b"1" + b"}" * 5000,
        "long-integer": lambda: _deep("1", 5000),
        "long-key": lambda: b".".join([b"a"] * 5000) + b" = 1",
    },
)
