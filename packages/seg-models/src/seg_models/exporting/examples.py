"""Programs that run an exported ONNX file without torch: a Python script, and a folder with a web page."""

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from seg_core.errors import InvalidArgumentError
from seg_core.files.atomic import atomic_path, write_text
from seg_core.files.json_text import to_json
from seg_models.exporting.export import ExportReport

__all__ = ["Example", "ExampleKind", "check_examples", "write_example"]

ExampleKind = Literal["python", "web"]
"""Kind of an example."""

_FILES = resources.files("seg_models") / "exporting" / "example_files"
_MODEL_LINE = 'MODEL = "model.onnx"'
_SCRIPT_NAME = "run_model.py"


@dataclass(frozen=True)
class Example:
    """A program that was written.

    Attributes:
        path: the script, or the page.
        command: how to run it.
    """

    path: Path
    command: str


def write_example(report: ExportReport, kind: ExampleKind, ort_web: str | os.PathLike[str] | None = None) -> Example:
    """Writes a program that segments images by an exported ONNX file; an older one of its name is replaced.

    - `"python"`: a script beside the file, `run_model.py` for `model.onnx`. It needs onnxruntime, numpy and Pillow,
      reads an image and writes a PNG of ids with the colors of the classes.
    - `"web"`: a folder beside the file, `model_web` for `model.onnx`, with a page, a copy of the file and the files of
      onnxruntime-web. The page segments images in a browser, and asks for nothing outside its folder.

    Both read images of 8-bit colors.

    Args:
        report: of the exported file.
        kind: `"python"` or `"web"`.
        ort_web: folder of the unpacked npm package onnxruntime-web, or its folder `dist`, whose files the page needs;
            None writes the page alone, which then says how to get them.

    Raises:
        InvalidArgumentError: if the file is no ONNX file, its images have other channels, or an argument is not
            allowed.
        WriteError: if it cannot be written.
    """
    check_examples([kind], ort_web)
    if report.format != "onnx":
        raise InvalidArgumentError(f"examples run ONNX files, and {report.path} has the format {report.format}")
    channels = report.description.info.metadata.channels
    if not channels.is_rgb8:
        raise InvalidArgumentError(
            f"examples read images of 8-bit colors, and {report.path} is for the {channels}; run it by seg predict "
            f"--model {report.path}"
        )
    return _write_script(report.path) if kind == "python" else _write_page(report, ort_web)


def check_examples(kinds: list[ExampleKind], ort_web: str | os.PathLike[str] | None) -> None:
    """Checks arguments of `write_example`, before the time for an export is spent.

    Raises:
        InvalidArgumentError: if one is not allowed.
    """
    for kind in kinds:
        if kind not in get_args(ExampleKind):
            raise InvalidArgumentError(f"kind must be one of {', '.join(get_args(ExampleKind))}, got {kind!r}")
    if ort_web is not None:
        if "web" not in kinds:
            raise InvalidArgumentError(f'ort_web = {os.fspath(ort_web)!r} is for kind = "web"; leave it out')
        from seg_models.exporting.web_page import find_runtime

        find_runtime(ort_web)


def _write_script(model: Path) -> Example:
    stem = re.sub(r"[^\w.-]", "_", model.stem)
    name = f"run_{stem}.py"
    text = (_FILES / _SCRIPT_NAME).read_text(encoding="utf-8")
    assert text.count(_MODEL_LINE) == 1
    # JSON's strings are Python's too
    text = text.replace(_MODEL_LINE, f"MODEL = {to_json(model.name)}").replace(_SCRIPT_NAME, name)
    path = model.with_name(name)
    write_text(path, text)
    return Example(path, f"python {shlex.quote(str(path))} IMAGE LABELS.png")


def _write_page(report: ExportReport, ort_web: str | os.PathLike[str] | None) -> Example:
    from seg_models.exporting.web_page import SERVE, find_runtime, model_page

    folder = report.path.with_name(f"{report.path.stem}_web")
    copies = {report.path: folder / "model.onnx"}
    if ort_web is not None:
        copies |= {source: folder / "ort" / source.name for source in find_runtime(ort_web)}
    for source, copy in copies.items():
        with atomic_path(copy) as temporary:
            shutil.copyfile(source, temporary)
    page = folder / "index.html"
    write_text(page, model_page(report.path.name, report.description))
    place = shlex.quote(str(folder))
    return Example(page, f"{SERVE} --directory {place}, then open http://127.0.0.1:8000")
