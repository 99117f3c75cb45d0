"""Runs on images of any channels: what reaches the network, normalization, crops, evaluation, resume."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import tv_tensors

from seg_core import BuildSpec, DatasetMetadata, Preprocessing, SegmentationTransform, load_model
from seg_core.catalog import DatasetEntry
from seg_core.errors import ConfigError, InvalidArgumentError, UsageError
from seg_core.labels.channels import ImageChannels
from seg_core.model_files.model_file import read_model_info
from seg_core.progress import QuietProgress
from seg_core.randomness import sample_generator
from seg_core.registry import DATASETS, MODELS
from seg_core.transforms.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from seg_train import Trainer, evaluate, load_config
from seg_train.data.batches import Loader, PlannedSample, training_plan
from seg_train.run.checkpoint import load_checkpoint
from seg_train.run.dry_run import dry_run
from seg_train.run.interruption import RunInterruptedError
from seg_train.run.preview import preview_of, shown_image

CHANNELS = ImageChannels(("blue", "green", "red", "nir"), range=(0, 10000))
GRAY = ImageChannels(("gray",), range=(0, 4095))
HEIGHT, WIDTH = 32, 24
GIVEN = "given by the dataset"


class Bands:
    """Images of uint16 whose classes differ in the last channel alone; parts of them can be read."""

    metadata = DatasetMetadata("Bands", ("low", "high"), channels=CHANNELS)
    reads_windows = False

    def __init__(self, root=None, split="train", length=8):
        self.root, self.split, self.length = root, split, length
        self.read = []

    def __len__(self):
        return self.length

    def file_names(self, index):
        return (f"{self.split}/{index}.tif",)

    def __getitem__(self, index):
        self.read.append((index, None))
        return self.sample(index)

    def sample(self, index):
        rng = np.random.default_rng([index, len(self.split)])
        channels = self.metadata.channels
        mask = np.repeat(rng.integers(0, 2, (HEIGHT // 4, 1)), 4, axis=0).repeat(WIDTH, axis=1).astype(np.uint8)
        mask[0, :3] = 255
        lows, highs = np.array(channels.ranges).T[..., None, None]
        image = lows + (highs - lows) * rng.random((channels.count, HEIGHT, WIDTH))
        image[-1] = lows[-1] + (highs - lows)[-1] * (0.1 + 0.6 * (mask == 1) + 0.2 * rng.random(mask.shape))
        image = image.astype(np.uint8 if channels.is_bytes else np.uint16)
        return tv_tensors.Image(torch.from_numpy(image)), tv_tensors.Mask(torch.from_numpy(mask))

    # as a dataset of tiled files offers it
    def can_read_windows(self, index):
        return self.reads_windows

    def image_size(self, index):
        return HEIGHT, WIDTH

    def read_window(self, index, top, left, height, width):
        self.read.append((index, (height, width)))
        image, mask = self.sample(index)
        return image[:, top : top + height, left : left + width], mask[top : top + height, left : left + width]


class Windows(Bands):
    reads_windows = True


class BandNet(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(in_channels, 8, 1), nn.ReLU(), nn.Dropout2d(0.1), nn.Conv2d(8, num_classes, 1)
        )

    def forward(self, images):
        return {"out": self.head(images)}


def band_net(
    *, weights=None, progress=True, num_classes=2, aux_loss=None, weights_backbone=None, variant=None, in_channels=3
):
    model = BandNet(in_channels, num_classes)
    arguments = {"num_classes": num_classes, "in_channels": in_channels}
    model.build_spec = BuildSpec("band_net", variant or "paper", arguments)
    return model


@pytest.fixture(autouse=True)
def _names():
    MODELS.register("band_net", band_net)
    for name, dataset in (("Bands", Bands), ("Windows", Windows)):
        DATASETS.register(
            name, DatasetEntry(f"{__name__}:{name}", label_set=None, splits=("train", "val"), needs_root=False)
        )
        DATASETS._objects[name] = dataset


@pytest.fixture
def bands(tables):
    tables["model"]["name"] = "band_net"
    tables["data"]["dataset"]["name"] = "Bands"
    tables["data"]["augment"] = {}
    return tables


@pytest.fixture
def with_channels(monkeypatch):
    """Sets the channels of the datasets."""

    def set_channels(channels):
        monkeypatch.setattr(Bands, "metadata", replace(Bands.metadata, channels=channels))

    return set_channels


class Said(QuietProgress):
    def __init__(self):
        super().__init__()
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def trained(tables, *overrides, **options):
    trainer = Trainer(load_config(tables, overrides), **options)
    trainer.run()
    return trainer


def inputs_of(trainer):
    """Hooks that keep the inputs of the network, of training steps and of evaluations."""
    kept = {True: [], False: []}

    def keep(module, arguments):
        kept[module.training].append(arguments[0].detach().clone())

    trainer.network.network.register_forward_pre_hook(keep)
    return kept


def equal_weights(one, another):
    ours, theirs = (trainer.network.network.state_dict() for trainer in (one, another))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# ---- what reaches the network ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "channels",
    [
        CHANNELS,
        GRAY,
        ImageChannels(("r", "g", "b", "height"), range=((0, 255), (0, 255), (0, 255), (-10, 400))),
        ImageChannels(("a", "b"), mean=(0.5, 0.25), std=(0.5, 2.0)),
    ],
    ids=str,
)
def test_network_gets_the_values_of_the_file_scaled_from_the_range_and_normalized(bands, with_channels, channels):
    with_channels(channels)
    bands["data"]["transform"] = {}
    trainer = Trainer(load_config(bands))
    kept = inputs_of(trainer)
    trainer.run()
    found = trainer.data.normalization
    mean, std = (np.array(numbers)[:, None, None] for numbers in (found.mean, found.std))
    lows, highs = np.array(channels.ranges).T[..., None, None]

    def expected(dataset, index):
        values = dataset.sample(index)[0].numpy().astype(np.float64)
        return ((values - lows) / (highs - lows) - mean) / std

    for dataset, training in ((trainer.data.train_set, True), (trainer.data.val_set, False)):
        plan = trainer.plan.batches(0)[0] if training else range(4)
        images = kept[training][0]
        assert images.dtype == torch.float32
        assert images.shape == (4, channels.count, HEIGHT, WIDTH)
        for image, index in zip(images, plan, strict=True):
            assert np.allclose(image.numpy(), expected(dataset, index), atol=2e-5)


def test_measured_mean_and_std_are_those_of_the_training_images(bands, with_channels):
    trainer = trained(bands)
    images = np.stack([trainer.data.train_set.sample(index)[0].numpy() for index in range(8)]) / 10000
    found = trainer.data.normalization
    assert found.mean == pytest.approx(images.mean((0, 2, 3)), rel=1e-5)
    assert found.std == pytest.approx(images.std((0, 2, 3)), rel=1e-5)
    assert found.source == "measured on 8 training images"


@pytest.mark.parametrize(
    ("channels", "mean", "source"),
    [
        (ImageChannels(("red", "green", "blue")), IMAGENET_MEAN, "of ImageNet"),
        (ImageChannels(("nir", "red", "green")), IMAGENET_MEAN, "of ImageNet"),
        (ImageChannels(("red", "green", "blue"), None, (0.1, 0.2, 0.3), (1, 1, 1)), (0.1, 0.2, 0.3), GIVEN),
        (replace(GRAY, mean=(0.25,), std=(2.0,)), (0.25,), GIVEN),
    ],
    ids=str,
)  # fmt: skip
def test_mean_and_std_are_given_or_those_of_imagenet_for_three_bytes(bands, with_channels, channels, mean, source):
    with_channels(channels)
    progress = Said()
    trainer = trained(bands, progress=progress)
    found = trainer.data.normalization
    assert (found.mean, found.source) == (mean, source)
    assert trainer.data.augment.mean == trainer.data.preprocessing.mean == mean
    assert f"images  {channels}, mean and std {source}" in progress.lines
    facts = json.loads(trainer.folder.environment.read_text())["run"]
    assert (facts["mean"], facts["std"]) == (list(mean), list(channels.std or IMAGENET_STD))


def test_only_std_is_measured_if_the_mean_is_given(bands, with_channels):
    with_channels(replace(GRAY, mean=(0.25,)))
    found = trained(bands).data.normalization
    assert found.mean == (0.25,)
    assert 0.1 < found.std[0] < 0.5
    assert found.source == "mean given by the dataset, the other measured on 8 training images"


def test_run_from_weights_of_the_same_channels_takes_their_mean_and_std(bands, with_channels, monkeypatch):
    first = trained(bands)
    other = ["paths.run=other", f'model.weights="{first.folder.model.as_posix()}"']
    monkeypatch.setattr("seg_train.run.normalization.measure_channels", None)  # nothing is measured
    second = trained(bands, *other)
    assert second.data.normalization.mean == first.data.normalization.mean
    assert second.data.normalization.source == "of the weights"
    monkeypatch.undo()
    with_channels(replace(CHANNELS, range=(0, 9000)))
    third = trained(bands, "paths.run=third", other[1])
    assert third.data.normalization.source.startswith("measured")


def test_channel_without_differences_is_an_error(bands, monkeypatch):
    plain = Bands.sample

    def constant(self, index):
        image, mask = plain(self, index)
        image[1] = 7
        return image, mask

    monkeypatch.setattr(Bands, "sample", constant)
    with pytest.raises(InvalidArgumentError, match=r"channel 'green' has the value 7 in all pixels of the 8 images"):
        Trainer(load_config(bands))


def test_nodata_does_not_count_in_mean_and_std(bands, with_channels, monkeypatch):
    with_channels(replace(GRAY, nodata=0))
    plain = Bands.sample

    def holed(self, index):
        image, mask = plain(self, index)
        image[:, :16], mask[:16] = 0, 255  # as files without data there are read
        return image, mask

    monkeypatch.setattr(Bands, "sample", holed)
    found = Trainer(load_config(bands)).data.normalization
    images = np.stack([plain(Bands(), index)[0].numpy()[:, 16:] for index in range(8)]) / 4095
    assert found.mean == pytest.approx([images.mean()], rel=1e-5)
    assert found.std == pytest.approx([images.std()], rel=1e-5)


# ---- the network -----------------------------------------------------------------------------------------------------


def test_in_channels_follow_the_dataset(bands, with_channels):
    assert trained(bands).network.network.head[0].in_channels == 4
    assert trained(bands, "model.params.in_channels=4", "paths.run=other").network.network.head[0].in_channels == 4
    with_channels(GRAY)
    assert trained(bands, "paths.run=gray").network.network.head[0].in_channels == 1


def test_in_channels_other_than_those_of_the_dataset_name_both(bands):
    with pytest.raises(
        ConfigError, match=r"model.params.in_channels = 3, but the images of Bands have 4 channels \(blue"
    ):
        Trainer(load_config(bands, ["model.params.in_channels=3"]))


def test_builder_without_in_channels_is_refused(bands):
    with pytest.raises(ConfigError, match=r"model.name = 'tiny_net': it has no parameter in_channels"):
        Trainer(load_config(bands, ["model.name=tiny_net"]))


def test_network_object_of_other_channels_is_refused(bands):
    with pytest.raises(ConfigError, match=r"in_channels = 3, but the images of Bands have 4 channels"):
        Trainer(load_config(bands), model=band_net(in_channels=3))
    Trainer(load_config(bands), model=band_net(in_channels=4)).run()


def test_splits_of_other_channels_are_refused(bands, monkeypatch):
    train, val = Bands(), Bands(split="val")
    val.metadata = replace(Bands.metadata, channels=replace(CHANNELS, range=(0, 255)))
    with pytest.raises(
        ConfigError, match=r"train and val have different channels: .* range of 'blue' is 0 to 10000 in train"
    ):
        Trainer(load_config(bands), train_set=train, val_set=val)


# ---- model file, evaluation, resume ----------------------------------------------------------------------------------


def test_model_file_has_the_channels_and_the_measured_numbers(bands):
    trainer = trained(bands)
    info = read_model_info(trainer.folder.model)
    assert info.metadata.channels == CHANNELS  # without the measured numbers
    assert info.preprocessing.channels == CHANNELS
    assert info.preprocessing.mean == trainer.data.normalization.mean
    assert info.preprocessing.std == trainer.data.normalization.std
    model = load_model(trainer.folder.model)
    scores = evaluate(model, Bands(split="val"), batch_size=4).summarize()
    assert scores["miou"] == trainer.state.last_row["miou"]


@pytest.mark.parametrize(
    ("channels", "difference"),
    [
        (GRAY, r"the network has 4 channels \(blue, .* but the dataset has 1 channel \(gray\)"),
        (replace(CHANNELS, range=(0, 4095)), r"the range of 'blue' is 0 to 10000 in the network and 0 to 4095 in"),
        (
            ImageChannels(("red", "green", "blue", "nir"), (0, 10000)),
            r"channel 0 is 'blue' in the network and 'red' in",
        ),
    ],
    ids=["number", "range", "names"],
)
def test_evaluation_on_other_channels_names_the_difference(bands, with_channels, channels, difference):
    trainer = trained(bands)
    model = load_model(trainer.folder.model)
    with_channels(channels)
    with pytest.raises(InvalidArgumentError, match=difference):
        evaluate(model, Bands(split="val"))


def test_evaluation_without_preprocessing_needs_mean_and_std(with_channels):
    model = band_net(in_channels=4)
    with pytest.raises(InvalidArgumentError, match=r"neither the network nor the dataset says by which mean and std"):
        evaluate(model, Bands(split="val"))
    with pytest.raises(InvalidArgumentError, match=r"preprocessing is for 3 channels .* but Bands has 4 channels"):
        evaluate(model, Bands(split="val"), preprocessing=Preprocessing())
    with pytest.raises(InvalidArgumentError, match=r"the network takes 3 channels, but the dataset has 4 channels"):
        evaluate(band_net(), Bands(split="val"))
    numbers = {"mean": (0.5,) * 4, "std": (0.25,) * 4}
    given = evaluate(model, Bands(split="val"), preprocessing=Preprocessing(**numbers, channels=CHANNELS))
    with_channels(replace(CHANNELS, **numbers))
    assert torch.equal(evaluate(model, Bands(split="val")).confusion_matrix, given.confusion_matrix)


@pytest.mark.parametrize("crops", [1, 3])
def test_resumed_run_is_bit_for_bit_the_whole_one_and_measures_nothing_again(bands, monkeypatch, crops):
    bands["data"]["transform"]["train"]["crops_per_image"] = crops
    bands["data"]["augment"] = {"hflip": 0.5, "color_jitter": [0.2, 0.2, 0.0]}
    whole = trained(bands, "paths.run=whole")
    stopped = Trainer(load_config(bands))
    log_step = stopped._log_step

    def stop_after_three(*arguments):
        log_step(*arguments)
        if stopped.position.step == 3:
            stopped._interruption.requested = True

    monkeypatch.setattr(stopped, "_log_step", stop_after_three)
    with pytest.raises(RunInterruptedError):
        stopped.run()
    monkeypatch.setattr("seg_train.run.normalization.measure_channels", None)
    resumed = trained(bands, resume=True)
    assert resumed.data.normalization == whole.data.normalization
    assert equal_weights(resumed, whole)
    assert resumed.position.step == whole.position.step == 2 * (8 * crops // 4)


def test_resume_refuses_other_channels_and_keeps_its_numbers(bands, with_channels, recwarn):
    bands["trainer"]["epochs"] = 1
    first = trained(bands)
    with_channels(replace(CHANNELS, range=(0, 4095)))
    with pytest.raises(
        ConfigError, match=r"channels of the dataset Bands .* have changed: .* range of 'blue' is 0 to 10000"
    ):
        Trainer(load_config(bands), resume=True)
    with_channels(replace(CHANNELS, nodata=0))
    with pytest.raises(ConfigError, match="nodata, bands, pages or rgb are others"):
        Trainer(load_config(bands), resume=True)
    with_channels(replace(CHANNELS, mean=(0.5,) * 4, std=(0.5,) * 4))
    warned = []
    progress = Said()
    progress.warn = warned.append
    resumed = Trainer(load_config(bands), resume=True, progress=progress)
    assert resumed.data.normalization.mean == first.data.normalization.mean
    assert "the run keeps the one that it started with" in warned[0]


def test_checkpoint_of_a_former_version_has_imagenets_numbers(bands, with_channels):
    with_channels(ImageChannels(("red", "green", "blue")))
    trainer = trained(bands)
    last = trainer.folder.checkpoints.last
    content = load_checkpoint(last)
    assert content["normalization"]["mean"] == list(IMAGENET_MEAN)
    former = {key: value for key, value in content.items() if key != "normalization"}
    from seg_train.run.normalization import restored_normalization

    channels = trainer.data.metadata.channels
    found = restored_normalization(former.get("normalization"), channels, "Bands", last, QuietProgress())
    assert found == trainer.data.normalization
    with pytest.raises(ConfigError, match=r"they were the 3 channels .* and are the 4 channels"):
        restored_normalization(None, CHANNELS, "Bands", last, QuietProgress())


# ---- several crops, windows ------------------------------------------------------------------------------------------


def test_several_crops_per_image_are_counted_in_the_epoch_and_drawn_anew(bands):
    trainer = trained(bands, "data.transform.train.crops_per_image=3", "data.transform.train.size=[8,8]")
    plan = [sample for batch in trainer.plan.batches(0) for sample in batch]
    assert len(plan) == 24
    assert sorted(sample.index for sample in plan) == sorted(list(range(8)) * 3)
    assert sorted(sample.place for sample in plan) == list(range(24))
    assert trainer.plan.length.steps == 2 * 6
    first = [sample for sample in plan if sample.index == 5]
    loader = trainer.data.train_loader
    (batch,) = loader.read([first])
    assert batch.indices == [5, 5, 5]
    assert not torch.equal(batch.images[0], batch.images[1])
    # the first of them is the crop that an image has alone
    ((one,),) = [[sample for sample in first if sample.place == 5]]
    (alone,) = loader.read([[5]])
    (again,) = loader.read([[one]])
    assert torch.equal(alone.images, again.images)


def test_one_crop_per_image_is_the_plan_of_before():
    assert training_plan(10, 4, 3, 1) == training_plan(10, 4, 3, 1, crops_per_image=1)
    assert all(isinstance(index, int) for batch in training_plan(10, 4, 3, 1) for index in batch)
    processes = [training_plan(10, 4, 3, 1, rank, 2, crops_per_image=2) for rank in range(2)]
    together = [[*one, *other] for one, other in zip(*processes, strict=True)]
    assert together == training_plan(10, 4, 3, 1, crops_per_image=2)


def test_several_crops_need_a_size(bands):
    del bands["data"]["transform"]["train"]["size"], bands["data"]["transform"]["train"]["scale_range"]
    with pytest.raises(ConfigError, match=r"crops_per_image = 2: needs data.transform.train.size"):
        load_config(bands, ["data.transform.train.crops_per_image=2"])


@pytest.mark.parametrize("sampling", [False, True], ids=["each", "rare"])
@pytest.mark.parametrize("ratio", [1.0, 0.6])
def test_crops_read_as_windows_are_bit_for_bit_those_of_the_whole_image(bands, sampling, ratio):
    section = bands["data"]["transform"]["train"]
    section |= {"size": [8, 8], "scale_range": [0.8, 1.5], "cat_max_ratio": ratio, "crops_per_image": 2}
    bands["data"]["sampling"] = {"rare_classes": sampling, "min_pixels": 40}
    whole = trained(bands, "paths.run=whole")
    parts = trained(bands, "data.dataset.name=Windows")
    assert equal_weights(whole, parts)
    sizes = {size for _, size in parts.data.train_set.read if size is not None}
    assert sizes
    assert max(height * width for height, width in sizes) <= 10 * 10  # 8 / 0.8
    wholes = [index for index, size in parts.data.train_set.read if size is None]
    # the scan of the masks for rare classes and the measuring read each image, training reads none
    assert len(wholes) == 8 * (1 + sampling)


def test_windows_in_workers_and_of_a_subset(bands):
    from torch.utils.data import Subset

    from seg_train.data.subsets import described

    transform = SegmentationTransform(8, channels=CHANNELS)
    plan = [[PlannedSample(1, 1), PlannedSample(1, 4)], [PlannedSample(2, 2)]]
    found = []
    for dataset in (Bands(), Windows(), described(Subset(Windows(), range(8)))):
        for workers in (0, 2):
            batches = list(Loader(dataset, transform, seed=3, num_workers=workers).read(plan, epoch=1))
            found.append([batch.images for batch in batches])
    for images in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(images, found[0], strict=True))
    image, mask = Bands().sample(1)
    expected, _ = transform(image, mask, generator=sample_generator(3, 1, 4))
    assert torch.equal(found[0][0][1], expected)
    assert found[0][0].dtype == torch.uint16


def test_samples_of_several_types_share_a_batch(monkeypatch):
    plain = Bands.sample

    def mixed(self, index):
        image, mask = plain(self, index)
        return (image.to(torch.float32) if index else image), mask

    monkeypatch.setattr(Bands, "sample", mixed)
    (batch,) = Loader(Bands(), SegmentationTransform(channels=CHANNELS)).read([[0, 1]])
    assert batch.images.dtype == torch.float32
    assert torch.equal(batch.images[0], plain(Bands(), 0)[0].float())


# ---- what is shown ---------------------------------------------------------------------------------------------------


def test_shown_image_is_the_channels_for_red_green_and_blue_scaled_from_their_range():
    image = torch.zeros(4, 1, 3, dtype=torch.uint16)
    image[2], image[1], image[0], image[3] = 5000, 10000, 60000, 1234
    shown = shown_image(image, CHANNELS)
    assert shown.dtype == torch.uint8
    assert shown[:, 0, 0].tolist() == [128, 255, 255]
    gray = shown_image(torch.full((1, 1, 1), 4095 / 5), GRAY)
    assert gray.flatten().tolist() == [51, 51, 51]
    plain = torch.zeros(3, 1, 1, dtype=torch.uint8)
    assert shown_image(plain, ImageChannels(("red", "green", "blue"))) is plain


def test_preview_and_snapshots_show_the_channels_for_colors(bands, monkeypatch):
    bands["data"]["transform"] = {}
    trainer = Trainer(load_config(bands))
    outcomes = []
    evaluated = trainer.validation.__call__
    (batch,) = trainer.data.train_loader.read([[0, 3]])
    samples = preview_of(trainer.parts, batch, trainer.data.train_set)
    for sample, index in zip(samples, (0, 3), strict=True):
        expected = shown_image(trainer.data.train_set.sample(index)[0], CHANNELS)
        assert (sample.image.int() - expected.int()).abs().max() <= 1
    outcomes.append(evaluated(trainer.network.for_evaluation(), lambda done, total: None))
    for snapshot in outcomes[0].snapshots:
        expected = shown_image(trainer.data.val_set.sample(snapshot.index)[0], CHANNELS)
        assert torch.equal(snapshot.image, expected)
    assert len(outcomes[0].snapshots) == 2


def test_figures_of_a_run_are_drawn(bands):
    bands["log"]["local"]["max_drawing_share"] = 1
    trainer = trained(bands)
    assert (trainer.folder.path / "plots" / "first_batch.png").is_file()


def test_dry_run_and_check_of_the_masks(bands):
    bands["data"]["check"] = "full"
    assert dry_run(load_config(bands)).facts.images.startswith("4 channels (blue, green, red, nir) from 0 to 10000")


def test_class_weights_are_counted(bands):
    trainer = trained(bands, "criterion.class_weights=enet")
    assert len(trainer.balance.weights) == 2


# ---- transforms of one's own -----------------------------------------------------------------------------------------


class Halved:
    def __call__(self, image, mask):
        return (image.float() / 2).to(image.dtype), mask


class Rescaled:
    def __call__(self, image, mask):
        return image.float() / 10000, mask


def test_own_transforms_get_all_channels_and_keep_their_type(bands, monkeypatch):
    from seg_train.data.own_transforms import OwnTransform, OwnTransforms

    image, mask = Bands().sample(0)
    own = OwnTransforms([OwnTransform("mine:Halved", Halved(), False)], Bands.metadata)
    halved, _ = own(image, mask, 0, 0)
    assert halved.dtype == torch.uint16
    assert torch.equal(halved.float(), (image.float() / 2).floor())
    wrong = OwnTransforms([OwnTransform("mine:Rescaled", Rescaled(), False)], Bands.metadata)
    with pytest.raises(
        InvalidArgumentError, match=r"must return an image of uint16 with shape \(4, 32, 24\), got torch.float32"
    ):
        wrong(image, mask, 0, 0)


def test_eval_command_names_the_difference(bands, with_channels):
    from seg_train.commands.eval_target import preprocessing_for

    trainer = trained(bands)
    model = load_model(trainer.folder.model)
    assert preprocessing_for("run", model, Bands(), None).mean == trainer.data.normalization.mean
    with_channels(GRAY)
    with pytest.raises(UsageError, match=r"model 'run': the network has 4 channels .* but the dataset has 1 channel"):
        preprocessing_for("run", model, Bands(), None)


def test_nan_as_nodata_in_a_config_is_stored_and_resumed(tmp_path):
    root = tmp_path / "heights"
    for split in ("train", "val"):
        for name in "abcd":
            heights = np.random.default_rng([ord(name), len(split)]).uniform(0, 50, (32, 32)).astype(np.float32)
            mask = (heights > 25).astype(np.uint8)
            heights[0] = np.nan
            for folder, values, suffix in (("images", heights, ".tif"), ("masks", mask, ".png")):
                path = root / split / folder / f"{name}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
    config = tmp_path / "config.toml"
    config.write_text(
        '[model]\nname = "enet"\n[data.dataset]\nname = "FolderDataset"\n'
        f"root = '{root}'\n[data.dataset.params]\nmetadata = {{ labels = ['low', 'high'] }}\n"
        "channels = { names = ['height'], range = [0, 50], nodata = nan }\n[trainer]\nepochs = 1\n"
        "[data.loader]\nbatch_size = 4\nnum_workers = 0\n[data.transform.train]\nsize = 32\n"
        f"[paths]\noutput = '{tmp_path}/runs'\nrun = 'nan'\n"
    )
    first = Trainer(load_config(config))
    first.run()
    stored = tmp_path / "runs" / "nan" / "config.toml"
    assert "nodata = nan" in stored.read_text()
    resumed = Trainer(load_config(config, ["trainer.epochs=2"]), resume=True)
    resumed.run()
    assert resumed.data.normalization == first.data.normalization
    assert resumed.position.step == 2
