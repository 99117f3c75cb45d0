"""What the tests of seg_models share."""

import importlib.util
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def fidelity():
    """The module `fidelity.py` in this folder; pytest's importlib mode does not put test folders on the path."""
    spec = importlib.util.spec_from_file_location("fidelity", FOLDER / "fidelity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def expected():
    """Reads a file of tests/expected."""

    def read(name):
        return json.loads((FOLDER.parent / "expected" / name).read_text(encoding="utf-8"))

    return read


@pytest.fixture
def shades():
    """A network of three classes whose labels are known: 0 where an image is dark, 2 where it is bright, else 1."""
    import torch

    from seg_core.labels.metadata import DatasetMetadata
    from seg_core.model_files.build_spec import BuildSpec
    from seg_core.model_files.reading import ModelInfo
    from seg_core.transforms.preprocessing import Preprocessing

    class Shades(torch.nn.Module):
        build_spec = BuildSpec("shades", "paper", {"num_classes": 3})
        model_info = ModelInfo(
            build_spec,
            DatasetMetadata("shades", ("dark", "middle", "bright"), ((0, 0, 200), (0, 200, 0), (200, 0, 0))),
            Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3),
        )

        def forward_logits(self, images):
            assert images.dtype == torch.float32
            assert not self.training
            value = images.mean(1)  # -1 to 1
            return {"out": torch.stack([-value, 0.5 - value.abs(), value], 1)}

        def forward(self, images):
            return self.forward_logits(images)

    return Shades()
