"""How shapes depend on the number of classes."""

import pytest
import torch

from seg_models.pretrained.class_axes import shapes_and_axes


def make(classes):
    return torch.nn.ModuleDict(
        {
            "quarter": torch.nn.Linear(3, max(classes // 4, 1), bias=False),
            "plain": torch.nn.Linear(3, classes, bias=False),
            "shuffled": torch.nn.Linear(3, 64 * classes, bias=False),
            "beside": torch.nn.Linear(classes + 5, 3, bias=False),
            "both": torch.nn.Linear(classes, classes, bias=False),
            "neither": torch.nn.Linear(3, 3, bias=False),
        }
    )


def test_number_of_classes_follows_from_any_length():
    _, axes = shapes_and_axes(make)
    assert "neither.weight" not in axes
    for name, length in {"quarter": 5, "plain": 20, "shuffled": 1280, "beside": 25}.items():
        assert axes[f"{name}.weight"].count(length) == pytest.approx(20)
    assert axes["both.weight"].dimension == -1


def test_rows_belong_to_classes_only_where_the_whole_axis_is_made_of_them():
    _, axes = shapes_and_axes(make)
    rows = {name.partition(".")[0]: axis.rows for name, axis in axes.items()}
    assert rows == {"quarter": None, "plain": 1, "shuffled": 64, "beside": None, "both": None}
    assert axes["shuffled.weight"].positions([2, 0]).tolist() == [*range(128, 192), *range(64)]
