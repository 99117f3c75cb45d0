"""Faults planted in fake trees, looked at with Pillow and NumPy alone, and everything else untouched."""

import functools
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from seg_core.command import main
from seg_core.errors import InvalidArgumentError
from seg_core.registry import DATASETS
from seg_datasets import FolderDataset, fake
from seg_datasets.doctor.fake import write_fake
from seg_datasets.doctor.fake_folder import FOLDER
from seg_datasets.doctor.faults import FAULTS, Planted, images_needed, plant, table
from seg_datasets.doctor.kinds import KINDS
from seg_datasets.official.mapillary_vistas import MapillaryVistas
from seg_datasets.reading.frames import frames_regex

# own data, gray, palette with JPEG images, objects in folders per city, .mat, colors in TIFF
NAMES = ("FolderDataset", "CamVid", "VOC", "Cityscapes", "SBD", "Potsdam")
MASK_FOLDERS = ("masks", "annot", "SegmentationClass", "gtFine", "cls", "5_Labels_all")
README = Path(__file__).parents[3] / "packages/seg-datasets/README.md"

REFUSED = {
    "VOC": {"float-mask", "alpha", "frames-across-splits"},
    "CamVid": {"float-mask", "expanded-palette", "permuted-palette"},
    "Cityscapes": {"float-mask", "expanded-palette", "permuted-palette"},
    "SBD": {
        *("float-mask", "alpha", "frames-across-splits", "expanded-palette", "permuted-palette"),
        *("rgb-mask", "color-mask", "jpeg-mask", "wrong-bit-depth", "all-ignored"),
    },
    "Potsdam": {
        *("rgb-mask", "color-mask", "binary-0-255", "off-by-one", "id-out-of-range", "all-ignored"),
        *("expanded-palette", "permuted-palette", "frames-across-splits"),
    },
    "FolderDataset": set(),
}
PLANTED = [(name, kind) for name in NAMES for kind in KINDS if kind not in REFUSED[name]]


@pytest.fixture(scope="module")
def clean_tree(tmp_path_factory):
    @functools.cache
    def write(name):
        number = None if name == "Potsdam" else 8
        return fake(name, tmp_path_factory.mktemp("clean") / name, images_per_split=number)

    return write


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def is_mask(file):
    return any(step.endswith(MASK_FOLDERS) or step == "SegmentationClassAug" for step in Path(file).parts[:-1])


def pixels(path):
    if path.suffix == ".mat":
        return loadmat(path, squeeze_me=True, struct_as_record=False)["GTcls"].Segmentation
    with Image.open(path) as image:
        return np.array(image)


def gray_hash(path):
    with Image.open(path) as image:
        small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX)).astype(int)
    return small[:, 1:] > small[:, :-1]


def bit_depth(path):
    """Bits per channel, from the bytes of a PNG, or the table of a TIFF."""
    content = path.read_bytes()
    if content.startswith(b"\x89PNG"):
        return content[24]
    with Image.open(path) as image:
        return max(image.tag_v2[258])


class Planting:
    """A tree with a fault beside the clean one."""

    def __init__(self, name, kind, clean, folder):
        self.name, self.clean, self.root = name, clean, folder
        shutil.copytree(clean, folder)
        self.planted = plant(folder, kind, name)
        self.masks = [file for file in self.planted.files if is_mask(file)]
        self.images = [file for file in self.planted.files if not is_mask(file)]

    def now(self, file):
        return pixels(self.root / file)

    def before(self, file):
        return pixels(self.clean / file)

    @property
    def mask(self):
        (file,) = self.masks
        return file

    @property
    def image(self):
        (file,) = self.images
        return file


def all_masks(tree):
    """The masks that the dataset reads, of all splits."""
    dataset_class, found = DATASETS.get(tree.name), set()
    for split in getattr(dataset_class, "edition", FOLDER).layout.splits:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "SBD .* contains images of VOC")
            dataset = dataset_class(tree.clean, split=split)
        found |= {name for i in range(len(dataset)) for name in dataset.file_names(i)[1:]}
    return {Path(name).relative_to(tree.clean).as_posix() for name in found}


# ---- what each kind must look like -----------------------------------------------------------------------------------


def missing_mask(tree):
    assert not tree.images
    assert not (tree.root / tree.mask).exists()


def missing_image(tree):
    assert not tree.masks
    assert not (tree.root / tree.image).exists()


