import importlib.metadata
import platform
import sys
import types

import torch

import seg_core
from seg_core.versions import installed_versions


def test_default_has_python_torch_and_the_packages_that_are_installed():
    found = installed_versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == str(torch.__version__)
    assert found["seg-core"] == seg_core.__version__
    assert all(isinstance(value, str) for value in found.values())


def test_names_that_are_not_installed_are_left_out():
    assert installed_versions("no-such-package", "pillow") == {"pillow": importlib.metadata.version("pillow")}


def test_package_that_is_imported_but_not_installed_states_its_own_version(monkeypatch):
    monkeypatch.setitem(sys.modules, "seg_elsewhere", types.SimpleNamespace(__version__="1.2"))
    assert installed_versions("seg-elsewhere") == {"seg-elsewhere": "1.2"}
