import subprocess
import sys

import pytest

import seg_train
from seg_core.registry import LOSSES, OPTIMIZERS, SCHEDULERS
from seg_train._exports import EXPORTS


def test_import_loads_nothing_heavy():
    code = (
        "import sys, seg_train, seg_train.catalog; heavy = {'torch', 'accelerate', 'pydantic', 'rich', 'matplotlib', "
        "'torchvision'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_needs_neither_models_nor_datasets_package():
    code = (
        "import sys, seg_train.run.trainer, seg_train.commands.train, seg_train.run.evaluate; "
        "sys.exit(any(n.startswith(('seg_models', 'seg_datasets')) for n in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", EXPORTS)
def test_public_name_resolves(name):
    assert getattr(seg_train, name).__name__ == name
    assert name in seg_train.__all__


@pytest.mark.parametrize("registry", [LOSSES, OPTIMIZERS, SCHEDULERS], ids=lambda r: r.noun)
def test_every_catalog_name_resolves(registry):
    own = [name for name in registry if registry.origin(name) == "seg-train"]
    assert own
    assert all(registry.get(name).__name__ == name for name in own)
