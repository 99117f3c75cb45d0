"""`seg benchmark`: what is measured, its order, its output and its messages."""

import json

import pytest
import torch

import seg_models
from seg_core.command import main
from seg_core.labels.metadata import DatasetMetadata
from seg_core.transforms.preprocessing import Preprocessing
from seg_models.commands import benchmark
from seg_models.speed import benchmark as room
from seg_models.speed.machine import Peak


def seg(*arguments):
    return main([str(a) for a in arguments])


@pytest.fixture
def given(monkeypatch):
    """What the command gives to `measure`; the measuring itself is that of the room, without the machine's peak."""
    found = {}
    real = room.measure

    def measure(contenders, **options):
        found.update(options, models=[(c.name, c.note) for c in contenders], contenders=contenders)
        return real(contenders, **options)

    monkeypatch.setattr(room, "measure", measure)
    monkeypatch.setattr(room, "measure_peak", lambda device, dtype, name, *_: Peak(100.0, 80.0, 512, name))
    return found


@pytest.fixture
def model_file(tmp_path):
    network = seg_models.fast_scnn(num_classes=2).eval()
    two = DatasetMetadata("two", ("sky", "ground"))
    seg_models.save_model(network, tmp_path / "m.pt", metadata=two, preprocessing=Preprocessing())
    return tmp_path / "m.pt"


QUICK = ("--size", "32x64", "--seconds", "0.01", "--device", "cpu", "--network-only")


def test_a_name_is_measured_with_random_weights_and_nothing_is_downloaded(given, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise AssertionError("no download")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert seg("benchmark", "enet", "--size", "32x64", "--seconds", "0.01", "--device", "cpu") == 0
    streams = capsys.readouterr()
    lines = streams.out.splitlines()
    assert lines[0].startswith("machine  ")
    assert lines[2] == "images   32x64 pixels, fp32"
    assert lines[3].endswith("MACs per image; random weights, which take as long as trained ones")
    header = next(n for n, line in enumerate(lines) if line.startswith("step"))
    columns = "step batch ms min p10 p90 p99 runs images/s MiB GFLOP/s of peak"
    assert " ".join(lines[header].split()) == columns
    assert lines[header + 1].startswith("network ")
    assert lines[header + 2].startswith("image to labels ")
    assert "seg: network, batch size 1 ..." in streams.err  # what is measured is no part of the results


def test_options_are_passed_on_and_the_default_size_is_in_the_output(given, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "_DEFAULT_SIZE", (32, 64))
    line = ("--seconds", "0.01", "--device", "cpu", "--network-only", "--threads", "1", "--dtype", "FP32")
    assert seg("benchmark", "enet", "--batch-size", "2", "--batch-size", "1", "-s", "num_classes=7", *line) == 0
    assert given["size"] == (32, 64)
    assert (given["batch_sizes"], given["threads"], given["dtype"]) == ([2, 1], 1, "fp32")
    assert (given["end_to_end"], given["optimize"], given["seconds"]) == (False, False, 0.01)
    assert given["contenders"][0].network.build_spec.arguments["num_classes"] == 7
    assert "images   32x64 pixels, fp32" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["enet", "--compare", "M"], ["--compare", "enet", "M"]])
def test_the_first_model_that_is_written_is_the_baseline(words, given, model_file, capsys):
    words = [str(model_file) if word == "M" else word for word in words]
    assert seg("benchmark", *words, *QUICK) == 0
    assert [name for name, _ in given["models"]] == ["enet", str(model_file)]
    out = capsys.readouterr().out
    assert "time beside enet" in out
    (line,) = [line for line in out.splitlines() if line.endswith("rounds")]
    assert line.startswith(str(model_file))


def test_weights_and_options_are_for_the_models_by_name(given, model_file, tmp_path, capsys):
    torch.save(seg_models.enet(num_classes=2).state_dict(), tmp_path / "w.pth")
    line = ("--weights", tmp_path / "w.pth", "-s", "num_classes=2")
    assert seg("benchmark", model_file, "--compare", "enet", *line, *QUICK) == 0
    assert given["models"] == [(str(model_file), ""), ("enet", f"weights {tmp_path / 'w.pth'}")]


def test_json_is_printed_alone_or_written_beside_the_tables(given, tmp_path, capsys):
    assert seg("benchmark", "enet", *QUICK, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["size"] == [32, 64]
    assert printed["rows"][0]["p99_ms"] is None or printed["rows"][0]["runs"] >= 100
    assert seg("benchmark", "enet", *QUICK, "--json", tmp_path / "speed.json") == 0
    assert "images/s" in capsys.readouterr().out
    written = json.loads((tmp_path / "speed.json").read_text())
    assert written.keys() == printed.keys()


def test_a_terminal_with_rich_shows_the_same_tables(given, monkeypatch, capsys):
    pytest.importorskip("rich")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "140")
    assert seg("benchmark", "enet", *QUICK) == 0
    assert "images/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["bisenet"], "model 'bisenet' needs a backbone; set one, as in -s backbone=resnet50"),
        (["ennet"], "Did you mean 'enet'"),
        (["enet", "--size", "5by5"], "--size 5by5 must be pixels, such as 512, or height x width, such as 512x1024"),
        (["gone.pt"], "there is no file gone.pt; give a model file, a run folder, or a name from `seg models`"),
        (["enet", "-s", "weights=DEFAULT"], "-s weights cannot be set here; use --weights"),
        (["enet", "-s", "num_classes"], "-s takes KEY=VALUE, such as -s num_classes=19, got 'num_classes'"),
    ],
)
def test_messages_say_what_to_write(words, part, capsys):
    assert seg("benchmark", *words) == 2
    assert part in capsys.readouterr().err


def test_advice_of_messages_works(given, capsys):
    assert seg("benchmark", "bisenet", "-s", "backbone=resnet18", *QUICK) == 0
    assert given["models"][0][0] == "bisenet"


def test_weights_of_a_file_are_refused_in_the_words_of_the_command(model_file, capsys):
    assert seg("benchmark", model_file, "--weights", "DEFAULT") == 2
    assert "remove --weights" in capsys.readouterr().err
