import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from seg_core import MetricStore, Preprocessing, load_model, read_model_info, save_model
from seg_core.catalog import Entry, ModelEntry
from seg_core.command import main
from seg_core.errors import WriteError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.model_files.load_network import load_network
from seg_core.registry import COMMANDS, DATASETS, MODELS, PREDICTORS
from seg_train import CrossEntropyLoss, Trainer, evaluate, load_config

MEANS = ("miou", "acc", "macc", "fwiou", "dice", "loss")
HERE = ["-s", "num_workers=0", "-s", "device=cpu"]


@pytest.fixture(autouse=True)
def _eval_is_a_command():
    if "eval" not in COMMANDS:
        COMMANDS.register("eval", Entry("seg_train.commands.eval:EVAL", "score a model on a dataset"))


@pytest.fixture(autouse=True)
def _odd_names(stripes):
    class OddStripes(stripes):
        """Images of 31x23, and of two sizes where `mixed`."""

        def __init__(self, root=None, split="train", mixed=False, metadata=None, broken=None):
            super().__init__(root, split, broken=broken)
            self.mixed, self.metadata = mixed, metadata or stripes.metadata

        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            height = 30 if self.mixed and index % 2 else 31
            return image[:, :height, :23], mask[:height, :23]

    DATASETS.register("OddStripes", OddStripes)
    # a name alone, as a third party's: its splits are not known
    DATASETS.register("Empty", lambda root, split: stripes(split=split, length=0))
    DATASETS.register("EmptyFolder", lambda folder, split: stripes(split=split, length=0))


@pytest.fixture
def network():
    return MODELS.get("tiny_net")(num_classes=3)


@pytest.fixture
def save(network, stripes, tmp_path):
    def write(preprocessing=None, metadata=stripes.metadata, name="model.pt"):
        save_model(
            network, tmp_path / name, metadata=metadata, preprocessing=preprocessing or Preprocessing(), protocol="none"
        )
        return str(tmp_path / name)

    return write


def scores_of(capsys, *arguments):
    """Runs the command and returns what it printed as JSON."""
    assert main(["eval", *arguments, *HERE, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def same(value, number):
    return value is None if number != number else value == number


# ---- scores ----------------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_scores_are_those_of_evaluate(save, stripes, capsys):
    path = save()
    store = evaluate(load_model(path), stripes(split="val"), batch_size=5, criterion=CrossEntropyLoss(ignore_index=255))
    expected = store.summarize()
    found = scores_of(capsys, path, "Stripes", "-s", "batch_size=5")
    assert found["scores"] == {name: expected[name] for name in MEANS}
    assert found["confusion_matrix"] == store.confusion_matrix.tolist()
    assert list(found["per_class"]) == ["dark", "bright", "never"]
    for index, row in enumerate(found["per_class"].values()):
        assert row.pop("pixels") == int(store.confusion_matrix[index].sum())
        assert all(same(row[key], expected[f"{key}_per_class"][index]) for key in ("iou", "acc", "dice"))
        assert len(row) == 3


def test_exported_file_scores_as_the_model_and_keeps_its_precision(save, stripes, tmp_path, capsys):
    from seg_models import export

    path = save()
    export(path, tmp_path / "model.pt2", size=(32, 24), dynamic=False)
    file = str(tmp_path / "model.pt2")
    expected = scores_of(capsys, path, "Stripes")
    found = scores_of(capsys, file, "Stripes")
    assert found["confusion_matrix"] == expected["confusion_matrix"]
    assert found["protocol"]["precision"] == found["settings"]["precision"] == "fp32"
    assert evaluate(load_network(file), stripes(split="val")).confusion_matrix.tolist() == found["confusion_matrix"]
    assert main(["eval", file, "Stripes", *HERE, "-s", "precision=bf16"]) == 2
    assert "was exported in fp32 and computes in it; remove -s precision" in capsys.readouterr().err


@pytest.mark.parametrize(
    "evaluation",
    [{"batch_size": 4}, {"resize": {"scale": 0.5}, "batch_size": 4}, {"resize": {"longer_side": 19}}, {}],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_model_of_a_run_scores_what_the_training_wrote(tables, tmp_path, capsys, evaluation, precision):
    tables["evaluation"] = evaluation
    tables["trainer"] |= {"precision": precision, "epochs": 1}
    run = Trainer(load_config(tables)).run().run_dir
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    row = next(r for r in reversed(rows) if r["kind"] == "epoch")
    batch_size = str(evaluation.get("batch_size", 1))
    found = scores_of(
        capsys, str(run / "model.pt"), "Stripes", "-s", f"batch_size={batch_size}", "-s", f"precision={precision}"
    )
    assert found["settings"]["resize"] == evaluation.get("resize", {})
    assert found["protocol"] == read_model_info(run / "model.pt").protocol
    assert {name: found["scores"][name] for name in MEANS[:-1]} == {name: row[name] for name in MEANS[:-1]}
    assert found["scores"]["loss"] == row["val_loss"]
    assert {name: r["iou"] for name, r in found["per_class"].items()} == row["iou_per_class"]


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(scale=0.5),
        Preprocessing(scale=0.37, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)),
        Preprocessing(scale=1.7),
        Preprocessing(shorter_side=14),
        Preprocessing(shorter_side=23),
        Preprocessing(shorter_side=41),
        Preprocessing(longer_side=17),
        Preprocessing(size=(40, 20)),
    ],
    ids=str,
)
def test_images_are_resized_as_the_models_preprocessing_does_and_masks_are_not(save, stripes, capsys, preprocessing):
    path = save(preprocessing)
    model, store = load_model(path), MetricStore(3)
    dataset = DATASETS.get("OddStripes")(split="val")
    for index in range(len(dataset)):
        image, mask = dataset[index]
        with torch.no_grad():
            logits = model(preprocessing(image))["out"]
        logits = F.interpolate(logits, mask.shape[-2:], mode="bilinear")
        store.store_results(mask[None], logits.argmax(1))
    found = scores_of(capsys, path, "OddStripes")
    assert found["confusion_matrix"] == store.confusion_matrix.tolist()
    assert found["protocol"]["resize"] == preprocessing.resize


