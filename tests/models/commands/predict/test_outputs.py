"""What `seg predict` writes beside label maps: styles of overlays, `--only`, `--json`, `--csv`; and Ctrl-C."""

import csv
import errno
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_models import Predictor
from seg_models.inference.prediction import Prediction
from tests.models.commands.predict_helpers import ids, names, seg


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


# ---- overlays --------------------------------------------------------------------------------------------------------


@pytest.fixture
def styles(monkeypatch):
    """Records the keyword arguments of overlays."""
    seen = []

    def save_overlay(self, path, alpha=0.5, *, contours=False, legend=False):
        seen.append((alpha, contours, legend))
        Image.fromarray(self.image).save(path)

    monkeypatch.setattr(Prediction, "save_overlay", save_overlay)
    return seen


@pytest.mark.parametrize(
    ("options", "style", "suffix"),
    [
        (["--overlay"], (0.5, False, False), "jpg"),
        (["--alpha", "0"], (0.0, False, False), "jpg"),
        (["--contours"], (0.5, True, False), "jpg"),
        (["--legend", "--overlay-format", "png"], (0.5, False, True), "png"),
        (["--overlay-format", "webp"], (0.5, False, False), "webp"),
        (["--legend", "--only", "ground"], (0.5, False, True), "jpg"),
    ],
)
def test_each_option_of_overlays_writes_them(options, style, suffix, images, model_file, tmp_path, styles):
    out = tmp_path / "out"
    assert seg("predict", images / "0.png", "--model", model_file, "--out", out, *options) == 0
    assert names(out) == ["0.png", f"0_overlay.{suffix}"]
    assert styles == [style]


