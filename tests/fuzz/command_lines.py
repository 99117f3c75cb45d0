"""Command lines of every command: options from their parsers, with values that are right, wrong, hostile or missing."""

import argparse
import contextlib
import functools
import io
import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_core import DatasetMetadata, Preprocessing, save_model
from seg_core.command import main
from seg_core.registry import COMMANDS
from tests.fuzz.harness import Difference, Harness, Refused
from tests.fuzz.model_files import _tiny
from tests.fuzz.mutations import HOSTILE_TEXTS

# of those that take long when they succeed few are tried
_WEIGHTS = {"train": 2, "eval": 2, "benchmark": 2, "export": 1, "predict": 10, "models": 4, "datasets": 8, "config": 6}
# at the end of a line: what would take minutes, or fill the disk, is made small
_BOUNDS = {
    "train": ["--dry-run"],
    "benchmark": ["--seconds", "0.01", "--size", "32"],
    "datasets fake": ["--images", "1", "--size", "24", "24"],
    "datasets preview": ["--count", "1"],
}
_FILES = (
    "x.png",
    "model.pt",
    "run.toml",
    "data",
    "cut.pt",
    "empty",
    "gone",
    "gone.pt",
    "file",
    "bad.toml",
    "x.*",
    "data/images",
)
_NAMES = (
    "enet",
    "ennet",
    "fuzz_tiny",
    "Shapes",
    "CamVid",
    "VOC",
    "train",
    "val",
    "auto",
    "cpu",
    "cuda:99",
    "a",
    "a,b",
    "fp32",
)
_NAMES += (
    "DEFAULT",
    "paper",
    "num_classes=3",
    "root=data",
    "model.name=enet",
    "trainer.steps=1",
    "x=[",
    "png",
    "geojson",
)
_NUMBERS = (
    "0",
    "1",
    "2",
    "-1",
    "32",
    "3x3",
    "0.5",
    "1.5",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "999999999999999999999",
    "1,2",
    "0/0",
    "1/2",
)
_SOUND = {
    "config": ("run.toml",),
    "model": ("model.pt",),
    "images": ("x.png", "data/images"),
    "root": ("data",),
    "out": ("out",),
}
_SOUND |= {
    "target": ("data", "run.toml", "model.pt"),
    "dataset": ("data", "Shapes"),
    "split": ("train",),
    "device": ("cpu",),
}
_TERMINAL = frozenset("\n\t\r")
_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


@functools.cache
def _parsers() -> dict[str, argparse.ArgumentParser]:
    """Returns the parsers of all commands and their actions, by the words that call them."""
    found = {}
    for name in COMMANDS:
        parser = argparse.ArgumentParser(prog=name)
        COMMANDS.get(name).configure(parser)
        inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        found |= {f"{name} {word}": choice for action in inner for word, choice in action.choices.items()}
        found[name] = parser
    return found


def _value(action: argparse.Action, rng: random.Random) -> str:
    if action.dest in _SOUND and rng.random() < 0.7:
        return rng.choice(_SOUND[action.dest])
    if action.choices and rng.random() < 0.7:
        return str(rng.choice(list(action.choices)))
    kind = rng.random()
    if kind < 0.1:
        return rng.choice(HOSTILE_TEXTS).replace("\0", "")[:200]
    if action.type in (int, float) or kind < 0.3:
        return rng.choice(_NUMBERS)
    return rng.choice(_FILES if kind < 0.7 else _NAMES)


def _words_of(action: argparse.Action, rng: random.Random) -> list[str]:
    """Returns an option or an argument with as many values as it takes, or one more or less."""
    fixed = {None: 1, "?": rng.randrange(2), "*": rng.randrange(3), "+": rng.choice((1, 1, 2))}
    if isinstance(action, argparse._StoreTrueAction | argparse._StoreFalseAction | argparse.BooleanOptionalAction):
        count = 0
    else:
        count = action.nargs if isinstance(action.nargs, int) else fixed.get(action.nargs, 1)
    count += rng.choice((-1, 1)) if rng.random() < 0.03 else 0
    values = [_value(action, rng) for _ in range(max(count, 0))]
    if not action.option_strings:
        return values
    name = rng.choice(action.option_strings)
    if rng.random() < 0.03:
        name = name[:-1] + "x"
    return (
        [f"{name}={values[0]}"]
        if len(values) == 1 and name.startswith("--") and rng.random() < 0.2
        else [name, *values]
    )