def test_scale_replaces_that_of_the_model_and_keeps_its_normalization(save, capsys, stripes):
    normalization = {"mean": (0.3, 0.3, 0.3), "std": (0.2, 0.3, 0.4)}
    small = scores_of(capsys, save(Preprocessing(scale=0.5, **normalization)), "Stripes")
    path = save(Preprocessing(shorter_side=5, **normalization))
    assert scores_of(capsys, path, "Stripes", "-s", "scale=0.5")["scores"] == small["scores"]
    whole = scores_of(capsys, path, "Stripes", "-s", "scale=1")
    assert whole["settings"]["scale"] == 1
    assert whole["settings"]["resize"] == whole["protocol"]["resize"] == {}
    assert "each image at its own size" in whole["protocol_text"]
    assert sum(map(sum, whole["confusion_matrix"])) == 12 * (32 * 24 - 1)


@pytest.mark.parametrize(
    "resize", ["{scale = 0.75}", "{shorter_side = 9}", "{longer_side = 40}", "{size = [9, 30]}", "{}"]
)
def test_resize_of_the_command_line_is_what_evaluate_does(save, stripes, capsys, resize):
    path = save(Preprocessing(scale=0.5))
    found = scores_of(capsys, path, "Stripes", "-s", f"resize={resize}")
    preprocessing = Preprocessing().with_resize(found["settings"]["resize"])
    store = evaluate(load_model(path), stripes(split="val"), preprocessing=preprocessing)
    assert found["confusion_matrix"] == store.confusion_matrix.tolist()


