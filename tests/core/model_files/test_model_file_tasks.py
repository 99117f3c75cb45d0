import numpy as np
import pytest
import torch
from torch import nn

from seg_core import BuildSpec, DatasetMetadata, Preprocessing, load_model, read_model_info, save_model
from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.model_files.digest import digest_of
from seg_core.registry import MODELS

VESSELS = DatasetMetadata("vessels", ("vessel",), task="binary")
PARTS = DatasetMetadata("parts", ("a", "b", "c"), task="multilabel")
CLASSES = DatasetMetadata("parts", ("a", "b", "c"))


class Point(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, 1)

    def forward(self, images):
        return {"out": self.conv(images)}


def point(*, weights=None, variant=None, num_classes=1):
    model = Point(num_classes)
    model.build_spec = BuildSpec("point", variant or "paper", {"num_classes": num_classes})
    return model


@pytest.fixture(autouse=True)
def registered():
    MODELS.register("point", point)


def saved(path, metadata, **options):
    network = point(num_classes=metadata.num_classes)
    save_model(network, path, metadata=metadata, preprocessing=Preprocessing(), **options)
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("metadata", "given", "kept"),
    [
        (VESSELS, None, (0.5,)),
        (VESSELS, 0.3, (0.3,)),
        (VESSELS, [0.25], (0.25,)),
        (PARTS, 0.4, (0.4, 0.4, 0.4)),
        (PARTS, (0.1, 0.2, np.float64(0.3)), (0.1, 0.2, 0.3)),
    ],
)
def test_a_file_keeps_task_and_thresholds(tmp_path, metadata, given, kept):
    content = saved(tmp_path / "m.pt", metadata, thresholds=given)
    info = read_model_info(tmp_path / "m.pt")
    assert content["thresholds"] == list(kept)
    assert info.thresholds == kept
    assert info.metadata == metadata
    assert load_model(tmp_path / "m.pt").model_info.thresholds == kept


def test_a_multiclass_file_has_no_thresholds(tmp_path):
    assert "thresholds" not in saved(tmp_path / "m.pt", CLASSES)
    assert read_model_info(tmp_path / "m.pt").thresholds is None


def test_a_file_without_thresholds_has_the_default(tmp_path):
    content = saved(tmp_path / "m.pt", PARTS, thresholds=0.2)
    del content["thresholds"], content["digest"]
    content["digest"] = digest_of(content)
    torch.save(content, tmp_path / "m.pt")
    assert read_model_info(tmp_path / "m.pt").thresholds == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("wrong", [[0.5], [0.1, 0.2, 1.0], "0.5", 0.5, [True, 0.5, 0.5], [0.1, 0.2, float("nan")]])
def test_wrong_thresholds_of_a_file_are_damage(tmp_path, wrong):
    content = saved(tmp_path / "m.pt", PARTS)
    content |= {"thresholds": wrong}
    del content["digest"]
    content["digest"] = digest_of(content)
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(CorruptFileError, match="thresholds"):
        read_model_info(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("metadata", "wrong"), [(VESSELS, 0), (VESSELS, [0.5, 0.5]), (PARTS, (0.5, 0.5)), (PARTS, 1.5), (CLASSES, 0.5)]
)
def test_thresholds_that_are_not_allowed(tmp_path, metadata, wrong):
    with pytest.raises(InvalidArgumentError, match="thresholds"):
        saved(tmp_path / "m.pt", metadata, thresholds=wrong)
    assert not (tmp_path / "m.pt").exists()


def test_one_class_is_enough_for_a_binary_task_alone(tmp_path):
    with pytest.raises(InvalidArgumentError, match='task="binary"'):
        saved(tmp_path / "m.pt", DatasetMetadata("vessels", ("vessel",)))
    network = point(num_classes=2)
    with pytest.raises(InvalidArgumentError, match="has 1 class but the model was built with num_classes=2"):
        save_model(network, tmp_path / "m.pt", metadata=VESSELS, preprocessing=Preprocessing())
