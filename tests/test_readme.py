"""The README tells the truth: its examples run as they stand, its links lead somewhere."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# (heading above the example, its code)
EXAMPLES = re.findall(r"^### (.+?)\n(?:(?!^#).)*?```python\n(.*?)```", README, flags=re.MULTILINE | re.DOTALL)


def make_own_data(folder):
    """What the README asks of a user's own folder: pictures, and masks of the same names that hold class ids."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(10):
        Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(folder / "images" / f"{index}.jpg")
        Image.fromarray(rng.integers(0, 2, (64, 80), dtype=np.uint8)).save(folder / "masks" / f"{index}.png")


def test_every_example_of_the_readme_is_found():
    assert len(EXAMPLES) == README.count("```python") >= 5


@pytest.mark.parametrize(("heading", "code"), EXAMPLES, ids=[heading for heading, _ in EXAMPLES])
def test_example_runs_as_it_stands(heading, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_own_data(tmp_path / "my_data")
    exec(compile(code, f"README.md, {heading}", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_relative_links_and_config_paths_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    paths = re.findall(r"\b(?:examples|packages|tests)/[\w./-]+\.(?:toml|py|json)", text)
    missing = [target for target in {*links, *paths} if not (ROOT / target).exists()]
    assert not missing
