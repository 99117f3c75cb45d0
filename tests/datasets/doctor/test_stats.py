"""Statistics of datasets: against NumPy, what is remembered, the command."""

import json
import os
import sqlite3
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import seg_datasets
from seg_core import (
    CorruptFileError,
    DatasetNotFoundError,
    InvalidArgumentError,
    LabelOutOfRangeError,
    UnknownNameError,
    class_weights,
    count_pixels,
)
from seg_core.command import main
from seg_core.errors import UsageError
from seg_core.files import scan_cache
from seg_core.files.image_sums import ChannelTotals, summarize_image
from seg_core.metrics.class_weights import describe_schemes
from seg_datasets import FolderDataset, get_dataset, stats, unify
from seg_datasets.reading import samples
from tests.datasets import own_folders

NUM_CLASSES = 3


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tree(tmp_path):
    """A folder of 5 + 3 images of several sizes, changed an hour ago; stone occurs in train only."""
    rng = np.random.default_rng(0)
    root = tmp_path / "mine"
    for split, count, highest in (("train", 5, 3), ("val", 3, 2)):
        for number in range(count):
            size = (6 + number, 9 + number % 2)
            ids = rng.integers(0, highest if number else 1, size).astype(np.uint8)
            ids[rng.random(size) < 0.2] = 255
            save(root / split / "images" / f"p{number}.png", rng.integers(0, 256, (*size, 3)).astype(np.uint8))
            save(root / split / "masks" / f"p{number}.png", ids)
    (root / "classes.toml").write_text('labels = ["ground", "leaf", "stone"]')
    return root


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(0, 10**18))


def arrays(root, split, kind):
    return [np.array(Image.open(path)) for path in sorted((root / split / kind).iterdir())]


@pytest.fixture
def read(monkeypatch):
    """The names of the files that were decoded."""
    names = []
    for function in ("load_image", "load_mask"):
        real = getattr(samples.images, function)

        def counted(path, *args, _real=real, **options):
            names.append(f"{Path(path).parent.name}/{Path(path).name}")
            return _real(path, *args, **options)

        monkeypatch.setattr(samples.images, function, counted)
    return names


# ---- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
def test_classes_sizes_and_colors_are_those_that_numpy_counts(tree, split):
    found = stats(tree).splits[split]
    images, masks = arrays(tree, split, "images"), arrays(tree, split, "masks")
    occurs = np.array([[(mask == k).any() for k in range(NUM_CLASSES)] for mask in masks])
    assert found.num_images == len(masks)
    assert found.pixels.tolist() == [sum(int((mask == k).sum()) for mask in masks) for k in range(NUM_CLASSES)]
    assert found.images.tolist() == occurs.sum(0).tolist()
    assert found.image_pixels.tolist() == [
        sum(mask.size for mask in masks if (mask == k).any()) for k in range(NUM_CLASSES)
    ]
    assert found.together.tolist() == [
        [int((occurs[:, j] & occurs[:, k]).sum()) for k in range(NUM_CLASSES)] for j in range(NUM_CLASSES)
    ]
    assert found.ignored == sum(int((mask == 255).sum()) for mask in masks)
    assert found.ignored_images == sum(bool((mask == 255).any()) for mask in masks)
    assert found.shares.sum() + found.ignored_share == pytest.approx(1)
    every = np.concatenate([image.reshape(-1, 3) for image in images]) / 255
    np.testing.assert_allclose(found.mean, every.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, every.std(0), rtol=1e-12)
    assert sum(found.sizes.values()) == len(images)
    assert set(found.sizes) == {image.shape[:2] for image in images}
    heights, widths = ([image.shape[axis] for image in images] for axis in (0, 1))
    assert found.spread == (
        (min(heights), min(widths)),
        (int(np.median(heights)), int(np.median(widths))),
        (max(heights), max(widths)),
    )


def test_mean_and_deviation_of_nearly_equal_values_are_exact():
    pixels = np.full((600, 500, 3), 254, np.uint8)
    pixels[0, 0] = 255
    totals = ChannelTotals.of([summarize_image(pixels)] * 1000)
    share = 1 / pixels[..., 0].size
    np.testing.assert_allclose(totals.mean, (254 + share) / 255, rtol=1e-15)
    np.testing.assert_allclose(totals.std, np.sqrt(share * (1 - share)) / 255, rtol=1e-13)


