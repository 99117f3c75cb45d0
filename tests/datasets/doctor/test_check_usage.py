"""The command `seg datasets check`, its report and JSON, and what it says to wrong usage."""

import json
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from seg_core.command import main
from seg_core.errors import DatasetNotFoundError, InvalidArgumentError, UnknownNameError, UsageError
from seg_datasets import check, fake
from seg_datasets.doctor.examine import RECORD
from seg_datasets.doctor.findings_splits import near_pairs
from tests.datasets.doctor.check_trees import areas, noise, own_tree, save


def run(capsys, *words):
    code = main(["datasets", "check", *map(str, words)])
    return code, capsys.readouterr()


def test_a_clean_tree_is_told_in_one_line(tmp_path, capsys):
    code, captured = run(capsys, own_tree(tmp_path))
    assert code == 0
    (line,) = captured.out.splitlines()
    assert line.startswith(f"FolderDataset in {tmp_path} is clean: 14 files (4 train, 3 val) in ")


def test_findings_are_grouped_errors_first_and_alike_ones_summarized(tmp_path, capsys):
    tree = own_tree(tmp_path, train=9)
    for number in range(8):
        path = tree / "train" / "masks" / f"t{number}.png"
        Image.open(path).convert("RGB").save(path)
    save(noise(1)[..., 0], tree / "train" / "images" / "t8.png")
    code, captured = run(capsys, tree)
    lines = captured.out.splitlines()
    assert code == 1
    assert lines[0].startswith("error: rgb-mask (8): ")
    assert [line.split(":")[0].strip() for line in lines[1:6]] == [f"train/masks/t{i}.png" for i in range(5)]
    assert lines[6] == "  and 3 more files"
    assert lines[7] == "  fix: Save one of the channels: Image.open(IN).getchannel(0).save(OUT)"
    assert lines[9].startswith("warning: mixed-channels: ")
    assert ": 8 errors, 1 warning; 24 files (9 train, 3 val) in " in lines[-1]


def test_the_config_line_is_printed(tmp_path, capsys):
    tree = own_tree(tmp_path)
    for path in tree.glob("*/masks/*.png"):
        save(areas() + 1, path)
    _, captured = run(capsys, tree)
    lines = captured.out.splitlines()
    place = lines.index("  config: params.label_map = { 1 = 0, 2 = 1, 3 = 2 }")
    words = shlex.split(lines[place + 1])
    assert words[:3] == ["below", "[data.dataset];", "or:"]
    assert words[-2:] == ["-s", "data.dataset.params.label_map={ 1 = 0, 2 = 1, 3 = 2 }"]


def test_the_config_line_can_be_pasted_below_the_table_of_a_config(tmp_path, capsys):
    from seg_train.config.load import load_config

    tree = own_tree(tmp_path / "mine")
    config = tmp_path / "run.toml"
    assert main(["config", "init", str(config), "--root", str(tree)]) == 0
    for path in tree.glob("*/masks/*.png"):
        save(areas() + 1, path)
    capsys.readouterr()
    _, captured = run(capsys, tree)
    lines = captured.out.splitlines()
    pasted = next(line.removeprefix("  config: ") for line in lines if line.startswith("  config: "))
    text = config.read_text()
    assert "[data.dataset]\n" in text
    config.write_text(text.replace("[data.dataset]\n", f"[data.dataset]\n{pasted}\n"))
    expected = {"1": 0, "2": 1, "3": 2}
    assert load_config(config).data.dataset.params["label_map"] == expected
    config.write_text(text)
    option = next(line for line in lines if " -s " in line)
    assert load_config(config, [shlex.split(option)[-1]]).data.dataset.params["label_map"] == expected


def test_a_folder_without_val_is_told(tmp_path):
    tree = own_tree(tmp_path / "mine")
    assert check(tree).summary["notes"] == []
    shutil.rmtree(tree / "val")
    (note,) = check(tree).summary["notes"]
    assert note.startswith("There is no val split")
    assert check(tree, splits=["train"]).summary["notes"] == []


def test_a_folder_without_splits_tells_how_it_is_divided(tmp_path):
    for number in range(10):
        save(noise(number), tmp_path / "images" / f"a{number}.png")
        save(areas(), tmp_path / "masks" / f"a{number}.png")
    (note,) = check(tmp_path, num_classes=3).summary["notes"]
    assert "a hash of the names divides it into 8 train and 2 val images" in note


def test_hidden_files_are_counted(tmp_path):
    tree = own_tree(tmp_path)
    save(noise(77), tree / "train" / "images" / ".hid.png")
    (tree / "train" / "images" / "._t0.png").write_bytes(b"macOS")
    (note,) = check(tree).summary["notes"]
    assert note.startswith("1 hidden file beside") and "train/images/.hid.png;" in note