def empty_file(tree):
    assert (tree.root / tree.image).read_bytes() == (tree.root / tree.mask).read_bytes() == b""
    assert Path(tree.image).stem != Path(tree.mask).stem


def unreadable_image(tree):
    assert not tree.masks
    with pytest.raises((OSError, SyntaxError, ValueError)):
        tree.now(tree.image)


def unreadable_mask(tree):
    assert not tree.images
    with pytest.raises(Exception):  # noqa: B017 - the decoders of MATLAB files raise what they like
        tree.now(tree.mask)


def name_collision(tree):
    assert not tree.masks
    assert not (tree.clean / tree.image).exists()
    folder = (tree.root / tree.image).parent
    same = {path.name for path in folder.iterdir() if path.stem == Path(tree.image).stem}
    assert len(same) == 2
    assert tree.now(tree.image).shape == (24, 32, 3)


def size_mismatch(tree):
    assert not tree.images
    np.testing.assert_array_equal(tree.now(tree.mask)[::2, ::2], tree.before(tree.mask))
    assert tree.now(tree.mask).shape[:2] == (48, 64)


def orientation(tree):
    tagged = (tree.image,) if tree.name == "SBD" else (tree.image, tree.mask)
    assert set(tagged) == set(tree.planted.files)
    for file in tagged:
        with Image.open(tree.root / file) as image:
            assert image.getexif()[274] == 6
        before = tree.before(file)
        # Pillow turns a TIFF when it decodes it
        np.testing.assert_array_equal(tree.now(file), np.rot90(before, -1) if file.endswith(".tif") else before)


def rgb_mask(tree):
    with Image.open(tree.root / tree.mask) as image:
        assert image.mode == "RGB"
    for channel in range(3):
        np.testing.assert_array_equal(tree.now(tree.mask)[..., channel], tree.before(tree.mask))


def color_mask(tree):
    assert not tree.images
    if tree.name in ("VOC", "FolderDataset"):
        assert set(tree.masks) == all_masks(tree)
    else:
        assert tree.mask
    for file in tree.masks:
        colors, ids = tree.now(file), tree.before(file)
        assert colors.shape == (24, 32, 3)
        of_ids = {id_: {tuple(color) for color in colors[ids == id_].tolist()} for id_ in np.unique(ids)}
        assert all(len(found) == 1 for found in of_ids.values())
    car = {"VOC": (7, (128, 128, 128)), "FolderDataset": (4, (0, 0, 142)), "CamVid": (8, (64, 0, 128))}
    id_, color = car.get(tree.name, (26, (0, 0, 142)))
    assert of_ids[id_] == {color}


def float_mask(tree):
    removed = {file for file in tree.masks if not (tree.root / file).exists()}
    assert len(removed) == (tree.name == "FolderDataset")
    (file,) = set(tree.masks) - removed
    with Image.open(tree.root / file) as image:
        assert (image.format, image.mode) == ("TIFF", "F")
    assert set(np.unique(tree.now(file))) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 255.0}


def binary(tree):
    assert set(tree.masks) == all_masks(tree)
    for file in tree.masks:
        assert set(np.unique(tree.now(file))) == {0, 255}
    assert tree.images == (["classes.toml"] if tree.name == "FolderDataset" else [])
    if tree.name == "FolderDataset":
        assert FolderDataset(tree.root).metadata.num_classes == 2


def off_by_one(tree):
    assert not tree.images
    assert set(tree.masks) == all_masks(tree)
    for file in tree.masks:
        ids = tree.before(file).astype(int)
        np.testing.assert_array_equal(tree.now(file), np.where(ids == 255, 255, ids + 1))


def id_out_of_range(tree):
    changed = tree.now(tree.mask) != tree.before(tree.mask)
    assert np.argwhere(changed)[0].tolist() == [6, 8]
    assert changed.sum() == 12
    assert set(tree.now(tree.mask)[changed]) == {200}


def wrong_bit_depth(tree):
    assert len(tree.images) == (tree.name != "VOC")
    assert len(tree.masks) == (tree.name != "Potsdam")
    for file in tree.planted.files:
        assert bit_depth(tree.root / file) == 16
        if file in tree.masks:
            np.testing.assert_array_equal(tree.now(file), tree.before(file).astype(int) * 257)
        else:
            before = tree.before(file)
            content = (tree.root / file).read_bytes()
            if content.startswith(b"\x89PNG"):
                np.testing.assert_array_equal(tree.now(file), before)  # Pillow reads the upper 8 bits
            else:
                stored = np.frombuffer(content[14 : 14 + before.size * 2], "<u2").reshape(before.shape)
                np.testing.assert_array_equal(stored, before.astype(int) * 257)


