"""The sample configs: each says where it comes from and what it needs, and trains on generated data."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_core.registry import DATASETS
from seg_datasets import fake
from seg_train import Trainer, load_config

FOLDER = Path(__file__).parents[3] / "examples" / "configs"
RECIPES = {
    "ade20k-segformer_b0": ("segformer_b0", "ADE20K"),
    "ade20k-upernet_resnet50": ("upernet_resnet50", "ADE20K"),
    "camvid-enet": ("enet", "CamVid"),
    "cityscapes-bisenet_resnet18": ("bisenet_resnet18", "CityscapesClass"),
    "cityscapes-deeplabv3plus_resnet50": ("deeplabv3plus_resnet50", "CityscapesClass"),
    "cityscapes-enet": ("enet", "CityscapesClass"),
    "cityscapes-pidnet_s": ("pidnet_s", "CityscapesClass"),
    "cityscapes-pspnet_resnet50": ("pspnet_resnet50", "CityscapesClass"),
    "cityscapes-sfnet_resnet18": ("sfnet_resnet18", "CityscapesClass"),
    "folder-unet_resnet34": ("unet_resnet34", "FolderDataset"),
    "voc-deeplabv3_resnet50": ("deeplabv3_resnet50", "VOC"),
    "voc-fcn_resnet50": ("fcn_resnet50", "VOC"),
}
DEMO = "shapes-enet"
# what the comment at the top of every recipe says, one paragraph each
FIELDS = ("Source", "Expected", "Differs", "Data", "Time", "Memory")
SHARED = "mmsegmentation"  # a base of the bases: it has no dataset
FAKES = {"ADE20K": "ADE20K", "CamVid": "CamVid", "CityscapesClass": "Cityscapes", "VOC": "VOC"}


def config_of(name):
    return load_config(FOLDER / f"{name}.toml")


def make_images(folder):
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(10):
        Image.fromarray(rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)).save(folder / "images" / f"{index}.jpg")
        Image.fromarray(rng.integers(0, 2, (80, 96), dtype=np.uint8)).save(folder / "masks" / f"{index}.png")


def invented(dataset, folder):
    """Writes a generated tree of a dataset; returns what the config then says of it."""
    if dataset == "FolderDataset":
        make_images(folder / "own")
        return {"root": str(folder / "own")}
    root = fake(FAKES[dataset], folder / "data", size=(80, 96))
    if dataset == "VOC":
        return {"root": str(root), "params": {"sbd_root": str(fake("SBD", folder / "sbd", size=(80, 96)))}}
    return {"root": str(root)}


def test_every_config_is_one_of_the_recipes_or_the_demo():
    assert {path.stem for path in FOLDER.glob("*.toml")} == {*RECIPES, DEMO}


@pytest.mark.parametrize("name", RECIPES)
def test_config_says_its_source_the_score_to_expect_and_how_to_run_it(name):
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    head = text.partition("\n\n")[0]
    assert f"seg train examples/configs/{name}.toml" in head
    if name == "folder-unet_resnet34":
        assert "Expected: depends" in head
    else:
        assert re.search(r"0\.\d\d+ mIoU", head)
    config = config_of(name)
    assert (config.model.name, config.data.dataset.name) == RECIPES[name]


def field_of(name, field):
    """Returns the words of one field of a recipe's comment, on one line."""
    head = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").partition("\n\n")[0]
    paragraphs = []
    for line in head.splitlines():
        words = line.removeprefix("#").strip()
        if not words or words.partition(": ")[0] in (*FIELDS, "Paper"):
            paragraphs.append([])
        if paragraphs:
            paragraphs[-1].append(words)
    found = [text for lines in paragraphs if (text := " ".join(lines)).startswith(f"{field}: ")]
    assert len(found) == 1, f"{name} has {len(found)} paragraphs that begin with {field}:"
    return found[0].removeprefix(f"{field}: ").strip()


@pytest.mark.parametrize("name", [*RECIPES, DEMO])
@pytest.mark.parametrize("field", FIELDS)
def test_config_has_every_field_and_none_is_empty(name, field):
    words = field_of(name, field)
    assert len(words) > 10


