"""All ways to read images and masks read a file identically or refuse it: the table of `image_files`.

The reader itself is tested in tests/core/files/test_images.py.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import seg_datasets
import seg_models
from seg_core import CorruptFileError, DatasetMetadata, InvalidArgumentError, LabelMap, read_image, read_mask
from seg_core.command import main
from seg_core.errors import ImageTooLargeError, UserError
from seg_core.transforms.preprocessing import Preprocessing
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.color_masks import ColorReader
from seg_datasets.reading.layout import Layout, SplitFiles
from seg_datasets.reading.samples import Reading
from tests.image_files import CASES, LOSSY, PIXELS, TURNED

MANY = DatasetMetadata("many", tuple(f"class {number}" for number in range(300)), ignore_index=65535)
BY_NAME = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
FOLDER_MASKS = (".png", ".bmp", ".tif")
FOLDER_IMAGES = (*FOLDER_MASKS, ".jpg", ".webp")

pytestmark = pytest.mark.filterwarnings(
    "ignore:mask .* is an RGB image",
    "ignore:image .* because of its orientation",
    "ignore:image .* has a fourth band, marked as alpha",
)


class Official(OfficialDataset):
    """A dataset in an official layout, whose files have any suffix."""

    edition = Edition(
        layout=Layout(
            dataset="Official",
            source="",
            tree="",
            splits={"train": SplitFiles(images=("images/*.*",), masks=("masks/*.*",))},
            examples={},
        ),
        classes=MANY,
        label_map=LabelMap.identity(300, 65535, ignore_index=65535),
    )


def dataset(kind, folder, **options):
    if kind == "official":
        return Official(folder, "train", **options)
    return seg_datasets.FolderDataset(folder, MANY, "train", **options)


def in_datasets(suffixes):
    """Every case in an official dataset, and in FolderDataset if it takes the suffix."""
    pairs = [(case, kind) for case in CASES for kind in ("folder", "official")]
    taken = [(c, kind) for c, kind in pairs if kind == "official" or c.name.endswith(suffixes)]
    return pytest.mark.parametrize(("case", "kind"), taken, ids=[f"{case.name}-{kind}" for case, kind in taken])


def lay(case, kind, root, *, as_mask, partner):
    """Writes a file, and an array as its image or mask, into the folders of a dataset; returns the root."""
    root = root / "train" if kind == "official" else root
    folders = [root / part if kind == "official" else root / "train" / part for part in ("images", "masks")]
    for folder in folders:
        folder.mkdir(parents=True)
    case.save(folders[as_mask])
    # an official layout pairs by the whole name here, whatever the contents
    name = case.name if kind == "official" else case.name.rsplit(".")[0] + ".png"
    Image.fromarray(partner).save(folders[not as_mask] / name, "PNG")
    return root


def refuses(read, pattern):
    """Checks that reading raises one of our errors with the words of the table."""
    with pytest.raises(UserError, match=pattern) as raised:
        read()
    assert isinstance(raised.value, CorruptFileError | InvalidArgumentError)


def rgb(tensor):
    return tensor.permute(1, 2, 0).numpy()


def test_table_has_at_least_40_files_of_different_names_and_kinds():
    assert len({case.name for case in CASES}) == len(CASES) >= 40
    suffixes = {case.name.rsplit(".")[-1] for case in CASES}
    assert suffixes == {"png", "jpg", "webp", "tif", "bmp", "gif", "ppm", "jp2"}
    assert {case.orientation for case in CASES} == {1, 3, 5, 6, 8}


@in_datasets(FOLDER_IMAGES)
@pytest.mark.parametrize("orientation", ["apply", "stored"])
def test_image_in_a_dataset_is_as_the_reader_says(case, kind, orientation, tmp_path):
    turned = TURNED[case.orientation if orientation == "apply" else 1]
    sevens = np.full(turned(PIXELS).shape[:2], 7, np.uint8)
    root = lay(case, kind, tmp_path, as_mask=False, partner=sevens)
    samples = dataset(kind, root, orientation=orientation)
    if isinstance(case.image, str):
        refuses(lambda: samples[0], case.image)
        return
    image, mask = samples[0]
    np.testing.assert_array_equal(rgb(image), turned(case.image))
    np.testing.assert_array_equal(rgb(image), read_image(case.save(tmp_path), orientation=orientation))
    np.testing.assert_array_equal(mask.numpy(), sevens)
    assert image.permute(1, 2, 0).is_contiguous()


@pytest.mark.parametrize(("kind", "tag"), [("folder", 8), ("official", 1)])
def test_orientation_of_datasets_is_apply_for_folders_and_stored_for_official_ones(kind, tag, tmp_path):
    (case,) = (case for case in CASES if case.name == "tag8.jpg")
    turned = TURNED[tag](case.image)
    root = lay(case, kind, tmp_path, as_mask=False, partner=np.zeros(turned.shape[:2], np.uint8))
    np.testing.assert_array_equal(rgb(dataset(kind, root)[0][0]), turned)


@in_datasets(FOLDER_MASKS)
def test_mask_in_a_dataset_is_as_the_reader_says(case, kind, tmp_path):
    samples = dataset(kind, lay(case, kind, tmp_path, as_mask=True, partner=PIXELS))
    if isinstance(case.mask, str):
        refuses(lambda: samples[0], case.mask)
        return
    np.testing.assert_array_equal(samples[0][1].numpy(), case.mask)
    np.testing.assert_array_equal(read_mask(case.save(tmp_path)), case.mask)


@BY_NAME
def test_mask_of_a_reader_of_colors_has_the_ids_or_is_refused(case, tmp_path):
    """Colors of this table belong to no class, so color masks are refused."""
    read = ColorReader({0: (1, 2, 3)}, "error")
    path = case.save(tmp_path)
    is_rgb = not isinstance(case.image, str) and case.name.startswith("rgb") and case.mask is not LOSSY
    if is_rgb:
        refuses(lambda: read(path, Reading()), "colors that are not a class")
    elif isinstance(case.mask, str):
        refuses(lambda: read(path, Reading()), case.mask)
    else:
        np.testing.assert_array_equal(read(path, Reading()), case.mask)


# ---- prediction ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return seg_models.enet(num_classes=2)


@pytest.fixture(scope="module")
def two():
    return {"metadata": DatasetMetadata("two", ("sky", "ground")), "preprocessing": Preprocessing()}


@BY_NAME
def test_image_in_prediction_is_as_the_reader_says(case, network, two, tmp_path):
    path = case.save(tmp_path)
    predictor = seg_models.Predictor(network, device="cpu", **two)
    if isinstance(case.image, str):
        refuses(lambda: predictor(path), f"{re.escape(case.name)} .*{case.image}")
        refuses(lambda: list(predictor.stream([path])), case.image)
        return
    prediction = predictor(path)
    np.testing.assert_array_equal(prediction.image, TURNED[case.orientation](case.image))
    assert prediction.labels.shape == prediction.image.shape[:2]
    with Image.open(path) as image:
        np.testing.assert_array_equal(predictor(image).image, prediction.image)


def test_images_in_the_command_are_predicted_or_skipped(network, two, tmp_path, capsys):
    seg_models.save_model(network, tmp_path / "model.pt", **two)
    (tmp_path / "in").mkdir()
    for case in CASES:
        (tmp_path / "in" / f"{case.name}{Path(case.name).suffix}").write_bytes(case.write())  # results by the stem
    options = ["--model", str(tmp_path / "model.pt"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["predict", str(tmp_path / "in"), *options]) == 1
    shown = capsys.readouterr().err
    for case in CASES:
        if isinstance(case.image, str):
            assert re.search(f"seg: skipped: image .*/{re.escape(case.name)}\\.[a-z0-9]+ .*{case.image}", shown)
            continue
        with Image.open(tmp_path / "out" / f"{case.name}.png") as labels:
            assert labels.size[::-1] == TURNED[case.orientation](PIXELS).shape[:2]


@BY_NAME
def test_image_read_by_tiles_equals_the_reader_or_is_refused_too(case, tmp_path):
    pytest.importorskip("rasterio")
    from seg_core.files.rasters import open_raster

    path = case.save(tmp_path)

    def read_tiles(**options):
        with open_raster(path, **options) as raster:
            top = raster.read(0, 0, 2, raster.width)
            tiles = np.concatenate([top, raster.read(2, 0, raster.height - 2, raster.width)])
            assert (raster.height, raster.width) == tiles.shape[:2]
            return np.broadcast_to(tiles, (*tiles.shape[:2], 3))

    if isinstance(case.image, str):
        with pytest.raises(
            (InvalidArgumentError, CorruptFileError), match=f"{re.escape(case.name)} .*(convert|reduce) it"
        ):
            read_tiles()
        return
    expected = TURNED[case.orientation](case.image)
    np.testing.assert_array_equal(read_tiles(), expected)
    if case.by_tiles:
        np.testing.assert_array_equal(read_tiles(max_pixels=1), expected)
    else:
        with pytest.raises(ImageTooLargeError, match=f"{re.escape(case.name)} has .*, so it can only be read at once"):
            read_tiles(max_pixels=1)
