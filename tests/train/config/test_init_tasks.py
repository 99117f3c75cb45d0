"""`seg config init --root DIR` for masks of a binary or multilabel task: what the user decides is written and told."""

import numpy as np
import pytest
from PIL import Image

from seg_core.command import main
from seg_datasets import FolderDataset
from seg_train import load_config

LABELS = ("blue", "green", "red")
ABSENT = 'params.missing_class = "absent"'
SKIP = 'params.missing = "skip"'


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def square(number, value=1):
    values = np.zeros((40, 50), np.uint8)
    values[number : number + 20, 10:30] = value
    return Image.fromarray(values)


def write(root, save, count=12):
    for number in range(count):
        path = root / f"images/i{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (root / "masks").mkdir(exist_ok=True)
        Image.new("RGB", (50, 40), (number, 2, 3)).save(path)
        save(root / "masks", path.stem, number)


def per_class(folder, stem, number):
    for place, label in enumerate(LABELS):
        (folder / label).mkdir(exist_ok=True)
        square(number + place).save(folder / label / f"{stem}.png")


def pages(folder, stem, number):
    first, *others = (square(number + place) for place in range(3))
    first.save(folder / f"{stem}.tif", save_all=True, append_images=others)


def white(folder, stem, number):
    square(number, 255).save(folder / f"{stem}.png")


def classes(task="multilabel", labels=LABELS, more=""):
    with open("data/classes.toml", "w") as file:
        file.write(f'labels = {list(labels)}\ntask = "{task}"\n{more}')


def init():
    return main(["config", "init", "run.toml", "--root", "data", "--model", "tiny_net"])


@pytest.mark.filterwarnings("ignore:.*these images are left out")
@pytest.mark.parametrize("line", [ABSENT, SKIP])
@pytest.mark.parametrize("is_named", [True, False], ids=["classes.toml", "no classes"])
def test_images_that_lack_a_class_are_left_to_the_user_and_each_choice_works(tmp_path, capsys, line, is_named):
    write(tmp_path / "data", per_class)
    (tmp_path / "data/masks/green/i03.png").unlink()
    if is_named:
        classes()
    assert init() == 0
    out = capsys.readouterr().out
    assert "1 of 12 images lack the mask of a class: i03.png has none of green" in out
    assert f"uncomment {ABSENT} or {SKIP}, or add the files, then: seg config check run.toml" in out
    text = (tmp_path / "run.toml").read_text()
    assert f"\n# {ABSENT} #" in text
    assert f"\n# {SKIP} #" in text
    assert main(["config", "check", "run.toml"]) == 1
    out = capsys.readouterr().out
    assert "1 of 12 images lack the mask of a class" in out
    assert f"Write {ABSENT} or {SKIP} below [data.dataset], or uncomment it there" in out
    (tmp_path / "run.toml").write_text(text.replace(f"# {line}", line))
    assert main(["config", "check", "run.toml"]) == 0
    dataset = load_config("run.toml").data.dataset
    splits = [FolderDataset(dataset.root, split=split, **dataset.params) for split in ("train", "val")]
    assert sum(map(len, splits)) == (12 if line == ABSENT else 11)


def test_the_choice_to_skip_is_not_offered_where_it_leaves_nothing(tmp_path, capsys):
    write(tmp_path / "data", per_class, count=4)
    for number in range(4):
        (tmp_path / f"data/masks/{LABELS[number % 2]}/i{number:02}.png").unlink()
    assert init() == 0
    assert "skip" not in capsys.readouterr().out + (tmp_path / "run.toml").read_text()
    report = FolderDataset.inspect("data")
    assert not report.fits
    assert report.choices == {"missing_class": "absent"}
    assert FolderDataset.inspect("data", missing_class="absent").fits


def test_an_unknown_key_in_the_classes_file_is_told_whatever_else_is_odd(tmp_path, capsys):
    write(tmp_path / "data", per_class)
    (tmp_path / "data/masks/green/i03.png").unlink()
    classes(more='missing_class = "absent"\n')
    assert init() == 1
    assert "unknown key 'missing_class' in the metadata" in capsys.readouterr().out
    assert not (tmp_path / "run.toml").exists()


def test_pages_of_classes_are_read_after_the_advice(tmp_path, capsys):
    write(tmp_path / "data", pages)
    assert init() == 1
    assert 'task = "multilabel" into classes.toml' in capsys.readouterr().out
    main(["datasets", "check", "data"])
    out = capsys.readouterr().out
    assert 'task = "multilabel" into classes.toml' in out[out.index("fix: ") :]
    classes()
    assert init() == 0
    assert main(["config", "check", "run.toml"]) == 0


def test_masks_of_one_object_name_the_binary_task_and_its_advice_works(tmp_path, capsys):
    write(tmp_path / "data", white)
    assert init() == 0
    out = capsys.readouterr().out
    assert "with label_map = { 0 = 0, 255 = 1 } (check it)" in out
    assert 'labels = ["object"] (its name) and task = "binary"' in out
    (tmp_path / "run.toml").unlink()
    classes("binary", ["object"])
    assert init() == 0
    assert "params.label_map = { 0 = 0, 255 = 1 }" in (tmp_path / "run.toml").read_text()
    assert main(["config", "check", "run.toml"]) == 0


def test_masks_of_three_classes_do_not_name_the_binary_task(tmp_path, capsys):
    def three(folder, stem, number):
        Image.fromarray(np.repeat(np.arange(40, dtype=np.uint8)[:, None] // 14, 50, axis=1)).save(
            folder / f"{stem}.png"
        )

    write(tmp_path / "data", three)
    assert init() == 0
    assert "binary" not in capsys.readouterr().out
