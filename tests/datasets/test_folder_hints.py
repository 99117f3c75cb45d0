"""What FolderDataset suggests for folders of other people: the right pairs, nothing dropped in silence, or a reason."""

import json

import pytest
from PIL import Image

from seg_core import DatasetNotFoundError, InvalidArgumentError
from seg_datasets import FolderDataset
from seg_datasets.reading.frames import copies_regex, tiles_regex
from tests.datasets.own_folders import HEIGHT, LABELS, WIDTH, files_of, image, mask, names, write


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


def error_of(root, split="train", **options):
    with pytest.raises(DatasetNotFoundError) as caught:
        FolderDataset(root, LABELS, split, **options)
    return str(caught.value)


def report_of(root, **options):
    report = FolderDataset.inspect(root, metadata=LABELS, **options)
    return report, "\n".join(report.oddities)


def pairs_of(root, options):
    found = {}
    for split in ("train", "val"):
        dataset = FolderDataset(root, split=split, **options)
        found |= dict(zip(files_of(dataset), files_of(dataset, 1), strict=True))
    return found


# ---- images and masks are told apart by their names ------------------------------------------------------------------


TREES = {
    "cityscapes": ("leftImg8bit/train/{c}/{c}_{n}_leftImg8bit.png", "gtFine/train/{c}/{c}_{n}_gtFine_labelIds.png"),
    "busi": ("{c}/{c} ({n}).png", "{c}/{c} ({n})_mask.png"),
    "labelme": ("{c}{n}_json/img.png", "{c}{n}_json/label.png"),
    "patients": ("kaggle/{c}/{c}_{n}.tif", "kaggle/{c}/{c}_{n}_mask.tif"),
    "dates": ("{c}/images/{n}.jpg", "{c}/masks/{n}.png"),
    "sequences": ("uavid_train/{c}{n}/Images/0.png", "uavid_train/{c}{n}/Labels/0.png"),
    "prefix of masks": ("data/{c}{n}.png", "data/mask_{c}{n}.png"),
}


@pytest.mark.parametrize("case", TREES)
def test_folders_of_others_every_image_gets_its_own_mask(tmp_path, case):
    expected = {}
    for city in ("aa", "bb"):
        for number in range(3):
            paths = [pattern.format(c=city, n=number) for pattern in TREES[case]]
            image(tmp_path / paths[0])
            mask(tmp_path / paths[1], number)
            expected[paths[0]] = paths[1]
    report, told = report_of(tmp_path)
    assert "all 6 pair" in told
    assert "left out" not in told
    assert report.fits
    assert pairs_of(tmp_path, report.options) == expected


def test_several_kinds_of_masks_the_ids_are_chosen_and_the_others_told(tmp_path):
    for number in range(4):
        image(tmp_path / f"a{number}_json/img.png")
        mask(tmp_path / f"a{number}_json/label.png", number % 3)
        image(tmp_path / f"a{number}_json/label_viz.png")
    report, told = report_of(tmp_path)
    assert report.options["masks"] == "*/label.png"
    assert "4 other images are left out: 1 in a0_json such as label_viz.png" in told


@pytest.mark.parametrize(("first", "second"), [("cats", "dogs"), ("gtFine/aa", "gtFine/bb"), ("rgb", "depth")])
def test_folders_without_masks_are_no_pairs(tmp_path, first, second):
    write(tmp_path, names(6), f"{first}/{{}}.png", f"{second}/{{}}.png")
    report, told = report_of(tmp_path)
    assert not report.fits
    assert "pair" not in told.replace("paired", "")
    assert "masks=" not in told.replace("masks=...", "")


def test_folder_beside_images_and_masks_is_told(tmp_path):
    write(tmp_path, names(6), "rgb/{}.png", "seg/{}.png")
    write(tmp_path, names(6), "depth/{}.png", masks="")
    report, told = report_of(tmp_path)
    assert (report.options["images"], report.options["masks"]) == ("rgb", "seg")
    assert "6 other images are left out: 6 in depth such as p00.png" in told


