"""Keys and values of other toolkits: the keys that messages name exist, and following them is right."""

import re

import pytest

from seg_core.errors import ConfigError, InvalidTypeError
from seg_train import load_config
from seg_train.config.json_schema import json_schema
from seg_train.config.other_names import _ADVICE, _KEYS, DATASET_PARAMS, LOSS_PARAMS, MODEL_PARAMS, advice_on_key
from seg_train.config.schema import all_keys


def problem_of(tables, override):
    with pytest.raises(ConfigError) as caught:
        load_config(tables, [override])
    return str(caught.value)


def test_every_key_that_is_named_exists():
    keys = set(all_keys())
    named = {key for text in (*_ADVICE.values(), *MODEL_PARAMS.values(), *LOSS_PARAMS.values()) for key in _full(text)}
    for key in {*_KEYS, *named}:
        above, dot, _ = key.partition(".params.")
        assert key in keys or (dot and f"{above}.params" in keys), key
    assert not _ADVICE.keys() & {word for words in _KEYS.values() for word in words}


def _full(text):
    return re.findall(r"\b(?:model|data|criterion|optimizer|lr_scheduler|trainer|evaluation)\.[a-z_.]+[a-z]", text)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainer.learning_rate=0.1", "unknown key. Write optimizer.params.lr = 0.1"),
        ("optimizer.momentum=0.9", "unknown key. Write optimizer.params.momentum = 0.9"),
        ("trainer.max_iters=3", "unknown key. Write trainer.steps = 3"),
        ("data.crop_size=[32, 24]", "unknown key. Write data.transform.train.size"),
        ("trainer.devices=2", "Remove it: there is one process per GPU, started with: torchrun"),
        ("trainer.amp=true", 'Write trainer.precision = "bf16", "fp16" on a GPU'),
        ("model.pretrained=true", 'Write model.weights = "DEFAULT"'),
        ("data.dataset.reduce_zero_label=true", 'for true write data.dataset.params.label_map = { 0 = "ignore"'),
        ("trainer.batch_size=4", "Did you mean 'data.loader.batch_size'?"),
        ('model="enet"', 'model = "enet": must be a table of keys; write model.name = "enet"'),
        ('optimizer="AdamW"', 'optimizer = "AdamW": must be a table of keys; write optimizer.name = "AdamW"'),
        ("trainer.device=1", 'write "cuda" and choose the GPU by its number: CUDA_VISIBLE_DEVICES=1 seg train CONFIG'),
        ("trainer.device=gpu", 'write "cuda", or "auto" for an available one'),
        ("trainer.precision=16-mixed", "or 'fp16'; write \"fp16\""),
        ("trainer.precision=bf16-mixed", '; write "bf16"'),
        ("model.params.pretrained=true", 'tiny_net has no such parameter. Write model.weights = "DEFAULT"'),
        (
            "criterion={name='FocalLoss', params={pos_weight=2}}",
            "Use criterion.class_weights, one number per class, or",
        ),
        ("criterion={name='DiceLoss', params={mode='binary'}}", "Remove it: the task is that of the dataset"),
        (
            "lr_scheduler={name='MultiStepLR', params={milestones=3}}",
            "correct milestones = 3; lists are written as [30, 60], numbers without quotes",
        ),
        ("optimizer.params.lr=-1", "Invalid learning rate: -1; correct lr = -1"),
        ("data.dataset.params.names=[a, b]", """write -s 'data.dataset.params.names=["a", "b"]'"""),
        ("data.dataset.params.images={split}/x", """write -s 'data.dataset.params.images="{split}/x"'"""),
        ('data.dataset.root="D:\\new\\train"', """write "D:/new/train", or 'D:\\new\\train' in single quotes"""),
    ],
)
def test_message_says_what_to_write(tables, override, words):
    assert words in problem_of(tables, override)


@pytest.mark.parametrize("overrides", ["trainer.epochs=3", {"trainer": {"epochs": 3}}, {"trainer.epochs": 3}])
def test_overrides_that_are_no_list_are_told_as_a_list(tables, overrides):
    with pytest.raises(ConfigError, match=r'must be a list of strings, such as \["trainer.epochs=3"\]'):
        load_config(tables, overrides)
    assert load_config(tables, ["trainer.epochs=3"]).trainer.epochs == 3


