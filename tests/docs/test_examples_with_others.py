"""The examples with other libraries train our networks; `hatch run friends:test` runs them."""

import importlib.util
import warnings
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = [
    pytest.mark.docs,
    # what the other libraries warn of is theirs
    pytest.mark.filterwarnings("default"),
]


def example(name, library):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(library)
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_network_and_loss_learn_in_lightning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert example("with_lightning", "lightning").train("fast_scnn", steps=96) > 0.5


def test_network_learns_from_images_of_albumentations(monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks a server at import
    assert example("with_albumentations", "albumentations").train("fast_scnn", steps=96) > 0.4


def test_torchmetrics_gives_the_same_iou_per_class():
    module = example("with_torchmetrics", "torchmetrics")
    from seg_core import seed
    from seg_models import get_model

    seed(0)
    scores = module.score(get_model("fast_scnn", num_classes=9), length=8)
    assert len(scores["seg"]) == 9 and max(scores["seg"]) > 0
    assert scores["torchmetrics"] == pytest.approx(scores["seg"], abs=1e-5)
