"""The images and videos of folders and glob patterns, and what is left out."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from seg_core.errors import ImageNotFoundError
from seg_core.files import opening
from seg_core.files.images import read_image
from seg_core.files.suffixes import FORMAT_SUFFIXES, IMAGE_SUFFIXES
from seg_models import Predictor
from seg_models.inference.input_paths import is_folder, is_pattern, is_video, list_files

PIXELS = np.full((6, 8, 3), 250, np.uint8)
_NOT_WRITTEN = (".pam",)  # read only


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(path, next(kind for kind, names in FORMAT_SUFFIXES.items() if path.suffix in names))
    return path


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_suffixes_are_those_of_the_formats_that_are_read():
    Image.init()
    assert tuple(FORMAT_SUFFIXES) == opening._FORMATS
    known = {kind: set() for kind in FORMAT_SUFFIXES}
    for suffix, kind in Image.registered_extensions().items():
        if (kind := {"MPO": "JPEG"}.get(kind, kind)) in known:
            known[kind].add(suffix)
    known["PPM"] -= {".pfm"}  # floats
    known["PPM"] |= {".pam"}
    assert {kind: set(suffixes) for kind, suffixes in FORMAT_SUFFIXES.items()} == known


@pytest.mark.parametrize("suffix", [suffix for suffix in IMAGE_SUFFIXES if suffix not in _NOT_WRITTEN])
def test_files_of_every_suffix_are_found_and_read(suffix, tmp_path):
    path = save(tmp_path / f"a{suffix}")
    assert list_files(tmp_path).paths == [path]
    np.testing.assert_allclose(read_image(path), PIXELS, atol=3)


def test_images_and_videos_of_a_folder_are_found_and_the_rest_is_counted(shades, tmp_path):
    for name in ("a.jpg", "b.JFIF", "c.jpe", "d.pgm"):
        save((tmp_path / name).with_suffix((tmp_path / name).suffix.lower())).rename(tmp_path / name)
    touch(tmp_path, "e.MP4", "x.txt", "y.TXT", "z.csv", "f.tga", "README", ".hidden.png", "Thumbs.db", ".DS_Store")
    touch(tmp_path, "below/g.png")
    found = list_files(tmp_path)
    assert [path.name for path in found.paths] == ["a.jpg", "b.JFIF", "c.jpe", "d.pgm", "e.MP4"]
    assert found.left_out == {".txt": 2, ".csv": 1, ".tga": 1, "": 1}
    assert found.left_out_text.startswith("left out 5 files: 2 .txt, 1 ")
    (tmp_path / "e.MP4").unlink()
    with pytest.warns(UserWarning, match=f"{tmp_path.name}: left out 5 files: 2 .txt, .*1 without suffix"):
        predictions = Predictor(shades)(tmp_path)
    assert len(list(predictions)) == 4


def test_nothing_is_said_if_nothing_is_left_out(tmp_path):
    touch(tmp_path, "a.png", "desktop.ini", ".hidden")
    assert list_files(tmp_path).left_out_text == ""


def test_subfolders_are_searched_if_asked_and_hidden_ones_never(tmp_path):
    touch(tmp_path, "b.png", "one/a.png", "one/two/a.mp4", "one/notes.txt", ".cache/a.png", "one/.git/a.png")
    (tmp_path / "one" / "loop").symlink_to(tmp_path)
    found = list_files(tmp_path, recursive=True)
    assert [str(path.relative_to(found.root)) for path in found.paths] == ["b.png", "one/a.png", "one/two/a.mp4"]
    assert found.left_out == {".txt": 1}


def test_folder_with_images_in_subfolders_only_says_which_pattern_finds_them(shades, tmp_path):
    touch(tmp_path / "[1]", "notes.txt")
    for name in ("one/a.jpg", "two/b.jpg", "two/c.png"):
        save(tmp_path / "[1]" / name)
    with pytest.raises(ImageNotFoundError, match="has no images or videos itself, but 3 in 2 subfolders; ") as raised:
        Predictor(shades)(tmp_path / "[1]")
    pattern = str(raised.value).split('"')[1]
    assert pattern.endswith("**/*.jpg")
    assert [path.name for path in list_files(pattern).paths] == ["a.jpg", "b.jpg"]
    assert len(list(Predictor(shades)(pattern))) == 2


def test_folder_without_images_says_what_it_has(tmp_path):
    touch(tmp_path, "a.txt")
    with pytest.raises(ImageNotFoundError, match=r"has no images or .*\(.png, .*\); left out 1 file: 1 .txt; choose"):
        list_files(tmp_path)


def test_pattern_with_a_suffix_finds_all_of_it_and_others_find_images(tmp_path):
    touch(tmp_path, "a.dat", "b.png", "c.mov", "d.txt", "below/e.png")
    assert [path.name for path in list_files(tmp_path / "*.dat").paths] == ["a.dat"]
    found = list_files(tmp_path / "*")
    assert [path.name for path in found.paths] == ["b.png", "c.mov"]
    assert found.left_out == {".dat": 1, ".txt": 1}
    found = list_files(str(tmp_path / "**" / "*.png"))
    assert [str(path.relative_to(found.root)) for path in found.paths] == ["b.png", "below/e.png"]
    with pytest.raises(ImageNotFoundError, match="matches folders only; add a pattern of files, such as .*belo"):
        list_files(tmp_path / "belo?")
    with pytest.raises(ImageNotFoundError, match=r"no image or video matches .* \(left out 1 file: 1 .txt\)"):
        list_files(tmp_path / "d*")
    with pytest.raises(ImageNotFoundError, match=r"no file matches .*x\*.png'; check the glob pattern"):
        list_files(tmp_path / "x*.png")


def test_url_with_a_query_is_classified_by_its_path():
    for url in ("http://h/a.mp4", "https://h/a.MP4?size=2", "http://h/a%2Emp4#t=3"):
        assert is_video(url)
    for url in ("http://h/a.jpg?of=b.mp4", "http://h/mp4", "http://[", "http://h/"):
        assert not is_video(url)


def test_name_that_no_file_can_have_is_no_folder_and_no_pattern():
    for name in ("a" * 5000, "a\0b"):
        assert not is_folder(name)
        assert not is_pattern(name)


def test_no_heavy_import():
    import subprocess

    code = "import seg_models.inference.input_paths, sys; print({'torch', 'PIL', 'numpy'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_file_of_a_video_without_its_suffix_says_so(shades):
    for data in (b"\0\0\0\x18ftypisom" + bytes(50), b"\x1a\x45\xdf\xa3" + bytes(50)):
        with pytest.raises(ValueError, match="a video.*: pass the path of a file"):
            Predictor(shades)(io.BytesIO(data))
