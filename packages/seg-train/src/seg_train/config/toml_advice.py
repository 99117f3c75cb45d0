"""What to write instead of a line that is not TOML: each advice is tried first, so it leads past the mistake."""

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from seg_core.parsing import parse_toml

__all__ = ["line_advice", "other_format", "quoted"]

_LINES_ABOVE = 3
_LINES_JOINED = 40
# each advice parses the file again, once for every line that may be meant
_LONGEST_TRIED = 30_000  # characters of the file
_LONGEST_LINE = 1000
_LINES_TRIED = 100
_PLACE = re.compile(r"at line (\d+)")
_ASSIGNMENT = re.compile(r"^(\s*[\w.\"'-]+\s*)=(.*)$")
_WORD = re.compile(r"(?<![\w.\"'-])[A-Za-z_/~.][\w./~:\\+-]*(?![\w\"'])")
_PLAIN = {"true": "true", "false": "false", "yes": "true", "no": "false", "on": "true", "off": "false"}
_OTHER_FORMATS = {".yaml": "YAML", ".yml": "YAML", ".json": "JSON", ".py": "Python"}


def other_format(path: Path) -> str:
    """Returns what to do with a config of another format, by its suffix, or ""."""
    name = _OTHER_FORMATS.get(path.suffix.lower())
    if name is None:
        return ""
    return (
        f"configs are TOML, not {name}: `seg config init run.toml` writes one to fill in; it has sections such as "
        '[model] with lines such as name = "enet"'
    )


def line_advice(text: str, message: str) -> str:
    """Returns the line of the first mistake of a TOML file and what to write instead, or "".

    Args:
        text: the file.
        message: that of tomllib's error.
    """
    lines = text.splitlines()
    found = _PLACE.search(message)
    number = min(int(found[1]) if found else len(lines), len(lines))
    if not number:
        return ""
    line = lines[number - 1]
    if len(text) > _LONGEST_TRIED or len(line) > _LONGEST_LINE:
        return f"; line {number} is: {line.strip()[:_LINES_TRIED]}" if line.strip() else ""
    if joined := _joined(lines, number):
        return joined
    for rewrite in _REWRITES:
        for better in rewrite(line):
            if better != line and _leads_past([*lines[: number - 1], better, *lines[number:]], number):
                return f"; write line {number} as: {better.strip()}"
    # what is not closed may have begun above
    last = len(lines) if found is None else number
    begins = range(max(1, last - (_LINES_TRIED if found is None else _LINES_ABOVE)), last)
    for above in reversed(begins):
        for better in _closed(lines[above - 1]):
            if better != lines[above - 1] and _leads_past([*lines[: above - 1], better, *lines[above:]], number):
                return f"; write line {above} as: {better.strip()}"
    if "Cannot overwrite" in message or "twice" in message:
        return f"; line {number} repeats a key or section of above: {line.strip()}; remove one of them"
    return f"; line {number} is: {line.strip()}" if line.strip() else ""


def _joined(lines: list[str], number: int) -> str:
    """Returns the advice for an inline table over several lines that begins at a line, or ""."""
    for last in range(number, min(number + _LINES_JOINED, len(lines))):
        parts = [line.strip() for line in lines[number - 1 : last + 1]]
        text = " ".join(parts)
        if text.count("{") > text.count("}") or not parts[0].endswith("{"):
            continue
        better = re.sub(r",\s*}", " }", text)
        if _leads_past([*lines[: number - 1], better, *lines[last + 1 :]], number):
            return f"; a table in braces is one line, write lines {number} to {last + 1} as: {better}"
        break
    return ""


def quoted(value: str) -> str | None:
    """Returns a list or a table with quotes around its bare words, as in `["a", "b"]` for `[a, b]`; else None."""
    for better in _quote_words(f"value = {value}"):
        try:
            parse_toml(better)
        except tomllib.TOMLDecodeError:
            continue
        return better.removeprefix("value = ")
    return None


def _leads_past(lines: list[str], number: int) -> bool:
    """Returns whether a file is TOML up to and including a line."""
    try:
        parse_toml("\n".join(lines) + "\n")
    except tomllib.TOMLDecodeError as error:
        found = _PLACE.search(str(error))
        return int(found[1]) > number if found else len(lines) > number
    return True


