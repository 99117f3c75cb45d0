"""How FolderDataset splits the files of one folder: groups, folds, frames of videos."""

import warnings
from itertools import compress

import pytest

from seg_core import DatasetNotFoundError, InvalidArgumentError
from seg_datasets import FolderDataset
from seg_datasets.reading.frames import frames_regex
from seg_datasets.reading.splits import SplitRule
from tests.datasets.own_folders import LABELS, files_of, names, write


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path / "cache"))


def stems(root, split, **options):
    return [path.split("/")[-1].split(".")[0] for path in files_of(FolderDataset(root, LABELS, split, **options))]


def write_sequences(root, *sizes):
    for number, size in enumerate(sizes):
        write(root, [f"seq{number:02}_{frame:06}" for frame in range(size)])
    return root


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_groups_each_sequence_is_on_one_side(tmp_path):
    write_sequences(tmp_path, *[4] * 10)
    train, val = (stems(tmp_path, split, groups="^(seq[0-9]+)_") for split in ("train", "val"))
    assert len(val) == 8
    assert not {name[:5] for name in train} & {name[:5] for name in val}
    assert len(train) + len(val) == 40


def test_groups_of_folders_and_seed(tmp_path):
    for folder in "abcdef":
        write(tmp_path, names(2), f"images/{folder}/{{}}.jpg", f"masks/{folder}/{{}}.png")
    options = {"groups": "^([a-z])/", "val_fraction": 0.5}
    seen = set()
    for seed in range(5):
        val = files_of(FolderDataset(tmp_path, LABELS, "val", seed=seed, **options))
        assert len({path.split("/")[1] for path in val}) == 3
        assert len(val) == 6
        seen.add(tuple(val))
    assert len(seen) > 1


@pytest.mark.parametrize("seed", range(6))
def test_groups_of_unlike_sizes_come_as_close_to_the_fraction_as_whole_groups_allow(seed):
    sizes = {"a": 80, "b": 10, "c": 10}
    keys = [f"{group}_{number}" for group, size in sizes.items() for number in range(size)]
    val = SplitRule(0.2, seed, "^(.)_").val_rows(keys, keys, "here")
    assert {key[0] for key in compress(keys, val)} == {"b", "c"}
    # two groups only: one of them, however large
    keys = [key for key in keys if key[0] != "c"]
    assert {key[0] for key in compress(keys, SplitRule(0.2, seed, "^(.)_").val_rows(keys, keys, "here"))} == {"b"}


def test_groups_large_fraction_leaves_a_group_to_train(tmp_path):
    write_sequences(tmp_path, 3, 3)
    train, val = (stems(tmp_path, s, groups="^(seq[0-9]+)", val_fraction=0.99) for s in ("train", "val"))
    assert (len(train), len(val)) == (3, 3)


@pytest.mark.parametrize(
    ("groups", "match"),
    [
        ("(", r"groups = '\(' is not a regular expression: missing \)"),
        ("^seq[0-9]+", "has no group: put the part that names the sequence into parentheses"),
        (3, "groups must be a regular expression as a string, got 3"),
        ("^(x)", r"groups = '\^\(x\)' does not match 6 of 6 files in .*: seq00_000000, "),
        ("^(x)?seq", "does not match 6 of 6 files"),
    ],
)
def test_groups_not_allowed_error_says_why(tmp_path, groups, match):
    write_sequences(tmp_path, 3, 3)
    with pytest.raises(InvalidArgumentError, match=match):
        FolderDataset(tmp_path, LABELS, groups=groups)


def test_names_that_are_no_unicode_are_split_too(tmp_path):
    try:
        write(tmp_path, [*names(4), b"caf\xe9".decode(errors="surrogateescape")])
    except OSError:
        pytest.skip("this file system has Unicode names only")
    assert len(stems(tmp_path, "train")) + len(stems(tmp_path, "val")) == 5


def test_groups_one_group_error_says_so(tmp_path):
    write_sequences(tmp_path, 3)
    with pytest.raises(DatasetNotFoundError, match=r"has 1 group, which cannot be split into train and val; groups = "):
        FolderDataset(tmp_path, LABELS, groups="^(seq)")