def test_weights_are_those_of_every_scheme_for_train(tree):
    found = stats(tree)
    weights = found.to_dict()["class_weights"]
    assert weights.pop("split") == "train"
    assert list(weights) == list(describe_schemes())
    counts = count_pixels(FolderDataset(tree, split="train"))
    for scheme, numbers in weights.items():
        assert numbers == class_weights(counts, scheme).tolist()
    assert found.class_weights("enet", c=1.5).tolist() == class_weights(counts, "enet", c=1.5).tolist()
    with pytest.warns(UserWarning, match="classes 2 do not occur"):
        found.class_weights("inverse", "val")


def test_split_without_masks_has_sizes_and_colors_alone(tree):
    save(tree / "test" / "images" / "a.png", np.full((4, 5, 3), 51, np.uint8))
    found = stats(tree, splits=["test"])
    assert not found.splits["test"].has_masks
    assert found.splits["test"].mean.tolist() == [0.2] * 3
    assert found.splits["test"].sizes == {(4, 5): 1}
    assert found.to_dict()["class_weights"] == {"split": None}
    with pytest.raises(InvalidArgumentError, match=r"split must be one with masks \(there is none\)"):
        found.class_weights()


def test_samples_without_files_are_each_drawn_once(monkeypatch):
    from seg_datasets.shapes.dataset import Shapes

    real, drawn = Shapes.__getitem__, []
    monkeypatch.setattr(Shapes, "__getitem__", lambda self, index: (drawn.append(index), real(self, index))[1])
    found = stats("Shapes", splits=["val"], length=6).splits["val"]
    assert sorted(drawn)[-6:] == list(range(6))
    assert len(drawn) <= 7  # the first is looked at for its mask
    images = np.stack([real(get_dataset("Shapes", split="val", length=6), index)[0].numpy() for index in range(6)])
    np.testing.assert_allclose(found.mean, images.mean((0, 2, 3)) / 255)


def test_members_of_a_unified_dataset_are_read_as_files(fake_tree, read):
    from seg_datasets.doctor.opening import Opened
    from seg_datasets.doctor.stats import stats_of

    members = [get_dataset(name, fake_tree(name), "val") for name in ("BDD100K", "CityscapesClass")]
    joined = unify("Street", members)
    found = stats_of(Opened("Unified", None, {"val": joined})).splits["val"]
    assert len(read) == 2 * len(joined)
    assert found.num_images == len(joined)
    assert found.pixels.sum() > 0


def test_official_dataset_by_name_and_by_folder_are_the_same(fake_tree):
    root = fake_tree("CamVid")
    by_name, by_folder = stats("CamVid", root), stats(root)
    assert by_folder.name == "CamVid"
    assert by_folder.to_dict() == by_name.to_dict()
    assert list(by_name.splits) == ["train", "val", "test"]
    assert by_name.splits["train"].pixels.all()


def test_folder_without_names_of_classes_has_numbers(tree):
    (tree / "classes.toml").unlink()
    assert stats(tree).metadata.num_classes == NUM_CLASSES
    assert stats(tree, num_classes=5).splits["train"].pixels[3:].tolist() == [0, 0]
    assert stats(tree, classes={"labels": ["a", "b", "c"]}).metadata.labels == ("a", "b", "c")
    assert stats("FolderDataset", tree).to_dict() == stats(tree).to_dict()
    for arguments in ((tree,), ("FolderDataset", tree)):
        with pytest.raises(
            InvalidArgumentError, match="ignore_index = 7 needs the classes: give classes or num_classes"
        ):
            stats(*arguments, ignore_index=7)


def test_ignore_index_of_a_folder_is_as_given(tree):
    for path in tree.glob("*/masks/*.png"):
        ids = np.array(Image.open(path))
        save(path, np.where(ids == 255, 7, ids).astype(np.uint8))
    found = stats(tree, splits=["train"], ignore_index=7)
    assert found.metadata.ignore_index == 7
    assert found.splits["train"].ignored > 0


def test_masks_that_are_read_by_a_guess_are_told(tmp_path):
    root = own_folders.write(tmp_path, own_folders.names(6))
    for number, path in enumerate(sorted((root / "masks").iterdir())):
        own_folders.mask(path, np.array([[0, 255, 255], [0, 0, 255 * (number % 2)]], np.uint8))
        Image.new("RGB", (3, 2)).save(root / "images" / f"{path.stem}.jpg")
    with pytest.warns(UserWarning, match=r"are read with label_map = \{ 0 = 0, 255 = 1 \}, as that fits"):
        found = stats(root, num_classes=2, splits=["train"])
    assert found.splits["train"].pixels.all()


def test_masks_of_another_size_are_told_with_the_first_file(fake_tree, tmp_path):
    root = seg_datasets.fake("CamVid", tmp_path / "cam")
    mask = next(iter(sorted(root.rglob("trainannot/*.png"))))
    Image.open(mask).crop((0, 0, 5, 4)).save(mask)
    with pytest.warns(UserWarning, match=rf"CamVid train: 1 mask of 2 has another size .*{mask.name} 5x4 pixels"):
        stats(root, splits=["train"])