def jpeg_mask(tree):
    removed = {file for file in tree.masks if not (tree.root / file).exists()}
    assert len(removed) == (tree.name == "FolderDataset")
    (file,) = set(tree.masks) - removed
    with Image.open(tree.root / file) as image:
        assert image.format == "JPEG"
    moved = np.roll(tree.before(next(iter(removed), file)), (3, 3), axis=(0, 1)).astype(int)
    assert 0 < np.abs(tree.now(file) - moved).mean() < 60
    assert len(np.unique(tree.now(file))) > len(np.unique(moved))


def duplicate(tree):
    sources = {content: file for file, content in contents(tree.clean).items()}
    (source,) = {sources[(tree.root / tree.image).read_bytes()]}
    mask_source = sources[(tree.root / tree.mask).read_bytes()]
    if tree.name in ("FolderDataset", "CamVid", "Cityscapes"):
        assert "train" in source
        assert "val" in tree.image
    assert source != tree.image
    assert is_mask(mask_source)
    assert (tree.root / source).read_bytes() == (tree.clean / source).read_bytes()


def near_duplicate(tree):
    new = tree.now(tree.image).astype(int)
    images = [file for file in contents(tree.clean) if not is_mask(file) and file.endswith((".png", ".jpg", ".tif"))]
    differences = {file: np.abs(new - tree.before(file)).mean() for file in images}
    source = min(differences, key=differences.get)
    assert source != tree.image
    assert 0.5 < differences[source] < 4
    assert (gray_hash(tree.root / source) != gray_hash(tree.root / tree.image)).sum() <= 4
    assert (tree.root / source).read_bytes() != (tree.root / tree.image).read_bytes()


def all_ignored(tree):
    (value,) = np.unique(tree.now(tree.mask))
    assert value == {"CamVid": 11}.get(tree.name, 255)
    assert tree.now(tree.mask).shape == tree.before(tree.mask).shape


def expanded_palette(tree):
    with Image.open(tree.clean / tree.mask) as image:
        expected = np.array(image.convert("RGB"))
    with Image.open(tree.root / tree.mask) as image:
        assert image.mode == "RGB"
    np.testing.assert_array_equal(tree.now(tree.mask), expected)


def permuted_palette(tree):
    with Image.open(tree.clean / tree.mask) as before, Image.open(tree.root / tree.mask) as now:
        assert now.mode == "P"
        np.testing.assert_array_equal(np.array(now.convert("RGB")), np.array(before.convert("RGB")))
        assert (np.array(now) != np.array(before)).mean() > 0.8
        assert len(np.unique(now)) == len(np.unique(before))


def class_absent(tree):
    assert not tree.images
    absent = {"Potsdam": (255, 0, 0), "CamVid": 10, "Cityscapes": 33, "FolderDataset": 4}.get(tree.name, 20)
    if tree.name in ("CamVid", "Cityscapes", "FolderDataset"):
        assert set(tree.masks) == {file for file in all_masks(tree) if "train" in file}
    else:
        assert len(tree.masks) == (24 if tree.name == "Potsdam" else 8)
    for file in tree.masks:
        was, now = (np.atleast_3d(found(file) == absent).all(axis=-1) for found in (tree.before, tree.now))
        assert was.any()
        assert not now.any()
        np.testing.assert_array_equal(tree.now(file)[~was], tree.before(file)[~was])
    others = all_masks(tree) - set(tree.masks)
    assert all(np.atleast_3d(tree.now(file) == absent).all(axis=-1).any() for file in others)


def antialiased_mask(tree):
    now = tree.now(tree.mask)
    if tree.name == "Potsdam":
        assert len(np.unique(now.reshape(-1, 3), axis=0)) > 2
        return
    low, high = int(now.min()), int(now.max())
    between = (now > low) & (now < high)
    assert 0 < between.mean() < 0.4
    # on each row, the values rise and fall between two areas
    row = now[12].astype(int)
    steps = np.diff(row)
    assert (row[0], row[16], row[-1]) == (low, high, low)
    assert (steps[:16] >= 0).all()
    assert (steps[16:] <= 0).all()
    assert set(np.unique(now)) <= set().union(*(np.unique(tree.before(file)) for file in all_masks(tree)))


