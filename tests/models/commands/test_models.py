"""`seg models`: the list, its filters, and one model."""

import pytest
import torch

import seg_models
from seg_core.command import main
from seg_core.labels.metadata import DatasetMetadata
from seg_core.registry import Registry
from seg_core.transforms.preprocessing import Preprocessing
from seg_models.commands import models


def seg(*arguments):
    return main([str(a) for a in arguments])


def test_models_lists_every_model_with_its_facts(capsys):
    assert seg("models") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "params", "MACs", "weights", "best", "mIoU"]
    listed = {
        line.split()[0]: line.split()[1:] for line in lines[1:] if line and line.split()[0] in seg_models.list_models()
    }
    assert set(listed) == set(seg_models.list_models())
    assert "bisenet" not in {line.split()[0] for line in lines[1:] if line}
    assert "with create(NETWORK, backbone=NAME):\nbisenet, deeplabv3, " in "\n".join(lines)
    assert listed["enet"] == ["0.37", "M", "4.2", "G", "2", "-"]
    assert listed["fcn_resnet50"] == ["32.96", "M", "276.7", "G", "4", "0.736", "Cityscapes"]
    assert listed["unet_resnet34"][-2:] == ["0", "-"]
    assert max(map(len, lines)) <= 100


def test_models_on_a_terminal_with_rich_shows_the_same_names(monkeypatch, capsys):
    pytest.importorskip("rich")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert seg("models") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in seg_models.list_models())


def test_models_show_prints_facts_and_weights(capsys):
    assert seg("models", "show", "fcn_resnet50") == 0
    shown = capsys.readouterr().out
    for text in (
        "backbone  resnet50",
        "params    32,957,013 at 21 classes",
        "outputs   out, aux (auxiliary ones with aux_loss=True)",
        "variants  paper, torchvision, mmsegmentation, mmsegmentation_769",
        "COCO_WITH_VOC_LABELS_V1  (DEFAULT)",
        "miou 0.605",
        "https://download.pytorch.org/models/fcn_resnet50_coco-1167a1af.pth",
    ):
        assert text in shown
    assert seg("models", "show", "regseg") == 0
    assert "weights   none published" in capsys.readouterr().out
    assert seg("models", "show", "upernet") == 0
    shown = capsys.readouterr().out
    assert 'any: create("upernet", backbone="resnet50")' in shown
    assert "params" not in shown


def test_models_show_unknown_name_suggests_the_nearest(capsys):
    assert seg("models", "show", "fcn_resnet5") == 2
    assert "unknown model 'fcn_resnet5'. Did you mean 'fcn_resnet50'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--family", "pidnet"], {"pidnet_s", "pidnet_m", "pidnet_l"}),
        (["--family", "FCN", "--backbone", "resnet34"], {"fcn_resnet34"}),
        (["--data", "Cityscapes with background", "--backbone", "xception"], {"bisenet_xception"}),
        (["--data", "cityscapes", "--family", "PIDNet", "--max-params", "10"], {"pidnet_s"}),
        (["--data", "loveda", "--family", "PSPNet"], {"pspnet_resnet18", "pspnet_resnet50", "pspnet_resnet101"}),
        (["--max-params", "1.2"], {"enet", "fast_scnn", "lraspp_mobilenet_v3_small"}),
    ],
)
def test_models_filters_select_models(options, names, capsys):
    assert seg("models", *options) == 0
    rows = capsys.readouterr().out.split("\n\n")[0].splitlines()[1:]
    assert {row.split()[0] for row in rows} == names


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--family", "pidnett"], "--family 'pidnett' matches no model. Did you mean 'PIDNet'"),
        (["--backbone", "resnet19"], "--backbone 'resnet19' matches no model. Did you mean 'resnet18'"),
        (["--data", "City"], "--data 'City' matches no model."),
    ],
)
def test_models_filter_without_a_match_names_what_exists(options, words, capsys):
    assert seg("models", *options) == 2
    assert words in capsys.readouterr().err


def test_models_with_data_shows_the_scores_on_that_data(capsys):
    assert seg("models", "--data", "ade20k", "--family", "FCN") == 0
    rows = [row.split() for row in capsys.readouterr().out.split("\n\n")[0].splitlines()[1:]]
    assert {row[0]: row[-2:] for row in rows} == {
        "fcn_resnet50": ["0.361", "ADE20K"],
        "fcn_resnet101": ["0.399", "ADE20K"],
    }
    assert seg("models", "--data", "VOC", "--backbone", "resnet18", "--family", "SFNet") == 0
    (row,) = capsys.readouterr().out.split("\n\n")[0].splitlines()[1:]
    assert row.split()[-1] == "-", "its weights on VOC have no published score"