def _make(rng: random.Random) -> bytes:
    if rng.random() < 0.03:
        return json.dumps(
            [rng.choice(HOSTILE_TEXTS).replace("\0", ""), *rng.choices(_NAMES, k=rng.randrange(3))]
        ).encode()
    command = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    called = rng.choice([words for words in _parsers() if words.split()[0] == command])
    actions = [
        a for a in _parsers()[called]._actions if not isinstance(a, argparse._HelpAction | argparse._SubParsersAction)
    ]
    words = called.split()
    sound = rng.random() < 0.6
    for action in actions:
        if not action.option_strings or action.required:
            if sound or rng.random() < 0.9:
                words += _words_of(action, rng)
        elif rng.random() < (1.5 if sound else 4) / len(actions):
            words += _words_of(action, rng)
    if rng.random() < 0.02:
        rng.shuffle(words)
    return json.dumps([*words, *_BOUNDS.get(called, [])]).encode()


_FOLDER = tempfile.TemporaryDirectory(prefix="seg-fuzz-files-")  # removed when the process ends


@functools.cache
def _template() -> Path:
    """Returns a folder with a model, images, a dataset, configs, and files that are none of these."""
    folder = Path(_FOLDER.name)
    two = DatasetMetadata("two", ("a", "b"))
    save_model(_tiny(width=3), folder / "model.pt", metadata=two, preprocessing=Preprocessing())
    (folder / "cut.pt").write_bytes((folder / "model.pt").read_bytes()[:-500])
    for number in range(3):
        for kind in ("images", "masks"):
            (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
        shape = (24, 20, 3)
        image = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
        Image.fromarray(image).save(folder / "data" / "images" / f"{number}.png")
        Image.fromarray(image[..., 0] % 2).save(folder / "data" / "masks" / f"{number}.png")
    shutil.copy(folder / "data" / "images" / "0.png", folder / "x.png")
    (folder / "empty").mkdir()
    (folder / "file").write_text("no folder")
    (folder / "bad.toml").write_text("a = [")
    lines = ('[model]\nname = "fuzz_tiny"', '[data.dataset]\nname = "FolderDataset"\nroot = "data"')
    lines += ('params.metadata = { labels = ["a", "b"] }', "[data.loader]\nbatch_size = 1", "[trainer]\nsteps = 1\n")
    (folder / "run.toml").write_text("\n".join(lines))
    return folder


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _attempt(data: bytes, folder: Path) -> None:
    words: list[str] = json.loads(data)
    shutil.copytree(_template(), folder, dirs_exist_ok=True)
    before = _files(folder)
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code: Any = main(words)
    said = error.getvalue()
    if code not in (0, 1, 2):
        raise Difference(f"exit code {code!r}")
    if "Traceback (most recent call last)" in said:
        raise Difference(f"a traceback: {said[-500:]}")
    if code and not said.strip() and not out.getvalue().strip():
        raise Difference(f"exit code {code} without a word")
    if code == 2 and (added := _files(folder) - before):
        raise Difference(f"wrong usage, and yet {sorted(added)[:5]} appeared")
    _check_terminal(said)  # stdout, which is no terminal here, gets names as they are, as from ls
    if code:
        raise Refused(f"exit code {code}")


def _check_terminal(text: str) -> None:
    """Raises Difference if text would do more in a terminal than show itself."""
    for at, character in enumerate(text):
        is_control = ord(character) < 32 or 127 <= ord(character) < 160
        if (is_control and character not in _TERMINAL) or character in _BIDIRECTIONAL:
            raise Difference(f"a control character reaches the terminal: {text[max(0, at - 60) : at + 20]!r}")


HARNESS = Harness(_make, _attempt, ".json")
