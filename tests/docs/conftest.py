import sys

import pytest

from tests.docs.workplace import make_workplace


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The current folder, with the files that pages name; Python finds modules in it, as where a reader starts it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    make_workplace(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(f"{tmp_path}/"):
            del sys.modules[name]
