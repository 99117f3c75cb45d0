"""Code of a user's own in a config: `imports`, names "module:attribute", where they are searched, what is stored."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from seg_core import own_code
from seg_core.command import main
from seg_core.errors import ConfigError, UserError
from seg_core.registry import DATASETS, LOSSES, MODELS
from seg_train import Trainer, load_config
from seg_train.config.load import load_with_origins
from seg_train.run.folder import RunFolder

CODE = """
import numpy as np
import torch
from torch import nn
from seg_core import DatasetMetadata
from seg_core.registry import LOSSES, MODELS
from seg_train import CrossEntropyLoss, Logger

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Conv2d(3, num_classes, 1)
    def forward(self, images):
        return {"out": self.head(images)}

def build(*, num_classes, weights=None, weights_backbone=None, aux_loss=False, variant=None, width=2):
    return Net(num_classes)

class Data:
    metadata = DatasetMetadata("Mine", ("a", "b"))
    def __init__(self, root=None, split="train", length=8):
        self.length = length
    def __len__(self):
        return self.length
    def file_names(self, index):
        return (f"{index}.png",)
    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        mask = torch.from_numpy(rng.integers(0, 2, (32, 24)).astype(np.uint8))
        return (mask * 200)[None].repeat(3, 1, 1), mask

class Loss(CrossEntropyLoss):
    pass

class Optimizer(torch.optim.SGD):
    pass

class Scheduler(torch.optim.lr_scheduler.PolynomialLR):
    pass

def decay(step):
    return 0.5 ** step

def predict(model, images, strength=1):
    return model(images)["out"] * strength

class MyLogger(Logger):
    def __init__(self, run_dir, word="x"):
        self.file, self.word = run_dir / "mine.txt", word
    def on_epoch(self, row):
        self.file.write_text(self.word)

class Noise:
    def __init__(self, strength=5):
        self.strength = strength
    def __call__(self, image, mask, *, generator=None):
        noise = torch.randint(-self.strength, self.strength + 1, image.shape, generator=generator)
        return (image.int() + noise).clamp(0, 255).to(torch.uint8), mask