# ---- folds -----------------------------------------------------------------------------------------------------------


def test_folds_every_file_is_val_once(tmp_path):
    write(tmp_path, names(11))
    vals = [stems(tmp_path, "val", folds=3, fold=fold) for fold in range(3)]
    assert sorted(name for val in vals for name in val) == names(11)
    assert sorted(map(len, vals)) == [3, 4, 4]
    for fold in range(3):
        assert sorted(stems(tmp_path, "train", folds=3, fold=fold) + vals[fold]) == names(11)


def test_folds_first_fold_is_the_val_of_the_same_fraction(tmp_path):
    write(tmp_path, names(10))
    assert stems(tmp_path, "val", folds=5) == stems(tmp_path, "val", val_fraction=0.2)


def test_folds_with_groups_keep_sequences_and_balance_sizes(tmp_path):
    write_sequences(tmp_path, 1, 2, 3, 4, 5, 6)
    vals = [stems(tmp_path, "val", folds=3, fold=fold, groups="^(seq[0-9]+)") for fold in range(3)]
    assert sorted(map(len, vals)) == [7, 7, 7]
    assert sum(len({name[:5] for name in val}) for val in vals) == 6


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"folds": 1}, "folds must be an integer >= 2, got 1"),
        ({"folds": 2.5}, "folds must be an integer >= 2, got 2.5"),
        ({"folds": 5, "fold": 5}, "fold = 5 with folds = 5: it must be from 0 to 4"),
        ({"folds": 5, "fold": -1}, "fold = -1 with folds = 5: it must be from 0 to 4"),
        ({"fold": 1}, "fold = 1 with folds = None: set folds too"),
        ({"folds": 5, "val_fraction": 0.3}, "val_fraction = 0.3 and folds = 5 both decide which files are val"),
    ],
)
def test_folds_not_allowed_error_says_what_is(tmp_path, options, match):
    with pytest.raises(InvalidArgumentError, match=match):
        FolderDataset(write(tmp_path, names(6)), LABELS, **options)


def test_folds_more_than_files_error_says_so(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="has 3 images, which cannot be split into 5 folds; add more"):
        FolderDataset(write(tmp_path, names(3)), LABELS, folds=5)


@pytest.mark.parametrize("options", [{"folds": 2}, {"groups": "(.)"}])
def test_folds_or_groups_with_folders_per_split_error_says_which_files_to_name(tmp_path, options):
    write(tmp_path / "train", names(4))
    write(tmp_path / "val", names(2))
    with pytest.raises(
        InvalidArgumentError, match=r"cannot be used, as .* has folders per split .*images='train/images'"
    ):
        FolderDataset(tmp_path, LABELS, **options)
    given = {"images": "train/images", "masks": "train/masks", **options, "val_fraction": 0.2}
    if "folds" in options:
        assert len(FolderDataset(tmp_path, LABELS, **given)) == 2


