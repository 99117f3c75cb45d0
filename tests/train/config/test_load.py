import copy
import functools
import tomllib

import pytest
import tomli_w

from seg_core.errors import ConfigError
from seg_core.registry import MODELS, OPTIMIZERS, SCHEDULERS
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
        (
            "data.transform.train.resize={shorter_side=512}",
            lambda c: c.data.transform.train.resize.model_dump(exclude_none=True),
            {"shorter_side": 512},
        ),
        ("data.transform.train.resize.size=48", lambda c: c.data.transform.train.resize.size, (48, 48)),
        ("data.transform.train.cat_max_ratio=0.75", lambda c: c.data.transform.train.cat_max_ratio, 0.75),
        ("data.augment.brightness_shift=[0, 0.5]", lambda c: c.data.augment.brightness_shift, (0.0, 0.5)),
        ("data.augment.color_jitter_probability=0.5", lambda c: c.data.augment.color_jitter_probability, 0.5),
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
        ("trainer.epochs", "-s trainer.epochs: must be key.path=value"),
        ("=3", "-s =3: must be key.path=value"),
        ("trainer..epochs=3", "must be key.path=value"),
        ("data.transform.train.size=[48", "-s data.transform.train.size=[48: the value is not TOML"),
        ("model.name.x=3", "-s model.name.x=3: model.name is a value, not a table"),
    ],
)
def test_bad_override_says_how_to_write_it(tables, override, words):
    assert words in problems_of(tables, [override])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainer.epoch=3", "trainer.epoch = 3: unknown key. Did you mean 'trainer.epochs'?"),
        ("trainer.lr=3", "trainer.lr = 3: unknown key. Write optimizer.params.lr = 3"),
        ("trainer.batch_size=3", "unknown key. Did you mean 'data.loader.batch_size'?"),
        ("optimiser.name=SGD", "optimiser: unknown key. Did you mean 'optimizer'?"),
        ("trainer.epochs=0", "trainer.epochs = 0: must be greater than or equal to 1"),
        ("trainer.epochs=many", 'trainer.epochs = "many": must be a valid integer'),
        ("trainer.seed=1.5", "trainer.seed = 1.5: must be a valid integer"),
        (
            "trainer.steps=5",
            "trainer.steps, got epochs=2 and steps=5; unset one with -s trainer.epochs=none or "
            "-s trainer.steps=none, or give the length as --epochs 2 or --steps 5 of seg train",
        ),
        ("trainer.precision=fp17", "trainer.precision = \"fp17\": must be 'auto', 'fp32', 'bf16' or 'fp16'"),
        ("trainer.device=tpu", "trainer.device = \"tpu\": must be 'auto', 'cpu', 'cuda' or 'mps'"),
        ("trainer.channels_last=1", "trainer.channels_last = 1: must be a valid boolean"),
        ("data.augment.hflip=2", "data.augment.hflip = 2: must be less than or equal to 1"),
        ("data.augment.zoom_range=2", "data.augment.zoom_range = 2: must be two numbers, the smaller one first"),
        ("data.augment.zoom_range=[0, 1]", "data.augment: zoom_range must be (minimum, maximum) in factors from 0.01"),
        ("data.augment.blur=[1, 2, 3]", "blur = [1, 2, 3]: must be a number, or two, the smaller one first"),
        ("data.augment.color_jitter=0.4", "must be brightness, contrast, saturation and optionally hue, such as"),
        ("data.augment.color_jitter=[0, 0, 0, 1]", "data.augment: color_jitter: hue must be"),
        ("data.transform.train.size=[1, 2, 3]", "data.transform.train.size = [1, 2, 3]: must be pixels above 0"),
        ("data.transform.train.scale_range=[2, 1]", "must be two factors above 0, the smaller one first"),
        ("data.transform.train={scale_range=[0.5, 0.5]}", "data.transform.train: scale_range needs size"),
        (
            "data.transform.train.resize={}",
            "data.transform.train.resize: give one of scale, shorter_side, longer_side and size, got none",
        ),
        (
            "data.transform.train.resize={shorter_side=4, size=4}",
            "train.resize: give one of scale, shorter_side, longer_side and size, got shorter_side, size",
        ),
        ("data.transform.train.resize.shorter=4", "resize.shorter = 4: unknown key. Did you mean"),
        ("data.transform.train.resize=512", "data.transform.train.resize = 512: must be"),
        (
            "data.transform.train.resize.shorter_side=0",
            "data.transform.train.resize.shorter_side = 0: must be greater than or equal to 1",
        ),
        ("data.transform.train.cat_max_ratio=0", "data.transform.train.cat_max_ratio = 0: must be greater than 0"),
        ("data.transform.train.cat_max_ratio=1.1", "cat_max_ratio = 1.1: must be less than or equal to 1"),
        ("data.transform.train={cat_max_ratio=0.5}", "data.transform.train: cat_max_ratio needs size"),
        ("data.augment.brightness_shift=2", "data.augment: brightness_shift must be (minimum, maximum) in -1 to 1"),
        (
            "data.augment.color_jitter_probability=2",
            "data.augment.color_jitter_probability = 2: must be less than or equal to 1",
        ),
        ("evaluation.resize={}", "evaluation.resize: give one of scale, shorter_side, longer_side and size, got none"),
        ("evaluation.resize={scale=1, size=4}", "longer_side and size, got scale, size"),
        ("evaluation.resize.scale=0", "evaluation.resize.scale = 0: must be greater than 0"),
        ("evaluation.resize.size=[0, 4]", "evaluation.resize.size = [0, 4]: must be pixels above 0"),
        ("evaluation.overlap=0.5", "evaluation: overlap = 0.5 needs tiles: set tile too"),
        ("evaluation.scales=[]", "evaluation.scales = []: must be a list of factors above 0"),
        ("evaluation={tile=4, predictor='labels'}", 'predictor = "labels" cannot be used together with tile'),
        ("evaluation={hflip=true, params={a=1}}", "params cannot be used together with hflip"),
        (
            "evaluation={monitor='val_loss', loss=false}",
            'evaluation.monitor = "val_loss": needs val_loss, but evaluation.loss = false',
        ),
        (
            "evaluation={monitor='val_loss', predictor='labels'}",
            'needs val_loss, but evaluation.predictor = "labels" does not compute it',
        ),
        ("evaluation.params.output=labels", "set evaluation.loss = false for labels only"),
        ("data.loader=3", "data.loader = 3: must be"),
        ("paths.run=a/b", 'paths.run = "a/b": must be the name of one folder'),
        ("model.name=tiny_nett", "model.name = \"tiny_nett\": unknown model 'tiny_nett'. Did you mean 'tiny_net'?"),
        ("model.params.widht=3", "model.params.widht = 3: tiny_net has no such parameter. Did you mean 'width'?"),
        ("model.params.num_classes=3", "model.params.num_classes = 3: not set here; it comes from the dataset"),
        ("model.name=upernet", 'model.params.backbone is missing: upernet needs one; name it, such as "resnet50"'),
        (
            "data.dataset.name=Stripe",
            "data.dataset.name = \"Stripe\": unknown dataset 'Stripe'. Did you mean",
        ),
        ("data.dataset.params.len=3", "data.dataset.params.len = 3: Stripes has no such parameter"),
        ("data.dataset.val_split=dev", 'data.dataset.val_split = "dev": Stripes has the splits train, val'),
        ("criterion.name=CrossEntropy", "criterion.name = \"CrossEntropy\": unknown loss 'CrossEntropy'. Did you mean"),
        (
            "criterion.class_weights=enett",
            "criterion.class_weights = \"enett\": unknown scheme 'enett' for",
        ),
        ("criterion.class_weights=[1, -1]", 'must be "none", the name of a scheme such as "enet", or a list'),
        ("criterion.params.label_smoothing=2", "criterion.params: label_smoothing must be between 0 and 1, got 2"),
        ("criterion.params.weight=[1]", "criterion.params.weight = [1]: not set here; set criterion.class_weights"),
        ("optimizer.name=Adamw", "optimizer.name = \"Adamw\": unknown optimizer 'Adamw'. Did you mean 'AdamW'"),
        ("optimizer.params.momentum=0.9", "optimizer.params.momentum = 0.9: AdamW has no such parameter"),
        ("optimizer.params.lr=-1", "optimizer.params: Invalid learning rate: -1"),
        ("lr_scheduler.name=PolyLR", "lr_scheduler.name = \"PolyLR\": unknown LR scheduler 'PolyLR'. Did you mean"),
        ("lr_scheduler.name=StepLR", "lr_scheduler.params.step_size is missing: StepLR has no default for it"),
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


