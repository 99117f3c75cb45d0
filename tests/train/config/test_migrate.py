"""Configs of earlier versions: stored ones are converted, and errors tell users what to write instead."""

import tomllib
from pathlib import Path

import pytest
import tomli_w

from seg_core.errors import ConfigError
from seg_train import load_config
from seg_train.config import migrate as migrations
from seg_train.config.migrate import CONFIG_FORMAT, FormerValTransform, former_key, migrate, unflatten
from seg_train.config.schema import TrainConfig, default_of, flatten, has_section
from seg_train.run.folder import RunFolder

OLD_RUNS = Path(__file__).parents[2] / "fixtures" / "old_runs"


def stored(name):
    return tomllib.loads((OLD_RUNS / name / "config.toml").read_text())


@pytest.mark.parametrize(
    ("name", "size", "scale", "batch_size"),
    [
        ("same_size", (32, 48), 1.0, 2),
        ("scaled", (16, 24), 0.5, 4),
        ("padded", (40, 64), 1.0, 4),
        ("cropped", (24, 32), 1.0, 4),
    ],
)
def test_val_transform_becomes_evaluation(name, size, scale, batch_size):
    tables = stored(name)
    migrated = migrate(tables, 1)
    assert migrated.val_transform == FormerValTransform(size, scale)
    evaluation = migrated.tables["evaluation"]
    assert evaluation.get("resize") == (None if scale == 1 else {"scale": 0.5})
    assert evaluation["batch_size"] == batch_size
    assert "val" not in migrated.tables["data"]["transform"]
    assert "eval_batch_size" not in migrated.tables["data"]["loader"]
    assert tables == stored(name), "what is stored is not changed"
    config = TrainConfig.model_validate(migrated.tables)
    assert config.evaluation.batch_size == batch_size


def test_run_without_val_transform_keeps_its_batch_size():
    migrated = migrate(stored("plain"), 1)
    assert migrated.val_transform is None
    assert migrated.tables["evaluation"]["batch_size"] == 4
    assert "batch_size" not in migrate(stored("val_loss"), 1).tables["evaluation"], "one image at a time, as today"


def test_config_of_today_is_not_changed():
    tables = {"evaluation": {"batch_size": 3}}
    assert migrate(tables, CONFIG_FORMAT).tables == tables


@pytest.mark.parametrize("version", [0, CONFIG_FORMAT + 1, "2", True, 1.0])
def test_format_of_a_newer_version_is_refused(version):
    words = rf"the stored config has format = .*, the installed seg-train reads 1 to {CONFIG_FORMAT}"
    with pytest.raises(ConfigError, match=words):
        migrate({}, version)


def test_default_that_changes_and_key_that_goes_are_one_line_each(monkeypatch):
    change = migrations._Change(
        defaults={"optimizer.decay_norms_and_biases": False, "lr_scheduler.warmup_factor": 0.1, "new.key": 1},
        dropped=("trainer.speed",),
    )
    monkeypatch.setattr(migrations, "_CHANGES", (*migrations._CHANGES, change))
    monkeypatch.setattr(migrations, "CONFIG_FORMAT", CONFIG_FORMAT + 1)
    old = {"optimizer": {"name": "SGD"}, "trainer": {"speed": 3}}
    for version in (1, CONFIG_FORMAT):
        tables = migrate(old, version).tables
        assert tables["optimizer"] == {"name": "SGD", "decay_norms_and_biases": False}
        assert tables["trainer"] == {}
        assert "lr_scheduler" not in tables, "a section that the run did not have stays away"
    said = migrate({"optimizer": {"decay_norms_and_biases": True}, "lr_scheduler": {"name": "StepLR"}}, 1).tables
    assert said["optimizer"]["decay_norms_and_biases"] is True
    assert said["lr_scheduler"]["warmup_factor"] == 0.1
    assert migrate(old, CONFIG_FORMAT + 1).tables == old
    assert former_key("trainer.speed", 3) == (
        "the key was removed, and it had no influence on the training result; remove it"
    )


def test_flat_keys_become_tables_again(tables):
    flat = flatten(load_config(tables).to_dict())
    assert flatten(unflatten(flat)) == flat


def test_defaults_are_those_of_the_schema(tables):
    assert default_of("trainer.seed") == 0
    assert default_of("data.augment.rotation_range") == [0.0, 0.0], "as a stored config has it"
    assert default_of("lr_scheduler.warmup_steps") == 0
    assert default_of("model.name") is None
    assert default_of("optimizer.params.lr") is None
    assert default_of("no.such.key") is None
    assert not has_section({}, "lr_scheduler.warmup_steps")
    assert has_section({"lr_scheduler": {"name": "StepLR"}}, "lr_scheduler.warmup_steps")
    assert has_section({}, "trainer.seed")
    assert not has_section({}, "evaluation.resize.scale")
    assert not has_section({}, "log.wandb.project")
    config = load_config(tables)
    for key, value in config.influences().items():
        if ".params." not in key and key.partition(".")[0] in ("trainer", "data", "evaluation"):
            changed = key in flatten(tables) or default_of(key) == value
            assert changed, key


# ---- run folders -----------------------------------------------------------------------------------------------------


