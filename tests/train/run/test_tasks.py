"""Runs of binary and multilabel tasks: losses, scores, thresholds, files, and a plain loop beside them."""

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import tv_tensors

from seg_core import BuildSpec, DatasetMetadata, MetricStore, Preprocessing, load_model, save_model
from seg_core.catalog import DatasetEntry
from seg_core.command import main
from seg_core.errors import ConfigError, InvalidArgumentError
from seg_core.metrics.argmax import threshold_labels
from seg_core.model_files.model_file import read_model_info
from seg_core.progress import make_progress
from seg_core.registry import DATASETS, MODELS
from seg_train import BinaryCrossEntropyLoss, Trainer, evaluate, load_config
from seg_train.data.own_transforms import OwnTransform, OwnTransforms
from seg_train.loggers.naming import scalars_of_epoch
from seg_train.monitor import Monitor
from seg_train.run.dry_run import dry_run
from seg_train.run.interruption import RunInterruptedError
from seg_train.run.rows import describe_row

SIZE = 48


class Invented:
    """Images that are the masks, in noise."""

    def __init__(self, root=None, split="train", length=12):
        self.root, self.split, self.length = root, split, length

    def __len__(self):
        return self.length

    def file_names(self, index):
        return (f"{self.split}/{index}.png",)

    def __getitem__(self, index):
        rng = np.random.default_rng([index, len(self.split)])
        planes = self.planes(rng)
        noise = rng.normal(0, 12, (3, SIZE, SIZE))
        colors = np.array([[150, 40, 20], [20, 140, 60], [40, 30, 150]])[: len(planes)]
        image = 40 + np.einsum("kc,khw->chw", colors, planes) + noise
        mask = planes.astype(np.uint8)
        mask[:, :2, :5] = 255
        if self.metadata.task == "binary":
            mask = mask[0]
        image = torch.from_numpy(image.clip(0, 255).astype(np.uint8))
        return tv_tensors.Image(image), tv_tensors.Mask(torch.from_numpy(mask))


class Vessels(Invented):
    """Thin curves, about 5 % of the pixels."""

    metadata = DatasetMetadata("Vessels", ("vessel",), task="binary")

    def planes(self, rng):
        plane = np.zeros((1, SIZE, SIZE))
        across = np.arange(SIZE)
        for _ in range(2):
            bend = rng.uniform(2, 8) * np.sin(across * rng.uniform(0.05, 0.2) + rng.uniform(0, 6))
            plane[0, (rng.uniform(12, 36) + bend).round().astype(int), across] = 1
        return plane


class Discs(Invented):
    """Discs of three classes, which overlap."""

    metadata = DatasetMetadata("Discs", ("red", "green", "blue"), task="multilabel")

    def planes(self, rng):
        y, x = np.mgrid[:SIZE, :SIZE]
        centers, radii = rng.uniform(14, 34, (3, 2)), rng.uniform(8, 14, 3)
        pairs = zip(centers, radii, strict=True)
        return np.stack([(y - cy) ** 2 + (x - cx) ** 2 < r**2 for (cy, cx), r in pairs]).astype(float)


class SmallNet(nn.Module):
    """Without dropout and batch norm, so that a loop repeats it."""

    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(16, num_classes, 1)

    def forward(self, images):
        return {"out": self.head(self.body(images))}


def small_net(*, weights=None, progress=True, num_classes=2, aux_loss=None, weights_backbone=None, variant=None):
    model = SmallNet(num_classes)
    model.build_spec = BuildSpec("small_net", variant or "paper", {"num_classes": num_classes})
    return model


@pytest.fixture(autouse=True)
def _names():
    MODELS.register("small_net", small_net)
    for name, dataset in (("Vessels", Vessels), ("Discs", Discs)):
        DATASETS.register(
            name, DatasetEntry(f"{__name__}:{name}", label_set=None, splits=("train", "val"), needs_root=False)
        )
        DATASETS._objects[name] = dataset


@pytest.fixture
def tables_of(tables):
    """Returns the tables of a run on one of the datasets, of so many epochs."""

    def build(dataset, epochs=2, **criterion):
        tables["model"]["name"] = "small_net"
        tables["data"]["dataset"]["name"] = dataset
        tables["data"]["transform"]["train"] = {"size": SIZE}
        tables["data"]["augment"] = {}
        tables["trainer"]["epochs"] = epochs
        tables["optimizer"]["params"] = {"lr": 0.02}
        if criterion:
            tables["criterion"] = criterion
        return tables

    return build


