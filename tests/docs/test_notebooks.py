"""The notebooks run from top to bottom, and their pages show their code. `hatch run docs:test` runs all of them."""

import json
import re
import runpy
from pathlib import Path

import pytest

from tests.docs.blocks import find_blocks

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "write_notebook_pages.py"))
ORDER = SCRIPT["ORDER"]
ALWAYS = "hub"  # the fastest; the others on demand


def notebook(name):
    return ROOT / "examples" / "notebooks" / f"{name}.ipynb"


def test_every_notebook_has_its_place():
    assert sorted(ORDER) == sorted(path.stem for path in (ROOT / "examples" / "notebooks").glob("*.ipynb"))
    pages = {path.stem for path in (ROOT / "docs" / "notebooks").glob("*.md")}
    assert pages == {*ORDER, "index"}


@pytest.mark.parametrize("name", ORDER)
def test_notebook_is_stored_without_outputs(name):
    content = json.loads(notebook(name).read_text("utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("name", ORDER)
def test_page_has_the_cells_of_the_notebook(name):
    page = (ROOT / "docs" / "notebooks" / f"{name}.md").read_text("utf-8")
    cells = SCRIPT["read_cells"](notebook(name))
    code = [text + "\n" for kind, text in cells if kind == "code"]
    assert [block.code for block in find_blocks(page) if block.language == "python"] == code, "hatch run notebook-pages"
    place = 0
    for kind, text in cells:
        if kind == "markdown":
            place = page.index(text, place) + len(text)
    images = re.findall(r"\]\(\.\./images/notebooks/([^)]+)\)", page)
    folder = ROOT / "docs" / "images" / "notebooks"
    assert sorted(images) == sorted(path.name for path in folder.glob(f"{name}-*.png"))
    assert all((folder / image).stat().st_size <= 60_000 for image in images)


def test_index_lists_the_notebooks():
    assert (ROOT / "docs" / "notebooks" / "index.md").read_text("utf-8") == SCRIPT["index_page"]()


@pytest.mark.parametrize(
    "name", [name if name == ALWAYS else pytest.param(name, marks=pytest.mark.docs) for name in ORDER]
)
def test_notebook_runs(name, tmp_path):
    outputs = SCRIPT["run_notebook"](notebook(name), tmp_path)
    cells = SCRIPT["read_cells"](notebook(name))
    assert sorted(outputs) == [number for number, (kind, _) in enumerate(cells) if kind == "code"]
    page = SCRIPT["page_of"](name, outputs)
    shown = (ROOT / "docs" / "notebooks" / f"{name}.md").read_text("utf-8")
    # numbers of a training differ between machines; what is shown, and how many lines, does not
    assert [(block.language, block.code.count("\n")) for block in find_blocks(page)] == [
        (block.language, block.code.count("\n")) for block in find_blocks(shown)
    ]
    assert re.findall(r"\]\(\.\./images[^)]*\)", page) == re.findall(r"\]\(\.\./images[^)]*\)", shown)


def test_a_cell_that_fails_is_told(tmp_path):
    cells = [{"cell_type": "code", "id": "a", "metadata": {}, "source": ["x = 1\n", "print(y)"]}]
    path = tmp_path / "wrong.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    with pytest.raises(SystemExit, match=r"(?s)wrong\.ipynb fails.*cell 0.*line 2.*name 'y' is not defined"):
        SCRIPT["run_notebook"](path, tmp_path / "place")
