"""Input images from files, folders, glob patterns, URLs, videos and memory: found and decoded."""

import dataclasses
import io
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from seg_core.device import out_of_memory
from seg_core.errors import (
    ImageNotFoundError,
    ImageTooLargeError,
    InvalidArgumentError,
    InvalidTypeError,
    UserError,
    counted,
)
from seg_core.files.images import MAX_PIXELS, WHOLE_PIXELS, Once, count_pages, read_image
from seg_core.files.opening import check_pixels, file_errors
from seg_core.files.orientation import decode
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.transforms.image_tensors import as_image_tensor
from seg_models.inference.described import bands_error, in_memory, is_stack, mark_nodata, read_described
from seg_models.inference.downloads import local_file
from seg_models.inference.input_paths import is_folder, is_pattern, is_url, is_video, list_files
from seg_models.inference.reading import ALL_FRAMES_ADVICE, read_file, read_frames_of_file
from seg_models.inference.video import read_frames

__all__ = [
    "InputImage",
    "LoadedImage",
    "Source",
    "as_array",
    "files_alone",
    "find_inputs",
    "is_one_image",
    "load_input",
    "with_mosaics",
]

Source = str | os.PathLike[str] | Image.Image | npt.NDArray[Any] | Tensor | bytes | bytearray | memoryview | IO[bytes]
"""One image, or several: a folder, a glob pattern, a video, a batch."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_CAMERA = re.compile(r"[0-9]{1,2}|webcam|camera|cam|/dev/video[0-9]+", re.IGNORECASE)
_CAMERA_ADVICE = (
    "a generator that yields its frames as RGB arrays (H, W, 3): of cv2, whose frames are BGR, yield frame[..., ::-1], "
    'or give the predictor channel_order="bgr"'
)
_KINDS = "a path, a URL, a PIL image, an array, a tensor, the bytes of an image file, or an iterable of them"


@dataclass(frozen=True)
class InputImage:
    """One image that is not decoded yet.

    Attributes:
        name: its path or URL; for a frame of a video or an image file, the path and the frame's number; None for an
            image in memory.
        content: path, URL, contents of a file, PIL image, array, tensor, a frame of PyAV, or a tuple of the paths of
            one image's files; or the error that finding the image raised.
        place: where in the source an image without a name is, such as "image 3 of the source", for messages.
        is_own: whether nobody else can change the content.
        allow_vrt: whether a `.vrt` file may be read.
    """

    name: str | None
    content: Any
    place: str = ""
    is_own: bool = False
    allow_vrt: bool = False

    @property
    def is_file(self) -> bool:
        """Whether the content is read from a file or a URL, or several."""
        return isinstance(self.content, str | os.PathLike) or is_stack(self.content)

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of an image of several files; empty for one."""
        return tuple(map(os.fspath, self.content)) if is_stack(self.content) else ()


@dataclass(frozen=True)
class LoadedImage:
    """One image, decoded and upright.

    Attributes:
        source: where it comes from.
        pixels: uint8 or float32 (3, H, W), RGB; of other channels uint8, uint16 or float32 (C, H, W), the values of the
            file.
        valid: bool (H, W), the pixels that hold data; None if all do.
    """

    source: InputImage
    pixels: Tensor
    valid: npt.NDArray[np.bool_] | None = None


def is_one_image(source: object, *, stacks: bool = False) -> bool:
    """Returns whether `source` is one image; if not, it contains several or is not a source of images.

    An image file counts as one, whatever the number of its frames.

    Args:
        source: as in `Predictor.stream`.
        stacks: whether a tuple of paths is one image of several files; else it is several images.
    """
    if stacks and is_stack(source):
        return True
    if isinstance(source, str | os.PathLike):
        return not is_video(source) and (is_url(source) or not (is_folder(source) or is_pattern(source)))
    if isinstance(source, np.ndarray | Tensor):
        return source.ndim <= 3
    return isinstance(source, Image.Image) or _is_file_content(source) or _is_video_frame(source)