def trained(tables, *overrides, **options):
    trainer = Trainer(load_config(tables, overrides), **options)
    trainer.run()
    return trainer


# ---- beside a plain loop ---------------------------------------------------------------------------------------------


def smp_dice(logits, target):
    """segmentation-models-pytorch's DiceLoss(mode="binary", ignore_index=255), written out."""
    valid = (target != 255)[:, None].flatten(2)
    probabilities = F.logsigmoid(logits).exp().flatten(2) * valid
    truth = target[:, None].flatten(2) * valid
    hits, total = (probabilities * truth).sum((0, 2)), (probabilities + truth).sum((0, 2))
    dice = 2 * hits / total.clamp_min(1e-7)
    return ((1 - dice) * (truth.sum((0, 2)) > 0)).mean()


def smp_bce(logits, target):
    """Binary cross entropy, mean over the pixels that are not ignored."""
    valid = target != 255
    return F.binary_cross_entropy_with_logits(logits[:, 0][valid], target[valid].to(logits))


@pytest.mark.parametrize(
    ("criterion", "plain"),
    [
        ({"name": "DiceLoss"}, smp_dice),
        ({}, smp_bce),
        (
            {"name": "CombinedLoss", "params": {"losses": [{"name": "DiceLoss"}, {"name": "BinaryCrossEntropyLoss"}]}},
            lambda logits, target: smp_dice(logits, target) + smp_bce(logits, target),
        ),
    ],
    ids=["dice", "bce", "both"],
)
def test_same_curve_as_a_plain_loop(tables_of, criterion, plain):
    tables = tables_of("Vessels", 4, **criterion)
    del tables["lr_scheduler"]
    trainer = Trainer(load_config(tables))
    network = copy.deepcopy(trainer.network.network)
    images, masks, losses = [], [], []

    def keep_images(module, arguments):
        if module.training:
            images.append(arguments[0].clone())

    def keep_loss(module, arguments, loss):
        if loss.requires_grad:
            masks.append(arguments[1].clone())
            losses.append(loss.item())

    trainer.network.network.register_forward_pre_hook(keep_images)
    trainer.parts.criterion.criterion.register_forward_hook(keep_loss)
    trainer.run()
    assert len(losses) == 12

    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
    expected = []
    for image, mask in zip(images, masks, strict=True):
        loss = plain(network(image)["out"], mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=2e-4)
    assert losses[-1] < 0.8 * losses[0]


# ---- learning --------------------------------------------------------------------------------------------------------


def test_overlapping_discs_are_learned(tables_of):
    trainer = trained(tables_of("Discs", 12))
    assert trainer.state.last_row["miou"] > 0.8
    assert trainer.config.criterion.name == "BinaryCrossEntropyLoss"
    assert trainer.state.last_row["ap"] > 0.9


def planes_by_hand(trainer, thresholds):
    """Scores of the trained network on val, in a loop."""
    metadata = trainer.data.metadata
    store = MetricStore(metadata.num_classes, task=metadata.task)
    network = trainer.network.network.eval()
    for index in range(len(trainer.data.val_set)):
        image, mask = trainer.data.val_set[index]
        with torch.no_grad():
            logits = network(trainer.data.val_transform.normalize(image[None], torch.device("cpu")))["out"]
        labels = threshold_labels(logits, thresholds)
        store.store_results(mask[None], labels[:, 0] if metadata.task == "binary" else labels)
    return store.summarize()


@pytest.mark.parametrize("name", ["Vessels", "Discs"])
def test_scores_of_a_run_are_those_of_a_loop(tables_of, name):
    trainer = trained(tables_of(name, 6, params={"pos_weight": 4.0}))
    row, expected = trainer.state.last_row, planes_by_hand(trainer, 0.5)
    for score in ("miou", "acc", "dice", "precision", "recall", "specificity"):
        assert row[score] == pytest.approx(expected[score], abs=1e-12), score
    assert row["iou_per_class"] == dict(
        zip(trainer.data.metadata.labels, map(pytest.approx, expected["iou_per_class"]), strict=True)
    )
    info = read_model_info(trainer.folder.model)
    assert info.thresholds == (0.5,) * trainer.data.metadata.num_classes
    assert info.metrics["miou"] == row["miou"]
    assert info.metadata.task == trainer.data.metadata.task
    assert trainer.validation.protocol.thresholds == info.thresholds


