"""Every official dataset on fake trees: all editions and all known folder layouts, checked against the facts."""

import contextlib
import json
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from seg_core import IGNORE, resolve_metadata
from seg_core.errors import CorruptFileError, DatasetNotFoundError, InvalidArgumentError
from seg_core.registry import DATASETS
from seg_datasets import catalog
from seg_datasets.doctor.fake import fake
from seg_datasets.reading.base import OfficialDataset
from tests.datasets.trees import samples_from_workers

FACTS = json.loads((Path(__file__).parents[2] / "expected" / "datasets.json").read_text())
NAMES = sorted(name for name in catalog.DATASETS if issubclass(DATASETS.get(name), OfficialDataset))
ONE_PER_MASK_FORMAT = ("ADE20K", "MapillaryVistas", "SBD", "iSAID")  # gray, palette, .mat, colors

# the options that select an edition, if it is not the default
OPTIONS = {
    "coarse": {"annotations": "coarse"},
    "fine-void": {"rest": "class"},
    "coarse-void": {"annotations": "coarse", "rest": "class"},
    "v1.2": {"version": "v1.2"},
    "class": {"background": "class"},
    "rural": {"domain": "rural"},
    "urban": {"domain": "urban"},
    "RGB-eroded": {"eroded": True},
    "IRRG": {"bands": "IRRG"},
    "IRRG-eroded": {"bands": "IRRG", "eroded": True},
    "RGBIR": {"bands": "RGBIR"},
    "RGBIR-eroded": {"bands": "RGBIR", "eroded": True},
    "eroded": {"eroded": True},
    "full-height": {"height": True},
    "eroded-height": {"height": True, "eroded": True},
}
DEFAULTS = {"", "fine", "v2.0", "ignore", "all", "RGB", "full"}


def editions(name):
    dataset_class = DATASETS.get(name)
    return dict(dataset_class.editions) or {"": dataset_class.edition}


EDITIONS = [(name, edition) for name in NAMES for edition in editions(name)]


def opened(name, edition, root, split, **options):
    given = {} if edition in DEFAULTS else OPTIONS[edition]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SBD .* contains images of VOC")
        return DATASETS.get(name)(root, split, **given, **options)


def folder_layouts():
    """All known folder layouts of each edition; each differs in one thing from the official one."""
    for name, edition in EDITIONS:
        layout = editions(name)[edition].layout
        for prefix in layout.prefixes:
            yield pytest.param(name, edition, {"prefix": prefix}, id=f"{name}-{edition}-{prefix}")
        for kind in ("images", "masks"):
            for choice in range(1, max(len(getattr(files, kind)) for files in layout.splits.values())):
                yield pytest.param(name, edition, {kind: choice}, id=f"{name}-{edition}-{kind}{choice}")


@pytest.mark.parametrize(("name", "edition", "choice"), list(folder_layouts()))
def test_tree_of_every_known_folder_layout_is_read_completely(tmp_path, name, edition, choice):
    root = fake(name, tmp_path / "data", edition=edition, **choice)
    layout = editions(name)[edition].layout
    for split, split_files in layout.splits.items():
        dataset = opened(name, edition, root, split)
        keys = sorted(layout.examples[split])
        assert len(dataset) == len(keys) > 0
        for index in (0, len(keys) - 1):
            image, mask = dataset[index]
            assert isinstance(image, tv_tensors.Image)
            channels = dataset.metadata.channels
            dtype = torch.uint8 if channels.is_bytes else torch.float32
            assert (image.shape, image.dtype) == ((channels.count, 24, 32), dtype)
            files = [Path(file).name for file in dataset.file_names(index)]
            stem = keys[index].rsplit("/", 1)[-1]
            assert all(stem in file for file in files)
            if not split_files.masks:
                assert mask is None
                continue
            assert isinstance(mask, tv_tensors.Mask)
            assert (mask.shape, mask.dtype) == ((24, 32), torch.uint8)
            assert set(mask.unique().tolist()) <= {*range(dataset.metadata.num_classes), 255}
            # every class is in every fake mask
            assert set(range(dataset.metadata.num_classes)) <= set(mask.unique().tolist())


@pytest.mark.parametrize("fact", sorted(FACTS))
def test_classes_and_colors_are_the_official_ones(fact):
    facts = FACTS[fact]
    edition = editions(facts["dataset"])[_edition(facts)]
    metadata = resolve_metadata(edition.classes)
    assert list(metadata.labels) == facts["labels"]
    if facts["colors"] is not None:
        assert [list(color) for color in metadata.colors] == facts["colors"]
    assert metadata.ignore_index == 255
    assert metadata.license
    assert metadata.citation
    assert metadata.source


def _edition(facts):
    """The name of the edition that the facts describe."""
    known = editions(facts["dataset"])
    if facts["edition"] in known:
        return facts["edition"]
    return next(iter(known))