def test_workers_read_the_same(save, capsys):
    path = save(Preprocessing(scale=0.5))
    here = scores_of(capsys, path, "OddStripes")
    assert main(["eval", path, "OddStripes", "--json", "-s", "num_workers=1", "-s", "device=cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == here["scores"]


def test_predictor_gets_its_params_and_labels_give_no_loss(save, capsys):
    def constant(model, images, label, *, unused=0):
        return torch.full((len(images), *images.shape[-2:]), label, dtype=torch.uint8)

    PREDICTORS.register("constant", constant)
    found = scores_of(
        capsys, save(), "Stripes", "-s", "predictor=constant", "-s", "predictor_params={label = 2, unused = nan}"
    )
    matrix = torch.tensor(found["confusion_matrix"])
    assert matrix[:, :2].sum() == 0
    assert matrix[:, 2].sum() == 12 * (32 * 24 - 1)
    assert found["scores"]["loss"] is None
    assert found["per_class"]["never"] == {"iou": 0.0, "acc": None, "dice": 0.0, "pixels": 0}
    assert found["settings"]["predictor_params"] == {"label": 2, "unused": None}
    assert "predictor constant(label=2, unused=nan)" in found["protocol_text"]


# ---- output ----------------------------------------------------------------------------------------------------------


def test_table_ends_with_the_miou(save, capsys):
    path = save()
    scores = scores_of(capsys, path, "Stripes")["scores"]
    assert main(["eval", path, "Stripes", *HERE]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == (
        f"{path} on 12 images: val split of Stripes (12 images), each image at its own size, predictor whole, fp32, "
        "absent=skip"
    )
    assert lines[1].split() == ["class", "IoU", "accuracy", "Dice", "pixels"]
    assert [line.split()[0] for line in lines[2:5]] == ["dark", "bright", "never"]
    assert len({len(line) for line in lines[1:5]}) == 1
    shown = dict(re.fullmatch(r"(\w[\w ]*\w)  +(\S+)", line).groups() for line in lines[6:12])
    titles = ("mIoU", "pixel accuracy", "mean accuracy", "fwIoU", "Dice", "loss")
    assert shown == {title: f"{scores[name]:.4f}" for title, name in zip(titles, MEANS, strict=True)}
    assert lines[12:] == [f"mIoU {scores['miou']:.4f}"]
    assert re.fullmatch(r"evaluated 12 images in [\d.]+ s, [\d.]+ images/s\n", captured.err)


def test_terminal_shows_a_table_with_any_class_name(save, stripes, capsys, monkeypatch):
    pytest.importorskip("rich")
    names = DatasetMetadata("Stripes", ("[red]dark", "bright [b]", "never"))
    DATASETS.register("Bracketed", lambda root, split: DATASETS.get("OddStripes")(root, split, metadata=names))
    path = save(metadata=names)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["eval", path, "Bracketed", *HERE]) == 0
    out = capsys.readouterr().out
    assert "[red]dark" in out
    assert "bright [b]" in out
    assert re.fullmatch(r"mIoU \d\.\d{4}", out.splitlines()[-1])


def test_json_file_is_written_beside_the_table(save, tmp_path, capsys):
    path, target = save(), tmp_path / "new" / "scores.json"
    printed = scores_of(capsys, path, "Stripes")
    assert main(["eval", path, "Stripes", *HERE, "--json", str(target)]) == 0
    assert json.loads(target.read_text()) == printed
    assert capsys.readouterr().out.splitlines()[-1] == f"mIoU {printed['scores']['miou']:.4f}"
    assert [file.name for file in target.parent.iterdir()] == ["scores.json"]
    keys = "model weights dataset split num_images protocol protocol_text settings scores per_class"
    assert list(printed) == [*keys.split(), "confusion_matrix", "versions"]
    assert (printed["model"], printed["weights"], printed["dataset"]) == (path, None, "Stripes")
    assert (printed["split"], printed["num_images"]) == ("val", 12)
    assert {"torch", "seg-core", "seg-train"} <= set(printed["versions"])
    assert "\n    [" in target.read_text()


def test_split_and_params_reach_the_dataset(save, capsys):
    found = scores_of(
        capsys, save(), "Stripes", "-s", "split=train", "-s", "params.length=3", "-s", "root=somewhere/else"
    )
    assert found["num_images"] == 3
    assert found["protocol_text"].startswith("train split of Stripes (3 images)")
    assert found["settings"]["root"] == "somewhere/else"


def test_progress_counts_images_on_stderr(save, capsys, monkeypatch):
    from seg_core import progress

    monkeypatch.setattr(progress.PlainProgress, "interval", 0.0)
    assert main(["eval", save(), "Stripes", *HERE, "-s", "batch_size=5"]) == 0
    shown = capsys.readouterr().err.splitlines()
    assert shown[:12] == [f"scanning {done}/12" for done in range(1, 13)]
    assert shown[12:15] == ["evaluating 5/12", "evaluating 10/12", "evaluating 12/12"]


def test_help_names_every_key(capsys):
    from seg_train.commands.eval_settings import ALLOWED

    assert main(["eval", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {key} +\w", text, re.MULTILINE) for key in ALLOWED)


def test_command_names_no_package_of_models_or_datasets():
    from seg_train.commands import eval as eval_command

    for path in Path(eval_command.__file__).parent.glob("eval*.py"):
        assert not re.search(r"seg_(models|datasets)\b", path.read_text("utf-8")), path


def test_command_line_needs_no_torch_until_it_runs():
    code = "import sys, seg_train.commands.eval; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- names with weights ----------------------------------------------------------------------------------------------


@pytest.fixture
def enet(stripes, tmp_path):
    model = MODELS.get("enet")(num_classes=3)
    preprocessing = Preprocessing(mean=(0.4, 0.4, 0.4), scale=0.5)
    save_model(model, tmp_path / "enet.pt", metadata=stripes.metadata, preprocessing=preprocessing)
    return model


def test_name_with_a_model_file_as_weights_scores_as_the_file(enet, tmp_path, capsys):
    path = str(tmp_path / "enet.pt")
    alone = scores_of(capsys, path, "Stripes")
    named = scores_of(capsys, "enet", "Stripes", "--weights", path)
    assert named["scores"] == alone["scores"]
    assert (named["model"], named["weights"]) == ("enet", path)
    assert named["settings"]["scale"] == 0.5


def test_name_with_bare_tensors_is_scored_with_a_warning(enet, tmp_path, stripes, capsys):
    path = tmp_path / "tensors.pth"
    torch.save(enet.state_dict(), path)
    store = evaluate(enet, stripes(split="val"))
    assert main(["eval", "enet", "Stripes", "--weights", str(path), *HERE, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["confusion_matrix"] == store.confusion_matrix.tolist()
    assert "seg: warning: model 'enet' has no class names and no preprocessing" in captured.err


def published(**more):
    def build(*, weights=None):
        model = MODELS.get("tiny_net")(num_classes=3)
        model.asked_for = weights
        for name, value in more.items():
            setattr(model, name, value)
        return model

    entry = ModelEntry("nowhere:build", weights_enum="Tiny_Weights", default_weights="STRIPES_V1")
    MODELS.register("tiny_published", entry)
    MODELS._objects["tiny_published"] = build


@pytest.mark.parametrize("given", [[], ["--weights", "DEFAULT"], ["--weights", "STRIPES_V1"]])
def test_default_weights_are_named_in_the_json(given, capsys):
    published()
    assert main(["eval", "tiny_published", "Stripes", *given, *HERE, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["weights"] == "STRIPES_V1"
    assert ("no weights given, taking Tiny_Weights.STRIPES_V1" in captured.err) is not bool(given)


def test_weights_that_leave_tensors_unfilled_are_an_error(capsys):
    published(randomly_initialized=("head.weight", "head.bias"))
    assert main(["eval", "tiny_published", "Stripes", *HERE]) == 2
    assert "2 tensors of 'tiny_published' randomly initialized, the first is head.weight" in capsys.readouterr().err


# ---- classes ---------------------------------------------------------------------------------------------------------


def test_other_number_of_classes_is_an_error(stripes, tmp_path, capsys):
    two = MODELS.get("tiny_net")(num_classes=2)
    metadata = DatasetMetadata("Pair", ("dark", "bright"))
    save_model(two, tmp_path / "two.pt", metadata=metadata, preprocessing=Preprocessing())
    assert main(["eval", str(tmp_path / "two.pt"), "Stripes", *HERE]) == 2
    captured = capsys.readouterr()
    assert "has 2 classes (Pair), but the dataset has 3 (Stripes)" in captured.err
    assert captured.out == ""


def test_other_names_of_classes_are_a_warning_that_names_the_first(save, capsys):
    path = save(metadata=DatasetMetadata("Others", ("dark", "light", "nowhere")))
    assert main(["eval", path, "Stripes", *HERE]) == 0
    captured = capsys.readouterr()
    assert "seg: warning: class 1 is 'light' for the model (Others) and 'bright' in the dataset" in captured.err
    assert "nowhere" not in captured.err
    assert "bright" in captured.out


def test_masks_of_0_and_255_are_an_error_with_the_label_map(stripes, tmp_path, capsys):
    pair = DatasetMetadata("Pair", ("ground", "thing"))

    class Stored(stripes):
        metadata = pair

        def __init__(self, root=None, split="train", label_map=None):
            super().__init__(root, split)
            self.label_map = label_map or {}

        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return image, torch.where(mask == 1, self.label_map.get("255", 255), torch.zeros_like(mask))

    DATASETS.register("Stored", Stored)
    path = tmp_path / "two.pt"
    save_model(MODELS.get("tiny_net")(num_classes=2), path, metadata=pair, preprocessing=Preprocessing())
    assert main(["eval", str(path), "Stored", *HERE]) == 2
    captured = capsys.readouterr()
    assert "seg: error: val: class 1 (thing) occurs in none of 12 masks, and 0, 255 are the only ids" in captured.err
    line = captured.err.partition("set -s '")[2].partition("'")[0]
    assert line == "params.label_map = { 0 = 0, 255 = 1 }"
    assert not captured.out
    assert main(["eval", str(path), "Stored", *HERE, "-s", line]) == 0
    captured = capsys.readouterr()
    assert "warning" not in captured.err
    assert re.search(r"^thing +0.\d+ +0.\d+ ", captured.out, re.MULTILINE)


# ---- wrong usage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("splt=val", "-s splt: unknown key. Did you mean 'split'? Known: root, split, "),
        ("batch_size=0", "-s batch_size = 0: must be an integer >= 1"),
        ("batch_size=true", "-s batch_size = true: must be an integer >= 1"),
        ("num_workers=-1", "-s num_workers = -1: must be an integer >= 0"),
        ("scale=0", "-s scale = 0: must be a factor above 0"),
        ("scale=inf", "must be a factor above 0"),
        ("scale=half", '-s scale = "half": must be a factor above 0'),
        ("device=gpu", '-s device = "gpu": must be auto, cuda, mps, cpu, or the number of a GPU'),
        ("precision=fp8", "must be fp32, bf16 or fp16"),
        ("precision=fp16", "precision fp16 needs a GPU"),
        ("resize={scael=0.5}", "Did you mean 'scale'"),
        ("resize=0.5", "-s resize = 0.5: must be a table such as {scale = 0.5}"),
        ("tile=0", "-s tile = 0: must be pixels, one integer >= 1 or [height, width]"),
        ("overlap=0.5", "-s overlap = 0.5: needs tiles; set tile too"),
        ("scales=[]", "-s scales = []: must be a list of factors above 0"),
        ("hflip=1", "-s hflip = 1: must be true or false"),
        ("loss=no", '-s loss = "no": must be true or false'),
        ("root=12", "-s root = 12: must be a folder"),
        ("root.a=12", "must be a folder"),
        ("params=12", "-s params = 12: must be a table, set as in -s params.name=value"),
        ("batch_size", "must be key.path=value"),
        ("predictor=hole", "unknown way of predicting 'hole'. Did you mean 'whole'?"),
        (
            "predictor_params.step=3",
            "-s predictor_params.step = 3: predictor 'whole' has no such parameter. Allowed: none",
        ),
        ("predictor_params.model=3", "-s predictor_params.model = 3: not set here"),
        ("split=vall", "dataset 'Stripes' has no split 'vall'. Did you mean 'val'? Splits: train, val"),
        ("params.lenght=3", "-s params.lenght = 3: dataset 'Stripes' has no such parameter. Did you mean 'length'?"),
        ("params.split=val", "-s params.split = val: not set here"),
    ],
)
def test_wrong_keys_are_one_sentence(save, capsys, key, words):
    assert main(["eval", save(), "Stripes", *HERE, "-s", key]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("seg: error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert captured.out == ""


def test_several_wrong_keys_are_named_together(save, capsys):
    assert main(["eval", save(), "Stripes", "-s", "splt=val", "-s", "scale=-1"]) == 2
    err = capsys.readouterr().err
    assert "-s has 2 problems:\n  -s splt: unknown key." in err
    assert "\n  -s scale = -1: must be" in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="wants a machine without a GPU")
def test_missing_device_says_so(save, capsys):
    assert main(["eval", save(), "Stripes", "-s", "device=cuda"]) == 2
    assert '-s device = "cuda": torch' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere.pt", "Stripes"], 2, "there is no run folder or model file nowhere.pt"),
        (["ennet", "Stripes"], 2, "unknown model 'ennet'. Did you mean 'enet'"),
        (["tiny_net", "Stripes"], 2, "model 'tiny_net' has no published weights; give a model file"),
        (
            ["enet", "Stripes", "--weights", "nowhere.pth"],
            2,
            "weights 'nowhere.pth' look like a file, but there is no such file",
        ),
        (["upernet", "Stripes", "--weights", "a.pth"], 2, "model 'upernet' needs a backbone"),
        (["MODEL", "Stripes", "--weights", "DEFAULT"], 2, "weights DEFAULT cannot be used with model file"),
        (
            ["FOLDER", "Stripes"],
            2,
            "is a folder without a model_best.pt or model.pt or model_ema.pt; give a run folder or the",
        ),
        (["MODEL", "Strips"], 2, "unknown dataset 'Strips'. Did you mean 'Stripes'"),
        (["MODEL", "CamVid"], 2, "dataset 'CamVid' needs its root folder: set it with -s root=DIR"),
        (["MODEL", "CamVid", "-s", "root=nowhere"], 2, "nowhere"),
        (
            ["MODEL", "FolderDataset", "-s", "root=nowhere"],
            2,
            "-s params.metadata is missing: dataset 'FolderDataset'",
        ),
        (["MODEL", "Empty"], 2, "the val split of 'Empty' has no images"),
        (["MODEL", "EmptyFolder"], 2, "the val split of 'EmptyFolder' has no images"),
        (["MODEL", "Stripes", "-s", "params.broken=3"], 1, "val/3.png is no image; replace it"),
        (
            ["MODEL", "Stripes", "-s", "params.wrong=3"],
            1,
            "mask of sample 3 (val/3.png) contains ids that are not allowed: 7",
        ),
        (["MODEL", "OddStripes", "-s", "params.broken=3", "-s", "batch_size=2"], 1, "val/3.png is no image"),
        (["MODEL", "Stripes", "--json", "FOLDER"], 2, "is a folder; add the file's name"),
        (["MODEL", "Stripes", "--json", "MODEL"], 2, "would overwrite the model; name another file"),
        (["MODEL"], 2, "name a DATASET to evaluate on"),
        (["MODEL", "Stripes", "-s", "tile=4", "-s", "predictor=labels"], 2, "cannot be used together with tile"),
        (["MODEL", "Stripes", "-s", "scale=1", "-s", "resize={}"], 2, "-s scale and -s resize both set the resizing"),
    ],
)
def test_wrong_usage_is_one_sentence_and_prints_no_scores(save, tmp_path, capsys, arguments, code, words):
    (tmp_path / "folder").mkdir()
    names = {"MODEL": save(), "FOLDER": str(tmp_path / "folder")}
    assert main(["eval", *(names.get(a, a) for a in arguments), *HERE]) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert load_model(names["MODEL"])


@pytest.mark.parametrize("batch_size", [1, 4])
def test_images_of_several_sizes_are_scored_one_by_one(save, capsys, batch_size):
    found = scores_of(capsys, save(), "OddStripes", "-s", "params.mixed=true", "-s", f"batch_size={batch_size}")
    assert sum(map(sum, found["confusion_matrix"])) == 6 * (31 * 23 - 1) + 6 * (30 * 23 - 1)


def test_unwritable_file_costs_the_file_and_not_the_scores(save, tmp_path, monkeypatch, capsys):
    def full(path, text):
        raise WriteError(f"cannot write {path}: no space left")

    monkeypatch.setattr("seg_core.files.atomic.write_text", full)
    assert main(["eval", save(), "Stripes", *HERE, "--json", str(tmp_path / "scores.json")]) == 1
    captured = capsys.readouterr()
    assert "seg: error: cannot write" in captured.err
    assert captured.out.splitlines()[-1].startswith("mIoU ")
