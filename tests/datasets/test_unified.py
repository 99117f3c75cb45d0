"""Several datasets joined into one."""

import pickle

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from seg_core import label_map_between, resolve_metadata
from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_datasets import BDD100K, VOC, CityscapesClass, LoveDA, MapillaryVistas, Potsdam, Unified, get_dataset, unify
from seg_datasets.doctor.fake import fake


@pytest.fixture
def street(fake_tree):
    return [
        CityscapesClass(fake_tree("CityscapesClass")),
        BDD100K(fake_tree("BDD100K")),
        MapillaryVistas(fake_tree("MapillaryVistas")),
    ]


def test_unify_gives_the_samples_of_all_members_with_joined_classes(street):
    joined = unify("Street", street)
    assert joined.metadata == resolve_metadata("Street")
    assert joined.split == "train"
    assert len(joined) == sum(map(len, street))
    samples = [(member, index) for member in street for index in range(len(member))]
    for index, (member, own_index) in enumerate(samples):
        image, mask = joined[index]
        own_image, own_mask = member[own_index]
        assert torch.equal(image, own_image)
        assert isinstance(mask, tv_tensors.Mask)
        expected = label_map_between(member.metadata, "Street")(own_mask.numpy())
        np.testing.assert_array_equal(mask.numpy(), expected)
        assert joined.file_names(index) == member.file_names(own_index)
    assert joined[-1][1].equal(joined[len(joined) - 1][1])


def test_unify_mapillary_lane_markings_are_road_and_animals_are_ignored(street):
    labels = street[2].metadata.labels
    own, joined = street[2][0][1], unify("Street", street[2:])[0][1]
    names = resolve_metadata("Street").labels
    for own_name, name in (
        ("Lane Marking - Stop Line", "road"),
        ("On Rails", "train"),
        ("Bicyclist", "rider"),
        ("Traffic Light - Cyclists", "traffic light"),
    ):
        assert set(joined[own == labels.index(own_name)].tolist()) == {names.index(name)}
    assert set(joined[own == labels.index("Ground Animal")].tolist()) == {255}
    assert set(joined[own == 255].tolist()) == {255}


def test_unify_aerial_joins_loveda_and_potsdam(fake_tree):
    joined = unify(
        "Aerial",
        [LoveDA(fake_tree("LoveDA"), "val"), Potsdam(fake_tree("Potsdam"), "val")],
    )
    seen = {int(value) for index in (0, len(joined) - 1) for value in joined[index][1].unique()}
    assert seen == {*range(joined.metadata.num_classes), 255}


def test_unified_by_name_from_tables_below_one_root(tmp_path):
    fake("CityscapesClass", tmp_path / "cityscapes")
    fake("BDD100K", tmp_path / "bdd")
    joined = get_dataset(
        "Unified",
        tmp_path,
        "val",
        label_set="Street",
        members=[
            {"name": "CityscapesClass", "root": "cityscapes"},
            {"name": "BDD100K", "root": "bdd", "split": "train"},
        ],
    )
    assert [member.split for member in joined.members] == ["val", "train"]
    assert len(joined) == 3


def test_unified_transforms_get_the_joined_ids_and_pickling_keeps_the_length(street):
    joined = unify("Street", street, transforms=lambda image, mask: int(mask[mask != 255].max()))
    assert joined[0] == 18
    assert len(pickle.loads(pickle.dumps(unify("Street", street)))) == len(joined)


def test_unified_test_split_without_masks_gives_none(fake_tree):
    joined = unify("Street", [BDD100K(fake_tree("BDD100K"), "test")])
    assert joined[0][1] is None


def test_unify_without_conversion_error_lists_what_can_join(fake_tree):
    with pytest.raises(UnknownNameError, match="no conversion from label set 'VOC' to 'Street'.*BDD100K, Cityscapes"):
        unify("Street", [VOC(fake_tree("VOC"))])


def test_unified_members_not_allowed_error_says_what_is(street):
    for members in ([], {"name": "VOC"}, "VOC"):
        with pytest.raises(InvalidArgumentError, match="members must be a list of datasets or of tables"):
            Unified(label_set="Street", members=members)
    with pytest.raises(InvalidArgumentError, match="needs the `name` of a dataset, got {'root': 'x'}"):
        Unified(label_set="Street", members=[{"root": "x"}])
    with pytest.raises(InvalidArgumentError, match="each dataset in members needs metadata"):
        unify("Street", [[1, 2]])
    joined = unify("Street", street)
    with pytest.raises(IndexError, match=rf"index {len(joined)} is out of range for {len(joined)} images"):
        joined[len(joined)]