def test_exit_codes_of_warnings(tmp_path, capsys):
    tree = own_tree(tmp_path)
    save(np.full((24, 32), 255, np.uint8), tree / "train" / "masks" / "t0.png")
    assert run(capsys, tree)[0] == 0
    assert run(capsys, tree, "--strict")[0] == 1


def test_json_has_findings_and_a_summary(tmp_path, capsys):
    tree = own_tree(tmp_path / "a")
    (tree / "train" / "masks" / "t0.png").unlink()
    code, captured = run(capsys, tree, "--json", tmp_path / "report.json")
    assert code == 1 and "missing-mask" in captured.out
    report = json.loads((tmp_path / "report.json").read_text())
    (finding,) = report["findings"]
    assert set(finding) == {"kind", "severity", "file", "detail", "fix", "config"}
    assert finding["kind"] == "missing-mask" and finding["file"] == "train/images/t0.png"
    assert finding["config"] == 'data.dataset.params.missing = "skip"'
    summary = report["summary"]
    assert (summary["dataset"], summary["errors"], summary["warnings"]) == ("FolderDataset", 1, 0)
    assert summary["splits"] == {"train": 4, "val": 3} and summary["files"] == 13
    _, captured = run(capsys, tree, "--json")
    assert json.loads(captured.out)["findings"] == report["findings"]


def test_options_of_the_command(tmp_path, capsys):
    tree = own_tree(tmp_path / "a", classes="")
    (tmp_path / "c.toml").write_text('labels = ["x", "y", "z"]')
    assert run(capsys, tree, "--classes", tmp_path / "c.toml")[0] == 0
    assert run(capsys, tree, "--num-classes", 3, "--ignore-index", 9)[0] == 0
    _, captured = run(capsys, tree, "--num-classes", 3, "--split", "val", "--split", "train")
    assert "(3 val, 4 train)" in captured.out
    _, captured = run(capsys, tree)
    assert captured.out.startswith("note: Classes are not known, so ids are not checked: the masks hold the ids 0-2. ")
    assert run(capsys, "CamVid", "--root", fake("CamVid", tmp_path / "camvid"))[0] == 0


# ---- wrong usage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["nowhere"], ["CamVid"], ["Shapes", "--root", "."], ["CamVit", "--root", "."]])
def test_what_does_not_exist_ends_with_2(words, capsys):
    code, captured = run(capsys, *words)
    assert code == 2
    assert captured.out == "" and captured.err.startswith("seg: error: ")


