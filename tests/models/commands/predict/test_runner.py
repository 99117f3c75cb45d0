"""What `seg predict` does with large images, videos, bad images, and a full disk."""

import subprocess
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from seg_models import Predictor
from tests.models.commands.predict_helpers import ids, names, seg

RNG = np.random.default_rng(0)


def test_large_images_are_predicted_tile_by_tile(images, model_file, tmp_path, monkeypatch, capsys):
    pytest.importorskip("rasterio")
    np.save(tmp_path / "array.npy", np.asarray(Image.open(images / "1.png")))
    monkeypatch.setattr("seg_models.commands.predict.runner._MAX_PIXELS_IN_MEMORY", 1000)
    written = []
    monkeypatch.setattr(
        Predictor, "predict_to_file", spy(Predictor.predict_to_file, lambda source, target: written.append(source))
    )
    sources, out = [images / "0.png", tmp_path / "array.npy"], tmp_path / "out"
    options = ["--model", model_file, "--out", out, "--overlay"]
    assert seg("predict", *sources, *options, "--tile", "32", "--format", "tiff") == 0
    assert written == list(map(str, sources))
    assert names(out) == ["0.tif", "array.tif"]
    assert "0.png is written tile by tile, without an overlay" in capsys.readouterr().err
    assert ids(out / "array.tif").shape == (40, 60)
    assert seg("predict", *sources, *options) == 1
    assert "array.npy is read tile by tile; it needs --tile and --format tiff" in capsys.readouterr().err
    assert names(out) == ["0.png", "0.tif", "0_overlay.jpg", "array.tif"]


def test_max_pixels_raises_and_lowers_the_limit(images, model_file, tmp_path, monkeypatch, capsys):
    pytest.importorskip("rasterio")
    options = ["--model", model_file, "--out", tmp_path / "out"]
    size = 40 * 60
    assert seg("predict", images / "1.png", *options, "--max-pixels", size - 1) == 1
    assert f"1.png has 60x40 = {size} pixels" in capsys.readouterr().err
    assert seg("predict", images / "1.png", *options, "--max-pixels", size) == 0
    assert seg("predict", images / "1.png", *options, "--max-pixels", "0") == 2
    assert "--max-pixels 0 must be an integer >= 1" in capsys.readouterr().err
    # images that cannot be read tile by tile are read at once, up to the limit
    monkeypatch.setattr("seg_models.commands.predict.runner._MAX_PIXELS_IN_MEMORY", 1000)
    Image.open(images / "1.png").convert("P").save(tmp_path / "palette.png")
    tiles = ["--tile", "32", "--format", "tiff"]
    assert seg("predict", tmp_path / "palette.png", *options, *tiles) == 0
    assert seg("predict", tmp_path / "palette.png", *options, *tiles, "--max-pixels", size - 1) == 1
    assert "palette.png has a palette, so it can only be read at once" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "options"), [("turned.jpg", {}), ("turned_gray.jpg", {"mode": "L"})])
def test_turned_jpeg_is_predicted_upright_whatever_its_size(name, options, model_file, tmp_path, monkeypatch):
    pytest.importorskip("rasterio")
    image = Image.fromarray(RNG.integers(0, 256, (40, 60, 3), np.uint8)).convert(options.get("mode", "RGB"))
    tag = Image.Exif()
    tag[274] = 6
    image.save(tmp_path / name, exif=tag)
    tiles = ["--model", model_file, "--tile", "32", "--format", "tiff"]
    assert seg("predict", tmp_path / name, *tiles, "--out", tmp_path / "small") == 0
    monkeypatch.setattr("seg_models.commands.predict.runner._MAX_PIXELS_IN_MEMORY", 1000)
    assert seg("predict", tmp_path / name, *tiles, "--out", tmp_path / "large") == 0
    small, large = (ids(tmp_path / out / name.replace("jpg", "tif")) for out in ("small", "large"))
    assert small.shape == (60, 40)
    np.testing.assert_array_equal(large, small)


def test_overlay_too_large_for_jpeg_is_a_png(model_file, tmp_path, capsys):
    Image.new("RGB", (4, 65501)).save(tmp_path / "strip.png")
    out = tmp_path / "out"
    assert seg("predict", tmp_path / "strip.png", "--model", model_file, "--out", out, "--overlay") == 0
    assert names(out) == ["strip.png", "strip_overlay.png"]
    assert "JPEG has at most 65500 pixels a side" in (err := capsys.readouterr().err)
    assert "it was written as strip_overlay.png" in err


def spy(function, record):
    """Returns a method that first records its arguments."""

    def spied(self, source, target, **options):
        record(source, target)
        return function(self, source, target, **options)

    return spied


@pytest.fixture
def clip(tmp_path):
    pytest.importorskip("av")
    from seg_models.inference.video import VideoWriter

    with VideoWriter(tmp_path / "clip.mp4", Fraction(12)) as video:
        for gray in (10, 90, 170, 250):
            video.write(np.full((48, 64, 3), gray, np.uint8))
    return tmp_path / "clip.mp4"


def test_video_gives_a_label_map_per_frame_and_an_overlay_video(clip, model_file, tmp_path, capsys):
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
        # the format stores colors at half the resolution, which keeps their mean
        np.testing.assert_allclose(frame.mean((0, 1)), prediction.overlay().mean((0, 1)), atol=6)


def test_overlay_of_a_video_has_the_times_of_its_frames(model_file, tmp_path):
    """As phones write them: the interval between frames varies."""
    pytest.importorskip("av")
    from seg_models.inference.video import VideoWriter, read_timed_frames

    times = [Fraction(ms, 1000) for ms in (0, 40, 80, 120, 160, 1000, 2000, 3000)]
    with VideoWriter(tmp_path / "phone.mp4", Fraction(25)) as video:
        for number, time in enumerate(times):
            video.write(np.full((48, 64, 3), 30 * number, np.uint8), time)
    out = tmp_path / "out"
    assert seg("predict", tmp_path / "phone.mp4", "--model", model_file, "--out", out, "--overlay") == 0
    assert [time for _, time in read_timed_frames(out / "phone_overlay.mp4")] == times


def test_resume_predicts_the_missing_frames_of_a_video(clip, model_file, tmp_path, capsys):
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


def test_file_that_is_no_video_is_skipped(clip, images, model_file, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    out = tmp_path / "out"
    assert seg("predict", tmp_path / "text.mp4", images, "--model", model_file, "--out", out, "--overlay") == 1
    assert "skipped: " in (err := capsys.readouterr().err)
    assert "text.mp4 cannot be read as a video" in err
    assert len(names(out)) == 10


def test_each_bad_image_is_reported_and_the_good_ones_are_predicted(images, model_file, tmp_path, capsys):
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


def test_full_disk_ends_the_run_and_leaves_complete_files_only(images, model_file, tmp_path, capsys):
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
            assert ids(disk / name).shape[0] in (40, 100)  # each file can be read
    finally:
        subprocess.run(["umount", disk], check=True)
