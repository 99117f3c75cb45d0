"""The value "none": unsets what is absent by default, and is an error or a plain string anywhere else."""

import json
import tomllib

import jsonschema
import pytest

from seg_core.command import main
from seg_core.errors import ConfigError
from seg_train import Trainer, load_config
from seg_train.config.json_schema import json_schema
from seg_train.config.load import load_with_origins
from seg_train.config.schema import TrainConfig, flatten, section_class
from seg_train.config.show import as_toml
from seg_train.config.unset import accepts_none

BASE = """
[model]
name = "tiny_net"
[data]
check = "off"
[data.dataset]
name = "Stripes"
[data.transform.train]
size = [32, 24]
resize = { scale = 0.5 }
[data.loader]
batch_size = 4
num_workers = 0
[criterion]
outputs.aux = { weight = 0.5, name = "DiceLoss" }
[lr_scheduler]
name = "PolynomialLR"
params.power = 0.9
[trainer]
steps = 1000
ema_decay = 0.99
device = "cpu"
[evaluation]
tile = 16
overlap = 0.25
resize = { shorter_side = 32 }
[log.local]
max_drawing_share = 0
"""


@pytest.fixture
def files(tmp_path):
    """Writes child.toml, which extends base.toml, and returns its path."""

    def write(text, name="child.toml", base="base.toml"):
        (tmp_path / "base.toml").write_text(BASE)
        path = tmp_path / name
        path.write_text(f'extends = "{base}"\n{text}')
        return path

    return write


def keys_with_none():
    """Full keys of everything that is absent by default."""

    def walk(section, prefix):
        for name, field in section.model_fields.items():
            inner = section_class(field.annotation)
            if accepts_none(field):
                yield f"{prefix}{name}"
            if inner is not None and name != "outputs":
                yield from walk(inner, f"{prefix}{name}.")

    return list(walk(TrainConfig, ""))


def nested(key, value):
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def test_child_unsets_what_its_base_sets(files):
    path = files(
        'lr_scheduler = "none"\n[trainer]\nsteps = "none"\nepochs = 5\nema_decay = "none"\n'
        '[evaluation]\nresize = "none"\n[data.transform.train]\nresize = "none"\n[criterion]\noutputs.aux = "none"\n'
    )
    config = load_config(path)
    assert (config.trainer.steps, config.trainer.epochs, config.trainer.ema_decay) == (None, 5, None)
    assert config.lr_scheduler is config.evaluation.resize is config.data.transform.train.resize is None
    assert config.criterion.outputs == {}
    assert config.evaluation.tile == (16, 16), "what is not named stays"


def test_grandchild_sets_again_what_its_base_unset(files):
    files('lr_scheduler = "none"\n[trainer]\nsteps = "none"\nepochs = 5\n', "middle.toml")
    path = files('[lr_scheduler]\nname = "StepLR"\nparams.step_size = 2\n', base="middle.toml")
    config = load_config(path)
    assert config.lr_scheduler.name == "StepLR"
    assert config.lr_scheduler.params == {"step_size": 2}, "nothing of the section that was unset"
    assert (config.trainer.steps, config.trainer.epochs) == (None, 5)


@pytest.mark.parametrize("value", ["none", '"none"', "'none'"])
def test_override_unsets(files, value):
    path = files("")
    keys = ("trainer.ema_decay", "lr_scheduler", "evaluation.resize", "evaluation.tile", "evaluation.overlap")
    config = load_config(path, [f"{key}={value}" for key in keys])
    assert (
        config.trainer.ema_decay is config.lr_scheduler is config.evaluation.tile is config.evaluation.overlap is None
    )


def test_override_sets_a_section_again_that_was_unset(files):
    path = files('lr_scheduler = "none"\n')
    config = load_config(path, ["lr_scheduler.name=StepLR", "lr_scheduler.params.step_size=3"])
    assert config.lr_scheduler.params == {"step_size": 3}
    config = load_config(path, ["evaluation.resize=none", "evaluation.resize.scale=2"])
    assert config.evaluation.resize.scale == 2


def test_length_of_the_command_replaces_an_unset_one(files):
    path = files('[trainer]\nsteps = "none"\n')
    assert load_config(path, epochs=3).trainer.epochs == 3


def test_unset_is_as_if_it_were_never_set(tables):
    without, given = load_config(tables), flatten(tables)
    for key in keys_with_none():
        if key in given or key == "lr_scheduler" or ".resize." in key:
            continue  # set by the tables, or a key of a section that needs one
        assert load_config(tables, [f"{key}=none"]) == without, key
    assert len(keys_with_none()) > 20


def test_resize_may_change_its_kind(files):
    path = files('[evaluation]\nresize = { shorter_side = "none", scale = 0.5 }\n')
    assert load_config(path).evaluation.resize.scale == 0.5


@pytest.mark.parametrize("text", ["None", "NONE", "null", "nil"])
def test_only_lowercase_none_unsets(files, text):
    with pytest.raises(ConfigError, match="trainer.ema_decay"):
        load_config(files(f'[trainer]\nema_decay = "{text}"\n'))


# ---- where it stays a string -----------------------------------------------------------------------------------------


def test_class_weights_keep_their_none(files):
    assert load_config(files('[criterion]\nclass_weights = "none"\n')).criterion.class_weights == "none"


