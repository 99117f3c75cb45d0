import gc
import os
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from seg_core import DatasetMetadata, Preprocessing, SegmentationAugment, SegmentationTransform
from seg_core.errors import CorruptFileError, InvalidArgumentError, LabelOutOfRangeError
from seg_core.transforms.evaluation import EvaluationTransform
from seg_train.data.batches import Loader, PlannedSample, evaluation_plan, training_plan


def read(dataset, plan, epoch=0, num_workers=0, transform=None, seed=5):
    loader = Loader(dataset, transform or SegmentationTransform(), seed=seed, num_workers=num_workers)
    return list(loader.read(plan, epoch))


def test_training_plan_takes_each_sample_at_most_once_in_whole_batches():
    plan = training_plan(11, 4, seed=1, epoch=0)
    assert [len(batch) for batch in plan] == [4, 4]
    assert len({i for batch in plan for i in batch}) == 8


def test_training_plan_differs_by_epoch_and_seed_and_repeats():
    assert training_plan(40, 4, 1, 0) == training_plan(40, 4, 1, 0)
    assert training_plan(40, 4, 1, 0) != training_plan(40, 4, 1, 1)
    assert training_plan(40, 4, 1, 0) != training_plan(40, 4, 2, 0)


def test_training_plan_shares_of_processes_make_the_batches_of_one():
    alone = training_plan(13, 6, 1, 2)
    shares = [training_plan(13, 6, 1, 2, rank, 3) for rank in range(3)]
    assert [[i for share in batch for i in share] for batch in zip(*shares, strict=True)] == alone


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_evaluation_plan_takes_each_sample_once_over_all_processes(processes):
    plans = [evaluation_plan(10, 4, rank, processes) for rank in range(processes)]
    assert sorted(i for plan in plans for batch in plan for i in batch) == list(range(10))
    assert max(len(batch) for plan in plans for batch in plan) <= 4


def test_read_gives_uint8_batches_with_their_indices(stripes):
    (batch,) = read(stripes(), [[3, 1]], epoch=6)
    assert batch.images.shape == (2, 3, 32, 24)
    assert batch.images.dtype == batch.masks.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert type(batch.images) is torch.Tensor
    assert (batch.indices, batch.places, batch.epoch) == ([3, 1], [3, 1], 6)
    assert torch.equal(batch.images[1], stripes()[1][0].as_subclass(torch.Tensor))


def test_samples_depend_neither_on_batches_nor_on_workers(stripes):
    transform = SegmentationTransform(size=(16, 16), scale_range=(0.5, 2.0))
    alone = read(stripes(), [[2], [7], [4]], 3, transform=transform)
    together = read(stripes(), [[7, 4, 2]], 3, num_workers=2, transform=transform)[0]
    for batch in alone:
        place = together.indices.index(batch.indices[0])
        assert torch.equal(batch.images[0], together.images[place])
        assert torch.equal(batch.masks[0], together.masks[place])
    other_epoch = read(stripes(), [[2]], 4, transform=transform)[0]
    other_seed = read(stripes(), [[2]], 3, transform=transform, seed=6)[0]
    assert not torch.equal(alone[0].images, other_epoch.images)
    assert not torch.equal(alone[0].images, other_seed.images)


def test_read_draws_nothing_from_the_default_generator(stripes):
    transform = SegmentationTransform(size=(16, 16), scale_range=(0.5, 2.0))
    before = torch.get_rng_state()
    read(stripes(), [[0, 1]], num_workers=1, transform=transform)
    read(stripes(), [[0, 1]], transform=transform)
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_persist_between_plans(stripes):
    loader = Loader(stripes(), SegmentationTransform(), num_workers=1)
    list(loader.read([[0]]))
    pids = [w.pid for w in loader._loader._iterator._workers]
    (batch,) = loader.read([[5, 6]], epoch=1)
    assert [w.pid for w in loader._loader._iterator._workers] == pids
    assert (batch.indices, batch.epoch) == ([5, 6], 1)


def test_workers_ignore_interrupts(stripes):
    loader = Loader(stripes(), SegmentationTransform(), num_workers=1)
    batches = loader.read([[i] for i in range(12)])
    next(batches)
    os.kill(loader._loader._iterator._workers[0].pid, signal.SIGINT)
    assert len(list(batches)) == 11


