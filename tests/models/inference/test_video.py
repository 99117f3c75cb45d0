"""Reading, predicting and writing videos."""

import sys
from fractions import Fraction

import numpy as np
import pytest

from seg_core.errors import CorruptFileError, InvalidArgumentError, MissingDependencyError
from seg_models import Predictor
from seg_models.inference.video import VideoWriter, frame_rate, read_frames

av = pytest.importorskip("av")
GRAYS = (10, 128, 250, 20, 130)


def write_video(path, frames, rate=10):
    with VideoWriter(path, Fraction(rate)) as video:
        for frame in frames:
            video.write(frame)


def plain(gray, height=48, width=64):
    return np.full((height, width, 3), gray, np.uint8)


def test_frames_are_read_as_they_were_written(tmp_path):
    write_video(tmp_path / "new" / "grays.mp4", map(plain, GRAYS))
    frames = list(read_frames(tmp_path / "new" / "grays.mp4"))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 5
    np.testing.assert_allclose([frame.mean() for frame in frames], GRAYS, atol=3)
    assert frame_rate(tmp_path / "new" / "grays.mp4") == 10
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["grays.mp4"]


def test_rotated_video_is_read_upright(tmp_path):
    """As phones write them: the file holds the frames unrotated, and a rotation."""
    frame = plain(20)
    frame[:24] = 240
    write_video(tmp_path / "unrotated.mp4", [frame] * 3)
    data = (tmp_path / "unrotated.mp4").read_bytes()
    # the matrix of the track header: from the identity to a rotation by 90 degrees
    one, minus, zero = (n.to_bytes(4, "big", signed=True) for n in (0x10000, -0x10000, 0))
    w = (0x40000000).to_bytes(4, "big")
    identity = b"".join([one, zero, zero, zero, one, zero, zero, zero, w])
    rotated = b"".join([zero, one, zero, minus, zero, zero, zero, zero, w])
    at = data.index(identity, data.index(b"tkhd"))
    (tmp_path / "rotated.mp4").write_bytes(data[:at] + rotated + data[at + len(identity) :])
    upright = next(read_frames(tmp_path / "rotated.mp4"))
    assert upright.shape == (64, 48, 3)
    # rotated clockwise, the upper half is on the right
    np.testing.assert_allclose(upright[:, 28:].mean(), 240, atol=4)
    np.testing.assert_allclose(upright[:, :20].mean(), 20, atol=4)


def test_video_is_predicted_frame_by_frame(shades, tmp_path):
    write_video(tmp_path / "grays.mp4", map(plain, GRAYS))
    predictions = list(Predictor(shades, batch_size=2)(tmp_path / "grays.mp4"))
    assert [int(p.labels[0, 0]) for p in predictions] == [0, 1, 2, 0, 1]
    assert all(len(p.areas) == 1 for p in predictions)
    assert predictions[3].source == f"{tmp_path / 'grays.mp4'}, frame 3"
    with av.open(str(tmp_path / "grays.mp4")) as container:
        frames = list(Predictor(shades)(container.decode(video=0)))
    assert [int(p.labels[0, 0]) for p in frames] == [0, 1, 2, 0, 1]


def test_odd_size_loses_its_last_row_and_column(tmp_path):
    write_video(tmp_path / "odd.mp4", [plain(100, 49, 65)])
    assert next(read_frames(tmp_path / "odd.mp4")).shape == (48, 64, 3)


def test_file_that_is_no_video_is_an_error(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    for name in ("text.mp4", "empty.mp4"):
        with pytest.raises(CorruptFileError, match=f"{name} cannot be read as a video: "):
            list(read_frames(tmp_path / name))
    with pytest.raises(FileNotFoundError, match="there is no video .*gone.mp4; check the path"):
        list(read_frames(tmp_path / "gone.mp4"))


def test_failed_writing_leaves_no_file(tmp_path):
    with pytest.raises(InvalidArgumentError, match="frames of a video must have the same size, got 20x64 after 48x64"):
        write_video(tmp_path / "sizes.mp4", [plain(1), plain(1, 20)])
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "broken.mp4", Fraction(5)) as video:
        video.write(plain(1))
        raise ZeroDivisionError
    with pytest.raises(InvalidArgumentError, match=r"path must end in .mp4, .*, got 'clip.xyz'"):
        VideoWriter("clip.xyz", Fraction(5))
    assert list(tmp_path.iterdir()) == []


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"videos need PyAV: pip install 'seg-models\[video\]'"):
        list(read_frames(tmp_path / "clip.mp4"))