@pytest.mark.parametrize("name", RECIPES)
def test_config_says_how_to_get_the_data(name):
    dataset = config_of(name).data.dataset
    entry = DATASETS.entry(dataset.name)
    head = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").partition("\n\n")[0]
    assert (f"seg datasets download {dataset.name} {dataset.root}" in head) == entry.download
    if "sbd_root" in dataset.params:
        assert f"seg datasets download SBD {dataset.params['sbd_root']}" in head
    if dataset.name != "FolderDataset":
        assert re.search(r"https?://|\.zip|\.tar", field_of(name, "Data"))


@pytest.mark.parametrize("name", [name for name, (_, data) in RECIPES.items() if data in ("ADE20K", "VOC")])
def test_recipe_resizes_crops_and_jitters_as_its_source(name):
    config = config_of(name)
    train, augment = config.data.transform.train, config.data.augment
    assert train.resize.model_dump(exclude_none=True) == {"shorter_side": 512}
    assert (train.size, train.scale_range, train.cat_max_ratio) == ((512, 512), (0.5, 2.0), 0.75)
    assert config.evaluation.resize.model_dump(exclude_none=True) == {"shorter_side": 512}
    assert augment.brightness_shift == pytest.approx(32 / 255, abs=1e-5)
    assert augment.color_jitter == (0.5, 0.0, 0.5, 18 / 180)
    assert (augment.color_jitter_probability, augment.hflip) == (0.5, 0.5)
    assert field_of(name, "Differs").startswith("as base/mmsegmentation.toml says; ")


@pytest.mark.parametrize("name", RECIPES)
def test_config_names_the_list_of_differences_of_the_pipeline_that_it_uses(name):
    augment = config_of(name).data.augment
    uses_it = augment.color_jitter_probability == 0.5
    assert ("base/mmsegmentation.toml" in field_of(name, "Differs")) == uses_it


@pytest.mark.parametrize("name", RECIPES)
def test_config_counts_its_epochs_right(name):
    config = config_of(name)
    found = re.search(r"([\d,]+) steps of (\d+) images are (\d+) epochs", field_of(name, "Time"))
    if found:
        steps, batch_size, epochs = (int(number.replace(",", "")) for number in found.groups())
        images = {"ADE20K": 20210, "VOC": 10582, "CityscapesClass": 2975}[config.data.dataset.name]
        assert (steps, batch_size) == (config.trainer.steps, config.data.loader.batch_size)
        # the last images of an epoch, which fill no batch, are left out
        assert epochs in (round(steps * batch_size / images), steps // (images // batch_size))


@pytest.mark.filterwarnings("ignore:the network returns NaN")  # after two steps, in eval mode
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.filterwarnings("ignore:classes .* do not occur in the counts")
def test_config_builds_and_trains_two_steps_on_a_generated_tree(name, tmp_path):
    config = config_of(name)
    tables = config.to_dict()
    tables["model"].pop("weights_backbone", None)  # a download
    # the network itself is tested elsewhere, and its checkpoints take seconds to write
    tables["model"]["name"] = config.model.name.replace("resnet50", "resnet18")
    tables["data"]["dataset"] |= invented(config.data.dataset.name, tmp_path)
    tables["data"]["transform"]["train"]["size"] = 64
    tables["evaluation"]["resize"] = {"size": [64, 64]}
    tables["data"]["loader"] = {"batch_size": 2, "num_workers": 0}
    if "lr_scheduler" in tables:
        tables["lr_scheduler"]["warmup_steps"] = min(1, tables["lr_scheduler"].get("warmup_steps", 0))
    tables["trainer"] |= {"steps": 2, "device": "cpu", "precision": "fp32", "snapshots": 0}
    tables["trainer"].pop("epochs", None)
    tables["paths"] = {"output": str(tmp_path / "runs"), "run": "run"}
    tables["log"] = {"local": {"max_drawing_share": 0}}
    result = Trainer(load_config(tables)).run()
    assert result.scores["step"] == 2
    assert result.scores["train_loss"] > 0
    assert (result.run_dir / "model.pt").is_file()


def test_bases_are_complete_but_for_the_network():
    bases = {path.stem: path for path in (FOLDER / "base").glob("*.toml")}
    shared = tomllib.loads(bases.pop(SHARED).read_text(encoding="utf-8"))
    assert set(shared) == {"data"}
    assert set(shared["data"]) == {"transform", "augment"}
    for path in bases.values():
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        assert "model" not in tables
        assert tables["extends"] == f"{SHARED}.toml"
        assert tables["data"]["dataset"]["root"].startswith("data/")
