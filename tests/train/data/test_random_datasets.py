"""Datasets that draw random numbers themselves, from the default states of Python, NumPy and torch."""

import json
import random

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from seg_core import Preprocessing, SegmentationTransform, count_pixels
from seg_core.catalog import DatasetEntry
from seg_core.command import main
from seg_core.errors import CorruptFileError
from seg_core.progress import QuietProgress
from seg_core.registry import DATASETS
from seg_core.transforms.evaluation import EvaluationTransform
from seg_train import Trainer, load_config
from seg_train.config.migrate import FormerValTransform
from seg_train.data.batches import Loader, PlannedSample
from seg_train.data.rare_classes import count_pixels_per_image
from seg_train.run.resume_checks import check_val_transform
from tests.train.run.test_trainer import assert_equal_weights, run, run_until, weights_of


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


@pytest.fixture
def noisy(stripes):
    class Noisy(stripes):
        """Samples of Stripes at random brightness; the first three values of an image show what was drawn."""

        error = None
        uses_draws = True

        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            drawn = draw()
            if self.error is not None and index == 2:
                raise self.error("2.png")
            if self.uses_draws:
                image = tv_tensors.Image((image * (0.5 + drawn[0] / 2)).to(torch.uint8))
                image[:, 0, 0] = torch.tensor([int(256 * value) for value in drawn], dtype=torch.uint8)
                mask = tv_tensors.Mask(mask.roll(int(20 * drawn[1]), 0))
            return image, mask

    DATASETS.register("Noisy", DatasetEntry(f"{__name__}:Noisy", label_set=None, splits=(), needs_root=False))
    DATASETS._objects["Noisy"] = Noisy
    return Noisy


def drawn_by(dataset, plan, epoch=0, seed=5, num_workers=0, transform=None):
    """What the dataset drew for each place of the plan."""
    loader = Loader(dataset, transform or SegmentationTransform(), seed=seed, num_workers=num_workers)
    return {
        place: tuple(image[:, 0, 0].tolist())
        for batch in loader.read(plan, epoch)
        for place, image in zip(batch.places, batch.images, strict=True)
    }


def test_draws_of_a_dataset_depend_neither_on_workers_nor_on_batches_nor_on_what_was_read_before(noisy):
    expected = drawn_by(noisy(), [[0, 1, 2, 3, 4]])
    assert len(set(expected.values())) == 5
    for num_workers in (1, 2):
        assert drawn_by(noisy(), [[4, 2], [3], [1, 0]], num_workers=num_workers) == expected
    assert drawn_by(noisy(), [[3], [4]]) == {3: expected[3], 4: expected[4]}


def test_draws_of_a_dataset_differ_by_epoch_and_by_the_seed_of_the_run(noisy):
    first, epoch, seed = (drawn_by(noisy(), [[0, 1]], epoch=e, seed=s) for e, s in ((0, 5), (1, 5), (0, 6)))
    for other in (epoch, seed):
        assert all(a != b for place in (0, 1) for a, b in zip(first[place], other[place], strict=True))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_draws_for_a_sample_that_repeats_differ_by_its_place(noisy, num_workers):
    plan = [[PlannedSample(3, 0), PlannedSample(3, 1)], [PlannedSample(3, 2), PlannedSample(3, 3)]]
    found = drawn_by(noisy(), plan, num_workers=num_workers)
    assert len(set(found.values())) == 4
    assert found[3] == drawn_by(noisy(), [[3]])[3]


def test_draws_for_evaluations_are_the_same_each_time(noisy):
    transform = EvaluationTransform(Preprocessing())
    first = drawn_by(noisy(), [[0], [1]], transform=transform)
    assert drawn_by(noisy(), [[1, 0]], transform=transform, num_workers=1) == first