# ---- what is remembered ----------------------------------------------------------------------------------------------


def test_second_run_reads_nothing_and_finds_the_same(tree, read):
    first = stats("FolderDataset", tree, classes={"labels": ["a", "b", "c"]}, splits=["train", "val"])
    assert len(read) == 2 * (5 + 3)
    read.clear()
    second = stats("FolderDataset", tree, classes={"labels": ["a", "b", "c"]}, splits=["train", "val"])
    assert read == []
    assert second.to_dict() == first.to_dict()


def test_only_a_changed_file_is_read_again(tree, read):
    before = stats("FolderDataset", tree, splits=["train"])
    read.clear()
    path = tree / "train" / "images" / "p1.png"
    save(path, np.zeros((*np.array(Image.open(path)).shape[:2], 3), np.uint8))
    after = stats("FolderDataset", tree, splits=["train"])
    assert read == ["images/p1.png"]
    assert (after.splits["train"].mean < before.splits["train"].mean).all()


def test_image_is_read_again_with_another_orientation(tree, read):
    stats("FolderDataset", tree, splits=["train"])
    read.clear()
    stats("FolderDataset", tree, splits=["train"], orientation="stored")
    assert {name.split("/")[0] for name in read} == {"images"}


@pytest.mark.parametrize("damage", ["file", "row"])
def test_damaged_cache_of_images_warns_once_and_the_numbers_are_right(tree, tmp_path, damage):
    first = stats("FolderDataset", tree, splits=["val"]).to_dict()
    path = tmp_path / "cache" / "images.sqlite3"
    scan_cache._warn_once.cache_clear()
    if damage == "file":
        path.write_bytes(b"no database, but long enough to have a header of one" * 9)
    else:
        with sqlite3.connect(path) as database:
            database.execute("UPDATE image_files SET sums = '[1, 2]'")
    with pytest.warns(
        UserWarning, match=r"scan of images cannot use its cache .*images\.sqlite3 .*SEG_CACHE"
    ) as caught:
        for _ in range(2):
            assert stats("FolderDataset", tree, splits=["val"]).to_dict() == first
    assert len(caught) == 1


def test_progress_ends_at_the_number_of_files(tree):
    seen = []
    for _ in range(2):
        stats("FolderDataset", tree, splits=["train", "val"], progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (16, 16)
        assert seen == sorted(seen)
        seen.clear()


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"target": "mine/train/images/p0.png"},
            DatasetNotFoundError,
            "is a file, not a folder; give the folder that holds",
        ),
        ({"target": "gone"}, DatasetNotFoundError, "gone is neither a folder .* nor the name of a dataset"),
        ({"target": "CamVidd"}, DatasetNotFoundError, "Did you mean 'CamVid'"),
        ({"target": "CamVid"}, InvalidArgumentError, "needs a root folder"),
        ({"target": 3}, InvalidArgumentError, "target must be a dataset's name or a folder, got 3"),
        ({"root": "x"}, InvalidArgumentError, "root belongs to a dataset that is given by name"),
        ({"splits": ["trian"]}, InvalidArgumentError, "Did you mean 'train'"),
        ({"splits": "train"}, InvalidArgumentError, "splits must be a list of names"),
        ({"classes": "CamVidd"}, UnknownNameError, "Did you mean 'CamVid'"),
        ({"classes": "CamVid", "num_classes": 3}, InvalidArgumentError, "give one of them"),
        ({"num_classes": 0}, InvalidArgumentError, "num_classes must be an integer from 1 to 65535"),
        ({"target": "Shapes", "num_classes": 3}, InvalidArgumentError, "Shapes has classes of its own"),
        ({"target": "Shapes", "ignore_index": 0}, InvalidArgumentError, "Shapes has classes of its own"),
        ({"ignore_index": 2}, InvalidArgumentError, "ignore_index 2 is the id of class 'stone'"),
        ({"lenght": 3}, InvalidArgumentError, "FolderDataset has no option 'lenght'"),
    ],
)
def test_wrong_arguments_are_named(tree, monkeypatch, change, error, words):
    monkeypatch.chdir(tree.parent)
    with pytest.raises(error, match=words):
        stats(**{"target": "mine", **change})


def test_folder_without_images_says_what_is_expected(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetNotFoundError, match=r"cannot be read by FolderDataset: .*Expected .*images"):
        stats(tmp_path / "empty")


