"""Several datasets as one."""

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
def street(tmp_path):
    return [
        CityscapesClass(fake("CityscapesClass", tmp_path / "cityscapes")),
        BDD100K(fake("BDD100K", tmp_path / "bdd")),
        MapillaryVistas(fake("MapillaryVistas", tmp_path / "mapillary")),
    ]


def test_unify_gives_the_samples_of_all_in_turn_with_the_joined_classes(street):
    joined = unify("Street", street)
    assert joined.metadata == resolve_metadata("Street")
    assert joined.split == "train"
    assert len(joined) == sum(map(len, street))
    places = [(member, index) for member in street for index in range(len(member))]
    for index, (member, place) in enumerate(places):
        image, mask = joined[index]
        own_image, own_mask = member[place]
        assert torch.equal(image, own_image)
        assert isinstance(mask, tv_tensors.Mask)
        expected = label_map_between(member.metadata, "Street")(own_mask.numpy())
        np.testing.assert_array_equal(mask.numpy(), expected)
        assert joined.file_names(index) == member.file_names(place)
    assert joined[-1][1].equal(joined[len(joined) - 1][1])


def test_unify_mapillary_lane_markings_are_road_and_animals_ignored(street):
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


def test_unify_aerial_joins_lands_and_tiles(tmp_path):
    joined = unify(
        "Aerial",
        [LoveDA(fake("LoveDA", tmp_path / "loveda"), "val"), Potsdam(fake("Potsdam", tmp_path / "potsdam"), "val")],
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


def test_unified_transforms_get_the_joined_ids_and_workers_a_copy(street):
    joined = unify("Street", street, transforms=lambda image, mask: int(mask[mask != 255].max()))
    assert joined[0] == 18
    assert len(pickle.loads(pickle.dumps(unify("Street", street)))) == len(joined)


def test_unified_test_split_without_masks_gives_none(tmp_path):
    joined = unify("Street", [BDD100K(fake("BDD100K", tmp_path / "bdd"), "test")])
    assert joined[0][1] is None


def test_unify_class_without_way_error_says_what_can_join(tmp_path):
    with pytest.raises(UnknownNameError, match="no conversion from label set 'VOC' to 'Street'.*BDD100K, Cityscapes"):
        unify("Street", [VOC(fake("VOC", tmp_path / "voc"))])


def test_unified_wrong_members_error_says_what_they_are(street):
    for members in ([], {"name": "VOC"}, "VOC"):
        with pytest.raises(InvalidArgumentError, match="members must be a list of datasets or of tables"):
            Unified(label_set="Street", members=members)
    with pytest.raises(InvalidArgumentError, match="each of members needs the name of a dataset, got {'root': 'x'}"):
        Unified(label_set="Street", members=[{"root": "x"}])
    with pytest.raises(InvalidArgumentError, match="each of members needs metadata"):
        unify("Street", [[1, 2]])
    joined = unify("Street", street)
    with pytest.raises(IndexError, match=rf"index {len(joined)} is out of range for {len(joined)} images"):
        joined[len(joined)]