def test_two_folders_that_may_be_the_images_are_both_offered(tmp_path):
    for split in ("train", "val"):
        write(tmp_path, names(3), f"{split}/A/{{}}.png", f"{split}/label/{{}}.png")
        write(tmp_path, names(3), f"{split}/B/{{}}.png", masks="")
    message = error_of(tmp_path)
    assert "Several layouts fit equally well" in message
    for folder in "AB":
        assert f"images='{{split}}/{folder}', masks='{{split}}/label'" in message


def test_layout_that_leaves_out_more_than_it_pairs_is_not_suggested(tmp_path):
    write(tmp_path, names(2), "some/photos/{}.png", "some/gt/{}.png")
    for place in ("b", "c"):
        write(tmp_path, names(6), f"{place}/x/y/{{}}.png", masks="")
    assert "With" not in error_of(tmp_path)


def test_usual_folders_others_are_told(tmp_path):
    write(tmp_path, names(6))
    write(tmp_path, names(2), "more/{}.jpg", masks="")
    _, told = report_of(tmp_path)
    assert "2 other images are left out: 2 in more such as p00.jpg" in told


def test_folds_on_disk_are_not_mixed_and_each_is_offered(tmp_path):
    for fold in range(2):
        for split in ("train", "val"):
            write(tmp_path / f"fold{fold}/{split}", names(3))
    message = error_of(tmp_path)
    for fold in range(2):
        assert f"images='fold{fold}/{{split}}/images', masks='fold{fold}/{{split}}/masks'" in message
    assert "Several layouts fit equally well" in message
    assert "fold0/{split}/images', masks='fold1" not in message


def test_options_for_another_folder_error_takes_all(tmp_path):
    for date in ("2024-01", "2024-02"):
        write(tmp_path, names(3), f"images/{date}/{{}}.jpg", f"masks/{date}/{{}}.png")
    message = error_of(tmp_path, images="photos", masks="truth")
    assert message.endswith("With images='images', masks='masks' all 6 pair")


def test_images_without_masks_in_other_folders_suggestion_skips_them(tmp_path):
    write(tmp_path, names(6), "CXR_png/{}.png", "masks/{}_mask.png")
    write(tmp_path, ["x"], "CXR_png/{}.png", masks="")
    message = error_of(tmp_path)
    options = "images='CXR_png', masks='masks', mask_suffix='_mask', missing='skip'"
    assert f"With {options} 6 of 7 images and 6 masks pair; images without a mask: 1 (x.png)" in message
    with pytest.warns(UserWarning, match="left out"):
        assert len(FolderDataset(tmp_path, LABELS, **eval(f"dict({options})"))) == 5


# ---- several masks, shifted numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/p_{}.png", "masks/p_{}_{}.png"),
        ("images/p_{}.png", "masks/p_{}_mask_{}.png"),
        ("stage1/h{0}/images/h{0}.png", "stage1/h{0}/masks/o{1}.png"),
    ],
)
def test_several_masks_per_image_are_told_and_none_is_dropped(tmp_path, images, masks):
    for number in range(4):
        image(tmp_path / images.format(number))
        for part in range(2):
            mask(tmp_path / masks.format(number, part))
    report, told = report_of(tmp_path)
    assert not report.fits
    assert "4 of 4 images have several masks" in told
    assert "merge the masks of an image" in told
    assert "With" not in told


def test_few_further_masks_are_told_as_left_out(tmp_path):
    write(tmp_path, names(12), masks="masks/{}_mask.png")
    mask(tmp_path / "masks/p01_mask_1.png")
    _, told = report_of(tmp_path)
    assert "With mask_suffix='_mask' all 12 pair; 1 other masks are left out" in told


def test_mask_whose_image_is_missing_is_no_further_mask(tmp_path):
    write(tmp_path, names(12))
    mask(tmp_path / "masks/p01_2.png")
    assert "or leave them out with missing='skip'" in error_of(tmp_path)


def test_further_masks_beside_images_are_told_and_not_skipped(tmp_path):
    write(tmp_path, names(4), "benign/{}.png", "benign/{}_mask.png")
    mask(tmp_path / "benign/p01_mask_1.png")
    message = error_of(tmp_path)
    assert "4 of 5 images and 4 masks pair; 1 files look like further masks" in message
    assert "(p01_mask_1.png)" in message
    assert "skip" not in message


