import math
from collections import Counter

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torchvision import tv_tensors

from seg_core import DatasetMetadata, SegmentationTransform, count_pixels, sample_generator
from seg_core.errors import CorruptFileError, InvalidArgumentError, LabelOutOfRangeError
from seg_core.randomness import sample_seed
from seg_train import Trainer, load_config
from seg_train.data.batches import ClassCrop, Loader, PlannedSample, training_plan
from seg_train.data.rare_classes import RareClassSampling, class_probabilities, count_pixels_per_image
from seg_train.losses.deep_supervision import DeepSupervision
from seg_train.run.checkpoint import load_checkpoint
from seg_train.run.interruption import RunInterruptedError
from seg_train.run.step import Parts, train_step

GROUND, ROAD, SIGN, NEVER = range(4)
HEIGHT, WIDTH = 64, 96


class Streets:
    """Ground, a road across every other image, a small sign in every fifth, and an ignored strip."""

    metadata = DatasetMetadata("Streets", ("ground", "road", "sign", "never"))

    def __init__(self, length=30, masks=True, wrong=None, dtype=torch.uint8):
        self.length, self.masks, self.wrong, self.dtype = length, masks, wrong, dtype

    def __len__(self):
        return self.length

    def file_names(self, index):
        return (f"{index}.png",)

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        mask = np.zeros((HEIGHT, WIDTH), np.int64)
        if index % 2 == 0:
            mask[30:50] = ROAD
        if index % 5 == 0:
            y, x = rng.integers(0, HEIGHT - 8), rng.integers(0, WIDTH - 8)
            mask[y : y + 8, x : x + 6] = SIGN
        mask[:, :3] = 255
        if index == self.wrong:
            mask[5, 5:8] = 9
        # each image contains its index, so that batches can be traced back to samples
        image = np.full((3, HEIGHT, WIDTH), index, np.uint8) + rng.integers(0, 2, (3, HEIGHT, WIDTH), dtype=np.uint8)
        image = tv_tensors.Image(torch.from_numpy(image))
        return image, tv_tensors.Mask(torch.from_numpy(mask).to(self.dtype)) if self.masks else None


@pytest.fixture(scope="module")
def counts():
    return count_pixels_per_image(Streets())


def make(counts, **options):
    with pytest.warns(UserWarning, match="classes 3 occur in no image; rare-class sampling never draws them"):
        return RareClassSampling(counts, **{"min_pixels": 20, **options})


def read(plan, epoch=2, num_workers=0, transform=None, seed=5, dataset=None):
    transform = transform or SegmentationTransform(size=(16, 20), scale_range=(0.7, 1.5))
    return list(Loader(dataset or Streets(), transform, seed=seed, num_workers=num_workers).read(plan, epoch))


def assert_equal_batches(first, second):
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.masks, b.masks)
        assert (a.indices, a.places, a.epoch) == (b.indices, b.places, b.epoch)


# ---- counting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_counts_are_those_of_the_pixels(dtype):
    dataset = Streets(length=11, dtype=dtype)
    seen = []
    counts = count_pixels_per_image(dataset, progress=lambda done, total: seen.append((done, total)))
    values = [Counter(dataset[index][1].flatten().tolist()) for index in range(11)]
    expected = torch.tensor([[found[class_id] for class_id in range(4)] for found in values])
    assert counts.dtype == torch.int64
    assert torch.equal(counts, expected)
    assert seen == [(done, 11) for done in range(1, 12)]


def test_counts_sum_to_those_of_the_dataset(counts):
    assert torch.equal(counts.sum(0), count_pixels(Streets()).pixels)


def test_counting_without_masks_says_what_is_needed():
    with pytest.raises(InvalidArgumentError, match=r"sample 0 \(0.png\) has no mask; choose a split that has masks"):
        count_pixels_per_image(Streets(masks=False))


def test_counting_masks_of_floats_names_file_and_type_and_what_to_do(monkeypatch):
    dataset = Streets()
    monkeypatch.setattr(type(dataset), "__getitem__", lambda self, index: (None, torch.full((2, 2), 0.7)))
    words = r"mask of sample 0 \(0.png\) has shape \(2, 2\) and holds float32; .*integer ids: .*mask.to\(torch.uint8\)"
    with pytest.raises(InvalidArgumentError, match=words):
        count_pixels_per_image(dataset)