"""
REGISTERING = CODE + 'MODELS.register("net_of_mine", build)\nLOSSES.register("LossOfMine", Loss)\n'
CONFIG = """
[model]
name = "mine_code:build"
[data]
check = "off"
[data.dataset]
name = "mine_code:Data"
params = { length = 8 }
[data.loader]
batch_size = 4
num_workers = 0
[data.transform.train]
size = 16
custom = [{ name = "mine_code:Noise", params = { strength = 3 } }]
[criterion]
name = "CombinedLoss"
params.losses = [{ name = "mine_code:Loss" }, { name = "DiceLoss" }]
[optimizer]
name = "mine_code:Optimizer"
params.lr = 0.1
[lr_scheduler]
name = "mine_code:Scheduler"
params.total_iters = 4
[trainer]
epochs = 1
device = "cpu"
precision = "fp32"
[evaluation]
predictor = "mine_code:predict"
params.strength = 2
[log.local]
max_drawing_share = 0
[log."mine_code:MyLogger"]
word = "y"
[paths]
output = "runs"
run = "run"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the module and a config of it, started from another one."""
    folder, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "mine_code.py").write_text(CODE)
    (folder / "run.toml").write_text(CONFIG)
    monkeypatch.chdir(elsewhere)
    return folder


def forget():
    """As in a new process."""
    own_code._modules.clear()
    own_code._targets.clear()
    for name in ("mine_code", "base_code"):
        sys.modules.pop(name, None)
    sys.path[:] = [entry for entry in sys.path if "pytest-of" not in entry]


def problems_of(path, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


# ---- names -----------------------------------------------------------------------------------------------------------


def test_every_kind_takes_an_import_path_and_trains(project):
    result = Trainer(load_config(project / "run.toml")).run()
    module = sys.modules["mine_code"]
    assert module.__file__ == str(project / "mine_code.py")
    assert (result.run_dir / "mine.txt").read_text() == "y"
    assert result.run_dir.parts[-2:] == ("runs", "run")
    config = RunFolder(result.run_dir).load_config()
    trainer = Trainer(config, result.run_dir, resume=True)
    assert type(trainer.network.network) is module.Net
    assert type(trainer.data.train_set) is module.Data
    assert isinstance(trainer.parts.criterion.criterion.losses[0], module.Loss)
    assert trainer.position.finished


def test_name_of_the_run_folder_has_no_colon(project):
    config = load_config(project / "run.toml", ["paths.run=none"])
    assert ":" not in Trainer(config).folder.path.name


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.name=mine_code:nothing", "model.name"),
        ("data.dataset.name=mine_code:nothing", "data.dataset.name"),
        ("criterion={name = 'mine_code:nothing'}", "criterion.name"),
        ("criterion.params.losses=[{name = 'mine_code:nothing'}]", "criterion.params.losses[0].name"),
        ("criterion.outputs.aux={name = 'mine_code:nothing'}", "criterion.outputs.aux.name"),
        ("optimizer={name = 'mine_code:nothing'}", "optimizer.name"),
        ("lr_scheduler={name = 'mine_code:nothing'}", "lr_scheduler.name"),
        (
            "lr_scheduler={name = 'ChainedScheduler', params = {schedulers = [{name = 'mine_code:nothing'}]}}",
            "lr_scheduler.params.schedulers[0].name",
        ),
        ("evaluation={predictor = 'mine_code:nothing'}", "evaluation.predictor"),
        ("data.transform.train.custom=[{name = 'mine_code:nothing'}]", "data.transform.train.custom[0].name"),
        ("model={name = 'fcn', params = {backbone = 'mine_code:nothing'}}", "model.params.backbone"),
        ('log={"mine_code:nothing" = {word = "y"}}', "log.mine_code:nothing"),
    ],
)
@pytest.mark.parametrize("more", [[], ["imports=['mine_code']"]])
def test_missing_attribute_is_one_problem_with_its_key(project, override, key, more):
    text = problems_of(project / "run.toml", [override, *more])
    assert f"{key} = \"mine_code:nothing\": module 'mine_code' ({project}/mine_code.py) has no 'nothing'" in text
    assert "problems" not in text


def test_missing_module_is_a_problem_that_says_where_it_was_searched(project, tmp_path):
    text = problems_of(project / "run.toml", ["optimizer.name=no_such_code:SGD"])
    assert "optimizer.name = \"no_such_code:SGD\": module 'no_such_code' cannot be imported: there is no module" in text
    assert f"in {project}, {tmp_path / 'elsewhere'} or among the installed packages" in text


def test_wrong_params_of_own_code_are_problems(project):
    text = problems_of(
        project / "run.toml",
        ["optimizer.params.lrr=1", "data.transform.train.custom=[{name = 'mine_code:Noise', params = {x = 1}}]"],
    )
    assert "optimizer.params.lrr = 1: mine_code:Optimizer has no such parameter" in text
    assert "data.transform.train.custom[0].params.x = 1: mine_code:Noise has no such parameter" in text


def test_key_with_points_in_quotes_is_overridden(project):
    package = project / "package_code"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "logs.py").write_text(CODE)
    config = load_config(project / "run.toml", ['log."package_code.logs:MyLogger".word=z'])
    assert config.log["package_code.logs:MyLogger"] == {"word": "z"}


def test_function_of_a_scheduler_beside_the_config_is_found(project):
    text = CONFIG.replace("mine_code:Scheduler", "LambdaLR").replace("total_iters = 4", 'lr_lambda = "mine_code:decay"')
    (project / "run.toml").write_text(text)
    assert Trainer(load_config(project / "run.toml")).run()


def test_names_of_timm_and_of_classes_are_no_code(tables):
    tables["model"] = {"name": "fcn", "params": {"backbone": "timm:resnet10t"}}
    tables["data"]["dataset"] = {"name": "Stripes"}
    before = list(sys.path)
    try:
        load_config(tables)
    except ConfigError as error:  # without timm
        assert "import" not in str(error)
    assert sys.path == before


def test_config_without_own_code_changes_no_path_and_stores_none(tables):
    before = list(sys.path)
    config = load_config(tables)
    assert sys.path == before
    assert not {"imports", "import_paths"} & set(config.to_dict())


# ---- imports ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def registering(project):
    """The config with names that the module registers."""
    (project / "mine_code.py").write_text(REGISTERING)
    text = CONFIG.replace("mine_code:build", "net_of_mine").replace("mine_code:Loss", "LossOfMine")
    (project / "run.toml").write_text(f'imports = ["mine_code"]\n{text}')
    return project / "run.toml"


def test_imports_register_names(registering):
    config = load_config(registering)
    assert config.imports == ["mine_code"]
    assert "net_of_mine" in MODELS
    assert "LossOfMine" in LOSSES
    assert Trainer(config).run()


def test_imports_of_all_files_are_joined_in_order(project):
    base = project / "base"
    base.mkdir()
    (base / "base_code.py").write_text("ORDER = []\n")
    (project / "mine_code.py").write_text(CODE + "import base_code\nbase_code.ORDER.append(1)\n")
    (base / "base.toml").write_text('imports = ["base_code", "math"]\n' + CONFIG)
    path = project / "child.toml"
    path.write_text('extends = "base/base.toml"\nimports = ["mine_code", "math"]\n')
    config, origins = load_with_origins(path)
    assert config.imports == ["base_code", "math", "mine_code"]
    assert origins["imports"] == f"{base / 'base.toml'}, {path}"
    assert config.import_paths == [str(project), str(base), os.getcwd()], "the folder of the child comes first"
    assert sys.modules["base_code"].ORDER == [1]
    assert load_config(path, ["imports=['math']"]).imports == ["math"], "-s replaces"


def test_import_paths_are_relative_to_their_file_and_come_first(project):
    source = project / "src"
    source.mkdir()
    shutil.move(project / "mine_code.py", source / "mine_code.py")
    assert "there is no module 'mine_code'" in problems_of(project / "run.toml")
    (project / "run.toml").write_text('import_paths = ["src"]\n' + CONFIG)
    assert load_config(project / "run.toml").import_paths == [str(source), str(project), os.getcwd()]
    assert sys.modules["mine_code"].__file__ == str(source / "mine_code.py")


def test_current_folder_is_searched_last(project, tmp_path):
    (tmp_path / "elsewhere" / "mine_code.py").write_text("raise AssertionError('another file of that name')\n")
    load_config(project / "run.toml")
    forget()
    (tmp_path / "elsewhere" / "mine_code.py").write_text(CODE)
    tables = tomllib.loads(CONFIG)
    assert load_config(tables).import_paths == [os.getcwd()]
    assert sys.modules["mine_code"].__file__ == str(tmp_path / "elsewhere" / "mine_code.py")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero ({file}, line 2)"),
        ("import no_such_helper\n", "ModuleNotFoundError: No module named 'no_such_helper' ({file}, line 1)"),
        ("def (\n", "SyntaxError: "),
    ],
)
def test_failed_import_is_a_config_error_with_key_module_reason_and_line(registering, capsys, code, words):
    file = registering.parent / "mine_code.py"
    file.write_text(code)
    text = problems_of(registering)
    assert "imports[0] = \"mine_code\": module 'mine_code' cannot be imported: " in text
    assert words.format(file=file) in text
    assert "net_of_mine" not in text, "what it would have registered is not reported too"
    assert main(["config", "check", str(registering)]) == 1
    assert words.format(file=file) in capsys.readouterr().out


@pytest.mark.parametrize("value", ["'mine_code'", "[1]", "[['a']]", "{a = 1}"])
def test_imports_of_another_type_are_a_problem(project, value):
    (project / "run.toml").write_text(f"imports = {value}\n{CONFIG}")
    assert "imports" in problems_of(project / "run.toml")


def test_show_and_option_of_the_commands(project, capsys):
    (project / "mine_code.py").write_text(REGISTERING)
    (project / "run.toml").write_text(CONFIG.replace("mine_code:build", "net_of_mine"))
    path = str(project / "run.toml")
    assert main(["config", "check", path, "-s", "data.dataset.name=Shapes", "-s", "data.dataset.params={}"]) == 0
    assert main(["config", "show", path, "--import", "mine_code"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert 'imports = ["mine_code"] # --import' in lines
    folders = f'import_paths = ["{project}", "{os.getcwd()}"] # folders of the config, current folder'
    assert folders in lines
    assert main(["config", "check", path, "--import", "no_such_code"]) == 1
    assert 'imports[0] = "no_such_code"' in capsys.readouterr().out


# ---- the stored config -----------------------------------------------------------------------------------------------


def test_run_is_resumed_and_evaluated_from_elsewhere(registering, tmp_path, monkeypatch, capsys):
    result = Trainer(load_config(registering)).run()
    stored = tomllib.loads((result.run_dir / "config.toml").read_text())
    assert stored["imports"] == ["mine_code"]
    assert stored["import_paths"] == [str(registering.parent), os.getcwd()]
    run = str(result.run_dir.resolve())
    script = "import sys; from seg_core.command import main; sys.exit(main(sys.argv[1:]))"
    for arguments in (["eval", run, "-s", "num_workers=0"], ["train", "--resume", run, "--epochs", "2"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-c", script, "eval", f"{run}/model.pt", "Shapes"], cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "unknown model 'net_of_mine'" in done.stderr
    assert "--import MODULE" in done.stderr


def test_moved_code_is_an_error_whose_advice_works(project, tmp_path, monkeypatch):
    result = Trainer(load_config(project / "run.toml")).run()
    folder = RunFolder(result.run_dir.resolve())
    moved = tmp_path / "moved"
    project.rename(moved)
    forget()
    with pytest.raises(ConfigError) as caught:
        folder.load_config()
    text = str(caught.value)
    assert f"{project} in import_paths does not exist here" in text
    assert "start this command in the folder that contains it, or set that folder as in -s 'import_paths=[" in text
    assert folder.load_config([f'import_paths=["{moved}"]'])
    assert Trainer(folder.load_config([f'import_paths=["{moved}"]']), folder.path, resume=True).position.finished
    forget()
    monkeypatch.chdir(moved)
    assert folder.load_config()


# runs with forked workers are in many tests
@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=pytest.mark.full)])
def test_workers_of_every_start_method_have_the_code(project, method):
    """Workers that are started anew import what they get by its name."""
    (project / "run.toml").write_text(CONFIG.replace("num_workers = 0", "num_workers = 1"))
    code = (
        "import sys, multiprocessing\n"
        "if __name__ == '__main__':\n"
        f"    multiprocessing.set_start_method({method!r})\n"
        "    from seg_train import Trainer, load_config\n"
        f"    print(Trainer(load_config({str(project / 'run.toml')!r})).run().scores['miou'])\n"
    )
    script = project.parent / "start.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=project.parent / "elsewhere"
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) >= 0


def test_eval_of_a_run_imports_its_code_for_another_dataset_too(project, capsys, monkeypatch):
    result = Trainer(load_config(project / "run.toml")).run()
    run = result.run_dir.resolve()
    forget()
    arguments = ["-s", "num_workers=0", "-s", "device=cpu", "-s", "predictor=whole"]
    assert main(["eval", str(run), "mine_code:Data", *arguments]) == 0
    assert "mIoU" in capsys.readouterr().out
    forget()
    assert main(["eval", str(run / "model.pt"), "mine_code:Data", *arguments]) == 2
    assert "--import mine_code" in capsys.readouterr().err
    monkeypatch.chdir(project)
    assert main(["eval", str(run / "model.pt"), "mine_code:Data", "--import", "mine_code", *arguments]) == 0
    assert "mine_code:Data" not in DATASETS.names()


# ---- names that model files could not name, wrong forms --------------------------------------------------------------


def test_model_that_its_files_could_not_name_is_refused_before_training(project):
    text = "import functools\nfrom mine_code import build, Optimizer\nsmall = functools.partial(build, width=1)\n"
    (project / "base_code.py").write_text(text)
    path = project / "run.toml"
    found = problems_of(path, ["model.name=base_code:build"])
    assert "model.name = \"base_code:build\": it is defined in 'mine_code'" in found
    assert found.endswith("name it there: 'mine_code:build'")
    found = problems_of(path, ["model.name=base_code:small"])
    assert "model.name = \"base_code:small\": 'base_code:small' is a functools.partial" in found
    assert "problems" not in found
    assert load_config(path, ["optimizer.name=base_code:Optimizer", "optimizer.params.lr=0.1"]), "in no model file"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('imports = "mine_code"', 'imports = "mine_code": must be a list of strings; write imports = ["mine_code"]'),
        ("imports = [1]", 'imports = [1]: must be a list of strings; write imports = ["my_code"]'),
        ('import_paths = "src"', 'import_paths = "src": must be a list of strings; write import_paths = ["src"]'),
        ('import_paths = ["nope"]', 'nope": there is no such folder; correct or remove it'),
    ],
)
def test_wrong_form_of_imports_is_the_only_problem(project, line, told):
    (project / "run.toml").write_text(f"{line}\n{CONFIG.replace('mine_code:Loss', 'LossOfMine')}")
    found = problems_of(project / "run.toml")
    assert found.endswith(told)
    assert "LossOfMine" not in found


def test_misspelled_name_is_one_problem_with_the_right_spelling(project):
    found = problems_of(project / "run.toml", ["model.name=mine_code.build"])
    assert found.endswith("write 'mine_code:build'")
    assert "problems" not in found


def test_init_and_show_take_import(project, monkeypatch, capsys):
    (project / "mine_code.py").write_text(REGISTERING)
    monkeypatch.chdir(project)
    assert main(["config", "init", "new.toml", "--model", "net_of_mine", "--data", "mine_code:Data"]) != 0
    words = ["--model", "net_of_mine", "--data", "mine_code:Data", "--import", "mine_code"]
    assert main(["config", "init", "new.toml", *words]) == 0
    written = tomllib.loads((project / "new.toml").read_text())
    assert written["imports"] == ["mine_code"]
    capsys.readouterr()
    assert main(["datasets", "show", "mine_code:Data", "--import", "mine_code"]) == 0
    assert "length" in capsys.readouterr().out
    assert main(["models", "show", "mine_code:build", "--import", "mine_code"]) == 0
    assert "built by  mine_code:build" in capsys.readouterr().out


# ---- code that cannot be called as the trainer calls it, or returns something else -----------------------------------

WRONG = """
import torch
from mine_code import Data, Net

class SplitFirst(Data):
    def __init__(self, split="train", root=None):
        super().__init__(root, split)

class NumberFirst(Data):
    def __init__(self, count=8, split="train"):
        super().__init__(None, split, count)

class NamedOnly(Data):
    def __init__(self, *, split):
        super().__init__(None, split)

class NoLogger:
    def __init__(self, run_dir):
        pass

def whole(model, images):
    return model(images)["out"]

def passing(model, images, **options):
    return whole(model, images, **options)

def nothing(*args, split=None, **options):
    return None

def nothing_for(model, images):
    return None

class TextLoss(torch.nn.Module):
    def forward(self, logits, target):
        return "0.5"

def failing(**options):
    raise ZeroDivisionError("my own mistake")
"""


@pytest.fixture
def wrong(project):
    (project / "base_code.py").write_text(WRONG)
    return project / "run.toml"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.dataset={name = 'base_code:SplitFirst'}", "the parameter 'split' of base_code:SplitFirst"),
        ("data.dataset={name = 'base_code:NumberFirst'}", "let it take root first: it is called as NumberFirst(root"),
        ("data.dataset={name = 'base_code:NamedOnly'}", "NamedOnly must take 'root' as its parameter number 1"),
        ('log={"base_code:NoLogger" = {}}', "base_code:NoLogger must be a subclass of seg_train.Logger"),
        ("evaluation={predictor = 'base_code:passing', params = {x = 1}}", "evaluation.params.x = 1: base_code:pass"),
        ("optimizer={name = 'base_code:nothing'}", "optimizer.name: base_code:nothing must return an optimizer"),
        ("lr_scheduler={name = 'base_code:nothing'}", "lr_scheduler.name: base_code:nothing must return a scheduler"),
    ],
)
def test_code_that_does_not_fit_its_call_is_one_problem(wrong, override, told):
    found = problems_of(wrong, [override])
    assert told in found
    assert "problems" not in found


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model={name = 'base_code:nothing'}", 'model.name = "base_code:nothing": must return a network'),
        ("criterion={name = 'base_code:TextLoss'}", "criterion: the loss base_code.TextLoss must return"),
        ("evaluation={predictor = 'base_code:nothing_for'}", "the predictor 'base_code:nothing_for' (evaluati"),
    ],
)
def test_what_returns_something_else_is_told_in_a_sentence(wrong, override, told):
    with pytest.raises(UserError) as caught:
        Trainer(load_config(wrong, [override])).run()
    assert told in str(caught.value)


def test_traceback_of_own_code_ends_with_its_key(wrong):
    with pytest.raises(ZeroDivisionError) as caught:
        Trainer(load_config(wrong, ["model={name = 'base_code:failing'}"]))
    assert caught.value.__notes__ == ['raised by the code that the config names: model.name = "base_code:failing"']


def test_eval_tells_of_a_dataset_that_takes_no_root(wrong, project, monkeypatch, capsys):
    run = Trainer(load_config(wrong)).run().run_dir.resolve()
    monkeypatch.chdir(project)
    words = ["eval", str(run), "base_code:SplitFirst", "--import", "base_code", "-s", "num_workers=0"]
    assert main(words) == 2
    assert "let it take root first" in capsys.readouterr().err


@pytest.mark.parametrize("goes", ["folder", "file"])
def test_two_remedies_for_moved_code_work_in_eval_and_train(project, tmp_path, monkeypatch, capsys, goes):
    run = str(Trainer(load_config(project / "run.toml")).run().run_dir.resolve())
    moved = tmp_path / "moved"
    if goes == "folder":
        project.rename(moved)
    else:
        moved.mkdir()
        shutil.move(project / "mine_code.py", moved)
    paths = ["-s", f'import_paths=["{moved.as_posix()}"]']
    evaluations = (["eval", run, "-s", "num_workers=0"], ["eval", run, "Shapes", "-s", "num_workers=0"])
    commands = (*evaluations, ["train", "--resume", run])
    for words in commands:
        forget()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert main(words) == 2
        told = capsys.readouterr().err
        assert "start this command in the folder that contains it, or set that folder as in -s 'import_paths=[" in told
        forget()
        assert main([*words, *paths]) == (2 if "Shapes" in words else 0), "Shapes has other classes"
        assert "import_paths" not in capsys.readouterr().err
        forget()
        monkeypatch.chdir(moved)
        assert main(words) == (2 if "Shapes" in words else 0)
        assert "import_paths" not in capsys.readouterr().err
