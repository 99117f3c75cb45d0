"""What `seg predict` does with large images, videos, bad images, and a full disk."""

import json
import re
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
    monkeypatch.setattr("seg_models.commands.predict.runner.WHOLE_PIXELS", 1000)
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
    # above it images are read tile by tile, as the message says, whatever their size
    tiles = ["--tile", "32", "--format", "tiff"]
    assert seg("predict", images / "1.png", *options, "--max-pixels", size - 1, *tiles) == 0
    assert ids(tmp_path / "out" / "1.tif").shape == (40, 60)
    # images that cannot be read tile by tile are read at once, up to the limit
    monkeypatch.setattr("seg_models.commands.predict.runner.WHOLE_PIXELS", 1000)
    Image.open(images / "1.png").convert("P").save(tmp_path / "palette.png")
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
    monkeypatch.setattr("seg_models.commands.predict.runner.WHOLE_PIXELS", 1000)
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


def test_number_of_frames_is_that_of_the_file(clip, tmp_path):
    from seg_models.inference.video import count_frames

    (tmp_path / "text.mp4").write_text("no video")
    assert count_frames(clip) == 4
    assert count_frames(tmp_path / "text.mp4") == count_frames(tmp_path / "gone.mp4") == 1
    assert count_frames("https://example.org/clip.mp4") is None


def test_overlay_video_without_label_maps(clip, model_file, tmp_path, capsys):
    from seg_models.inference.video import read_frames

    out = tmp_path / "out"
    arguments = ["predict", clip, "--model", model_file, "--out", out, "--no-masks", "--alpha", "1"]
    assert seg(*arguments) == 0
    assert names(out) == ["clip_overlay.mp4"]
    streams = capsys.readouterr()
    assert streams.out == f"4 images predicted: 1 overlay video (*_overlay.mp4) in {out}\n"
    assert "4/4 images, " in streams.err
    frames = read_frames(out / "clip_overlay.mp4")
    for prediction, frame in zip(Predictor(model_file)(clip), frames, strict=True):
        np.testing.assert_allclose(frame.mean((0, 1)), prediction.colorize().mean((0, 1)), atol=6)
    assert seg(*arguments, "--resume") == 0
    assert "nothing left to predict" in capsys.readouterr().out


@pytest.mark.parametrize(("only", "legend"), [([], ["sky", "ground"]), (["--only", "ground"], ["ground"])])
def test_legend_of_a_video_names_the_same_classes_in_each_frame(only, legend, clip, model_file, tmp_path, monkeypatch):
    from seg_models.inference.prediction import Prediction

    seen = []

    def overlay(self, alpha=0.5, *, contours=False, legend=False):
        seen.append((alpha, contours, legend))
        return self.image

    monkeypatch.setattr(Prediction, "overlay", overlay)
    options = ["--no-masks", "--legend", "--contours", *only]
    assert seg("predict", clip, "--model", model_file, "--out", tmp_path / "out", *options) == 0
    assert seen == [(0.5, True, legend)] * 4


def test_frames_of_a_video_are_rows_of_the_areas_also_when_resumed(clip, model_file, tmp_path, capsys):
    files = ["--csv", tmp_path / "a.csv", "--json", tmp_path / "s.json"]
    arguments = ["predict", clip, "--model", model_file, "--out", tmp_path / "out", *files]
    assert seg(*arguments) == 0
    rows = (tmp_path / "a.csv").read_text().splitlines()
    areas = [p.areas for p in Predictor(model_file)(clip)]
    assert rows == [
        "source,sky,ground",
        *(f"{clip}, frame {n}".join('""') + f",{a.get('sky', 0)},{a.get('ground', 0)}" for n, a in enumerate(areas)),
    ]
    (tmp_path / "out" / "clip" / "000001.png").unlink()
    assert seg(*arguments, "--resume") == 0
    streams = capsys.readouterr()
    assert "1/1 image, " in streams.err
    assert "1 image predicted: 1 label map (class ids as PNG)" in streams.out
    assert "; 3 done before" in streams.out
    assert (tmp_path / "a.csv").read_text().splitlines() == rows
    (video,) = json.loads((tmp_path / "s.json").read_text())["images"]
    assert (video["source"], video["frames"], video["width"], video["height"]) == (str(clip), 4, 64, 48)
    sky = sum(a.get("sky", 0) for a in areas)
    assert video["areas"].get("sky", {"pixels": 0, "fraction": 0}) == {"pixels": sky, "fraction": sky / (4 * 48 * 64)}
    # the same after an overlay video, which is one result
    overlay = ["--overlay", "--resume"]
    assert seg(*arguments, *overlay) == 0
    capsys.readouterr()
    assert seg(*arguments, *overlay) == 0
    assert "; 4 done before" in capsys.readouterr().out
    assert (tmp_path / "a.csv").read_text().splitlines() == rows