def mixed_channels(tree):
    with Image.open(tree.root / tree.image) as image:
        assert image.mode == "L"
    assert not tree.masks


def alpha(tree):
    now = tree.now(tree.image)
    assert (now.shape, now[:, 0, 3].max(), now[:, -1, 3].min()) == ((24, 32, 4), 100, 255)
    np.testing.assert_array_equal(now[..., :3], tree.before(tree.image))


def size_outlier(tree):
    assert tree.now(tree.image).shape == (192, 256, 3)
    np.testing.assert_array_equal(tree.now(tree.mask)[::8, ::8], tree.before(tree.mask))
    assert tree.now(tree.mask).shape[:2] == (192, 256)
    assert Path(tree.image).name[:4] == Path(tree.mask).name[:4]


def frames(tree):
    assert frames_regex(*(names_of(tree.root, split) for split in ("train", "val")))
    assert frames_regex(*(names_of(tree.clean, split) for split in ("train", "val"))) is None
    # only names differ
    clean, now = ({c for f, c in contents(root).items() if not f.endswith(".txt")} for root in (tree.clean, tree.root))
    assert clean == now
    opened = [DATASETS.get(tree.name)(tree.root, split=split) for split in ("train", "val")]
    before = [DATASETS.get(tree.name)(tree.clean, split=split) for split in ("train", "val")]
    for new, old in zip(opened, before, strict=True):
        assert len(new) == len(old) == 8
        pairs = [{tuple(part.numpy().tobytes() for part in dataset[i]) for i in range(8)} for dataset in (new, old)]
        assert pairs[0] == pairs[1]  # each image kept its mask


def names_of(root, split):
    images = [file for file in contents(root) if f"/{split}/" in f"/{file}" and not is_mask(file)]
    assert len(images) == 8
    return [Path(file).stem.removesuffix("_leftImg8bit") for file in images]


LOOKS = {
    "missing-mask": missing_mask,
    "missing-image": missing_image,
    "empty-file": empty_file,
    "unreadable-image": unreadable_image,
    "unreadable-mask": unreadable_mask,
    "name-collision": name_collision,
    "size-mismatch": size_mismatch,
    "orientation": orientation,
    "rgb-mask": rgb_mask,
    "color-mask": color_mask,
    "float-mask": float_mask,
    "binary-0-255": binary,
    "off-by-one": off_by_one,
    "id-out-of-range": id_out_of_range,
    "wrong-bit-depth": wrong_bit_depth,
    "jpeg-mask": jpeg_mask,
    "duplicate-across-splits": duplicate,
    "all-ignored": all_ignored,
    "expanded-palette": expanded_palette,
    "permuted-palette": permuted_palette,
    "class-absent": class_absent,
    "antialiased-mask": antialiased_mask,
    "mixed-channels": mixed_channels,
    "alpha": alpha,
    "near-duplicate-across-splits": near_duplicate,
    "frames-across-splits": frames,
    "size-outlier": size_outlier,
}


@pytest.mark.parametrize(("name", "kind"), PLANTED)
def test_fault_is_planted_as_its_name_says_and_nothing_else_changes(clean_tree, tmp_path, name, kind):
    tree = Planting(name, kind, clean_tree(name), tmp_path / "data")
    LOOKS[kind](tree)
    clean, now = contents(tree.clean), contents(tree.root)
    changed = {file for file in clean.keys() | now.keys() if clean.get(file) != now.get(file)}
    assert changed == set(tree.planted.files)
    assert tree.planted.kind == kind
    tree.planted.undo()
    assert contents(tree.root) == clean


def test_every_kind_can_be_planted_and_is_looked_at():
    assert set(FAULTS) == set(LOOKS) == set(KINDS)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in NAMES for kind in sorted(REFUSED[name])])
def test_fault_that_files_cannot_have_is_an_error_that_names_datasets_that_can(clean_tree, tmp_path, name, kind):
    with pytest.raises(
        InvalidArgumentError, match=rf"{name} cannot have the fault {kind}: .*Datasets that can: "
    ) as info:
        fake(name, tmp_path / "data", faults=(kind,))
    assert not (tmp_path / "data").exists()
    able = str(info.value).rsplit(": ", 1)[1].split(", ")
    assert name not in able
    assert "FolderDataset" in able


