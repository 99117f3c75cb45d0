"""The examples in the docstrings of all packages run and give the results they show."""

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parent.parent / "packages"


def modules_with_examples():
    for source in sorted(PACKAGES.glob("seg-*/src")):
        for file in sorted(source.rglob("*.py")):
            if ">>> " in file.read_text(encoding="utf-8"):
                yield ".".join(file.relative_to(source).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_examples_give_what_they_show(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed
