"""Parameters and multiply-accumulates compared with the published ones, and the explanations of differences."""

import importlib.util
import inspect
import tomllib
from pathlib import Path

import pytest

import seg_models
from seg_core.registry import MODELS
from tests.models.networks import test_contract

ROOT = Path(__file__).parents[3]
FIGURES = tomllib.loads((ROOT / "tests" / "expected" / "published.toml").read_text(encoding="utf-8"))["figure"]


@pytest.mark.parametrize(
    "figure",
    [
        pytest.param(
            figure,
            id=f"{figure['model']}, {figure['by']}",
            marks=[] if figure["model"] in test_contract.DEFAULT else [pytest.mark.full],
        )
        for figure in FIGURES
    ],
)
def test_count_is_the_published_one_or_its_module_says_why_not(figure, fidelity):
    params, macs = fidelity.count(figure["model"], figure.get("size", [64, 64]), **figure["options"])
    differences = [abs(ours / figure[key] - 1) for key, ours in (("params", params), ("macs", macs)) if key in figure]
    assert differences
    if max(differences) > 0.01:
        module = inspect.getmodule(seg_models.get_model_builder(figure["model"]))
        assert figure["explained"] in " ".join(module.__doc__.split())
    else:
        assert "explained" not in figure


def test_page_has_every_model_with_its_facts_and_its_promises():
    spec = importlib.util.spec_from_file_location("write_model_tables", ROOT / "scripts" / "write_model_tables.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    names = [name for name in seg_models.list_models() if MODELS.origin(name) == "seg-models"]
    for name in names:
        assert "| " + " | ".join(script.facts(name)) + " |" in text, "the page is old: hatch run models"
        assert f"| `{name}` |" + " yes |" * len(script.PROMISES) in text
    promised = {name.removeprefix("test_") for name in vars(test_contract.TestContract) if name.startswith("test_")}
    assert promised == set(script.PROMISES)
