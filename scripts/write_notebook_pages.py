"""Runs the notebooks of examples/notebooks, and writes docs/notebooks/ from them: text, code, and what the cells gave.

Notebooks are stored without outputs, so that a change shows as a change of code. Each runs in a process and a folder of
its own, two folders below links to hubconf.py and packages/, as in the repository. Name notebooks to write only theirs.
"""

import argparse
import ast
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "examples" / "notebooks"
PAGES = ROOT / "docs" / "notebooks"
IMAGES = ROOT / "docs" / "images" / "notebooks"
# as in the navigation
ORDER = ["hub", "training_loop", "train_config", "config", "inference", "evaluation", "fine_tuning", "own_data"]
_LIMIT = 60_000  # bytes of an image
_LINES = 40  # of what a cell prints, on the page

Cells = list[tuple[str, str]]
Outputs = dict[int, tuple[str, str | None]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"notebooks, of {', '.join(ORDER)} (default: all)")
    parser.add_argument("--cells-of", type=Path, help=argparse.SUPPRESS)  # how this script calls itself
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cells_of:
        run_cells(arguments.cells_of, arguments.out)
        return 0
    PAGES.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or ORDER:
        with tempfile.TemporaryDirectory() as folder:
            outputs = run_notebook(NOTEBOOKS / f"{name}.ipynb", Path(folder))
            for old in IMAGES.glob(f"{name}-*.png"):
                old.unlink()
            for number, (_, image) in outputs.items():
                if image is not None:
                    shrink(Path(image), IMAGES / f"{name}-{number}.png")
            page = page_of(name, outputs)
        (PAGES / f"{name}.md").write_text(page, encoding="utf-8")
        print(f"wrote docs/notebooks/{name}.md")
    (PAGES / "index.md").write_text(index_page(), encoding="utf-8")
    return 0


def read_cells(notebook: Path) -> Cells:
    """Returns kind ("markdown" or "code") and text of each cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


# ---- running ---------------------------------------------------------------------------------------------------------


def run_notebook(notebook: Path, folder: Path) -> Outputs:
    """Runs all code cells in a process of their own; returns, by number of the cell, what it printed and its image.

    Raises:
        SystemExit: if a cell fails; the message is Python's.
    """
    place = folder / "examples" / "notebooks"
    place.mkdir(parents=True)
    for entry in ("hubconf.py", "packages"):
        (folder / entry).symlink_to(ROOT / entry)
    out = folder / "outputs"
    out.mkdir()
    environment = {**os.environ, "MPLBACKEND": "Agg", "SEG_OFFLINE": "1", "COLUMNS": "100"}
    command = [sys.executable, "-W", "error::UserWarning", __file__, "--cells-of", str(notebook), "--out", str(out)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise SystemExit(f"{notebook.name} fails:\n{done.stdout}\n{done.stderr}")
    found = json.loads((out / "outputs.json").read_text(encoding="utf-8"))
    return {int(number): (text, image) for number, (text, image) in found.items()}


def run_cells(notebook: Path, out: Path) -> None:
    """Runs the code cells in this process, as a kernel does: all share their names, a last expression is shown."""
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = {}
    for number, (kind, code) in enumerate(read_cells(notebook)):
        if kind != "code":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            shown = run_cell(code, f"{notebook.name}, cell {number}", names)
        image = None
        if hasattr(shown, "_repr_png_"):  # an image of PIL
            image = str(out / f"{number}.png")
            Path(image).write_bytes(shown._repr_png_())
        elif shown is not None:
            print(repr(shown), file=printed)
        outputs[number] = (printed.getvalue(), image)
    (out / "outputs.json").write_text(json.dumps(outputs), encoding="utf-8")


def run_cell(code: str, title: str, names: dict[str, Any]) -> Any:
    """Runs one cell and returns the value of its last line if that is an expression, else None."""
    tree = ast.parse(code, title)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, title, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), title, "eval"), names)


# ---- pages -----------------------------------------------------------------------------------------------------------


def shrink(source: Path, target: Path) -> None:
    """Writes a small PNG: as it is, or with a palette that keeps rare colors, as those of a legend are."""
    from PIL import Image

    with Image.open(source) as image:
        colors = image.convert("RGB")
    for count in (0, 256, 128, 64):
        reduced = colors.quantize(count, Image.Quantize.MAXCOVERAGE) if count else colors
        reduced.save(target, optimize=True)
        if target.stat().st_size <= _LIMIT:
            return
    raise SystemExit(f"{target.name} has {target.stat().st_size} bytes; show a smaller image")


def page_of(name: str, outputs: Outputs) -> str:
    """Returns the page: text, code, and what the code gave."""
    parts = []
    for number, (kind, text) in enumerate(read_cells(NOTEBOOKS / f"{name}.ipynb")):
        if kind == "markdown":
            parts.append(text)
            if number == 0:
                parts.append(f"*The notebook: `examples/notebooks/{name}.ipynb`.*")
            continue
        parts.append(f"```python\n{text}\n```")
        printed, image = outputs[number]
        if printed.strip():
            lines = printed.rstrip().split("\n")
            kept = lines if len(lines) <= _LINES else [*lines[:_LINES], f"... {len(lines) - _LINES} more lines"]
            parts.append("```text\n" + "\n".join(line.rstrip() for line in kept) + "\n```")
        if image is not None:
            parts.append(f"![What the cell shows](../images/notebooks/{name}-{number}.png)")
    return "\n\n".join(parts) + "\n"


def index_page() -> str:
    """Returns the page that lists the notebooks."""
    lines = [
        "# Notebooks",
        "",
        "Each runs in under a minute on a CPU, with data that is embedded or written by the notebook. Nothing is "
        "downloaded. They lie in `examples/notebooks`; these pages show what they gave.",
        "",
        "| notebook | what it shows |",
        "|---|---|",
    ]
    for name in ORDER:
        title, *rest = read_cells(NOTEBOOKS / f"{name}.ipynb")[0][1].split("\n\n")
        first = re.split(r"(?<=[.])\s", " ".join(" ".join(rest).split()), maxsplit=1)[0]
        lines.append(f"| [{title.removeprefix('# ')}]({name}.md) | {first} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
