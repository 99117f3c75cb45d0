"""Reading and writing videos frame by frame. Needs PyAV, the extra `video`."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from seg_core.errors import (
    CorruptFileError,
    ImageNotFoundError,
    ImageTooLargeError,
    InvalidArgumentError,
    MissingDependencyError,
)
from seg_core.files.atomic import atomic_path
from seg_core.files.images import MAX_PIXELS
from seg_models.inference.downloads import local_file
from seg_models.inference.input_paths import VIDEO_SUFFIXES, is_url

__all__ = ["VideoWriter", "count_frames", "frame_rate", "import_av", "read_frames", "read_timed_frames"]

# Encoders and their options. Without frames that are predicted from later ones (bf), since with them FFmpeg computes a
# wrong duration of frames that are not evenly spaced, and AVI shows frames in a wrong order.
_CODECS = {
    "libx264": {"crf": "18", "bf": "0"},
    "mpeg4": {"qscale": "3"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "5"},
    "libvpx": {"crf": "10", "b": "4M", "deadline": "realtime", "cpu-used": "5"},
}
_INPUT = {
    # a playlist under the name of a video would lead to URLs and other files
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,m4v,h264,hevc,asf,flv,ogg",
}
_EVEN_ONLY = (".avi", ".mpg", ".mpeg")
"""Containers whose frames have no times of their own."""

_UNIT = Fraction(1, 90_000)  # holds the times of 24, 25, 30 and 30000/1001 frames per second, and milliseconds
_COARSE_UNIT = Fraction(1, 60_000)  # MPEG-4 has none below 1/65535


def read_frames(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Iterator[npt.NDArray[np.uint8]]:
    """Yields the frames of a video's first video stream, upright, uint8 (H, W, 3), RGB.

    Raises:
        As `read_timed_frames`.
    """
    for frame, _ in read_timed_frames(path, max_pixels):
        yield frame


def read_timed_frames(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[npt.NDArray[np.uint8], Fraction]]:
    """Yields the frames of a video's first video stream with their times.

    Args:
        path: path or URL of the video.
        max_pixels: largest width times height of a frame.

    Yields:
        Frame: upright, uint8 (H, W, 3), RGB; a new array.
        Time: seconds, larger for each frame; a frame without a time follows the one before by the mean interval.

    Warns:
        UserWarning: after the last frame, if the file is shorter than it states.

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be downloaded, or read as a video to its end.
        ImageTooLargeError: if its frames have more than `max_pixels`; none is decoded then.
        MissingDependencyError: if PyAV is not installed.
    """
    av = import_av()
    with _opened(path, av) as container:
        interval = 1 / _rate_of(container)
        number, time = 0, -interval
        context = container.streams.video[0].codec_context
        _check_size(path, context.width, context.height, max_pixels)
        context.options = {"max_pixels": str(min(max_pixels, 2**31 - 1))}  # of frames that have another size
        try:
            for frame in container.decode(video=0):
                stated = None if frame.pts is None or frame.time_base is None else frame.pts * Fraction(frame.time_base)
                # damaged files, and containers without times, give none or go back
                time = stated if stated is not None and (number == 0 or stated > time) else time + interval
                yield _upright(frame.to_ndarray(format="rgb24"), getattr(frame, "rotation", 0)), time
                number += 1
            if not is_url(path):  # downloads are checked for their size
                _warn_if_cut_off(path, number)
        except (av.FFmpegError, ValueError, ArithmeticError, LookupError) as error:
            raise CorruptFileError(
                f"{os.fspath(path)} cannot be read beyond frame {number}: {getattr(error, 'strerror', None) or error}; "
                "replace the file"
            ) from error


def frame_rate(path: str | os.PathLike[str]) -> Fraction:
    """Returns the mean number of frames per second of a video; 25 if the file does not specify it.

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be read as a video.
        MissingDependencyError: if PyAV is not installed.
    """
    with _opened(path, import_av()) as container:
        return _rate_of(container)


def count_frames(path: str | os.PathLike[str]) -> int | None:
    """Returns the number of frames that a video specifies; None if it does not, 1 if it cannot be read.

    The number of a URL is None, since the video would have to be downloaded.

    Raises:
        MissingDependencyError: if PyAV is not installed.
    """
    if is_url(path):
        return None
    av = import_av()
    try:
        with _opened(path, av) as container:
            return container.streams.video[0].frames or None
    except (ImageNotFoundError, CorruptFileError):
        return 1


class VideoWriter:
    """Writes frames as a video, atomically: H.264, or MPEG-4 if PyAV has no H.264 encoder; VP9 in .webm. No sound.

    Use it as a context manager: the file is renamed to `path` when the `with` block ends without an error. The first
    frame sets the size; an odd last row or column is dropped, since the format stores colors at half the resolution.

    Args:
        path: path of the video; the suffix selects the container, such as .mp4.
        rate: frames per second, of frames that are written without a time.

    Raises:
        InvalidArgumentError: if the suffix is not one of a video.
        MissingDependencyError: if PyAV is not installed, or has no encoder for this suffix.
    """

    def __init__(self, path: str | os.PathLike[str], rate: Fraction) -> None:
        self._suffix = Path(path).suffix.lower()
        if self._suffix not in VIDEO_SUFFIXES:
            raise InvalidArgumentError(f"path must end in {', '.join(VIDEO_SUFFIXES)}, got {os.fspath(path)!r}")
        self._av = import_av()
        self._codec = self._choose_codec()
        self._path = path
        self._rate = rate
        self._stack = contextlib.ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._unit = 1 / rate  # seconds of a pts
        self._count = 0
        self._first = self._last = Fraction(0)  # times
        self._last_pts = -1

    def __enter__(self) -> Self:
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._container = self._stack.enter_context(self._av.open(str(temporary), "w"))
        return self

    def write(self, frame: npt.NDArray[np.uint8], time: Fraction | None = None) -> None:
        """Appends one frame.

        Args:
            frame: uint8 (H, W, 3), RGB.
            time: seconds at which it is shown, as `read_timed_frames` gives them, larger than that of the frame before;
                give it for all frames or for none. Below 0, the times of all frames are moved so that the first is 0.
                None shows it 1 / `rate` after the frame before.

        Raises:
            InvalidArgumentError: if its size differs from the first frame's, or the container (.avi, .mpg, .mpeg) holds
                evenly spaced frames only and the time is another.
        """
        height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
        if self._stream is None:
            self._add_stream(height, width, has_times=time is not None)
        if (self._stream.height, self._stream.width) != (height, width):
            raise InvalidArgumentError(
                f"frames of a video must have the same size, got {frame.shape[0]}x{frame.shape[1]} after "
                f"{self._stream.height}x{self._stream.width} (height x width)"
            )
        image = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        image.pts, image.time_base = self._next_pts(time), self._unit
        self._container.mux(self._stream.encode(image))

    def _add_stream(self, height: int, width: int, *, has_times: bool) -> None:
        stream = self._container.add_stream(self._codec, rate=self._rate)
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuv420p"
        stream.options = _CODECS[self._codec]
        if has_times and self._suffix not in _EVEN_ONLY:
            self._unit = _COARSE_UNIT if self._codec == "mpeg4" else _UNIT
            stream.codec_context.time_base = self._unit
        self._stream = stream

    def _next_pts(self, time: Fraction | None) -> int:
        """Returns the presentation time of the next frame, in units."""
        number, interval = self._count, 1 / self._rate
        if time is None:
            time = self._last + interval if number else Fraction(0)
        if number == 0:
            self._first = time
        if self._suffix in _EVEN_ONLY:
            even = self._first + number * interval
            if abs(time - even) > interval / 2:
                raise InvalidArgumentError(
                    f"{self._suffix} holds evenly spaced frames only, here {float(self._rate):g} per second, but frame "
                    f"{number} is at {float(time):.3f} s, not {float(even):.3f} s; write .mp4, .mov, .mkv or .webm"
                )
            pts = number
        else:
            pts = round((time - min(self._first, Fraction(0))) / self._unit)
        self._count, self._last = number + 1, time
        self._last_pts = max(pts, self._last_pts + 1)  # encoders take increasing ones only
        return self._last_pts

    def _choose_codec(self) -> str:
        names = ("libvpx-vp9", "libvpx") if self._suffix == ".webm" else ("libx264", "mpeg4")
        for name in names:
            if name in self._av.codecs_available:
                return name
        raise MissingDependencyError(f"PyAV has no encoder for {self._suffix} ({', '.join(names)}); write .mp4 instead")

    def __exit__(self, *error: Any) -> bool | None:
        if error[0] is None and self._stream is not None:
            try:
                self._container.mux(self._stream.encode(None))
            except BaseException as late:
                self._stack.__exit__(type(late), late, late.__traceback__)
                raise
        return self._stack.__exit__(*error)


def import_av() -> ModuleType:
    """Returns PyAV.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError("videos need PyAV: pip install 'seg-models[video]'") from error
    return av


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], av: ModuleType) -> Iterator[Any]:
    with local_file(path, "video") as local:
        if not local.is_file():
            raise ImageNotFoundError(f"there is no video {os.fspath(path)}; check the path")
        try:
            # absolute, since FFmpeg takes a name such as concat:a|b for more than a path
            container = av.open(os.path.abspath(local), options=dict(_INPUT))  # noqa: PTH100
        except (av.FFmpegError, OSError, ValueError) as error:
            raise CorruptFileError(
                f"{os.fspath(path)} cannot be read as a video: {getattr(error, 'strerror', None) or error}; replace or "
                "remove it"
            ) from error
        with container:
            if not container.streams.video:
                what = "has sound but no images" if container.streams.audio else "has no images, or is cut off"
                raise CorruptFileError(f"{os.fspath(path)} {what}; replace or remove it")
            container.streams.video[0].thread_type = "AUTO"
            yield container