def test_counting_a_wrong_id_names_file_and_value():
    with pytest.raises(
        LabelOutOfRangeError, match=r"mask of sample 4 \(4.png\) contains .* 9 \(3 pixels\). Allowed: 0-3, 255"
    ):
        count_pixels_per_image(Streets(wrong=4))


def test_counting_raises_the_errors_of_the_dataset(stripes):
    with pytest.raises(CorruptFileError, match="train/2.png is no image"):
        count_pixels_per_image(stripes(broken=2))


# ---- choice of class and image --------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("temperature", [0.01, 0.1, 3.0])
def test_probabilities_are_those_of_the_formula(temperature):
    pixels = [9_000_000_000, 400_000_000, 0, 600_000_000]
    weights = [math.exp((1 - n / sum(pixels)) / temperature) if n else 0.0 for n in pixels]
    expected = [w / sum(weights) for w in weights]
    found = class_probabilities(torch.tensor(pixels), temperature)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_probabilities_at_extreme_temperatures():
    pixels = torch.tensor([10, 0, 7, 2])
    assert class_probabilities(pixels, 1e-6).tolist() == [0, 0, 0, 1]
    assert class_probabilities(pixels, math.inf).tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])


@pytest.mark.smoke
def test_classes_are_drawn_as_often_as_their_probability_says(counts):
    sampling = make(counts, temperature=1.0)
    plans = [sampling.plan(6, seed=1, epoch=epoch) for epoch in range(200)]
    samples = [sample for plan in plans for batch in plan for sample in batch]
    drawn = torch.bincount(torch.tensor([s.crop.class_id for s in samples]), minlength=4)
    expected = sampling.probabilities * len(samples)
    bound = 5 * (expected * (1 - sampling.probabilities)).sqrt()
    assert len(samples) == 6000
    assert bool(((drawn - expected).abs() <= bound).all()), (drawn, expected)
    assert 0.1 < float(sampling.probabilities[:3].min()) < float(sampling.probabilities.max()) < 0.6
    # each image that contains the sign equally often
    signs = [s.index for s in samples if s.crop.class_id == SIGN]
    per_image = torch.bincount(torch.tensor(signs), minlength=30)[::5]
    share = len(signs) / 6
    assert sum(per_image.tolist()) == len(signs)
    assert bool(((per_image - share).abs() <= 5 * share**0.5).all()), per_image


def test_images_contain_enough_of_the_class_they_were_drawn_for(counts):
    counts = counts.clone()
    counts[:, SIGN] = torch.tensor([0, 3, 19, 20, 25] * 6)
    samples = [s for epoch in range(20) for batch in make(counts).plan(5, 1, epoch) for s in batch]
    assert {s.index % 5 for s in samples if s.crop.class_id == SIGN} == {3, 4}
    assert all(counts[s.index, s.crop.class_id] >= 20 for s in samples)


def test_class_that_no_image_has_enough_of_is_drawn_from_all_that_contain_it(counts):
    sampling = make(counts, min_pixels=1000)
    samples = [s for epoch in range(20) for batch in sampling.plan(5, 1, epoch) for s in batch]
    assert {s.index for s in samples if s.crop.class_id == SIGN} == set(range(0, 30, 5))


def test_absent_class_is_never_drawn(counts):
    sampling = make(counts, temperature=1e6)
    samples = [s for epoch in range(30) for batch in sampling.plan(5, 1, epoch) for s in batch]
    assert {s.crop.class_id for s in samples} == {GROUND, ROAD, SIGN}
    assert float(sampling.probabilities[NEVER]) == 0


def test_images_without_any_class_are_never_drawn(counts):
    counts = counts.clone()
    counts[3] = 0
    sampling = make(counts, temperature=1.0, min_pixels=0)
    samples = [s for epoch in range(30) for batch in sampling.plan(5, 1, epoch) for s in batch]
    assert 3 not in {s.index for s in samples}
    assert 1 in {s.index for s in samples}


# ---- plan ------------------------------------------------------------------------------------------------------------