@pytest.mark.parametrize("name", ["Vessels", "Discs"])
def test_tuned_thresholds(tables_of, name):
    tables = tables_of(name)
    tables["trainer"]["ema_decay"] = 0.5
    trainer = trained(tables, "evaluation.tune_threshold=true")
    row = trainer.state.last_row
    thresholds, averaged = (list(row[f"{prefix}threshold_per_class"].values()) for prefix in ("", "ema_"))
    assert len(thresholds) == len(averaged) == trainer.data.metadata.num_classes
    assert thresholds != averaged
    expected = planes_by_hand(trainer, thresholds)
    assert row["miou"] == pytest.approx(expected["miou"], abs=1e-3)
    assert row["miou"] > planes_by_hand(trainer, 0.5)["miou"]  # 0.5 is not the best
    info = read_model_info(trainer.folder.model)
    assert list(info.thresholds) == thresholds
    assert info.protocol["thresholds"] == thresholds
    assert info.protocol["tuned"] is True
    assert "tuned on this split" in info.protocol_text
    assert list(read_model_info(trainer.folder.model_ema).thresholds) == averaged

    network = load_model(trainer.folder.model)
    store = evaluate(network, trainer.data.val_set, criterion=BinaryCrossEntropyLoss(task=trainer.data.metadata.task))
    found = store.summarize()
    assert found["miou"] == pytest.approx(row["miou"], abs=1e-3)
    assert found["loss"] == pytest.approx(row["val_loss"], rel=1e-4)
    plain = evaluate(network, trainer.data.val_set, thresholds=0.5).summarize()
    assert plain["miou"] == pytest.approx(planes_by_hand(trainer, 0.5)["miou"], abs=1e-9)


def test_thresholds_are_not_for_multiclass(tables, stripes):
    with pytest.raises(ConfigError, match="evaluation.tune_threshold = true: .* remove the key"):
        Trainer(load_config(tables, ["evaluation.tune_threshold=true"]))


def test_a_changed_task_is_told(tables_of, monkeypatch):
    tables = tables_of("Vessels", name="DiceLoss")
    trained(tables)
    monkeypatch.setattr(Vessels, "metadata", DatasetMetadata("Vessels", ("vessel",), task="multilabel"))
    with pytest.raises(ConfigError, match='its task was "binary" and is "multilabel" now'):
        Trainer(load_config(tables), resume=True)


# ---- the rest of a run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Vessels", "Discs"])
def test_a_resumed_run_ends_as_one_without_interruption(tables_of, name, tmp_path):
    tables = tables_of(name)
    tables["data"]["augment"] = {"hflip": 0.5, "vflip": 0.5}
    tables["data"]["check"] = "auto"
    tables["data"]["sampling"] = {"rare_classes": True, "min_pixels": 5}
    tables["trainer"]["accumulation_steps"] = 2
    whole = trained(tables)
    tables["paths"]["run"] = "again"
    trainer = Trainer(load_config(tables))
    step = trainer._log_step

    def stop(result, batch):
        step(result, batch)
        if trainer.position.step == 5:
            trainer._interruption.requested = True

    trainer._log_step = stop
    with pytest.raises(RunInterruptedError):
        trainer.run()
    resumed = Trainer(load_config(tables), resume=True)
    assert resumed.position.step == 5
    resumed.run()
    ours, theirs = (t.network.network.state_dict() for t in (whole, resumed))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    for key in ("train_loss", "train_miou", "miou", "ap"):
        assert whole.state.last_row[key] == resumed.state.last_row[key]


@pytest.mark.parametrize("name", ["Vessels", "Discs"])
def test_dry_run_and_rows(tables_of, name):
    dry_run(load_config(tables_of(name)))
    trainer = trained(tables_of(name))
    rows = [json.loads(line) for line in (trainer.folder.path / "metrics.jsonl").read_text().splitlines()]
    row = [row for row in rows if row["kind"] == "epoch"][-1]
    assert {"precision", "recall", "specificity", "ap"} <= row.keys()
    assert not {"macc", "fwiou"} & row.keys()