def _check_size(path: str | os.PathLike[str], width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the frames of {os.fspath(path)} have {width}x{height} = {width * height} pixels (width x height), more "
            f"than max_pixels={max_pixels}; raise the limit if the file is what you expect: max_pixels="
            f"{width * height} of the Predictor, --max-pixels {width * height} of seg predict"
        )


def _warn_if_cut_off(path: str | os.PathLike[str], count: int) -> None:
    """Warns if a video file is cut off, which decoders of Matroska, WebM and AVI take for its end."""
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        stated = _stated_size(file.read(256))
    if stated is not None and size < stated:
        warnings.warn(
            f"{os.fspath(path)} is cut off: it states {stated} bytes and has {size}, so frames after its {count} "
            "are missing; fetch or copy it again",
            stacklevel=3,
        )


def _stated_size(head: bytes) -> int | None:
    """Returns the size in bytes that the beginning of a RIFF or Matroska file states; None if it states none."""
    if head[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little")
        return None if size in (0, 0xFFFFFFFF) else size + 8
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return None
    header, start = _matroska_size(head, 4)
    if header is None or head[start + header :][:4] != b"\x18\x53\x80\x67":
        return None
    segment, start = _matroska_size(head, start + header + 4)
    return None if segment is None else start + segment


def _matroska_size(head: bytes, place: int) -> tuple[int | None, int]:
    """Returns the size of an element, None if unknown, as in a live stream, and where its content starts."""
    if place >= len(head) or head[place] == 0:
        return None, place
    length = 9 - head[place].bit_length()  # its first bits tell its own length
    largest = (1 << 7 * length) - 1
    size = int.from_bytes(head[place : place + length], "big") & largest
    return (None if size == largest else size), place + length


def _rate_of(container: Any) -> Fraction:
    return Fraction(container.streams.video[0].average_rate or 25)


def _upright(frame: npt.NDArray[np.uint8], rotation: int) -> npt.NDArray[np.uint8]:
    """Returns a frame rotated counter-clockwise by `rotation` degrees, as specified by the file."""
    turns = round(rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(frame, turns)) if turns else frame
