import copy
import tomllib

import pytest
import tomli_w

from seg_core.errors import ConfigError
from seg_core.registry import OPTIMIZERS, SCHEDULES
from seg_train import TrainConfig, load_config


def problems_of(tables, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_config(tables, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_load_config_minimal_fills_in_defaults():
    config = load_config(
        {"model": {"name": "tiny_net"}, "data": {"dataset": {"name": "Stripes"}}, "trainer": {"steps": 5}}
    )
    assert isinstance(config, TrainConfig)
    assert config.criterion.name == "CrossEntropyLoss"
    assert config.data.dataset.train_split == "train"
    assert config.lr_scheduler is None
    assert config.trainer.channels_last


def test_load_config_reads_a_file_and_what_to_dict_writes(tmp_path, tables):
    path = tmp_path / "run.toml"
    path.write_text(tomli_w.dumps(tables))
    config = load_config(path)
    assert config.data.transform.train.size == (32, 24)
    assert load_config(tomllib.loads(tomli_w.dumps(config.to_dict()))) == config


def test_load_config_leaves_the_tables_as_they_are(tables):
    before = copy.deepcopy(tables)
    load_config(tables, ["trainer.epochs=9"])
    assert tables == before


def test_config_does_not_change(tables):
    with pytest.raises(Exception, match="frozen"):
        load_config(tables).trainer.epochs = 3


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("trainer.epochs=7", lambda c: c.trainer.epochs, 7),
        ("optimizer.params.lr=1e-3", lambda c: c.optimizer.params["lr"], 1e-3),
        ("optimizer.params.weight_decay = 0.1", lambda c: c.optimizer.params["weight_decay"], 0.1),
        ("data.transform.train.size=[48, 64]", lambda c: c.data.transform.train.size, (48, 64)),
        ("data.transform.train.size=48", lambda c: c.data.transform.train.size, (48, 48)),
        ("data.augment.rotation_range=[-10, 10.5]", lambda c: c.data.augment.rotation_range, (-10.0, 10.5)),
        ("data.augment.blur=2", lambda c: c.data.augment.blur, 2.0),
        ("data.augment.blur=[1, 2]", lambda c: c.data.augment.blur, (1.0, 2.0)),
        (
            "data.augment.color_jitter=[0.4, [1, 2], 0]",
            lambda c: c.data.augment.color_jitter,
            (0.4, (1.0, 2.0), 0.0),
        ),
        ("optimizer.name=SGD", lambda c: c.optimizer.name, "SGD"),
        ('optimizer.name="SGD"', lambda c: c.optimizer.name, "SGD"),
        ("paths.output=/some where/runs", lambda c: c.paths.output, "/some where/runs"),
        ("paths.run=2025-01-01", lambda c: c.paths.run, "2025-01-01"),
        ("trainer.channels_last=false", lambda c: c.trainer.channels_last, False),
        ("criterion.class_weights=[1, 2.5, 0]", lambda c: c.criterion.class_weights, (1.0, 2.5, 0.0)),
        ("log.local.max_drawing_share=0.5", lambda c: c.log["local"]["max_drawing_share"], 0.5),
    ],
)
def test_overrides_set_one_key(tables, override, read, value):
    assert read(load_config(tables, [override])) == value