def test_folder_that_fits_several_datasets_names_them(fake_tree):
    root = fake_tree("CityscapesClass")
    with pytest.raises(UsageError, match="several datasets: Cityscapes, CityscapesCategory, CityscapesClass"):
        stats(root)
    assert stats("CityscapesClass", root).metadata.num_classes == 19


def test_defect_of_an_official_tree_is_not_taken_for_a_missing_split(tmp_path):
    root = seg_datasets.fake("CamVid", tmp_path / "cam")
    next(iter(root.rglob("trainannot/*.png"))).unlink()
    with pytest.raises(DatasetNotFoundError, match="images without a mask: 1"):
        stats(root)
    with pytest.warns(UserWarning, match="these are left out"):
        assert stats("CamVid", root, missing="skip").splits["train"].num_images == 1


def test_wrong_id_and_damaged_file_are_named(tree):
    path = tree / "train" / "masks" / "p3.png"
    save(path, np.full(np.array(Image.open(path)).shape, 9, np.uint8))
    with pytest.raises(LabelOutOfRangeError, match=r"p3\.png contains ids that are not allowed: 9"):
        stats("FolderDataset", tree)
    (tree / "train" / "images" / "p3.png").write_bytes(b"no image")
    with pytest.raises(CorruptFileError, match=r"p3\.png"):
        stats("FolderDataset", tree)


# ---- command ---------------------------------------------------------------------------------------------------------


def test_command_prints_tables(tree, capsys):
    assert main(["datasets", "stats", str(tree)]) == 0
    out = capsys.readouterr().out
    found = stats(tree)
    train, val = found.splits["train"], found.splits["val"]
    assert "3 classes, 255 is ignored" in out
    (line,) = (line for line in out.splitlines() if "leaf" in line and "%" in line)
    assert f"{train.pixels[1]:,}" in line
    assert f"{100 * val.shares[1]:.3f} %" in line
    (line,) = (line for line in out.splitlines() if "stone" in line and "%" in line)
    assert line.endswith("absent")
    assert "9x6 to 10x10, median 9x8, 5 different" in out
    assert all(scheme in out for scheme in describe_schemes())
    assert "images of train that contain both classes" in out


def test_command_says_which_classes_of_train_are_absent(tree, capsys):
    assert main(["datasets", "stats", str(tree), "--split", "val"]) == 0
    assert "stone: in no mask of val, so the weights are arbitrary" in capsys.readouterr().out


def test_command_leaves_a_large_table_of_classes_to_the_json(tree, capsys, tmp_path):
    target = tmp_path / "out" / "stats.json"
    assert main(["datasets", "stats", str(tree), "--num-classes", "150", "--json", str(target)]) == 0
    assert "a table of 150 x 150, see --json" in capsys.readouterr().out
    assert np.array(json.loads(target.read_text())["splits"]["train"]["together"]).shape == (150, 150)


def test_command_writes_json(tree, capsys):
    assert main(["datasets", "stats", str(tree), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values == json.loads(json.dumps(stats(tree).to_dict()))
    assert values["splits"]["train"]["classes"][1]["name"] == "leaf"


@pytest.mark.parametrize("scheme", [None, "enet"])
def test_command_prints_class_weights_for_a_config(tree, capsys, scheme):
    own = [] if scheme is None else ["--scheme", scheme]
    assert main(["datasets", "stats", str(tree), "--config", *own]) == 0
    text = capsys.readouterr().out
    weights = tomllib.loads(text)["criterion"]["class_weights"]
    expected = class_weights(count_pixels(FolderDataset(tree)), scheme or "median_frequency")
    assert weights == pytest.approx(expected.tolist(), rel=1e-5)
    assert "ground, leaf, stone" in text
    assert f'class_weights = "{scheme or "median_frequency"}" computes the same' in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scheme", "enet"], "--scheme belongs to --config"),
        (["--config", "--scheme", "ennet"], "got 'ennet'. Did you mean 'enet'"),
        (["--config", "--json"], "add a FILE to --json"),
        (["--json", "."], "is a folder; add the file's name"),
        (["-s", "missing"], "-s takes KEY=VALUE"),
        (["-s", "root=x"], "-s root cannot be set here; use --root"),
        (["-s", "progress=1"], "-s progress is no option of a dataset"),
        (["-s", "missing=skipp"], "missing must be 'error' or 'skip'"),
        (["--split", "tset"], "Did you mean 'test'"),
    ],
)
def test_command_line_that_is_wrong_exits_with_2(tree, capsys, words, message):
    assert main(["datasets", "stats", str(tree), *words]) == 2
    assert message in capsys.readouterr().err
