"""From samples of a data set to batches: order, transform, workers, and errors told in one sentence.

Every batch is planned by index before it is read, and what is drawn for a sample depends on the run's seed, the epoch
and its index alone. So neither the number of workers nor the place where a run was resumed changes a batch.
"""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, UserError, list_ids
from seg_core.interfaces import JointTransform, SegmentationDataset
from seg_core.randomness import sample_generator, sample_seed

__all__ = ["Batch", "Loader", "evaluation_plan", "training_plan"]


class Batch(NamedTuple):
    """Samples on their way to the device.

    Attributes:
        images: uint8 (N, 3, H, W) in 0 to 255, channels innermost in memory.
        masks: (N, H, W), class ids in the data set's integer type.
        indices: position of each sample in the data set.
        epoch: counted from 0.
    """

    images: Tensor
    masks: Tensor
    indices: list[int]
    epoch: int


def training_plan(
    length: int, batch_size: int, seed: int, epoch: int, rank: int = 0, num_processes: int = 1
) -> list[list[int]]:
    """Returns the batches of one epoch, as indices: shuffled anew in each epoch, whole batches only.

    Args:
        length: of the data set.
        batch_size: samples of one step over all processes, a multiple of `num_processes`.
        seed: of the run.
        epoch: counted from 0.
        rank: of this process, which gets its share of each batch.
        num_processes: how many share a batch.
    """
    order = torch.randperm(length, generator=torch.Generator().manual_seed(sample_seed(seed, epoch))).tolist()
    share = batch_size // num_processes
    starts = range(rank * share, length - length % batch_size, batch_size)
    return [order[start : start + share] for start in starts]


def evaluation_plan(length: int, batch_size: int, rank: int = 0, num_processes: int = 1) -> list[list[int]]:
    """Returns this process's batches of an evaluation, as indices: over all processes each sample once."""
    own = range(rank, length, num_processes)
    return [list(own[start : start + batch_size]) for start in range(0, len(own), batch_size)]


class Loader:
    """Reads planned batches of a data set.

    Args:
        dataset: of pictures with masks.
        transform: gives each sample its size.
        seed: of the run.
        num_workers: reading processes; they stay alive from plan to plan. 0 reads in this process.
        pin_memory: whether batches are put where a GPU fetches them fastest.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: JointTransform,
        *,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._plan = _Plan()
        self._loader = DataLoader(
            _Samples(dataset, transform, seed),
            batch_sampler=self._plan,
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            collate_fn=_collate,
            worker_init_fn=_leave_interrupts_to_the_main_process,
            # without a generator of its own, each pass would draw from torch's default one
            generator=torch.Generator().manual_seed(0),
        )

    def read(self, plan: Sequence[Sequence[int]], epoch: int = 0) -> Iterator[Batch]:
        """Yields the batches of `plan`.

        Raises:
            UserError: what went wrong with a sample, also in a worker: a damaged picture, an id out of range.
        """
        self._plan.batches = [[(epoch, index) for index in indices] for indices in plan]
        for item in self._loader:
            if isinstance(item, _Failure):
                try:
                    raise item.error
                finally:
                    # The error's traceback holds this frame: a cycle that would keep the workers alive.
                    del item
            yield item


class _Plan:
    """The batch sampler: what the loader is to read next, as (epoch, index) of each sample."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@dataclass(frozen=True)
class _Failure:
    """An error on its way from a worker. Raised there, it would arrive wrapped in the worker's traceback."""

    error: UserError


class _Samples(Dataset[Any]):
    def __init__(self, dataset: SegmentationDataset, transform: JointTransform, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, int, int] | _Failure:
        epoch, index = key
        try:
            image, mask = self.dataset[index]
            if mask is None:
                raise InvalidArgumentError(
                    f"sample {index} of {_name(self.dataset)} has no mask; choose a split that has masks"
                )
            image, mask = self.transform(image, mask, generator=sample_generator(self.seed, epoch, index))
            self._check_ids(mask, index)
        except UserError as error:
            return _Failure(error)
        return image.as_subclass(Tensor), mask.as_subclass(Tensor), index, epoch

    def _check_ids(self, mask: Tensor, index: int) -> None:
        metadata = self.dataset.metadata
        mask = mask.as_subclass(Tensor)
        mask = mask if mask.dtype == torch.uint8 else mask.long()
        wrong = (mask >= metadata.num_classes) & (mask != metadata.ignore_index)
        if mask.dtype != torch.uint8:
            wrong |= (mask < 0) & (mask != metadata.ignore_index)
        if bool(wrong.any()):
            ids, counts = torch.unique(mask[wrong], return_counts=True)
            files = " and ".join(map(str, self.dataset.file_names(index))) or f"sample {index}"
            raise LabelOutOfRangeError(
                f"the mask of {files} holds {list_ids(ids.tolist(), counts.tolist())}; allowed are the "
                f"{metadata.num_classes} classes 0 to {metadata.num_classes - 1} of {metadata.name} and the ignored "
                f"value {metadata.ignore_index}: "
                "correct the mask or the metadata"
            )


def _collate(samples: list[tuple[Tensor, Tensor, int, int] | _Failure]) -> Batch | _Failure:
    for sample in samples:
        if isinstance(sample, _Failure):
            return sample
    images, masks, indices, epochs = zip(*samples, strict=True)
    sizes = {tuple(image.shape[-2:]) for image in images}
    if len(sizes) > 1:
        shown = " and ".join(f"{h}x{w}" for h, w in sorted(sizes)[:2])
        return _Failure(
            InvalidArgumentError(
                f"pictures of different sizes ({shown}) cannot share a batch; give the transform a size "
                "(data.transform.*.size), or evaluate one at a time (data.loader.eval_batch_size=1)"
            )
        )
    batch = torch.stack(images).contiguous(memory_format=torch.channels_last)
    return Batch(batch, torch.stack(masks), list(indices), epochs[0])


def _leave_interrupts_to_the_main_process(worker: int) -> None:  # noqa: ARG001 - as DataLoader calls it
    # Ctrl-C reaches every process of the terminal; the main one ends the run, and with it the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _name(dataset: SegmentationDataset) -> str:
    return f"the {getattr(dataset, 'split', '')} split of {dataset.metadata.name}".replace("  ", " ")
