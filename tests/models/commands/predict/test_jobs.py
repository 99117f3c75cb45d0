"""Which images `seg predict` finds, their output files, and `--resume`."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_core.errors import UsageError
from seg_models.commands.predict.jobs import Outputs, find_jobs, read_names, unfinished
from tests.models.commands.predict_helpers import ids, names, seg


def test_folder_and_file_give_one_png_per_image(two_images, model_file, tmp_path, capsys):
    Image.fromarray(np.zeros((11, 13, 3), np.uint8)).save(tmp_path / "single.png")
    out = tmp_path / "out"
    assert seg("predict", two_images, tmp_path / "single.png", "--model", model_file, "--out", out) == 0
    assert names(out) == ["a.png", "b.png", "single.png"]
    with Image.open(out / "single.png") as saved:
        assert saved.size == (13, 11)
        assert saved.mode == "P"
        assert set(np.unique(saved)) <= {0, 1}
    streams = capsys.readouterr()
    assert streams.out == f"3 images predicted: 3 label maps (class ids as PNG) in {out}\n"
    assert re.search(r"3/3 images, [\d.]+ images/s\n$", streams.err)


def test_image_named_twice_is_predicted_once(images, model_file, tmp_path, capsys):
    out = tmp_path / "out"
    assert seg("predict", images, str(images / "[12].png"), "--model", model_file, "--out", out) == 0
    assert names(out) == [f"{n}.png" for n in range(5)]
    assert "5/5 images" in capsys.readouterr().err


def test_default_output_folder_is_named(two_images, model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert seg("predict", two_images / "b.png", "--model", model_file) == 0
    assert names(tmp_path / "predictions") == ["b.png"]
    assert "in predictions" in capsys.readouterr().out


def test_resume_skips_finished_images(images, model_file, tmp_path, capsys):
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
    assert "nothing left to predict" in capsys.readouterr().out


# ---- folders within folders ------------------------------------------------------------------------------------------

PNG = Outputs(".png")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The current folder, with photos/ of images at three depths."""
    for name in ("photos/x.jpg", "photos/a/x.jpg", "photos/a/deep/clip.mp4", "photos/b/notes.txt", "photos/b/.y.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results(*sources, out="out", outputs=PNG):
    return {job.source: str(job.labels) for job in find_jobs(sources, Path(out), outputs)}


def test_subfolders_are_predicted_too_and_mirrored(tree, capsys):
    expected = {
        "photos/a/deep/clip.mp4": "out/a/deep/clip",
        "photos/a/x.jpg": "out/a/x.png",
        "photos/x.jpg": "out/x.png",
    }
    assert results("photos") == results("photos/") == expected
    assert (
        capsys.readouterr().err == "seg: left out 1 file: 1 .txt in photos\nseg: left out 1 file: 1 .txt in photos/\n"
    )
    # below its first wildcard, a glob pattern does the same
    assert results("photos/**/*.jpg") == {name: expected[name] for name in ("photos/a/x.jpg", "photos/x.jpg")}
    assert results("photos/*/x.jpg") == {"photos/a/x.jpg": "out/a/x.png"}
    assert results(str(tree / "photos/*/x.jpg")) == {str(tree / "photos/a/x.jpg"): "out/a/x.png"}


def test_overlays_are_mirrored_too(tree):
    jobs = find_jobs(["photos"], Path("out"), Outputs(None, ".webp"))
    assert [str(job.overlay) for job in jobs] == [
        "out/a/deep/clip_overlay.mp4",
        "out/a/x_overlay.webp",
        "out/x_overlay.webp",
    ]
    assert {job.labels for job in jobs} == {None}


@pytest.mark.parametrize("out", ["photos/results", "photos/a/results"])
def test_output_folder_and_hidden_folders_are_left_out(out, tree, capsys):
    first = results("photos", out=out)
    (tree / out / "a").mkdir(parents=True)
    (tree / out / "a" / "old.png").touch()
    (tree / "photos/.thumbnails").mkdir()
    (tree / "photos/.thumbnails/x.jpg").touch()
    assert results("photos", out=out) == first
    told = capsys.readouterr().err
    assert f"{out} (the output folder)" in told
    assert "photos/.thumbnails (a hidden folder)" in told
    assert set(results("photos/**/*.*g", out=out)) == {"photos/a/x.jpg", "photos/x.jpg"}
    assert f"seg: left out folder {out} (the output folder) in photos/**/*.*g" in capsys.readouterr().err
    # named itself, the folder of results is no output folder
    assert set(results(out)) == {f"{out}/a/old.png"}


def test_image_of_a_folder_that_is_named_again_is_one_job(tree):
    assert results("photos", "photos/a", "./photos/a/x.jpg") == results("photos")


def test_link_to_a_folder_above_ends_and_linked_images_are_images(tree):
    (tree / "photos/a/up").symlink_to(tree / "photos", target_is_directory=True)
    (tree / "photos/same.jpg").symlink_to(tree / "photos/x.jpg")
    (tree / "elsewhere").mkdir()
    (tree / "elsewhere/z.png").touch()
    (tree / "photos/linked").symlink_to(tree / "elsewhere", target_is_directory=True)
    found = results("photos")
    assert len(found) == 5
    assert found["photos/linked/z.png"] == "out/linked/z.png"
    assert found["photos/same.jpg"] == "out/same.png"


def test_two_images_of_one_result_are_refused_in_a_subfolder_too(tree):
    (tree / "photos/a/x.png").touch()
    with pytest.raises(UsageError, match=r"photos/a/x\.jpg and photos/a/x\.png would both be written to out/a/x\.png"):
        results("photos")


def test_folder_without_images_at_any_depth_is_an_error(tree):
    with pytest.raises(UsageError, match=r"folder photos/b has no images or videos .* also not in its subfolders"):
        results("photos/b")


def test_nested_folder_is_predicted_and_predicted_again(images, model_file, tmp_path, capsys):
    (images / "a").mkdir()
    for number in range(1, 5):
        (images / f"{number}.png").unlink()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(images / "a" / "0.png")
    out = images / "results"
    for _ in range(2):
        assert seg("predict", images, "--model", model_file, "--out", out) == 0
        assert names(out) == ["0.png", "a"]
        assert names(out / "a") == ["0.png"]
        assert "2 images predicted: 2 label maps" in capsys.readouterr().out


# ---- names on stdin --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "a.jpg\n\n  \nwith space.jpg \r\nhttps://example.org/c.png",
            ["a.jpg", "with space.jpg ", "https://example.org/c.png"],
        ),
        ("'*.jpg'\n", ["'*.jpg'"]),
    ],
)
def test_dash_stands_for_the_names_on_stdin(text, found, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert read_names(["first", "-", "last"]) == ["first", *found, "last"]


def test_names_on_stdin_may_have_any_bytes(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"stra\xdfe.jpg\n"), "utf-8"))
    assert read_names(["-"]) == ["stra\udcdfe.jpg"]


