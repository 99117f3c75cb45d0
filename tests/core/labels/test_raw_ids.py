"""The label map that is guessed from the ids in masks."""

import pytest

from seg_core import IGNORE, LabelMap
from seg_core.labels.raw_ids import find_ids_fault, label_map_line, suggest_label_map


@pytest.mark.parametrize(
    ("ids", "num_classes", "expected"),
    [
        ({0, 255}, 2, {0: 0, 255: 1}),
        ({1, 255}, 2, {1: 1, 255: 0}),
        ({0, 100}, 2, {0: 0, 100: 1}),
        ({0, 128, 255}, 3, {0: 0, 128: 1, 255: 2}),
        ({0, 100, 255}, 2, {0: 0, 100: 1, 255: IGNORE}),
        ({0, 2}, 2, {0: 0, 2: 1}),
        ({0, 2, 255}, 2, {0: 0, 2: 1, 255: IGNORE}),
        ({0, 1, 3}, 3, {0: 0, 1: 1, 3: 2}),
        ({0, 1, 2, 4, 6}, 6, {0: IGNORE, **{raw: raw - 1 for raw in range(1, 7)}}),
        ({0, 85, 170, 255}, 4, {0: 0, 85: 1, 170: 2, 255: 3}),
        ({1, 2, 3}, 3, {1: 0, 2: 1, 3: 2}),
        ({1, 3, 255}, 3, {1: 0, 2: 1, 3: 2, 255: IGNORE}),  # 2 occurs in no mask
        ({0, 1, 2, 3}, 3, {0: IGNORE, 1: 0, 2: 1, 3: 2}),
        ({7, 11, 26}, 3, {7: 0, 11: 1, 26: 2}),
    ],
)
def test_ids_with_a_pattern_give_their_map(ids, num_classes, expected):
    assert suggest_label_map(ids, num_classes) == LabelMap(expected)


@pytest.mark.parametrize(
    ("ids", "num_classes"),
    [
        ({0, 1, 2}, 3),
        ({0, 1, 255}, 2),
        ({0}, 2),
        ({255}, 2),
        (set(), 2),
        ({0, 1}, 1),
        ({0, 255}, 1),
        ({0, 255}, 3),
        ({0, 9}, 3),
        ({5, 9, 11}, 2),
    ],
)
def test_class_ids_and_ids_without_a_pattern_give_none(ids, num_classes):
    assert suggest_label_map(ids, num_classes) is None


def test_another_ignored_value_is_respected():
    assert suggest_label_map({0, 7}, 2, ignore_index=7) == LabelMap({0: 0, 7: 1}, ignore_index=7)
    assert suggest_label_map({0, 255}, 2, ignore_index=7) == LabelMap({0: 0, 255: 1}, ignore_index=7)


def test_line_is_that_of_a_config():
    assert label_map_line(LabelMap({0: IGNORE, 1: 0, 255: IGNORE})) == (
        'label_map = { 0 = "ignore", 1 = 0, 255 = "ignore" }'
    )


@pytest.mark.parametrize(
    ("ids", "num_classes", "kind"),
    [
        ({255}, 3, "all-ignored"),
        ({0, 255}, 2, "binary-0-255"),
        ({0, 255}, 5, "binary-0-255"),
        ({1, 255}, 2, "class-absent"),
        ({1, 2, 3}, 3, "off-by-one"),
        ({0, 1, 2, 3, 255}, 3, "off-by-one"),
        ({0, 128, 255}, 3, "id-out-of-range"),
        ({0, 77}, 3, "id-out-of-range"),
    ],
)
def test_faults_of_ids_have_the_kinds_of_the_doctor_and_the_map_that_mends_them(ids, num_classes, kind):
    fault = find_ids_fault(ids, num_classes)
    assert fault.kind == kind
    assert fault.label_map == suggest_label_map(ids, num_classes)


@pytest.mark.parametrize(("ids", "num_classes"), [({0, 1}, 2), ({0, 1, 255}, 3), ({0, 255}, 1), ({0}, 3), (set(), 2)])
def test_class_ids_have_no_fault(ids, num_classes):
    assert find_ids_fault(ids, num_classes) is None
