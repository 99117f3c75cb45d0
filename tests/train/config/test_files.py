"""Configs that extend others, what is shown of them, the JSON Schema and the reference page."""

import json
import runpy
import tomllib
from pathlib import Path

import jsonschema
import pytest

from seg_core.command import main
from seg_core.errors import ConfigError
from seg_core.metrics.class_weights import describe_schemes
from seg_core.registry import DATASETS, LOGGERS, LOSSES, MODELS, PREDICTORS
from seg_core.spec import documented_options, shown_default
from seg_train import load_config
from seg_train.config.files import read_tables
from seg_train.config.json_schema import json_schema
from seg_train.config.params import DATASET, PREDICTOR
from seg_train.config.reference import reference_page
from seg_train.config.show import as_toml, starting_config

ROOT = Path(__file__).parents[3]
SAMPLES = sorted((ROOT / "examples" / "configs").glob("*.toml"))

BASE = """
[model]
name = "tiny_net"
params = { width = 6 }
[data.dataset]
name = "Stripes"
params = { length = 20 }
[data.transform.train]
size = [32, 24]
[optimizer]
name = "SGD"
params = { lr = 0.1, momentum = 0.9 }
[trainer]
epochs = 2
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.toml").write_text(BASE)
    return tmp_path


def write(path, text):
    path.write_text(text)
    return path


# ---- TOML ------------------------------------------------------------------------------------------------------------


def test_toml_keeps_other_alphabets_readable_and_every_string_as_it_is():
    readable = {"root": "mëine Daten/\u72ac", "Käse": "\U0001f600"}
    assert as_toml({"a": readable}) == '[a]\nroot = "mëine Daten/\u72ac"\n"Käse" = "\U0001f600"\n'
    odd = {"a": {"x": 'q"\\ \n\t\x00\x7f\x85\u200b\U000e0001'}}
    assert tomllib.loads(as_toml(odd)) == odd
    assert as_toml(odd).isprintable() or as_toml(odd).isascii()


# ---- extends ---------------------------------------------------------------------------------------------------------


def test_config_goes_over_its_base_key_by_key(folder):
    path = write(
        folder / "run.toml",
        'extends = "base/base.toml"\n[optimizer.params]\nlr = 0.5\n[data.dataset]\ntrain_split = "train"\n',
    )
    config = load_config(path)
    assert config.optimizer.params == {"lr": 0.5, "momentum": 0.9}
    assert config.model.params == {"width": 6}
    assert config.data.dataset.params == {"length": 20}
    assert config.trainer.epochs == 2


def test_another_name_drops_the_params_of_the_base_and_nothing_else(folder):
    path = write(
        folder / "run.toml",
        'extends = "base/base.toml"\n[optimizer]\nname = "AdamW"\nparams = { weight_decay = 0.1 }\n'
        '[model]\nname = "tiny_net"\n',
    )
    config = load_config(path)
    assert config.optimizer.params == {"weight_decay": 0.1}
    assert config.model.params == {"width": 6}, "the same name is no other one"


def test_bases_go_over_each_other_in_order_and_extend_others(folder):
    write(
        folder / "base" / "long.toml", 'extends = "base.toml"\n[trainer]\nepochs = 9\n[data.loader]\nbatch_size = 3\n'
    )
    write(folder / "small.toml", "[data.loader]\nbatch_size = 2\n")
    path = write(folder / "run.toml", 'extends = ["base/long.toml", "small.toml"]\n')
    config = load_config(path, ["trainer.seed=4"])
    assert (config.trainer.epochs, config.data.loader.batch_size, config.trainer.seed) == (9, 2, 4)
    origins = read_tables(path).origins
    assert origins["trainer.epochs"] == str(folder / "base" / "long.toml")
    assert origins["data.loader.batch_size"] == str(folder / "small.toml")
    assert origins["optimizer.params.lr"] == str(folder / "base" / "base.toml")


def test_what_was_extended_is_what_is_saved_with_the_run(folder):
    path = write(folder / "run.toml", 'extends = "base/base.toml"\n')
    assert "extends" not in load_config(path).to_dict()
    assert load_config(load_config(path).to_dict()) == load_config(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('extends = "nowhere.toml"', r"there is no config file .*nowhere.toml, which .*run.toml extends"),
        ('extends = "run.toml"', r"cyclic extends: .*run.toml extends .*run.toml"),
        ("extends = 3", r"extends must be the path of a config, or a list of them, got 3"),
        ('extends = [""]', r"extends must be the path of a config"),
        ('extends = "bad.toml"', r"bad.toml is not valid TOML"),
    ],
)
def test_base_that_cannot_be_read_is_an_error(folder, text, words):
    write(folder / "bad.toml", "[model\n")
    with pytest.raises(ConfigError, match=words):
        load_config(write(folder / "run.toml", text + "\n"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_config_and_its_base_from_a_windows_program_are_read(folder, encoding):
    base = (folder / "base" / "base.toml").read_text(encoding="utf-8")
    expected = load_config(write(folder / "run.toml", 'extends = "base/base.toml"\n'))
    (folder / "base" / "base.toml").write_bytes(base.replace("\n", "\r\n").encode(encoding))
    (folder / "run.toml").write_bytes('extends = "base/base.toml"\r\n'.encode(encoding))
    assert load_config(folder / "run.toml") == expected


def test_config_in_latin_1_is_an_error_that_says_so(folder):
    (folder / "run.toml").write_bytes("# für alle\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"config .*run.toml is not UTF-8: byte 0xfc in line 1.*save it as UTF-8"):
        load_config(folder / "run.toml")


def test_circle_over_two_files_is_named(folder):
    write(folder / "a.toml", 'extends = "b.toml"\n')
    write(folder / "b.toml", 'extends = "a.toml"\n')
    with pytest.raises(ConfigError, match=r"a.toml extends .*b.toml extends .*a.toml; remove extends"):
        load_config(folder / "a.toml")


def test_extends_in_tables_or_overrides_is_an_unknown_key(tables):
    with pytest.raises(ConfigError, match='extends = "x.toml": unknown key'):
        load_config(tables, ["extends=x.toml"])


# ---- show and init ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_shown_config_reads_as_the_same_config(path):
    config = load_config(path)
    assert load_config(tomllib.loads(as_toml(config.to_dict()))) == config


def test_values_of_every_kind_are_toml():
    values = {
        "text": 'a "b" \\ \n\x7f ä',
        "flag": True,
        "number": 1e-7,
        "whole": -3,
        "endless": float("inf"),
        "list": [1, [2.5, "x"], {"a b": 1, "c": []}],
        "table": {"inner": {"deep": 1}, "odd key": 2},
    }
    assert tomllib.loads(as_toml(values)) == values
    assert tomllib.loads(as_toml(values, {"text": "here"})) == values


def test_show_says_where_each_value_is_from(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    write(folder / "run.toml", 'extends = "base/base.toml"\n[trainer]\nseed = 5\n')
    assert main(["config", "show", "run.toml", "-s", "optimizer.params.lr=0.3"]) == 0
    lines = capsys.readouterr().out.splitlines()

    def origin_of(start):
        (line,) = (line for line in lines if line.startswith(start))
        return line.partition(" # ")[2]

    assert origin_of("seed = 5") == "run.toml"
    assert origin_of("momentum = 0.9") == "base/base.toml"
    assert origin_of("lr = 0.3") == "-s"
    assert origin_of("hflip = 0.0") == "default"


def test_show_of_a_wrong_config_exits_2(folder, capsys):
    assert main(["config", "show", str(folder / "base" / "base.toml"), "-s", "trainer.sed=1"]) == 2
    assert "trainer.sed = 1: unknown key" in capsys.readouterr().err


def test_check_notes_a_root_that_is_not_here(folder, tmp_path, capsys):
    path = str(folder / "base" / "base.toml")
    for root, noted in ((tmp_path, False), (tmp_path / "nowhere", True)):
        assert main(["config", "check", path, "-s", f"data.dataset.root={root}"]) == 0
        assert (f'note: data.dataset.root = "{root}" does not exist here' in capsys.readouterr().out) is noted


def test_check_tells_mistakes_and_exits_1(folder, capsys):
    path = str(folder / "base" / "base.toml")
    assert main(["config", "check", path]) == 0
    assert "base.toml: no mistakes found" in capsys.readouterr().out
    assert main(["config", "check", path, "-s", "model.name=tiny", "-s", "trainer.sed=1"]) == 1
    out = capsys.readouterr().out
    assert "has 2 problems" in out
    assert "trainer.sed = 1: unknown key. Did you mean 'trainer.seed'?" in out


def test_init_writes_a_config_without_mistakes_and_overwrites_nothing(folder, capsys):
    path = folder / "new.toml"
    assert main(["config", "init", str(path), "--model", "pidnet_s", "--data", "CityscapesClass"]) == 0
    config = load_config(path)
    assert (config.model.name, config.data.dataset.name) == ("pidnet_s", "CityscapesClass")
    before = path.read_text()
    assert main(["config", "init", str(path)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert path.read_text() == before


def test_init_with_an_unknown_name_suggests_the_nearest(folder, capsys):
    assert main(["config", "init", str(folder / "new.toml"), "--model", "enett"]) == 2
    assert "Did you mean 'enet'" in capsys.readouterr().err
    assert not (folder / "new.toml").exists()


@pytest.mark.parametrize("model", ["enet", "unet_resnet34", "stdc1", "pidnet_s", "segformer_b0", "upernet"])
def test_starting_config_of_any_network_is_right_with_its_comments_taken_in(model):
    text = starting_config(model, "CityscapesClass", "run.toml")
    load_config(tomllib.loads(text))
    # a line that holds a setting behind a comment sign, not a sentence
    lines = [line.removeprefix("# ") if " = " in line and line.startswith("# ") else line for line in text.splitlines()]
    config = load_config(tomllib.loads("\n".join(lines)))
    assert config.model.aux_loss is (True if len(MODELS.entry(model).outputs) > 1 else None)


@pytest.mark.parametrize("dataset", [n for n in DATASETS.names() if n not in ("Stripes", "Unified")])
def test_starting_config_of_any_dataset_is_right(dataset):
    config = load_config(tomllib.loads(starting_config("enet", dataset, "run.toml")))
    assert config.data.dataset.name == dataset


# ---- schema and page -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_schema_takes_every_sample_as_it_stands_and_with_its_bases(validator, path):
    assert not list(validator.iter_errors(tomllib.loads(path.read_text(encoding="utf-8"))))
    assert not list(validator.iter_errors(load_config(path).to_dict()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["trainer"].update(sed=1), "'sed' was unexpected"),
        (lambda t: t["trainer"].update(epochs=0), "0 is less than the minimum of 1"),
        (lambda t: t["trainer"].update(device="gpu"), "'gpu' is not one of"),
        (lambda t: t["data"]["transform"]["train"].update(size=[1, 2, 3]), "not valid under any of the given schemas"),
        (lambda t: t["data"]["augment"].update(hflip="yes"), "'yes' is not of type 'number'"),
        (lambda t: t["data"]["augment"].update(color_jitter=[1, 2]), "is too short"),
        (lambda t: t.update(criterion={"outputs": {"boundary": {"factor": 1}}}), "'factor' was unexpected"),
        (lambda t: t.pop("model"), "not valid under any of the given schemas"),
    ],
)
def test_schema_refuses_what_the_config_does(validator, tables, change, words):
    assert not list(validator.iter_errors(tables))
    change(tables)
    errors = list(validator.iter_errors(tables))
    messages = [error.message for found in errors for error in (found, *found.context)]
    assert any(words in message for message in messages), messages
    with pytest.raises(ConfigError):
        load_config(tables)


def test_page_and_schema_are_those_of_the_code():
    script = runpy.run_path(str(ROOT / "scripts" / "write_config_reference.py"))
    for name, content in script["pages"]().items():
        assert (ROOT / name).read_text(encoding="utf-8") == content, f"{name} is old: hatch run config-reference"


def registered(registry):
    return [name for name in registry.names() if registry.origin(name).startswith("seg-")]


@pytest.mark.parametrize("registry", [DATASETS, PREDICTORS, LOSSES, LOGGERS], ids=lambda registry: registry.noun)
def test_every_parameter_of_what_we_register_is_described(registry):
    assert registered(registry)
    for name in registered(registry):
        bare = [option.name for option in documented_options(registry.get(name)) if not option.meaning]
        assert not bare, f"describe {', '.join(bare)} under Args: in the docstring of {name}"


def test_page_lists_every_option_of_datasets_predictors_and_class_weights():
    page = reference_page()
    for registry, owned in ((DATASETS, DATASET.owned), (PREDICTORS, PREDICTOR.owned)):
        for name in registered(registry):
            assert f"`{name}`" in page
            for option in documented_options(registry.get(name), owned):
                default = "required" if option.is_required else f"`{shown_default(option)}`"
                meaning = option.meaning.replace("|", "\\|")
                assert f"| `{option.name}` | {default} | {meaning} |" in page, (name, option.name)
    for name, (formula, options) in describe_schemes().items():
        assert f"- `{name}`: {formula}" in page
        assert all(
            f"`{option.name}` (default `{shown_default(option)}`): {option.meaning}" in page for option in options
        )


def test_page_leaves_out_names_that_are_not_of_the_packages():
    assert "Stripes" in DATASETS
    assert "Stripes" not in reference_page()


def test_schema_is_printed(capsys):
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()


def test_page_explains_every_key(tables):
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    for section in json_schema(with_none=False)["$defs"].values():
        for key, value in section["properties"].items():
            if "$ref" not in value and not isinstance(value.get("additionalProperties"), dict):
                assert f"| `{key}` |" in page