@pytest.mark.parametrize("weights", ["[0, 0, 0]", "[0.0]", "[1e-60, 0]"])
def test_class_weights_that_are_all_zero_are_a_problem(tables, weights):
    text = problems_of(tables, [f"criterion.class_weights={weights}"])
    assert "criterion.class_weights must have at least one number above 0, got [0.0" in text


@pytest.mark.parametrize("weights", ["[1, inf, 1]", "[nan, 1, 1]"])
def test_class_weights_that_are_not_finite_are_a_problem(tables, weights):
    assert 'must be "none", the name of a scheme such as' in problems_of(tables, [f"criterion.class_weights={weights}"])
    text = problems_of(tables, ["criterion.class_weights=[1, 1e39, 1]"])
    assert "criterion.class_weights must hold one finite number of at least 0 per class, got [1.0, inf, 1.0]" in text


@pytest.mark.parametrize("name", ["metadata", "label_set"])
def test_one_class_is_a_problem(tables, name):
    if name == "metadata":
        dataset = {"name": "FolderDataset", "root": "x", "params": {"metadata": {"labels": ["road"]}}}
    else:
        dataset = {"name": "CamVid", "root": "x", "params": {"label_set": {"name": "one", "labels": ["road"]}}}
    tables["data"]["dataset"] = dataset
    text = problems_of(tables)
    assert f"data.dataset.params.{name}: " in text
    assert "has one class, 'road', but at least two are needed" in text
    assert 'labels = ["background", "road"]' in text
    dataset["params"][name]["labels"] = ["background", "road"]  # as advised
    assert load_config(tables)


