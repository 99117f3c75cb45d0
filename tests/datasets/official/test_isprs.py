"""Potsdam and Vaihingen: lists of tiles, colors, eroded masks, bands."""

import pickle
import warnings

import numpy as np
import pytest

from seg_core import CorruptFileError, DatasetNotFoundError, InvalidArgumentError
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.doctor.fake import fake
from seg_datasets.official.isprs import POTSDAM_TILES, VAIHINGEN_TILES, Potsdam, Vaihingen
from tests.datasets.trees import save

COLORS = np.array([*resolve_metadata("Potsdam").colors, (0, 0, 0)], np.uint8)
FULL = np.arange(24, dtype=np.uint8).reshape(4, 6) % 6
ERODED = np.arange(24, dtype=np.uint8).reshape(4, 6)[::-1] % 7  # 6: black
COMPLETE = "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE"
ERODED_COMPLETE = "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE"


def image(value):
    return np.full((4, 6, 3), value, np.uint8)


def make_potsdam(root, full="5_Labels_all", eroded="5_Labels_all_noBoundary"):
    for tile in (*POTSDAM_TILES["train"], *POTSDAM_TILES["test"]):
        save(root / "2_Ortho_RGB" / f"top_potsdam_{tile}_RGB.tif", image(1))
        save(root / "3_Ortho_IRRG" / f"top_potsdam_{tile}_IRRG.tif", image(2))
        (root / "2_Ortho_RGB" / f"top_potsdam_{tile}_RGB.tfw").touch()
        save(root / full / f"top_potsdam_{tile}_label.tif", COLORS[FULL])
        save(root / eroded / f"top_potsdam_{tile}_label_noBoundary.tif", COLORS[ERODED])
    return root


def make_vaihingen(root, full="", eroded=""):
    for tile in (*VAIHINGEN_TILES["train"], *VAIHINGEN_TILES["test"]):
        save(root / "top" / f"top_mosaic_09cm_{tile}.tif", image(3))
        if full is not None:
            save(root / full / f"top_mosaic_09cm_{tile}.tif", COLORS[FULL])
        if eroded is not None:
            save(root / eroded / f"top_mosaic_09cm_{tile}_noBoundary.tif", COLORS[ERODED])
    if eroded is not None:  # a mask without an image
        save(root / eroded / "top_mosaic_09cm_area9_noBoundary.tif", COLORS[ERODED])
    return root


@pytest.fixture(scope="module")
def potsdam(tmp_path_factory):
    return make_potsdam(tmp_path_factory.mktemp("data") / "Potsdam")


@pytest.fixture(scope="module")
def vaihingen(tmp_path_factory):
    return make_vaihingen(tmp_path_factory.mktemp("data") / "Vaihingen")


def tiles(dataset, start):
    """Returns the tiles of a dataset's images; checks that its masks are of the same tiles."""
    found = [[name.rsplit(start, 1)[1].split(".")[0] for name in dataset.file_names(i)] for i in range(len(dataset))]
    for image, mask in found:
        assert image.removesuffix("_RGB").removesuffix("_IRRG") == mask.removesuffix("_noBoundary").removesuffix(
            "_label"
        )
    return [image for image, _ in found]


def expected_mask(ids):
    return np.where(ids == 6, 255, ids)


@pytest.mark.parametrize("eroded", [False, True])
@pytest.mark.parametrize("bands", ["RGB", "IRRG"])
@pytest.mark.parametrize("split, count", [("train", 24), ("test", 14)])
def test_potsdam_each_edition_has_the_tiles_of_its_split(potsdam, split, count, bands, eroded):
    dataset = Potsdam(potsdam, split, bands=bands, eroded=eroded)
    assert len(dataset) == count
    assert tiles(dataset, "top_potsdam_") == sorted(f"{tile}_{bands}" for tile in POTSDAM_TILES[split])


@pytest.mark.parametrize("eroded", [False, True])
@pytest.mark.parametrize("split, count", [("train", 16), ("test", 17)])
def test_vaihingen_full_and_eroded_in_one_folder_are_not_mixed(vaihingen, split, count, eroded):
    dataset = Vaihingen(vaihingen, split, eroded=eroded)
    assert len(dataset) == count
    assert tiles(dataset, "top_mosaic_09cm_") == sorted(VAIHINGEN_TILES[split])