def test_network_on_a_backbone_of_ones_choice_is_taken(tables):
    config = load_config(tables, ["model.name=upernet", "model.params.backbone=efficientnet_b0"])
    assert config.model.params == {"backbone": "efficientnet_b0"}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainer.epochs", "-s trainer.epochs: must read key.path=value"),
        ("=3", "-s =3: must read key.path=value"),
        ("trainer..epochs=3", "must read key.path=value"),
        ("data.transform.train.size=[48", "-s data.transform.train.size=[48: the value is not TOML"),
        ("model.name.x=3", "-s model.name.x=3: model.name is a value and has no keys"),
    ],
)
def test_bad_override_says_how_to_write_it(tables, override, words):
    assert words in problems_of(tables, [override])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainer.epoch=3", "trainer.epoch = 3: unknown key. Did you mean 'trainer.epochs'?"),
        ("trainer.lr=3", "trainer.lr = 3: unknown key. Allowed here: epochs, steps"),
        ("trainer.batch_size=3", "unknown key. Did you mean 'data.loader.batch_size'?"),
        ("optimiser.name=SGD", "optimiser: unknown key. Did you mean 'optimizer'?"),
        ("trainer.epochs=0", "trainer.epochs = 0: must be greater than or equal to 1"),
        ("trainer.epochs=many", 'trainer.epochs = "many": must be a valid integer'),
        ("trainer.seed=1.5", "trainer.seed = 1.5: must be a valid integer"),
        ("trainer.steps=5", "trainer: give exactly one of trainer.epochs and trainer.steps, got epochs=2 and steps=5"),
        ("trainer.precision=fp17", "trainer.precision = \"fp17\": must be 'fp32' or 'bf16'"),
        ("trainer.device=tpu", "trainer.device = \"tpu\": must be 'auto', 'cpu', 'cuda' or 'mps'"),
        ("trainer.channels_last=1", "trainer.channels_last = 1: must be a valid boolean"),
        ("data.augment.hflip=2", "data.augment.hflip = 2: must be less than or equal to 1"),
        ("data.augment.zoom_range=2", "data.augment.zoom_range = 2: must be two numbers, the lower one first"),
        ("data.augment.zoom_range=[0, 1]", "data.augment: zoom_range must be (least, greatest) in factors from 0.01"),
        ("data.augment.blur=[1, 2, 3]", "data.augment.blur = [1, 2, 3]: must be a number, or two, the lower one first"),
        ("data.augment.color_jitter=0.4", "must be brightness, contrast, saturation and, where wanted, hue, such as"),
        ("data.augment.color_jitter=[0, 0, 0, 1]", "data.augment: color_jitter: hue must be"),
        ("data.transform.train.size=[1, 2, 3]", "data.transform.train.size = [1, 2, 3]: must be pixels above 0"),
        ("data.transform.train.scale_range=[2, 1]", "must be two factors above 0, the lower one first"),
        ("data.transform.val.scale_range=[0.5, 2]", "val.scale_range must hold one factor twice"),
        ("data.transform.val={scale_range=[0.5, 0.5]}", "data.transform.val: scale_range needs size"),
        ("data.loader=3", "data.loader = 3: must be"),
        ("paths.run=a/b", 'paths.run = "a/b": must be the name of one folder'),
        ("model.name=tiny_nett", "model.name = \"tiny_nett\": unknown model 'tiny_nett'. Did you mean 'tiny_net'?"),
        ("model.params.widht=3", "model.params.widht = 3: tiny_net has no such parameter. Did you mean 'width'?"),
        ("model.params.num_classes=3", "model.params.num_classes = 3: not set here; it comes from the data set"),
        ("model.name=upernet", 'model.params.backbone is missing: upernet stands on one; name it, as "resnet50"'),
        (
            "data.dataset.name=Stripe",
            "data.dataset.name = \"Stripe\": unknown data set 'Stripe'. Did you mean",
        ),
        ("data.dataset.params.len=3", "data.dataset.params.len = 3: Stripes has no such parameter"),
        ("data.dataset.val_split=dev", 'data.dataset.val_split = "dev": Stripes has the splits train, val'),
        ("criterion.name=CrossEntropy", "criterion.name = \"CrossEntropy\": unknown loss 'CrossEntropy'. Did you mean"),
        (
            "criterion.class_weights=enett",
            "criterion.class_weights = \"enett\": unknown scheme 'enett' for",
        ),
        ("criterion.class_weights=[1, -1]", 'must be "none", the name of a scheme such as "enet", or a list'),
        ("criterion.params.label_smoothing=2", "criterion.params: label_smoothing must lie in 0 to 1, got 2"),
        ("criterion.params.weight=[1]", "criterion.params.weight = [1]: not set here; set criterion.class_weights"),
        ("optimizer.name=Adamw", "optimizer.name = \"Adamw\": unknown optimizer 'Adamw'. Did you mean 'AdamW'"),
        ("optimizer.params.momentum=0.9", "optimizer.params.momentum = 0.9: AdamW has no such parameter"),
        ("optimizer.params.lr=-1", "optimizer.params: Invalid learning rate: -1"),
        ("lr_scheduler.name=PolyLR", "lr_scheduler.name = \"PolyLR\": unknown LR schedule 'PolyLR'. Did you mean"),
        ("lr_scheduler.name=StepLR", "lr_scheduler.params: StepLR needs step_size; add to lr_scheduler.params"),
        ("lr_scheduler.params.gamma=3", "lr_scheduler.params.gamma = 3: PolynomialLR has no such parameter"),
        ("lr_scheduler.interval=batch", "lr_scheduler.interval = \"batch\": must be 'step' or 'epoch'"),
        ("log.locl.x=1", "log.locl = \"locl\": unknown logger 'locl'. Did you mean 'local'?"),
        ("log.local.plots=true", "log.local.plots = True: local has no such parameter"),
    ],
)
def test_bad_value_names_key_value_and_what_is_allowed(tables, override, words):
    text = problems_of(tables, [override])
    assert words in text
    assert "problems" not in text, "one mistake is one problem"


