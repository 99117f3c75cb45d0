"""Matching of classes of two label sets by name."""

import itertools

from seg_core.labels.metadata import resolve_metadata
from seg_models.pretrained.class_names import SYNONYMS, matching_classes


def names(label_set):
    return resolve_metadata(label_set).labels


def matched(wanted, known):
    return {wanted[a]: known[b] for a, b in matching_classes(wanted, known).items()}


def test_same_names_match_whatever_their_writing():
    assert matched(["Dining-Table", "SKY", "x"], ["sky", "diningtable"]) == {
        "Dining-Table": "diningtable",
        "SKY": "sky",
    }


def test_synonyms_match_and_equal_names_come_first():
    assert matched(["motorcycle"], ["minibike", "motorbike"]) == {"motorcycle": "minibike"}
    assert matched(["motorbike"], ["minibike", "motorbike"]) == {"motorbike": "motorbike"}


def test_every_class_of_a_label_set_is_itself():
    for label_set in ("ADE20K", "COCOStuff", "CityscapesClass", "VOC", "CamVid", "LoveDA", "PascalContext"):
        found = matching_classes(names(label_set), names(label_set))
        assert found == {index: index for index in range(len(names(label_set)))}


def test_known_pairs_of_label_sets():
    found = matched(names("CamVid"), names("CityscapesClass"))
    assert found["Car"] == "car"
    assert found["Pavement"] == "sidewalk"
    assert found["Pedestrian"] == "person"
    assert found["Bicyclist"] == "rider"
    found = matched(names("VOC"), names("ADE20K"))
    assert found["aeroplane"] == "airplane"
    assert "background" not in found


def test_a_name_has_one_meaning():
    groups = [{name.replace(" ", "") for name in names} for names in SYNONYMS]
    assert not any(one & other for one, other in itertools.combinations(groups, 2))