def _split(line: str) -> tuple[str, str] | None:
    """Returns what is before the equals sign and the value behind it, without a comment behind a bare value."""
    found = _ASSIGNMENT.match(line)
    return (found[1], found[2].strip()) if found else None


def _colon(line: str) -> Iterator[str]:
    found = re.match(r"^(\s*[\w.\"'-]+)\s*:\s*(.*)$", line)
    if found and found[2]:
        yield f"{found[1].strip()} = {found[2]}"
        yield from _quote_words(f"{found[1].strip()} = {found[2]}")


def _backslashes(line: str) -> Iterator[str]:
    if "\\" in line:
        yield line.replace("\\\\", "/").replace("\\", "/")


def _python_words(line: str) -> Iterator[str]:
    parts = _split(line)
    if parts is None:
        return
    key, value = parts
    if value.split("#")[0].strip() in ("None", "null", "nil", "~"):
        yield f'# {key.strip()} is left out, for its default; to unset that of a base config: {key.strip()} = "none"'
    swapped = re.sub(r"(?<![\w\"'])(True|False|TRUE|FALSE)(?![\w\"'])", lambda found: found[1].lower(), value)
    yield f"{key.strip()} = {swapped}"
    tuples = re.sub(r"\(([^()]*)\)", r"[\1]", swapped)
    yield f"{key.strip()} = {tuples}"
    word = _PLAIN.get(value.split("#")[0].strip().lower())
    if word is not None:
        yield f"{key.strip()} = {word}"


def _numbers(line: str) -> Iterator[str]:
    full = re.sub(r"(?<![\w.])([+-]?)\.(\d)", r"\g<1>0.\2", line)
    full = re.sub(r"(\d)\.(?![\d])", r"\1.0", full)
    yield full
    yield re.sub(r"(?<![\w.,\[])(\d+),(\d+)(?![\w,\]])", r"\1.\2", full)


def _comment(line: str) -> Iterator[str]:
    yield re.sub(r"\s//.*$", lambda found: " #" + found[0].strip()[2:], line)


def _table_syntax(line: str) -> Iterator[str]:
    yield re.sub(r"([{,]\s*)[\"']?(\w+)[\"']?\s*:\s*", r"\1\2 = ", line)
    yield from (_dict_call(better) for better in [line] if "dict(" in line)


def _dict_call(line: str) -> str:
    return re.sub(r"dict\(([^()]*)\)", lambda found: "{ " + found[1].replace("'", '"') + " }", line)


def _quote_words(line: str) -> Iterator[str]:
    parts = _split(line)
    if parts is None:
        return
    key, value = parts
    bare, mark, comment = value.partition(" #")
    behind = f"{mark}{comment}"
    if not re.search(r"[\[\]{}\"']", bare):
        yield f'{key.strip()} = "{bare.strip()}"{behind}'
        return
    body = re.sub(
        r"(\"[^\"]*\"|'[^']*')|" + _WORD.pattern + r"(?!\s*=)",
        lambda found: found[0] if found[1] or found[0] in ("true", "false", "inf", "nan") else f'"{found[0]}"',
        bare,
    )
    yield f"{key.strip()} = {body}{behind}"


def _closed(line: str) -> Iterator[str]:
    for mark in ('"', "'"):
        if line.count(mark) % 2:
            yield line.rstrip() + mark
            yield re.sub(r"=\s*([^\"'\s]\S*)" + mark + r"$", rf"= {mark}\1{mark}", line.rstrip())
    yield line.rstrip() + "]" * (line.count("[") - line.count("]"))
    yield line.rstrip() + " }" * (line.count("{") - line.count("}"))


def _several(line: str) -> Iterator[str]:
    """Yields a line after several rewrites, one after the other, for a line with several mistakes."""
    for rewrite in (_table_syntax, _python_words, _numbers, _quote_words):
        line = next(iter(rewrite(line)), line)
        yield line


_REWRITES: tuple[Callable[[str], Iterator[str]], ...] = (
    _colon,
    _backslashes,
    _python_words,
    _numbers,
    _comment,
    _table_syntax,
    _closed,
    _quote_words,
    _several,
)