@pytest.mark.parametrize("text", ["", "\n \n", None])
def test_empty_stdin_is_an_error(text, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None if text is None else io.StringIO(text))
    with pytest.raises(UsageError, match="stdin has none"):
        read_names(["-"])


def test_stdin_is_read_once():
    with pytest.raises(UsageError, match="give it once"):
        read_names(["-", "-"])


def test_images_named_on_stdin_are_predicted(images, model_file, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{images / '1.png'}\n{images / '[23].png'}\n"))
    assert seg("predict", "-", "--model", model_file, "--out", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["1.png", "2.png", "3.png"]


# ---- frames of image files -------------------------------------------------------------------------------------------


def test_frames_of_an_image_file_have_numbered_results_that_resume_checks(tmp_path):
    frames = [Image.fromarray(np.full((8, 8), 20 * number, np.uint8)) for number in range(3)]
    frames[0].save(tmp_path / "scan.x.gif", save_all=True, append_images=frames[1:])
    outputs = Outputs(".png", ".jpg", all_frames=True)
    out = tmp_path / "out"
    (job,) = find_jobs([str(tmp_path)], out, outputs)
    expected = [out / f"scan.x_frame00000{n}{end}" for n in range(3) for end in (".png", "_overlay.jpg")]
    assert [target for number in range(3) for target in job.of_frame(number).targets] == expected
    out.mkdir()
    for path in expected[:-1]:
        path.touch()
    assert unfinished([job], outputs) == ([job], [])
    expected[-1].touch()
    assert unfinished([job], outputs) == ([], [job])


# ---- results that several images would write -------------------------------------------------------------------------


def images_named(folder, *found):
    for name in found:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        frames = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in (9, 90, 200)]
        if name.endswith((".gif", ".tif")):
            frames[0].save(folder / name, save_all=True, append_images=frames[1:])
        else:
            frames[0].save(folder / name) if name.endswith(".png") else (folder / name).touch()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            ["c/drive.mp4", "c/drive/000000.png"],
            r"c/drive\.mp4 and c/drive/000000\.png would both be written to out/drive",
        ),
        (["c/drive.mp4", "c/drive/deep/x.png"], r"c/drive/deep/x\.png would both be written to out/drive/deep"),
        (["c/drive.mp4", "c/drive/b.mkv"], r"c/drive\.mp4 and c/drive/b\.mkv would both be written to"),
        # one of the images would be in the folder of the label maps
        (["c/drive.mp4", "out/drive/y.png"], "could be overwritten by the label maps"),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_video_has_the_folder_of_its_label_maps_to_itself(found, words, reverse, tmp_path, monkeypatch):
    images_named(tmp_path, *found)
    monkeypatch.chdir(tmp_path)
    sources = ["c", *(name for name in found if name.startswith("out"))]
    with pytest.raises(UsageError, match=words):
        results(*(sources[::-1] if reverse else sources))
    assert seg("predict", *sources, "--model", "gone.pt", "--out", "out", "--resume") == 2
    # without label maps there are only overlays beside the folder
    assert len(find_jobs(["c"], Path("out"), Outputs(None, ".png"))) == sum(name[0] == "c" for name in found)