def test_shifted_numbers_are_told_and_skip_is_not_advised(tmp_path):
    for number in range(6):
        image(tmp_path / f"images/{number:02}.jpg")
        mask(tmp_path / f"masks/{number + 1:02}.png")
    message = error_of(tmp_path)
    assert "shifted by 1: images go from 00 to 05, masks from 01 to 06" in message
    assert "skip" not in message
    with pytest.warns(UserWarning, match="left out. The numbers look shifted by 1"):
        FolderDataset(tmp_path, LABELS, missing="skip")


def test_names_in_another_order_error_says_to_make_them_equal(tmp_path):
    for number in range(4):
        image(tmp_path / f"images/DSC{100 + 3 * number}.jpg")
        mask(tmp_path / f"masks/m{number}.png")
    assert "If each mask belongs to an image, give both the same name" in error_of(tmp_path)


# ---- splits ----------------------------------------------------------------------------------------------------------


def test_images_per_split_and_masks_for_all_keep_the_split(tmp_path):
    write(tmp_path, ["a", "b", "c"], "images/train/{}.jpg", "masks/{}.png")
    write(tmp_path, ["d", "e"], "images/val/{}.jpg", "masks/{}.png")
    assert files_of(FolderDataset(tmp_path, LABELS, "val")) == ["images/val/d.jpg", "images/val/e.jpg"]
    assert report_of(tmp_path)[0].counts == {"train": 3, "val": 2}


def test_images_per_split_with_a_name_in_both_do_not_share_a_mask(tmp_path):
    write(tmp_path, ["a", "b"], "images/train/{}.jpg", "masks/{}.png")
    write(tmp_path, ["a"], "images/val/{}.jpg", masks="")
    with pytest.raises(DatasetNotFoundError):
        FolderDataset(tmp_path, LABELS, "val")


def test_dev_is_val_if_there_is_no_other(tmp_path):
    write(tmp_path / "train", names(3))
    write(tmp_path / "dev", names(2))
    assert len(FolderDataset(tmp_path, LABELS, "val")) == 2
    write(tmp_path / "val", names(1))
    assert len(FolderDataset(tmp_path, LABELS, "val")) == 1


def test_list_of_val_may_be_called_valid(tmp_path):
    write(tmp_path, names(5))
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/train.txt").write_text("p00\np01\np02\n")
    (tmp_path / "splits/valid.txt").write_text("p03\n")
    assert len(FolderDataset(tmp_path, LABELS, "val", split_file="splits/{split}.txt")) == 1
    report, _ = report_of(tmp_path)
    assert report.options["split_file"] == "splits/{split}.txt"
    assert report.counts == {"train": 3, "val": 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("valid.txt", "p00.png\n"),
        ("annotations/trainval.txt", "p00 1 1 1\n"),
        ("val_fold0.txt", "p03\n"),
        ("train.csv", "image,mask\nimages/p00.jpg,masks/p00.png\n"),
    ],
)
def test_lists_that_are_not_used_are_told(tmp_path, name, text):
    write(tmp_path, names(5))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert f"lists of images were found and not used: {name}. To use them, set split_file" in report_of(tmp_path)[1]


def test_text_that_is_no_list_is_not_told(tmp_path):
    write(tmp_path, names(5))
    (tmp_path / "train_notes.txt").write_text("learning went well\n")
    assert "lists" not in report_of(tmp_path)[1]


@pytest.mark.parametrize("options", [{"val_fraction": 0.2}, {"seed": 0}, {"val_fraction": 0.3, "seed": 4}])
def test_fraction_or_seed_with_folders_or_lists_is_an_error(tmp_path, options):
    for split in ("train", "val"):
        write(tmp_path / "folders" / split, names(3))
    write(tmp_path / "lists", names(3))
    (tmp_path / "lists/train.txt").write_text("p00\n")
    named = " and ".join(options)
    with pytest.raises(InvalidArgumentError, match=f"{named} cannot be used, as .* has folders per split"):
        FolderDataset(tmp_path / "folders", LABELS, **options)
    with pytest.raises(InvalidArgumentError, match=f"{named} cannot be used, as .* has lists"):
        FolderDataset(tmp_path / "lists", LABELS, split_file="{split}.txt", **options)
    assert FolderDataset.option_problems(tmp_path / "folders", {"metadata": LABELS, **options})
    assert len(FolderDataset(tmp_path / "folders", LABELS)) == 3
    assert len(FolderDataset(tmp_path / "lists", LABELS, split_file="{split}.txt")) == 1


