"""The rows of metrics on the disk, one JSON object per line, and their repair if something else changed the file."""

import contextlib
import csv
import itertools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_core.errors import WriteError
from seg_core.files.atomic import write_error, write_text
from seg_core.files.json_text import finite
from seg_core.parsing import parse_json
from seg_train.config.schema import flatten

__all__ = ["RowFile", "flat_rows"]

KINDS = ("step", "epoch")
_PER_CLASS = "_per_class."


class RowFile:
    """Rows of a run, in memory and in a file that has them all.

    The file is compared with the rows in memory before each write. If it was deleted, or changed by something else, it
    is written again; what was found in its place is kept aside as `<name>.damaged.jsonl`.

    A row is a mapping with `kind`, `"step"` or `"epoch"`, and `step`, an integer.

    Args:
        path: the file; it need not exist.

    Attributes:
        rows: all rows of the run, in order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._num_written = 0
        # of the file as it was left by the last write
        self._identity: tuple[int, int, int] | None = None

    def append(self, row: Mapping[str, Any]) -> str | None:
        """Adds a row, and writes it with all others that are not written yet.

        Returns:
            A sentence if the file had to be repaired, else None.

        Raises:
            WriteError: if the file cannot be written; the row is kept, and written with a later one.
        """
        self.rows.append(json.loads(json.dumps(finite(row))))
        return self.write()

    def write(self) -> str | None:
        """Repairs the file if needed, and writes what is missing, as `append` does."""
        try:
            note = None if self._is_intact() else self._repair()
            if self._num_written < len(self.rows):
                self._append_missing()
        except WriteError:
            raise
        except OSError as error:
            raise write_error(f"write {self.path}", error) from error
        return note

    def sync(self) -> str | None:
        """Writes what is missing, and waits until it is on the disk."""
        note = self.write()
        if self.path.is_file():
            try:
                with self.path.open("rb") as file:
                    os.fsync(file.fileno())
            except OSError as error:
                raise write_error(f"write {self.path}", error) from error
        return note

    def state(self) -> dict[str, Any]:
        """Returns what `resume` needs: the number of rows, and the newest step with the kinds of its rows."""
        newest = self.rows[-1]["step"] if self.rows else None
        kinds = Counter(row["kind"] for row in self.rows if row["step"] == newest)
        return {"rows": len(self.rows), "newest_step": newest, "newest_kinds": dict(kinds)}

    def begin(self) -> str | None:
        """Starts a file for a new run.

        Returns:
            A sentence if there are rows of an earlier run, which are kept aside, else None.

        Raises:
            WriteError: if they cannot be renamed.
        """
        if not os.path.lexists(self.path):
            return None
        try:
            return f"{self.path} is of an earlier run; it is now {self._set_aside('superseded').name}"
        except OSError as error:
            raise write_error(f"rename {self.path}", error) from error

    def resume(self, state: Mapping[str, Any], tables: Mapping[str, Path]) -> str | None:
        """Reads the rows up to a checkpoint, and removes newer ones from the file.

        Rows that the file has lost are taken from the tables.

        Args:
            state: from the checkpoint: what `state` returned, with `"step"`, the step of the checkpoint. Checkpoints of
                earlier versions have `"bytes"`, the size of the file, in place of the other keys.
            tables: CSV file with the rows of each kind.

        Returns:
            A sentence if the file was missing or damaged, else None.

        Raises:
            WriteError: if the file cannot be written; the rows are kept, and written with a later one.
        """
        data = self._read()
        lines, is_damaged = _parse(data or b"")
        kept = list(_up_to_checkpoint(lines, state))
        expected = state.get("rows")
        had_rows = bool(state.get("bytes") if expected is None else expected)
        is_short = len(data or b"") < state.get("bytes", 0) if expected is None else len(kept) < expected
        self.rows = [line.row for line in kept]
        if not is_damaged and not is_short and (data is not None or not had_rows):
            self._shorten(data, b"".join(line.raw for line in kept))
            return None
        restored = self._complete(state, tables)
        note = self._describe(data, restored, expected)
        try:
            if os.path.lexists(self.path):
                note += f"; the former file is now {self._set_aside('damaged').name}"
            self._write_all()
        except OSError as error:
            raise write_error(f"write {self.path}", error) from error
        return note

    def _complete(self, state: Mapping[str, Any], tables: Mapping[str, Path]) -> int:
        """Adds the rows up to the checkpoint that only the tables have; returns their number."""
        known = {(row["step"], row["kind"]) for row in self.rows}
        found = [_Line(row, b"", 0) for kind, path in tables.items() for row in _rows_of_table(kind, path)]
        missing = [
            line.row for line in _up_to_checkpoint(found, state) if (line.row["step"], line.row["kind"]) not in known
        ]
        # the row of a step is written before that of the evaluation after it
        self.rows = sorted(self.rows + missing, key=lambda row: (row["step"], KINDS.index(row["kind"])))
        return len(missing)

    def _describe(self, data: bytes | None, restored: int, expected: int | None) -> str:
        what = "damaged" if data is not None or os.path.lexists(self.path) else "missing"
        text = f"{self.path} is {what}: {len(self.rows) - restored} rows could be read"
        if restored:
            text += f", and {restored} were taken from steps.csv and epochs.csv"
        if expected is not None and expected > len(self.rows):
            text += f"; {expected - len(self.rows)} rows of {expected} are lost"
        return text

    def _read(self) -> bytes | None:
        """Returns the content of the file, or None if it is no file that can be read."""
        try:
            return self.path.read_bytes()
        except OSError:
            return None

    def _is_intact(self) -> bool:
        """Returns whether the file holds exactly what was written to it."""
        found = _identity(self.path)
        if found is None:
            return self._num_written == 0 and not os.path.lexists(self.path)
        if found == self._identity:
            return True
        # some file systems change the times of a file later on, so its content decides
        data = self._read()
        lines, is_damaged = _parse(data or b"")
        is_same = data is not None and not is_damaged and data[-1:] in (b"", b"\n")
        if not is_same or [line.row for line in lines] != self.rows[: self._num_written]:
            return False
        self._identity = found
        return True

    def _repair(self) -> str:
        count = self._num_written
        if os.path.lexists(self.path):
            aside = self._set_aside("damaged").name
            note = f"{self.path} was changed by something else; it is now {aside}, and"
        else:
            note = f"{self.path} was deleted;"
        self._write_all()
        return f"{note} the {count} rows of the run were written again"

    def _set_aside(self, why: str) -> Path:
        """Renames what is at the path, to a name that is free."""
        for number in itertools.count(1):
            suffix = f".{why}" if number == 1 else f".{why}-{number}"
            target = self.path.with_name(f"{self.path.stem}{suffix}{self.path.suffix}")
            if not os.path.lexists(target):
                self.path.rename(target)
                break
        return target

    def _shorten(self, data: bytes | None, kept: bytes) -> None:
        """Removes what is newer than the checkpoint from the file."""
        if data is None:
            return
        try:
            if not data.startswith(kept):
                self._write_all()
                return
            if kept != data:
                os.truncate(self.path, len(kept))
            if kept and not kept.endswith(b"\n"):
                with self.path.open("ab") as file:
                    file.write(b"\n")
        except OSError as error:
            raise write_error(f"write {self.path}", error) from error
        self._remember_file()

    def _write_all(self) -> None:
        self._num_written = 0
        self._identity = None
        write_text(self.path, "".join(map(_line_of, self.rows)))
        self._remember_file()

    def _append_missing(self) -> None:
        size = self.path.stat().st_size if self.path.is_file() else 0
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(map(_line_of, self.rows[self._num_written :]))
        except OSError:
            if self.path.is_file():
                os.truncate(self.path, size)  # an incomplete row would corrupt the next one
                self._identity = _identity(self.path)
            raise
        self._remember_file()

    def _remember_file(self) -> None:
        self._num_written = len(self.rows)
        self._identity = _identity(self.path)


def flat_rows(rows: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Returns the rows of a kind for a table, without `kind`; a number of a class is as `iou_per_class.<class>`."""
    flat = [flatten(row) for row in rows if row["kind"] == kind]
    return [{key: value for key, value in row.items() if key != "kind"} for row in flat]


