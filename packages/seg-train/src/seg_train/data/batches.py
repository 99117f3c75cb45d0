"""Batches of a dataset: order, transform, worker processes, and readable errors of samples.

Every batch is planned before it is read. The random choices for a sample depend only on the run's seed, the epoch and
the sample's index, or its place in the epoch if samples may repeat. So neither the number of workers nor the step at
which a run was resumed changes a batch. This holds for a dataset that draws random numbers itself too: Python's,
NumPy's and torch's default states are seeded in this way before each sample is read.
"""

import atexit
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, UserError
from seg_core.files.mask_sources import pair_of, sample_name, wrong_ids_message
from seg_core.interfaces import JointTransform, SegmentationDataset
from seg_core.labels.channels import ImageChannels
from seg_core.labels.tasks import MULTICLASS, MULTILABEL
from seg_core.randomness import DATASET_STREAM, isolated_randomness, sample_generator, sample_seed
from seg_core.transforms.crop import SegmentationTransform
from seg_core.workers import held_signals, start_worker, stop_workers
from seg_train.data.own_transforms import IMAGE_TYPES, OwnTransforms
from seg_train.data.windows import SampleWindows, windows_of

__all__ = ["Batch", "ClassCrop", "Loader", "PlannedSample", "check_ids", "evaluation_plan", "training_plan"]


class Batch(NamedTuple):
    """A batch of samples as the loader returns it, before augmentation.

    Attributes:
        images: (N, C, H, W), channels_last: uint8 RGB in 0 to 255, or uint8, uint16 or float32 in the unit of the
            channels; in evaluations resized for the network.
        masks: (N, H, W), class ids in the dataset's integer type; in evaluations at their own size. Of a multilabel
            task (N, K, H, W) of 0, 1 and the ignored value.
        indices: index of each sample in the dataset.
        epoch: counted from 0.
        places: number of each sample that its random choices depend on, see `PlannedSample`.
    """

    images: Tensor
    masks: Tensor
    indices: list[int]
    epoch: int
    places: list[int]


@dataclass(frozen=True)
class ClassCrop:
    """The class that the random crop of a sample should contain.

    Attributes:
        class_id: the class.
        min_pixels: number of its pixels that a crop must contain to be accepted.
        attempts: maximum number of crops to draw; if none has enough, the one with most pixels of the class is used.
    """

    class_id: int
    min_pixels: int
    attempts: int


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """A sample to read. In a plan, a plain index i means `PlannedSample(i, i)`.

    Attributes:
        index: in the dataset.
        place: number that its random choices depend on, in addition to seed and epoch: the index, or the place in the
            epoch if samples may repeat.
        crop: class that its random crop should contain, or None for any crop.
    """

    index: int
    place: int
    crop: ClassCrop | None = None


def training_plan(
    length: int,
    batch_size: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    num_processes: int = 1,
    *,
    crops_per_image: int = 1,
) -> Sequence[Sequence[int | PlannedSample]]:
    """Returns the batches of one epoch, as indices: in a new random order each epoch, full batches only.

    Args:
        length: of the dataset.
        batch_size: samples of one step over all processes, a multiple of `num_processes`.
        seed: of the run.
        epoch: counted from 0.
        rank: of this process, which reads its share of each batch.
        num_processes: number of processes that share a batch.
        crops_per_image: number of samples of each image; the first draws the same numbers as an only one.
    """
    total = length * crops_per_image
    order = torch.randperm(total, generator=torch.Generator().manual_seed(sample_seed(seed, epoch))).tolist()
    share = batch_size // num_processes
    starts = range(rank * share, total - total % batch_size, batch_size)
    batches = [order[start : start + share] for start in starts]
    if crops_per_image == 1:
        return batches
    return [[PlannedSample(place % length, place) for place in batch] for batch in batches]


def evaluation_plan(length: int, batch_size: int, rank: int = 0, num_processes: int = 1) -> list[list[int]]:
    """Returns this process's batches of an evaluation, as indices: each sample once over all processes."""
    own = range(rank, length, num_processes)
    return [list(own[start : start + batch_size]) for start in range(0, len(own), batch_size)]


