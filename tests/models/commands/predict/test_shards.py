"""`seg predict` in several processes."""

import subprocess
import sys

from tests.models.commands.predict_helpers import names, seg


def test_shards_are_disjoint_and_cover_all_images(images, model_file, tmp_path, monkeypatch, capsys):
    for shard in range(1, 4):
        assert seg("predict", images, "--model", model_file, "--out", tmp_path / "n", "--shard", f"{shard}/3") == 0
    assert names(tmp_path / "n") == [f"{n}.png" for n in range(5)]
    assert "shard 3 of 3: 1 of 5 images" in capsys.readouterr().err

    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert seg("predict", images, "--model", model_file, "--out", tmp_path / rank) == 0
        found.append(names(tmp_path / rank))
    assert found == [["0.png", "2.png", "4.png"], ["1.png", "3.png"]]


def test_processes_of_a_launcher_divide_the_images(images, model_file, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    arguments = ["seg_core.command", "predict", images, "--model", model_file, "--out", tmp_path / "out"]
    done = subprocess.run(list(map(str, launcher + arguments)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        f"{n} images predicted: {n} label maps (class ids as PNG) in {tmp_path / 'out'}" for n in (2, 3)
    ]
    assert names(tmp_path / "out") == [f"{n}.png" for n in range(5)]


def test_environment_without_a_valid_shard_is_an_error(images, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert seg("predict", images, "--model", "gone.pt") == 2
    assert "RANK=3 and WORLD_SIZE=2 of the environment are not a shard" in capsys.readouterr().err
