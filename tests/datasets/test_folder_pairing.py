"""Images and masks of FolderDataset that do not pair by name: what differs, and the option that pairs them."""

import pytest

from seg_core import DatasetNotFoundError
from seg_datasets import FolderDataset
from tests.datasets.own_folders import LABELS, files_of, image, mask, names, write


def pasted(options):
    return eval(f"dict({options})")


def all_files(root, options):
    return [FolderDataset(root, LABELS, split, **pasted(options)) for split in ("train", "val")]


CASES = {
    "suffix": ("images/{}.jpg", "masks/{}_mask.png", "mask_suffix='_mask'"),
    "suffix in words": ("images/{}.jpg", "masks/{} - label.png", "mask_suffix=' - label'"),
    "double": ("images/{}.jpg", "masks/{}.jpg.png", "mask_suffix='.jpg'"),
    "suffix, in folders": ("images/a/{}.jpg", "masks/a/{}_mask.png", "mask_suffix='_mask'"),
    "masks in folders": ("images/{}.jpg", "masks/deep/{}.png", "pair_by='name'"),
    "images in folders, suffix": ("images/x/y/{}.jpg", "masks/{}_L.png", "mask_suffix='_L', pair_by='name'"),
    "prefix": ("images/img_{}.png", "masks/mask_{}.png", "images='images/img_*.png', masks='masks/mask_*.png'"),
    "prefix of masks": ("images/{}.jpg", "masks/gt-{}.png", "images='images/*.jpg', masks='masks/gt-*.png'"),
    "both suffixes": (
        "images/{}_leftImg8bit.png",
        "masks/{}_gtFine_labelIds.png",
        "images='images/*_leftImg8bit.png', masks='masks/*_gtFine_labelIds.png'",
    ),
    "image suffix": ("images/{}_image.jpg", "masks/{}.png", "images='images/*_image.jpg', masks='masks/*.png'"),
    "both suffixes, in folders": (
        "images/a/{}_rgb.png",
        "masks/a/{}_ids.png",
        "images='images/**/*_rgb.png', masks='masks/**/*_ids.png'",
    ),
    "prefix and suffix": (
        "images/sat_{}_rgb.tif",
        "masks/lab_{}_ids.tif",
        "images='images/sat_*_rgb.tif', masks='masks/lab_*_ids.tif'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_names_that_differ_error_gives_the_option_that_pairs_all(tmp_path, case):
    images, masks, options = CASES[case]
    write(tmp_path, [f"{name}" for name in names(12)], images, masks)
    with pytest.raises(DatasetNotFoundError) as caught:
        FolderDataset(tmp_path, LABELS)
    message = str(caught.value)
    assert (
        f"12 images and 12 masks do not pair; images without a mask: 12 ({images.format('p00').split('/')[-1]}"
        in message
    )
    assert message.endswith(f"With {options} all 12 pair")
    assert "skip" not in message
    train, val = all_files(tmp_path, options)
    paired = dict(zip(files_of(train) + files_of(val), files_of(train, 1) + files_of(val, 1), strict=True))
    assert paired == {images.format(name): masks.format(name) for name in names(12)}


def test_names_that_differ_in_folders_per_split_options_hold_split(tmp_path):
    for split in ("train", "val"):
        write(tmp_path, names(4), f"{split}/images/{{}}_a.png", f"{split}/masks/{{}}_b.png")
    with pytest.raises(DatasetNotFoundError) as caught:
        FolderDataset(tmp_path, LABELS)
    options = "images='{split}/images/*_a.png', masks='{split}/masks/*_b.png'"
    assert f"With {options} all 4 pair" in str(caught.value)
    assert [len(dataset) for dataset in all_files(tmp_path, options)] == [4, 4]


def test_some_names_pair_with_an_option_error_counts_them(tmp_path):
    write(tmp_path, names(6), masks="masks/{}_mask.png")
    image(tmp_path / "images/odd.jpg")
    with pytest.raises(DatasetNotFoundError, match=r"With mask_suffix='_mask' 6 of 7 images and 6 masks pair$"):
        FolderDataset(tmp_path, LABELS)
    with pytest.raises(
        DatasetNotFoundError, match=r"images without a mask: 1 \(odd.jpg\).*or leave them out with missing"
    ):
        FolderDataset(tmp_path, LABELS, mask_suffix="_mask")


def test_nothing_pairs_skip_is_an_error_too(tmp_path):
    write(tmp_path, names(6), masks="masks/{}_mask.png")
    with pytest.raises(DatasetNotFoundError, match=r"With mask_suffix='_mask' all 6 pair$"):
        FolderDataset(tmp_path, LABELS, missing="skip")


def test_some_pair_skip_is_advised_and_works(tmp_path):
    write(tmp_path, names(6))
    image(tmp_path / "images/odd.jpg")
    mask(tmp_path / "masks/strange.png")
    with pytest.raises(DatasetNotFoundError, match="or leave them out with missing='skip'"):
        FolderDataset(tmp_path, LABELS)
    with pytest.warns(UserWarning, match=r"images without a mask: 1 \(odd.jpg\), masks without an image: 1 .*left out"):
        assert len(FolderDataset(tmp_path, LABELS, missing="skip")) == 5


def test_most_are_skipped_warning_gives_the_option_that_pairs_them(tmp_path):
    write(tmp_path, names(6), masks="masks/{}_mask.png")
    write(tmp_path, ["x", "y"])
    with pytest.warns(
        UserWarning, match="these are left out. With mask_suffix='_mask' 6 of 8 images and 6 masks pair$"
    ):
        assert len(FolderDataset(tmp_path, LABELS, missing="skip")) == 1


def test_zero_padding_error_says_so_and_no_option_is_invented(tmp_path):
    for number in range(12):
        image(tmp_path / f"images/{number}.jpg")
        mask(tmp_path / f"masks/{number:04}.png")
    with pytest.raises(
        DatasetNotFoundError, match=r"different numbers of zeros \(0.jpg and 0000.png\): rename"
    ) as caught:
        FolderDataset(tmp_path, LABELS)
    assert "With" not in str(caught.value)


def test_same_names_in_other_ones_of_the_same_folders_are_no_pairs(tmp_path):
    # a wrong pair would be the worst outcome
    write(tmp_path, ["x"], "images/a/{}.jpg", "masks/b/{}.png")
    write(tmp_path, ["y"], "images/b/{}.jpg", "masks/a/{}.png")
    with pytest.raises(DatasetNotFoundError) as caught:
        FolderDataset(tmp_path, LABELS)
    assert "pair_by" not in str(caught.value)


def test_pair_by_name_same_name_twice_error_names_both(tmp_path):
    write(tmp_path, ["x"], "images/a/{}.jpg", "masks/{}.png")
    write(tmp_path, ["x"], "images/b/{}.jpg", masks="")
    with pytest.raises(
        DatasetNotFoundError, match=r"needs names that are unique, but .*a.x.jpg and .*b.x.jpg are images"
    ):
        FolderDataset(tmp_path, LABELS, pair_by="name")


def test_mask_suffix_that_no_mask_has_error_gives_the_right_one(tmp_path):
    write(tmp_path, names(6), masks="masks/{}_mask.png")
    with pytest.raises(
        DatasetNotFoundError, match=r"ends in mask_suffix='_msk'; .*With mask_suffix='_mask' all 6 pair$"
    ):
        FolderDataset(tmp_path, LABELS, mask_suffix="_msk")
    # without a suffix nothing else is needed
    with pytest.raises(DatasetNotFoundError, match=r"With mask_suffix='' all 6 pair$"):
        FolderDataset(write(tmp_path / "plain", names(6)), LABELS, mask_suffix="_mask")


def test_lists_of_images_whose_masks_have_a_suffix_error_gives_it(tmp_path):
    write(tmp_path, names(6), "JPEGImages/{}.jpg", "SegmentationClass/{}_m.png")
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    for split, name in (("train", "p00"), ("val", "p01")):
        (tmp_path / f"ImageSets/Segmentation/{split}.txt").write_text(name)
    with pytest.raises(DatasetNotFoundError, match=r"1 \(p00.jpg\). With mask_suffix='_m' all 6 pair$"):
        FolderDataset(tmp_path, LABELS)
    assert len(FolderDataset(tmp_path, LABELS, mask_suffix="_m")) == 1


def test_two_masks_of_one_image_error_names_both(tmp_path):
    write(tmp_path, ["a", "b"], masks="masks/{}_mask.png")
    mask(tmp_path / "masks/a_MASK.bmp")
    with pytest.raises(DatasetNotFoundError, match=r"a_MASK.bmp and .*a_mask.png are both masks of a"):
        FolderDataset(tmp_path, LABELS, mask_suffix="_mask")


def test_invisible_characters_in_names_are_shown(tmp_path):
    write(tmp_path, names(3))
    image(tmp_path / "images/q\u200b.jpg")
    mask(tmp_path / "masks/q.png")
    with pytest.raises(DatasetNotFoundError) as caught:
        FolderDataset(tmp_path, LABELS)
    assert r"images without a mask: 1 ('q\u200b.jpg'), masks without an image: 1 (q.png)" in str(caught.value)


def test_names_without_anything_in_common_error_has_no_option(tmp_path):
    for number in range(5):
        image(tmp_path / f"images/{chr(97 + number) * 4}.jpg")
        mask(tmp_path / f"masks/{chr(110 + number) * 4}.png")
    with pytest.raises(DatasetNotFoundError, match="Files are paired by name: add or remove the files listed$"):
        FolderDataset(tmp_path, LABELS)


def test_many_files_are_explained_in_little_time(tmp_path):
    stems = [f"frame{number:05}x" for number in range(1200)]
    for stem in stems:
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / f"images/{stem}.jpg").touch()
        (tmp_path / f"masks/{stem}_mask.png").touch()
    with pytest.raises(DatasetNotFoundError, match="With mask_suffix='_mask' all 1200 pair"):
        FolderDataset(tmp_path, LABELS)
