"""The loss of a config fits the task of the dataset."""

import pytest

from seg_core import DatasetMetadata
from seg_core.command import main
from seg_core.errors import ConfigError
from seg_train import load_config
from seg_train.config.show import as_toml
from seg_train.config.task import task_problems, weights_problem, with_loss_of_task

BINARY = DatasetMetadata("Vessels", ("vessel",), task="binary")
MULTILABEL = DatasetMetadata("Discs", ("red", "blue"), task="multilabel")
MULTICLASS = DatasetMetadata("Road", ("road", "sky"))


STRIPES = {"dataset": {"name": "Stripes"}, "transform": {"train": {"size": 32}}}


def tables(metadata, **criterion):
    return {
        "model": {"name": "unet", "params": {"backbone": "resnet18"}},
        "data": {
            "dataset": {
                "name": "FolderDataset",
                "root": ".",
                "params": {"images": "a", "masks": "b", "metadata": metadata.to_dict()},
            },
            "transform": {"train": {"size": 32}},
        },
        "trainer": {"steps": 10},
        "criterion": criterion,
    }


def problems(metadata, **criterion):
    """What load_config says of the criterion."""
    try:
        load_config(tables(metadata, **criterion))
    except ConfigError as error:
        return [line for line in str(error).splitlines() if "criterion" in line]
    return []


@pytest.mark.parametrize(
    ("metadata", "name"),
    [(MULTICLASS, "CrossEntropyLoss"), (BINARY, "BinaryCrossEntropyLoss"), (MULTILABEL, "BinaryCrossEntropyLoss")],
)
def test_default_loss(metadata, name):
    config = load_config(tables(metadata) | {"data": STRIPES})
    assert with_loss_of_task(config, metadata).criterion.name == name
    assert problems(metadata) == []


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (tables(BINARY), 'name = "BinaryCrossEntropyLoss" # default of the task binary'),
        (tables(MULTILABEL), 'name = "BinaryCrossEntropyLoss" # default of the task multilabel'),
        (tables(MULTICLASS), 'name = "CrossEntropyLoss" # default'),
        (tables(BINARY, name="DiceLoss"), 'name = "DiceLoss" # run.toml'),
        (
            tables(BINARY) | {"data": STRIPES},  # a dataset whose classes are known when it is opened
            'name = "CrossEntropyLoss" # default, or BinaryCrossEntropyLoss if the dataset is binary or multilabel',
        ),
    ],
)
def test_show_names_the_loss_that_the_run_takes(tmp_path, monkeypatch, capsys, config, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(as_toml(config))
    assert main(["config", "show", "run.toml"]) == 0
    section = capsys.readouterr().out.partition("[criterion]\n")[2]
    [shown] = [" ".join(text.split()) for text in section.splitlines()[:6] if text.startswith("name")]
    assert shown == line


def test_a_given_loss_is_kept():
    config = load_config(tables(BINARY, name="DiceLoss") | {"data": STRIPES})
    assert with_loss_of_task(config, BINARY).criterion.name == "DiceLoss"


def test_params_of_the_default_loss():
    assert problems(BINARY, params={"pos_weight": 3.0}) == []
    [text] = problems(MULTICLASS, params={"pos_weight": 3.0})
    assert "pos_weight" in text


def test_a_loss_of_another_task():
    [text] = problems(BINARY, name="CrossEntropyLoss")
    assert 'set criterion.name = "BinaryCrossEntropyLoss", or remove the key' in text
    assert problems(BINARY, name="BinaryCrossEntropyLoss") == []
    [text] = problems(MULTICLASS, name="BinaryCrossEntropyLoss")
    assert 'set criterion.name = "CrossEntropyLoss"' in text


def test_a_part_of_another_task():
    parts = [{"name": "DiceLoss"}, {"name": "CrossEntropyLoss"}]
    [text] = problems(MULTILABEL, name="CombinedLoss", params={"losses": parts})
    assert 'criterion.params.losses[1].name = "CrossEntropyLoss"' in text
    assert "remove" not in text
    parts[1]["name"] = "BinaryCrossEntropyLoss"
    assert problems(MULTILABEL, name="CombinedLoss", params={"losses": parts}) == []
    assert list(task_problems("criterion", "CombinedLoss", {"losses": parts}, MULTICLASS))


def test_the_task_is_that_of_the_dataset():
    [text] = problems(BINARY, name="DiceLoss", params={"task": "multilabel"})
    assert "criterion.params.task" in text
    assert "it comes from the dataset" in text


def test_class_weights():
    [text] = problems(BINARY, class_weights=[2.0])
    assert "pos_weight" in text
    [text] = problems(MULTILABEL, class_weights="enet")
    assert "one number per class" in text
    assert problems(MULTILABEL, class_weights=[2.0, 1.0]) == []
    assert weights_problem("enet", MULTICLASS) is None
