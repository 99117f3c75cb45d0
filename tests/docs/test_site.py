"""The site: generated pages are those of the catalogs, every page is in the navigation, and search finds the words."""

import importlib
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "write_site_pages.py"))
CHECK = runpy.run_path(str(ROOT / "scripts" / "check_site.py"))["check"]
WRITTEN = SCRIPT["pages"]()


@pytest.mark.parametrize("name", WRITTEN)
def test_page_is_what_the_script_writes(name):
    assert (ROOT / name).read_text("utf-8") == WRITTEN[name], "the page is old: hatch run site-pages"


def test_no_page_of_the_reference_is_left_over():
    there = {path.relative_to(ROOT).as_posix() for path in (DOCS / "reference").rglob("*.md")}
    assert there == {name for name in WRITTEN if name.startswith("docs/reference/")}


def test_every_public_name_is_in_the_reference():
    for package, rooms in SCRIPT["ROOMS"].items():
        exports = importlib.import_module(f"{package}._exports").EXPORTS
        listed = {name for room in rooms if room != "networks" for name, _ in SCRIPT["names_of"](package, room)}
        missing = {
            name
            for name, target in exports.items()
            if target.startswith(f"{package}.")
            and SCRIPT["room_of"](package, target.partition(":")[0]) not in (None, "networks")
            and name not in listed
        }
        assert not missing


def test_every_page_is_in_the_navigation_once():
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    named = re.findall(r"[\w/.-]+\.md", navigation)
    pages = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    assert sorted(named) == pages


@pytest.mark.parametrize(
    "words",
    ["crop", "resize", "freeze", "fine-tune", "pretrained", "multi-label", "onnx", "class imbalance", "out of memory"],
)
def test_words_that_users_look_for_are_in_a_title_or_a_heading(words):
    headings = [
        line.lower()
        for path in DOCS.rglob("*.md")
        for line in path.read_text("utf-8").splitlines()
        if line.startswith("#")
    ]
    assert any(words in heading for heading in headings)


def test_numbers_of_the_evaluation_page_are_those_of_the_other_libraries():
    """A note of what they printed for the tensors of the page; where one is installed, it is asked again."""
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("torchmetrics.segmentation")
    truth = torch.zeros(2, 60, 80, dtype=torch.long)
    truth[:, :, 40:] = 1
    truth[1, 20:50, 10:30] = 2
    prediction = truth.clone()
    prediction[0, :, 36:40] = 1
    prediction[1, :, 40:48] = 0
    prediction[1, 20:30, 10:30] = 0
    assert round(float(metrics.MeanIoU(num_classes=4, input_format="index")(prediction, truth)), 3) == 0.8


def test_check_of_the_built_site_finds_dead_links_anchors_and_other_servers(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text('<h2 id="here">x</h2><a href="#here">x</a><a href="../b.png">x</a>')
    (tmp_path / "index.html").write_text(
        '<a href="a/#here">x</a><a href="a/#gone">x</a><a href="c/">x</a><a href="https://example.org/x">x</a>'
        '<script src="https://example.org/x.js"></script><link rel="canonical" href="https://example.org/">'
    )
    assert CHECK(tmp_path) == [
        "a/index.html: leads nowhere: ../b.png",
        "index.html: asks another server: https://example.org/x.js",
        "index.html: no such anchor: a/#gone",
        "index.html: leads nowhere: c/",
    ]