def test_fraction_and_seed_as_by_default_split_the_same(tmp_path):
    write(tmp_path, names(10))
    assert files_of(FolderDataset(tmp_path, LABELS)) == files_of(
        FolderDataset(tmp_path, LABELS, val_fraction=0.2, seed=0)
    )


@pytest.mark.parametrize(
    ("images", "masks"), [("{s}/images/{{}}.jpg", "{s}/masks/{{}}.png"), ("rgb_{s}/{{}}.png", "labels_{s}/{{}}.png")]
)
def test_test_split_that_options_leave_out_is_told_and_advice_works(tmp_path, images, masks):
    for split, count in (("train", 6), ("test", 2)):
        write(tmp_path, names(count), images.format(s=split), masks.format(s=split))
    report, told = report_of(tmp_path)
    given = [pattern.format(s="{split}").rpartition("/")[0] for pattern in (images, masks)]
    advice = f"to read the 2 images of test in {given[0].replace('{split}', 'test')}, set images={given[0]!r}"
    assert f"the test split is not part of these options: {advice}" in told
    options = {name: report.options[name] for name in ("images", "masks")}
    assert advice in error_of(tmp_path, "test", **options)
    assert len(FolderDataset(tmp_path, LABELS, "test", images=given[0], masks=given[1])) == 2


def test_val_without_masks_error_says_how_to_go_on_and_it_works(tmp_path):
    write(tmp_path / "train", names(6))
    write(tmp_path / "valid", names(2), masks="")
    message = error_of(tmp_path, "val")
    assert "val has 2 images and no masks: add them as valid/masks" in message
    assert "set images='train/images', masks='train/masks'" in message
    assert len(FolderDataset(tmp_path, LABELS, "val", images="train/images", masks="train/masks")) == 1
    report, _ = report_of(tmp_path)
    assert "files" not in [line.split()[0] for line in str(report).splitlines()]


def test_masks_of_val_in_another_folder_error_names_it(tmp_path):
    write(tmp_path / "train", names(4))
    write(tmp_path / "val", names(2), masks="labels/{}.png")
    assert "those of train in train/masks: rename it to masks" in error_of(tmp_path, "val")


def test_masks_of_val_named_otherwise_error_advises_no_option_that_breaks_train(tmp_path):
    write(tmp_path / "train", names(4))
    write(tmp_path / "val", names(2), masks="masks/{}_mask.png")
    message = error_of(tmp_path, "val")
    assert "With" not in message
    assert "rename the masks of val like the images, as p00_mask.png to p00.png" in message


def test_folder_called_training_is_split_by_the_options_that_are_written(tmp_path):
    write(tmp_path / "training", names(5))
    report, _ = report_of(tmp_path)
    assert report.options["images"] == "training/images"
    assert report.counts == {"train": 4, "val": 1}
    assert "set images='training/images', masks='training/masks'" in error_of(tmp_path, "val")


# ---- frames, tiles, copies -------------------------------------------------------------------------------------------


def test_videos_named_by_letters_are_kept_together(tmp_path):
    write(tmp_path, [f"vid{letter}_{frame:05}" for letter in "abc" for frame in range(4)])
    report, told = report_of(tmp_path)
    assert report.options["groups"] == "^(.*?)[0-9]+$"
    assert "frames of numbered sequences" in told


def test_copies_of_an_image_are_kept_together(tmp_path):
    write(tmp_path, [f"s{number}_jpg.rf.{code}" for number in range(6) for code in ("ab12", "cd34")])
    report, told = report_of(tmp_path)
    assert "copies of images" in told
    dataset = [FolderDataset(tmp_path, split=split, **report.options) for split in ("train", "val")]
    sides = [{name.split(".rf.")[0] for name in files_of(one)} for one in dataset]
    assert not sides[0] & sides[1]


