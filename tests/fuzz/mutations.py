"""Damage to bytes, and values that hostile files hold."""

import random
from typing import Any

__all__ = ["HOSTILE_TEXTS", "damaged", "hostile_value"]

HOSTILE_TEXTS = (
    *(
        "",
        " ",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "C:\\x",
        "a/b",
        "nul",
        "%s%n",
        "{0}",
        "{}",
        "${HOME}",
        "<script>",
        "'",
        '"',
    ),
    *("a\x00b", "\n", "\x1b[31mred", "\x9b31m", "\u202egnp", "\ud800", "\ufeff", "e\u0301", "x" * 300, "x" * 70_000),
    *("None", "nan", "1e400", "-0", "true", "[]", "os:getcwd", "seg_core:nope", "nope.nope:nope"),
    *("http://127.0.0.1:9/x", "file:///etc/passwd"),
)
_NUMBERS = (0, -1, 1, 2, 3, 7, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, 10**9, 10**30, -(2**63))
_FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-9, 1e-320, 1e9, 1e30, 1e308, -1e308, float("nan"), float("inf"), -float("inf"))
_WORDS = (
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\x00\x00",
    b"\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\xff" * 4,
)


def hostile_value(rng: random.Random, depth: int = 0) -> Any:
    """Returns a value of a kind that TOML, JSON and pickles hold."""
    kind = rng.randrange(8 if depth < 2 else 5)
    if kind == 0:
        return rng.choice(HOSTILE_TEXTS)
    if kind == 1:
        return rng.choice(_NUMBERS)
    if kind == 2:
        return rng.choice(_FLOATS)
    if kind == 3:
        return rng.random() < 0.5
    if kind == 4:
        return rng.choice(("enet", "a", "train", "auto", "none", "cpu"))
    values = [hostile_value(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 3, 30)))]
    return values if kind < 7 else {f"k{number}": value for number, value in enumerate(values)}


def damaged(data: bytes, rng: random.Random, times: int | None = None) -> bytes:
    """Returns bytes that are changed in a few places: bits, words, parts removed, repeated, moved, or cut off."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8)) if times is None else times):
        if not found:
            return bytes(rng.randrange(256) for _ in range(rng.randrange(20)))
        # headers and tables are small and matter most
        at = rng.randrange(len(found)) if rng.random() < 0.5 else rng.randrange(min(len(found), 128))
        kind = rng.randrange(9)
        if kind < 2:
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            found[at] = rng.randrange(256)
        elif kind == 3:
            word = rng.choice(_WORDS)
            found[at : at + len(word)] = word
        elif kind == 4:
            word = rng.choice(_NUMBERS).to_bytes(16, rng.choice(("little", "big")), signed=True)
            size = rng.choice((2, 4, 8))
            found[at : at + size] = word[:size] if word[:size].strip(b"\x00") else word[-size:]
        elif kind == 5:
            del found[at : at + rng.choice((1, 2, 4, 16, 100))]
        elif kind == 6:
            part = found[at : at + rng.choice((1, 4, 16, 100))]
            found[at:at] = part * rng.choice((1, 2, 20))
        elif kind == 7:
            end = at + rng.choice((1, 4, 16, 100))
            found[at:end] = bytes(rng.randrange(256) for _ in range(len(found[at:end])))
        elif rng.random() < 0.5:
            del found[at:]
    return bytes(found)
