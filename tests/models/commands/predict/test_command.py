"""`seg predict` beyond one folder of images: formats, shares, resumed runs, videos, what cannot be written."""

import json
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

import seg_models
from seg_core.command import main
from seg_core.labels.metadata import DatasetMetadata
from seg_core.transforms.preprocessing import Preprocessing
from seg_models import Predictor

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.pt"
    metadata = DatasetMetadata("two", ("sky", "ground"))
    preprocessing = Preprocessing(scale=0.5)
    torch.manual_seed(0)
    model = seg_models.enet(num_classes=2).eval()
    with torch.no_grad():  # both classes are to occur
        logits = model(preprocessing(RNG.integers(0, 256, (40, 60, 3), np.uint8)))["out"]
        list(model.parameters())[-1][0] -= (logits[:, 0] - logits[:, 1]).median()
    seg_models.save_model(model, path, metadata=metadata, preprocessing=preprocessing)
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(RNG.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def seg(*arguments):
    return main([str(a) for a in arguments])


def names(folder):
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def ids(path):
    with Image.open(path) as saved:
        return np.asarray(saved)


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ([], {}),
        (["--batch-size", "3"], {"batch_size": 3}),
        (["--tile", "16"], {"tile": 16}),
        (["--tile", "16x24", "--overlap", "0.25"], {"tile": (16, 24), "overlap": 0.25}),
        (["--tta"], {"tta": True}),
        (["--tta", "1,0.5,vflip"], {"tta": {"scales": (1, 0.5), "hflip": False, "vflip": True}}),
        (["--tta", "hflip,turns"], {"tta": {"scales": [1], "hflip": True, "quarter_turns": True}}),
        (["--scale", "1"], {"preprocessing": Preprocessing(scale=1.0)}),
        (["--dtype", "bf16"], {"dtype": "bf16"}),
        (["--threshold", "0.503"], {"threshold": 0.503}),
    ],
)
def test_options_are_those_of_the_predictor(options, same, images, model_file, tmp_path):
    out = tmp_path / "out"
    assert seg("predict", images, "--model", model_file, "--out", out, "--device", "cpu", *options) == 0
    predictor = Predictor(model_file, device="cpu", **same)
    for prediction in predictor(images):
        np.testing.assert_array_equal(ids(out / os.path.basename(prediction.source)), prediction.labels)
    if options and options[0] != "--batch-size":
        plain = [p.labels for p in Predictor(model_file)(images)]
        assert not all(np.array_equal(ids(out / f"{n}.png"), labels) for n, labels in enumerate(plain))


def test_patterns_and_folders_name_each_image_once(images, model_file, tmp_path, capsys):
    out = tmp_path / "out"
    assert seg("predict", images, str(images / "[12].png"), "--model", model_file, "--out", out) == 0
    assert names(out) == [f"{n}.png" for n in range(5)]
    assert "5/5 images" in capsys.readouterr().err