def test_workers_go_on_after_sigterm_and_end_with_the_loader(stripes):
    loader = Loader(stripes(), SegmentationTransform(), num_workers=1)
    batches = loader.read([[i] for i in range(12)])
    next(batches)
    (worker,) = loader._loader._iterator._workers
    os.kill(worker.pid, signal.SIGTERM)
    assert len(list(batches)) == 11
    loader._stop_workers()
    worker.join(5)
    assert not worker.is_alive()


def test_worker_that_hangs_is_killed(stripes, monkeypatch):
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)  # seconds that torch waits

    class Hangs(stripes):
        def __getitem__(self, index):
            while index == 1:
                time.sleep(0.1)
            return super().__getitem__(index)

    loader = Loader(Hangs(), SegmentationTransform(), num_workers=1)
    next(loader.read([[0], [1]]))
    (worker,) = loader._loader._iterator._workers
    os.kill(worker.pid, signal.SIGTERM)
    loader._stop_workers()
    worker.join(5)
    assert not worker.is_alive()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_unreadable_sample_is_an_error_of_one_sentence(stripes, num_workers):
    with pytest.raises(CorruptFileError) as caught:
        read(stripes(broken=2), [[0, 1], [3, 2]], num_workers=num_workers)
    assert str(caught.value) == "train/2.png is no image; replace it"


@pytest.mark.parametrize("error", [CorruptFileError, KeyError])
def test_workers_have_stopped_when_the_error_of_one_arrives(stripes, error):
    class Broken(stripes):
        def __getitem__(self, index):
            if index == 2:
                raise error("2.png")
            return super().__getitem__(index)

    loader = Loader(Broken(), SegmentationTransform(), num_workers=2)
    batches = loader.read([[0], [1], [2], [3]])
    next(batches)
    workers = loader._loader._iterator._workers
    with pytest.raises(error):
        list(batches)
    assert [worker.is_alive() for worker in workers] == [False, False]
    assert [batch.indices for batch in loader.read([[0], [1]])] == [[0], [1]], "it can be used again"


@pytest.mark.parametrize("num_workers", [0, 1])
def test_id_out_of_range_names_file_value_and_what_is_allowed(stripes, num_workers):
    with pytest.raises(LabelOutOfRangeError) as caught:
        read(stripes(wrong=1), [[0, 1]], num_workers=num_workers)
    assert str(caught.value) == (
        "mask of sample 1 (train/1.png) contains ids that are not allowed: 7 (1 pixel). Allowed: 0-2, 255; correct the "
        "mask or the metadata"
    )


def test_negative_id_in_a_signed_mask_is_out_of_range(stripes):
    class Signed(stripes):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return image, mask.to(torch.int32) - 1

    with pytest.raises(LabelOutOfRangeError, match=r"that are not allowed: -1 \(\d+ pixels\), 254 \(1 pixel\)"):
        read(Signed(), [[0]])


def test_sample_without_mask_names_the_split(stripes):
    class Unlabeled(stripes):
        def __getitem__(self, index):
            return super().__getitem__(index)[0], None

    with pytest.raises(InvalidArgumentError, match="sample 0 of the test split of Stripes has no mask; choose a split"):
        read(Unlabeled(split="test"), [[0]])


def test_images_of_different_sizes_in_a_training_batch_are_an_error(stripes):
    class Growing(stripes):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return image[:, : 10 + index], mask[: 10 + index]

    with pytest.raises(
        InvalidArgumentError, match=r"different sizes \(10x24 and 11x24\) cannot share a batch of"
    ) as caught:
        read(Growing(), [[0, 1]])
    assert "or data.transform.train.resize = { size = [height, width] }, the size of every image" in str(caught.value)
    (batch,) = read(Growing(), [[0, 1]], transform=SegmentationTransform(resize={"size": [20, 30]}))
    assert batch.images.shape == (2, 3, 20, 30)
    assert batch.masks.shape == (2, 20, 30)
    with pytest.raises(InvalidArgumentError, match=r"different sizes \(12x28 and 12x26\)|\(12x26 and 12x28\)"):
        read(Growing(), [[0, 1]], transform=SegmentationTransform(resize={"shorter_side": 12}))
    assert len(read(Growing(), [[0], [1]], transform=SegmentationTransform(resize={"shorter_side": 12}))) == 2