class Loader:
    """Reads planned batches of a dataset.

    Args:
        dataset: of images with masks.
        transform: resizes or crops each sample.
        own: transforms of the user's own, applied after it; the crops of `ClassCrop` are chosen before.
        seed: of the run.
        num_workers: number of worker processes, which persist between plans. 0 reads in this process.
        pin_memory: whether batches are in pinned memory, which is fastest to copy to a GPU.
        splits_unlike_sizes: whether samples of different sizes in a batch become batches of one, as evaluations need;
            otherwise they are an error.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: JointTransform,
        *,
        own: OwnTransforms | None = None,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
        splits_unlike_sizes: bool = False,
    ) -> None:
        self._plan = _Plan()
        self._loader = DataLoader(
            _Samples(dataset, transform, seed, own),
            batch_sampler=self._plan,
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            collate_fn=_collate_apart if splits_unlike_sizes else _collate,
            worker_init_fn=start_worker,
            # without its own generator, each pass would draw from torch's default one
            generator=torch.Generator().manual_seed(0),
        )
        _LOADERS.add(self._loader)
        # torch's own way, when garbage is collected, waits 5 s for each worker
        weakref.finalize(self, _stop_workers_of, self._loader)

    def read(self, plan: Sequence[Sequence[int | PlannedSample]], epoch: int = 0) -> Iterator[Batch]:
        """Yields the batches of `plan`.

        Args:
            plan: samples of each batch, as indices or `PlannedSample`s.
            epoch: counted from 0.

        Raises:
            UserError: if a sample cannot be used, including errors in a worker: a damaged image, an id out of range.
        """
        self._plan.batches, self._plan.epoch = plan, epoch
        try:
            for item in self._started():
                if isinstance(item, _Failure):
                    try:
                        raise item.error
                    finally:
                        # The error's traceback refers to this frame: a reference cycle that would keep workers alive.
                        del item
                yield from item
        except Exception:
            self._stop_workers()
            raise

    def _started(self) -> Any:
        """Returns the loader's iterator; no name refers to it, since the traceback of an error would keep workers."""
        with held_signals():  # until the workers, which start here, leave signals to this process
            return iter(self._loader)

    def _stop_workers(self) -> None:
        """Stops the workers now; the next plan starts new ones."""
        _stop_workers_of(self._loader)


_LOADERS: "weakref.WeakSet[DataLoader[Any]]" = weakref.WeakSet()


@atexit.register
def _stop_all_workers() -> None:
    """Stops workers before Python does: it would send them SIGTERM, which they leave to this process, and wait."""
    for loader in list(_LOADERS):
        _stop_workers_of(loader)


def _stop_workers_of(loader: DataLoader[Any]) -> None:
    iterator, loader._iterator = loader._iterator, None
    if iterator is not None:
        stop_workers(iterator)


