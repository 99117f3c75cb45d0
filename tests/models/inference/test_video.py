"""Reading, predicting and writing videos."""

import sys
from fractions import Fraction

import numpy as np
import pytest

from seg_core.errors import CorruptFileError, InvalidArgumentError, MissingDependencyError
from seg_models import Predictor
from seg_models.inference.video import VideoWriter, frame_rate, read_frames, read_timed_frames

av = pytest.importorskip("av")
GRAYS = (10, 128, 250, 20, 130)


def write_video(path, frames, rate=10):
    with VideoWriter(path, Fraction(rate)) as video:
        for frame in frames:
            video.write(frame)


def times_of(path):
    return [time for _, time in read_timed_frames(path)]


UNEVEN = [Fraction(ms, 1000) for ms in (0, 40, 80, 120, 160, 1000, 2000, 2040)]


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


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".webm"])
@pytest.mark.parametrize("start", [Fraction(0), Fraction(1, 2), Fraction(-1, 5)])
def test_times_of_frames_are_written_and_read(suffix, start, tmp_path):
    path = tmp_path / f"uneven{suffix}"
    with VideoWriter(path, Fraction(7)) as video:
        for number, time in enumerate(UNEVEN):
            video.write(plain(GRAYS[number % 5]), time + start)
    frames = list(read_timed_frames(path))
    # times below 0 are moved, since players leave out such frames
    assert [time for _, time in frames] == [time + max(start, 0) for time in UNEVEN]
    np.testing.assert_allclose([f.mean() for f, _ in frames], [GRAYS[n % 5] for n in range(8)], atol=4)
    with av.open(str(path)) as container:
        assert float(container.duration / av.time_base) == pytest.approx(2.1, abs=0.6)


def test_video_of_one_frame(tmp_path):
    with VideoWriter(tmp_path / "one.mp4", Fraction(25)) as video:
        video.write(plain(100), Fraction(0))
    ((frame, time),) = read_timed_frames(tmp_path / "one.mp4")
    assert time == 0
    assert abs(frame.mean() - 100) < 3


def test_rate_of_ntsc_keeps_exact_times(tmp_path):
    rate = Fraction(30000, 1001)
    for name, times in (("timed.mp4", [number / rate for number in range(9)]), ("rated.mp4", [None] * 9)):
        with VideoWriter(tmp_path / name, rate) as video:
            for time in times:
                video.write(plain(100), time)
        assert times_of(tmp_path / name) == [number / rate for number in range(9)]
        assert frame_rate(tmp_path / name) == rate


def test_equal_and_missing_times_follow_one_another(tmp_path):
    with VideoWriter(tmp_path / "equal.mp4", Fraction(10)) as video:
        for time in (Fraction(0), Fraction(0), None, Fraction(1)):
            video.write(plain(100), time)
    times = times_of(tmp_path / "equal.mp4")
    assert times[0] == 0 < times[1] < Fraction(1, 100) < times[2] < times[3] == 1


def test_frames_without_times_or_that_go_back_are_spaced_by_the_rate(tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mp4", map(plain, GRAYS))

    class Untimed:
        """A frame whose time is another."""

        def __init__(self, frame, pts):
            self.frame, self.pts, self.time_base, self.rotation = frame, pts, Fraction(1, 10), 0

        def to_ndarray(self, **options):
            return self.frame.to_ndarray(**options)

    class Container:
        def __init__(self, container, pts):
            self.container, self.pts, self.streams = container, pts, container.streams

        def decode(self, video):
            return map(Untimed, self.container.decode(video=video), self.pts)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.container.close()

    opened = av.open
    for pts, expected in (
        ([None] * 5, [0, 1, 2, 3, 4]),
        ([-2, -1, 0, 1, 5], [-2, -1, 0, 1, 5]),
        ([3, 2, 2, 9, None], [3, 4, 5, 9, 10]),
    ):
        monkeypatch.setattr(av, "open", lambda path, options, pts=pts: Container(opened(path, options=options), pts))
        assert [10 * time for time in times_of(tmp_path / "clip.mp4")] == expected


@pytest.mark.parametrize("suffix", [".avi", ".mpg"])
def test_container_without_times_takes_evenly_spaced_frames_only(suffix, tmp_path):
    with VideoWriter(tmp_path / f"even{suffix}", Fraction(10)) as video:
        for number, gray in enumerate(GRAYS):
            video.write(plain(gray), Fraction(number, 10) + 3)
    frames = list(read_frames(tmp_path / f"even{suffix}"))
    np.testing.assert_allclose([frame.mean() for frame in frames], GRAYS, atol=3)
    words = rf"\{suffix} holds evenly spaced frames only, here 10 per second, but frame 2 is at 1.000 s, not"
    with (
        pytest.raises(InvalidArgumentError, match=words),
        VideoWriter(tmp_path / f"uneven{suffix}", Fraction(10)) as video,
    ):
        for time in (0, Fraction(1, 10), 1):
            video.write(plain(1), time)
    assert not (tmp_path / f"uneven{suffix}").exists()


def test_broken_video_in_a_list_is_reported_after_its_frames(shades, tmp_path):
    write_video(tmp_path / "clip.mkv", [plain(gray) for gray in GRAYS * 8])
    (tmp_path / "text.mp4").write_text("no video")
    errors = []
    predictor = Predictor(shades)
    sources = [tmp_path / "text.mp4", tmp_path / "clip.mkv", plain(250)]
    predictions = list(predictor.stream(sources, on_error=lambda *of: errors.append(of)))
    assert len(predictions) == 41
    assert predictions[-1].labels[0, 0] == 2
    assert [(name, type(error)) for name, error in errors] == [(str(tmp_path / "text.mp4"), CorruptFileError)]
    assert list(predictor.stream(tmp_path / "text.mp4", on_error=lambda *of: errors.append(of))) == []
    assert len(errors) == 2
    with pytest.raises(CorruptFileError, match="cannot be read as a video"):
        list(predictor(tmp_path / "text.mp4"))


def test_images_and_videos_of_a_folder_are_predicted(shades, tmp_path):
    from PIL import Image

    write_video(tmp_path / "b.mp4", map(plain, GRAYS))
    Image.fromarray(plain(250)).save(tmp_path / "a.png")
    predictions = list(Predictor(shades)(tmp_path))
    assert [int(p.labels[0, 0]) for p in predictions] == [2, 0, 1, 2, 0, 1]
    assert predictions[1].source == f"{tmp_path / 'b.mp4'}, frame 0"


def test_sound_frame_is_no_image(shades):
    with pytest.raises(TypeError, match="a source of images must be"):
        Predictor(shades)(av.AudioFrame(format="s16", layout="mono", samples=8))


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".avi"])
def test_video_file_that_is_cut_off_is_told(suffix, tmp_path, recwarn):
    generator, path = np.random.default_rng(0), tmp_path / f"clip{suffix}"
    with VideoWriter(path, Fraction(10)) as video:
        for _ in range(20):
            video.write(generator.integers(0, 256, (64, 64, 3), np.uint8))
    assert len(list(read_frames(path))) == 20
    assert not recwarn.list
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.warns(UserWarning, match=rf"clip\{suffix} is cut off: it states {len(content)} bytes and has"):
        assert 0 < len(list(read_frames(path))) < 20
