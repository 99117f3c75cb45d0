import pytest

from tests.docs.workplace import make_workplace


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The current folder, with the files that pages name."""
    monkeypatch.chdir(tmp_path)
    make_workplace(tmp_path)
    return tmp_path
