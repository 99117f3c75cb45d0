"""The examples in docstrings run and give the results that they show."""

import doctest
import importlib
from pathlib import Path

import pytest

from seg_core.errors import MissingDependencyError

PACKAGES = Path(__file__).resolve().parent.parent / "packages"


def modules_with_examples():
    """Returns the names of all modules with `>>>` in them."""
    return sorted(
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        for source in PACKAGES.glob("*/src")
        for path in source.rglob("*.py")
        if ">>> " in path.read_text(encoding="utf-8")
    )


def test_modules_with_examples_are_found():
    assert "seg_train.losses.deep_supervision" in modules_with_examples()


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_give_what_they_show(name):
    try:
        module = importlib.import_module(name)
    except MissingDependencyError as error:
        pytest.skip(str(error))  # an extra that is not installed
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
