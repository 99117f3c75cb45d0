"""Every dataset of official layout on invented trees: all editions, all known ways to unpack, against the facts."""

import contextlib
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from seg_core import IGNORE, resolve_metadata
from seg_core.errors import CorruptFileError, DatasetNotFoundError, InvalidArgumentError
from seg_core.registry import DATASETS
from seg_datasets import catalog
from seg_datasets.doctor.fake import fake
from seg_datasets.reading.base import OfficialDataset

FACTS = json.loads((Path(__file__).parents[2] / "expected" / "datasets.json").read_text())
NAMES = sorted(name for name in catalog.DATASETS if issubclass(DATASETS.get(name), OfficialDataset))

# what a user writes to get an edition, where it is not the default
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
    "eroded": {"eroded": True},
}
DEFAULTS = {"", "fine", "v2.0", "ignore", "all", "RGB", "full"}


def editions(name):
    dataset_class = DATASETS.get(name)
    return dict(dataset_class.editions) or {"": dataset_class.edition}


EDITIONS = [(name, edition) for name in NAMES for edition in editions(name)]


def opened(name, edition, root, split, **options):
    given = {} if edition in DEFAULTS else OPTIONS[edition]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SBD .* holds images of VOC")
        return DATASETS.get(name)(root, split, **given, **options)


def ways():
    """Every known way in which the files of an edition lie, one thing different from the official way at a time."""
    for name, edition in EDITIONS:
        layout = editions(name)[edition].layout
        for prefix in layout.prefixes:
            yield pytest.param(name, edition, {"prefix": prefix}, id=f"{name}-{edition}-{prefix}")
        for kind in ("images", "masks"):
            for choice in range(1, max(len(getattr(part, kind)) for part in layout.parts.values())):
                yield pytest.param(name, edition, {kind: choice}, id=f"{name}-{edition}-{kind}{choice}")


@pytest.mark.parametrize(("name", "edition", "way"), list(ways()))
def test_tree_of_every_known_kind_is_read_whole(tmp_path, name, edition, way):
    root = fake(name, tmp_path / "data", edition=edition, **way)
    layout = editions(name)[edition].layout
    for split, part in layout.parts.items():
        dataset = opened(name, edition, root, split)
        keys = sorted(layout.examples[split])
        assert len(dataset) == len(keys) > 0
        for index in (0, len(keys) - 1):
            image, mask = dataset[index]
            assert isinstance(image, tv_tensors.Image)
            assert (image.shape, image.dtype) == ((3, 24, 32), torch.uint8)
            files = [Path(file).name for file in dataset.file_names(index)]
            stem = keys[index].rsplit("/", 1)[-1]
            assert all(stem in file for file in files)
            if not part.masks:
                assert mask is None
                continue
            assert isinstance(mask, tv_tensors.Mask)
            assert (mask.shape, mask.dtype) == ((24, 32), torch.uint8)
            assert set(mask.unique().tolist()) <= {*range(dataset.metadata.num_classes), 255}
            # every class is in every invented mask
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
    """The name of the edition that the facts are about."""
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
def test_tree_holds_the_official_names_and_the_masks_read_as_the_facts_say(tmp_path, fact):
    facts = FACTS[fact]
    edition = _edition(facts)
    root = fake(facts["dataset"], tmp_path / "data", edition=edition, prefix="")
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
                raw = np.array(opened_file)  # of a palette image the indices
            np.testing.assert_array_equal(dataset[index][1].numpy(), train_ids[raw])


@pytest.mark.parametrize(("name", "edition"), EDITIONS)
def test_metadata_of_the_name_are_those_that_weights_refer_to(name, edition):
    classes = editions(name)[edition].classes
    if edition in DEFAULTS:
        assert resolve_metadata(classes) == resolve_metadata(name)
        assert catalog.DATASETS[name].label_set == name
    known = editions(name)[edition].layout
    assert known.dataset == name
    assert set(known.parts) <= set(catalog.DATASETS[name].splits)
    assert known.tree
    assert all(alias not in known.parts and split in known.parts for alias, split in known.aliases.items())
    assert known.top in known.prefixes
    assert bool(known.archives) == catalog.DATASETS[name].download


@pytest.mark.parametrize("name", NAMES)
def test_splits_of_the_catalog_are_those_of_the_editions(name):
    splits = {split for edition in editions(name).values() for split in edition.layout.parts}
    assert set(catalog.DATASETS[name].splits) == splits


@pytest.mark.parametrize("name", NAMES)
def test_split_by_its_official_name_is_the_split(tmp_path, name):
    edition = next(iter(editions(name)))
    layout = editions(name)[edition].layout
    root = fake(name, tmp_path / "data")
    for alias, split in layout.aliases.items():
        assert opened(name, edition, root, alias).split == split


