"""Which files FolderDataset finds: layouts, patterns, lists of names."""

import codecs
import inspect
import re
import unicodedata
from pathlib import Path

import pytest

from seg_core import CorruptFileError, DatasetNotFoundError, InvalidArgumentError
from seg_datasets import FolderDataset
from tests.datasets.own_folders import LABELS, files_of, image, mask, names, write


def both(root, **options):
    return tuple(FolderDataset(root, LABELS, split, **options) for split in ("train", "val"))


# ---- layouts that are found ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "labels"),
        ("images", "annotations"),
        ("images", "gt"),
        ("image", "mask"),
        ("imgs", "masks"),
        ("Images", "Masks"),
        ("img_dir", "ann_dir"),
        ("JPEGImages", "SegmentationClass"),
    ],
)
def test_one_folder_for_all_usual_names_are_found(tmp_path, images, masks):
    write(tmp_path, names(5), images + "/{}.jpg", masks + "/{}.png")
    train, val = both(tmp_path)
    assert sorted(files_of(train) + files_of(val)) == [f"{images}/{name}.jpg" for name in names(5)]
    assert len(val) == 1
    assert files_of(train, 1) == [path.replace(images, masks).replace(".jpg", ".png") for path in files_of(train)]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("SPLIT/images", "SPLIT/masks"),
        ("SPLIT/images", "SPLIT/labels"),
        ("SPLIT/img", "SPLIT/gt"),
        ("images/SPLIT", "masks/SPLIT"),
        ("images/SPLIT", "labels/SPLIT"),
        ("img_dir/SPLIT", "ann_dir/SPLIT"),
    ],
)
@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("training", "validation"), ("Train", "valid")])
def test_folders_per_split_usual_names_are_found(tmp_path, images, masks, train, val):
    for split, number in ((train, 2), (val, 3), ("test", 1)):
        own = (f"{pattern.replace('SPLIT', split)}/{{}}" for pattern in (images, masks))
        write(tmp_path, names(number), *(f"{pattern}{end}" for pattern, end in zip(own, (".jpg", ".png"), strict=True)))
    assert [len(dataset) for dataset in both(tmp_path)] == [2, 3]
    assert files_of(FolderDataset(tmp_path, LABELS, "test")) == [f"{images.replace('SPLIT', 'test')}/p00.jpg"]


def test_voc_lists_are_used_if_they_are_there(tmp_path):
    write(tmp_path, names(6), "JPEGImages/{}.jpg", masks="")
    write(tmp_path, names(3), images="", masks="SegmentationClass/{}.png")
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("p00\np02\n")
    (lists / "val.txt").write_text("p01\n")
    (lists / "test.txt").write_text("p05\n")
    train, val = both(tmp_path)
    assert files_of(train) == ["JPEGImages/p00.jpg", "JPEGImages/p02.jpg"]
    assert files_of(val) == ["JPEGImages/p01.jpg"]
    assert FolderDataset(tmp_path, LABELS, "test")[0][1] is None


def test_images_and_masks_other_mask_folders_beside_them_change_nothing(tmp_path):
    # what earlier versions read must stay
    write(tmp_path, names(5))
    before = [files_of(dataset, 1) for dataset in both(tmp_path)]
    write(tmp_path, names(5), images="img_dir/{}.jpg", masks="labels/{}.png")
    (tmp_path / "masks" / "old").mkdir()
    assert [files_of(dataset, 1) for dataset in both(tmp_path)] == before


def test_two_layouts_error_gives_the_options_of_each_and_they_work(tmp_path):
    write(tmp_path, names(5), masks="labels/{}.png")
    write(tmp_path, names(5), masks="gt/{}.png")
    with pytest.raises(DatasetNotFoundError, match=r"images='images', masks='labels'; or images='images', masks='gt'"):
        FolderDataset(tmp_path, LABELS)
    assert files_of(both(tmp_path, images="images", masks="gt")[1], 1)[0].startswith("gt/")


def test_folder_with_labels_as_text_is_no_mask_folder(tmp_path):
    write(tmp_path, names(5), masks="annotations/{}.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/p00.txt").write_text("0 0.5 0.5 1 1")
    assert files_of(both(tmp_path)[1], 1)[0].startswith("annotations/")