def find_inputs(
    source: Source | Iterable[Any], *, all_frames: bool = False, max_pixels: int = MAX_PIXELS, stacks: bool = False
) -> Iterator[InputImage]:
    """Returns an iterator of the images of `source` in order, not decoded; those of folders and patterns are sorted.

    Files that a folder has beside its images and videos are told by a warning. An image that is not found, or
    cannot be read while its frames are counted, is no error here: its `content` is the error.

    Args:
        source: as in `Predictor.stream`.
        all_frames: whether an image file of several frames or pages gives all of them, or the first.
        max_pixels: maximum width times height of an image file of several frames.
        stacks: whether a tuple of paths is one image of several files. Inside of a list or an iterable it always is.

    Raises:
        InvalidTypeError: if it is not a source of images.
        InvalidArgumentError: if it is a string that is no path and no URL of http or https; or if a tuple of the paths
            of one image holds a folder, a glob pattern or a video.
        ImageNotFoundError: if a folder has no images, or no file matches a glob pattern.
    """
    source = as_array(source)
    if stacks and isinstance(source, tuple) and is_stack(source):
        return iter([_stacked(source)])
    _check_source(source)
    if not isinstance(source, str | os.PathLike):
        return _images_of(source, all_frames, max_pixels)
    if is_one_image(source) or is_video(source):
        return _with_error(_images_of(source, all_frames, max_pixels), os.fspath(source))
    found = list_files(source)
    if found.left_out:
        warnings.warn(f"{os.fspath(source)}: {found.left_out_text}", stacklevel=4)
    return _several(found.paths, all_frames, max_pixels)


def files_alone(images: Iterable[InputImage], bands: Iterable[int | str]) -> Iterator[InputImage]:
    """Yields images whose `bands` were chosen; one in memory, which has no bands to choose from, has an error instead.

    Args:
        images: as `find_inputs` returns them.
        bands: the argument of the Predictor.
    """
    for image in images:
        if image.is_own or not isinstance(image.content, np.ndarray | Tensor | Image.Image):
            yield image
        else:
            yield dataclasses.replace(image, content=bands_error(bands, image.name or image.place))


def with_mosaics(images: Iterable[InputImage]) -> Iterator[InputImage]:
    """Yields images of which `.vrt` files may be read; those of URLs may not, which somebody else chose."""
    for image in images:
        is_local = image.is_file and not any(map(is_url, image.files or (image.content,)))
        yield dataclasses.replace(image, allow_vrt=True) if is_local else image


def load_input(
    image: InputImage,
    max_pixels: int = MAX_PIXELS,
    once: Once | None = None,
    channels: ImageChannels = RGB_CHANNELS,
) -> LoadedImage:
    """Returns an image decoded and upright; later changes of its source do not count.

    Args:
        image: the image. A warning tells if its file has several frames or pages, of which the first is read.
        max_pixels: maximum width times height of a file, and of a PIL image that is not decoded yet.
        once: remembers the warnings given before; None for none.
        channels: the channels that the image must have.

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be downloaded or read, is too large, or does not fit the channels.
        InvalidArgumentError: if it is in memory and does not fit the channels, or is a frame of a video and other
            channels than red, green and blue of 8 bits are needed.
        NotEnoughMemoryError: if it does not fit in memory.
    """
    content, valid = image.content, None
    if isinstance(content, Exception):
        raise content
    called = image.name or image.place
    try:
        if isinstance(content, Image.Image) and getattr(content, "fp", None) is not None:  # not decoded yet
            check_pixels(content.width, content.height, f"image {called or '(in memory)'}", max_pixels)
        if image.is_file or isinstance(content, bytes):
            name = image.name or "(in memory)"
            if channels.is_rgb8 and not image.files:
                content, valid = read_file(content, name, max_pixels, once or Once(), allow_vrt=image.allow_vrt)
            else:
                content, valid = read_described(content, name, channels, max_pixels, allow_vrt=image.allow_vrt)
        elif _is_video_frame(content):
            if not channels.is_rgb8:
                raise InvalidArgumentError(
                    f"frames of videos have three 8-bit channels, and the model takes the {channels}; pass arrays "
                    f"(H, W, {channels.count})"
                )
            frame, content = content, content.to_ndarray(format="rgb24")
            if frame.format.name == "rgb24":  # not converted: the array may be the frame's own memory
                content = content.copy()
        elif not in_memory(channels).is_rgb8:
            if isinstance(content, Image.Image):
                with file_errors(called or "(in memory)", "image"):
                    content = decode(content, "apply")[0]
                content = as_image_tensor(content, in_memory(channels))
            content, valid = mark_nodata(content, channels)
        elif isinstance(content, Image.Image):
            content = read_image(content)
        pixels = as_image_tensor(content, in_memory(channels), on_device=True)
    except ImageTooLargeError as error:
        if max_pixels != WHOLE_PIXELS or "max_pixels=" not in str(error):  # the default without tiles
            raise
        raise ImageTooLargeError(
            f"{error}; or predict it in tiles: tile=1024 of the Predictor, --tile 1024 of seg predict"
        ) from error
    except InvalidArgumentError as error:
        if not called or called in str(error):
            raise
        raise type(error)(f"{called}: {error}") from error
    except MemoryError as error:
        remedies = ["reduce the image", "predict a file tile by tile: Predictor.predict_to_file"]
        raise out_of_memory(f"reading {called or 'the image'}", remedies, error) from error
    if in_memory(channels).is_rgb8 and isinstance(image.content, np.ma.MaskedArray):  # of rasterio
        masked = np.asarray(np.ma.getmaskarray(image.content))
        valid = None if not masked.any() else ~(masked if masked.ndim == 2 else np.all(masked, axis=-1))
    is_shared = not image.is_own and _shares_memory(pixels, image.content)
    return LoadedImage(image, pixels.clone() if is_shared else pixels, valid)