def test_all_faults_of_one_folder_are_in_files_of_their_own(tmp_path):
    of_all = {"binary-0-255", "off-by-one", "class-absent", "color-mask"}
    kinds = [kind for kind in KINDS if kind not in of_all]
    written = write_fake("FolderDataset", tmp_path / "data", faults=kinds)
    assert {planted.kind for planted in written.planted} == set(kinds)
    files = [file for planted in written.planted for file in planted.files if planted.kind != "frames-across-splits"]
    assert len(set(files)) == len(files)
    train = sorted((written.folder / "train" / "masks").iterdir())
    sound = [path for path in train if f"train/masks/{path.name}" not in files]
    assert sound
    assert len(train) >= images_needed(kinds) - 2  # one has no mask


def test_undone_in_reverse_order_the_tree_is_as_if_no_fault_was_planted(tmp_path):
    kinds = ("jpeg-mask", "frames-across-splits", "off-by-one", "name-collision")
    number = images_needed(kinds)
    clean = fake("CamVid", tmp_path / "clean", images_per_split=number)
    written = write_fake("CamVid", tmp_path / "data", faults=kinds, images_per_split=number)
    assert contents(written.folder) != contents(clean)
    for planted in reversed(written.planted):
        planted.undo()
    assert contents(written.folder) == contents(clean)


def test_planted_files_hold_no_list_of_faults(tmp_path):
    written = write_fake("CamVid", tmp_path / "data", faults=("id-out-of-range",))
    assert {path.suffix for path in written.folder.rglob("*") if path.is_file()} == {".png", ".txt"}
    (planted,) = written.planted
    assert isinstance(planted, Planted)
    assert planted.detail.startswith("gave 12 pixels of ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faults": ("off-by-on",)}, r"no fault 'off-by-on'\. Did you mean 'off-by-one'"),
        ({"faults": (3,)}, r"no fault 3\. Allowed: missing-mask"),
        ({"faults": "off-by-one"}, r"a sequence of kinds, such as \('off-by-one',\)"),
        ({"faults": ("off-by-one", "binary-0-255")}, "off-by-one and binary-0-255 exclude each other"),
        ({"faults": ("color-mask", "off-by-one")}, "color-mask and off-by-one exclude each other"),
        ({"faults": ("empty-file",), "images_per_split": 2}, r"images_per_split \(--images\) must be at least 3"),
        ({"images_per_split": 0}, "images_per_split must be an integer >= 1, got 0"),
        ({"images_per_split": 166667}, "at most 166666 for FolderDataset, with names like 'photo_000790', got 166667"),
        ({"edition": "v2"}, "no edition 'v2'"),
    ],
)
def test_wrong_options_are_errors_and_write_nothing(tmp_path, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        fake("FolderDataset", tmp_path / "data", **options)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "options", "folder", "classes"),
    [
        ("iSAID", {"images": 2, "masks": 2}, "ann_dir/train", 16),  # gray beside masks of colors
        ("CityscapesClass", {"edition": "coarse"}, "gtCoarse/train/aachen", 34),
        ("ADE20K", {"prefix": ""}, "annotations/training", 151),
    ],
)
def test_ids_are_shifted_in_every_layout_and_edition(tmp_path, name, options, folder, classes):
    root = fake(name, tmp_path / "data", faults=("off-by-one",), **options)
    (path, *_) = sorted((root / folder).iterdir())
    assert set(pixels(path).flat) - {255} == set(range(1, classes + 1))


def test_too_few_files_of_a_tree_are_an_error(tmp_path):
    root = fake("VOC", tmp_path / "data", images_per_split=1)
    before = contents(root)
    with pytest.raises(InvalidArgumentError, match=r"split train of .* has 1 images, which are too few"):
        plant(root, "jpeg-mask", "VOC")
    assert contents(root) == before


# ---- clean trees -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FolderDataset", "CamVid", "ADE20K", "BDD100K", "MapillaryVistas", "LoveDA", "LIP"])
def test_more_images_have_names_that_are_read_and_are_all_different(tmp_path, name):
    root = fake(name, tmp_path / "data", images_per_split=7)
    splits = {split: DATASETS.get(name)(root, split=split) for split in ("train", "val", "test")}
    files = [Path(dataset.file_names(i)[0]) for dataset in splits.values() for i in range(len(dataset))]
    assert [len(dataset) for dataset in splits.values()] == [7, 7, 7]
    assert len({path.read_bytes() for path in files}) == 21
    hashes = [gray_hash(path) for path in files]
    assert min((a != b).sum() for i, a in enumerate(hashes) for b in hashes[:i]) > 10
    names = [[path.stem for path in files[i : i + 7]] for i in (0, 7)]
    assert frames_regex(*names) is None


