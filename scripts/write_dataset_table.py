"""Writes the tables in README.md and the table of datasets in packages/seg-datasets/README.md from the catalogs."""

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
    """Returns the tables of the root README: networks with their best published score, and what else there is."""
    return networks() + "\n" + contents()


def networks() -> str:
    """Returns a table of the networks, the best published mIoU on Cityscapes first, those without one last."""
    families: dict[str, list[str]] = {}
    for name, entry in MODELS.items():
        families.setdefault(entry.family, []).append(name)
    best = {family: _best(names) for family, names in families.items()}
    scored = sorted((family for family in best if best[family]), key=lambda family: (-best[family][0], family))
    others = sorted((family for family in best if not best[family]), key=str.lower)
    lines = ["| network | mIoU | model |", "|---|---:|---|"]
    for family in scored:
        score, name = best[family]
        lines.append(f"| {family} | {100 * score:.1f} | `{name}` |")
    lines.append(f"| {', '.join(others)} | | no score, or no weights, published |")
    return "\n".join(lines) + "\n"


def _best(names: list[str]) -> tuple[float, str] | tuple[()]:
    """Returns the best published mIoU on Cityscapes of these models, and the model; () without one."""
    found = [
        (entry.meta["metrics"]["miou"], name)
        for name in names
        if name in WEIGHTS
        for entry in WEIGHTS[name][1].values()
        if entry.meta["data"] == "Cityscapes" and "miou" in entry.meta["metrics"]
    ]
    return max(found, default=())


def contents() -> str:
    """Returns a table of what there is, counted."""
    backbones = ", ".join(dict.fromkeys(_make(entry.summary) for entry in BACKBONES.values()))
    files = {member.url for _, members, _ in WEIGHTS.values() for member in members.values()}
    published = sorted((name for name in DATASETS if name not in _NOT_PUBLISHED), key=str.lower)
    losses = ", ".join(name.removesuffix("Loss") for name in LOSSES)
    rows = [
        ("backbones", f"{len(BACKBONES)}", f"{backbones}; and timm's"),
        ("published weights", f"{len(files)}", "of torchvision, mmsegmentation, pixseg"),
        ("datasets", f"{len(published)}", ", ".join(published)),
        ("losses", f"{len(LOSSES)}", losses),
        ("optimizers, schedulers", f"{len(OPTIMIZERS)}, {len(SCHEDULERS)}", "torch's, and Padam"),
    ]
    return "\n".join(["| | number | |", "|---|---:|---|", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


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