def test_frames_of_an_image_file_have_their_names_to_themselves(tmp_path, monkeypatch):
    images_named(tmp_path, "x.gif", "x_frame000001.png", "y.tif", "y_frame000003.png", "z.png", "z_frame000000.png")
    monkeypatch.chdir(tmp_path)
    every = Outputs(".png", ".jpg", all_frames=True)
    for sources in (["x.gif", "x_frame000001.png"], ["x_frame000001.png", "x.gif"]):
        with pytest.raises(
            UsageError, match=r"x\.gif, frame 1, and x_frame000001\.png would both be written to out/x_"
        ):
            results(*sources, outputs=every)
        assert len(results(*sources)) == 2
    # it has frames 0 to 2; an image of one frame has no frames of their own names
    assert len(results("y.tif", "y_frame000003.png", "z.png", "z_frame000000.png", outputs=every)) == 4
    with pytest.raises(UsageError, match=r"would both be written"):  # not known before it is downloaded
        results("https://example.org/z.gif", "z_frame000000.png", outputs=every)


def test_images_named_one_by_one_are_told_what_keeps_subfolders(tmp_path, monkeypatch):
    images_named(tmp_path, "p/a/x.png", "p/b/x.png")
    monkeypatch.chdir(tmp_path)
    for sources in (["p/a/x.png", "p/b/x.png"], [str(tmp_path / "p/a/x.png"), "p/b/x.png"]):
        with pytest.raises(UsageError, match=r"name the folder above them \(p\), or .* 'p/\*\*/\*\.png', which keep"):
            results(*sources)
    assert len(results("p")) == len(results("p/**/*.png")) == 2  # the advice works


def test_names_separated_by_nul_are_explained(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a.png\0b.png\0"))
    with pytest.raises(UsageError, match="write find -print, not -print0"):
        read_names(["-"])


def test_terminal_is_asked_for_names(monkeypatch, capsys):
    stream = io.StringIO("a.png\n")
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", stream)
    assert read_names(["-"]) == ["a.png"]
    assert "reading names of images from stdin, one per line" in capsys.readouterr().err


def test_done_before_counts_and_names_frames_and_pages_as_when_predicted(model_file, tmp_path, capsys):
    images_named(tmp_path, "in/pages.tif", "in/x.gif", "in/z.png")
    arguments = ["predict", tmp_path / "in", "--model", model_file, "--out", tmp_path / "out", "--all-frames", "--csv"]
    assert seg(*arguments) == 0
    first = capsys.readouterr()
    assert "7/7 images, " in first.err
    assert "pages.tif, page 2" in first.out
    assert "x.gif, frame 2" in first.out
    assert seg(*arguments, "--resume") == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert "seg: 7 images done before\n" in again.err
    assert "; 7 done before\n" in again.err
    assert "images/s" not in again.err  # nothing was left
