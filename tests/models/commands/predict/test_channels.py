"""`seg predict` of images of described channels: `--bands`, `--stack`, folders."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import seg_models
from seg_core import DatasetMetadata, ImageChannels, Preprocessing
from seg_core.errors import UsageError
from seg_models.commands.predict.options import parse_bands
from seg_models.commands.predict.stacks import find_stacks
from tests.models.commands.predict_helpers import ids, names, seg
from tests.models.inference.test_channels import reflectances, write_tif

NIR = ImageChannels(("blue", "green", "red", "nir"), range=(0, 10000))
METADATA = DatasetMetadata("two", ("dark", "bright"), channels=NIR)


@pytest.fixture
def model_file(tmp_path):
    torch.manual_seed(0)
    model = seg_models.enet(num_classes=2, in_channels=4).eval()
    preprocessing = Preprocessing((0.5,) * 4, (0.25,) * 4, channels=NIR)
    with torch.no_grad():  # so that both classes occur
        logits = model(preprocessing(reflectances(32, 48)))["out"]
        list(model.parameters())[-1][0] -= (logits[:, 0] - logits[:, 1]).median()
    seg_models.save_model(model, tmp_path / "model.pt", metadata=METADATA, preprocessing=preprocessing)
    return tmp_path / "model.pt"


@pytest.fixture
def folders(tmp_path):
    """The files of two images in colors/ and nir/, by the names a and sub/b."""
    for name, seed in (("a", 0), ("sub/b", 1)):
        image = reflectances(32, 48, seed)
        for folder, part in (("colors", image[:, :, :3]), ("nir", image[:, :, 3:])):
            path = tmp_path / folder / f"{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tif(path, part)
    return tmp_path / "colors", tmp_path / "nir"


def labels_of(model_file, image):
    return seg_models.Predictor(model_file, device="cpu")(image).labels


def test_a_folder_of_files_with_overlays(model_file, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    image = reflectances(32, 48)
    write_tif(tmp_path / "images" / "a.tif", image)
    write_tif(tmp_path / "images" / "b.tif", image[:, :, :3])
    out = tmp_path / "out"
    assert seg("predict", tmp_path / "images", "--model", model_file, "--out", out, "--overlay") == 1
    assert names(out) == ["a.png", "a_overlay.jpg"]
    np.testing.assert_array_equal(ids(out / "a.png"), labels_of(model_file, image))
    assert len(np.unique(ids(out / "a.png"))) == 2
    assert "b.tif" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--bands", "4,3,2,1"], ["--bands", "4", "--bands", "3", "--bands=2,1"]])
def test_bands_of_files_in_another_order(model_file, tmp_path, words):
    image = reflectances(32, 48)
    path = write_tif(tmp_path / "a.tif", image[:, :, ::-1])
    assert seg("predict", path, "--model", model_file, "--out", tmp_path / "out", *words) == 0
    np.testing.assert_array_equal(ids(tmp_path / "out" / "a.png"), labels_of(model_file, image))


def test_words_of_bands():
    assert parse_bands(None) is None
    assert parse_bands(["B8, 4", "red"]) == ["B8", 4, "red"]
    for wrong in (["4,"], ["0"], [""]):
        with pytest.raises(UsageError, match="is no band; give numbers from 1, or names, such as --bands 4,3,2"):
            parse_bands(wrong)


def test_too_few_bands_are_a_usage_error(model_file, folders, capsys):
    assert seg("predict", folders[0], "--model", model_file, "--bands", "1,2") == 2
    assert "bands" in capsys.readouterr().err


@pytest.mark.parametrize("patterns", [False, True])
def test_files_of_the_same_name_are_one_image(model_file, folders, tmp_path, patterns):
    sources = [f"{folder}/**/*.tif" if patterns else folder for folder in folders]
    out = tmp_path / "out"
    arguments = ["predict", *sources, "--stack", "--model", model_file, "--out", out, "--json", tmp_path / "x.json"]
    assert seg(*arguments) == 0
    assert names(out) == ["a.png", "sub"]
    np.testing.assert_array_equal(ids(out / "a.png"), labels_of(model_file, reflectances(32, 48)))
    np.testing.assert_array_equal(ids(out / "sub" / "b.png"), labels_of(model_file, reflectances(32, 48, 1)))
    assert len(json.loads((tmp_path / "x.json").read_text())["images"]) == 2
    assert seg(*arguments, "--resume") == 0


def test_files_alone_are_one_image_also_tile_by_tile(model_file, folders, tmp_path, monkeypatch):
    files = [folder / "a.tif" for folder in folders]
    arguments = ["predict", *files, "--stack", "--model", model_file, "--tile", 32, "--format", "tiff"]
    assert seg(*arguments, "--out", tmp_path / "whole") == 0
    monkeypatch.setattr("seg_models.commands.predict.runner.WHOLE_PIXELS", 1)
    assert seg(*arguments, "--out", tmp_path / "tiles") == 0
    found = [ids(tmp_path / folder / "a.tif") for folder in ("whole", "tiles")]
    np.testing.assert_array_equal(*found)
    assert found[0].shape == (32, 48)


def test_names_of_patterns_are_what_lies_between_their_ends(tmp_path):
    for name in ("LC1_B4.tif", "LC1_B5.tif", "LC2_B4.tif", "LC2_B5.tif"):
        (tmp_path / name).touch()
    stacks = find_stacks([f"{tmp_path}/*_B5.tif", f"{tmp_path}/*_B4.tif"], tmp_path / "out")
    assert [stack.files for stack in stacks] == [
        (f"{tmp_path}/LC{n}_B5.tif", f"{tmp_path}/LC{n}_B4.tif") for n in (1, 2)
    ]


def test_an_image_that_one_folder_lacks_is_named(folders, tmp_path):
    sources = [str(folder) for folder in folders]
    (folders[1] / "sub" / "b.tif").rename(folders[1] / "sub" / "c.tif")
    with pytest.raises(UsageError, match=r"1 image of .*colors not found in .*nir: sub/b; the files of one image"):
        find_stacks(sources, tmp_path / "out")
    (folders[0] / "sub" / "b.tif").unlink()
    with pytest.raises(UsageError, match=r"1 image of .*nir not found in .*colors: sub/c"):
        find_stacks(sources, tmp_path / "out")


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (["-", "colors"], "cannot read names from stdin"),
        (["colors"], "name one for each band file"),
        (["colors", "colors/a.tif"], "either the files of one image, or folders and glob patterns alone"),
        (["missing.tif", "colors/a.tif"], "there is no image .*missing.tif"),
        (["x.mp4", "colors/a.tif"], "x.mp4 is a video; only images have bands in several files"),
        (["empty", "colors"], "has no images"),
    ],
)
def test_wrong_sources_of_stacks(folders, tmp_path, sources, words):
    (tmp_path / "x.mp4").touch()
    (tmp_path / "empty").mkdir()
    given = [source if source == "-" else str(tmp_path / source) for source in sources]
    with pytest.raises(UsageError, match=words):
        find_stacks(given, tmp_path / "out")


def test_a_file_of_a_stack_is_not_overwritten(model_file, folders, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    files = [folders[0] / "a.tif", write_tif(tmp_path / "out" / "a.tif", reflectances(32, 48)[:, :, 3:])]
    arguments = ["predict", *files, "--stack", "--model", model_file, "--format", "tiff", "--out", tmp_path / "out"]
    assert seg(*arguments) == 2
    assert "would be overwritten" in capsys.readouterr().err


def test_channels_of_weights_that_say_nothing_are_those_of_classes(folders, tmp_path, capsys):
    torch.manual_seed(0)
    model = seg_models.fcn_resnet18(num_classes=2, in_channels=4).eval()
    torch.save(model.state_dict(), tmp_path / "net.pth")
    described = dataclasses.replace(METADATA, channels=dataclasses.replace(NIR, mean=(0.5,) * 4, std=(0.25,) * 4))
    (tmp_path / "classes.json").write_text(json.dumps(described.to_dict()))
    loaded = seg_models.fcn_resnet18(num_classes=2, in_channels=4, weights=tmp_path / "net.pth")
    from seg_models.commands.predict.classes import describe

    options = describe(loaded, "net", described, 0.5)
    assert options["preprocessing"] == Preprocessing((0.5,) * 4, (0.25,) * 4, scale=0.5, channels=described.channels)
    predictor = seg_models.Predictor(loaded, device="cpu", **options)
    assert predictor(reflectances(32, 48)).labels.shape == (32, 48)


def test_models_show_describes_the_channels(model_file, capsys):
    assert seg("models", "show", model_file) == 0
    assert "channels  4 channels (blue, green, red, nir) from 0 to 10000" in capsys.readouterr().out