def copy_config(name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_bytes((OLD_RUNS / name / "config.toml").read_bytes())
    return RunFolder(folder)


@pytest.mark.parametrize("name", ["same_size", "scaled", "padded", "cropped", "plain", "val_loss", "finished"])
def test_config_of_every_old_run_folder_loads(name, tmp_path):
    config = copy_config(name, tmp_path).load_config(["trainer.device=cpu"])
    assert config.trainer.epochs == 4
    assert config.model.name == "tiny_net"


def test_run_folder_says_its_format_and_is_a_plain_config_too(tables, tmp_path):
    config = load_config(tables)
    folder = RunFolder(tmp_path / "run")
    folder.create(config, {})
    assert tomllib.loads(folder.config.read_text())["format"] == CONFIG_FORMAT
    assert load_config(folder.config) == folder.load_config() == config
    assert load_config(tomllib.loads(folder.config.read_text())) == config


def test_config_that_extends_one_of_an_earlier_format_gets_its_defaults(tables, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    folder.create(load_config(tables), {})
    text = folder.config.read_text().replace("decay_norms_and_biases = true\n", "")
    folder.config.write_text(text)
    change = migrations._Change(defaults={"optimizer.decay_norms_and_biases": False})
    monkeypatch.setattr(migrations, "_CHANGES", (*migrations._CHANGES, change))
    monkeypatch.setattr(migrations, "CONFIG_FORMAT", CONFIG_FORMAT + 1)
    (tmp_path / "new.toml").write_text('extends = "run/config.toml"\n[trainer]\nseed = 5\n')
    config = load_config(tmp_path / "new.toml")
    assert not config.optimizer.decay_norms_and_biases
    assert config.trainer.seed == 5


def test_run_folder_of_a_newer_version_is_refused(tables, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(load_config(tables), {})
    text = folder.config.read_text()
    folder.config.write_text(text.replace(f"format = {CONFIG_FORMAT}", "format = 99"))
    with pytest.raises(ConfigError, match=r"config\.toml has format = 99, the installed seg-train reads 1 to"):
        folder.load_config()


def test_new_length_is_written_and_nothing_else_changes(tables, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(load_config(tables), {})
    before = folder.config.stat().st_mtime_ns, tomllib.loads(folder.config.read_text())
    folder.update_config(load_config(tables))
    assert folder.config.stat().st_mtime_ns == before[0], "nothing has changed, so nothing is written"
    folder.update_config(load_config(tables, steps=9))
    after = tomllib.loads(folder.config.read_text())
    assert after["trainer"].pop("steps") == 9
    del before[1]["trainer"]["epochs"]
    assert after == before[1]


def test_new_length_of_a_config_saved_with_a_byte_order_mark_is_written(tables, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(load_config(tables), {})
    folder.config.write_bytes(folder.config.read_text().encode("utf-8-sig"))
    folder.update_config(load_config(tables, epochs=7))
    assert folder.load_config().trainer.epochs == 7


def test_old_config_is_written_in_todays_keys(tmp_path):
    folder = copy_config("scaled", tmp_path)
    folder.update_config(folder.load_config(epochs=4))
    assert load_config(folder.config) == copy_config("scaled", tmp_path / "other").load_config()


# ---- configs of users ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        (
            "loader",
            {"eval_batch_size": 4},
            "data.loader.eval_batch_size = 4: the key is now evaluation.batch_size: write evaluation.batch_size = 4",
        ),
        (
            "transform",
            {"val": {"size": [16, 24], "scale_range": [0.5, 0.5]}},
            "data.transform.val: [evaluation] now has the resizing of val images; validation never crops, and "
            "masks are never resized: instead of scale_range = [0.5, 0.5] write evaluation.resize = { scale = 0.5 }; "
            "remove size = [16, 24], or write evaluation.tile = [16, 24] to predict in tiles of that size",
        ),
        ("transform", {"val": {"size": 24}}, "never resized: remove size = 24, or write evaluation.tile = 24"),
        ("transform", {"val": {"scale_range": [1.0, 1.0]}}, "never resized: remove scale_range = [1.0, 1.0]"),
        ("transform", {"val": {}}, "masks are never resized: remove it"),
    ],
)
def test_old_keys_of_a_users_config_say_what_to_write(tables, tmp_path, section, values, words):
    tables["data"]["transform"].pop("val", None)
    tables["data"].setdefault(section, {}).update(values)
    with pytest.raises(ConfigError) as caught:
        load_config(tables)
    assert words in str(caught.value)
    path = tmp_path / "run.toml"
    path.write_text(tomli_w.dumps(tables))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert words in str(caught.value)


def test_old_keys_in_overrides_say_it_too(tables):
    tables["data"]["transform"].pop("val", None)
    with pytest.raises(ConfigError, match=r"write evaluation.batch_size = 2"):
        load_config(tables, ["data.loader.eval_batch_size=2"])


# ---- options of the command ------------------------------------------------------------------------------------------


def test_length_and_weights_go_over_the_config(tables):
    tables["data"]["transform"].pop("val", None)
    tables["model"]["weights_backbone"] = "DEFAULT"
    config = load_config(tables, ["trainer.epochs=3"], steps=7, weights="model.pt")
    assert (config.trainer.epochs, config.trainer.steps) == (None, 7)
    assert (config.model.weights, config.model.weights_backbone) == ("model.pt", None)
    del tables["trainer"]
    assert load_config(tables, epochs=5).trainer.epochs == 5
    with pytest.raises(ConfigError, match="set the length of a run in epochs or in steps, got epochs=1 and steps=2"):
        load_config(tables, epochs=1, steps=2)
    with pytest.raises(ConfigError, match=r"trainer\.epochs = 0: must be greater than or equal to 1"):
        load_config(tables, epochs=0)
    with pytest.raises(ConfigError, match=r"trainer = 3: must be"):
        load_config(tables | {"trainer": 3}, epochs=1)
