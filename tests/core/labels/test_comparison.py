import pytest

from seg_core import DatasetMetadata, list_label_sets, resolve_metadata
from seg_core.errors import InvalidArgumentError
from seg_core.labels.comparison import check_several_classes, difference_of_classes, family_of

THREE = DatasetMetadata("three", ("sky", "road", "car"))


def test_classes_of_the_same_names_do_not_differ_whatever_the_set_is_called():
    assert difference_of_classes(DatasetMetadata("other", THREE.labels), THREE) is None
    assert difference_of_classes(resolve_metadata("BDD100K"), resolve_metadata("CityscapesClass")) is None
    assert difference_of_classes(3, THREE) is None


@pytest.mark.parametrize(
    ("network", "dataset", "text"),
    [
        (
            DatasetMetadata("other", ("sky", "car", "road")),
            THREE,
            "the network (other) and the dataset (three) have 3 classes each, but class 1 is 'car' for the network and "
            "'road' in the dataset",
        ),
        (
            resolve_metadata("Cityscapes"),
            resolve_metadata("CityscapesClass"),
            "the network has 34 classes (Cityscapes) but the dataset 19 (CityscapesClass), and class 0 is 'unlabeled' "
            "for the network and 'road' in the dataset",
        ),
        (
            THREE,
            DatasetMetadata("more", (*THREE.labels, "bus")),
            "the network has 3 classes (three) but the dataset 4 (more), and class 3, 'bus', is missing for the "
            "network",
        ),
        (
            DatasetMetadata("more", (*THREE.labels, "bus")),
            THREE,
            "the network has 4 classes (more) but the dataset 3 (three), and class 3, 'bus', is missing in the dataset",
        ),
        (1, THREE, "the network has 1 class, which it predicts everywhere, but the dataset 3 (three)"),
        (5, THREE, "the network has 5 classes but the dataset 3 (three)"),
        (
            34,
            resolve_metadata("CityscapesClass"),
            "the network has 34 classes but the dataset 19 (CityscapesClass); Cityscapes has 34, and class 0 is "
            "'unlabeled' in Cityscapes and 'road' in the dataset",
        ),
        (
            15,
            resolve_metadata("iSAID"),
            "the network has 15 classes but the dataset 16 (iSAID); iSAID15 has 15, and class 0 is 'ship' in iSAID15 "
            "and 'background' in the dataset",
        ),
        # the name of one's own classes may begin as a known one does
        (11, DatasetMetadata("C", THREE.labels), "the network has 11 classes but the dataset 3 (C)"),
    ],
)
def test_difference_names_both_numbers_and_the_first_name_that_differs(network, dataset, text):
    assert difference_of_classes(network, dataset) == text


def test_one_class_is_an_error_that_says_what_to_write():
    with pytest.raises(InvalidArgumentError) as caught:
        check_several_classes(DatasetMetadata("mine", ('ro"ad',)))
    assert "mine has one class, 'ro\"ad', but at least two are needed" in str(caught.value)
    assert r'Beside labels = ["ro\"ad"] write task = "binary"' in str(caught.value)
    assert r'labels = ["background", "ro\"ad"], with the same masks' in str(caught.value)
    check_several_classes(THREE)
    check_several_classes(DatasetMetadata("mine", ("road",), task="binary"))
    check_several_classes(DatasetMetadata("mine", ("road",), task="multilabel"))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("CityscapesClass", "Cityscapes CityscapesBackground CityscapesCategory CityscapesCategory8 CityscapesClass"),
        ("Cityscapes", "Cityscapes CityscapesBackground CityscapesCategory CityscapesCategory8 CityscapesClass"),
        ("MapillaryVistas_v1.2", "MapillaryVistas MapillaryVistas_v1.2"),
        ("PascalContext60", "PascalContext PascalContext60"),
        ("COCOStuff", "COCOStuff COCOStuff27"),
        ("VOC", "VOC"),
        ("mine", ""),
    ],
)
def test_family_holds_the_label_sets_whose_names_begin_alike(name, family):
    assert [metadata.name for metadata in family_of(name)] == family.split()


def test_label_sets_are_related_as_the_docs_say():
    labels = {name: resolve_metadata(name).labels for name in list_label_sets()}
    assert len(labels["Cityscapes"]) == 34
    assert (labels["Cityscapes"].index("road"), labels["CityscapesClass"].index("road")) == (7, 0)
    assert set(labels["CityscapesClass"]) < set(labels["Cityscapes"])
    assert labels["CityscapesBackground"] == (*labels["CityscapesClass"], "background")
    assert labels["CityscapesCategory8"] == (*labels["CityscapesCategory"], "void")
    assert labels["PascalContext60"] == ("background", *labels["PascalContext"])
    assert labels["iSAID"] == ("background", *labels["iSAID15"])
    assert labels["VOC"] == labels["SBD"]
    assert labels["CityscapesClass"] == labels["BDD100K"] == labels["Street"]
