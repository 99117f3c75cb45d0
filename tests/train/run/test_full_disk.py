"""A limit on the size of files in place of a full disk, as `scripts/full_disk.py` fills one on demand."""

import contextlib
import sys

import pytest
import torch

from seg_core.errors import WriteError
from seg_core.files.atomic import is_leftover
from seg_train import Trainer, load_config

resource = pytest.importorskip("resource")  # not on Windows

pytestmark = [
    pytest.mark.skipif(sys.platform == "darwin", reason="the limit ends the process"),
    pytest.mark.filterwarnings("ignore:logger local"),
]


@contextlib.contextmanager
def largest_file(size):
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.fixture
def expected(tables_for, tmp_path_factory):
    """Scores of an uninterrupted run, and the sizes of its files in order."""
    folder = tmp_path_factory.mktemp("whole")
    result = Trainer(load_config(tables_for(folder))).run()
    sizes = sorted({path.stat().st_size for path in (folder / "run").rglob("*.pt")})
    return result.scores, sizes


@pytest.mark.parametrize("point", range(4))
def test_a_run_that_cannot_write_ends_in_one_sentence_and_resumes_as_if_nothing_was(tables, tmp_path, expected, point):
    scores, sizes = expected
    limits = [100, 2000, sizes[0] + 1000, sizes[-1] - 1]
    trainer = Trainer(load_config(tables))
    with largest_file(limits[point]), pytest.raises(WriteError, match=r"^cannot write \S+: .*; check .*free space"):
        trainer.run()
    folder = tmp_path / "runs" / "run"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if is_leftover(path)]
    for path in folder.rglob("*.pt"):
        torch.load(path, weights_only=True)
    resumes = (folder / "config.toml").is_file()
    again = Trainer(load_config(tables), resume=resumes).run()
    for name in ("step", "miou", "acc", "iou_per_class", "train_miou"):
        assert again.scores[name] == pytest.approx(scores[name], nan_ok=True)
