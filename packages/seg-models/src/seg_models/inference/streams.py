"""Predicts images one after the other: reads the next ones ahead, joins them into batches, reports those that fail."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from seg_core.files.images import Once
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_models.inference.inputs import InputImage, LoadedImage, load_input
from seg_models.inference.prediction import Prediction

__all__ = ["OnError", "Predict", "predict_stream"]

OnError = Callable[[str | None, Exception], None]
"""Called with the name of an image (None for one in memory) and the error, of any kind, of reading or predicting it."""

Predict = Callable[[list[LoadedImage]], Iterable[Prediction]]
"""Predicts a batch of images of equal size and dtype."""

# Threads that decode images while the network computes; Pillow decodes without holding the interpreter's lock.
_READERS = 2


def predict_stream(
    images: Iterator[InputImage],
    predict: Predict,
    batch_size: int,
    max_pixels: int,
    on_error: OnError | None,
    channels: ImageChannels = RGB_CHANNELS,
) -> Iterator[Prediction]:
    """Yields the predictions of images, in order.

    Args:
        images: as `find_inputs` returns them.
        predict: predicts one batch.
        batch_size: maximum number of images in a batch.
        max_pixels: maximum width times height of an image file.
        on_error: called for an image that cannot be read or predicted, which is then skipped. If a batch fails, each of
            its images is tried alone. If None the error is raised, after the predictions of the images before.
        channels: the channels of the images.
    """
    once = Once()

    def load(image: InputImage) -> LoadedImage:
        return load_input(image, max_pixels, once, channels)

    for batch in _batched(_read_ahead(images, batch_size, load, on_error), batch_size):
        yield from _predict_or_report(batch, predict, on_error)


def _predict_or_report(batch: list[LoadedImage], predict: Predict, on_error: OnError | None) -> Iterator[Prediction]:
    try:
        predictions = list(predict(batch))
    except MemoryError:
        raise
    except Exception as error:  # also one that a network raises for some sizes
        if len(batch) == 1:
            if on_error is None:
                raise
            on_error(batch[0].source.name, error)
            return
    else:
        yield from predictions
        return
    for image in batch:  # to find the ones that fail
        yield from _predict_or_report([image], predict, on_error)


def _read_ahead(
    images: Iterator[InputImage],
    count: int,
    load: Callable[[InputImage], LoadedImage],
    on_error: OnError | None,
) -> Iterator[LoadedImage]:
    """Yields images in order, while threads decode the next files.

    Images in memory are converted at the moment they are drawn from `images`: a camera may fill the same array again.

    Args:
        images: as `find_inputs` returns them. If it raises an error, the images before are yielded first.
        count: number of images to read ahead, in addition to one per thread.
        load: reads an image.
        on_error: called for an image that cannot be read, which is then skipped. If None the error is raised.
    """
    waiting: deque[tuple[InputImage, Future[LoadedImage]]] = deque()
    failure, is_ended = None, False
    pool = ThreadPoolExecutor(_READERS)
    try:
        while True:
            while len(waiting) < _READERS + count and not is_ended:
                try:
                    image = next(images)
                except StopIteration:
                    is_ended = True
                except Exception as error:
                    is_ended, failure = True, error
                else:
                    waiting.append((image, _load_soon(image, load, pool)))
            if not waiting:
                if failure is not None:
                    raise failure
                return
            image, future = waiting.popleft()
            try:
                loaded = future.result()
            except Exception as error:
                if on_error is None:
                    raise
                on_error(image.name, error)
                continue
            yield loaded
    finally:
        pool.shutdown(cancel_futures=True)


def _batched(images: Iterator[LoadedImage], size: int) -> Iterator[list[LoadedImage]]:
    """Yields up to `size` consecutive images of equal size and dtype; if an error ends them, those before it first."""
    batch: list[LoadedImage] = []
    try:
        for image in images:
            first = batch[0].pixels if batch else image.pixels
            if image.pixels.shape != first.shape or image.pixels.dtype != first.dtype:
                full, batch = batch, []
                yield full
            batch.append(image)
            if len(batch) == size:
                full, batch = batch, []
                yield full
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _load_soon(
    image: InputImage, load: Callable[[InputImage], LoadedImage], pool: ThreadPoolExecutor
) -> Future[LoadedImage]:
    """Returns an image: those of a file are read by a thread, those in memory at once."""
    if image.is_file or isinstance(image.content, bytes):
        return pool.submit(load, image)
    done: Future[LoadedImage] = Future()
    try:
        done.set_result(load(image))
    except Exception as error:
        done.set_exception(error)
    return done