@pytest.mark.parametrize("fact", sorted(FACTS))
def test_raw_ids_become_the_official_train_ids(fact):
    facts = FACTS[fact]
    mapping = editions(facts["dataset"])[_edition(facts)].label_map.mapping
    expected = {int(raw): IGNORE if train == 255 else train for raw, train in facts["raw_to_train"].items()}
    assert {raw: mapping.get(raw) for raw in expected} == expected
    beyond = {raw: train for raw, train in mapping.items() if raw not in expected}
    assert all(train is IGNORE for train in beyond.values())  # unknown colors


@pytest.mark.parametrize("fact", sorted(FACTS))
def test_tree_has_the_official_names_and_masks_match_the_facts(fake_tree, fact):
    facts = FACTS[fact]
    edition = _edition(facts)
    root = fake_tree(facts["dataset"], edition=edition, prefix="")
    train_ids = np.full(256, 77, np.uint8)
    for raw, train in facts["raw_to_train"].items():
        train_ids[int(raw)] = train
    for split, (image, mask) in facts["pairs"].items():
        assert (root / image).is_file()
        assert (root / mask).is_file()
        dataset = opened(facts["dataset"], edition, root, split)
        if dataset[0][1] is None:  # CamVid's test masks aside, test masks are not public
            continue
        index = next(i for i in range(len(dataset)) if dataset.file_names(i) == (str(root / image), str(root / mask)))
        if mask.endswith(".png") and facts["dataset"] != "iSAID":
            with Image.open(root / mask) as opened_file:
                raw = np.array(opened_file)  # the indices of a palette image
            np.testing.assert_array_equal(dataset[index][1].numpy(), train_ids[raw])


@pytest.mark.parametrize(("name", "edition"), EDITIONS)
def test_metadata_and_layout_agree_with_the_catalog(name, edition):
    classes = editions(name)[edition].classes
    if edition in DEFAULTS:
        assert resolve_metadata(classes) == resolve_metadata(name)
        assert catalog.DATASETS[name].label_set == name
    known = editions(name)[edition].layout
    assert known.dataset == name
    assert set(known.splits) <= set(catalog.DATASETS[name].splits)
    assert known.tree
    assert all(alias not in known.splits and split in known.splits for alias, split in known.aliases.items())
    assert known.top in known.prefixes
    assert bool(known.archives) == catalog.DATASETS[name].download


@pytest.mark.parametrize("name", NAMES)
def test_splits_of_the_catalog_are_those_of_the_editions(name):
    splits = {split for edition in editions(name).values() for split in edition.layout.splits}
    assert set(catalog.DATASETS[name].splits) == splits


@pytest.mark.parametrize("name", NAMES)
def test_split_official_name_is_an_alias(fake_tree, name):
    edition = next(iter(editions(name)))
    layout = editions(name)[edition].layout
    root = fake_tree(name)
    for alias, split in layout.aliases.items():
        assert opened(name, edition, root, alias).split == split


@pytest.mark.parametrize("name", ONE_PER_MASK_FORMAT)
def test_workers_give_every_sample_in_order(fake_tree, name):
    dataset = opened(name, next(iter(editions(name))), fake_tree(name), "train")
    with samples_from_workers(dataset) as samples:
        from_workers = list(samples)
    assert len(from_workers) == len(dataset)
    for index, (image, mask) in enumerate(from_workers):
        expected_image, expected_mask = dataset[index]
        assert torch.equal(image, expected_image)
        assert torch.equal(mask, expected_mask)


@pytest.mark.parametrize("name", NAMES)
def test_dataset_survives_pickling(fake_tree, name):
    dataset = opened(name, next(iter(editions(name))), fake_tree(name), "train")
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(copy) == len(dataset)
    assert torch.equal(copy[0][1], dataset[0][1])
    assert copy.metadata == dataset.metadata


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [0, 1])
def test_corrupt_file_error_names_it(tmp_path, name, kind):
    dataset = opened(name, next(iter(editions(name))), fake(name, tmp_path / "data"), "train")
    path = Path(dataset.file_names(1)[kind])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(CorruptFileError, match=re.escape(str(path))):
        dataset[1]
    if name in ONE_PER_MASK_FORMAT:
        with samples_from_workers(dataset) as samples, pytest.raises(CorruptFileError, match=re.escape(str(path))):
            list(samples)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [0, 1])
def test_file_without_partner_is_an_error_or_left_out_with_a_warning(tmp_path, name, kind):
    root = fake(name, tmp_path / "data")
    edition = next(iter(editions(name)))
    whole = opened(name, edition, root, "train")
    path = Path(whole.file_names(1)[kind])
    path.unlink()
    with pytest.raises(DatasetNotFoundError) as caught:
        opened(name, edition, root, "train", missing="error")
    assert whole.edition.layout.source in str(caught.value)
    with pytest.warns(UserWarning, match=rf"{name} train.*left out"):
        shorter = opened(name, edition, root, "train", missing="skip")
    assert len(shorter) == len(whole) - 1
    kept = {whole.file_names(i) for i in range(len(whole))} - {whole.file_names(1)}
    assert {shorter.file_names(i) for i in range(len(shorter))} == kept