@pytest.mark.parametrize("name", NAMES)
def test_workers_give_every_sample_in_order(tmp_path, name):
    root = fake(name, tmp_path / "data")
    dataset = opened(name, next(iter(editions(name))), root, "train")
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    count = 0
    for index, (image, mask) in enumerate(loader):
        expected_image, expected_mask = dataset[index]
        assert torch.equal(image, expected_image)
        assert torch.equal(mask, expected_mask)
        count += 1
    assert count == len(dataset)


@pytest.mark.parametrize("name", NAMES)
def test_dataset_survives_pickling(tmp_path, name):
    dataset = opened(name, next(iter(editions(name))), fake(name, tmp_path / "data"), "train")
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(copy) == len(dataset)
    assert torch.equal(copy[0][1], dataset[0][1])
    assert copy.metadata == dataset.metadata


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [0, 1])
def test_corrupt_file_in_the_middle_names_itself_through_workers(tmp_path, name, kind):
    dataset = opened(name, next(iter(editions(name))), fake(name, tmp_path / "data"), "train")
    path = Path(dataset.file_names(1)[kind])
    path.write_bytes(path.read_bytes()[:60])
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    with pytest.raises(CorruptFileError, match=path.name.replace("+", r"\+")):
        list(loader)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [0, 1])
def test_missing_partner_is_an_error_or_skipped_with_a_count(tmp_path, name, kind):
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
def test_wrong_root_says_where_it_looked_what_it_expected_and_where_to_get_it(tmp_path, name, edition):
    (tmp_path / "holiday.jpg").touch()
    layout = editions(name)[edition].layout
    for split in layout.parts:
        with pytest.raises(DatasetNotFoundError) as caught:
            opened(name, edition, tmp_path, split)
        message = str(caught.value)
        assert str(tmp_path) in message
        if (name, split) != ("VOC", "trainaug"):  # made from several things, each with a message of its own
            assert f"{name} {split}: looked in {tmp_path}" in message
            assert "(0 found)" in message
            assert "it holds holiday.jpg" in message
            assert layout.source in message
            served = any(split in archive.splits or not archive.splits for archive in layout.archives)
            assert ("download=True" in message) == served


@pytest.mark.parametrize("name", NAMES)
def test_root_that_is_not_there_says_so(tmp_path, name):
    with pytest.raises(DatasetNotFoundError, match=rf"{name}: root .*nowhere does not exist"):
        opened(name, next(iter(editions(name))), tmp_path / "nowhere", "train")


@pytest.mark.parametrize("name", NAMES)
def test_wrong_split_and_wrong_missing_say_what_is_allowed(tmp_path, name):
    edition = next(iter(editions(name)))
    with pytest.raises(
        InvalidArgumentError, match=rf"{name} has no split 'trian'. Did you mean 'train'.*Allowed: train"
    ):
        opened(name, edition, tmp_path, "trian")
    with pytest.raises(InvalidArgumentError, match=r"missing must be 'error' or 'skip'.*got 'ignore'"):
        opened(name, edition, tmp_path, "train", missing="ignore")


@pytest.mark.parametrize("name", NAMES)
def test_fake_never_writes_into_a_folder_that_holds_something(tmp_path, name):
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
    part = editions(name)[next(iter(editions(name)))].layout.parts[split]
    assert sorted(part.keys) == sorted(FACTS[name]["tiles"][split])


def test_fake_wrong_names_say_what_there_is(tmp_path):
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
def test_orientation_and_max_pixels_are_options_of_every_dataset(tmp_path, name):
    edition = next(iter(editions(name)))
    root = fake(name, tmp_path / "data", edition=edition)
    split = next(iter(editions(name)[edition].layout.parts))
    with pytest.raises(CorruptFileError, match="has 32x24 = 768 pixels .* more than max_pixels=767"):
        opened(name, edition, root, split, max_pixels=767)[0]
    assert opened(name, edition, root, split, max_pixels=768)[0][0].shape == (3, 24, 32)
    assert opened(name, edition, root, split).reading.orientation == "stored"
    assert opened(name, edition, root, split, orientation="apply").reading.orientation == "apply"
    with pytest.raises(InvalidArgumentError, match="orientation must be 'apply' .* or 'stored' .*, got 'exif'"):
        opened(name, edition, root, split, orientation="exif")
    with pytest.raises(InvalidArgumentError, match="max_pixels must be an integer >= 1"):
        opened(name, edition, root, split, max_pixels=0)