# ---- finding images --------------------------------------------------------------------------------------------------


def as_array(source: Any) -> Any:
    """Returns an array of another library, such as an HDF5 dataset, as one of numpy; anything else unchanged."""
    is_known = isinstance(source, np.ndarray | Tensor | Image.Image | str | bytes | os.PathLike)
    is_other = not is_known and hasattr(source, "__array__") and hasattr(source, "shape")
    return np.asarray(source) if is_other else source


def _check_source(source: object) -> None:
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        if isinstance(text, str) and _CAMERA.fullmatch(text) and not Path(text).exists():
            raise ImageNotFoundError(
                f"there is no file {text!r}; of a camera, read by cv2 or PyAV, pass {_CAMERA_ADVICE}"
            )
        if not text:
            raise InvalidArgumentError("the path of an image is an empty string; give a path, or a URL")
        if isinstance(text, str) and _SCHEME.match(text) and not is_url(text):
            raise InvalidArgumentError(
                f"{text!r} cannot be read: URLs of images and videos begin with http:// or https://; pass the path of "
                f"a file, or of a camera {_CAMERA_ADVICE}"
            )
        return
    if isinstance(source, io.TextIOBase):
        raise InvalidTypeError(
            f'a file of an image must be opened in binary mode, open(path, "rb"), got {type(source).__name__}; or pass '
            "its path"
        )
    advice = ""
    if isinstance(source, Mapping):
        images = [key for key in ("image", "img", "pixel_values", "path") if key in source]
        advice = f"; pass source[{images[0]!r}]" if images else "; pass its values"
    elif _is_camera(source):
        advice = f"; pass the path of the video, or {_CAMERA_ADVICE}"
    elif hasattr(source, "metadata") and hasattr(source, "__getitem__"):  # a dataset of this toolkit
        advice = "; pass its images: (dataset[index][0] for index in range(len(dataset)))"
    is_several = isinstance(source, np.ndarray | Tensor | Iterable) and not advice
    if not is_one_image(source) and not is_several:
        if source is None:
            advice = "; cv2.imread returns None for a file that it cannot read"
        elif isinstance(source, int):
            advice = f"; a camera is read by cv2 or PyAV: pass {_CAMERA_ADVICE}"
        raise InvalidTypeError(f"a source of images must be {_KINDS}, got {source!r:.60}{advice}")


def _stacked(paths: tuple[Any, ...]) -> InputImage:
    """Returns the image of several files; its name is that of the first."""
    for path in paths:
        if is_folder(path) or is_pattern(path) or is_video(path):
            raise InvalidArgumentError(
                f"a tuple of paths is one image of several files, whose bands are stacked, and {os.fspath(path)!r} is "
                "not a file of one image; pass a list for several images"
            )
    return InputImage(os.fspath(paths[0]), paths)


def _images_of(source: Any, all_frames: bool, max_pixels: int) -> Iterator[InputImage]:
    """Yields the images of a source that is neither a folder nor a glob pattern."""
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        if is_video(source):
            for number, frame in enumerate(read_frames(source, max_pixels)):
                yield InputImage(f"{name}, frame {number}", frame, is_own=True)
        elif all_frames:
            yield from _frames_of_file(source, name, max_pixels)
        else:
            yield InputImage(name, source)
    elif _is_file_content(source):
        name, content = _file_content(source)
        image = InputImage(name, content)
        yield from _frames_of(image, content, max_pixels) if all_frames else (image,)
    elif isinstance(source, Image.Image):
        image = InputImage(getattr(source, "filename", None) or None, source)
        with file_errors(image.name or "the PIL image", "image"):  # some formats read on to find out
            is_animated = getattr(source, "fp", None) is not None and getattr(source, "is_animated", False)
        if not is_animated:
            yield image
        elif all_frames:
            yield from _frames_of(image, source, max_pixels)
        else:
            count, noun = count_pages(source)
            if count > 1:
                called = image.name or "the PIL image"
                text = (
                    f"{called} has {counted(count, noun)}; only its current one, {noun} {source.tell()}, is predicted"
                )
                warnings.warn(f"{text}; {ALL_FRAMES_ADVICE}", stacklevel=2)
            yield image
    elif is_one_image(source):
        yield InputImage(None, source)
    else:
        yield from _several(source, all_frames, max_pixels)