@pytest.mark.parametrize(
    ("images", "masks", "options"),
    [
        ("photos/{}.png", "truth/{}.png", "images='photos', masks='truth'"),
        ("{}.jpg", "{}.png", "images='*.jpg', masks='*.png'"),
        ("data/{}.png", "data/{}_mask.png", "images='data/*', masks='data/*_mask.png'"),
        ("train/{}.png", "trainannot/{}.png", "images='{split}', masks='{split}annot'"),
        (
            "train/{}.jpg",
            "train_masks/{}_mask.png",
            "images='{split}', masks='{split}_masks', mask_suffix='_mask'",
        ),
    ],
)
def test_unknown_names_error_gives_options_that_work(tmp_path, images, masks, options):
    for split in ("train", "val") if "train" in images else ("",):
        write(
            tmp_path, names(6), *(pattern.replace("train", split) if split else pattern for pattern in (images, masks))
        )
    with pytest.raises(DatasetNotFoundError) as caught:
        FolderDataset(tmp_path, LABELS)
    assert f"With {options} all 6 pair" in str(caught.value)
    given = eval(f"dict({options})")
    train, val = both(tmp_path, **given)
    assert len(train) + len(val) == (12 if "train" in images else 6)


def test_unknown_names_no_masks_error_lists_the_folders_with_images(tmp_path):
    write(tmp_path, names(6), "photos/{}.jpg", masks="")
    with pytest.raises(
        DatasetNotFoundError, match=r"Name the folders with images=... and masks=...; .*photos: 6 images"
    ):
        FolderDataset(tmp_path, LABELS)


def test_no_val_folder_error_says_how_to_split_train_and_it_works(tmp_path):
    write(tmp_path / "train", names(5))
    with pytest.raises(DatasetNotFoundError, match="set images='train/images', masks='train/masks'"):
        FolderDataset(tmp_path, LABELS, "val")
    assert [len(d) for d in both(tmp_path, images="train/images", masks="train/masks")] == [4, 1]


def test_val_and_valid_folders_error_names_both(tmp_path):
    for split in ("train", "val", "valid"):
        write(tmp_path / split, names(2))
    with pytest.raises(DatasetNotFoundError, match=r"val: .* has images in val/images and valid/images"):
        FolderDataset(tmp_path, LABELS, "val")


# ---- patterns --------------------------------------------------------------------------------------------------------


def test_nested_folders_pair_by_their_path(tmp_path):
    for folder in ("a", "b/c"):
        write(tmp_path, names(3), f"images/{folder}/{{}}.jpg", f"masks/{folder}/{{}}.png")
    train, val = both(tmp_path)
    assert len(train) + len(val) == 6
    assert files_of(train, 1) == [path.replace("images", "masks").replace("jpg", "png") for path in files_of(train)]


def test_nested_files_below_a_folder_with_files_are_left_out_and_told(tmp_path):
    write(tmp_path, names(5))
    image(tmp_path / "images/more/x.jpg")
    with pytest.warns(
        UserWarning, match=r"images holds 5 files, and 1 more in folders below .*: more/x.*'images/\*\*/\*'"
    ):
        assert len(FolderDataset(tmp_path, LABELS)) == 4


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/*/*_rgb.png", "masks/*/*_ids.png"),
        ("images/**/*_rgb.png", "masks/**/*_ids.png"),
        ("images/*/*_rgb", "masks/*/*_ids"),
        ("images/**/*_RGB.*", "masks/**/*_ids.*"),
    ],
)
def test_patterns_what_the_stars_match_pairs(tmp_path, images, masks):
    for folder in ("x", "y"):
        write(tmp_path, names(3), f"images/{folder}/{{}}_rgb.png", f"masks/{folder}/{{}}_ids.png")
        mask(tmp_path / f"masks/{folder}/p00_color.png")
    train, val = both(tmp_path, images=images, masks=masks)
    assert len(train) + len(val) == 6
    assert files_of(train, 1) == [path.replace("images", "masks").replace("rgb", "ids") for path in files_of(train)]


def test_patterns_with_split_and_masks_of_all_splits_in_one_folder(tmp_path):
    write(tmp_path, names(3), "rgb/train/{}.jpg", "ids/{}.png")
    write(tmp_path, names(2, 3), "rgb/valid/{}.jpg", "ids/{}.png")
    train, val = both(tmp_path, images="rgb/{split}", masks="ids")
    assert (len(train), files_of(val, 1)) == (3, ["ids/p03.png", "ids/p04.png"])


