"""The READMEs tell the truth: their examples run as printed, their links and counts are right.

The pages of docs/ are run by tests/docs.
"""

import re
import runpy
from pathlib import Path

import pytest

from seg_models.catalog import BACKBONES, MODELS
from tests.docs.workplace import make_workplace

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md"))]
TABLES = runpy.run_path(str(ROOT / "scripts" / "write_dataset_table.py"))


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def find_examples(page):
    """All Python examples of a page, with the heading above each."""
    heading = ""
    for part in re.finditer(
        r"^#+ (?P<heading>[^\n]+)$|^```python\n(?P<code>.*?)^```$", page.read_text("utf-8"), re.M | re.S
    ):
        heading = part["heading"] or heading
        if part["code"]:
            yield pytest.param(page, part["code"], id=f"{name_of(page)}: {heading}")


EXAMPLES = [example for page in PAGES for example in find_examples(page)]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The current folder, with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    make_workplace(tmp_path)


def test_every_example_is_found():
    assert len(EXAMPLES) == sum(page.read_text("utf-8").count("```python") for page in PAGES) >= 5


@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_example_runs_as_printed(page, code, workplace):
    # the one value that only the reader knows
    code = code.replace("path/to/clone", ROOT.as_posix())
    exec(compile(code, str(page), "exec"), {"__name__": "__main__"})


PAGES_BESIDE = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")]
LINKED = [*PAGES, *PAGES_BESIDE, *sorted(ROOT.glob("docs/**/*.md"))]


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_relative_links_and_config_paths_exist(page):
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    paths = [ROOT / path for path in re.findall(r"\b(?:examples|packages|tests)/[\w./-]+\.(?:toml|py|json)", text)]
    missing = [target for target in {*links, *paths} if not target.exists()]
    assert not missing


@pytest.mark.parametrize("path", TABLES["TABLES"])
def test_table_is_that_of_the_catalogs(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    table = TABLES["TABLES"][path]()
    assert TABLES["with_table"](text, table) == text, "the table is old: hatch run dataset-table"


def test_readme_reads_in_two_minutes_and_begins_with_the_license():
    text = PAGES[0].read_text(encoding="utf-8")
    assert "MIT license" in " ".join(text.splitlines()[:5])
    prose = re.sub(r"^```.*?^```$|^ {4}[^\n]*$|<!--.*?-->|\]\([^)]*\)", "", text, flags=re.M | re.S)
    assert len(prose.split()) <= 700


def test_readme_says_where_it_was_never_run():
    text = " ".join(PAGES[0].read_text(encoding="utf-8").split())
    assert "It has never been run on Windows, macOS or Apple's GPUs (MPS)." in text


def test_figure_of_the_readme_is_a_small_file():
    (figure,) = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", PAGES[0].read_text(encoding="utf-8"))
    assert (ROOT / figure).stat().st_size < 150_000


def test_first_prediction_of_the_readme_names_the_file_that_is_downloaded():
    text = PAGES[0].read_text(encoding="utf-8")
    (model,) = re.findall(r"^ {4}seg predict \S+ --model (\w+) ", text, re.M)
    weights = MODELS[model].weights[MODELS[model].default_weights]
    assert f"`{weights.url.rpartition('/')[2]}`" in text
    assert weights.url.split("/")[2] in text
    # it is read as it is, and its hash is published
    assert weights.hash and "note" not in weights.meta


def test_numbers_beside_the_peers_are_those_of_the_catalogs():
    text = PAGES[0].read_text(encoding="utf-8")
    families = {entry.family for entry in MODELS.values()}
    assert f"| networks | {len(families)} |" in text
    assert f"| backbones | {len(BACKBONES)}, timm's |" in text