def _with_error(images: Iterator[InputImage], name: str) -> Iterator[InputImage]:
    """Yields images, and the error that ends them as the content of a last one."""
    try:
        yield from images
    except UserError as error:
        yield InputImage(name, error)


def _several(items: Iterable[Any], all_frames: bool, max_pixels: int) -> Iterator[InputImage]:
    """Yields the images of several sources; an error of one of them is the content of an image."""
    is_stored = isinstance(items, list | tuple)
    for number, item in enumerate(items):
        place = f"image {number} of the source"
        if isinstance(item, Image.Image) and not is_stored:  # such as a GIF that an iterator moves frame by frame
            yield InputImage(getattr(item, "filename", None) or None, item, place)
            continue
        try:
            if isinstance(item, list | tuple) and not is_stack(item):
                raise InvalidTypeError(
                    f"it is a {type(item).__name__} of {len(item)}, not an image; of pairs of image and mask, pass the "
                    "images alone: (image for image, _ in dataset)"
                )
            for image in find_inputs(item, all_frames=all_frames, max_pixels=max_pixels, stacks=True):
                yield image if image.name or image.place else dataclasses.replace(image, place=place)
        except UserError as error:
            if isinstance(item, str | os.PathLike):
                yield InputImage(os.fspath(item), error)
            else:
                yield InputImage(None, type(error)(f"{place}: {error}"))


def _frames_of_file(source: str | os.PathLike[str], name: str, max_pixels: int) -> Iterator[InputImage]:
    """Yields the frames of an image file; one of a single frame is left to the threads that decode."""
    with local_file(source, "image") as path:
        count, _ = count_pages(path, max_pixels=max_pixels, name=name)
        if count == 1 and not is_url(source):
            yield InputImage(name, source)
        else:
            yield from _frames_of(InputImage(name, source), path, max_pixels)


def _frames_of(image: InputImage, content: Any, max_pixels: int) -> Iterator[InputImage]:
    """Yields all frames or pages of an image whose file is `content`."""
    called = image.name or "(in memory)"
    count, noun = count_pages(content, max_pixels=max_pixels, name=called)
    for number, pixels in enumerate(read_frames_of_file(content, called, max_pixels)):
        name = f"{called}, {noun} {number}" if count > 1 else image.name
        yield InputImage(name, pixels, is_own=True)


def _is_file_content(source: object) -> bool:
    """Returns whether `source` is the contents of a file, or a file opened in binary mode."""
    if isinstance(source, bytes | bytearray | memoryview):
        return True
    if _is_camera(source):
        return False
    return hasattr(source, "read") and not isinstance(source, io.TextIOBase | np.ndarray | Tensor)


def _is_camera(source: object) -> bool:
    """Returns whether `source` is a camera or a video that cv2 opened; its `read` gives no bytes."""
    return hasattr(source, "isOpened") or hasattr(source, "grab")


def _file_content(source: Any) -> tuple[str | None, bytes]:
    """Returns the name of an opened file, None if it has none, and its contents."""
    if isinstance(source, bytes | bytearray | memoryview):
        return None, bytes(source)
    name = getattr(source, "name", None)
    try:
        if source.seekable():  # such as a BytesIO that was written, and stands at its end
            source.seek(0)
        content = source.read()
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidArgumentError(f"the file {name or source!r} cannot be read: {error}; pass its path") from error
    if not isinstance(content, bytes):
        raise InvalidTypeError(
            f"the file {name or source!r} must give bytes, got {type(content).__name__}; open it in binary mode"
        )
    return name if isinstance(name, str) else None, content


def _is_video_frame(source: object) -> bool:
    """Returns whether `source` is a frame of PyAV with an image; a frame of sound has no width."""
    return hasattr(source, "to_ndarray") and hasattr(source, "width")


def _shares_memory(pixels: Tensor, content: object) -> bool:
    if isinstance(content, Tensor):
        return pixels.untyped_storage().data_ptr() == content.untyped_storage().data_ptr()
    return isinstance(content, np.ndarray) and np.may_share_memory(pixels.numpy(), content)