@pytest.mark.parametrize(("name", "edition"), EDITIONS)
def test_wrong_root_error_names_folder_expected_files_and_source(tmp_path, name, edition):
    (tmp_path / "holiday.jpg").touch()
    layout = editions(name)[edition].layout
    for split in layout.splits:
        with pytest.raises(DatasetNotFoundError) as caught:
            opened(name, edition, tmp_path, split)
        message = str(caught.value)
        assert str(tmp_path) in message
        if (name, split) != ("VOC", "trainaug"):  # made from several folders, each with its own message
            assert f"{name} {split}: looked in {tmp_path}" in message
            assert "(0 found)" in message
            assert "it contains holiday.jpg" in message
            assert layout.source in message
            downloadable = any(split in archive.splits or not archive.splits for archive in layout.archives)
            assert ("download=True" in message) == downloadable


@pytest.mark.parametrize("name", NAMES)
def test_root_missing_error_names_it(tmp_path, name):
    with pytest.raises(DatasetNotFoundError, match=rf"{name}: root .*nowhere does not exist"):
        opened(name, next(iter(editions(name))), tmp_path / "nowhere", "train")


@pytest.mark.parametrize("name", NAMES)
def test_split_or_missing_unknown_error_lists_the_allowed(tmp_path, name):
    edition = next(iter(editions(name)))
    with pytest.raises(
        InvalidArgumentError, match=rf"{name} has no split 'trian'. Did you mean 'train'.*Allowed: train"
    ):
        opened(name, edition, tmp_path, "trian")
    with pytest.raises(InvalidArgumentError, match=r"missing must be 'error' or 'skip'.*got 'ignore'"):
        opened(name, edition, tmp_path, "train", missing="ignore")


@pytest.mark.parametrize("name", NAMES)
def test_fake_folder_not_empty_is_an_error(tmp_path, name):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(OSError, match="is not empty"):
        fake(name, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_label_sets_of_the_same_classes_agree():
    assert resolve_metadata("BDD100K").labels == resolve_metadata("CityscapesClass").labels
    assert resolve_metadata("SBD").labels == resolve_metadata("VOC").labels
    assert resolve_metadata("LIP").left_right_pairs == tuple(map(tuple, FACTS["LIP"]["left_right_pairs"]))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["Potsdam", "Vaihingen"])
def test_tiles_of_a_split_are_the_official_ones(name, split):
    split_files = editions(name)[next(iter(editions(name)))].layout.splits[split]
    assert sorted(split_files.keys) == sorted(FACTS[name]["tiles"][split])


def test_fake_argument_unknown_error_lists_the_allowed(tmp_path):
    with pytest.raises(InvalidArgumentError, match="MapillaryVistas has no edition 'v2.1'.*Allowed: v2.0, v1.2"):
        fake("MapillaryVistas", tmp_path / "a", edition="v2.1")
    with pytest.raises(InvalidArgumentError, match="'Shapes' has no official layout"):
        fake("Shapes", tmp_path / "a")
    with pytest.raises(InvalidArgumentError, match="prefix must be one of '', 'ADEChallengeData2016', got 'here'"):
        fake("ADE20K", tmp_path / "a", prefix="here")
    with pytest.raises(InvalidArgumentError, match="images must be from 0 to 2, got 3"):
        fake("ADE20K", tmp_path / "a", images=3)
    with contextlib.suppress(FileNotFoundError):
        assert not any((tmp_path / "a").iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_orientation_and_max_pixels_are_options_of_every_dataset(fake_tree, name):
    edition = next(iter(editions(name)))
    root = fake_tree(name)
    split = next(iter(editions(name)[edition].layout.splits))
    with pytest.raises(CorruptFileError, match="has 32x24 = 768 pixels .* more than max_pixels=767"):
        opened(name, edition, root, split, max_pixels=767)[0]
    assert opened(name, edition, root, split, max_pixels=768)[0][0].shape == (3, 24, 32)
    assert opened(name, edition, root, split).reading.orientation == "stored"
    assert opened(name, edition, root, split, orientation="apply").reading.orientation == "apply"
    with pytest.raises(InvalidArgumentError, match="orientation must be 'apply' .* or 'stored' .*, got 'exif'"):
        opened(name, edition, root, split, orientation="exif")
    with pytest.raises(InvalidArgumentError, match="max_pixels must be an integer >= 1"):
        opened(name, edition, root, split, max_pixels=0)