def test_tiles_splits_are_disjoint_and_complete():
    assert len({*POTSDAM_TILES["train"], *POTSDAM_TILES["test"]}) == 38 == 24 + 14
    assert len({*VAIHINGEN_TILES["train"], *VAIHINGEN_TILES["test"]}) == 33 == 16 + 17
    assert "area9" not in {*VAIHINGEN_TILES["train"], *VAIHINGEN_TILES["test"]}


@pytest.mark.parametrize("dataset", [Potsdam, Vaihingen])
def test_split_val_is_test(potsdam, vaihingen, dataset):
    root = potsdam if dataset is Potsdam else vaihingen
    assert dataset(root, "val").split == "test"
    assert dataset(root, "val").file_names(3) == dataset(root, "test").file_names(3)


@pytest.mark.parametrize("dataset", [Potsdam, Vaihingen])
def test_item_colors_become_classes(potsdam, vaihingen, dataset):
    _, mask = dataset(potsdam if dataset is Potsdam else vaihingen)[0]
    np.testing.assert_array_equal(mask.numpy(), FULL)


@pytest.mark.parametrize("dataset", [Potsdam, Vaihingen])
def test_item_eroded_black_is_ignored_without_a_warning(potsdam, vaihingen, dataset):
    _, mask = dataset(potsdam if dataset is Potsdam else vaihingen, eroded=True, unknown_colors="error")[0]
    np.testing.assert_array_equal(mask.numpy(), expected_mask(ERODED))
    assert (mask == 255).any()


def test_potsdam_bands_select_the_images(potsdam):
    assert (Potsdam(potsdam)[0][0] == 1).all()
    assert (Potsdam(potsdam, bands="IRRG")[0][0] == 2).all()


def test_potsdam_bands_unknown_error_lists_the_allowed(potsdam):
    with pytest.raises(
        InvalidArgumentError, match="bands must be 'RGB' or 'IRRG' or 'RGBIR', got 'RGBI'. Did you mean"
    ):
        Potsdam(potsdam, bands="RGBI")


@pytest.mark.parametrize("dataset", [Potsdam, Vaihingen])
def test_eroded_not_a_bool_error_says_what_it_means(potsdam, dataset):
    with pytest.raises(InvalidArgumentError, match=r"eroded must be False .* or True .*, got 'noBoundary'"):
        dataset(potsdam, eroded="noBoundary")


@pytest.mark.parametrize("full, eroded", [("", ""), ("5_Labels_for_participants", "")])
def test_potsdam_labels_without_their_folder_are_found(tmp_path, full, eroded):
    root = make_potsdam(tmp_path, full, eroded)
    np.testing.assert_array_equal(Potsdam(root)[23][1].numpy(), FULL)
    np.testing.assert_array_equal(Potsdam(root, "test", eroded=True)[13][1].numpy(), expected_mask(ERODED))


@pytest.mark.parametrize("full, eroded", [(COMPLETE, ERODED_COMPLETE), ("gts_for_participants", ERODED_COMPLETE)])
def test_vaihingen_masks_in_separate_folders_are_found(tmp_path, full, eroded):
    root = make_vaihingen(tmp_path, full, eroded)
    np.testing.assert_array_equal(Vaihingen(root)[15][1].numpy(), FULL)
    np.testing.assert_array_equal(Vaihingen(root, "test", eroded=True)[16][1].numpy(), expected_mask(ERODED))


def test_vaihingen_images_are_not_read_as_masks(tmp_path):
    root = make_vaihingen(tmp_path, full=None, eroded=None)
    with pytest.raises(DatasetNotFoundError, match=r"images top/.* \(33 found\), masks .* \(0 found\)"):
        Vaihingen(root)


def test_vaihingen_area9_without_an_image_is_left_out_without_warning(vaihingen):
    assert (vaihingen / "top_mosaic_09cm_area9_noBoundary.tif").is_file()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for split in ("train", "test"):
            dataset = Vaihingen(vaihingen, split, eroded=True)
            assert not any("area9" in dataset.file_names(i)[1] for i in range(len(dataset)))


