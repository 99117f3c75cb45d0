"""JSON of a run folder that something else wrote: one sentence, or as good as none, never an error of a library."""

import json
import os
import re
import socket
import types

import numpy as np
import pytest

from seg_core.errors import CorruptFileError, UserError
from seg_train.loggers.row_file import RowFile
from seg_train.run import lock, together
from seg_train.run.folder import RunFolder
from seg_train.run.lock import RunLockedError, check_unlocked, locked
from seg_train.run.relative_paths import folders_of_run

DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "7" * 5000
BAD_JSON = {
    "deep": f'{{"weights": {DEEP}}}',
    "digits": f'{{"weights": [1, {DIGITS}]}}',
    "nan": '{"weights": [1, NaN]}',
    "infinite": '{"weights": [1, 1e999]}',
    "twice": '{"weights": [1, 1], "weights": [1, 2]}',
    "cut": '{"weights": [1,',
    "binary": "\0\x01\x02",
    "list": "[1, 2]",
    "absent": "{}",
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON)
def test_class_weights(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.class_weights.write_text(text)
    with pytest.raises(CorruptFileError, match=re.escape(str(folder.class_weights))) as caught:
        folder.read_class_weights(2)
    assert text.startswith("\0") or "delete it to count the pixels again" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", ["1", [1], [1, 2, 3], [1, "2"], [1, True], [1, -1], [[1], [2]], None])
def test_class_weights_of_other_types_or_numbers(tmp_path, weights):
    folder = RunFolder(tmp_path)
    folder.class_weights.write_text(json.dumps({"weights": weights}))
    with pytest.raises(CorruptFileError, match="must be 2 numbers >= 0"):
        folder.read_class_weights(2)
    folder.write_class_weights("enet", ("a", "b"), [1, 2.5])
    assert folder.read_class_weights(2) == [1.0, 2.5]
    folder.class_weights.unlink()
    assert folder.read_class_weights(2) is None


@pytest.mark.parametrize(
    "counts",
    [np.ones(2, np.int64), np.ones((3, 3), np.int64), np.ones((3, 2)), -np.ones((3, 2), np.int64), np.int64(1)],
)
def test_pixel_counts_of_other_types_or_shapes(tmp_path, counts):
    folder = RunFolder(tmp_path)
    np.save(folder.pixel_counts, counts)
    with pytest.raises(CorruptFileError, match=r"pixel_counts\.npy.* delete it to count the pixels again"):
        folder.read_pixel_counts(2)
    np.save(folder.pixel_counts, np.array([[1, 2]], np.int32))
    assert folder.read_pixel_counts(2).tolist() == [[1, 2]]


def test_pixel_counts_that_declare_more_than_they_hold(tmp_path):
    folder = RunFolder(tmp_path)
    np.save(folder.pixel_counts, np.ones((100, 2), np.int64))
    data = folder.pixel_counts.read_bytes()
    for changed in (data.replace(b"(100, 2), }    ", b"(9999999, 2), }"), data[:200], data[:5], b"", b"text"):
        folder.pixel_counts.write_bytes(changed)
        with pytest.raises(CorruptFileError, match=r"pixel_counts\.npy is damaged"):
            folder.read_pixel_counts(2)


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON)
def test_environment(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.config.write_text("format = 2\n")
    folder.environment.write_text(text)
    assert folders_of_run(tmp_path, "elsewhere")[-1] == folders_of_run(tmp_path, "elsewhere")[0]
    folder.add_environment({"python": "3"}, 5)
    assert json.loads(folder.environment.read_text())["resumed"] == [{"step": 5, "python": "3"}]


HOLDER = {"pid": os.getpid(), "host": socket.gethostname(), "since": "today", "command": "seg train"}


@pytest.mark.parametrize(
    "text",
    [*BAD_JSON.values(), *(json.dumps({**HOLDER, "pid": pid}) for pid in (10**30, 0, -1, 2**31, "1", True, None))],
)
def test_holder_of_a_lock(tmp_path, text, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.0)
    with locked(tmp_path):
        (tmp_path / ".lock.json").write_text(text)
        with pytest.raises(RunLockedError) as caught:
            check_unlocked(tmp_path)
        assert "seg train" not in str(caught.value).partition(";")[0]
        (tmp_path / ".lock.json").write_text(json.dumps({**HOLDER, "command": "long " * 10_000}))
        with pytest.raises(RunLockedError, match=f"process {os.getpid()} on ") as caught:
            check_unlocked(tmp_path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("last", [f'"x": {DEEP}', f'"x": {DIGITS}', '"x": NaN', '"x": 1, "x": 2'])
def test_rows_that_are_not_valid_are_set_aside(tmp_path, last):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"kind": "step", "step": 1}}\n{{"kind": "step", "step": 2, {last}}}\n')
    rows = RowFile(path)
    note = rows.resume({"step": 3, "rows": 2, "newest_step": 2, "newest_kinds": {"step": 1}}, {})
    assert "is damaged: 1 rows could be read; 1 rows of 2 are lost" in note
    assert rows.rows == [{"kind": "step", "step": 1}]
    assert path.read_text() == '{"kind": "step", "step": 1}\n'
    assert (tmp_path / "metrics.damaged.jsonl").is_file()


@pytest.mark.parametrize("text", [*BAD_JSON.values(), '{"rank": 1, "host": "a", "text": "\\ud800"}'])
def test_report_of_another_process(text):
    store = types.SimpleNamespace(check=lambda _: True, get=lambda _: text.encode(), add=lambda *_: 1)
    processes = object.__new__(together._Processes)
    processes._store, processes._failures, processes._meetings = store, 0, 1
    with pytest.raises(UserError, match="another process of this run could not start; see the output of each"):
        processes._raise_reported()
    store.get = lambda _: b'{"rank": 1, "host": "a", "text": "no disk"}'
    with pytest.raises(UserError, match="process 1 of this run, on a, could not start: no disk"):
        processes._raise_reported()