def test_plan_has_the_batches_of_an_ordinary_one(counts):
    plan = make(counts).plan(7, 1, 0)
    assert [len(batch) for batch in plan] == [len(batch) for batch in training_plan(30, 7, 1, 0)] == [7] * 4
    assert [sample.place for batch in plan for sample in batch] == list(range(28))


def test_plan_differs_by_epoch_and_seed_and_repeats(counts):
    sampling = make(counts)
    assert sampling.plan(5, 1, 0) == sampling.plan(5, 1, 0) == make(counts).plan(5, 1, 0)
    assert sampling.plan(5, 1, 0) != sampling.plan(5, 1, 1)
    assert sampling.plan(5, 1, 0) != sampling.plan(5, 2, 0)


def test_plan_shares_of_processes_make_the_batches_of_one(counts):
    sampling = make(counts)
    shares = [sampling.plan(6, 1, 2, rank, 3) for rank in range(3)]
    assert [[s for share in batch for s in share] for batch in zip(*shares, strict=True)] == sampling.plan(6, 1, 2)


# ---- crops -----------------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_crops_contain_the_class(counts):
    signs = [[PlannedSample(index, 100 * k + index, ClassCrop(SIGN, 20, 200)) for index in range(0, 30, 5)]
             for k in range(4)]  # fmt: skip
    for batch in read(signs):
        assert batch.masks.shape == (6, 16, 20)
        assert all(int((mask == SIGN).sum()) >= 20 for mask in batch.masks)
    without = read([[0, 5, 10, 15, 20, 25]])[0]
    assert not all(int((mask == SIGN).sum()) >= 20 for mask in without.masks)


class Foreign:
    """A joint transform of another library."""

    def __init__(self):
        self.inner = SegmentationTransform(size=(16, 20))

    def __call__(self, image, mask, *, generator=None):
        return self.inner(image, mask, generator=generator)


@pytest.mark.parametrize(
    "transform",
    [
        SegmentationTransform(size=(16, 20)),
        Foreign(),
        SegmentationTransform(size=(16, 20), resize={"shorter_side": 40}, scale_range=(0.8, 1.25), cat_max_ratio=0.6),
    ],
    ids=["ours", "other", "cat_max_ratio"],
)
def test_crop_is_the_first_with_enough_pixels_of_the_class_or_the_one_with_most(transform):
    enough_at, best_at = set(), set()
    for place in range(60):
        crops = []
        for attempt in range(3):
            seed = sample_seed(5, 2, place, 0, attempt) if attempt else sample_seed(5, 2, place, 0)
            crops.append(transform(*Streets()[10], generator=torch.Generator().manual_seed(seed)))
        held = [int((mask == SIGN).sum()) for _, mask in crops]
        chosen = next((a for a, count in enumerate(held) if count >= 30), held.index(max(held)))
        (enough_at if held[chosen] >= 30 else best_at).add(chosen)
        (batch,) = read([[PlannedSample(10, place, ClassCrop(SIGN, 30, 3))]], transform=transform)
        assert torch.equal(batch.images[0], crops[chosen][0])
        assert torch.equal(batch.masks[0], crops[chosen][1])
    assert len(enough_at) > 1
    assert len(best_at) > 1


def test_without_min_pixels_the_crop_depends_on_the_place_only(counts):
    transform = SegmentationTransform(size=(16, 20), scale_range=(0.5, 2.0))
    plan = make(counts, min_pixels=0).plan(5, 1, 0)
    batch = read(plan, transform=transform)[1]
    for place, index in enumerate(batch.indices):
        expected = transform(*Streets()[index], generator=sample_generator(5, 2, 5 + place))
        assert torch.equal(batch.images[place], expected[0])


def test_image_drawn_twice_has_two_crops():
    crop = ClassCrop(GROUND, 1, 10)
    (batch,) = read([[PlannedSample(4, 0, crop), PlannedSample(4, 1, crop)]])
    assert (batch.indices, batch.places) == ([4, 4], [0, 1])
    assert not torch.equal(batch.images[0], batch.images[1])


def test_samples_depend_neither_on_workers_nor_on_where_the_epoch_was_resumed(counts):
    plan = make(counts).plan(5, 5, 2)
    whole = read(plan)
    assert_equal_batches(whole, read(plan, num_workers=2))
    assert_equal_batches(whole[3:], read(plan[3:]))
    assert not torch.equal(whole[0].images, read(plan, epoch=3)[0].images)
    assert not torch.equal(whole[0].images, read(plan, seed=6)[0].images)


