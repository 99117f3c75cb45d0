"""Writes the tables of datasets in README.md and packages/seg-datasets/README.md from the catalog."""

from pathlib import Path

from seg_core.catalog import DatasetEntry
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.catalog import DATASETS

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "packages" / "seg-datasets" / "README.md")
BEGIN = "<!-- written by `hatch run dataset-table` from the catalog -->\n"
END = "<!-- end of the table -->\n"


def main() -> int:
    for page in PAGES:
        page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"wrote the table in {page.relative_to(ROOT)}")
    return 0


def with_table(text: str) -> str:
    """Returns the page with the table between its two marks written anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"a page lacks the marks of the table, {BEGIN.strip()} and {END.strip()}")
    return before + begin + table() + end + after


def table() -> str:
    rows = ["| dataset | classes | what | splits | `download=True` |", "|---|---|---|---|---|"]
    for name, entry in sorted(DATASETS.items(), key=lambda item: item[0].lower()):
        splits = ", ".join(entry.splits)
        fetched = "yes" if entry.download else ""
        rows.append(f"| `{name}` | {_classes(entry)} | {entry.summary} | {splits} | {fetched} |")
    return "\n".join(rows) + "\n"


def _classes(entry: DatasetEntry) -> str:
    return "yours" if entry.label_set is None else str(resolve_metadata(entry.label_set).num_classes)


if __name__ == "__main__":
    raise SystemExit(main())