def test_video_that_ends_early_is_one_failure_and_the_total_stays_right(
    clip, images, model_file, tmp_path, monkeypatch, capsys
):
    from seg_core.errors import CorruptFileError
    from seg_models.commands.predict import runner

    def two_frames(path, max_pixels):
        yield from [(np.zeros((8, 8, 3), np.uint8), Fraction(number, 25)) for number in range(2)]
        raise CorruptFileError(f"{path} cannot be read beyond frame 2")

    monkeypatch.setattr(runner, "read_timed_frames", two_frames)
    arguments = ["predict", clip, images / "0.png", "--model", model_file, "--out", tmp_path / "out", "--json"]
    assert seg(*arguments) == 1
    streams = capsys.readouterr()
    # an image, the frames that were predicted before the failure, and the failure
    assert re.search(r"\b(\d)/\1 images, ", streams.err)
    assert "seg: 1 image of 4 could not be predicted" in streams.err
    found = json.loads(streams.out)
    assert [failed["source"] for failed in found["failed"]] == [str(clip)]
    assert [image["source"] for image in found["images"]] == [str(images / "0.png")]


def test_each_frame_of_an_image_file_has_its_own_results(tmp_path):
    from seg_core.labels.channels import RGB_CHANNELS
    from seg_core.labels.metadata import DatasetMetadata
    from seg_models.commands.predict.jobs import Outputs, find_jobs
    from seg_models.commands.predict.progress import ImageProgress
    from seg_models.commands.predict.report import Report
    from seg_models.commands.predict.runner import JobRunner
    from seg_models.inference.prediction import Prediction

    two = DatasetMetadata("two", ("sky", "ground"))
    pages = [Image.fromarray(np.full((4, 6), 9 * number, np.uint8)) for number in range(2)]
    pages[0].save(tmp_path / "scan, frame 7.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tif")

    class Pages:
        """A predictor that names pages as `Predictor(all_frames=True)` does."""

        tile = None
        channels = RGB_CHANNELS

        def stream(self, sources, on_error):
            for source, count in zip(sources, (1, 2), strict=True):
                for number in range(count):
                    labels = np.full((4, 6), number, np.uint8)
                    image = np.zeros((4, 6, 3), np.uint8)
                    yield Prediction(labels, two, image, source=f"{source}, page {number}")

    outputs = Outputs(".png", ".png", all_frames=True)
    jobs = find_jobs([str(tmp_path / name) for name in ("one.tif", "scan, frame 7.tif")], tmp_path / "out", outputs)
    report = Report(jobs, two, None, reads_old=True)
    JobRunner(Pages(), ImageProgress(2), report, outputs, {}, resume=False).run(jobs)
    assert names(tmp_path / "out") == [
        "one.png",
        "one_overlay.png",
        *(f"scan, frame 7_frame00000{n}{end}.png" for n in range(2) for end in ("", "_overlay")),
    ]
    assert ids(tmp_path / "out" / "scan, frame 7_frame000001.png").max() == 1
    assert [row.rsplit(",", 2)[1:] for row in report.csv().splitlines()[1:]] == [["24", "0"], ["24", "0"], ["0", "24"]]
    again = Report(jobs, two, None, reads_old=True)
    JobRunner(Pages(), ImageProgress(2), again, outputs, {}, resume=True).add_finished(jobs)
    assert again.csv().splitlines()[2:] == report.csv().splitlines()[2:]
    assert again.done_before == 3


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


def test_pages_of_a_large_file_are_predicted_at_once_up_to_the_limit(model_file, tmp_path, monkeypatch, capsys):
    pytest.importorskip("rasterio")
    monkeypatch.setattr("seg_models.commands.predict.runner.WHOLE_PIXELS", 100)
    pages = [Image.new("RGB", (40, 32), (number, 0, 0)) for number in (9, 90)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    out = tmp_path / "out"
    options = ["--model", model_file, "--out", out, "--tile", "32", "--format", "tiff", "--all-frames"]
    assert seg("predict", tmp_path / "x.tif", *options, "--max-pixels", "1000") == 1
    err = capsys.readouterr().err
    assert "has 40x32 = 1280 pixels" in err
    assert "1/1 image\n" in err  # the file is one failure
    assert seg("predict", tmp_path / "x.tif", *options) == 0
    assert names(out) == ["x_frame000000.tif", "x_frame000001.tif"]
    assert "2/2 images, " in capsys.readouterr().err


def test_video_at_a_url_without_a_suffix_says_to_download_it(model_file, tmp_path, monkeypatch, capsys):
    def fetch(url, path, noun, most):
        path.write_bytes(b"\0\0\0\x18ftypisom" + bytes(40))

    monkeypatch.setattr("seg_models.inference.downloads.fetch_once", fetch)
    assert seg("predict", "https://example.org/drive", "--model", model_file, "--out", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "but a video: download it to a file with the suffix .mp4 and pass its path\n" in err