@pytest.mark.parametrize(
    ("order", "column", "names"),
    [
        ("name", 0, ["bisenet_resnet18", "bisenet_resnet50", "bisenet_xception"]),
        ("params", 1, ["enet", "lraspp_mobilenet_v3_small", "fast_scnn"]),
        ("macs", 3, ["lraspp_mobilenet_v3_small", "fast_scnn", "lraspp_mobilenet_v3_large"]),
        ("score", 6, ["segformer_b2", "deeplabv3plus_resnet101", "pidnet_l"]),
    ],
)
def test_models_sort_orders_the_list(order, column, names, capsys):
    assert seg("models", "--sort", order) == 0
    rows = [row.split() for row in capsys.readouterr().out.split("\n\n")[0].splitlines()[1:]]
    assert [row[0] for row in rows[:3]] == names
    values = [row[column] for row in rows]
    if order == "score":
        values = [-1.0 if value == "-" else float(value) for value in values][::-1]
    elif order != "name":
        values = list(map(float, values))
    assert values == sorted(values)


def test_models_sort_by_another_word_is_2(capsys):
    assert seg("models", "--sort", "size") == 2
    assert "invalid choice: 'size'" in capsys.readouterr().err


def test_models_lists_a_model_that_was_registered_without_facts(capsys, monkeypatch):
    registry = Registry("model")
    registry.register("mine", lambda: None)
    monkeypatch.setattr(models, "MODELS", registry)
    monkeypatch.setattr(models, "list_models", registry.names)
    for order in ("name", "params", "score"):
        assert seg("models", "--sort", order) == 0
        assert capsys.readouterr().out.splitlines()[1].split() == ["mine", "?", "?", "?", "?"]


def test_models_show_says_how_files_are_verified(capsys):
    assert seg("models", "show", "fcn_resnet50") == 0
    shown = capsys.readouterr().out
    assert "verified  by the first digits of its sha256" in shown
    assert "verified  by its first download" in shown
    assert "key rules torchvision" in shown.split("COCO_WITH_VOC_LABELS_V1")[1].split("CITYSCAPES")[0]


def test_models_show_describes_a_model_file_and_a_run_folder(tmp_path, capsys):
    model = seg_models.enet(num_classes=2)
    metadata = DatasetMetadata("two", ("sky", "ground"))
    (tmp_path / "run").mkdir()
    for name in ("model.pt", "model_best.pt"):
        path = tmp_path / "run" / name
        preprocessing = Preprocessing(scale=0.5)
        seg_models.save_model(model, path, metadata=metadata, preprocessing=preprocessing, metrics={"miou": 0.51234})
    assert seg("models", "show", path) == 0
    shown = capsys.readouterr().out
    for text in (
        f"{path}: model file, ",
        "model     enet, variant paper",
        "num_classes=2",
        "classes   2 of two: sky, ground",
        "input     scale 0.5; mean 0.485, 0.456, 0.406",
        "scores    miou 0.5123",
        f"seg predict IMAGES --model {path}",
    ):
        assert text in shown
    assert seg("models", "show", tmp_path / "run") == 0
    again = capsys.readouterr().out
    assert again == f"taking the best weights of the run, {path}; it also has model.pt\n\n{shown}"


def test_models_show_lists_the_networks_in_another_checkpoint(tmp_path, capsys):
    state = {"module.conv.weight": torch.ones(1000, 5), "module.conv.bias": torch.ones(1000)}
    torch.save({"model": state, "ema": state, "epoch": 3}, path := tmp_path / "two.pth")
    for given in (path, f"{path}#ema"):
        assert seg("models", "show", given) == 0
        shown = capsys.readouterr().out
        assert "model     2 tensors, 0.01 M numbers: module.conv.weight, module.conv.bias" in shown
        assert "\nema       2 tensors" in shown
        assert f"--model NAME --weights {path}#model" in shown


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("gone.pt", 2, "there is no file gone.pt; give a model file"),
        ("empty", 2, "empty is a folder without a model_best.pt or model.pt"),
        ("bad.pt", 1, "bad.pt cannot be read as a checkpoint"),
    ],
)
def test_models_show_says_what_is_wrong_with_a_file(tmp_path, monkeypatch, capsys, name, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.pt").write_text("no archive")
    assert seg("models", "show", name) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "labels", "thresholds", "shown"),
    [
        ("binary", ("vessel",), 0.3, "binary; threshold 0.3"),
        ("multilabel", ("a", "b"), (0.25, 0.5), "multilabel; thresholds 0.25, 0.5"),
        ("multiclass", ("a", "b"), None, None),
    ],
)
def test_models_show_prints_task_and_thresholds(tmp_path, capsys, task, labels, thresholds, shown):
    metadata = DatasetMetadata("things", labels, task=task)
    network = seg_models.get_model("enet", num_classes=len(labels))
    path = tmp_path / "model.pt"
    seg_models.save_model(network, path, metadata=metadata, preprocessing=Preprocessing(), thresholds=thresholds)
    assert seg("models", "show", path) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("task ")]
    assert [line.split(maxsplit=1)[1] for line in lines] == ([] if shown is None else [shown])
