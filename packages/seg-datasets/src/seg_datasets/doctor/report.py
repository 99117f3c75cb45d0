"""What the doctor has found in a dataset: findings, and the report that holds them."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from seg_core.labels.metadata import DatasetMetadata
from seg_datasets.doctor.kinds import ERROR, KINDS, WARNING

__all__ = ["CONFIG_TABLE", "DataFinding", "Report", "kind_lines"]

CONFIG_TABLE = "data.dataset"
"""The table of a config that the lines of findings belong to."""
_MOST_FILES = 5  # of a kind that are shown


@dataclass(frozen=True)
class DataFinding:
    """One thing that is wrong with a dataset.

    Attributes:
        kind: name in `seg_datasets.doctor.kinds.KINDS`.
        severity: `"error"` or `"warning"`.
        file: the file, relative to the root of the dataset; of several the first, and the split for what is wrong with
            a split as a whole.
        detail: sentence with what was found: values, pixels, positions, other files.
        fix: sentence with what to do; followed, the finding is gone.
        config: key and value of a config that does it instead, such as `data.dataset.params.label_map = {1 = 0}`, or
            "".
        files: all files concerned, relative to the root.
    """

    kind: str
    severity: str
    file: str
    detail: str
    fix: str
    config: str = ""
    files: Sequence[str] = ()

    @property
    def config_line(self) -> str:
        """The line to write below `[data.dataset]` of a config, such as `params.label_map = {1 = 0}`, or ""."""
        return self.config.removeprefix(f"{CONFIG_TABLE}.")

    @property
    def train_option(self) -> str:
        """The option of `seg train` that does the same, quoted for a shell, or ""."""
        key, _, value = self.config.partition(" = ")
        return f"-s {shlex.quote(f'{key}={value}')}" if value else ""

    def __post_init__(self) -> None:
        assert self.kind in KINDS
        assert self.severity in (ERROR, WARNING)


@dataclass(frozen=True)
class Report:
    """The result of a check.

    Attributes:
        name: name of the dataset, such as `"CamVid"` or `"FolderDataset"`.
        root: its folder.
        findings: errors first, then by kind.
        summary: facts of the dataset: `"splits"` (split -> number of pairs), `"classes"`, `"files"`, `"seconds"`.
        pairs: image -> mask, relative to the root, of the files of the findings; for the thumbnails of a page.
        metadata: names and colors of the classes, for the same; None if they are not known.
        targets: id in the masks -> class id, or None for ignored; empty if the ids are those of `metadata`.
    """

    name: str
    root: Path
    findings: Sequence[DataFinding]
    summary: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, str] = field(default_factory=dict)
    metadata: DatasetMetadata | None = None
    targets: Mapping[int, int | None] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Returns the number of findings of each kind that was found."""
        return dict(Counter(finding.kind for finding in self.findings))

    def exit_code(self, strict: bool = False) -> int:
        """Returns 1 if there are errors, with `strict` also for warnings, else 0."""
        return int(any(strict or finding.severity == ERROR for finding in self.findings))

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain containers, for JSON: `{"findings": [...], "summary": {...}}`."""
        findings = [{key: value for key, value in asdict(f).items() if key != "files"} for f in self.findings]
        severities = Counter(finding.severity for finding in self.findings)
        summary = {
            "dataset": self.name,
            "root": str(self.root),
            "errors": severities[ERROR],
            "warnings": severities[WARNING],
            **self.summary,
        }
        return {"findings": findings, "summary": summary}


def kind_lines(severity: str, kind: str, found: Sequence[DataFinding]) -> Iterator[str]:
    """Yields the findings of one kind as lines of text: the first files, and what to do."""
    number = f" ({len(found)})" if len(found) > 1 else ""
    yield f"{severity}: {kind}{number}: {KINDS[kind].meaning}"
    remedies: dict[tuple[str, str], DataFinding] = {}
    for one in found[:_MOST_FILES]:
        others = [file for file in one.files if file != one.file]
        more = f" and {len(others) - _MOST_FILES} more" if len(others) > _MOST_FILES else ""
        also = f" (also {', '.join(others[:_MOST_FILES])}{more})" if others else ""
        yield f"  {one.file}: {one.detail}{also}"
        remedies.setdefault((one.fix, one.config), one)
    if len(found) > _MOST_FILES:
        yield f"  and {len(found) - _MOST_FILES} more files"
    for one in remedies.values():
        yield f"  fix: {one.fix}"
        if one.config:
            yield f"  config: {one.config_line}"
            yield f"    below [{CONFIG_TABLE}]; or: seg train ... {one.train_option}"