def test_none_stays_a_string_in_params_and_loggers(tables):
    def own_dataset(root=None, split="train", mode="x"):
        raise AssertionError("nothing is built")

    from seg_core.registry import DATASETS, LOGGERS
    from seg_train import Logger

    class OwnLogger(Logger):
        def __init__(self, run_dir, word="x"):
            self.word = word

    DATASETS.register("Own", own_dataset)
    LOGGERS.register("own", OwnLogger)
    tables["data"]["dataset"] = {"name": "Own", "params": {"mode": "none"}}
    tables["log"] = {"own": {"word": "none"}}
    config = load_config(tables)
    assert config.data.dataset.params == {"mode": "none"}
    assert config.log == {"own": {"word": "none"}}
    config = load_config(tables, ["data.dataset.params.mode=none", "log.own.word=none"])
    assert config.data.dataset.params == {"mode": "none"}
    assert config.log["own"] == {"word": "none"}


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("trainer.seed", "the key has a default, so it cannot be unset; write 0 to return to the default"),
        ("trainer.precision", 'write "auto" to return to the default'),
        ("data.dataset.train_split", 'write "train" to return to the default'),
        ("criterion.name", 'write "CrossEntropyLoss" to return to the default'),
        ("evaluation.scale", None),
        ("model.name", "the key is required, so it cannot be unset; write the value it should have"),
        ("data.dataset.name", "the key is required"),
        ("trainer", "every run has the section [trainer], so it cannot be unset"),
        ("optimizer", "every run has the section [optimizer], so it cannot be unset; set its keys instead"),
        ("evaluation", '"none" unsets single keys of it: evaluation.resize, evaluation.tile, '),
        ("data.transform.train", '"none" unsets single keys of it: data.transform.train.resize, '),
        ("log", "switch loggers off one by one, as in log.wandb.enabled = false"),
        ("criterion.outputs", 'unset what is in it one by one, as in criterion.outputs.NAME = "none"'),
        ("optimizer.params", "-s optimizer.params={} empties it"),
        ("imports", "write [] to return to the default"),
    ],
)
def test_none_where_nothing_can_be_unset_says_what_to_do(tables, key, words):
    with pytest.raises(ConfigError) as caught:
        load_config(tables, [f"{key}=none"])
    text = str(caught.value)
    assert f'{key} = "none": ' in text
    assert "problems" not in text, "one mistake is one problem"
    if words is None:
        assert "unknown key" in text
    else:
        assert words in text


@pytest.mark.parametrize("key", ["trainer.seed", "optimizer.params", "criterion.name", "data.dataset.train_split"])
def test_advice_of_the_errors_works(tables, key):
    with pytest.raises(ConfigError) as caught:
        load_config(tables, [f"{key}=none"])
    text = str(caught.value)
    value = "{}" if "={}" in text else text.partition("write ")[2].partition(" to return")[0]
    assert load_config(tables, [f"{key}={value}"])


# ---- what is shown and stored ----------------------------------------------------------------------------------------


def test_shown_config_says_what_was_unset_and_by_whom(files, capsys):
    path = files('lr_scheduler = "none"\n[trainer]\nsteps = "none"\nepochs = 5\n[criterion]\noutputs.aux = "none"\n')
    assert main(["config", "show", str(path), "-s", "trainer.ema_decay=none", "-s", "evaluation.resize=none"]) == 0
    shown = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert f'# lr_scheduler = "none" # unset by {path}' in lines
    assert f'# steps = "none" # unset by {path}' in lines
    assert '# ema_decay = "none" # unset by -s' in lines
    assert f"epochs = 5 # {path}" in lines
    assert lines.index('# steps = "none" # unset by ' + str(path)) > lines.index("[trainer]")
    assert lines.index('# resize = "none" # unset by -s') > lines.index("[evaluation]")
    assert lines[lines.index("[criterion.outputs]") + 1] == f'# aux = "none" # unset by {path}'
    assert load_config(tomllib.loads(shown)) == load_config(path, ["trainer.ema_decay=none", "evaluation.resize=none"])


def test_set_again_is_not_shown_as_unset(files):
    path = files('[trainer]\nsteps = "none"\n')
    config, origins = load_with_origins(path, ["trainer.steps=7"])
    assert config.trainer.steps == 7
    assert origins["trainer.steps"] == "-s"
    assert "unset" not in as_toml(config.to_dict(), origins)


def test_check_takes_it(files, capsys):
    assert main(["config", "check", str(files('lr_scheduler = "none"\n'))]) == 0
    assert "no mistakes" in capsys.readouterr().out


def test_stored_config_has_none_of_it(tables):
    tables |= {"lr_scheduler": "none"}
    tables["trainer"] |= {"steps": "none", "ema_decay": "none"}
    result = Trainer(load_config(tables)).run()
    text = (result.run_dir / "config.toml").read_text()
    assert '"none"' not in text.replace('class_weights = "none"', "")
    assert Trainer(load_config(tables), resume=True).position.finished


# ---- editors ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator():
    return jsonschema.Draft202012Validator(json_schema())


def test_schema_for_editors_takes_none_where_the_config_does(validator):
    for key in [*keys_with_none(), "criterion.outputs.aux", "criterion.outputs.aux.name"]:
        table = {"extends": "x.toml", **nested(key, "none")}
        assert not list(validator.iter_errors(table)), key
        if key not in ("model.variant",) and "string" not in json.dumps(table):
            wrong = {"extends": "x.toml", **nested(key, {"no": "such"})}
            assert list(validator.iter_errors(wrong)), key


@pytest.mark.parametrize("key", ["trainer.seed", "trainer", "optimizer", "data.loader.batch_size", "trainer.precision"])
def test_schema_for_editors_refuses_none_elsewhere(validator, key):
    assert list(validator.iter_errors({"extends": "x.toml", **nested(key, "none")}))


@pytest.mark.parametrize("text", ["None", "some", "none "])
def test_schema_for_editors_takes_no_other_text(validator, text):
    for key in ("trainer.ema_decay", "trainer.steps", "evaluation.tile", "evaluation.resize", "lr_scheduler"):
        assert list(validator.iter_errors({"extends": "x.toml", **nested(key, text)})), key