def test_params_of_other_datasets_are_told_for_folders(tmp_path):
    tables = {
        "model": {"name": "tiny_net"},
        "data": {"dataset": {"name": "FolderDataset", "root": str(tmp_path)}},
        "trainer": {"steps": 1},
    }
    for name in ("reduce_zero_label", "classes", "ignore_index"):
        assert DATASET_PARAMS[name] in problem_of(tables, f"data.dataset.params.{name}=0").replace(
            "Use", "use"
        ).replace("Remove", "remove")


def test_params_that_a_dataset_does_not_have_are_not_advised(tables):
    tables["data"]["dataset"] = {"name": "VOC", "root": "voc"}
    assert "classes = 0: VOC has no such parameter. Allowed" in problem_of(tables, "data.dataset.params.classes=0")


def test_losses_are_checked_for_the_task_of_the_dataset_if_it_is_known(tables):
    focal, binary = "criterion={name='FocalLoss', params={alpha=0.5}}", "criterion.name=BinaryCrossEntropyLoss"
    both = "criterion={name='CombinedLoss', params={losses=[{name='BinaryCrossEntropyLoss'}, {name='DiceLoss'}]}}"
    for override in (focal, binary, both):  # which are right for one of the tasks
        assert load_config(tables, [override]).criterion.name
    tables["data"]["dataset"] = {"name": "VOC", "root": "voc"}
    assert "one factor per class (in a config criterion.class_weights)" in problem_of(tables, focal)
    for override in (binary, both):
        assert '.name = "CrossEntropyLoss"' in problem_of(tables, override)


def test_word_that_no_toolkit_has_gets_no_advice():
    assert advice_on_key("nothing_like_it") is None


def test_scheduler_that_ends_before_the_run_is_an_error_in_a_new_run_only(tables):
    tables["trainer"] = {**tables["trainer"], "steps": 20}
    del tables["trainer"]["epochs"]
    tables["lr_scheduler"] = {"name": "PolynomialLR", "params": {"total_iters": 9}}
    words = "lr_scheduler.params.total_iters = 9: PolynomialLR ends before the run, which has 20 steps, and the learn"
    assert words in problem_of(tables, "trainer.seed=1")
    assert load_config(tables, stored=True).lr_scheduler.params == {"total_iters": 9}
    assert load_config(tables, ["trainer.steps=9"]).trainer.steps == 9


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trainer.accelerator=gpu", 'Write trainer.device = "cuda"'),
        ("trainer.accelerator=tpu", 'Write trainer.device = "auto"'),
        ("trainer.steps=None", 'write "none" to unset it'),
        ("log.tensorboard=none", "write log.tensorboard.enabled = false"),
        ("log.tensorboard=false", "write log.tensorboard.enabled = false"),
        ("data=CamVid", 'write data.dataset.name = "CamVid"'),
        ("model=enet", 'write model.name = "enet"'),
    ],
)
def test_words_for_no_value_and_for_sections_tell_what_to_write(tables, override, told):
    with pytest.raises(ConfigError) as caught:
        load_config(tables, [override])
    assert told in str(caught.value)


@pytest.mark.parametrize("word", ["None", "null"])
def test_line_with_the_null_of_another_format_tells_none(tmp_path, word):
    path = tmp_path / "run.toml"
    path.write_text(f"[trainer]\nepochs = 2\nsteps = {word}\n")
    with pytest.raises(ConfigError, match='write line 3 as: # steps is left out, .*: steps = "none"'):
        load_config(path)


def test_length_given_twice_tells_two_ways(tables):
    with pytest.raises(ConfigError, match=r"-s trainer.epochs=none or .*--epochs 2 or --steps 3 of seg train"):
        load_config(tables, ["trainer.steps=3"])
    assert load_config(tables, ["trainer.steps=3", "trainer.epochs=none"]).trainer.steps == 3
    assert load_config(tables, steps=3).trainer.epochs is None


@pytest.mark.parametrize("source", [None, 3, ["a.toml"]])
def test_what_is_no_config_is_an_error_of_type(source):
    with pytest.raises(InvalidTypeError, match=f"got {type(source).__name__}"):
        load_config(source)


def test_loaded_config_tells_how_to_use_it(tables):
    config = load_config(tables)
    with pytest.raises(InvalidTypeError, match=r"is loaded already; .*config.to_dict\(\)"):
        load_config(config)
    assert load_config(config.to_dict()) == config


def test_schema_of_a_required_name_takes_no_none():
    properties = json_schema()["$defs"]["ModelSection"]["properties"]
    assert properties["name"]["not"] == {"const": "none"}
    assert "not" not in properties["weights"]
