import errno
import os
import stat
from pathlib import Path

import pytest

from seg_core.errors import DatasetNotFoundError, WriteError, WrongTargetError
from seg_core.files.atomic import atomic_path, check_folder, write_text


def test_write_text_makes_folders_and_leaves_only_the_file(tmp_path):
    target = tmp_path / "a" / "b.txt"
    write_text(target, "ü\n")
    assert target.read_text(encoding="utf-8") == "ü\n"
    assert list(target.parent.iterdir()) == [target]


def test_atomic_path_error_in_the_block_keeps_the_old_file(tmp_path):
    target = tmp_path / "b.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_keeps_suffix_and_gives_ordinary_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_path(tmp_path / "x.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path
    assert stat.S_IMODE(os.stat(tmp_path / "x.png").st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_write_text_where_a_file_is_the_folder_raises_write_error(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x.txt", tmp_path):  # a file as a folder, and a folder as the file
        with pytest.raises(WrongTargetError, match=rf"cannot write {path}: .*: choose another path"):
            write_text(path, "text")


def test_write_text_on_a_full_disk_raises_write_error(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    message = r"cannot write .*x.txt: No space left on device; check the folder's permissions and free space"
    with pytest.raises(WriteError, match=message) as caught:
        write_text(tmp_path / "x.txt", "text")
    assert not isinstance(caught.value, WrongTargetError)


def test_check_folder_finds_a_file_at_any_level_and_creates_nothing(tmp_path):
    (tmp_path / "file").touch()
    check_folder(tmp_path / "new" / "deep", "--out")
    for path in (tmp_path / "file", tmp_path / "file" / "new" / "deep"):
        with pytest.raises(WrongTargetError, match=rf"--out x cannot be written, since {tmp_path / 'file'} is a file"):
            check_folder(path, "--out x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_atomic_path_lets_a_user_error_through(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="where"), atomic_path(tmp_path / "x"):
        raise DatasetNotFoundError("where")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")
def test_write_to_full_disk_raises_write_error(tmp_path):
    # the temporary file is on a disk with space; a writer that meets a full one raises what /dev/full does
    with (
        pytest.raises(WriteError, match="No space left"),
        atomic_path(tmp_path / "x"),
        open("/dev/full", "w") as full,
    ):
        full.write("text")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_what_is_no_file_gets_the_content_and_stays(tmp_path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text(pipe, "text")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    if Path("/dev/full").exists():
        with pytest.raises(WriteError, match="No space left"):
            write_text("/dev/full", "text")
        assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.json"]


@pytest.mark.parametrize("exists", [True, False])
def test_link_stays_and_what_it_leads_to_is_written(tmp_path, exists):
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "x.txt", tmp_path / "link.txt"
    if exists:
        file.write_text("old")
    link.symlink_to(file)
    write_text(link, "new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert [path.name for path in file.parent.iterdir()] == ["x.txt"]


def test_write_text_replaces_the_file_in_one_step(tmp_path):
    target = tmp_path / "x.txt"
    target.write_text("old")
    with target.open() as reader:  # whoever reads meanwhile sees the old file, never a half of the new one
        write_text(target, "new")
        assert reader.read() == "old"
    assert target.read_text() == "new"