def test_missing_root_is_found_before_building(tables):
    tables["data"]["dataset"]["name"] = "CamVid"
    assert "data.dataset.root is missing: CamVid needs its root folder" in problems_of(tables)


def test_metadata_that_cannot_be_read_is_a_problem(tables):
    tables["data"]["dataset"] = {
        "name": "FolderDataset",
        "root": "x",
        "params": {"metadata": {"name": "mine", "lables": []}},
    }
    assert "data.dataset.params.metadata: " in problems_of(tables)


def test_ten_mistakes_are_ten_problems_at_once_and_nothing_is_built(tables, tmp_path):
    built = []

    @functools.wraps(MODELS.get("tiny_net"))
    def watched_net(**options):
        built.append(options)

    MODELS.register("watched_net", watched_net)
    tables["model"]["name"] = "watched_net"
    overrides = [
        "model.aux_loss=maybe",
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
    first, *lines = text.splitlines()
    assert first == "the config has 10 problems:"
    for start in (
        '  model.aux_loss = "maybe": must be a valid boolean',
        "  data.dataset.params.lenght = 3: Stripes has no such parameter. Did you mean 'length'?",
        "  data.loader.batch_sise = 4: unknown key. Did you mean 'data.loader.batch_size'?",
        "  data.augment.hflip = 3: must be less than or equal to 1",
        "  criterion.class_weights = \"what\": unknown scheme 'what'",
        "  optimizer.params.learning_rate = 0.1: AdamW has no such parameter.",
        "  lr_scheduler.name = \"Polynomial\": unknown LR scheduler 'Polynomial'. Did you mean 'PolynomialLR'?",
        "  trainer.seed = -1: must be greater than or equal to 0",
        "  paths.ouput = \"here\": unknown key. Did you mean 'paths.output'?",
        "  log.wnadb = \"wnadb\": unknown logger 'wnadb'",
    ):
        assert sum(line.startswith(start) for line in lines) == 1, (start, text)
    assert len(lines) == 10
    assert not built
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[model\n", "is not valid TOML"),
        (b"\xff", "is not UTF-8: byte 0xff in line 1"),
        (None, "there is no config file"),
    ],
)
def test_unreadable_file_is_named(tmp_path, content, words):
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    text = problems_of(path)
    assert words in text
    assert str(path) in text


