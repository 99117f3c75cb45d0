"""Each kind of fault, planted into a folder of one's own, is found once, and is gone when its fix is applied."""

import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps

from seg_datasets import check
from seg_datasets.doctor.kinds import ERROR, KINDS, WARNING
from tests.datasets.doctor.check_trees import SIZE, areas, noise, own_tree, save


def only(report):
    """The finding of a report that has one."""
    assert len(report.findings) == 1, [(f.kind, f.file, f.detail) for f in report.findings]
    return report.findings[0]


def params(finding):
    """The options that the config line of a finding sets."""
    import tomllib

    return tomllib.loads(finding.config)["data"]["dataset"]["params"]


@pytest.fixture
def tree(tmp_path):
    return own_tree(tmp_path / "mine")


def rewrite(path, change):
    """Saves what `change` makes of the array of an image."""
    with Image.open(path) as image:
        values = np.array(image)
    save(change(values), path)


def test_a_clean_tree_has_no_finding(tree):
    report = check(tree)
    assert report.findings == []
    assert report.name == "FolderDataset"
    assert report.summary["splits"] == {"train": 4, "val": 3}
    assert report.summary["classes"] == ["ground", "thing", "other"]
    assert report.summary["files"] == 14
    assert report.exit_code(strict=True) == 0


# ---- one file: plant, and mend as the fix says -----------------------------------------------------------------------


def stored_wider(tree):
    """An image with a tag whose mask was drawn on the image as stored."""
    image = Image.fromarray(noise(7))
    exif = image.getexif()
    exif[274] = 6
    image.save(tree / "train/images/t1.png", exif=exif)


def add_tag(path):
    image = Image.open(path)
    image.load()
    exif = image.getexif()
    exif[274] = 6
    image.save(path, exif=exif)


def ramp(values):
    """Edges between 0 and 2 with what resizing makes of them: 40, 80 ... of 200."""
    wide = np.zeros(SIZE, np.uint8)
    wide[:, 16:] = 200
    for step in range(4):
        wide[:, 14 + step] = 40 * (step + 1)
    return wide


def upscaled(path):
    values = np.array(Image.open(path)).astype(np.uint16) * 257
    Image.fromarray(values).save(path)


MASK, IMAGE = "train/masks/t1.png", "train/images/t1.png"


def palette_mask(values, order=(0, 1, 2)):
    image = Image.fromarray(values).convert("P")
    colors = np.zeros((256, 3), np.uint8)
    colors[list(order)] = [[0, 0, 0], [200, 10, 10], [10, 200, 10]]
    image.putpalette(colors.tobytes())
    return image


