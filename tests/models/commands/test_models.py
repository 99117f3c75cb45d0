import re

import numpy as np
import pytest
from PIL import Image

import seg_models
from seg_core.command import main
from seg_core.labels.metadata import DatasetMetadata
from seg_core.transforms.preprocessing import Preprocessing

RNG = np.random.default_rng(0)


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.pt"
    metadata = DatasetMetadata("two", ("sky", "ground"))
    seg_models.save_model(seg_models.enet(num_classes=2), path, metadata=metadata, preprocessing=Preprocessing())
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("b.png", "a.jpg"):
        Image.fromarray(RNG.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def seg(*arguments):
    return main([str(a) for a in arguments])


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_predict_folder_and_file_writes_one_png_each(images, model_file, tmp_path, capsys):
    Image.fromarray(RNG.integers(0, 256, (11, 13, 3), np.uint8)).save(tmp_path / "single.png")
    out = tmp_path / "out"
    assert seg("predict", images, tmp_path / "single.png", "--model", model_file, "--out", out) == 0
    assert names(out) == ["a.png", "b.png", "single.png"]
    with Image.open(out / "single.png") as saved:
        assert saved.size == (13, 11)
        assert saved.mode == "P"
        assert set(np.unique(saved)) <= {0, 1}
    streams = capsys.readouterr()
    assert streams.out == f"3 images predicted; class ids as PNG in {out}\n"
    assert re.search(r"3/3 images, [\d.]+ images/s\n$", streams.err)


@pytest.mark.smoke
def test_predict_overlay_is_written_beside(images, model_file, tmp_path, capsys):
    out = tmp_path / "out"
    assert seg("predict", images / "b.png", "--model", model_file, "--out", out, "--overlay") == 0
    assert names(out) == ["b.png", "b_overlay.jpg"]
    assert "1 image predicted; class ids as PNG, overlays as *_overlay.jpg in" in capsys.readouterr().out


def test_predict_bad_image_is_reported_and_skipped(images, model_file, tmp_path, capsys):
    (images / "aa.png").write_bytes(b"no image")
    out = tmp_path / "out"
    assert seg("predict", images, "--model", model_file, "--out", out) == 1
    assert names(out) == ["a.png", "b.png"]
    streams = capsys.readouterr()
    assert "2 images predicted" in streams.out
    assert re.search(r"seg: skipped: .*aa.png cannot be read", streams.err)
    assert "seg: 1 image of 3 could not be predicted, see above" in streams.err
    assert "Traceback" not in streams.err


def test_predict_default_folder_is_said(images, model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert seg("predict", images / "b.png", "--model", model_file) == 0
    assert names(tmp_path / "predictions") == ["b.png"]
    assert "in predictions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.png", "--model", "model.pt"], "there is no image or folder gone.png"),
        (["empty", "--model", "model.pt"], "folder empty holds no images"),
        (
            ["images", "--model", "model.pt", "--out", "images"],
            "b.png is one of the images and would be overwritten",
        ),
        (["images", "images2", "--model", "model.pt"], "would both be written to"),
        (["images", "--model", "regseg"], "model 'regseg' has no published weights; give a model file"),
        (["images", "--model", "ennet"], "unknown model 'ennet'. Did you mean 'enet'"),
        (
            ["images", "--model", "model.pt", "--weights", "VOC"],
            "weights VOC cannot be used with model file model.pt",
        ),
        (["images", "--model", "fcn_resnet50", "--weights", "VOC"], "FCN_ResNet50_Weights has no member 'VOC'"),
        (["images"], "--model"),
    ],
)
def test_predict_wrong_usage_is_one_sentence_and_writes_nothing(
    arguments, words, images, model_file, tmp_path, monkeypatch, capsys
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "images2").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "images2" / "b.png")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert seg("predict", *arguments) == 2
    assert words in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("option", "value"), [("--model", "gone.pt"), ("--model", "cut.pt"), ("--device", "nonsense")])
def test_predict_with_a_model_or_device_that_fails_ends_with_1(
    option, value, images, model_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.pt").write_bytes(model_file.read_bytes()[:-500])
    arguments = {"--model": "model.pt", option: value}
    assert seg("predict", images, *[text for pair in arguments.items() for text in pair]) == 1
    streams = capsys.readouterr()
    assert streams.err.startswith("seg: error: ")
    assert value in streams.err
    assert not (tmp_path / "predictions").exists()


def test_predict_by_name_without_weights_says_which_it_takes(images, monkeypatch, capsys):
    def no_download(self, progress=True):
        raise KeyboardInterrupt

    monkeypatch.setattr(seg_models.FCN_ResNet50_Weights, "get_state_dict", no_download)
    assert seg("predict", images, "--model", "fcn_resnet50") == 1
    assert "no weights named, taking FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1" in capsys.readouterr().err


def test_models_lists_every_model_with_its_facts(capsys):
    assert seg("models") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "params", "MACs", "weights"]
    listed = {
        line.split()[0]: line.split()[1:] for line in lines[1:] if line and line.split()[0] in seg_models.list_models()
    }
    assert set(listed) == set(seg_models.list_models())
    assert "bisenet" not in {line.split()[0] for line in lines[1:] if line}
    assert "with create(NETWORK, backbone=NAME): bisenet, deeplabv3, " in lines[-2]
    assert listed["enet"][:5] == ["0.37", "M", "4.2", "G", "2"]
    assert listed["fcn_resnet50"][:5] == ["32.96", "M", "276.7", "G", "4"]


def test_models_on_a_terminal_with_rich_shows_the_same_names(monkeypatch, capsys):
    pytest.importorskip("rich")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert seg("models") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in seg_models.list_models())


def test_models_show_tells_facts_and_weights(capsys):
    assert seg("models", "show", "fcn_resnet50") == 0
    shown = capsys.readouterr().out
    for text in (
        "backbone  resnet50",
        "params    32,957,013 at 21 classes",
        "outputs   out, aux (all but out with aux_loss=True)",
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
    assert 'of your choice: create("upernet", backbone="resnet50")' in shown
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
def test_models_lists_those_that_pass_the_filters(options, names, capsys):
    assert seg("models", *options) == 0
    rows = capsys.readouterr().out.split("\n\n")[0].splitlines()[1:]
    assert {row.split()[0] for row in rows} == names


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--family", "pidnett"], "--family 'pidnett' fits no model. Did you mean 'PIDNet'"),
        (["--backbone", "resnet19"], "--backbone 'resnet19' fits no model. Did you mean 'resnet18'"),
        (["--data", "City"], "--data 'City' fits no model."),
    ],
)
def test_models_filter_of_nothing_there_is_says_what_there_is(options, words, capsys):
    assert seg("models", *options) == 2
    assert words in capsys.readouterr().err


def test_models_show_tells_how_far_files_are_checked(capsys):
    assert seg("models", "show", "fcn_resnet50") == 0
    shown = capsys.readouterr().out
    assert "checked   by the first digits of its sha256" in shown
    assert "checked   by what it was when first fetched here" in shown
    assert "key rules  torchvision" in shown.split("COCO_WITH_VOC_LABELS_V1")[1].split("CITYSCAPES")[0]