def test_tile_missing_is_an_error_or_left_out(tmp_path):
    root = make_potsdam(tmp_path)
    (root / "2_Ortho_RGB/top_potsdam_4_12_RGB.tif").unlink()
    (root / "5_Labels_all/top_potsdam_4_12_label.tif").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"24 images, 1 of which are missing: 4_12; .*missing='skip'"):
        Potsdam(root)
    with pytest.warns(UserWarning, match="1 of which are missing: 4_12; they are left out"):
        dataset = Potsdam(root, missing="skip")
    assert len(dataset) == 23
    assert len(Potsdam(root, "test")) == 14


def test_mask_missing_error_names_the_image(tmp_path):
    root = make_vaihingen(tmp_path)
    (root / "top_mosaic_09cm_area38.tif").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"images without a mask: 1 \(top_mosaic_09cm_area38.tif\)"):
        Vaihingen(root, "test")
    assert len(Vaihingen(root, "train")) == 16


def faulty(root, name):
    pixels = COLORS[FULL].copy()
    pixels[0, :4] = (252, 254, 255)
    pixels[1, 0] = 0
    save(root / name, pixels)


def test_potsdam_faulty_tile_is_warned_about_with_counts_and_ignored(tmp_path):
    root = make_potsdam(tmp_path)
    faulty(root, "5_Labels_all/top_potsdam_4_12_label.tif")
    dataset = Potsdam(root)
    pattern = r"4_12_label.tif .* in 5 of 24 pixels: rgb 252,254,255 \(4 pixels\), rgb 0,0,0 \(1 pixel\); they are ign"
    with pytest.warns(UserWarning, match=pattern):
        _, mask = dataset[sorted(POTSDAM_TILES["train"]).index("4_12")]
    expected = FULL.copy()
    expected[0, :4] = expected[1, 0] = 255
    np.testing.assert_array_equal(mask.numpy(), expected)


def test_potsdam_unknown_colors_error_raises(tmp_path):
    root = make_potsdam(tmp_path)
    faulty(root, "5_Labels_all/top_potsdam_2_10_label.tif")
    with pytest.raises(CorruptFileError, match=r"top_potsdam_2_10_label.tif .*unknown_colors='warn'"):
        Potsdam(root, unknown_colors="error")[0]


def test_vaihingen_unknown_colors_are_an_error_unless_warned_about(tmp_path):
    root = make_vaihingen(tmp_path)
    faulty(root, "top_mosaic_09cm_area1.tif")
    with pytest.raises(CorruptFileError, match=r"top_mosaic_09cm_area1.tif has colors that are not a class"):
        Vaihingen(root)[0]
    with pytest.warns(UserWarning, match="they are ignored"):
        _, mask = Vaihingen(root, unknown_colors="warn")[0]
    assert (mask == 255).sum() == 5


def test_unknown_colors_argument_wrong_error_lists_the_allowed(potsdam):
    with pytest.raises(InvalidArgumentError, match="unknown_colors must be 'warn' .* or 'error', got 'skip'"):
        Potsdam(potsdam, unknown_colors="skip")


def test_label_set_vaihingen_for_potsdam_has_the_same_classes(potsdam):
    dataset = Potsdam(potsdam, label_set="Vaihingen")
    np.testing.assert_array_equal(dataset[0][1].numpy(), FULL)


@pytest.mark.parametrize("dataset", [Potsdam, Vaihingen])
def test_pickle_dataset_keeps_its_options(potsdam, vaihingen, dataset):
    original = dataset(potsdam if dataset is Potsdam else vaihingen, eroded=True, unknown_colors="error")
    copy = pickle.loads(pickle.dumps(original))  # as workers get it if processes are not forked
    assert copy.file_names(1) == original.file_names(1)
    assert copy.mask_reader.unknown == "error"
    np.testing.assert_array_equal(copy[1][1].numpy(), expected_mask(ERODED))


def test_vaihingen_eroded_masks_in_root_do_not_hide_full_ones_in_another_folder(tmp_path):
    root = fake("Vaihingen", tmp_path / "data", prefix="", masks=1)
    eroded = fake("Vaihingen", tmp_path / "eroded", edition="eroded", prefix="")
    for path in eroded.rglob("*_noBoundary.tif"):
        path.rename(root / path.name)
    assert len(Vaihingen(root, "train")) == 16
    assert len(Vaihingen(root, "train", eroded=True)) == 16
