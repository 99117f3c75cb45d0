"""Reading and writing videos frame by frame. Needs PyAV, the extra `video`."""

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from seg_core.errors import CorruptFileError, ImageNotFoundError, InvalidArgumentError, MissingDependencyError
from seg_core.files.atomic import atomic_path
from seg_models.inference.input_paths import VIDEO_SUFFIXES, is_url

__all__ = ["VideoWriter", "count_frames", "frame_rate", "import_av", "read_frames"]


def read_frames(path: str | os.PathLike[str]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yields the frames of a video's first video stream, upright, uint8 (H, W, 3), RGB.

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be read as a video to its end.
        MissingDependencyError: if PyAV is not installed.
    """
    av = import_av()
    with _opened(path, av) as container:
        number = 0
        try:
            for frame in container.decode(video=0):
                yield _upright(frame.to_ndarray(format="rgb24"), getattr(frame, "rotation", 0))
                number += 1
        except av.FFmpegError as error:
            raise CorruptFileError(
                f"{os.fspath(path)} cannot be read beyond frame {number}: {error.strerror}; replace the file"
            ) from error


def frame_rate(path: str | os.PathLike[str]) -> Fraction:
    """Returns the frames per second of a video; 25 if the file does not specify them.

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be read as a video.
        MissingDependencyError: if PyAV is not installed.
    """
    with _opened(path, import_av()) as container:
        rate = container.streams.video[0].average_rate
    return Fraction(rate) if rate else Fraction(25)


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
    """Writes frames as an H.264 video, or as MPEG-4 if PyAV has no H.264 encoder; atomically.

    Use it as a context manager: the file is renamed to `path` when the `with` block ends without an error. The first
    frame sets the size; an odd last row or column is dropped, since the format stores colors at half the resolution.

    Args:
        path: path of the video; the suffix selects the container, such as .mp4.
        rate: frames per second.

    Raises:
        InvalidArgumentError: if the suffix is not one of a video.
        MissingDependencyError: if PyAV is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], rate: Fraction) -> None:
        if Path(path).suffix.lower() not in VIDEO_SUFFIXES:
            raise InvalidArgumentError(f"path must end in {', '.join(VIDEO_SUFFIXES)}, got {os.fspath(path)!r}")
        self._av = import_av()
        self._path = path
        self._rate = rate
        self._stack = contextlib.ExitStack()
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> Self:
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._container = self._stack.enter_context(self._av.open(str(temporary), "w"))
        return self

    def write(self, frame: npt.NDArray[np.uint8]) -> None:
        """Appends one frame, uint8 (H, W, 3), RGB.

        Raises:
            InvalidArgumentError: if its size differs from the first frame's.
        """
        height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
        if self._stream is None:
            codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
            self._stream = self._container.add_stream(codec, rate=self._rate)
            self._stream.height, self._stream.width = height, width
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {"crf": "18"} if codec == "libx264" else {"qscale": "3"}
        if (self._stream.height, self._stream.width) != (height, width):
            raise InvalidArgumentError(
                f"frames of a video must have the same size, got {frame.shape[0]}x{frame.shape[1]} after "
                f"{self._stream.height}x{self._stream.width} (height x width)"
            )
        image = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        self._container.mux(self._stream.encode(image))

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
    if not Path(path).is_file():
        raise ImageNotFoundError(f"there is no video {os.fspath(path)}; check the path")
    try:
        container = av.open(os.fspath(path))
    except (av.FFmpegError, OSError) as error:
        raise CorruptFileError(
            f"{os.fspath(path)} cannot be read as a video: {error.strerror}; replace or remove it"
        ) from error
    with container:
        if not container.streams.video:
            raise CorruptFileError(f"{os.fspath(path)} has sound but no images; remove it")
        container.streams.video[0].thread_type = "AUTO"
        yield container


def _upright(frame: npt.NDArray[np.uint8], rotation: int) -> npt.NDArray[np.uint8]:
    """Returns a frame rotated counter-clockwise by `rotation` degrees, as specified by the file."""
    turns = round(rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(frame, turns)) if turns else frame
