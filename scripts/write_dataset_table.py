"""Writes the overview in README.md and the table of datasets in packages/seg-datasets/README.md from the catalogs."""

from pathlib import Path

from seg_core.catalog import DatasetEntry
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.catalog import DATASETS
from seg_models.catalog import BACKBONES, MODELS
from seg_models.published import WEIGHTS
from seg_train.catalog import LOSSES, OPTIMIZERS, SCHEDULERS

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- written by `hatch run dataset-table` from the catalog -->\n"
END = "<!-- end of the table -->\n"
# not published datasets, or another label set of one
_NOT_PUBLISHED = ("CityscapesCategory", "CityscapesClass", "FolderDataset", "Shapes", "Unified")


def main() -> int:
    for path, table in TABLES.items():
        page = ROOT / path
        page.write_text(with_table(page.read_text(encoding="utf-8"), table()), encoding="utf-8")
        print(f"wrote the table in {path}")
    return 0


def with_table(text: str, table: str) -> str:
    """Returns the page with what is between its two marks replaced by `table`."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"a page lacks the marks of the table, {BEGIN.strip()} and {END.strip()}")
    return before + begin + table + end + after


def overview() -> str:
    """Returns the table of the root README: what there is, counted."""
    families = sorted({entry.family for entry in MODELS.values()}, key=str.lower)
    models = [name for name, entry in MODELS.items() if not entry.any_backbone]
    backbones = ", ".join(dict.fromkeys(_make(entry.summary) for entry in BACKBONES.values()))
    files = {member.url for _, members, _ in WEIGHTS.values() for member in members.values()}
    published = sorted((name for name in DATASETS if name not in _NOT_PUBLISHED), key=str.lower)
    rows = [
        ("networks", f"{len(families)}, as {len(models)} models", ", ".join(families)),
        ("backbones", f"{len(BACKBONES)}, and timm's", backbones),
        (
            "published weights",
            f"{len(files)} files",
            "from torchvision, mmsegmentation and pixseg, converted on loading",
        ),
        ("datasets", str(len(published)), ", ".join(published)),
        (
            "your own data",
            "",
            "`FolderDataset`: two folders of images and masks; `unify` joins datasets under one label set",
        ),
        (
            "losses",
            str(len(LOSSES)),
            f"{', '.join(name.removesuffix('Loss') for name in LOSSES)}: [docs/losses.md](docs/losses.md)",
        ),
        (
            "optimizers, schedulers",
            f"{len(OPTIMIZERS)}, {len(SCHEDULERS)}",
            "torch's, by their class names, and Padam; your own by registration",
        ),
    ]
    return "\n".join(["| | number | |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def datasets() -> str:
    """Returns the table of the README of seg-datasets: one row per dataset."""
    rows = ["| dataset | classes | what | splits | `download=True` |", "|---|---|---|---|---|"]
    for name, entry in sorted(DATASETS.items(), key=lambda item: item[0].lower()):
        splits = ", ".join(entry.splits)
        fetched = "yes" if entry.download else ""
        rows.append(f"| `{name}` | {_classes(entry)} | {entry.summary} | {splits} | {fetched} |")
    return "\n".join(rows) + "\n"


# page below the root -> what makes its table
TABLES = {"README.md": overview, "packages/seg-datasets/README.md": datasets}


def _classes(entry: DatasetEntry) -> str:
    return "yours" if entry.label_set is None else str(resolve_metadata(entry.label_set).num_classes)


def _make(title: str) -> str:
    """Returns the family of a backbone, as "ResNet" of "ResNet-50"."""
    return title.removeprefix("aligned ").split("-")[0].split(" ")[0]


if __name__ == "__main__":
    raise SystemExit(main())