def test_what_does_not_change_learning_has_no_influence(tables):
    config = load_config(tables)
    same = load_config(tables, ["data.loader.num_workers=3", "paths.run=other", "trainer.snapshots=0", "log.local={}"])
    other = load_config(tables, ["optimizer.params.lr=0.1"])
    assert same.influences() == config.influences() != other.influences()


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_optimizer_is_accepted(tables, name):
    del tables["optimizer"]["params"]
    overrides = [f"optimizer.name={name}", *(["trainer.channels_last=false"] if name == "LBFGS" else [])]
    assert load_config(tables, overrides).optimizer.name == name


def test_lbfgs_on_channels_last_weights_is_a_problem(tables):
    assert "trainer.channels_last = true: torch's LBFGS" in problems_of(tables, ["optimizer={name = 'LBFGS'}"])


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_every_scheduler_is_accepted(tables, name):
    needed = {
        "ChainedScheduler": {"schedulers": [{"name": "PolynomialLR"}]},
        "CosineAnnealingWarmRestarts": {"T_0": 3},
        "CyclicLR": {"base_lr": 0.1, "max_lr": 0.2},
        "ExponentialLR": {"gamma": 0.9},
        "LambdaLR": {"lr_lambda": "math:cos"},
        "MultiStepLR": {"milestones": [2, 4]},
        "MultiplicativeLR": {"lr_lambda": "math:cos"},
        "SequentialLR": {"schedulers": [{"name": "ConstantLR"}, {"name": "PolynomialLR"}], "milestones": [3]},
        "StepLR": {"step_size": 2},
    }
    tables["lr_scheduler"] = {"name": name, "params": needed.get(name, {})}
    assert load_config(tables).lr_scheduler.name == name


# ---- what does not go together ---------------------------------------------------------------------------------------


@pytest.fixture
def pidnet(tables):
    tables["model"] = {"name": "pidnet_s", "aux_loss": True}
    tables["criterion"] = {"outputs": {"boundary": {"weight": 20.0, "name": "BoundaryLoss"}}}
    return tables


def test_losses_of_outputs_are_accepted(pidnet):
    config = load_config(pidnet, ["criterion.boundary_aware_weight=1", "criterion.aux_weight=0.2"])
    assert config.criterion.outputs["boundary"].weight == 20.0
    assert config.criterion.boundary_aware_weight == 1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["model.aux_loss=false"],
            "criterion.outputs.boundary: pidnet_s returns boundary only with auxiliary heads; "
            "set model.aux_loss = true",
        ),
        (["criterion.outputs={}"], "criterion.outputs.boundary is missing: pidnet_s returns boundary"),
        (
            ["criterion.outputs.bondary={weight = 1.0}"],
            "criterion.outputs.bondary: pidnet_s has no output 'bondary'. Did you mean 'boundary'",
        ),
        (
            ["criterion.outputs.boundary.name=BoundryLoss"],
            "criterion.outputs.boundary.name = \"BoundryLoss\": unknown loss 'BoundryLoss'. Did you mean 'Boundary",
        ),
        (
            ["criterion.outputs.boundary.params.widht=2"],
            "criterion.outputs.boundary.params.widht = 2: BoundaryLoss has no such parameter. Did you mean 'width'",
        ),
        # an output that is called as a key of its section is
        (["criterion.outputs.params.wieght=2"], "criterion.outputs.params.wieght = 2: unknown key. Did you mean"),
        (["criterion.outputs.boundary.wieght=2"], "criterion.outputs.boundary.wieght = 2: unknown key. Did you mean"),
        (["criterion.outputs.aux={params = {gamma = 1}}"], "criterion.outputs.aux: params need a loss"),
        (["criterion.outputs.boundary.weight=-1"], "criterion.outputs.boundary.weight = -1: must be greater than"),
    ],
)
def test_losses_of_outputs_that_do_not_fit_are_problems(pidnet, overrides, words):
    text = problems_of(pidnet, overrides)
    assert words in text
    assert "problems" not in text, "one mistake is one problem"