class _Plan:
    """The batch sampler: the epoch and plan of each sample that the loader reads next.

    What a batch needs is created when it is read: for the whole epoch of a large dataset it would be many MiB.
    """

    def __init__(self) -> None:
        self.batches: Sequence[Sequence[int | PlannedSample]] = ()
        self.epoch = 0

    def __iter__(self) -> Iterator[list[tuple[int, PlannedSample]]]:
        epoch = self.epoch
        return ([(epoch, _planned(sample)) for sample in samples] for samples in self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@dataclass(frozen=True)
class _Failure:
    """An error returned by a worker. If it were raised there, it would arrive wrapped in the worker's traceback."""

    error: UserError


class _Samples(Dataset[Any]):
    def __init__(
        self, dataset: SegmentationDataset, transform: JointTransform, seed: int, own: OwnTransforms | None = None
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.own = own

    def __getitem__(self, key: tuple[int, PlannedSample]) -> tuple[Tensor, Tensor, PlannedSample, int] | _Failure:
        epoch, planned = key

        def read(action: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
            with isolated_randomness(sample_seed(self.seed, epoch, planned.place, DATASET_STREAM)):
                return action()

        try:
            windows = windows_of(self.dataset, self.transform, planned.index, read)
            if windows is None:
                image, mask = self._whole(planned.index, read)
            else:
                image, mask = windows, None
            image, mask = self._transformed(image, mask, epoch, planned)
            check_ids(mask, self.dataset, planned.index)
        except UserError as error:
            return _Failure(error)
        return image.as_subclass(Tensor), mask.as_subclass(Tensor), planned, epoch

    def _whole(self, index: int, read: Callable[[Callable[[], tuple[Any, Any]]], tuple[Any, Any]]) -> tuple[Any, Any]:
        """Returns image and mask of a sample.

        Raises:
            InvalidArgumentError: if it has no mask.
        """
        image, mask = pair_of(read(lambda: self.dataset[index]), sample_name(self.dataset, index))
        if mask is None:
            raise InvalidArgumentError(
                f"sample {index} of {_name(self.dataset)} has no mask; choose a split that has masks"
            )
        return image, mask

    def _transformed(self, image: Any, mask: Any, epoch: int, planned: PlannedSample) -> tuple[Tensor, Tensor]:
        """Returns image and mask of a sample after all transforms; `image` may be the windows that it is read from."""
        channels, task = self.dataset.metadata.channels, self.dataset.metadata.task
        axes = 3 if task == MULTILABEL else 2
        try:
            if not isinstance(image, SampleWindows) and not _is_plain(image, mask, channels, axes):
                # every transform then gets what the dataset interface says, whatever a dataset returns
                image, mask = SegmentationTransform(channels=channels, task=task)(image, mask)
            attempt = 0
            if planned.crop is not None:
                attempt = self._best_attempt(image, mask, epoch, planned.place, planned.crop)
            generator = self._generator(epoch, planned.place, attempt)
            if isinstance(image, SampleWindows):
                assert isinstance(self.transform, SegmentationTransform)
                image, mask = image.crop(self.transform, generator)
            else:
                image, mask = self.transform(image, mask, generator=generator)
            return (image, mask) if self.own is None else self.own(image, mask, epoch, planned.place)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{sample_name(self.dataset, planned.index)}: {error}") from error

    def _generator(self, epoch: int, place: int, attempt: int) -> torch.Generator:
        """Returns the generator of a crop; that of the first attempt is the same as without a class to contain."""
        if attempt == 0:
            return sample_generator(self.seed, epoch, place)
        return torch.Generator().manual_seed(sample_seed(self.seed, epoch, place, 0, attempt))

    def _best_attempt(self, image: Any, mask: Any, epoch: int, place: int, crop: ClassCrop) -> int:
        """Returns the first attempt whose crop has enough pixels of the class, else the one with most.

        Each attempt is what the transform gives: with `cat_max_ratio` it has chosen among crops of its own.
        """
        best, most = 0, -1
        for attempt in range(crop.attempts):
            generator = self._generator(epoch, place, attempt)
            if isinstance(image, SampleWindows):
                assert isinstance(self.transform, SegmentationTransform)
                cropped: Tensor = image.crop(self.transform, generator)[1]
            elif isinstance(self.transform, SegmentationTransform):
                cropped = self.transform.transform_mask(mask, generator=generator)
            else:
                cropped = self.transform(image, mask, generator=generator)[1]
            count = int(self._pixels_of(cropped.as_subclass(Tensor), crop.class_id).count_nonzero())
            if count > most:
                best, most = attempt, count
            if count >= crop.min_pixels:
                break
        return best

    def _pixels_of(self, mask: Tensor, class_id: int) -> Tensor:
        """Returns which pixels of a mask are of a class: bool (H, W)."""
        if self.dataset.metadata.task == MULTICLASS:
            return mask == class_id
        return (mask[class_id] if self.dataset.metadata.task == MULTILABEL else mask) == 1


def _is_plain(image: Any, mask: Any, channels: ImageChannels, axes: int) -> bool:
    """Returns whether a sample has the types that the dataset interface asks for."""
    if not (isinstance(image, Tensor) and isinstance(mask, Tensor) and image.ndim == 3 and mask.ndim == axes):
        return False
    types = (torch.uint8,) if channels.is_rgb8 else IMAGE_TYPES
    return image.dtype in types and mask.dtype != torch.bool


def check_ids(mask: Tensor, dataset: SegmentationDataset, index: int) -> None:
    """Checks that a mask contains only the dataset's class ids and its ignored value.

    Args:
        mask: (H, W) of any integer type, or bool; of a multilabel task (K, H, W).
        dataset: its metadata define the allowed values.
        index: of the sample, for the message.

    Raises:
        LabelOutOfRangeError: if it contains another value; the message names the files.
        InvalidArgumentError: if it holds floats, which would be cut to integers, or has the shape of another task.
    """
    metadata = dataset.metadata
    mask = mask.as_subclass(Tensor)
    if mask.is_floating_point() or mask.is_complex():
        raise InvalidArgumentError(
            f"the mask of {sample_name(dataset, index)} is a tensor of {mask.dtype}; ids are integers: if the values "
            "are whole ids, let the dataset return mask.to(torch.uint8)"
        )
    if metadata.task != MULTICLASS:
        planes = (metadata.num_classes,) if metadata.task == MULTILABEL else ()
        if mask.ndim != 2 + len(planes) or tuple(mask.shape[:-2]) != planes:
            wanted = f"({planes[0]}, H, W), a plane per class," if planes else "(H, W)"
            raise InvalidArgumentError(
                f"the mask of {sample_name(dataset, index)} has the shape {tuple(mask.shape)}; masks of the task "
                f'"{metadata.task}" are {wanted} in integers: correct the dataset, or the task of its metadata'
            )
    mask = mask if mask.dtype == torch.uint8 else mask.long()
    wrong = (mask >= metadata.num_ids) & (mask != metadata.ignore_index)
    if mask.dtype != torch.uint8:
        wrong |= (mask < 0) & (mask != metadata.ignore_index)
    if bool(wrong.any()):
        ids, numbers = torch.unique(mask[wrong], return_counts=True)
        counts = dict(zip(ids.tolist(), numbers.tolist(), strict=True))
        allowed = {*range(metadata.num_ids), metadata.ignore_index}
        name = f"of {sample_name(dataset, index)}"
        raise LabelOutOfRangeError(wrong_ids_message(name, counts, allowed, "correct the mask or the metadata"))


def _planned(sample: int | PlannedSample) -> PlannedSample:
    return sample if isinstance(sample, PlannedSample) else PlannedSample(sample, sample)


_Sample = tuple[Tensor, Tensor, PlannedSample, int]


def _collate(samples: list[_Sample | _Failure]) -> list[Batch] | _Failure:
    """Returns the samples as one batch, or the first error among them."""
    read = _all_read(samples)
    if isinstance(read, _Failure):
        return read
    sizes = {tuple(image.shape[-2:]) for image, *_ in read}
    if len(sizes) > 1:
        shown = " and ".join(f"{h}x{w}" for h, w in sorted(sizes)[:2])
        return _Failure(
            InvalidArgumentError(
                f"images of different sizes ({shown}) cannot share a batch of training; set "
                "data.transform.train.size, the size of the random crop, or data.transform.train.resize = { size = "
                "[height, width] }, the size of every image, or data.loader.batch_size = 1"
            )
        )
    return [_batch(read)]


def _collate_apart(samples: list[_Sample | _Failure]) -> list[Batch] | _Failure:
    """Returns the samples as one batch if their images and masks have one size, else as batches of one."""
    read = _all_read(samples)
    if isinstance(read, _Failure):
        return read
    sizes = {(tuple(image.shape[-2:]), tuple(mask.shape[-2:])) for image, mask, *_ in read}
    return [_batch(read)] if len(sizes) == 1 else [_batch([sample]) for sample in read]


def _all_read(samples: list[_Sample | _Failure]) -> list[_Sample] | _Failure:
    read: list[_Sample] = []
    for sample in samples:
        if isinstance(sample, _Failure):
            return sample
        read.append(sample)
    return read


def _batch(samples: list[_Sample]) -> Batch:
    images, masks, planned, epochs = zip(*samples, strict=True)
    types = {image.dtype for image in images}
    if len(types) > 1:  # files of one dataset may have several: the smallest type that holds all values
        widest = torch.float32 if torch.float32 in types else torch.uint16
        images = tuple(image.to(widest) for image in images)
    batch = torch.stack(images).contiguous(memory_format=torch.channels_last)
    indices, places = [sample.index for sample in planned], [sample.place for sample in planned]
    return Batch(batch, torch.stack(masks), indices, epochs[0], places)


def _name(dataset: SegmentationDataset) -> str:
    return f"the {getattr(dataset, 'split', '')} split of {dataset.metadata.name}".replace("  ", " ")