def test_patterns_win_over_the_usual_folders(tmp_path):
    write(tmp_path, names(5))
    write(tmp_path, names(3), "other/{}.jpg", "truth/{}.png")
    train, val = both(tmp_path, images="other", masks="truth")
    assert (len(train), len(val)) == (2, 1)


def test_images_and_masks_in_one_folder_are_told_apart_by_the_suffix(tmp_path):
    write(tmp_path, names(5), "{}.png", "{}_mask.png")
    train, val = both(tmp_path, images="*", masks="*", mask_suffix="_mask")
    assert sorted(files_of(train) + files_of(val)) == [f"{name}.png" for name in names(5)]
    assert files_of(val, 1) == [path.replace(".png", "_mask.png") for path in files_of(val)]


def test_images_and_masks_are_the_same_files_error_says_so(tmp_path):
    write(tmp_path, names(5), "data/{}.png", masks="")
    with pytest.raises(
        InvalidArgumentError, match=r"images = 'data' and masks = 'data' match the same files.*mask_suffix"
    ):
        FolderDataset(tmp_path, LABELS, images="data", masks="data")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"images": "photos"}, "images = 'photos' is given without masks; give both"),
        ({"masks": "truth"}, "masks = 'truth' is given without images; give both"),
        ({"images": "/data", "masks": "x"}, "images = '/data': must be relative to the root"),
        ({"images": "a\\*.jpg", "masks": "x"}, "write / between folders"),
        ({"images": "", "masks": "x"}, "images must be a folder or a glob pattern"),
        ({"images": 3, "masks": "x"}, "images must be a folder or a glob pattern .* got 3"),
        ({"images": "x", "masks": "{split}"}, r"masks = '\{split\}' contains \{split\} and images = 'x' does not"),
        ({"mask_suffix": "_mask.png"}, "write '_mask'"),
        ({"mask_suffix": 3}, "mask_suffix must be a string such as '_mask', got 3"),
        ({"pair_by": "stem"}, "pair_by must be 'path' or 'name', got 'stem'"),
        ({"split_file": "train.txt"}, r"split_file = 'train.txt' must contain \{split\}"),
        ({"split_file": ["a"]}, "split_file must be a path such as"),
        ({"split_file": {}}, "split_file must be a path such as"),
        ({"split_file": {"trian": "a.txt"}}, "split_file has the key 'trian'. Did you mean 'train'"),
        ({"split_file": {"train": 1}}, "split_file.train must be the path of a text file, got 1"),
        ({"colors": "yes"}, "colors must be true or false, got 'yes'"),
    ],
)
def test_option_not_allowed_error_says_what_is(tmp_path, options, match):
    with pytest.raises(InvalidArgumentError, match=match):
        FolderDataset(write(tmp_path, names(2)), LABELS, **options)


def test_pattern_that_matches_nothing_error_names_it(tmp_path):
    write(tmp_path, names(2))
    with pytest.raises(DatasetNotFoundError, match=r"\*.tif: 0 images; .*png: 2 masks.*images='images/\*.tif'"):
        FolderDataset(tmp_path, LABELS, images="images/*.tif", masks="masks/*.png")


def test_pattern_with_stars_ignores_a_link_to_a_folder_around_it(tmp_path):
    write(tmp_path, names(3), "images/a/{}.jpg", "masks/a/{}.png")
    try:
        (tmp_path / "images/a/again").symlink_to(tmp_path / "images")
    except OSError:
        pytest.skip("links cannot be made here")
    assert sum(map(len, both(tmp_path, images="images/**/*.jpg", masks="masks/**/*.png"))) == 3


# ---- names -----------------------------------------------------------------------------------------------------------


def test_composed_and_decomposed_unicode_pairs(tmp_path):
    stems = ["bäum", "größe", "plain"]
    for stem in stems:
        image(tmp_path / f"images/{unicodedata.normalize('NFD', stem)}.jpg")
        mask(tmp_path / f"masks/{unicodedata.normalize('NFC', stem)}.png")
    assert sum(map(len, both(tmp_path))) == 3