@pytest.mark.parametrize(
    ("model", "overrides", "words"),
    [
        ("fcn_resnet50", ["criterion.aux_weight=0.3"], "fcn_resnet50 returns aux only with auxiliary heads"),
        ("enet", ["criterion.aux_weight=0.3"], "criterion.aux_weight = 0.3: enet has no output 'aux'. It has: out"),
        ("enet", ["criterion.boundary_aware_weight=1"], "criterion.boundary_aware_weight = 1.0: enet has no output"),
    ],
)
def test_auxiliary_weight_without_auxiliary_head_is_a_problem(tables, model, overrides, words):
    assert words in problems_of(tables, [f"model.name={model}", *overrides])


def test_auxiliary_weight_of_its_default_or_0_is_none(tables):
    tables["model"]["name"] = "enet"
    for weight in (0.4, 0):
        assert load_config(tables, [f"criterion.aux_weight={weight}"]).criterion.aux_weight == weight


def test_batch_that_the_processes_cannot_share_is_a_problem(tables, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert "data.loader.batch_size = 4: must be a multiple of 3, the number of its micro-batches" in problems_of(tables)
    assert load_config(tables, ["data.loader.batch_size=6"]).data.loader.batch_size == 6


def test_combined_losses_are_checked_one_by_one(tables):
    losses = [
        {"name": "CrossEntropyLoss", "params": {"weight": [1.0]}},
        {"name": "FocalLoss", "params": {"gama": 1}},
        {"name": "DiceLos"},
        {"name": "DiceLoss", "params": {"smooth": -1}},
    ]
    tables["criterion"] = {"name": "CombinedLoss", "params": {"losses": losses}}
    text = problems_of(tables)
    for words in (
        "criterion.params.losses[0].params.weight = [1.0]: not set here; set criterion.class_weights",
        "criterion.params.losses[1].params.gama = 1: FocalLoss has no such parameter. Did you mean 'gamma'",
        "criterion.params.losses[2].name = \"DiceLos\": unknown loss 'DiceLos'. Did you mean 'DiceLoss'",
        "criterion.params.losses[3].params: smooth must be",
    ):
        assert words in text
    tables["criterion"]["params"]["losses"] = [{"name": "CrossEntropyLoss"}, {"name": "DiceLoss", "factor": 0.5}]
    load_config(tables)


@pytest.mark.parametrize("name", ["Muon", "SparseAdam"])
def test_optimizer_that_cannot_train_these_networks_is_a_problem(tables, name):
    text = problems_of(tables, [f"optimizer.name={name}"])
    assert f'optimizer.name = "{name}": cannot train these networks, it takes' in text


def test_warm_up_as_long_as_the_run_is_a_problem(tables):
    del tables["trainer"]["epochs"]
    text = problems_of(tables, ["trainer.steps=50", "lr_scheduler.warmup_steps=50"])
    assert "lr_scheduler.warmup_steps = 50: must be fewer than trainer.steps = 50" in text
    assert load_config(tables, ["trainer.steps=50", "lr_scheduler.warmup_steps=49"])


@pytest.mark.parametrize(
    ("dataset", "weights", "words"),
    [
        ({"name": "CityscapesClass", "root": "x", "params": {"label_set": "CityscapesCategory"}}, 19, "7 classes"),
        ({"name": "Unified", "params": {"label_set": "Aerial", "members": [{"name": "LoveDA"}]}}, 3, "7 classes"),
        ({"name": "MapillaryVistas", "root": "x"}, 3, "116 classes"),
        (
            {"name": "CamVid", "root": "x", "params": {"orientation": "apply", "max_pixels": 10**9}},
            3,
            "11 classes",
        ),
    ],
)
def test_class_weights_are_counted_against_the_classes_that_the_options_give(tables, dataset, weights, words):
    tables["data"]["dataset"] = dataset
    tables["criterion"] = {"class_weights": [1.0] * weights}
    assert words in problems_of(tables)


def test_class_weights_wait_for_the_dataset_if_an_option_may_change_its_classes(tables):
    tables["data"]["dataset"] = {"name": "MapillaryVistas", "root": "x", "params": {"version": "v1.2"}}
    tables["criterion"] = {"class_weights": [1.0] * 65}
    assert load_config(tables)


@pytest.mark.parametrize(("split", "name"), [("validation", "ADE20K"), ("test", "Potsdam"), ("val", "Potsdam")])
def test_official_names_of_splits_are_accepted(tables, split, name):
    tables["data"]["dataset"] = {"name": name, "root": "x", "val_split": split}
    assert load_config(tables).data.dataset.val_split == split


def test_unknown_split_lists_the_known_ones(tables):
    tables["data"]["dataset"] = {"name": "Potsdam", "root": "x", "val_split": "valid"}
    text = problems_of(tables)
    assert 'data.dataset.val_split = "valid": Potsdam has the splits train, test, val' in text


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.params.betas=[0.9]", "optimizer.params: "),
        ("optimizer.params.betas=[0.9, 'x']", "optimizer.params: "),
        ("lr_scheduler.params.power='x'", "lr_scheduler.params: "),
        (
            "lr_scheduler={name = 'ReduceLROnPlateau', params = {monitor = 'iou_per_clas'}}",
            "lr_scheduler.params: ",
        ),
        ("log.tensorboard.enabled=3", "log.tensorboard.enabled = 3: must be true or false"),
    ],
)
def test_what_shows_only_at_the_first_step_is_a_problem(override, words, tables):
    with pytest.raises(ConfigError) as caught:
        load_config(tables, [override])
    assert words in str(caught.value)