@pytest.mark.parametrize("options", [{"folds": 2}, {"val_fraction": 0.5}])
def test_folds_or_fraction_win_over_voc_lists_but_not_over_given_ones(tmp_path, options):
    write(tmp_path, names(6), "JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("p00\n")
    assert len(FolderDataset(tmp_path, LABELS)) == 1
    assert len(FolderDataset(tmp_path, LABELS, **options)) == 3
    with pytest.raises(InvalidArgumentError, match="has lists"):
        FolderDataset(tmp_path, LABELS, split_file="ImageSets/Segmentation/{split}.txt", **options)


# ---- frames of videos ------------------------------------------------------------------------------------------------


def keys_of(*patterns, count=12, step=1):
    """Keys of the files that patterns with {} give, as train (two of three) and val."""
    keys = [pattern.format(number) for pattern in patterns for number in range(0, count * step, step)]
    return [key for place, key in enumerate(keys) if place % 3], keys[::3]


@pytest.mark.parametrize(
    "patterns",
    [
        ("seq01_{:06}", "seq02_{:06}"),
        ("0001TP_{:06}", "0006R0_{:06}"),
        ("1/{:04}", "2/{:04}", "3/{:04}"),
        ("video_a/{:04}", "video_b/{:04}"),
        ("clip-x_{}", "clip-y_{}"),
        ("s1/frame{:05}", "s2/frame{:05}"),
    ],
)
@pytest.mark.parametrize("step", [1, 30])
def test_frames_in_both_splits_are_recognized(patterns, step):
    train, val = keys_of(*patterns, step=step)
    regex = frames_regex(train, val)
    assert regex == "^(.*?)[0-9]+$"
    keys = train + val
    held_out = compress(keys, SplitRule(0.4, 0, regex).val_rows(keys, keys, "here"))
    assert {key.rstrip("0123456789") for key in held_out} < {key.rstrip("0123456789") for key in keys}


@pytest.mark.parametrize(
    "patterns",
    [
        ("{:04}",),
        ("img_{:04}",),
        ("IMG_{:04}", "DSC_{:04}"),
        ("cat_{:03}", "dog_{:03}"),
        ("cats/{:03}", "dogs/{:03}"),
        ("a1_{:06}",),
        ("photo {} of many", "photo {} of few"),
    ],
)
def test_numbered_photos_are_no_frames(patterns):
    assert frames_regex(*keys_of(*patterns)) is None


def test_frames_irregular_numbers_or_few_files_in_sequences_are_no_frames():
    years = [f"{year}_{number * number * 7 % 9973:06}" for year in (2007, 2008, 2009) for number in range(1, 40)]
    assert frames_regex(years[1::2], years[::2]) is None
    train, val = keys_of("seq01_{:03}", "seq02_{:03}")
    others = [f"holiday {letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    assert frames_regex(train + others, val) is None


def test_frames_numbers_that_go_on_from_folder_to_folder_are_photos():
    keys = [f"day{number // 12}/{number:04}" for number in range(36)]
    assert frames_regex(keys[1::2], keys[::2]) is None
    keys = [f"day{number // 12}/{number % 12:04}" for number in range(36)]
    assert frames_regex(keys[1::2], keys[::2]) == "^(.*?)[0-9]+$"


def test_frames_on_one_side_each_are_fine():
    assert frames_regex(*([f"seq{s}_{n:03}" for n in range(9)] for s in (1, 2))) is None


def test_frames_warning_gives_groups_that_work_and_is_shown_once(tmp_path):
    write_sequences(tmp_path, 8, 8, 8)
    with pytest.warns(UserWarning, match=r"same numbered sequence .*groups='\^\(\.\*\?\)\[0-9\]\+\$'") as caught:
        FolderDataset(tmp_path, LABELS)
    (first,) = caught
    with pytest.warns(UserWarning) as caught:
        FolderDataset(tmp_path, LABELS, "val")
    assert str(caught[0].message) == str(first.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len({name[:5] for name in stems(tmp_path, "val", groups="^(.*?)[0-9]+$")}) == 1


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("pattern", ["frame_{:04}", "video1_{:03}", "seq01_{:06}"])
def test_frames_of_one_video_are_told_with_advice_that_is_possible(tmp_path, pattern):
    write(tmp_path, [pattern.format(number) for number in range(12)])
    with pytest.warns(
        UserWarning, match="same numbered sequence .*All are of one sequence: split it in time, with lists"
    ):
        FolderDataset(tmp_path, LABELS)
    report = FolderDataset.inspect(tmp_path)
    assert report.fits
    assert "groups" not in report.options
    assert "All are of one sequence" in report.oddities[0]


def test_frames_warning_not_with_lists_or_plain_numbers(tmp_path):
    write_sequences(tmp_path / "a", 6, 6)
    for split, other in (("train", "0"), ("val", "1")):
        lines = [f"seq0{n}_00000{frame}" for n in (0, 1) for frame in range(6) if str(frame % 2) == other]
        (tmp_path / f"a/{split}.txt").write_text("\n".join(lines))
    write(tmp_path / "b", [f"{number:04}" for number in range(20)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(FolderDataset(tmp_path / "a", LABELS, split_file="{split}.txt")) == 6
        assert len(FolderDataset(tmp_path / "b", LABELS)) == 16