def test_a_folder_without_images(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("x")
    code, captured = run(capsys, tmp_path)
    assert code == 2
    assert "images" in captured.err and "masks" in captured.err


def test_a_file_where_a_folder_is_meant(tmp_path, capsys):
    (tmp_path / "data.zip").write_bytes(b"PK")
    code, captured = run(capsys, tmp_path / "data.zip")
    assert code == 2 and "is a file, not a folder" in captured.err


def test_a_wrong_split(tmp_path):
    tree = own_tree(tmp_path)
    with pytest.raises(InvalidArgumentError, match=r"no split 'vla'\. Did you mean 'val'"):
        check(tree, splits=["vla"])
    with pytest.raises(DatasetNotFoundError, match="test"):
        check(tree, splits=["test"])
    with pytest.raises(InvalidArgumentError, match="no split 'dev'"):
        check("CamVid", fake("CamVid", tmp_path / "x"), splits=["dev"])
    with pytest.raises(InvalidArgumentError, match="splits must be a list"):
        check(tree, splits="train")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_and_masks_that_are_swapped_are_told(tmp_path, suffix):
    tree = own_tree(tmp_path)
    for split in ("train", "val"):
        images, masks = tree / split / "images", tree / split / "masks"
        for path in list(images.iterdir()):
            with Image.open(path) as image:
                image.load()
            path.unlink()
            image.save(path.with_suffix(suffix))
        images.rename(tree / "keep")
        masks.rename(images)
        (tree / "keep").rename(masks)
    with pytest.raises(InvalidArgumentError, match="are swapped"):
        check(tree)


def test_a_root_above_or_below_the_dataset(tmp_path):
    tree = own_tree(tmp_path / "data" / "mine")
    with pytest.raises(DatasetNotFoundError, match="mine does"):
        check(tmp_path / "data")
    report = check(tree / "train")
    assert "is a split of the dataset in" in report.summary["notes"][0]
    with pytest.raises(DatasetNotFoundError, match="mine does"):
        check(tree / "train" / "images")


def test_a_folder_that_fits_several_datasets_names_the_commands(tmp_path):
    root = fake("Cityscapes", tmp_path / "x")
    with pytest.raises(UsageError, match=rf"Name one.* CityscapesClass --root {root}"):
        check(root)


def test_arguments_that_do_not_fit(tmp_path):
    tree = own_tree(tmp_path / "a")
    with pytest.raises(InvalidArgumentError, match="give one of them"):
        check(tree, classes="VOC", num_classes=3)
    for count in (0, 10**21):
        with pytest.raises(InvalidArgumentError, match="num_classes must be an integer from 1 to 65535"):
            check(tree, num_classes=count)
    with pytest.raises(InvalidArgumentError, match="has no option 'maskz'|maskz"):
        check(tree, maskz="x")
    root = fake("CamVid", tmp_path / "x")
    with pytest.raises(InvalidArgumentError, match="CamVid has classes of its own"):
        check("CamVid", root, num_classes=3)
    with pytest.raises(InvalidArgumentError, match="root belongs to a dataset that is given by name"):
        check(tree, root)
    with pytest.raises(UnknownNameError, match="root is given.*Did you mean 'CamVid'"):
        check("CamVit", root)
    with pytest.raises(UsageError, match="seg datasets check CamVid --root DIR"):
        check("CamVid")


def test_an_ignored_value_replaces_that_of_the_classes(tmp_path):
    tree = own_tree(tmp_path)
    ids = areas()
    ids[0, 0] = 7
    for path in tree.glob("*/masks/*.png"):
        save(ids, path)
    assert {found.kind for found in check(tree).findings} == {"id-out-of-range"}
    assert check(tree, ignore_index=7).findings == []
    assert check(tree, num_classes=3, ignore_index=7).findings == []


def test_the_actions_take_the_same_words(tmp_path, capsys, monkeypatch):
    own_tree(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    fake("CamVid", tmp_path / "CamVid")
    for words in (["check"], ["stats"], ["preview", "--out", "x.png"], ["compare"]):
        common = ["--num-classes", "3", "--ignore-index", "255", "-s", "missing=skip"]
        assert main(["datasets", *words, "mine", *common]) == 0
        assert main(["datasets", *words, "CamVid"]) == 0  # the folder of this name
        assert main(["datasets", *words, "mine", "--root", "x"]) == 2
        assert "root belongs to a dataset that is given by name" in capsys.readouterr().err


def test_masks_that_do_not_pair_at_all_are_a_usage_error_with_the_hint_of_the_dataset(tmp_path):
    tree = own_tree(tmp_path, train=3)
    for path in list(tree.glob("*/masks/*.png")):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    with pytest.raises(DatasetNotFoundError, match="mask_suffix"):
        check(tree)
    assert check(tree, mask_suffix="_mask", classes={"labels": ["a", "b", "c"]}).findings == []


# ---- scale -----------------------------------------------------------------------------------------------------------


def test_progress_counts_all_images(tmp_path):
    seen = []
    check(own_tree(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (7, 7)


def test_many_files_are_read_by_processes_with_the_same_result(tmp_path):
    tree = own_tree(tmp_path, train=80, val=3)
    shutil.copy(tree / "train" / "masks" / "t0.png", tree / "train" / "masks" / "t70.png")
    (tree / "train" / "images" / "t70.png").write_bytes(b"no image")
    Image.open(tree / "train" / "masks" / "t5.png").convert("RGB").save(tree / "train" / "masks" / "t5.png")
    report = check(tree)
    assert [(f.kind, f.file) for f in report.findings] == [
        ("unreadable-image", "train/images/t70.png"),
        ("rgb-mask", "train/masks/t5.png"),
    ]


def test_a_record_takes_little_memory():
    assert RECORD.itemsize <= 100


def test_near_pairs_are_those_of_comparing_all_with_all():
    rng = np.random.default_rng(1)
    look = rng.integers(0, 2**64, 300, dtype=np.uint64)
    owner = rng.integers(0, 3, 300)
    for place in range(0, 300, 3):  # others that differ from these in 0 to 7 bits
        bits = rng.choice(64, place % 8, replace=False)
        look[(place + 1) % 300] = look[place] ^ np.bitwise_or.reduce(
            np.uint64(1) << bits.astype(np.uint64), initial=np.uint64(0)
        )
    expected = {}
    for late in range(300):
        distances = [
            (bin(int(look[late] ^ look[early])).count("1"), early) for early in range(300) if owner[early] < owner[late]
        ]
        if distances and min(distances)[0] <= 4:
            expected[late] = min(distances)[0]
    found = near_pairs(look, owner)
    assert {late: bits for _, late, bits in found} == expected
    assert len(expected) > 20
    for early, late, bits in found:
        assert owner[early] < owner[late] and bin(int(look[early] ^ look[late])).count("1") == bits


def test_near_pairs_of_many_equal_hashes_do_not_compare_all_with_all():
    look, owner = np.zeros(40_000, np.uint64), np.arange(40_000) % 2
    assert len(near_pairs(look, owner)) == 20_000