@pytest.mark.parametrize("error", [None, CorruptFileError, KeyError])
def test_reading_without_workers_leaves_the_states_of_the_process(noisy, error):
    dataset = noisy()
    dataset.error = error
    before = states()
    if error is None:
        drawn_by(dataset, [[1, 2]])
    else:
        with pytest.raises(error):
            drawn_by(dataset, [[1, 2]])
    assert states() == before


@pytest.mark.parametrize(
    "read",
    [
        count_pixels,
        count_pixels_per_image,
        lambda dataset: check_val_transform(FormerValTransform((64, 64), 1.0), dataset, "run", QuietProgress()),
    ],
    ids=["count_pixels", "count_pixels_per_image", "check_val_transform"],
)
def test_counting_and_checking_leave_the_states_of_the_process_and_find_the_same_again(noisy, read):
    before = states()
    first = read(noisy())
    assert states() == before
    draw()
    again = read(noisy())
    assert str(again) == str(first)


# ---- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:classes 2")  # the third class of Stripes occurs nowhere
@pytest.mark.parametrize("rare", [False, True])
def test_run_with_a_random_dataset_is_the_same_with_workers_and_after_a_resume(tables, noisy, rare):
    tables["data"]["dataset"] = {"name": "Noisy"}
    tables["criterion"] = {"class_weights": "enet"}
    if rare:
        tables["data"]["sampling"] = {"rare_classes": True, "min_pixels": 5}
    whole = weights_of(run(tables, "paths.run=whole").run_dir / "checkpoints" / "last.pt")
    workers = run(tables, "paths.run=workers", "data.loader.num_workers=2").run_dir
    assert_equal_weights(weights_of(workers / "checkpoints" / "last.pt"), whole)
    for step in (2, 4):  # in the first epoch and in the second
        name = f"paths.run=stopped_{step}"
        run_until(tables, step, name)
        draw()
        resumed = run(tables, name, resume=True)
        assert_equal_weights(weights_of(resumed.run_dir / "checkpoints" / "last.pt"), whole)


def test_run_is_the_same_whether_or_not_its_dataset_draws_numbers_that_it_does_not_use(tables, noisy, monkeypatch):
    """TinyNet has dropout, which draws from torch's default state."""
    plain = run(tables, "paths.run=plain").run_dir
    monkeypatch.setattr(noisy, "uses_draws", False)
    tables["data"]["dataset"] = {"name": "Noisy"}
    drawing = run(tables, "paths.run=drawing").run_dir
    first, second = (weights_of(folder / "checkpoints" / "last.pt") for folder in (plain, drawing))
    assert_equal_weights(first, second)


def test_dataset_that_splits_at_random_when_it_is_opened_has_one_split_in_the_whole_run(tables, stripes):
    opened = []

    class RandomSplit(stripes):
        def __init__(self, root=None, split="train"):
            super().__init__(root, split, length=8 if split == "train" else 4)
            order = np.random.permutation(12).tolist()
            self.own = order[:8] if split == "train" else order[8:]
            opened.append(self.own)

    DATASETS.register("RandomSplit", DatasetEntry(f"{__name__}:R", label_set=None, splits=(), needs_root=False))
    DATASETS._objects["RandomSplit"] = RandomSplit
    tables["data"]["dataset"] = {"name": "RandomSplit"}
    before = states()[1]
    for seed in (1, 1, 2):
        Trainer(load_config(tables, [f"trainer.seed={seed}"]))
    assert sorted(opened[0] + opened[1]) == list(range(12)), "no sample is in both splits"
    assert opened[:2] == opened[2:4] != opened[4:]
    assert states()[1] != before  # the run itself is seeded


def test_eval_of_a_run_repeats_the_scores_of_its_random_dataset(tables, noisy, capsys):
    tables["data"]["dataset"] = {"name": "Noisy"}
    tables["trainer"]["seed"] = 3
    result = run(tables)
    capsys.readouterr()
    assert main(["eval", str(result.run_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["miou"] == result.scores["miou"]
