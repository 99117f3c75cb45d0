"""`seg datasets`."""

import pytest

from seg_core.command import main
from seg_core.registry import DATASETS
from seg_core.spec import documented_options, shown_default
from seg_datasets import MapillaryVistas, catalog, fake


def test_datasets_without_action_lists_names_classes_and_splits(capsys):
    assert main(["datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, entry in catalog.DATASETS.items():
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        assert entry.summary in line
        assert " ".join(entry.splits) in line
    assert any(line.startswith("CamVid") and " 11 " in line for line in lines)
    assert any(line.startswith("FolderDataset") and " yours " in line for line in lines)


def test_show_camvid_prints_classes_layout_license_and_citation(capsys):
    assert main(["datasets", "show", "CamVid"]) == 0
    out = capsys.readouterr().out
    for expected in (
        "train, val, test",
        "10  Bicyclist",
        "rgb 0,128,192",
        "trainannot/",
        "CC BY-NC 4.0",
        "Brostow",
        "255 is",
    ):
        assert expected in out


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("Cityscapes", "CityscapesBackground 20, CityscapesCategory 7, CityscapesCategory8 8, CityscapesClass 19"),
        ("CityscapesClass", "Cityscapes 34, CityscapesBackground 20, CityscapesCategory 7, CityscapesCategory8 8"),
        ("PascalContext", "PascalContext60 60"),
        ("iSAID", "iSAID15 15"),
        ("MapillaryVistas", "MapillaryVistas_v1.2 65"),
    ],
)
def test_show_names_the_label_sets_of_the_same_family(name, others, capsys):
    assert main(["datasets", "show", name]) == 0
    assert f"label sets with other classes: {others}; a network of one does not fit" in capsys.readouterr().out


def test_show_of_a_dataset_with_one_label_set_names_no_others(capsys):
    assert main(["datasets", "show", "VOC"]) == 0
    assert "label sets with other classes" not in capsys.readouterr().out


def test_show_folder_dataset_prints_both_layouts(capsys):
    assert main(["datasets", "show", "FolderDataset"]) == 0
    out = capsys.readouterr().out
    assert "train/images/a.jpg" in out
    assert "your own, given as metadata" in out


def test_show_shapes_says_that_there_are_no_files(capsys):
    assert main(["datasets", "show", "Shapes"]) == 0
    assert "drawn on access" in capsys.readouterr().out


def test_show_unified_says_which_classes_it_has(capsys):
    assert main(["datasets", "show", "Unified"]) == 0
    assert "given as label_set" in capsys.readouterr().out


def test_fake_writes_a_dataset_once_that_can_be_read(capsys, tmp_path):
    folder = tmp_path / "vistas"
    arguments = ["datasets", "fake", "MapillaryVistas", str(folder), "--edition", "v1.2", "--size", "20", "30"]
    assert main(arguments) == 0
    assert f"wrote a fake MapillaryVistas to {folder}" in capsys.readouterr().out
    image, mask = MapillaryVistas(folder, version="v1.2")[0]
    assert (image.shape, mask.shape) == ((3, 20, 30), (20, 30))
    assert main(arguments) == 2
    assert "is not empty" in capsys.readouterr().err


def test_fake_of_a_dataset_without_layout_is_an_error(capsys, tmp_path):
    assert main(["datasets", "fake", "Shapes", str(tmp_path / "a")]) == 2
    assert "no official layout" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_download_of_complete_dataset_prints_the_number_of_images(capsys, tmp_path):
    fake("ADE20K", tmp_path / "ade")
    assert main(["datasets", "download", "ADE20K", str(tmp_path / "ade"), "--split", "validation"]) == 0
    assert "ADE20K val: 2 images" in capsys.readouterr().out


def test_download_without_public_archives_says_how_to_get_them(capsys, tmp_path):
    assert main(["datasets", "download", "Cityscapes", str(tmp_path)]) == 2
    assert "cityscapes-dataset.com" in capsys.readouterr().err


def test_show_dataset_registered_by_hand_prints_its_docstring(capsys):
    class Mine:
        """Images of my garden."""

    DATASETS.register("GardenOfTheTest", Mine)
    assert main(["datasets", "show", "GardenOfTheTest"]) == 0
    assert "Images of my garden." in capsys.readouterr().out
    assert main(["datasets"]) == 0
    assert "GardenOfTheTest" in capsys.readouterr().out


def test_show_unknown_name_exits_2_with_a_suggestion(capsys):
    assert main(["datasets", "show", "CamVidd"]) == 2
    assert "seg: error: unknown dataset 'CamVidd'. Did you mean 'CamVid'?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["datasets", "--help"], ["datasets", "show", "--help"]])
def test_help_exits_0(arguments, capsys):
    assert main(arguments) == 0
    assert "usage: seg datasets" in capsys.readouterr().out


def test_show_without_name_exits_2(capsys):
    assert main(["datasets", "show"]) == 2
    assert "NAME" in capsys.readouterr().err


@pytest.mark.parametrize("name", catalog.DATASETS)
def test_show_lists_every_option_with_its_default_and_meaning(capsys, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["datasets", "show", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    options = documented_options(DATASETS.get(name), without=("root", "split", "transforms"))
    assert options
    for option in options:
        assert option.meaning, f"describe {option.name} in the docstring of {name}"
        head = f"  {option.name} (required)" if option.is_required else f"  {option.name} = {shown_default(option)}"
        start = lines.index(head) + 1
        words = option.meaning.split()
        shown = " ".join(lines[start : start + len(words)]).split()
        assert shown[: len(words)] == words
        assert len(lines[start]) <= 60


def test_show_of_a_dataset_without_options_and_of_one_without_descriptions(capsys):
    DATASETS.register("Plain", lambda root, split: None)
    DATASETS.register("Terse", lambda root, split, speed=3: None)
    assert main(["datasets", "show", "Plain"]) == 0
    assert "options   none" in capsys.readouterr().out
    assert main(["datasets", "show", "Terse"]) == 0
    assert "  speed = 3\n      (not described)\n" in capsys.readouterr().out