def test_no_masks_writes_overlays_alone_and_resumes(images, model_file, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["predict", images, "--model", model_file, "--out", out, "--no-masks", "--overlay"]
    assert seg(*arguments) == 0
    assert names(out) == [f"{n}_overlay.jpg" for n in range(5)]
    assert capsys.readouterr().out == f"5 images predicted: 5 overlays (*_overlay.jpg) in {out}\n"
    (out / "3_overlay.jpg").unlink()
    assert seg(*arguments, "--resume") == 0
    streams = capsys.readouterr()
    assert "seg: 4 images done before" in streams.err
    assert streams.out == f"1 image predicted: 1 overlay (*_overlay.jpg) in {out}; 4 done before\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--no-masks"], "--no-masks leaves nothing to write; add --overlay"),
        (["--no-masks", "--overlay", "--format", "tiff"], "--format tiff is the format of label maps"),
        (["--alpha", "1.5"], "--alpha 1.5 must be a weight from 0 to 1"),
        (["--json", "--csv"], "--json and --csv would both be printed to stdout"),
        (["--json", "a", "--csv", "a"], "--json and --csv would both be written to a"),
        (["--json", "images/0.png"], "--json images/0.png has the name of an image or a video"),
        (["--csv", "new.jpg"], "--csv new.jpg has the name of an image or a video"),
        (["--json", "model.pt"], "--json model.pt would overwrite a file that is read"),
    ],
)
def test_contradictions_are_found_before_the_model_is_loaded(
    options, words, images, model_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    model_file.write_text("never read")
    assert seg("predict", "images", "--model", "model.pt", *options) == 2
    assert words in capsys.readouterr().err
    assert names(tmp_path) == ["images", "model.pt"]


# ---- classes ---------------------------------------------------------------------------------------------------------


def test_only_keeps_the_pixels_of_these_classes(images, model_file, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["predict", images / "0.png", "--model", model_file, "--out", out, "--csv"]
    whole = Predictor(model_file)(images / "0.png").labels
    assert {0, 1} == set(np.unique(whole))
    assert seg(*arguments, "--only", "ground") == 0
    np.testing.assert_array_equal(ids(out / "0.png"), np.where(whole == 1, 1, 255))
    expected = f"source,ground\n{images / '0.png'},{(whole == 1).sum()}\n"
    assert capsys.readouterr().out == expected
    for both in (["--only", "ground,sky"], ["--only", "ground", "--only", "sky"]):
        assert seg(*arguments, *both) == 0
        np.testing.assert_array_equal(ids(out / "0.png"), whole)
        assert capsys.readouterr().out.startswith("source,sky,ground\n")
    assert seg(*arguments, "--only", "sky,gruond") == 2
    assert "there is no class 'gruond'. Did you mean 'ground'?" in capsys.readouterr().err


def test_class_with_a_comma_in_its_name_is_kept(images, model_file, tmp_path, capsys):
    classes = tmp_path / "classes.toml"
    classes.write_text('name = "mine"\nlabels = ["sky", "earth, ground"]\n')
    arguments = ["predict", images / "0.png", "--model", model_file, "--out", tmp_path / "out", "--csv"]
    assert seg(*arguments, "--classes", classes, "--only", "earth, ground", "--only", "sky") == 0
    header = next(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert header == ["source", "sky", "earth, ground"]


def test_only_of_predictor_holds_for_images_read_tile_by_tile(images, model_file, tmp_path):
    pytest.importorskip("rasterio")
    options = {"tile": 32, "device": "cpu"}
    whole = Predictor(model_file, **options)(images / "0.png").labels
    np.save(tmp_path / "0.npy", np.asarray(Image.open(images / "0.png")))
    predictor = Predictor(model_file, only=["sky"], **options)
    written = predictor.predict_to_file(tmp_path / "0.npy", tmp_path / "0.tif")
    np.testing.assert_array_equal(ids(tmp_path / "0.tif"), np.where(whole == 0, 0, 255))
    assert written.areas == predictor(images / "0.png").areas == {"sky": int((whole == 0).sum())}


# ---- summaries -------------------------------------------------------------------------------------------------------


def test_json_is_all_that_stdout_gets(images, model_file, tmp_path, capsys):
    (images / "bad.png").write_text("no image")
    out = tmp_path / "out"
    assert seg("predict", images, "--model", model_file, "--out", out, "--overlay", "--json") == 1
    streams = capsys.readouterr()
    found = strict(streams.out)
    assert "5 images predicted: 5 label maps (class ids as PNG), 5 overlays (*_overlay.jpg)" in streams.err
    assert (found["model"], found["weights"], found["classes"]) == (str(model_file), None, ["sky", "ground"])
    assert found["done_before"] == 0
    (failed,) = found["failed"]
    assert failed["source"] == str(images / "bad.png")
    assert "cannot be read" in failed["error"]
    assert [image["source"] for image in found["images"]] == [str(images / f"{n}.png") for n in range(5)]
    first = found["images"][0]
    areas = Predictor(model_file)(images / "0.png").areas
    assert first["areas"] == {name: {"pixels": count, "fraction": count / 2400} for name, count in areas.items()}
    assert (first["width"], first["height"]) == (60, 40)
    assert (first["labels"], first["overlay"]) == (str(out / "0.png"), str(out / "0_overlay.jpg"))
    assert first["seconds"] > 0


def test_resumed_summary_has_what_was_done_before(images, model_file, tmp_path, capsys):
    arguments = ["predict", images, "--model", model_file, "--out", tmp_path / "out"]
    files = ["--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv"]
    assert seg(*arguments, *files) == 0
    table, whole = (tmp_path / "s.csv").read_text(), strict((tmp_path / "s.json").read_text())
    (tmp_path / "out" / "1.png").unlink()
    (tmp_path / "s.csv").unlink()
    for left in (4, 5):  # the second time nothing is left to predict
        assert seg(*arguments, *files, "--resume") == 0
        again = strict((tmp_path / "s.json").read_text())
        assert (tmp_path / "s.csv").read_text() == table
        assert again["done_before"] == left
        assert [image.get("done_before", False) for image in again["images"]].count(True) == left
        assert [image["areas"] for image in again["images"]] == [image["areas"] for image in whole["images"]]
    assert "0 images predicted; nothing new in" in capsys.readouterr().out
    (tmp_path / "out" / "2.png").write_text("damaged")
    assert seg(*arguments, *files, "--resume") == 0
    assert "2.png, done before, are unknown" in capsys.readouterr().err
    assert (tmp_path / "s.csv").read_text().splitlines()[3] == f"{images / '2.png'},,"


def test_shards_write_their_own_summaries(images, model_file, tmp_path):
    arguments = ["predict", images, "--model", model_file, "--out", tmp_path / "out", "--csv", tmp_path / "a.csv"]
    for shard in ("1/2", "2/2"):
        assert seg(*arguments, "--shard", shard) == 0
    assert len((tmp_path / "a-1of2.csv").read_text().splitlines()) == 4
    assert len((tmp_path / "a-2of2.csv").read_text().splitlines()) == 3
    assert not (tmp_path / "a.csv").exists()


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------


def test_interrupt_says_how_to_resume_and_leaves_complete_files(images, model_file, tmp_path, monkeypatch, capsys):
    save, saved = Prediction.save, []

    def interrupted(self, path):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(path)
        save(self, path)

    out = tmp_path / "my labels"
    arguments = [
        "predict",
        str(images),
        "--model",
        str(model_file),
        "--out",
        str(out),
        "--json",
        str(tmp_path / "s.json"),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(Prediction, "save", interrupted)
        assert seg(*arguments) == 130
    assert names(out) == ["0.png", "1.png"]
    assert not (tmp_path / "s.json").exists()
    told = capsys.readouterr().err.splitlines()[-1]
    before, line = told.split("; resume with: seg ")
    assert before == "seg: interrupted after 2 of 5 images"
    assert shlex.split(line) == [*arguments, "--resume"]
    assert seg(*shlex.split(line)) == 0
    assert len(names(out)) == 5
    assert strict((tmp_path / "s.json").read_text())["done_before"] == 2


@pytest.mark.parametrize("given", [["--resume", "images"], ["--", "images"]])
def test_resume_line_has_resume_once_and_before_the_dashes(given, images, model_file, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Prediction, "save", interrupted)
    assert seg("predict", "--model", "model.pt", *given) == 130
    assert "resume with: seg predict --model model.pt --resume " in capsys.readouterr().err


def test_names_that_are_not_utf8_are_written_as_they_are(images, model_file, tmp_path):
    name = os.fsdecode(b"bad\xff.png")
    try:
        (images / "0.png").rename(images / name)
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    options = ["--model", model_file, "--out", tmp_path / "out"]
    assert seg("predict", images / name, *options, "--csv", tmp_path / "a.csv", "--json", tmp_path / "s.json") == 0
    rows = (tmp_path / "a.csv").read_bytes()
    assert os.fsencode(images / name) in rows
    assert json.loads((tmp_path / "s.json").read_text())["images"][0]["source"] == str(images / name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["predict", "--help"], ["models"]])
def test_full_stdout_is_one_sentence(words):
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "seg_core.command", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith("seg: error: cannot write to stdout: ")
    assert ended.stderr.count("\n") == 1


def test_summary_is_no_result_of_an_image(images, model_file, tmp_path, capsys):
    pytest.importorskip("rasterio")
    options = ["--model", model_file, "--out", tmp_path, "--format", "geojson"]
    assert seg("predict", images, *options, "--json", tmp_path / "1.geojson") == 2
    assert "1.geojson is the file of a result" in capsys.readouterr().err


def test_names_from_stdin_must_be_piped_in_again(images, model_file, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{images / '0.png'}\n"))
    monkeypatch.setattr(Prediction, "save", interrupted)
    assert seg("predict", "-", "--model", "model.pt") == 130
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith("; pipe the names of the images again into: seg predict - --model model.pt --resume")


def test_full_disk_behind_stdout_ends_a_prediction_with_one_sentence(images, model_file, tmp_path, monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        def fileno(self):
            return os.dup(1)

    monkeypatch.setattr(sys, "stdout", Full())
    assert seg("predict", images, "--model", model_file, "--out", tmp_path / "out", "--csv") == 1
    assert "seg: error: cannot write to stdout: No space left on device" in capsys.readouterr().err
    assert len(names(tmp_path / "out")) == 5
