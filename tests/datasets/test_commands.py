"""`seg datasets`."""

import pytest

from seg_core.command import main
from seg_core.registry import DATASETS
from seg_datasets import catalog


def test_datasets_alone_lists_every_name_with_classes_and_splits(capsys):
    assert main(["datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, entry in catalog.DATASETS.items():
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        assert entry.summary in line
        assert "train val test" in line
    assert any(line.startswith("CamVid") and " 11 " in line for line in lines)
    assert any(line.startswith("FolderDataset") and " yours " in line for line in lines)


def test_show_camvid_prints_classes_layout_licence_and_citation(capsys):
    assert main(["datasets", "show", "CamVid"]) == 0
    out = capsys.readouterr().out
    for text in (
        "train, val, test",
        "10  Bicyclist",
        "rgb 0,128,192",
        "trainannot/",
        "CC BY-NC 4.0",
        "Brostow",
        "255 is",
    ):
        assert text in out


def test_show_folder_dataset_prints_both_layouts(capsys):
    assert main(["datasets", "show", "FolderDataset"]) == 0
    out = capsys.readouterr().out
    assert "train/images/a.jpg" in out
    assert "the argument metadata" in out


def test_show_shapes_says_that_there_are_no_files(capsys):
    assert main(["datasets", "show", "Shapes"]) == 0
    assert "no files" in capsys.readouterr().out


def test_show_data_set_registered_by_hand_prints_its_docstring(capsys):
    class Mine:
        """Pictures of my garden."""

    DATASETS.register("GardenOfTheTest", Mine)
    assert main(["datasets", "show", "GardenOfTheTest"]) == 0
    assert "Pictures of my garden." in capsys.readouterr().out
    assert main(["datasets"]) == 0
    assert "GardenOfTheTest" in capsys.readouterr().out


def test_show_unknown_name_exits_2_with_the_nearest(capsys):
    assert main(["datasets", "show", "CamVidd"]) == 2
    assert "seg: error: unknown data set 'CamVidd'. Did you mean 'CamVid'?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["datasets", "--help"], ["datasets", "show", "--help"]])
def test_help_exits_0(arguments, capsys):
    assert main(arguments) == 0
    assert "usage: seg datasets" in capsys.readouterr().out


def test_show_without_name_exits_2(capsys):
    assert main(["datasets", "show"]) == 2
    assert "NAME" in capsys.readouterr().err