@pytest.mark.parametrize(
    ("options", "scores"),
    [({"tile": 32}, None), ({"hflip": True}, None), ({"predictor": "labels"}, {"loss"})],
    ids=["tiled", "augmented", "labels"],
)
@pytest.mark.parametrize("name", ["Vessels", "Discs"])
def test_ways_of_predicting(tables_of, name, options, scores):
    tables = tables_of(name)
    tables["evaluation"] |= options
    if scores:
        tables["evaluation"]["loss"] = False
    row = trained(tables).state.last_row
    assert 0 <= row["miou"] <= 1
    assert ("ap" in row) is (scores is None)


def test_monitored_scores(tables_of):
    tables = tables_of("Vessels")
    with pytest.raises(ConfigError, match="fwiou.*Allowed: .*recall"):
        trained(tables, "evaluation.monitor=fwiou")
    tables["lr_scheduler"] = {"name": "ReduceLROnPlateau", "interval": "epoch", "params": {"monitor": "macc"}}
    with pytest.raises(ConfigError, match=r'lr_scheduler.params.monitor = "macc".*recall'):
        trained(tables)
    tables["lr_scheduler"]["params"]["monitor"] = "ap"
    assert trained(tables, "evaluation.monitor=recall").position.best is not None


@pytest.mark.parametrize(
    ("monitor", "title", "value_of"),
    [
        ("dice", "val Dice", lambda row: row["dice"]),
        ("ap", "val average precision", lambda row: row["ap"]),
        ("val_loss", "val loss", lambda row: row["val_loss"]),
        ("ema_dice", "EMA Dice", lambda row: row["ema_dice"]),
        ("ema_val_loss", "EMA val loss", lambda row: row["ema_val_loss"]),
        ("iou_per_class.green", "val IoU of green", lambda row: row["iou_per_class"]["green"]),
        ("ema_iou_per_class.green", "EMA IoU of green", lambda row: row["ema_iou_per_class"]["green"]),
        ("miou", None, None),
        (None, None, None),
    ],
)
def test_lines_of_evaluations_show_the_monitored_score(monitor, title, value_of):
    """Each score of the row is another number, so that the right one is shown, once."""
    classes = {"red": 0.81, "green": 0.82, "blue": 0.83}
    row = {"epoch": 2, "step": 9, "train_loss": 0.5, "miou": 0.61, "acc": 0.62, "dice": 0.63, "ap": 0.64}
    row |= {"val_loss": 0.65, "iou_per_class": classes}
    row |= {"ema_miou": 0.71, "ema_dice": 0.73, "ema_val_loss": 0.75}
    row["ema_iou_per_class"] = {label: value + 0.1 for label, value in classes.items()}
    watched = Monitor.of(monitor, True, Discs.metadata.labels, "multilabel")
    usual = "epoch 2/3  train loss 0.5000  val mIoU 0.6100  val accuracy 0.6200  EMA mIoU 0.7100"
    added = "" if title is None else f"  {title} {value_of(row):.4f}"
    assert describe_row(row, 3, watched, within_epoch=False) == usual + added
    without = {key: row[key] for key in ("epoch", "step", "train_loss")}  # a row without an evaluation
    assert describe_row(without, 3, watched, within_epoch=False) == "epoch 2/3  train loss 0.5000"
    if monitor is not None and "iou" in monitor and "." in monitor:
        row["iou_per_class"] = row["ema_iou_per_class"] = dict.fromkeys(classes)
        assert describe_row(row, 3, watched, within_epoch=False).endswith(f"{title} undefined")


def test_progress_of_a_run_shows_the_monitored_score(tables_of, capsys):
    row = trained(tables_of("Vessels", 1), "evaluation.monitor=dice", progress=make_progress()).state.last_row
    assert f"val Dice {row['dice']:.4f}" in "".join(capsys.readouterr())


def test_scores_of_labels_alone(tables_of):
    tables = tables_of("Vessels")
    tables["evaluation"] |= {"predictor": "labels", "loss": False, "tune_threshold": True}
    with pytest.raises(ConfigError, match="tune_threshold = true needs the probabilities"):
        Trainer(load_config(tables))


def test_masks_of_another_task(tables_of, monkeypatch):
    monkeypatch.setattr(Discs, "planes", lambda self, rng: np.zeros((2, SIZE, SIZE)))
    with pytest.raises(InvalidArgumentError, match="a plane per class"):
        trained(tables_of("Discs"))