def test_rare_class_sampling_without_a_window_is_a_problem(tables):
    del tables["data"]["transform"]["train"]
    with pytest.raises(ConfigError, match="data.sampling.rare_classes = true: needs data.transform.train.size"):
        load_config(tables, ["data.sampling.rare_classes=true"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer.name=LBFGS", "optimizer.params={}", "trainer.channels_last=false", "trainer.precision=fp16"],
         "the loss cannot be scaled for LBFGS"),
        (["trainer.strategy=fsdp", "trainer.precision=fp16"], 'cannot be combined with trainer.strategy = "fsdp"'),
        (["trainer.strategy=fsdp", "optimizer={name = 'Padam', params = {lr = 0.1}}"], "needs full tensors"),
    ],
)  # fmt: skip
def test_what_engines_cannot_do_together_is_a_problem(overrides, words, tables):
    with pytest.raises(ConfigError) as caught:
        load_config(tables, overrides)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.params={lr = 0.5}", {"optimizer.params.lr": "-s"}),
        ("optimizer={name = 'SGD', params = {lr = 0.5, momentum = 0.9}}",
         {"optimizer.name": "-s", "optimizer.params.lr": "-s", "optimizer.params.momentum": "-s"}),
        ("optimizer.params.lr=0.5", {"optimizer.params.lr": "-s", "optimizer.params.eps": "file"}),
    ],
)  # fmt: skip
def test_origins_of_tables_that_an_override_sets(override, expected, tables, tmp_path):
    import tomli_w

    from seg_train.config.load import load_with_origins

    tables["optimizer"]["params"]["eps"] = 1e-8
    path = tmp_path / "run.toml"
    path.write_text(tomli_w.dumps(tables))
    _, origins = load_with_origins(path, [override])
    found = {k: "file" if v == str(path) else v for k, v in origins.items() if k.startswith("optimizer")}
    assert {k: v for k, v in found.items() if k != "optimizer.name" or v == "-s"} == expected
