"""Advice on command lines of `seg train` and `seg eval` that cannot be parsed, such as options of other trainers."""

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence

__all__ = ["advise_eval", "advise_train"]

_WORD = re.compile(r"(--?)?([A-Za-z][\w.-]*)(?:=(.*))?", re.DOTALL)

_TRAIN = {
    "config": "write the CONFIG without an option: seg train {value}",
    "cfg": "write the CONFIG without an option: seg train {value}",
    "config_file": "write the CONFIG without an option: seg train {value}",
    "resume_from": "write --resume {value}",
    "auto_resume": "write --resume",
    "ckpt_path": "write --resume {value}",
    "resume_from_checkpoint": "write --resume {value}",
    "load_from": "write --weights {value}",
    "pretrained": "write --weights {value}",
    "ckpt": "write --weights {value}",
    "checkpoint": "write --weights {value}",
    "epoch": "write --epochs {value}",
    "name": "write -s paths.run={value}",
    "run": "write -s paths.run={value}",
    "cfg_options": "write -s {value}",
    "options": "write -s {value}",
    "opts": "write -s {value}",
    "override": "write -s {value}",
    "launcher": "start the processes with: torchrun --nproc_per_node N -m seg_core.command train CONFIG",
    "dist": "start the processes with: torchrun --nproc_per_node N -m seg_core.command train CONFIG",
}
"""Options of other trainers, as words -> what to write here."""

_EVAL = {
    "checkpoint": "write the MODEL without an option: seg eval {value}",
    "ckpt": "write the MODEL without an option: seg eval {value}",
    "model": "write the MODEL without an option: seg eval {value}",
    "data": "write the DATASET behind the MODEL: seg eval MODEL {value}",
    "dataset": "write the DATASET behind the MODEL: seg eval MODEL {value}",
    "out": "write --json {value}",
    "output": "write --json {value}",
    "tta": "write -s hflip=true -s 'scales=[0.75, 1, 1.25]'",
    "thresholds": "write --threshold {value}",
    "thresh": "write --threshold {value}",
    "conf": "write --threshold {value}",
    "eval": "remove it: all scores are computed",
    "metrics": "remove it: all scores are computed",
}
_EVAL_KEYS = {
    "data_root": "root",
    "data_dir": "root",
    "dtype": "precision",
    "batch": "batch_size",
    "workers": "num_workers",
    "tile_size": "tile",
}


def advise_train(words: Sequence[str], problem: str) -> list[str]:  # noqa: ARG001 - as the parser calls it
    """Returns what to do about a command line that cannot be parsed, a clause for each cause that is found.

    Args:
        words: the command line behind `seg train`.
        problem: message of argparse.
    """
    from seg_train.config.other_names import advice_on_key, key_called
    from seg_train.config.schema import all_keys

    keys = set(all_keys())

    def key_of(name: str) -> str | None:
        above, _, last = name.rpartition(".")
        is_param = "params" in above.split(".") and any(above == key or above.startswith(f"{key}.") for key in keys)
        return name if name in keys or is_param else key_called(last)

    return list(_advise(words, _TRAIN, ("resume", "weights", "epochs", "steps", "progress"), key_of, advice_on_key))


def advise_eval(words: Sequence[str], problem: str) -> list[str]:  # noqa: ARG001 - as the parser calls it
    """Returns what to do about a command line that cannot be parsed, a clause for each cause that is found.

    Args:
        words: the command line behind `seg eval`.
        problem: message of argparse.
    """
    from seg_train.commands.eval_settings import ALLOWED

    def key_of(name: str) -> str | None:
        plain = name.replace("-", "_")
        return plain if plain in ALLOWED else _EVAL_KEYS.get(plain)

    return list(_advise(words, _EVAL, ("weights", "variant", "threshold", "json"), key_of, lambda name: None))  # noqa: ARG005


def _advise(
    words: Sequence[str],
    others: dict[str, str],
    own: Collection[str],
    key_of: Callable[[str], str | None],
    advice: Callable[[str], str | None],
) -> Iterator[str]:
    """Yields a clause for each word that is a key or an option of another tool.

    Args:
        words: the command line.
        others: options of other tools -> what to write.
        own: our options, without dashes.
        key_of: returns the key of `-s` that a word means, or None.
        advice: returns what else to do about a word, or None.
    """
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word in ("-s", "--set"):
            rest: list[str] = []
            while place + len(rest) < len(words) and not words[place + len(rest)].startswith("-"):
                rest.append(words[place + len(rest)])
            place += len(rest) or 0
            yield from _behind_set(rest)
            continue
        match = _WORD.fullmatch(word)
        if match is None:
            continue
        dashes, name, value = match[1], match[2], match[3]
        if (dashes and name.replace("_", "-") in own) or (not dashes and value is None):
            continue  # our own option, a value or a path
        if value is None:
            following = words[place] if place < len(words) else None
            if following is not None and not following.startswith("-"):
                value = following
                place += 1
        plain = name.lower().replace("-", "_")
        if plain.replace("_", "-") in own:
            told = f"write --{name} {shlex.quote(value or 'VALUE')}"
        elif plain in others:
            told = others[plain].replace("{value}", "VALUE" if value is None else shlex.quote(value))
        elif (key := key_of(name)) is not None:
            told = f"write -s {key}={'VALUE' if value is None else shlex.quote(value)}"
        else:
            told = advice(name) or ""
        if told:
            yield f"for {word.split('=')[0]}{'=' if not dashes else ''}, {told}"


def _behind_set(rest: Sequence[str]) -> Iterator[str]:
    """Yields a clause if the words behind `-s` are a key and its value in several words."""
    if len(rest) < 2:
        return
    text = " ".join(rest)
    if "=" not in rest[0] or rest[0].endswith("=") or rest[1].startswith("="):
        key, _, value = text.partition("=") if "=" in text else text.partition(" ")
        yield f"-s takes KEY=VALUE as one word: write -s {shlex.quote(f'{key.strip()}={value.strip()}')}"
    elif all("=" in word for word in rest):
        yield f"-s takes one KEY=VALUE: write {' '.join(f'-s {shlex.quote(word)}' for word in rest)}"
    elif sum(rest[0].count(mark) for mark in "[{") > sum(rest[0].count(mark) for mark in "]}"):
        yield f"-s takes KEY=VALUE as one word: write -s {shlex.quote(text)}"