@pytest.mark.parametrize("name", ["Vessels", "Discs"])
def test_seg_eval(tables_of, name, capsys):
    trainer = trained(tables_of(name), "evaluation.tune_threshold=true")
    row = trainer.state.last_row
    capsys.readouterr()
    assert main(["eval", str(trainer.folder.model), name, "--json", "-s", "device=cpu", "-s", "num_workers=0"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["scores"]["miou"] == pytest.approx(row["miou"], abs=1e-3)
    assert report["scores"]["loss"] == pytest.approx(row["val_loss"], rel=1e-4)
    assert report["protocol"]["thresholds"] == pytest.approx(list(row["threshold_per_class"].values()))
    labels = list(trainer.data.metadata.labels)
    assert list(report["per_class"]) == labels
    assert np.shape(report["confusion_matrix"]) == (len(labels), 2, 2)
    for table, values in zip(report["confusion_matrix"], report["per_class"].values(), strict=True):
        assert values["pixels"] == sum(table[1])
        assert values["recall"] == pytest.approx(table[1][1] / sum(table[1]))
    assert main(["eval", str(trainer.folder.model), name, "-s", "device=cpu", "-s", "num_workers=0"]) == 0
    shown = capsys.readouterr().out
    assert "average precision" in shown
    assert "specificity" in shown


def eval_report(capsys, *arguments):
    capsys.readouterr()
    assert main(["eval", *map(str, arguments), "-s", "device=cpu", "-s", "num_workers=0", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert main(["eval", *map(str, arguments), "-s", "device=cpu", "-s", "num_workers=0"]) == 0
    return report, capsys.readouterr().out


def test_seg_eval_tells_where_thresholds_were_tuned(tables_of, capsys):
    """The images that thresholds were tuned on are told; other images, and other thresholds, are told apart."""
    trainer = trained(tables_of("Discs"), "evaluation.tune_threshold=true")
    own = list(trainer.state.last_row["threshold_per_class"].values())
    same, shown = eval_report(capsys, trainer.folder.model, "Discs")
    tuned_on = {"dataset": "Discs", "split": "val", "score": "iou", "same_images": True}
    assert same["thresholds"] == {"values": own, "source": "model file", "tuned_on": tuned_on}
    assert same["protocol"]["tuned"] is True
    assert "tuned on this split for the highest IoU" in same["protocol_text"]
    assert f"red {own[0]:.3g}, green {own[1]:.3g}, blue {own[2]:.3g} of the model file, tuned" in shown
    assert "of the model file, tuned on the val split of Discs for the highest IoU" in shown
    assert "scores are slightly too good" in shown

    # another split, and the same split of other images
    for key in ("split=train", "params.length=9"):
        other, shown = eval_report(capsys, trainer.folder.model, "Discs", "-s", key)
        assert other["thresholds"] == same["thresholds"] | {"tuned_on": tuned_on | {"same_images": False}}
        assert other["protocol"]["tuned"] is False
        assert "tuned on the val split" in shown
        assert "too good" not in shown

    given, shown = eval_report(capsys, trainer.folder.model, "Discs", "--threshold", "0.5,0.25,0.75")
    assert given["thresholds"] == {"values": [0.5, 0.25, 0.75], "source": "--threshold", "tuned_on": None}
    assert given["protocol"]["thresholds"] == [0.5, 0.25, 0.75]
    assert "red 0.5, green 0.25, blue 0.75 of --threshold" in shown
    expected = planes_by_hand(trainer, (0.5, 0.25, 0.75))
    found = [given["per_class"][label]["iou"] for label in ("red", "green", "blue")]
    assert found == pytest.approx(expected["iou_per_class"], abs=1e-9)
    one, _ = eval_report(capsys, trainer.folder.model, "Discs", "--threshold", "0.4")
    assert one["thresholds"]["values"] == [0.4] * 3


def test_seg_eval_of_thresholds_that_were_not_tuned(tables_of, capsys):
    trainer = trained(tables_of("Vessels", 1))
    report, shown = eval_report(capsys, trainer.folder.model, "Vessels")
    assert report["thresholds"] == {"values": [0.5], "source": "model file", "tuned_on": None}
    assert report["protocol"]["tuned"] is False
    assert "threshold 0.5 of the model file\n" in shown


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Vessels", "1", "--threshold 1: 1 is not a probability above 0 and below 1; give one number, such as 0.5"),
        (
            "Vessels",
            "0.5,0.4",
            "--threshold 0.5,0.4 has 2 numbers, but Vessels has 1 class; give one number, such",
        ),
        (
            "Discs",
            "0.5,nan,2",
            "nan is not a probability above 0 and below 1; give one number, such as 0.5, or 3 ",
        ),
        ("Discs", "0.5,0.4", "has 2 numbers, but Discs has 3 classes; give one number, such as 0.5, or 3 with commas "),
        ("Discs", "a", "argument --threshold: 'a' is not a number; write a probability, such as 0.5, or one for each"),
        ("Stripes", "0.5", '--threshold 0.5: Stripes has the task "multiclass", where a pixel has the class of the'),
    ],
)
def test_seg_eval_refuses_thresholds(tables_of, stripes, tmp_path, capsys, name, value, words):
    metadata = {"Vessels": Vessels, "Discs": Discs, "Stripes": stripes}[name].metadata
    path = tmp_path / "model.pt"
    network = small_net(num_classes=metadata.num_classes)
    save_model(network, path, metadata=metadata, preprocessing=Preprocessing())
    assert main(["eval", str(path), name, "--threshold", value, "-s", "device=cpu"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert words in told


def test_seg_eval_names_its_option_of_thresholds(capsys):
    assert main(["eval", "model.pt", "Discs", "-s", "threshold=0.5"]) == 2
    assert "-s threshold: unknown key. It is an option of its own: --threshold 0.5" in capsys.readouterr().err


def test_rows_are_restored_from_the_tables(tables_of):
    trainer = trained(tables_of("Discs"), "evaluation.tune_threshold=true")
    path = trainer.folder.path
    rows = (path / "metrics.jsonl").read_text()
    names = dict(scalars_of_epoch(trainer.state.last_row))
    assert names["val/threshold/red"] == trainer.state.last_row["threshold_per_class"]["red"]
    assert names["val/ap"] == trainer.state.last_row["ap"]
    (path / "metrics.jsonl").unlink()
    with pytest.warns(UserWarning, match="5 were taken from steps.csv and epochs.csv"):
        trained(tables_of("Discs", 3), "evaluation.tune_threshold=true", resume=True)
    restored = (path / "metrics.jsonl").read_text()
    kept = [json.loads(line) for line in rows.splitlines()]
    assert [json.loads(line) for line in restored.splitlines()][: len(kept)] == kept


def shifted(image, mask):
    return image.roll(1, -1), mask.roll(1, -1)


def interpolated(image, mask):
    return image, mask + 2 * (mask == 1)


def flattened(image, mask):
    return image, mask.amax(0) if mask.ndim == 3 else mask[None]


@pytest.mark.parametrize("dataset", [Vessels, Discs])
def test_own_transforms(dataset):
    image, mask = dataset()[0]

    def apply(function):
        own = OwnTransform(function.__name__, function, with_generator=False)
        return OwnTransforms([own], dataset.metadata)(image, mask, 0, 0)

    moved, expected = apply(shifted), shifted(image, mask)
    assert all(torch.equal(*pair) for pair in zip(moved, expected, strict=True))
    with pytest.raises(InvalidArgumentError, match=r"the ids 3, which are neither a class \(0 to 1\) nor ignored"):
        apply(interpolated)
    with pytest.raises(InvalidArgumentError, match=r"must return a mask of an integer type with shape"):
        apply(flattened)


def test_a_model_of_another_task(tables_of, stripes, monkeypatch, capsys):
    trainer = trained(tables_of("Discs"))
    network = load_model(trainer.folder.model)
    monkeypatch.setattr(Discs, "metadata", DatasetMetadata("Three", ("red", "green", "blue")))
    with pytest.raises(InvalidArgumentError, match='for the task "multilabel" .*Three has the task "multiclass"'):
        evaluate(network, Discs(split="val"))
    with pytest.raises(InvalidArgumentError, match="thresholds = 0.5"):
        evaluate(small_net(num_classes=2), stripes(), thresholds=0.5)


@pytest.mark.parametrize("name", ["Vessels", "Discs"])
def test_figures(tables_of, name):
    tables = tables_of(name, 1)
    tables["log"]["local"]["max_drawing_share"] = 1.0
    tables["trainer"]["ema_decay"] = 0.9
    path = trained(tables).folder.path  # a logger that fails would warn
    drawn = {file.parent.name for file in path.rglob("*.png")}
    assert "snapshots" in drawn
    assert "confusion" not in drawn
    assert (path / "plots" / "first_batch.png").is_file()