def test_copies_in_folders_of_both_splits_are_told(tmp_path):
    write(tmp_path / "train", ["s0_jpg.rf.a", "s1_jpg.rf.a"])
    write(tmp_path / "val", ["s0_jpg.rf.b"])
    assert "copies of 1 images are in both train and val (s0_jpg)" in report_of(tmp_path)[1]


def test_tiles_of_an_image_are_kept_together(tmp_path):
    write(tmp_path, [f"site{site}_{row}_{column}" for site in range(4) for row in range(2) for column in range(2)])
    report, told = report_of(tmp_path)
    assert "tiles of images" in told
    dataset = [FolderDataset(tmp_path, split=split, **report.options) for split in ("train", "val")]
    sides = [{name.split("_")[0] for name in files_of(one)} for one in dataset]
    assert not sides[0] & sides[1]


def test_photos_are_neither_tiles_nor_copies():
    photos = [f"cat_{number:02}" for number in range(20)]
    dates = [f"2024_{month}_{day}" for month, day in ((1, 3), (1, 5), (2, 3), (4, 9), (5, 1))]
    for keys in (photos, dates):
        assert tiles_regex(keys[1:], keys[:1]) is None
        assert copies_regex(keys[1:], keys[:1]) is None


# ---- files that are no masks -----------------------------------------------------------------------------------------


def test_masks_in_gif_error_says_how_to_convert_and_it_works(tmp_path):
    write(tmp_path, names(6), "train/{}.jpg", masks="")
    (tmp_path / "train_masks").mkdir()
    for number, name in enumerate(names(6)):
        Image.new("L", (WIDTH, HEIGHT), number % 3).save(tmp_path / f"train_masks/{name}_mask.gif")
    message = error_of(tmp_path)
    assert "Masks in GIF (p00_mask.gif) are not read" in message
    assert ".convert('L').save('a.png')" in message
    for path in sorted((tmp_path / "train_masks").iterdir()):
        with Image.open(path) as opened:
            opened.convert("L").save(path.with_suffix(".png"))
    report, _ = report_of(tmp_path)
    assert report.fits
    assert set(report.ids) == {0, 1, 2}


@pytest.mark.parametrize("place", ["", "Kvasir-SEG/"])
def test_masks_in_jpeg_error_says_how_to_convert(tmp_path, place):
    write(tmp_path, names(3), f"{place}images/{{}}.jpg", f"{place}masks/{{}}.jpg")
    message = error_of(tmp_path)
    assert "Masks in JPEG or WebP (p00.jpg) are not read" in message
    assert "compare with 128), save as PNG" in message


@pytest.mark.parametrize(
    ("place", "text", "kind"),
    [
        ("labels/p00.txt", "0 0.5 0.5 0.1 0.2\n", "YOLO"),
        ("annotations/instances.json", json.dumps({"images": [], "annotations": []}), "COCO"),
        ("images/p00.json", json.dumps({"shapes": [], "imagePath": "p00.jpg"}), "labelme"),
    ],
)
def test_polygons_and_boxes_are_told(tmp_path, place, text, kind):
    write(tmp_path, names(3), masks="")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(text)
    assert f"{place} holds polygons or boxes ({kind}), not masks: draw them into masks first" in error_of(tmp_path)


def test_broken_link_error_names_where_it_points(tmp_path):
    write(tmp_path, names(3))
    (tmp_path / "images/x.jpg").symlink_to("/nowhere/x.jpg")
    mask(tmp_path / "masks/x.png")
    assert "x.jpg is a link to /nowhere/x.jpg, which does not exist" in report_of(tmp_path)[1]


def test_braces_in_a_pattern_error_says_what_to_write(tmp_path):
    write(tmp_path, names(3))
    with pytest.raises(InvalidArgumentError, match=r"braces with a choice are not supported; write \* instead"):
        FolderDataset(tmp_path, LABELS, images="images/*.{jpg,png}", masks="masks")