PLANTS = {
    "missing-mask": (IMAGE, lambda t: (t / MASK).unlink(), lambda t: save(areas(), t / MASK)),
    "missing-image": (MASK, lambda t: (t / IMAGE).unlink(), lambda t: (t / MASK).unlink()),
    "empty-file": (IMAGE, lambda t: (t / IMAGE).write_bytes(b""), lambda t: save(noise(1), t / IMAGE)),
    "unreadable-image": (
        IMAGE,
        lambda t: (t / IMAGE).write_bytes((t / IMAGE).read_bytes()[:300]),
        lambda t: save(noise(1), t / IMAGE),
    ),
    "unreadable-mask": (
        MASK,
        lambda t: (t / MASK).write_bytes((t / MASK).read_bytes()[:60]),
        lambda t: save(areas(), t / MASK),
    ),
    "size-mismatch": (
        MASK,
        lambda t: Image.open(t / MASK).resize((64, 48), Image.Resampling.NEAREST).save(t / MASK),
        lambda t: Image.open(t / MASK).resize(SIZE[::-1], Image.Resampling.NEAREST).save(t / MASK),
    ),
    "orientation": (
        MASK,
        lambda t: add_tag(t / MASK),
        lambda t: save(np.array(Image.open(t / MASK)), t / MASK),
    ),
    "rgb-mask": (
        MASK,
        lambda t: Image.open(t / MASK).convert("RGB").save(t / MASK),
        lambda t: Image.open(t / MASK).getchannel(0).save(t / MASK),
    ),
    "color-mask": (
        MASK,
        lambda t: rewrite(t / MASK, lambda m: np.array([[9, 0, 0], [0, 9, 0], [0, 0, 9]], np.uint8)[m]),
        lambda t: rewrite(t / MASK, lambda m: m.argmax(-1).astype(np.uint8)),
    ),
    "float-mask": (
        "train/masks/t1.tif",
        lambda t: ((t / MASK).unlink(), save(areas().astype(np.float32), t / "train/masks/t1.tif")),
        lambda t: ((t / "train/masks/t1.tif").unlink(), save(areas(), t / MASK)),
    ),
    "binary-0-255": (
        MASK,
        lambda t: rewrite(t / MASK, lambda m: np.where(m > 0, 255, 0).astype(np.uint8)),
        lambda t: rewrite(t / MASK, lambda m: (m == 255).astype(np.uint8)),
    ),
    "off-by-one": (
        MASK,
        lambda t: rewrite(t / MASK, lambda m: m + 1),
        lambda t: rewrite(t / MASK, lambda m: m - 1),
    ),
    "id-out-of-range": (
        MASK,
        lambda t: rewrite(t / MASK, lambda m: np.where(np.arange(m.size).reshape(m.shape) == 5 * 32 + 6, 77, m)),
        lambda t: rewrite(t / MASK, lambda m: np.where(m == 77, 0, m).astype(np.uint8)),
    ),
    "wrong-bit-depth": (MASK, lambda t: upscaled(t / MASK), lambda t: rewrite(t / MASK, lambda m: np.uint8(m // 257))),
    "jpeg-mask": (
        "train/masks/t1.jpg",
        lambda t: ((t / MASK).unlink(), save(areas(), t / "train/masks/t1.jpg")),
        lambda t: ((t / "train/masks/t1.jpg").unlink(), save(areas(), t / MASK)),
    ),
    "all-ignored": (
        MASK,
        lambda t: rewrite(t / MASK, lambda m: np.full_like(m, 255)),
        lambda t: save(areas(), t / MASK),
    ),
    "antialiased-mask": (MASK, lambda t: rewrite(t / MASK, ramp), lambda t: save(areas(), t / MASK)),
    "mixed-channels": (
        IMAGE,
        lambda t: Image.open(t / IMAGE).convert("L").save(t / IMAGE),
        lambda t: Image.open(t / IMAGE).convert("RGB").save(t / IMAGE),
    ),
    "alpha": (
        IMAGE,
        lambda t: rewrite(t / IMAGE, lambda i: np.dstack([i, np.full(SIZE, 9, np.uint8)])),
        lambda t: (
            Image.alpha_composite(Image.new("RGBA", SIZE[::-1], "white"), Image.open(t / IMAGE))
            .convert("RGB")
            .save(t / IMAGE)
        ),
    ),
    "duplicate-across-splits": (
        "val/images/v1.png",
        lambda t: shutil.copy(t / IMAGE, t / "val/images/v1.png"),
        lambda t: ((t / IMAGE).unlink(), (t / MASK).unlink()),
    ),
    "near-duplicate-across-splits": (
        "val/images/v1.png",
        lambda t: save(np.array(Image.open(t / IMAGE)), t / "val/images/v1.png", compress_level=1),
        lambda t: ((t / IMAGE).unlink(), (t / MASK).unlink()),
    ),
    "size-outlier": (
        IMAGE,
        lambda t: (save(noise(1, (240, 320)), t / IMAGE), save(areas((240, 320)), t / MASK)),
        lambda t: [Image.open(t / p).resize(SIZE[::-1], Image.Resampling.NEAREST).save(t / p) for p in (IMAGE, MASK)],
    ),
    "name-collision": (
        "train/images/t1.jpg",
        lambda t: save(noise(55), t / "train/images/t1.jpg"),
        lambda t: (t / "train/images/t1.jpg").unlink(),
    ),
    "expanded-palette": (
        MASK,
        lambda t: (
            [palette_mask(areas()).save(path) for path in t.glob("*/masks/*.png")],
            palette_mask(areas()).convert("RGB").save(t / MASK),
        ),
        lambda t: palette_mask(areas()).save(t / MASK),
    ),
    "permuted-palette": (
        MASK,
        lambda t: (
            [palette_mask(areas()).save(path) for path in t.glob("*/masks/*.png")],
            palette_mask(np.array([0, 2, 1], np.uint8)[areas()], (0, 2, 1)).save(t / MASK),
        ),
        lambda t: palette_mask(areas()).save(t / MASK),
    ),
}


STOPS = {"antialiased-mask": "id-out-of-range", "expanded-palette": "color-mask"}
"""Warnings about masks on which nothing can be trained -> the error beside them."""


@pytest.mark.parametrize("kind", PLANTS)
def test_a_fault_is_found_once_and_is_gone_when_mended(tree, kind):
    file, plant, mend = PLANTS[kind]
    plant(tree)
    report = check(tree)
    if kind in STOPS:
        error, finding = report.findings
        assert (error.kind, error.severity, error.files) == (STOPS[kind], ERROR, (file,))
        assert report.exit_code() == 1
    else:
        finding = only(report)
    assert (finding.kind, finding.file) == (kind, file)
    assert finding.severity == KINDS[kind].severity
    assert finding.detail and finding.fix[0].isupper()
    mend(tree)
    assert check(tree).findings == []


def test_an_id_out_of_range_names_value_pixels_and_position(tree):
    PLANTS["id-out-of-range"][1](tree)
    assert "id 77 (1 pixel, first at x=6, y=5)" in only(check(tree)).detail


def test_frames_of_one_sequence_in_both_splits_are_kept_together_by_the_config_line(tmp_path):
    for number in range(12):
        for scene in ("seq1", "seq2"):
            save(noise(number + 50 * (scene == "seq2")), tmp_path / "images" / f"{scene}_{number:04}.png")
            save(areas(), tmp_path / "masks" / f"{scene}_{number:04}.png")
    finding = only(check(tmp_path, num_classes=3))
    assert (finding.kind, finding.severity, finding.file) == ("frames-across-splits", WARNING, "val")
    assert check(tmp_path, num_classes=3, **params(finding)).findings == []


def test_a_class_that_no_mask_of_a_split_has_is_a_warning_of_the_split(tree):
    for path in (tree / "val" / "masks").iterdir():
        rewrite(path, lambda mask: np.where(mask == 2, 0, mask))
    finding = only(check(tree))
    assert (finding.kind, finding.severity, finding.file) == ("class-absent", WARNING, "val")
    assert "class 2 (other) occurs in none of 3 masks of val" in finding.detail


def test_masks_that_are_all_ignored_are_an_error_of_the_split(tree):
    for path in (tree / "val" / "masks").iterdir():
        rewrite(path, lambda mask: np.full_like(mask, 255))
    finding = only(check(tree))
    assert (finding.kind, finding.severity, finding.file) == ("all-ignored", ERROR, "val")


# ---- faults of all masks, which a line of a config mends -------------------------------------------------------------


def change_all(tree, change):
    for path in tree.glob("*/masks/*.png"):
        rewrite(path, change)


def test_ids_from_1_are_read_with_the_label_map_of_the_config_line(tree):
    change_all(tree, lambda mask: mask + 1)
    finding = only(check(tree))
    assert finding.kind == "off-by-one"
    assert params(finding) == {"label_map": {"1": 0, "2": 1, "3": 2}}
    assert len(finding.files) == 7
    assert check(tree, **params(finding)).findings == []


def test_ids_one_too_high_beside_0_are_read_with_the_label_map(tmp_path):
    tree = own_tree(tmp_path, 'labels = ["thing", "other"]\n')
    finding = only(check(tree))
    assert finding.kind == "off-by-one"
    assert params(finding) == {"label_map": {"0": "ignore", "1": 0, "2": 1}}
    assert check(tree, **params(finding)).findings == []
    # what the sentence names besides, for masks whose last id is ignored
    assert "set ignore_index = 2 in the classes" in finding.fix
    assert check(tree, classes={"labels": ["thing", "other"], "ignore_index": 2}).findings == []


def test_0_and_255_are_read_with_the_label_map(tmp_path):
    tree = own_tree(tmp_path, 'labels = ["ground", "thing"]\n')
    change_all(tree, lambda mask: np.where(mask > 0, 255, 0).astype(np.uint8))
    finding = only(check(tree))
    assert (finding.kind, finding.severity) == ("binary-0-255", ERROR)
    assert params(finding) == {"label_map": {"0": 0, "255": 1}}
    assert check(tree, **params(finding)).findings == []


def test_values_spread_over_0_to_255_are_read_with_the_label_map(tree):
    change_all(tree, lambda mask: np.array([0, 128, 255], np.uint8)[mask])
    finding = only(check(tree))
    assert finding.kind == "id-out-of-range"
    assert check(tree, **params(finding)).findings == []


def test_masks_that_store_the_object_in_two_ways_are_read_with_the_label_map(tmp_path):
    tree = own_tree(tmp_path, 'labels = ["ground", "thing"]\n')
    change_all(tree, lambda mask: (mask > 0).astype(np.uint8))
    for name in ("t0", "t1"):
        rewrite(tree / "train" / "masks" / f"{name}.png", lambda mask: mask * 255)
    finding = only(check(tree))
    assert (finding.kind, finding.files) == ("binary-0-255", ("train/masks/t0.png", "train/masks/t1.png"))
    assert check(tree, **params(finding)).findings == []


@pytest.mark.parametrize("has_colors", [True, False])
def test_masks_in_colors_are_read_by_the_config_line(tmp_path, has_colors):
    line = "colors = [[0, 0, 0], [200, 10, 10], [10, 200, 10]]\n"
    tree = own_tree(tmp_path, 'labels = ["ground", "thing", "other"]\n' + line * has_colors)
    change_all(tree, lambda mask: np.array([[0, 0, 0], [200, 10, 10], [10, 200, 10]], np.uint8)[mask])
    report = check(tree)
    assert report.counts() == {"color-mask": 7}
    finding = report.findings[0]
    if not has_colors:
        assert "add the color of each class to classes.toml" in finding.fix
        given = finding.fix.partition("in the order of its labels: ")[2]
        assert given == "colors = [[0, 0, 0], [10, 200, 10], [200, 10, 10]]"
        (tree / "classes.toml").write_text((tree / "classes.toml").read_text() + line)
    assert check(tree, **params(finding)).findings == []


def test_a_palette_converted_to_gray_is_an_expanded_palette(tree):
    for path in tree.glob("*/masks/*.png"):
        palette_mask(areas()).save(path)
    palette_mask(areas()).convert("RGB").convert("L").save(tree / MASK)
    error, finding = check(tree).findings
    assert (finding.kind, finding.file) == ("expanded-palette", MASK)
    assert (error.kind, error.severity, error.files) == ("id-out-of-range", ERROR, (MASK,))


def test_palettes_in_other_orders_are_read_with_the_colors_that_the_fix_gives(tree):
    PLANTS["permuted-palette"][1](tree)
    finding = only(check(tree))
    given = finding.fix.partition("in the order of its labels: ")[2].partition(", or save")[0]
    assert given == "colors = [[0, 0, 0], [200, 10, 10], [10, 200, 10]]"
    (tree / "classes.toml").write_text((tree / "classes.toml").read_text() + given)
    assert check(tree, **params(finding)).findings == []


def test_a_palette_in_another_order_than_the_colors_of_the_classes_is_found_by_file(tmp_path):
    colors = "colors = [[0, 0, 0], [200, 10, 10], [10, 200, 10]]\n"
    tree = own_tree(tmp_path, 'labels = ["ground", "thing", "other"]\n' + colors)
    for path in tree.glob("*/masks/*.png"):
        palette_mask(areas()).save(path)
    assert check(tree).findings == []
    palette_mask(np.array([0, 2, 1], np.uint8)[areas()], (0, 2, 1)).save(tree / MASK)
    finding = only(check(tree))
    assert (finding.kind, finding.severity, finding.file) == ("permuted-palette", WARNING, MASK)
    assert check(tree, **params(finding)).findings == []


def test_an_image_with_a_tag_and_a_mask_drawn_as_stored_needs_the_config_line(tree):
    stored_wider(tree)
    finding = only(check(tree))
    assert (finding.kind, finding.severity, finding.file) == ("orientation", ERROR, IMAGE)
    assert params(finding) == {"orientation": "stored"}
    assert check(tree, **params(finding)).findings == []


def test_an_image_with_a_tag_and_an_upright_mask_is_saved_without_it(tree):
    stored_wider(tree)
    rewrite(tree / MASK, lambda mask: np.rot90(mask, -1).copy())
    finding = only(check(tree))
    assert (finding.kind, params(finding)) == ("orientation", {"orientation": "apply"})
    ImageOps.exif_transpose(Image.open(tree / IMAGE)).save(tree / IMAGE)
    assert {f.kind for f in check(tree).findings} <= {"size-outlier"}


# ---- variants --------------------------------------------------------------------------------------------------------


def test_smoothed_edges_between_ids_that_are_all_classes_are_a_warning(tmp_path):
    tree = own_tree(tmp_path, "labels = [" + ", ".join(f'"c{i}"' for i in range(11)) + "]\n")

    def change(mask):
        return (ramp(mask) // 20).astype(np.uint8)

    rewrite(tree / MASK, change)
    found = {f.kind: f for f in check(tree).findings}
    assert found["antialiased-mask"].severity == WARNING
    assert found["antialiased-mask"].file == MASK


def test_a_jpeg_named_png_is_a_lossy_mask(tree):
    Image.fromarray(areas()).save(tree / MASK, format="JPEG")
    finding = only(check(tree))
    assert (finding.kind, finding.file) == ("jpeg-mask", MASK)


def test_an_image_of_16_bits_is_of_a_wrong_depth(tree):
    save(np.zeros(SIZE, np.uint16), tree / IMAGE)
    finding = only(check(tree))
    assert (finding.kind, finding.severity, finding.file) == ("wrong-bit-depth", ERROR, IMAGE)


def test_a_mask_of_one_bit_among_others_is_of_a_wrong_depth(tree):
    Image.fromarray(areas() > 0).save(tree / MASK)
    finding = only(check(tree))
    assert (finding.kind, finding.file) == ("wrong-bit-depth", MASK)


def test_an_empty_mask_is_not_unreadable_too(tree):
    (tree / MASK).write_bytes(b"")
    assert only(check(tree)).kind == "empty-file"


@pytest.mark.parametrize(
    ("other", "how"),
    [("T1.png", "upper and lower case"), ("e\u0301.png", "form of Unicode")],
)
def test_names_that_other_systems_do_not_tell_apart_collide(tree, other, how):
    if how == "form of Unicode":
        for place in ("images", "masks"):
            (tree / "train" / place / "t1.png").rename(tree / "train" / place / "\xe9.png")
    save(noise(77), tree / "train" / "images" / other)
    if other == "T1.png":
        save(areas(), tree / "train" / "masks" / other)
    finding = only(check(tree))
    assert finding.kind == "name-collision"
    assert how in finding.detail


def test_two_masks_of_one_image_collide(tree):
    save(areas(), tree / "train" / "masks" / "t1.tif")
    finding = only(check(tree))
    assert (finding.kind, finding.files) == ("name-collision", ("train/masks/t1.png", "train/masks/t1.tif"))


def test_a_file_in_the_lists_of_both_splits_is_a_duplicate(tmp_path):
    for number in range(6):
        save(noise(number), tmp_path / "images" / f"a{number}.png")
        save(areas(), tmp_path / "masks" / f"a{number}.png")
    (tmp_path / "train.txt").write_text("a0\na1\na2\na3\n")
    (tmp_path / "val.txt").write_text("a3\na4\na9\n")
    report = check(tmp_path, num_classes=3, split_file="{split}.txt")
    assert [(f.kind, f.file) for f in report.findings] == [
        ("missing-image", "val.txt"),
        ("duplicate-across-splits", "images/a3.png"),
    ]
    assert "val.txt lists a9" in report.findings[0].detail


def test_duplicates_of_val_and_test_alone_are_warnings(tree):
    save(noise(501), tree / "test" / "images" / "x0.png")
    shutil.copy(tree / "val" / "images" / "v1.png", tree / "test" / "images" / "x1.png")
    finding = only(check(tree))
    assert (finding.kind, finding.severity, finding.file) == (
        "duplicate-across-splits",
        WARNING,
        "test/images/x1.png",
    )


def test_files_without_a_partner_warn_if_the_dataset_leaves_them_out(tree):
    (tree / MASK).unlink()
    finding = only(check(tree))
    assert params(finding) == {"missing": "skip"}
    left = only(check(tree, **params(finding)))
    assert (left.severity, left.config) == (WARNING, "")


def test_many_faults_at_once_are_all_found(tree):
    for kind, name in (("rgb-mask", "t0"), ("off-by-one", "t2")):
        (tree / MASK).rename(tree / "keep.png")
        (tree / f"train/masks/{name}.png").rename(tree / MASK)
        PLANTS[kind][1](tree)
        (tree / MASK).rename(tree / f"train/masks/{name}.png")
        (tree / "keep.png").rename(tree / MASK)
    (tree / "val" / "images" / "v0.png").write_bytes(b"GIF89a")
    assert check(tree).counts() == {"unreadable-image": 1, "rgb-mask": 1, "off-by-one": 1}


# ---- classes that are not known --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids", [(0, 1, 2), (1, 2, 3), (0, 2, 61), (0, 15, 255), (13, 13, 255), (7, 100, 200), (0, 2, 700)]
)
def test_without_classes_no_id_is_wrong_and_a_note_says_so(tmp_path, ids):
    tree = own_tree(tmp_path, classes="", train=8)
    for path in tree.glob("*/masks/*.png"):
        rewrite(path, lambda mask: np.array(ids, np.uint16 if max(ids) > 255 else np.uint8)[mask])
    report = check(tree)
    assert report.findings == []
    assert report.summary["classes_suggested"]
    (note,) = report.summary["notes"]
    assert note.startswith("Classes are not known, so ids are not checked: the masks hold the ids ")
    assert "classes.toml" in note and "--classes FILE" in note


def test_without_classes_an_id_of_one_split_alone_is_a_warning(tmp_path):
    tree = own_tree(tmp_path, classes="", train=8)
    rewrite(tree / MASK, lambda mask: np.where(mask == 2, 77, mask).astype(np.uint8))
    finding = only(check(tree))
    assert (finding.kind, finding.severity, finding.file) == ("class-absent", WARNING, "val")
    assert "class 77 " in finding.detail


def test_without_classes_masks_in_colors_are_told_with_the_colors(tmp_path):
    tree = own_tree(tmp_path, classes="")
    change_all(tree, lambda mask: np.array([[0, 0, 0], [200, 10, 10], [10, 200, 10]], np.uint8)[mask])
    report = check(tree)
    assert report.counts() == {"color-mask": 7}
    assert "no mask could be read as ids" in report.summary["notes"][0]
    labels, colors = report.findings[0].fix.split("with your names: ")[1].split(" and, in another line, ")
    (tree / "classes.toml").write_text(f"{labels}\n{colors}\n")
    assert check(tree, **params(report.findings[0])).findings == []


def test_without_classes_0_and_255_are_told(tmp_path):
    tree = own_tree(tmp_path, classes="")
    change_all(tree, lambda mask: np.where(mask > 0, 255, 0).astype(np.uint8))
    finding = only(check(tree))
    assert finding.kind == "binary-0-255"
    assert check(tree, **params(finding)).findings == []


def test_given_classes_win(tree):
    assert check(tree, num_classes=2).counts() == {"off-by-one": 1}
    assert check(tree, classes={"labels": ["a", "b", "c"]}).findings == []
    assert check(tree, num_classes=3, ignore_index=7).findings == []


def test_ids_of_a_known_label_set_are_read_by_the_map_of_its_dataset(tmp_path):
    ids = np.repeat(np.arange(12, dtype=np.uint8), 64).reshape(24, 32)
    tree = own_tree(tmp_path, classes="")
    for path in tree.glob("*/masks/*.png"):
        save(ids, path)
    (found,) = check(tree, classes="CamVid").findings
    assert found.kind == "off-by-one" and "as those of CamVid" in found.detail
    assert '11 = "ignore"' in found.config and " 1 = 1," in found.config
    assert check(tree, classes="CamVid", **params(found)).findings == []


def test_one_class_beside_ignored_pixels_is_an_error_as_in_a_run(tmp_path):
    tree = own_tree(tmp_path)
    for path in tree.glob("*/masks/*.png"):
        save(np.where(areas() == 1, 1, 255).astype(np.uint8), path)
    found = check(tree).findings
    assert [(f.kind, f.severity, f.file) for f in found] == [
        ("class-absent", ERROR, "train"),
        ("class-absent", ERROR, "val"),
    ]
    assert found[0].detail.endswith("cannot be learned; all pixels of other classes are ignored")