def test_unicode_in_folders_patterns_and_lists_pairs(tmp_path):
    decomposed, composed = (unicodedata.normalize(form, "größe") for form in ("NFD", "NFC"))
    write(tmp_path, ["bä", "bö"], f"{decomposed}/{{}}.jpg", "masks/{}.png")
    (tmp_path / "train.txt").write_text(unicodedata.normalize("NFD", "bä\n"), encoding="utf-8")
    (tmp_path / "val.txt").write_text("bö\n", encoding="utf-8")
    train, val = both(tmp_path, images=composed, masks="masks", split_file="{split}.txt")
    assert (len(train), len(val)) == (1, 1)


def test_two_forms_of_one_name_in_a_folder_error_names_both(tmp_path):
    write(tmp_path, ["a", "b"])
    for form in ("NFD", "NFC"):
        image(tmp_path / f"images/{unicodedata.normalize(form, 'ä')}.jpg")
    if len(list((tmp_path / "images").iterdir())) < 4:
        pytest.skip("this file system has one form of a name")
    with pytest.raises(DatasetNotFoundError, match="contains both"):
        FolderDataset(tmp_path, LABELS)


def test_upper_and_lower_case_pairs_where_one_file_fits(tmp_path):
    for number in range(4):
        image(tmp_path / f"images/IMG_{number}.JPG")
        mask(tmp_path / f"masks/img_{number}_Mask.PNG")
    train, val = both(tmp_path, mask_suffix="_mask")
    assert sum(map(len, (train, val))) == 4
    assert files_of(val, 1) == [
        path.lower().replace("images", "masks").replace(".jpg", "_Mask.PNG") for path in files_of(val)
    ]


def test_upper_and_lower_case_two_masks_fit_is_an_error(tmp_path):
    write(tmp_path, ["b"])
    image(tmp_path / "images/A.jpg")
    for name in ("a", "â", "X"):
        mask(tmp_path / f"masks/{name}.png")
    mask(tmp_path / "masks/x.png")
    with pytest.raises(DatasetNotFoundError, match="do not pair"):
        FolderDataset(tmp_path, LABELS)


# ---- lists of names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"p00\np03\n",
        codecs.BOM_UTF8 + b"p00.jpg\r\np03.jpg\r\n",
        codecs.BOM_UTF16_LE + "images\\p00.jpg\r\nimages\\p03.jpg\r\n".encode("utf-16-le"),
        b"./images/p00.jpg masks/p00.png\nimages/p03.jpg masks/p03.png\n",
        b"/home/me/data/images/p00.jpg,/home/me/data/masks/p00.png\n/home/me/data/images/p03.jpg,x\n",
        b"p00_mask.png\np03_mask.png\np03_mask.png\n\n",
    ],
)
def test_list_of_any_editor_and_tool_names_the_files(tmp_path, content):
    write(tmp_path, names(5), masks="masks/{}_mask.png")
    (tmp_path / "train.lst").write_bytes(content)
    (tmp_path / "val.lst").write_text("p01\n")
    train, val = both(tmp_path, mask_suffix="_mask", split_file={"train": "train.lst", "val": "val.lst"})
    assert files_of(train) == ["images/p00.jpg", "images/p03.jpg"]
    assert files_of(val) == ["images/p01.jpg"]


def test_list_names_with_spaces_and_dots_are_found(tmp_path):
    write(tmp_path, ["a b", "c.d", "e"])
    (tmp_path / "train.txt").write_text("a b.jpg\nc.d\n")
    (tmp_path / "val.txt").write_text("e\n")
    train, _ = both(tmp_path, split_file="{split}.txt")
    assert files_of(train) == ["images/a b.jpg", "images/c.d.jpg"]


def test_list_with_nested_folders_takes_the_longest_path(tmp_path):
    for folder in ("x", "y"):
        write(tmp_path, names(2), f"images/{folder}/{{}}.jpg", f"masks/{folder}/{{}}.png")
    (tmp_path / "train.txt").write_text("images/x/p00.jpg\ny/p01\n")
    (tmp_path / "val.txt").write_text("x/p01\n")
    train, _ = both(tmp_path, split_file="{split}.txt")
    assert files_of(train) == ["images/x/p00.jpg", "images/y/p01.jpg"]
    (tmp_path / "train.txt").write_text("p00\n")
    with pytest.raises(DatasetNotFoundError, match=r"lists 'p00', which is the name of 2 images: x/p00, y/p00; write"):
        FolderDataset(tmp_path, LABELS, split_file="{split}.txt")