@dataclass(frozen=True)
class _Line:
    """A row in the file: as bytes, and where they start."""

    row: dict[str, Any]
    raw: bytes
    start: int


def _line_of(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _parse(data: bytes) -> tuple[list[_Line], bool]:
    """Returns the sound rows of a file, and whether there is anything else in it.

    An unfinished last line is no damage: a killed process leaves one.
    """
    lines, start, is_damaged = [], 0, False
    for raw in re.findall(rb"[^\n]*\n|[^\n]+", data):
        row = _row_of(raw)
        if row is not None:
            lines.append(_Line(row, raw, start))
        elif raw.strip() and raw.endswith(b"\n"):
            is_damaged = True
        elif raw.strip():
            is_damaged = not raw.startswith(b"{")
        start += len(raw)
    return lines, is_damaged


def _row_of(raw: bytes) -> dict[str, Any] | None:
    try:
        row = parse_json(raw.decode("utf-8"))
    except ValueError:
        return None
    if not isinstance(row, dict) or row.get("kind") not in KINDS:
        return None
    return row if type(row.get("step")) is int else None


def _up_to_checkpoint(lines: Iterable[_Line], state: Mapping[str, Any]) -> Iterator[_Line]:
    """Yields the rows that were written before the checkpoint, by their steps."""
    left = Counter(state.get("newest_kinds") if state.get("newest_step") == state["step"] else {})
    for line in lines:
        step, kind = line.row["step"], line.row["kind"]
        if step < state["step"]:
            yield line
        elif step == state["step"]:
            # an evaluation may have followed the checkpoint at the same step, and written another row
            if "rows" in state:
                if left[kind]:
                    left[kind] -= 1
                    yield line
            elif line.start < state.get("bytes", math.inf):
                yield line


def _rows_of_table(kind: str, path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a CSV file, as far as it can be read."""
    rows = []
    with contextlib.suppress(OSError, ValueError, csv.Error), path.open(encoding="utf-8", newline="") as file:
        for cells in csv.DictReader(file):
            row = _row_of_cells(kind, cells)
            if type(row.get("step")) is int:
                rows.append(row)
    return rows


def _row_of_cells(kind: str, cells: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": kind}
    # a table does not tell a value that is null from one that is absent: rows of evaluations have all of them
    is_complete = kind == "step" or bool(cells.get("miou"))
    for key, text in cells.items():
        if not isinstance(key, str) or not isinstance(text, str) or (not text and not is_complete):
            continue
        place, _, label = key.partition(_PER_CLASS)
        if label:
            row.setdefault(place + _PER_CLASS.rstrip("."), {})[label] = _value_of(text)
        else:
            row[key] = _value_of(text)
    return row


def _value_of(text: str) -> Any:
    for convert in (int, float):
        with contextlib.suppress(ValueError):
            return finite(convert(text))
    return text or None


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Returns what distinguishes two states of a file; None if there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if path.is_file() else None