def test_formats(images, model_file, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    for kind, ending in (("tiff", ".tif"), ("geojson", ".geojson")):
        assert seg("predict", images / "0.png", "--model", model_file, "--out", tmp_path / kind, "--format", kind) == 0
        assert names(tmp_path / kind) == [f"0{ending}"]
    labels = Predictor(model_file)(images / "0.png").labels
    np.testing.assert_array_equal(ids(tmp_path / "tiff" / "0.tif"), labels)
    features = json.loads((tmp_path / "geojson" / "0.geojson").read_text())["features"]
    shapes = [(f["geometry"], f["properties"]["class_id"]) for f in features]
    np.testing.assert_array_equal(rasterio.features.rasterize(shapes, labels.shape), labels)


def test_large_images_go_by_windows(images, model_file, tmp_path, monkeypatch, capsys):
    pytest.importorskip("rasterio")
    np.save(tmp_path / "array.npy", np.asarray(Image.open(images / "1.png")))
    monkeypatch.setattr("seg_models.commands.predict._MOST_AT_ONCE", 1000)
    written = []
    monkeypatch.setattr(
        Predictor, "predict_to_file", spy(Predictor.predict_to_file, lambda source, target: written.append(source))
    )
    sources, out = [images / "0.png", tmp_path / "array.npy"], tmp_path / "out"
    options = ["--model", model_file, "--out", out, "--overlay"]
    assert seg("predict", *sources, *options, "--tile", "32", "--format", "tiff") == 0
    assert written == list(map(str, sources))
    assert names(out) == ["0.tif", "array.tif"]
    assert "0.png is written window by window, without an overlay" in capsys.readouterr().err
    assert ids(out / "array.tif").shape == (40, 60)
    assert seg("predict", *sources, *options) == 1
    assert "array.npy is read window by window; it needs --tile and --format tiff" in capsys.readouterr().err
    assert names(out) == ["0.png", "0.tif", "0_overlay.jpg", "array.tif"]


def test_max_pixels_raises_and_lowers_the_limit(images, model_file, tmp_path, monkeypatch, capsys):
    pytest.importorskip("rasterio")
    options = ["--model", model_file, "--out", tmp_path / "out"]
    size = 40 * 60
    assert seg("predict", images / "1.png", *options, "--max-pixels", size - 1) == 1
    assert f"1.png has 60x40 = {size} pixels" in capsys.readouterr().err
    assert seg("predict", images / "1.png", *options, "--max-pixels", size) == 0
    assert seg("predict", images / "1.png", *options, "--max-pixels", "0") == 2
    assert "--max-pixels 0 must be an integer of at least 1" in capsys.readouterr().err
    # what windows cannot have is read at once, as far as the limit allows
    monkeypatch.setattr("seg_models.commands.predict._MOST_AT_ONCE", 1000)
    Image.open(images / "1.png").convert("P").save(tmp_path / "palette.png")
    tiles = ["--tile", "32", "--format", "tiff"]
    assert seg("predict", tmp_path / "palette.png", *options, *tiles) == 0
    assert seg("predict", tmp_path / "palette.png", *options, *tiles, "--max-pixels", size - 1) == 1
    assert "palette.png has a palette; read window by window" in capsys.readouterr().err


def spy(function, note):
    def spied(self, source, target, **options):
        note(source, target)
        return function(self, source, target, **options)

    return spied


# ---- resumed runs and shares -----------------------------------------------------------------------------------------


def test_resume_leaves_out_what_is_done(images, model_file, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("0.png", "1.png", "1_overlay.jpg"):
        (out / name).write_text("done before")
    arguments = ["predict", images, "--model", model_file, "--out", out, "--overlay", "--resume"]
    assert seg(*arguments) == 0
    assert "seg: 1 image done before" in capsys.readouterr().err
    assert (out / "1.png").read_text() == "done before"
    assert ids(out / "0.png").shape == (40, 60)  # its overlay was missing
    assert len(names(out)) == 10
    assert seg(*arguments) == 0
    assert "nothing is left to predict" in capsys.readouterr().out


def test_shares_are_disjoint_and_cover_all(images, model_file, tmp_path, monkeypatch, capsys):
    for share in range(1, 4):
        assert seg("predict", images, "--model", model_file, "--out", tmp_path / "n", "--shard", f"{share}/3") == 0
    assert names(tmp_path / "n") == [f"{n}.png" for n in range(5)]
    assert "share 3 of 3: 1 of 5 images" in capsys.readouterr().err

    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert seg("predict", images, "--model", model_file, "--out", tmp_path / rank) == 0
        found.append(names(tmp_path / rank))
    assert found == [["0.png", "2.png", "4.png"], ["1.png", "3.png"]]


def test_processes_of_a_launcher_share_a_list(images, model_file, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    arguments = ["seg_core.command", "predict", images, "--model", model_file, "--out", tmp_path / "out"]
    done = subprocess.run(list(map(str, launcher + arguments)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        f"{count} images predicted; class ids as PNG in {tmp_path / 'out'}" for count in (2, 3)
    ]
    assert names(tmp_path / "out") == [f"{n}.png" for n in range(5)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tile", "big"], "--tile big must be pixels, as 512, or height x width"),
        (["--tta", "1,sideways"], "'sideways' is neither a scale nor one of hflip, vflip, turns"),
        (["--scale", "0"], "--scale 0.0 must be a factor above 0"),
        (["--shard", "0/3"], "--shard 0/3 must be I/N with I from 1 to N"),
        (["--shard", "4/3"], "--shard 4/3 must be I/N"),
    ],
)
def test_option_that_is_wrong_is_named_before_anything_is_loaded(options, words, images, tmp_path, capsys):
    assert seg("predict", images, "--model", "gone.pt", "--out", tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_environment_that_names_no_share_is_told(images, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert seg("predict", images, "--model", "gone.pt") == 2
    assert "RANK=3 and WORLD_SIZE=2 of the environment name no share" in capsys.readouterr().err


# ---- videos ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path):
    pytest.importorskip("av")
    from seg_models.inference.video import VideoWriter

    with VideoWriter(tmp_path / "clip.mp4", Fraction(12)) as video:
        for gray in (10, 90, 170, 250):
            video.write(np.full((48, 64, 3), gray, np.uint8))
    return tmp_path / "clip.mp4"


def test_video_gives_a_label_map_for_each_frame_and_a_video(clip, model_file, tmp_path, capsys):
    from seg_models.inference.video import frame_rate, read_frames

    out = tmp_path / "out"
    assert seg("predict", clip, "--model", model_file, "--out", out, "--overlay", "--batch-size", "3") == 0
    assert names(out) == ["clip", "clip_overlay.mp4"]
    assert names(out / "clip") == [f"{n:06d}.png" for n in range(4)]
    assert "4 images predicted" in capsys.readouterr().out
    assert frame_rate(out / "clip_overlay.mp4") == 12
    frames = list(read_frames(out / "clip_overlay.mp4"))
    for prediction, frame, name in zip(Predictor(model_file)(clip), frames, names(out / "clip"), strict=True):
        np.testing.assert_array_equal(ids(out / "clip" / name), prediction.labels)
        # the format halves the colors, which leaves their mean
        np.testing.assert_allclose(frame.mean((0, 1)), prediction.overlay().mean((0, 1)), atol=6)


def test_resumed_video_predicts_the_frames_that_are_missing(clip, model_file, tmp_path, capsys):
    out = tmp_path / "out"
    (out / "clip").mkdir(parents=True)
    for name in ("000000.png", "000002.png"):
        (out / "clip" / name).write_text("done before")
    assert seg("predict", clip, "--model", model_file, "--out", out, "--resume") == 0
    assert "2 images predicted" in capsys.readouterr().out
    assert names(out / "clip") == [f"{n:06d}.png" for n in range(4)]
    assert (out / "clip" / "000002.png").read_text() == "done before"
    expected = [p.labels for p in Predictor(model_file)(clip)]
    np.testing.assert_array_equal(ids(out / "clip" / "000003.png"), expected[3])


def test_video_that_is_none_is_skipped(clip, images, model_file, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    out = tmp_path / "out"
    assert seg("predict", tmp_path / "text.mp4", images, "--model", model_file, "--out", out, "--overlay") == 1
    assert "skipped: " in (err := capsys.readouterr().err)
    assert "text.mp4 cannot be read as a video" in err
    assert len(names(out)) == 10


# ---- what cannot be read or written ----------------------------------------------------------------------------------


def test_each_bad_image_is_told_and_the_good_ones_are_predicted(images, model_file, tmp_path, capsys):
    (images / "text.jpg").write_text("no image")
    (images / "zero.png").touch()
    Image.fromarray(np.full((9, 9), 999, np.uint16)).save(images / "deep.png")
    (images / "cut.png").write_bytes((images / "0.png").read_bytes()[:4000])
    for name, mode in (("gray.png", "L"), ("alpha.png", "RGBA"), ("ink.jpg", "CMYK")):
        Image.fromarray(RNG.integers(0, 256, (20, 30, 3), np.uint8)).convert(mode).save(images / name)
    Image.new("RGB", (1, 1)).save(images / "dot.png")
    Image.new("RGB", (4000, 10)).save(images / "strip.png")
    out = tmp_path / "out"
    assert seg("predict", images, "--model", model_file, "--out", out, "--batch-size", "2") == 1
    streams = capsys.readouterr()
    for name in ("text.jpg", "zero.png", "deep.png", "cut.png"):
        assert f"seg: skipped: image {images / name} " in streams.err
    assert "seg: 4 images of 14 could not be predicted" in streams.err
    assert names(out) == sorted(
        [f"{n}.png" for n in range(5)] + ["alpha.png", "dot.png", "gray.png", "ink.png", "strip.png"]
    )
    assert ids(out / "dot.png").shape == (1, 1)
    assert ids(out / "strip.png").shape == (10, 4000)


def test_folder_that_cannot_be_written_is_told_before_the_first_prediction(images, model_file, tmp_path, capsys):
    (tmp_path / "out").write_text("a file, no folder")
    assert seg("predict", images, "--model", model_file, "--out", tmp_path / "out") == 1
    streams = capsys.readouterr()
    assert streams.err.startswith("seg: error: cannot write ")
    assert "images/s" not in streams.err
    assert (tmp_path / "out").read_text() == "a file, no folder"


def test_full_disk_ends_the_run_and_leaves_whole_files_only(images, model_file, tmp_path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        for number in range(40):
            Image.fromarray(RNG.integers(0, 256, (100, 150, 3), np.uint8)).save(images / f"more{number}.png")
        assert seg("predict", images, "--model", model_file, "--out", disk) == 1
        assert "seg: error: cannot write " in capsys.readouterr().err
        found = names(disk)
        assert 0 < len(found) < 45
        for name in found:
            assert ids(disk / name).shape[0] in (40, 100)  # each can be read
    finally:
        subprocess.run(["umount", disk], check=True)


def test_without_what_a_format_needs_nothing_is_started(images, model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert seg("predict", images, "--model", model_file, "--out", tmp_path / "out", "--format", "tiff") == 1
    assert "pip install 'seg-models[geo]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