def test_list_masks_are_needed_only_for_listed_images(tmp_path):
    write(tmp_path, names(3))
    image(tmp_path / "images/unlabeled.jpg")
    (tmp_path / "train.txt").write_text("p00\np01\n")
    (tmp_path / "val.txt").write_text("p02\n")
    assert [len(dataset) for dataset in both(tmp_path, split_file="{split}.txt")] == [2, 1]
    (tmp_path / "train.txt").write_text("p00\nunlabeled\n")
    with pytest.raises(DatasetNotFoundError, match=r"images without a mask: 1 \(unlabeled.jpg\)"):
        FolderDataset(tmp_path, LABELS, split_file="{split}.txt")


def test_list_names_that_are_not_there_error_shows_invisible_characters(tmp_path):
    write(tmp_path, names(3))
    (tmp_path / "train.txt").write_text("p00\np\u200b01\nq1\nq2\nq3\nq4\nq5\n", encoding="utf-8")
    (tmp_path / "val.txt").write_text("p02\n")
    with pytest.raises(DatasetNotFoundError) as caught:
        FolderDataset(tmp_path, LABELS, split_file="{split}.txt")
    assert r"lists 7 names, 6 of which are no image: 'p\u200b01', q1, q2, q3, q4 and 1 more" in str(caught.value)
    assert "the images are named p00, p01, p02" in str(caught.value)
    with pytest.warns(UserWarning, match="6 of which are no image"):
        assert len(FolderDataset(tmp_path, LABELS, split_file="{split}.txt", missing="skip")) == 1


def test_list_none_of_the_names_is_there_error_does_not_advise_to_skip(tmp_path):
    write(tmp_path, names(3))
    (tmp_path / "train.txt").write_text("q\n")
    for missing in ("error", "skip"):
        with pytest.raises(DatasetNotFoundError, match="1 of which are no image") as caught:
            FolderDataset(tmp_path, LABELS, split_file="{split}.txt", missing=missing)
        assert "skip" not in str(caught.value)


@pytest.mark.parametrize(("first", "second"), [("train", "val"), ("val", "train"), ("train", "test")])
def test_lists_that_share_a_file_error_names_it(tmp_path, first, second):
    write(tmp_path, names(4))
    (tmp_path / f"{first}.txt").write_text("p00\np01\n")
    (tmp_path / f"{second}.txt").write_text("images/p01.jpg\np02\n")
    with pytest.raises(DatasetNotFoundError, match=r"1 files are listed in both .*: p01; remove them from one"):
        FolderDataset(tmp_path, LABELS, first, split_file="{split}.txt")


def test_list_missing_or_empty_error_names_it(tmp_path):
    write(tmp_path, names(3))
    with pytest.raises(
        DatasetNotFoundError, match=r"no train split: split_file names .*train.txt, which does not exist"
    ):
        FolderDataset(tmp_path, LABELS, split_file="{split}.txt")
    with pytest.raises(DatasetNotFoundError, match="no val split: split_file has lists of train; add val"):
        FolderDataset(tmp_path, LABELS, "val", split_file={"train": "train.txt"})
    (tmp_path / "train.txt").write_text("\n \n")
    with pytest.raises(CorruptFileError, match="train.txt lists no files; write one name per line"):
        FolderDataset(tmp_path, LABELS, split_file="{split}.txt")


# ---- docs ------------------------------------------------------------------------------------------------------------


def test_every_option_is_described_and_the_readme_names_only_options():
    options = list(inspect.signature(FolderDataset).parameters)
    arguments = inspect.getdoc(FolderDataset).split("Args:")[1].split("Attributes:")[0]
    assert re.findall(r"^    (\w+): ", arguments, re.MULTILINE) == options
    readme = (Path(__file__).parents[2] / "packages/seg-datasets/README.md").read_text(encoding="utf-8")
    table = readme.split("| you have | write |")[1].split("\n\n")[0]
    named = re.findall(r"`(\w+) = ", table)
    assert len(named) > 12
    assert set(named) - {"task", "labels"} <= set(options)  # these are keys of classes.toml
