import fractions
import inspect
import sys
import types

import pytest

from seg_core.lazy import attach, stub_text

EXPORTS = {"Fraction": "fractions:Fraction", "sqrt": "math:sqrt", "cosine": "math:cos"}


@pytest.fixture
def package(monkeypatch):
    module = types.ModuleType("lazy_example")
    monkeypatch.setitem(sys.modules, "lazy_example", module)
    module.__getattr__, module.__dir__, module.__all__ = attach("lazy_example", EXPORTS)
    return module


def test_attach_name_is_imported_on_use_and_kept(package):
    import math

    assert "cosine" not in vars(package)
    assert package.cosine is math.cos
    assert vars(package)["cosine"] is math.cos


def test_attach_unknown_name_raises_attribute_error(package):
    with pytest.raises(AttributeError, match="module 'lazy_example' has no attribute 'tangent'"):
        package.tangent  # noqa: B018 - the access is what is tested


def test_attach_lists_all_names(package):
    assert package.__all__ == ["__version__", "Fraction", "cosine", "sqrt"]
    assert set(EXPORTS) <= set(dir(package))


def test_stub_text_is_python_that_names_everything():
    text = stub_text("math", EXPORTS)
    compile(text, "stub", "exec")
    assert "from fractions import Fraction as Fraction" in text
    assert "    cos as cosine,\n    sqrt as sqrt,\n" in text


def test_stub_text_defines_what_has_a_signature_written_at_run_time(monkeypatch):
    def plain(**arguments):
        return arguments

    size = inspect.Parameter("size", inspect.Parameter.KEYWORD_ONLY, default=8, annotation=fractions.Fraction | None)
    plain.__signature__ = inspect.Signature([size], return_annotation=int)
    monkeypatch.setattr(fractions, "plain", plain, raising=False)
    text = stub_text("math", {**EXPORTS, "plain": "fractions:plain"})
    compile(text, "stub", "exec")
    assert "import fractions\n" in text
    assert "def plain(*, size: fractions.Fraction | None = 8) -> int: ...\n" in text
    assert "plain as plain" not in text
