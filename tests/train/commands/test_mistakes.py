"""Mistakes that people make with other trainers: each message says what to do, and what it says is done and works.

Each row is a command and what its message must contain; the groups of the pattern are then applied as the message says
it. The mended command must run.
"""

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.command import main
from seg_core.registry import MODELS
from seg_models import enet

CONFIG = """\
[model]
name = "enet"
[data.dataset]
name = "FolderDataset"
root = "data/good"
[data.transform.train]
size = [32, 32]
[data.loader]
batch_size = 2
num_workers = 0
[optimizer]
name = "SGD"
params = { lr = 0.01 }
[trainer]
steps = 1
device = "cpu"
precision = "fp32"
snapshots = 0
[log.local]
max_drawing_share = 0
"""


def write_tree(root, ids=(0, 1), images="images", masks="masks", suffix="", splits=("train", "val"), widths=(32, 32)):
    rng = np.random.default_rng(0)
    for split in splits:
        for name in (images, masks):
            (root / split / name).mkdir(parents=True)
        for index, width in enumerate(widths):
            mask = rng.choice(np.array(ids, np.uint8), (32, width))
            image = rng.integers(0, 255, (32, width, 3)).astype(np.uint8)
            Image.fromarray(image).save(root / split / images / f"{index}.jpg")
            Image.fromarray(mask).save(root / split / masks / f"{index}{suffix}.png")
    (root / "classes.toml").write_text('labels = ["a", "b"]\n')


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Datasets, a config, and a finished run; rows add files of their own names only."""
    path = tmp_path_factory.mktemp("mistakes")
    write_tree(path / "data" / "good")
    write_tree(path / "data" / "background", ids=(0, 1, 2))
    write_tree(path / "data" / "white", ids=(0, 255))
    write_tree(path / "data" / "sizes", widths=(32, 48))
    write_tree(path / "data" / "swapped", images="masks", masks="images")
    write_tree(path / "data" / "suffix", suffix="_mask")
    write_tree(path / "data" / "train_only", splits=("train",))
    (path / "run.toml").write_text(CONFIG)
    (path / "words.toml").write_text(CONFIG.replace('"enet"', "enet").replace("snapshots = 0", "compile = False"))
    (path / "windows.toml").write_text(CONFIG.replace("data/good", "data\\good"))
    (path / "run.yaml").write_text("model:\n  name: enet\n")
    return path


def hungry(**options):
    """A network whose memory is enough for one image."""
    network = enet(**options)

    def check(module, arguments):
        if module.training and len(arguments[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    network.register_forward_pre_hook(check)
    return network


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(folder)
    MODELS.register("hungry", hungry)
    if not Path("runs/base").exists():
        assert main(["train", "run.toml", "-s", "paths.run=base", "--progress", "quiet"]) == 0


# ---- what is done about a message: (words of the command, match) -> words --------------------------------------------


def removed(words, match):
    """Removes the last override."""
    place = len(words) - 1 - words[::-1].index("-s")
    return words[:place] + words[place + 2 :]


def added(*overrides):
    """Adds overrides; `{0}` is the first group of the match."""
    return lambda words, match: words + [w for o in overrides for w in ("-s", o.format(*match.groups()))]


def instead(*overrides):
    """Replaces the last override."""
    return lambda words, match: added(*overrides)(removed(words, match), match)


def written(option):
    """Replaces what the parser did not understand by the words of the message."""
    return lambda words, match: words[: words.index(option)] + shlex.split(match[1])


def command(*more):
    """Replaces the command by that of the message."""
    return lambda words, match: [*shlex.split(match[1].replace("CONFIG", "run.toml"))[1:], *more]


def rewritten(words, match):
    """Writes the line that the message says into the file."""
    path = Path(words[1])
    lines = path.read_text().splitlines()
    lines[int(match[1]) - 1] = match[2]
    path.write_text("\n".join(lines))
    return words


def begun_anew(words, match):
    """Follows the message in a folder without a config, and fills in what the written config leaves open."""
    other = Path("anew")
    other.mkdir()
    (other / "data").symlink_to(Path("data").resolve())
    os.chdir(other)
    assert main(shlex.split(match[1])[1:]) == 0
    sets = ("data.dataset.root=data/good", "data.loader.batch_size=2", "data.loader.num_workers=0")
    return ["train", "run.toml", "--steps", "1", *(w for s in (*sets, "trainer.device=cpu") for w in ("-s", s))]


def weights_of_count(words, match):
    return instead(f"criterion.class_weights={[1] * len(match[1].split(', '))}")(words, match)


LABEL_MAP = r"\(or set -s '(data\.dataset\.params\.label_map = [^']*)'\)"
TRAIN = "train run.toml"
SCHEDULER = "-s lr_scheduler.name=OneCycleLR -s lr_scheduler.params.total_steps=3"
OTHER = "-s 'params={length=2,size=[32,32]}'"

MISTAKES = {
    # the classes
    "num_classes in the model": (f"{TRAIN} -s model.num_classes=2", r"unknown key\. Remove it: ", removed),
    "labels without the background": (f"{TRAIN} -s data.dataset.root=data/background", LABEL_MAP, added("{0}")),
    "masks of 0 and 255": (f"{TRAIN} -s data.dataset.root=data/white", LABEL_MAP, added("{0}")),
    "reduce_zero_label": (
        f"{TRAIN} -s data.dataset.root=data/background -s data.dataset.params.reduce_zero_label=true",
        r"for true use (label_map = {.*}), with a pair",
        instead("data.dataset.params.{0}"),
    ),
    "class weights of another number": (
        f"{TRAIN} -s criterion.class_weights=[1,2,3]",
        r"give one number for each of (.*)",
        weights_of_count,
    ),
    "evaluation on other classes": (f"eval runs/base Shapes {OTHER}", r"`(seg eval runs/base)` takes", command()),
    # the data
    "a root that is misspelt": (
        f"{TRAIN} -s data.dataset.root=data/goood",
        r"data/goood \(no such folder\); correct the root .* Did you mean '(\w+)'\?",
        instead("data.dataset.root=data/{0}"),
    ),
    "folders of images and masks swapped": (
        f"{TRAIN} -s data.dataset.root=data/swapped",
        r"seem to be swapped\. With images='(.*?)', masks='(.*?)' all 2 pair",
        added('data.dataset.params.images="{0}"', 'data.dataset.params.masks="{1}"'),
    ),
    "masks with a suffix": (
        f"{TRAIN} -s data.dataset.root=data/suffix",
        r"With mask_suffix='(\w+)' all 2 pair",
        added("data.dataset.params.mask_suffix={0}"),
    ),
    "no val split": (
        f"{TRAIN} -s data.dataset.root=data/train_only -s data.loader.batch_size=1",
        r"To split the files of train into train and val, set images='(.*?)', masks='(.*?)'",
        added('data.dataset.params.images="{0}"', 'data.dataset.params.masks="{1}"'),
    ),
    "images of different sizes": (
        f"{TRAIN} -s data.dataset.root=data/sizes -s data.transform.train={{}}",
        r"cannot share a batch of 2; set (data\.transform\.train\.size), the size of the random crop",
        added("{0}=32"),
    ),
    "a dataset's name elsewhere": (
        f"{TRAIN} -s data.dataset.name=CustomDataset",
        r"Did you mean '(\w+)'\?",
        instead("data.dataset.name={0}"),
    ),
    "a batch larger than the dataset": (
        f"{TRAIN} -s data.loader.batch_size=16",
        r"lower (data\.loader\.batch_size) \(now 16\) to at most (\d+)",
        instead("{0}={1}"),
    ),
    # learning
    "a learning rate as text": (
        f"{TRAIN} -s optimizer.params.lr=.02",
        r'optimizer\.params\.lr = "\.02": must be a number, without quotes: (.*)',
        instead("optimizer.params.lr={0}"),
    ),
    "a learning rate in a wrong place": (
        f"{TRAIN} -s optimizer.lr=0.02",
        r"optimizer\.lr = 0\.02: unknown key\. Write (optimizer\.params\.lr = 0\.02)",
        instead("{0}"),
    ),
    "a scheduler that ends before the run": (
        f"{TRAIN} --steps 4 {SCHEDULER}",
        r"total_steps = 3: OneCycleLR ends before the run, which has 4 steps, .* remove total_steps, which is the leng",
        removed,
    ),
    "a score that is not computed": (
        f"{TRAIN} -s evaluation.monitor=mIoU",
        r"there is no such score in this run\. Did you mean '(\w+)'",
        instead("evaluation.monitor={0}"),
    ),
    "auxiliary outputs without their heads": (
        f"{TRAIN} -s model.name=bisenetv2 -s criterion.aux_weight=1.0",
        r"returns aux\w* only with auxiliary heads; set (model\.aux_loss = true)",
        added("{0}"),
    ),
    # the machine
    "a GPU that is not there": (
        f"{TRAIN} -s trainer.device=cuda:0",
        r'; write "(cuda)" and choose the GPU by its number: CUDA_VISIBLE_DEVICES=0',
        instead("trainer.device={0}"),
        r'finds no such device(?: \(.*\))?; use "(auto)"',
        instead("trainer.device={0}"),
    ),
    "fp16 on a CPU": (
        f"{TRAIN} -s trainer.precision=fp16",
        r'needs a GPU; on a CPU use "(auto)"',
        instead("trainer.precision={0}"),
    ),
    "too little memory": (
        f"{TRAIN} -s model.name=hungry",
        r"raise (trainer\.accumulation_steps) \(now 1\)",
        added("{0}=2"),
    ),
    # weights and runs
    "a weights file that is not there": (
        f"{TRAIN} -s model.weights=gone.pth",
        r"there is no such file; give the path of a checkpoint",
        instead("model.weights=runs/base/model.pt"),
    ),
    "other settings on resume": (
        "train --resume runs/base -s optimizer.params.lr=0.5",
        r"or start a new run from its weights: (seg train CONFIG --weights runs/base)\.",
        command("-s", "optimizer.params.lr=0.5"),
    ),
    "a model file to resume from": (
        "train --resume runs/base/model.pt",
        r"To continue the run in runs/base: (seg train --resume runs/base)\. ",
        command(),
    ),
    # commands and files
    "an option of another trainer": (
        f"{TRAIN} --batch-size 2",
        r"for --batch-size, write (-s data\.loader\.batch_size=2)$",
        written("--batch-size"),
    ),
    "a key without -s": (
        f"{TRAIN} optimizer.params.lr=0.02",
        r"for optimizer\.params\.lr=, write (-s optimizer\.params\.lr=0\.02)$",
        written("optimizer.params.lr=0.02"),
    ),
    "strings and booleans as in Python": (
        "train words.toml",
        r"is not valid TOML: .* write line (\d+) as: (name = \"enet\")$",
        rewritten,
        r"is not valid TOML: .* write line (\d+) as: (compile = false)$",
        rewritten,
    ),
    "backslashes in a path": (
        "train windows.toml",
        r"is not valid TOML: .* write line (\d+) as: (root = \"data/good\")$",
        rewritten,
    ),
    "a config in YAML": ("train run.yaml", r"configs are TOML, not YAML: `(seg config init run\.toml)`", begun_anew),
    "a config and a checkpoint to evaluate": (
        "eval run.toml runs/base/model.pt",
        r"is a model, which comes first, without a config: (seg eval runs/base)$",
        command(),
    ),
}


def test_the_list_has_thirty_mistakes():
    assert len(MISTAKES) == 30


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_message_says_what_to_do_and_doing_it_works(mistake, capsys):
    line, *rows = MISTAKES[mistake]
    words = shlex.split(line)
    for pattern, mend in zip(rows[::2], rows[1::2], strict=True):
        assert main(words) in (1, 2), "the mistake must be an error"
        text = capsys.readouterr().err
        assert "Traceback" not in text
        match = re.search(pattern, text, re.MULTILINE)
        assert match, f"{pattern!r} is not in: {text}"
        words = mend(words, match)
    assert main(words) == 0, capsys.readouterr().err


# ---- siblings of these mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{TRAIN} -s trainer.steps 1", "-s takes KEY=VALUE as one word: write -s trainer.steps=1"),
        (f"{TRAIN} -s trainer.steps = 1", "-s takes KEY=VALUE as one word: write -s trainer.steps=1"),
        (f"{TRAIN} -s trainer.steps=1 trainer.seed=2", "-s takes one KEY=VALUE: write -s trainer.steps=1 -s trainer.s"),
        (f"{TRAIN} -s data.transform.train.size=[32, 32]", "write -s 'data.transform.train.size=[32, 32]'"),
        (f"{TRAIN} --lr 0.1", "for --lr, write -s optimizer.params.lr=0.1"),
        (f"{TRAIN} --optimizer.params.lr=0.1", "write -s optimizer.params.lr=0.1"),
        (f"{TRAIN} epochs=3", "for epochs=, write --epochs 3"),
        (f"{TRAIN} --gpus 2", "there is one process per GPU, started with: torchrun --nproc_per_node N"),
        (f"{TRAIN} --work-dir x", "write -s paths.output=x"),
        (f"{TRAIN} --load-from runs/base", "write --weights runs/base"),
        (f"{TRAIN} --cfg-options trainer.steps=1", "for --cfg-options, write -s trainer.steps=1"),
        ("train --config run.toml", "write the CONFIG without an option: seg train run.toml"),
        ("train runs/base", "to continue the run in it: seg train --resume runs/base"),
        ("train data", "data is a folder, no config; name a TOML file"),
        ("train rum.toml", "there is no config file rum.toml; check its path. Did you mean 'run.toml'?"),
        ("train data/none.toml", "check its path (current folder: "),
        ("train --resume runs/base/checkpoints", "seg train --resume runs/base"),
        ("train --resume runs", "run folders in it: runs/"),
        ("train --resume run.toml", "To continue the newest run of this config: seg train run.toml --resume"),
        ("eval runs/base --split val", "for --split, write -s split=val"),
        (
            "eval runs/base --data-root data/good --workers 0",
            "-s root=data/good; for --workers, write -s num_workers=0",
        ),
        ("eval runs/base -s data.dataset.root=data/good", "Here it is root, without its section: -s root=data/good."),
        ("eval runs/base -s evaluation.tile=32", "Here it is tile, without its section: -s tile=32."),
        ("eval runs/base/model.pt", "only a run folder has a default: seg eval runs/base"),
        ("eval runs/base/model.pt data/good", "seg eval runs/base/model.pt FolderDataset -s root=data/good"),
        ("eval run.toml", "run.toml is a config, not a model; give a run folder"),
        ("eval runs/base/checkpoints/last.pt FolderDataset -s root=data/good", "give its run folder, runs/base"),
        ("predict x.png --model runs/base/config.toml", "is a config, not a model; give its run folder, runs/base"),
        (f"{TRAIN} -s model.aux_loss=true", "model.aux_loss = true: enet has no auxiliary heads; remove it"),
        (f"{TRAIN} -s data.dataset.root=data/good/train", "classes.toml, set it to data/good. Give metadata"),
        (f"{TRAIN} -s data.dataset.val_split=test", "There is no test split; there is train and val"),
    ],
)
def test_siblings_say_what_to_do(line, words, capsys):
    Image.new("RGB", (32, 32)).save("x.png")
    assert main(shlex.split(line)) in (1, 2)
    text = capsys.readouterr().err
    assert words in text
    assert "Traceback" not in text


def test_a_folder_to_evaluate_on_follows_its_message(capsys):
    assert main(["eval", "runs/base/model.pt", "data/good"]) == 2
    line = re.search(r"seg (eval .*)$", capsys.readouterr().err, re.MULTILINE)[1]
    assert main([*shlex.split(line), "--json", "scores.json"]) == 0
    assert json.loads(Path("scores.json").read_text())["num_images"] == 2


@pytest.mark.parametrize("words", [["runs/nope"], ["nope.pt"], ["nope.pt", "Shapes"], ["runs/nope", "CamVid"]])
def test_model_that_does_not_exist_is_told_before_any_dataset(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["eval", *words]) == 2
    told = capsys.readouterr().err
    assert f"there is no run folder or model file {words[0]}; check the path" in told
    assert "DATASET" not in told


def test_absurd_words_of_a_command_line_are_told_in_one_sentence(capsys, tmp_path):
    assert main(["config", "check", "a" * 300]) == 2
    assert "File name too long; name another path" in capsys.readouterr().err
    assert main(["train", "--weights=--"]) == 2
    assert "error: argument --weights: '--' is no value" in capsys.readouterr().err
    assert main(["train", str(tmp_path), "--epochs", "9" * 1_000_000]) == 2
    error = capsys.readouterr().err
    assert "argument --epochs: invalid int value" in error
    assert len(error) < 5000