def test_augmentation_of_a_sample_does_not_depend_on_its_batch(stripes):
    from seg_core import sample_generator

    augment = SegmentationAugment(hflip=0.5)
    (batch,) = read(stripes(), [list(range(8))])
    whole, _ = augment(batch.images, batch.masks, generator=[sample_generator(5, 0, i, 1) for i in batch.indices])
    for place, index in enumerate(batch.indices):
        single, _ = augment(batch.images[place], batch.masks[place], generator=sample_generator(5, 0, index, 1))
        assert torch.equal(single, whole[place])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_evaluation_splits_batches_of_different_sizes(stripes, num_workers):
    class Growing(stripes):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            height = 10 + index // 2
            return image[:, :height], mask[:height]

    loader = Loader(
        Growing(), EvaluationTransform(Preprocessing(scale=0.5)), num_workers=num_workers, splits_unlike_sizes=True
    )
    batches = list(loader.read([[0, 1], [2, 3, 4], [5]]))
    assert [batch.indices for batch in batches] == [[0, 1], [2], [3], [4], [5]]
    assert [tuple(batch.images.shape[-2:]) for batch in batches] == [(5, 12), (6, 12), (6, 12), (6, 12), (6, 12)]
    assert [batch.masks.shape[-2] for batch in batches] == [10, 11, 11, 12, 12]


# ---- samples of other forms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("form", ["pil", "numpy", "one channel", "bool"])
def test_samples_in_every_form_give_the_batches_of_tensors(stripes, form, workers):
    class Formed(stripes):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            mask = mask.clamp(max=1)  # a bool mask has no ignored value
            if form == "pil":
                return Image.fromarray(image.permute(1, 2, 0).numpy()), Image.fromarray(mask.numpy())
            if form == "numpy":
                return image.permute(1, 2, 0).numpy(), mask.numpy().astype(np.uint8)
            return image, mask[None] if form == "one channel" else mask.bool()

    class Plain(stripes):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return image, mask.clamp(max=1)

    for transform in (SegmentationTransform(size=(16, 12)), EvaluationTransform(Preprocessing())):
        read = [
            list(Loader(dataset(), transform, num_workers=workers).read([[0, 3], [2, 1]]))
            for dataset in (Formed, Plain)
        ]
        for found, expected in zip(*read, strict=True):
            assert torch.equal(found.images, expected.images)
            assert torch.equal(found.masks, expected.masks)


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (
            {"image": 1, "mask": 2},
            r"sample 0 \(train/0.png\) is a dict with the keys 'image', 'mask'; .*pair",
        ),
        ((torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(2, 4, dtype=torch.uint8)), r"0.png\): .*same size"),
        ((torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(4, 4, 4, dtype=torch.uint8)), r"0.png\): mask must be"),
    ],
)
def test_samples_that_are_wrong_name_their_files(stripes, monkeypatch, sample, words):
    monkeypatch.setattr(stripes, "__getitem__", lambda self, index: sample)
    with pytest.raises(InvalidArgumentError, match=words):
        list(Loader(stripes(), SegmentationTransform(size=4)).read([[0]]))


class FrozenCounts(Dataset):
    """Samples whose image is the number of objects that garbage collection leaves alone in this process."""

    metadata = DatasetMetadata("two", ("a", "b"))

    def __len__(self):
        return 2

    def __getitem__(self, index):
        frozen = min(gc.get_freeze_count(), 255)
        return torch.full((3, 2, 2), frozen, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.uint8)


def test_garbage_collection_in_a_worker_leaves_the_objects_of_the_main_process_alone():
    before = gc.get_freeze_count()
    batch = read(FrozenCounts(), [[0, 1]], num_workers=1)[0]
    assert batch.images.unique().tolist() == [255]
    assert gc.get_freeze_count() == before
    assert read(FrozenCounts(), [[0, 1]])[0].images.unique().tolist() == [min(before, 255)]


def test_what_a_batch_needs_is_created_when_it_is_read(stripes):
    loader = Loader(stripes(), SegmentationTransform())
    plan = [[index % 12] for index in range(500)]
    batches = loader.read(plan)
    next(batches)
    created = [found for found in gc.get_objects() if isinstance(found, PlannedSample)]
    assert len(created) < 10
    batches.close()
