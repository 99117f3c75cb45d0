"""Exit codes of every command: 2 for wrong usage, also for missing paths; 1 for damaged files and findings."""

import numpy as np
import pytest
import torch
from PIL import Image

import seg_models
from seg_core.command import main
from seg_core.labels.metadata import DatasetMetadata
from seg_core.transforms.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model, an image, a config, a file that is no folder, and an empty folder."""
    path = tmp_path_factory.mktemp("codes")
    network = seg_models.enet(num_classes=2).eval()
    two = DatasetMetadata("two", ("sky", "ground"))
    seg_models.save_model(network, path / "model.pt", metadata=two, preprocessing=Preprocessing())
    (path / "cut.pt").write_bytes((path / "model.pt").read_bytes()[:-500])
    torch.save(network.state_dict(), path / "weights.pth")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path / "x.png")
    (path / "file").write_text("a file, no folder")
    (path / "empty").mkdir()
    (path / "bad.toml").write_text("a = [")
    (path / "run.toml").write_text('[model]\nname = "enet"\n[data.dataset]\nname = "Shapes"\n[trainer]\nepochs = 1\n')
    (path / "noroot.toml").write_text(
        '[model]\nname = "enet"\n[data.dataset]\nname = "CamVid"\nroot = "gone"\n[trainer]\nepochs = 1\n'
    )
    return path


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(folder)


PREDICT = "predict x.png --model model.pt"
USAGE = [
    "nope",
    "--nope",
    # seg predict: what it names
    "predict gone.png --model model.pt",
    "predict gone/ --model model.pt",
    "predict go*.png --model model.pt",
    "predict empty --model model.pt",
    "predict '' --model model.pt",
    "predict https:// --model model.pt",
    "predict x.png --model gone.pt",
    "predict x.png --model gone/run",
    "predict x.png --model empty",
    "predict x.png --model ''",
    "predict x.png --model ennet",
    "predict x.png --model enet --weights gone.pth",
    "predict x.png --model enet --weights empty",
    "predict x.png --model enet --weights weights.pth#ema",
    "predict x.png --model enet --weights weights.pth --variant papr",
    f"{PREDICT} --variant paper",
    f"{PREDICT} --classes gone.toml",
    f"{PREDICT} --classes gone.json",
    f"{PREDICT} --classes VOCC",
    f"{PREDICT} --classes VOC",
    f"{PREDICT} --classes empty",
    f"{PREDICT} --only skyy",
    f"{PREDICT} --only ''",
    # its devices and values
    f"{PREDICT} --device nope",
    f"{PREDICT} --device cuda:99",
    f"{PREDICT} --device 99",
    f"{PREDICT} --device -1",
    f"{PREDICT} --dtype fp16 --device cpu",
    f"{PREDICT} --tile -5",
    f"{PREDICT} --overlap nan",
    f"{PREDICT} --scale nan",
    f"{PREDICT} --scale inf",
    f"{PREDICT} --threshold 2",
    f"{PREDICT} --threshold nan",
    f"{PREDICT} --batch-size -1",
    f"{PREDICT} --batch-size many",
    f"{PREDICT} --min-region -1",
    f"{PREDICT} --max-pixels -1",
    f"{PREDICT} --tta 0",
    f"{PREDICT} --tta nan",
    f"{PREDICT} --alpha nan",
    f"{PREDICT} --shard 5/3",
    f"{PREDICT} --no-masks",
    # its outputs
    f"{PREDICT} --out file",
    f"{PREDICT} --out file/deep",
    f"{PREDICT} --json empty",
    f"{PREDICT} --csv empty",
    f"{PREDICT} --json file/x.json",
    f"{PREDICT} --csv file/x.csv",
    "models show gone.pt",
    "models show gone/run",
    "models show enett",
    "models show empty",
    "models show ''",
    "models --family nope",
    "models --max-params -1",
    "models --max-params nan",
    "benchmark",
    "benchmark gone.pt",
    "benchmark gone/run",
    "benchmark empty",
    "benchmark ''",
    "benchmark ennet",
    "benchmark run.toml",
    "benchmark --compare enet",
    "benchmark enet --compare gone.pt",
    "benchmark enet --compare ennet",
    "benchmark bisenet",
    "benchmark bisenet -s backbone=resnet5",
    "benchmark enet --weights gone.pth",
    "benchmark enet --variant papr",
    "benchmark enet -s nope=1",
    "benchmark enet -s nope",
    "benchmark enet -s variant=paper",
    "benchmark model.pt --weights DEFAULT",
    "benchmark model.pt --variant paper",
    "benchmark model.pt -s num_classes=3",
    "benchmark enet --size 5by5",
    "benchmark enet --size 0",
    "benchmark segformer_b0 --size 16 --device cpu",
    "benchmark enet --batch-size 0",
    "benchmark enet --threads 0",
    "benchmark enet --seconds 0",
    "benchmark enet --seconds nan",
    "benchmark enet --device nope",
    "benchmark enet --device cuda:99",
    "benchmark enet --dtype fp16 --device cpu",
    "benchmark enet --json empty",
    "benchmark enet --json file/x.json",
    "benchmark model.pt --json model.pt",
    "datasets show CamVidd",
    "datasets download CamVidd d",
    "datasets download Cityscapes d",
    "datasets download VOC d --split nope",
    "datasets fake CamVidd d",
    "datasets fake Shapes d",
    "datasets fake CamVid file",
    "datasets fake CamVid file/deep",
    "datasets fake CamVid .",
    "datasets fake CamVid d --edition v9",
    "datasets fake CamVid d --size -1 5",
    "datasets fake CamVid d --size 0 0",
    "eval gone.pt Shapes",
    "eval gone/run",
    "eval empty",
    "eval model.pt",
    "eval model.pt Shapess",
    "eval model.pt CamVid",
    "eval model.pt CamVid -s root=gone",
    "eval model.pt CamVid -s root=empty",
    "eval model.pt CamVid -s root=file",
    "eval model.pt FolderDataset -s root=gone",
    "eval model.pt FolderDataset -s root=empty -s params.metadata=gone.toml",
    "eval enet Shapes --weights gone.pth",
    "eval enet Shapes --weights weights.pth --variant papr",
    "eval model.pt Shapes --variant paper",
    "eval model.pt Shapes -s split=nope",
    "eval model.pt Shapes -s device=nope",
    "eval model.pt Shapes -s device=cuda:99",
    "eval model.pt Shapes -s device=99",
    "eval model.pt Shapes -s batch_size=-1",
    "eval model.pt Shapes -s scale=nan",
    "eval model.pt Shapes -s resize={scale=-1}",
    "eval model.pt Shapes -s predictor=nope",
    "eval model.pt Shapes -s nope=1",
    "eval model.pt Shapes --json empty",
    "eval model.pt Shapes --json file/x.json",
    "train",
    "train gone.toml",
    "train empty",
    "train bad.toml",
    "train noroot.toml",
    "train --resume gone",
    "train --resume empty",
    "train --resume file",
    "train run.toml --resume",
    "train run.toml --epochs -1",
    "train run.toml --steps 0",
    "train run.toml --progress loud",
    "train run.toml --weights gone.pt",
    "train run.toml --weights empty",
    "train run.toml -s trainer.device=nope",
    "train run.toml -s trainer.device=cuda",
    "train run.toml -s optimizer.params.lr=nan",
    "train run.toml -s model.name=ennet",
    "train run.toml -s model.weights=gone.pth",
    "train run.toml -s paths.output=file",
    "train run.toml -s nope=1",
    "config",
    "config check gone.toml",
    "config check empty",
    "config show gone.toml",
    "config show bad.toml",
    "config init run.toml",
    "config init empty",
    "config init file/new.toml",
    "config init new.toml --model ennet",
    "config init new.toml --data nope",
    "config init new.toml --root gone",
    "config init new.toml --root file",
]
FAILURES = [
    "predict x.png --model cut.pt",
    f"{PREDICT} --classes bad.toml",
    "predict bad.toml --model model.pt",
    "models show cut.pt",
    "benchmark cut.pt",
    "eval cut.pt Shapes",
    "config check bad.toml",
    "config check run.toml -s nope=1",
]


def words(line):
    return ["" if word == "''" else word for word in line.split()]


@pytest.mark.parametrize("line", USAGE)
def test_wrong_usage_exits_with_2_and_writes_nothing(line, folder, capsys):
    before = sorted(folder.rglob("*"))
    assert main(words(line)) == 2
    streams = capsys.readouterr()
    assert "error: " in streams.err
    assert "Traceback" not in streams.err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("line", FAILURES)
def test_damaged_files_and_findings_exit_with_1(line, capsys):
    assert main(words(line)) == 1
    streams = capsys.readouterr()
    assert streams.out or "seg: " in streams.err
    assert "Traceback" not in streams.err
