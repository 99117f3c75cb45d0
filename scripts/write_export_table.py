"""Writes docs/exported.md: every model of the catalog, exported and verified.

It takes about 40 minutes. With --rows FILE the rows are kept there, and those that it holds are not measured again.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import seg_models
from seg_core import Preprocessing, UserError, resolve_metadata
from seg_core.registry import MODELS
from seg_core.versions import installed_versions

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "exported.md"
CLASSES = "Cityscapes"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, help="file with the rows that are measured already, one JSON a line")
    rows_file = parser.parse_args().rows
    rows: dict[str, dict[str, Any]] = {}
    if rows_file is not None and rows_file.exists():
        rows = {row["name"]: row for row in map(json.loads, rows_file.read_text(encoding="utf-8").splitlines())}
    families = set()
    for name in seg_models.list_models():
        family = MODELS.entry(name).family  # type: ignore[attr-defined]  # a ModelEntry
        formats = ["onnx", "pt2", *(["openvino"] if family not in families else [])]
        families.add(family)
        if name not in rows:
            rows[name] = {"name": name, **{kind: _measure(name, kind) for kind in formats}}
            print(json.dumps(rows[name]), flush=True)
            if rows_file is not None:
                with rows_file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[name]) + "\n")
    lines = [_line(rows[name]) for name in seg_models.list_models()]
    PAGE.write_text("\n".join([*_head(), *lines, ""]), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


def _measure(name: str, kind: str) -> dict[str, Any]:
    """Returns what the export of a model to a format found, or why it cannot be exported."""
    from seg_models.catalog import EXPORT_SUFFIXES

    torch.manual_seed(0)
    metadata = resolve_metadata(CLASSES)
    network = seg_models.get_model(name, num_classes=metadata.num_classes).eval()
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = seg_models.export(
                network,
                Path(folder) / f"model{EXPORT_SUFFIXES[kind]}",
                metadata=metadata,
                preprocessing=Preprocessing(),
            )
        except UserError as error:
            return {"error": str(error)}
        found = report.verification
        relative = max(each.max_abs_error / each.max_abs_logit for each in found.comparisons)
        return {
            "error": None,
            "relative": relative,
            "agreement": found.label_agreement,
            "min_size": report.description.min_size,
        }


def _line(row: dict[str, Any]) -> str:
    cells = [f"`{row['name']}`"]
    sizes = {found["min_size"] for key, found in row.items() if key != "name" and found["error"] is None}
    cells.append("" if not sizes else str(max(sizes)))
    for kind in ("onnx", "pt2", "openvino"):
        found = row.get(kind)
        if found is None:
            cells += ["", ""]
        elif found["error"] is not None:
            cells += ["no", found["error"].replace("|", "\\|")]
        else:
            cells += [f"{found['relative']:.0e}", f"{found['agreement']:.3%}"]
    return f"| {' | '.join(cells)} |"


def _head() -> list[str]:
    versions = ", ".join(f"{name} {number}" for name, number in installed_versions(*_VERSIONS).items())
    return [
        "# Exported models\n",
        "Written by `hatch run export-table`. Each model of the catalog, with random weights and the classes of "
        f"{CLASSES}, was exported for any number of images of any size, and its file run beside the model on three "
        "images of 96x128, 97x163 and another odd size; see [Export](export.md). *difference* is the largest "
        "difference of a logit as a fraction of the image's largest, *labels* the fraction of pixels with the same "
        "label. *from* is the minimum height and width in pixels; smaller images are padded. OpenVINO was tried for "
        f"the first model of each family. Versions: {versions}.\n",
        "| model | from | ONNX: difference | labels | pt2: difference | labels | OpenVINO: difference | labels |",
        "|---|---|---|---|---|---|---|---|",
    ]


_VERSIONS = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino")

if __name__ == "__main__":
    sys.exit(main())
