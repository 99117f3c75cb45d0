"""The READMEs tell the truth: their examples run as they stand, their links lead somewhere."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_core import Preprocessing, resolve_metadata, save_model
from seg_models import get_model

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md"))]
PAGES += [ROOT / "docs" / "inference.md", ROOT / "docs" / "training.md"]


def find_examples(page):
    """All Python examples of a page, with the heading above each."""
    heading = ""
    for part in re.finditer(
        r"^#+ (?P<heading>[^\n]+)$|^```python\n(?P<code>.*?)^```$", page.read_text("utf-8"), re.M | re.S
    ):
        heading = part["heading"] or heading
        if part["code"]:
            yield pytest.param(page, part["code"], id=f"{page.parent.name}/{page.stem}: {heading}")


EXAMPLES = [example for page in PAGES for example in find_examples(page)]


def make_own_data(folder):
    """What the README asks of a user's own folder: images, and masks of the same names that hold class ids."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(10):
        Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(folder / "images" / f"{index}.jpg")
        Image.fromarray(rng.integers(0, 2, (64, 80), dtype=np.uint8)).save(folder / "masks" / f"{index}.png")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder that holds what the pages speak of."""
    monkeypatch.chdir(tmp_path)
    make_own_data(tmp_path / "my_data")
    (tmp_path / "images").mkdir()
    for name in ("street.jpg", "images/a.png", "town.tif"):
        Image.new("RGB", (64, 48), "gray").save(tmp_path / name)
    metadata = resolve_metadata("Shapes")
    model = get_model("enet", num_classes=metadata.num_classes)
    save_model(model, tmp_path / "runs" / "shapes" / "model.pt", metadata=metadata, preprocessing=Preprocessing())


def test_every_example_is_found():
    assert len(EXAMPLES) == sum(page.read_text("utf-8").count("```python") for page in PAGES) > 8


@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_example_runs_as_it_stands(page, code, workplace):
    # the one thing that only the reader knows
    code = code.replace("path/to/clone", ROOT.as_posix())
    exec(compile(code, str(page), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "benchmarks/README.md",
        "docs/config.md",
        "docs/inference.md",
        "docs/losses.md",
        "docs/performance.md",
        "docs/training.md",
        "packages/seg-train/README.md",
    ],
)
def test_relative_links_and_config_paths_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [(ROOT / page).parent / link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    paths = [ROOT / path for path in re.findall(r"\b(?:examples|packages|tests)/[\w./-]+\.(?:toml|py|json)", text)]
    missing = [target for target in {*links, *paths} if not target.exists()]
    assert not missing


@pytest.mark.parametrize("page", [PAGES[0], ROOT / "packages" / "seg-datasets" / "README.md"])
def test_table_of_data_sets_is_that_of_the_catalog(page):
    script = runpy.run_path(str(ROOT / "scripts" / "write_dataset_table.py"))
    text = page.read_text(encoding="utf-8")
    assert script["with_table"](text) == text, "the table is old: hatch run dataset-table"