def test_shares_of_processes_are_the_samples_of_one(counts):
    sampling = make(counts)
    whole = read(sampling.plan(6, 5, 2))
    shares = [read(sampling.plan(6, 5, 2, rank, 2)) for rank in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(batch.images, torch.cat([first.images, second.images]))
        assert batch.places == first.places + second.places


def test_without_crop_size_whole_images_are_read(counts):
    batches = read(make(counts, min_pixels=3000).plan(5, 1, 0), transform=SegmentationTransform())
    for batch in batches:
        for index, mask in zip(batch.indices, batch.masks, strict=True):
            assert torch.equal(mask, Streets()[index][1])


# ---- in a run --------------------------------------------------------------------------------------------------------


def test_augmentation_draws_by_place(counts):
    batch = read(make(counts).plan(5, 1, 0))[2]
    seen = []

    def augment(images, masks, *, generator):
        seen.extend(g.initial_seed() for g in generator)
        return images.float(), masks.long()

    model = torch.nn.Conv2d(3, 4, 1)

    class Network(torch.nn.Module):
        def forward(self, images):
            return {"out": model(images)}

    parts = Parts(
        model=Network(),
        criterion=DeepSupervision(torch.nn.CrossEntropyLoss(ignore_index=255)),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        augment=augment,
        accelerator=Accelerator(cpu=True),
        seed=7,
    )
    train_step(parts, batch)
    assert seen == [sample_seed(7, 2, place, 1) for place in range(10, 15)]


@pytest.mark.filterwarnings("ignore:classes 2 occur in no image")
def test_run_with_rare_classes_resumes_within_an_epoch(tables):
    tables["data"]["sampling"] = {"rare_classes": True, "min_pixels": 30}
    tables["data"]["transform"]["train"]["size"] = [16, 16]

    def last(name):
        return load_checkpoint(f"{tables['paths']['output']}/{name}/checkpoints/last.pt")["model"]

    Trainer(load_config(tables, ["paths.run=whole"])).run()
    config = load_config(tables, ["paths.run=halves"])
    trainer = Trainer(config)
    log_step = trainer._log_step

    def stop_at_the_second_step(*arguments):
        log_step(*arguments)
        trainer._interruption.requested = trainer.position.step == 2

    trainer._log_step = stop_at_the_second_step
    with pytest.raises(RunInterruptedError):
        trainer.run()
    Trainer(load_config(tables, ["paths.run=halves", "data.loader.num_workers=1"]), resume=True).run()
    Trainer(load_config(tables, ["paths.run=plain", "data.sampling.rare_classes=false"])).run()
    whole, halves, plain = (last(name) for name in ("whole", "halves", "plain"))
    assert all(torch.equal(whole[key], halves[key]) for key in whole)
    assert not all(torch.equal(whole[key], plain[key]) for key in whole)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"temperature": math.nan}, "temperature must be above 0, got nan"),
        ({"min_pixels": -1}, "min_pixels must be at least 0, got -1"),
        ({"attempts": 0}, "attempts must be at least 1, got 0"),
        ({"counts": torch.zeros((3, 4), dtype=torch.int64)}, "no pixel has a class, so no class can be drawn"),
        ({"counts": torch.ones(4, dtype=torch.int64)}, r"counts must be pixels per image and class, .* shape \(4,\)"),
        ({"counts": torch.ones((3, 4))}, "counts must be pixels per image and class, .* got torch.float32"),
        ({"counts": -torch.ones((3, 4), dtype=torch.int64)}, "counts must be pixels per image and class"),
    ],
)
def test_wrong_arguments_are_errors(counts, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        RareClassSampling(**{"counts": counts, **options})


def test_unreadable_sample_in_a_worker_is_an_error_of_one_sentence(stripes):
    with pytest.raises(CorruptFileError) as caught:
        read([[PlannedSample(2, 0, ClassCrop(0, 1, 3))]], num_workers=1, dataset=stripes(broken=2))
    assert str(caught.value) == "train/2.png is no image; replace it"