def test_split_that_joins_others_has_their_files(tmp_path):
    root = fake("VOC", tmp_path / "data", images_per_split=4)
    lists = {
        path.stem: path.read_text().split() for path in (root / "VOCdevkit/VOC2012/ImageSets/Segmentation").iterdir()
    }
    assert sorted(lists["trainval"]) == sorted(lists["train"] + lists["val"])
    assert len(lists["train"]) == len(lists["val"]) == 4
    assert set(lists["train"]) < set(lists["trainaug"])
    assert not set(lists["train"]) & set(lists["val"])


def test_fixed_sets_of_tiles_take_no_other_number(tmp_path):
    with pytest.raises(InvalidArgumentError, match="Potsdam, got 5: its train is always a fixed set of 24 images"):
        fake("Potsdam", tmp_path / "data", images_per_split=5)


@pytest.mark.parametrize(("height", "width"), [(24, 32), (40, 31), (96, 128)])
def test_masks_have_areas_with_sharp_edges_and_all_ids(tmp_path, height, width):
    root = fake("MapillaryVistas", tmp_path / "data", size=(height, width))
    (path, *_) = sorted((root / "training/v2.0/labels").iterdir())
    ids = pixels(path)
    assert set(ids.flat) == set(MapillaryVistas.edition.label_map.mapping)
    side = {24: 2, 40: 3, 96: 9}[height]
    # no id is in lines that are thinner than an area: runs along rows and columns
    for lines in (ids, ids.T):
        starts = np.flatnonzero(np.diff(lines[0].astype(int), prepend=-1))
        assert np.diff(np.append(starts, lines.shape[1])).min() >= side


def test_folder_dataset_reads_its_fake(tmp_path):
    root = fake("FolderDataset", tmp_path / "data")
    assert sorted(path.name for path in root.iterdir()) == ["classes.toml", "test", "train", "val"]
    for split in ("train", "val", "test"):
        dataset = FolderDataset(root, split=split)
        image, mask = dataset[0]
        assert dataset.metadata.labels == ("sky", "building", "road", "plant", "car")
        assert (image.shape, set(mask.unique().tolist())) == ((3, 24, 32), {0, 1, 2, 3, 4, 255})
    report = FolderDataset.inspect(root)
    assert (report.fits, report.kind, report.oddities) == (True, "palette", ())


# ---- command and docs ------------------------------------------------------------------------------------------------


def test_command_plants_what_is_asked_and_says_what(capsys, tmp_path):
    folder = tmp_path / "odd"
    arguments = ["datasets", "fake", "CamVid", str(folder), "--size", "24", "32", "--images", "5"]
    assert main([*arguments, "--fault", "off-by-one", "--fault", "missing-mask"]) == 0
    out = capsys.readouterr().out
    assert f"wrote a fake CamVid to {folder}" in out
    assert "  off-by-one: added one to the ids of all 15 masks, except 255\n" in out
    assert "  missing-mask: removed the mask 0001TP_006690.png\n" in out
    masks = list((folder / "CamVid" / "trainannot").iterdir())
    assert len(masks) == 4
    assert all(set(pixels(mask).flat) == set(range(1, 13)) for mask in masks)


def test_command_with_an_unknown_fault_exits_2_and_names_the_nearest(capsys, tmp_path):
    assert main(["datasets", "fake", "CamVid", str(tmp_path / "odd"), "--fault", "of-by-one"]) == 2
    assert "no fault 'of-by-one'. Did you mean 'off-by-one'?" in capsys.readouterr().err


def test_help_lists_the_kinds(capsys):
    assert main(["datasets", "fake", "--help"]) == 0
    out = capsys.readouterr().out
    for name, kind in KINDS.items():
        assert f"  {name} " in out
        assert kind.meaning in out


def test_readme_has_the_table_of_faults():
    assert table() in README.read_text(encoding="utf-8"), f"README.md needs this table:\n{table()}"


def test_a_folder_that_the_system_refuses_is_a_message(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)  # as for a folder in /proc
    assert main(["datasets", "fake", "CamVid", str(tmp_path / "q")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"seg: error: cannot write a fake CamVid to {tmp_path / 'q'}: No such file")