def test_missing_keys_are_named():
    text = problems_of({"data": {"dataset": {}}, "trainer": {"epochs": 1}})
    assert "model is missing: it has no default" in text
    assert "data.dataset.name is missing: it has no default" in text


def test_wrong_number_of_class_weights_is_found_before_building(tables):
    tables["data"]["dataset"]["name"] = "CamVid"
    tables["data"]["dataset"]["root"] = "nowhere"
    tables["criterion"] = {"class_weights": [1.0, 2.0]}
    assert "criterion.class_weights has 2 numbers but CamVid has 11 classes" in problems_of(tables)


def test_missing_root_is_found_before_building(tables):
    tables["data"]["dataset"]["name"] = "CamVid"
    assert "data.dataset.root is missing: CamVid reads files; name their folder" in problems_of(tables)


def test_metadata_that_cannot_be_read_is_a_problem(tables):
    tables["data"]["dataset"] = {
        "name": "FolderDataset",
        "root": "x",
        "params": {"metadata": {"name": "mine", "lables": []}},
    }
    assert "data.dataset.params.metadata: " in problems_of(tables)


def test_ten_mistakes_are_ten_problems_at_once(tables):
    overrides = [
        "model.name=tiny",
        "data.dataset.params.lenght=3",
        "data.loader.batch_sise=4",
        "data.augment.hflip=3",
        "criterion.class_weights=what",
        "optimizer.params.learning_rate=0.1",
        "lr_scheduler.name=Polynomial",
        "trainer.seed=-1",
        "paths.ouput=here",
        "log.wnadb.x=1",
    ]
    text = problems_of(tables, overrides)
    assert text.startswith("the config has 10 problems:")
    for key in ("model.name", "dataset.params.lenght", "loader.batch_sise", "augment.hflip", "criterion.class_weights"):
        assert key in text
    for key in ("optimizer.params.learning_rate", "lr_scheduler.name", "trainer.seed", "paths.ouput", "log.wnadb"):
        assert key in text


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[model\n", "is not valid TOML"), (b"\xff\xfe", "cannot read the config"), (None, "there is no config file")],
)
def test_unreadable_file_is_named(tmp_path, content, words):
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    text = problems_of(path)
    assert words in text
    assert str(path) in text


def test_digest_ignores_what_does_not_change_learning(tables):
    config = load_config(tables)
    same = load_config(tables, ["data.loader.num_workers=3", "paths.run=other", "trainer.snapshots=0", "log.local={}"])
    other = load_config(tables, ["optimizer.params.lr=0.1"])
    assert same.digest() == config.digest() != other.digest()


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_optimizer_is_accepted(tables, name):
    del tables["optimizer"]["params"]
    assert load_config(tables, [f"optimizer.name={name}"]).optimizer.name == name


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_every_schedule_is_accepted(tables, name):
    needed = {
        "ChainedScheduler": {"schedules": [{"name": "PolynomialLR"}]},
        "CosineAnnealingWarmRestarts": {"T_0": 3},
        "CyclicLR": {"base_lr": 0.1, "max_lr": 0.2},
        "ExponentialLR": {"gamma": 0.9},
        "LambdaLR": {"lr_lambda": "math:cos"},
        "MultiStepLR": {"milestones": [2, 4]},
        "MultiplicativeLR": {"lr_lambda": "math:cos"},
        "SequentialLR": {"schedules": [{"name": "ConstantLR"}, {"name": "PolynomialLR"}], "milestones": [3]},
        "StepLR": {"step_size": 2},
    }
    tables["lr_scheduler"] = {"name": name, "params": needed.get(name, {})}
    assert load_config(tables).lr_scheduler.name == name
