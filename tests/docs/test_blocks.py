"""The pages of docs/ tell the truth: what they show runs as printed, from top to bottom, in one folder.

`hatch run docs:test` runs all of it. `hatch test` checks how pages are written, and runs those without commands.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from seg_train.config.schema import all_keys
from tests.docs.blocks import LANGUAGES, find_blocks, without_blocks

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
# tables of a config in which every key is the user's, or that of what it names
OPEN = re.compile(r"(.*\.)?params(\..*)?|log\..*|criterion\.outputs\..*|imports|import_paths|extends")
# names of files, of the former keys that a page tells of, and of attributes in Python
NO_KEYS = {"model.pt", "model.pt2", "model.onnx", "model.onnx.json", "data.yaml", "data.transform.val.size"}
# files of other kinds that pages show parts of
CLASSES = {"labels", "colors", "channels", "ignore_index", "task"}


def name_of(page):
    return page.relative_to(DOCS).as_posix()


def runs(page):
    return [block for block in find_blocks(page.read_text("utf-8")) if block.runs]


def has_commands(page):
    return any(block.language == "sh" for block in runs(page))


# pages of notebooks are run by test_notebooks.py
WITH_CODE = [page for page in PAGES if runs(page) and page.parent.name != "notebooks"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_has_a_language_and_nothing_is_indented_code(page):
    text = page.read_text("utf-8")
    for block in find_blocks(text):
        assert block.language in LANGUAGES, f"line {block.line}: language {block.language!r}"
        assert block.not_run is None or block.language in ("python", "sh"), f"line {block.line}: nothing to run"
    lines = without_blocks(text)
    for number, line in enumerate(lines[1:], 2):
        # four spaces continue a list, or the text of an admonition or a tab
        if re.match(r" {4}\S", line) and not lines[number - 2]:
            above = next((one for one in reversed(lines[: number - 1]) if one and not one.startswith("    ")), "")
            assert re.match(r"\s*([-*]|\d+\.|!!!|\?\?\?|===) ?", above), f"line {number}: code without a fence: {line}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_toml_is_valid_and_its_keys_exist(page):
    for block in find_blocks(page.read_text("utf-8")):
        if block.language != "toml":
            continue
        tables = tomllib.loads(block.code)
        if CLASSES & tables.keys() or (block.title and not block.title.startswith(("run", "my_"))):
            continue
        unknown = [key for key in flat(tables) if not OPEN.fullmatch(key) and key not in known_keys()]
        assert not unknown, f"line {block.line}: {unknown}"


KEY = re.compile(
    r"`((?:model|data|criterion|optimizer|lr_scheduler|trainer|evaluation|paths)\.[a-z_]+(?:\.[a-z_]+)*)[` ]"
)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_of_configs_that_pages_name_exist(page):
    for number, line in enumerate(without_blocks(page.read_text("utf-8")), 1):
        # tables of other libraries have their keys in the first column
        cells = line.split("|")[2:] if line.startswith("|") and page.parent.name == "moving" else [line]
        for key in KEY.findall("|".join(cells)):
            assert key in known_keys() | NO_KEYS or OPEN.fullmatch(key), f"line {number}: {key}"


def known_keys():
    keys = set(all_keys())
    return keys | {key.rpartition(".")[0] for key in keys}


def flat(tables, prefix=""):
    for name, value in tables.items():
        key = prefix + name
        if isinstance(value, dict) and not OPEN.fullmatch(key) and any(k.startswith(key + ".") for k in all_keys()):
            yield from flat(value, key + ".")
        else:
            yield key


@pytest.mark.parametrize("page", [page for page in WITH_CODE if not has_commands(page)], ids=name_of)
def test_python_runs_as_printed(page, workplace):
    run_page(page, workplace)


@pytest.mark.docs
@pytest.mark.parametrize("page", [page for page in WITH_CODE if has_commands(page)], ids=name_of)
def test_commands_and_python_run_as_printed(page, workplace):
    run_page(page, workplace)


def run_page(page, folder):
    names = {"__name__": "__main__"}
    for block in find_blocks(page.read_text("utf-8")):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
        elif block.runs and block.language == "python":
            # the one value that only the reader knows
            code = "\n" * (block.line - 1) + block.code.replace("path/to/clone", ROOT.as_posix())
            exec(compile(code, str(page), "exec"), names)
        elif block.runs:
            run_commands(page, block, folder)


def run_commands(page, block, folder):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "SEG_OFFLINE": "1"}
    script = block.code.replace("path/to/clone", ROOT.as_posix())
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, f"{name_of(page)}, line {block.line}:\n{script}\n{done.stdout}\n{done.stderr}"


def test_block_parser_reads_titles_reasons_and_indentation():
    text = "- a\n\n    <!-- not run: needs a GPU -->\n    ```sh\n    a\n      b\n    ```\n\n"
    text += '```toml title="x.toml"\nc = 1\n```\n'
    shell, config = find_blocks(text)
    assert (shell.language, shell.code, shell.not_run, shell.runs) == ("sh", "a\n  b\n", "needs a GPU", False)
    assert (config.title, config.line, config.runs) == ("x.toml", 10, False)
    with pytest.raises(ValueError, match="not closed"):
        find_blocks("```sh\na\n")
    with pytest.raises(ValueError, match="only a language and a title"):
        find_blocks("```sh {.x}\na\n```\n")
