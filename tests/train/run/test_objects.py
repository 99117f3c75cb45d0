"""Networks and datasets that are passed to the trainer as objects."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import Subset, random_split

from seg_core import DatasetMetadata, load_model, read_model_info
from seg_core.command import main
from seg_core.errors import ConfigError, CorruptFileError, InvalidArgumentError, LabelOutOfRangeError, UsageError
from seg_core.files.scan import scan_dataset
from seg_core.model_files.build_spec import OBJECT
from seg_core.registry import MODELS
from seg_datasets import fake, get_dataset
from seg_train import Trainer, dry_run, load_config
from seg_train.data.subsets import described
from seg_train.run.interruption import RunInterruptedError


class Own(nn.Module):
    """A network without a builder; `returns` is how it returns its logits."""

    def __init__(self, num_classes=3, returns="tensor", stride=1):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride, padding=1)
        self.depthwise = nn.Conv2d(6, 6, 5, padding=2, groups=6)
        self.last = nn.Conv2d(6, num_classes, 1)
        self.returns = returns

    def forward(self, images):
        logits = self.last(torch.relu(self.depthwise(self.first(images))))
        return {"tensor": logits, "out": {"out": logits}, "logits": {"logits": logits}}.get(self.returns, (logits,))


def objects(stripes, **options):
    return {"model": Own(**options), "train_set": stripes(split="train"), "val_set": stripes(split="val", length=5)}


def bare(tables):
    """The tables of a config that leaves network and datasets to the caller."""
    tables["model"] = {"name": OBJECT}
    tables["data"]["dataset"] = {"name": OBJECT}
    return tables


def test_objects_are_trained_in_place_saved_and_resumed(tables, stripes):
    given = objects(stripes)
    before = copy.deepcopy(given["model"].state_dict())
    del tables["paths"]["run"]
    trainer = Trainer(load_config(bare(tables)), **given)
    result = trainer.run()
    assert result.run_dir.name.startswith("own-stripes-")
    assert not torch.equal(given["model"].last.weight, before["last.weight"])
    read = load_model(result.run_dir / "model.pt", network=Own())
    assert read.model_info.metadata == stripes.metadata
    assert not read.training
    assert all(torch.equal(value, given["model"].state_dict()[name]) for name, value in read.state_dict().items())
    tables["trainer"]["epochs"] = 3
    resumed = Trainer(load_config(tables), resume=True, **objects(stripes))
    assert resumed.folder.path == result.run_dir
    assert resumed.run().best.epoch in (1, 2, 3)


def test_network_computes_as_before_afterwards(tables, stripes):
    given = objects(stripes)
    Trainer(load_config(bare(tables), ["trainer.precision=bf16"]), **given).run()
    network = given["model"]
    assert network(torch.zeros(1, 3, 8, 8)).dtype == torch.float32
    assert not any("forward" in vars(module) for module in network.modules())
    copied = copy.deepcopy(network)
    nn.init.zeros_(copied.last.weight)
    nn.init.zeros_(copied.last.bias)
    assert not copied(torch.ones(1, 3, 8, 8)).any()


@pytest.mark.parametrize(("returns", "stride"), [("out", 1), ("logits", 1), ("tensor", 2)])
def test_logits_alone_are_taken_at_any_size(tables, stripes, returns, stride):
    result = Trainer(load_config(bare(tables)), **objects(stripes, returns=returns, stride=stride)).run()
    assert 0 <= result.scores["miou"] <= 1


def test_network_that_returns_something_else_is_told(tables, stripes):
    with pytest.raises(ConfigError, match=r"must return its logits.*'tuple'"):
        Trainer(load_config(bare(tables)), **objects(stripes, returns="tuple")).run()


def test_network_with_another_number_of_classes_is_told(tables, stripes):
    with pytest.raises(ConfigError, match="logits of 4 classes, but the dataset has 3"):
        Trainer(load_config(bare(tables)), **objects(stripes, num_classes=4)).run()


def test_objects_replace_what_the_config_names(tables, stripes, capsys):
    from seg_core.progress import PlainProgress

    result = Trainer(load_config(tables), progress=PlainProgress(), **objects(stripes)).run()
    shown = capsys.readouterr().err
    assert "not the config's tiny_net" in shown
    assert "not the config's Stripes" in shown
    assert "model   Own, " in shown
    written = (result.run_dir / "config.toml").read_text()
    assert written.count(f'name = "{OBJECT}"') == 2
    assert "tiny_net" not in written
    assert json.loads((result.run_dir / "environment.json").read_text())["run"]["model"] == "Own"


def test_network_of_a_builder_stays_one(tables, stripes):
    network = MODELS.get("tiny_net")(num_classes=3)
    result = Trainer(load_config(tables), model=network).run()
    assert read_model_info(result.run_dir / "model.pt").spec.builder == "tiny_net"
    assert load_model(result.run_dir / "model.pt").body[0].out_channels == 4


def test_config_that_expects_objects_says_so(tables):
    with pytest.raises(ConfigError, match=r'model.name = "object".*pass model, also to resume'):
        Trainer(load_config({**tables, "model": {"name": OBJECT}}))
    tables["data"]["dataset"] = {"name": OBJECT}
    with pytest.raises(ConfigError, match="pass train_set and val_set"):
        Trainer(load_config(tables))


def test_one_dataset_alone_is_told(tables, stripes):
    with pytest.raises(UsageError, match="train_set is given without val_set"):
        Trainer(load_config(tables), train_set=stripes())


def test_name_in_place_of_a_network_is_told(tables):
    with pytest.raises(UsageError, match=r"model must be a network.*config: model.name"):
        Trainer(load_config(tables), model="enet")


def test_options_beside_an_object_are_told(tables):
    bare(tables)["model"]["aux_loss"] = True
    tables["data"]["dataset"]["root"] = "data"
    with pytest.raises(ConfigError, match=r"remove data\.dataset\.root") as caught:
        load_config(tables)
    assert "remove model.aux_loss" in str(caught.value)


class Shifted:
    """A dataset with the ids 1 and 2 for two classes."""

    metadata = DatasetMetadata("Shifted", ("dark", "bright"))

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def file_names(self, index):
        return self.dataset.file_names(index)

    def __getitem__(self, index):
        image, mask = self.dataset[index]
        return image, torch.where(mask == 255, mask, mask + 1)


def test_masks_of_objects_are_checked(tables, stripes):
    bare(tables)["data"]["check"] = "full"
    sets = {"train_set": Shifted(stripes()), "val_set": Shifted(stripes(split="val"))}
    with pytest.raises(LabelOutOfRangeError, match=r"convert the masks in the dataset, with LabelMap\("):
        Trainer(load_config(tables), model=Own(2), **sets).run()


def test_dry_run_leaves_the_network_alone(tables, stripes):
    given = objects(stripes)
    before = copy.deepcopy(given["model"].state_dict())
    dry_run(load_config(bare(tables)), **given)
    assert all(torch.equal(value, before[name]) for name, value in given["model"].state_dict().items())


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda network: torch.compile(network, backend="eager")])
def test_network_inside_of_a_wrapper_is_trained(tables, stripes, wrap):
    given = objects(stripes)
    inner, before = given["model"], given["model"].last.weight.clone()
    run = Trainer(load_config(bare(tables)), **{**given, "model": wrap(inner)}).run().run_dir
    assert not torch.equal(inner.last.weight, before)
    tables["trainer"]["epochs"] = 3
    assert Trainer(load_config(tables), resume=True, **objects(stripes)).run().scores["epoch"] == 3
    wrapped = load_model(run / "model.pt", network=wrap(Own()))
    assert set(wrapped.state_dict()) == set(inner.state_dict())


def test_modules_in_eval_mode_stay_so(tables, stripes):
    class Frozen(Own):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(6)
            self.other = nn.BatchNorm2d(6)

        def forward(self, images):
            return self.last(self.other(self.norm(self.first(images))))

    network = Frozen()
    network.norm.eval()
    Trainer(load_config(bare(tables)), **{**objects(stripes), "model": network}).run()
    assert not network.norm.running_mean.any()
    assert network.other.running_mean.any()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda network: network.half(), ConfigError, r"is torch.float16: .* by network\.float\(\)"),
        (lambda network: network.double(), ConfigError, "is torch.float64"),
        (lambda network: network.requires_grad_(False), ConfigError, "none of the network's 6 parameters requires"),
        (lambda network: nn.Sequential(nn.LazyConv2d(3, 1)), UsageError, "call it once"),
    ],
)
def test_networks_that_cannot_be_trained_are_told(tables, stripes, change, error, words):
    given = objects(stripes)
    with pytest.raises(error, match=words):
        Trainer(load_config(bare(tables)), **{**given, "model": change(given["model"])})
    assert not list(Path(tables["paths"]["output"]).glob("*"))


def test_detached_outputs_are_told(tables, stripes):
    class Detached(Own):
        def forward(self, images):
            return super().forward(images).detach()

    with pytest.raises(ConfigError, match="the loss has no gradient"):
        Trainer(load_config(bare(tables)), **{**objects(stripes), "model": Detached()}).run()


def test_batch_norm_on_single_values_is_told(tables, stripes):
    class Global(Own):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, images):
            return self.norm(super().forward(images).mean((2, 3), keepdim=True))

    tables["data"]["loader"]["batch_size"] = 1
    with pytest.raises(ConfigError, match=r"one value per channel.*data\.loader\.batch_size \(now 1\)"):
        Trainer(load_config(bare(tables)), **{**objects(stripes), "model": Global()}).run()


def test_resume_with_another_network_is_told(tables, stripes):
    Trainer(load_config(bare(tables)), **objects(stripes)).run()
    wider = Own()
    wider.first = nn.Conv2d(3, 6, 5, padding=2)
    tables["trainer"]["epochs"] = 3
    with pytest.raises(
        InvalidArgumentError, match=r"another network: its tensor first\.weight has shape \(6, 3, 3, 3\)"
    ):
        Trainer(load_config(tables), resume=True, **{**objects(stripes), "model": wider})


def test_messages_of_a_run_on_objects_say_how_to_resume_in_python(tables, stripes):
    trainer = Trainer(load_config(bare(tables)), **objects(stripes))
    log_step = trainer._log_step

    def stop(result, batch):
        log_step(result, batch)
        trainer._interruption.requested = True

    trainer._log_step = stop
    with pytest.raises(
        RunInterruptedError, match=r"resume with: Trainer\(load_config\(.*resume=True, model="
    ) as caught:
        trainer.run()
    code = str(caught.value).split("resume with: ")[1]
    given = objects(stripes)
    for name in given:
        code = code.replace(f"{name}=...", f"{name}=given[{name!r}]")
    assert eval(code, {"Trainer": Trainer, "load_config": load_config, "given": given}).scores["epoch"] == 2


@pytest.mark.parametrize(
    "make", [lambda whole: Subset(whole, [0, 3, 5, 6]), lambda whole: random_split(whole, [4, 8])[0]]
)
def test_subsets_know_classes_and_files_of_the_whole(tables, stripes, make):
    part = make(stripes())
    found = described(Subset(part, [1, 2, 3]))
    assert len(found) == 3
    assert found.metadata == stripes.metadata
    assert found.file_names(0) == (f"train/{part.indices[1]}.png",)
    assert torch.equal(found[0][0], part[1][0])
    sets = {"train_set": part, "val_set": part}
    assert Trainer(load_config(bare(tables)), model=Own(), **sets).run().run_dir.is_dir()


def test_subset_of_files_is_scanned_by_its_files(tmp_path):
    root = fake("CamVid", tmp_path / "camvid")
    whole = get_dataset("CamVid", root, split="train")
    part = described(Subset(whole, [1]))
    assert part.mask_file(0) == whole.mask_file(1)
    assert scan_dataset(part).names == [str(whole.mask_file(1).path)]


def test_eval_of_a_run_on_objects_asks_for_a_dataset(tables, stripes, capsys):
    tables["data"]["dataset"] = {"name": OBJECT}
    sets = objects(stripes)
    run = Trainer(load_config(tables), train_set=sets["train_set"], val_set=sets["val_set"]).run().run_dir
    assert main(["eval", str(run)]) == 2
    assert "passed to the trainer as objects; name a DATASET" in capsys.readouterr().err
    assert main(["eval", str(run), "Stripes"]) == 0


def test_model_file_of_an_object_says_how_to_load_it(tables, stripes):
    result = Trainer(load_config(bare(tables)), **objects(stripes)).run()
    file = result.run_dir / "model.pt"
    with pytest.raises(InvalidArgumentError, match=r"test_objects\.Own.*load_model\(.*network=") as caught:
        load_model(file)
    assert str(file) in str(caught.value)
    with pytest.raises(CorruptFileError, match="no tensor 'weight'.*as Conv2d"):
        load_model(file, network=nn.Conv2d(3, 3, 1))
