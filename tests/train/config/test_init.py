"""`seg config init --root DIR`: looks at a folder of one's own data and writes a config that fits."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_core.command import main
from seg_core.registry import DATASETS
from seg_datasets import fake
from seg_train import load_config


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def write(root, count=6, size=(40, 50), images="images/{}.jpg", masks="masks/{}.png", ids=(0, 1), mask_size=None):
    """Writes images of `size` (height, width), and masks that hold all ids."""
    for number in range(count):
        picture, target = root / images.format(number), root / masks.format(number)
        for path in (picture, target):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size[::-1], (number, 2, 3)).save(picture)
        height, width = mask_size or size
        rows = [ids[row * len(ids) // height] for row in range(height)]
        Image.fromarray(np.repeat(np.array(rows, np.uint8)[:, None], width, axis=1)).save(target)
    return root


def init(root, *more):
    return main(["config", "init", "run.toml", "--root", str(root), *more])


SHAPES = {
    "plain": {},
    "0 and 255": {"ids": (0, 255)},
    "off by one": {"ids": (1, 2, 3)},
    "suffix": {"masks": "masks/{}_mask.png"},
    "nested, suffix": {"images": "images/a/{}.jpg", "masks": "masks/a/{}_mask.png"},
    "other names": {"images": "photos/rgb_{}.png", "masks": "truth/ids_{}.png"},
    "tiny": {"size": (4, 6)},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_init_of_a_folder_config_passes_the_check_and_trains(shape, tmp_path, capsys):
    write(tmp_path / "my data", **SHAPES[shape])
    assert init("my data", "--model", "tiny_net") == 0
    out = capsys.readouterr().out
    assert "images   5 train, 1 val" in out
    assert "wrote run.toml; edit it, then: seg config check run.toml" in out
    assert main(["config", "check", "run.toml"]) == 0
    run = ["-s", "trainer.epochs=1", "-s", "data.loader.num_workers=0", "-s", "paths.run=first"]
    assert main(["train", "run.toml", *run, "-s", "trainer.device=cpu"]) == 0
    assert (tmp_path / "runs" / "first" / "model.pt").is_file()


def test_init_writes_label_map_classes_crop_and_batch_with_comments(tmp_path, capsys):
    write(tmp_path / "data", size=(70, 200), ids=(0, 255), masks="masks/{}_m.png")
    assert init("data", "--model", "tiny_net") == 0
    text = (tmp_path / "run.toml").read_text()
    assert 'params.metadata = { labels = ["class_0", "class_1"] } # the classes: write your names\n' in text
    assert "params.label_map = { 0 = 0, 255 = 1 } # ids in the masks to classes: check it\n" in text
    values = tomllib.loads(text)
    assert values["data"]["dataset"]["root"] == "data"
    assert values["data"]["dataset"]["params"]["mask_suffix"] == "_m"
    assert values["data"]["transform"]["train"]["size"] == [64, 192]
    assert values["data"]["loader"]["batch_size"] == 5
    assert "With mask_suffix='_m' all 6 pair" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "crop"), [((4, 6), [32, 32]), ((40, 1000), [32, 512]), ((96, 100), [96, 96]), ((700, 600), [512, 512])]
)
def test_init_crop_fits_into_the_smallest_image(tmp_path, size, crop):
    write(tmp_path / "data", count=3, size=size)
    write(tmp_path / "data", count=2, size=(800, 1100))  # the other two remain the smallest
    write(tmp_path / "data", count=1, size=size)
    assert init("data", "--model", "tiny_net") == 0
    values = tomllib.loads((tmp_path / "run.toml").read_text())
    assert values["data"]["transform"]["train"]["size"] == crop
    assert values["data"]["loader"]["batch_size"] == 2


def test_init_many_images_have_the_usual_batch(tmp_path):
    write(tmp_path / "data", count=12)
    assert init("data", "--model", "tiny_net") == 0
    assert load_config("run.toml").data.loader.batch_size == 8


def test_init_classes_file_in_the_root_is_not_copied(tmp_path):
    write(tmp_path / "data")
    (tmp_path / "data/classes.json").write_text(json.dumps(["ground", "leaf"]))
    assert init("data", "--model", "tiny_net") == 0
    assert "metadata" not in (tmp_path / "run.toml").read_text()
    assert main(["config", "check", "run.toml"]) == 0


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ({"mask_size": (3, 3)}, "masks have another size than their image"),
        ({"masks": "images/{}.txt.png", "images": "images/{}.png"}, "masks: no such folder"),
        ({"ids": (0,)}, "two are needed"),
    ],
)
def test_init_nothing_fits_says_what_is_odd_and_writes_nothing(tmp_path, capsys, shape, match):
    write(tmp_path / "data", **shape)
    if "masks" in shape:
        for path in (tmp_path / "data/images").glob("*.txt.png"):
            path.unlink()
    assert init("data", "--model", "tiny_net") == 1
    out = capsys.readouterr().out
    assert match in out
    assert "run.toml was not written: correct what is odd" in out
    assert not (tmp_path / "run.toml").exists()


def test_init_wrong_names_or_folder_are_told_and_nothing_is_written(tmp_path, capsys):
    write(tmp_path / "data")
    assert init("data", "--model", "tiny_nett") == 2
    assert init("data", "--data", "FolderDatset") == 2
    assert init("nowhere") == 2
    assert "root nowhere does not exist" in capsys.readouterr().err
    assert not (tmp_path / "run.toml").exists()


def test_init_root_of_an_official_dataset_is_written(tmp_path):
    assert init("voc", "--data", "VOC", "--model", "tiny_net") == 0
    assert load_config("run.toml").data.dataset.root == "voc"


# ---- the check of the classes ----------------------------------------------------------------------------------------


def folder_config(path, root="data", **params):
    values = f'[model]\nname = "tiny_net"\n[data.dataset]\nname = "FolderDataset"\nroot = "{root}"\n'
    values += "".join(f"params.{key} = {json.dumps(value)}\n" for key, value in params.items())
    path.write_text(values + "[data.transform.train]\nsize = [32, 32]\n[trainer]\nepochs = 1\n")
    return str(path)


def test_check_folder_without_classes_says_what_to_write_and_following_it_works(tmp_path, capsys):
    write(tmp_path / "data")
    path = folder_config(tmp_path / "run.toml")
    assert main(["config", "check", path]) == 1
    out = capsys.readouterr().out
    assert "data.dataset.params.metadata is missing: dataset 'FolderDataset' needs the names of your classes" in out
    (tmp_path / "data/classes.toml").write_text(out.split("such a line: ")[1].splitlines()[0])
    assert main(["config", "check", path]) == 0


def test_check_knows_nothing_of_the_arguments_of_a_subclass(tmp_path):
    from seg_datasets import FolderDataset

    class Mine(FolderDataset):
        def __init__(self, root, split="train"):
            super().__init__(root, {"labels": ["ground", "thing"]}, split)

    DATASETS.register("Mine", Mine)
    write(tmp_path / "data")
    tables = tomllib.loads(Path(folder_config(tmp_path / "run.toml", root=str(tmp_path / "data"))).read_text())
    tables["data"]["dataset"] = {"name": "Mine", "root": str(tmp_path / "data")}
    assert load_config(tables).data.dataset.params == {}


def test_check_folder_with_one_class_in_its_classes_file_is_told(tmp_path, capsys):
    write(tmp_path / "data")
    (tmp_path / "data/classes.toml").write_text('labels = ["road"]')
    assert main(["config", "check", folder_config(tmp_path / "run.toml")]) == 1
    assert "data.dataset: custom has one class, 'road', but at least two are needed" in capsys.readouterr().out


def test_check_folder_classes_file_that_is_wrong_is_told(tmp_path, capsys):
    write(tmp_path / "data")
    (tmp_path / "data/classes.toml").write_text('lables = ["a"]')
    assert main(["config", "check", folder_config(tmp_path / "run.toml")]) == 1
    assert "unknown key 'lables'" in capsys.readouterr().out


def test_check_folder_classes_file_gives_the_number_of_classes(tmp_path, capsys):
    write(tmp_path / "data")
    (tmp_path / "data/classes.toml").write_text('labels = ["a", "b"]')
    path = folder_config(tmp_path / "run.toml")
    assert main(["config", "check", path, "-s", "criterion.class_weights=[1.0, 2.0, 3.0]"]) == 1
    assert "class_weights has 3 numbers but custom has 2 classes" in capsys.readouterr().out


def test_check_folder_that_does_not_exist_and_no_classes_says_so(tmp_path, capsys):
    assert main(["config", "check", folder_config(tmp_path / "run.toml", "nowhere")]) == 1
    assert "in the root, nowhere (no such folder); correct the root (current folder: " in capsys.readouterr().out


def test_check_folder_options_that_are_wrong_are_all_told(tmp_path, capsys):
    write(tmp_path / "data")
    overrides = ["-s", 'data.dataset.params.metadata.labels=["a", "b"]', "-s", "data.dataset.params.label_map.road=1"]
    path = folder_config(tmp_path / "run.toml", groups="(", images="photos", missing="never", max_pixels=0)
    assert main(["config", "check", path, *overrides]) == 1
    out = capsys.readouterr().out
    for part in (
        "data.dataset: groups = '(' is not a regular expression",
        "data.dataset: images = 'photos' is given without masks",
        "data.dataset: missing must be 'error' or 'skip'",
        "data.dataset: label_map has the key 'road'",
        "data.dataset: max_pixels must be an integer >= 1",
    ):
        assert part in out


def test_check_folder_options_that_do_not_fit_its_layout_are_told(tmp_path, capsys):
    for split in ("train", "val"):
        write(tmp_path / "data" / split)
    path = folder_config(tmp_path / "run.toml", folds=3)
    assert main(["config", "check", path, "-s", 'data.dataset.params.metadata.labels=["a", "b"]']) == 1
    assert "data.dataset: FolderDataset: folds cannot be used, as data has folders per split" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_config_of_another_task_has_its_loss_and_no_mistakes(tmp_path, capsys, task):
    fake("FolderDataset", tmp_path / "set", images_per_split=4, size=(48, 48), task=task)
    assert main(["config", "init", "run.toml", "--root", "set"]) == 0
    assert 'name = "BinaryCrossEntropyLoss"' in (tmp_path / "run.toml").read_text()
    assert main(["config", "check", "run.toml"]) == 0
    assert "no mistakes" in capsys.readouterr().out
