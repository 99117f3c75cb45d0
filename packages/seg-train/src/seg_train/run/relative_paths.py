"""Relative paths in the config of a run, found again from another working directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg_core.parsing import read_json

__all__ = ["dataset_from_here", "folders_of_run"]

_ROOTS = ("root", "sbd_root")  # options of datasets that are folders


def folders_of_run(run: Path, output: str) -> list[Path]:
    """Returns the folders that relative paths of a run's config may be relative to, most likely first.

    These are the folder that contains `paths.output`, which a project that was moved keeps, the one that the run was
    started in, and the current one.

    Args:
        run: the run folder.
        output: `paths.output` of its config.
    """
    folders = []
    place, parts = run.resolve(), Path(output).parts
    if not Path(output).is_absolute() and (not parts or place.parent.parts[-len(parts) :] == parts):
        folders.append(place.parents[len(parts)])
    try:
        started = read_json(run / "environment.json")["working_directory"]
        folders.append(Path(started))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # of an earlier version, or a copy of a part of the folder
    return [*dict.fromkeys(folders), Path.cwd()]


def dataset_from_here(section: Mapping[str, Any], folders: list[Path]) -> dict[str, Any]:
    """Returns `[data.dataset]` with the relative paths of folders and files that exist in one of `folders`.

    Those that exist in none of them, or only in the current folder, stay as they are.

    Args:
        section: the table of the config.
        folders: see `folders_of_run`.
    """
    return {
        key: _from_here(value, key in _ROOTS, folders) if key in ("root", "params") else value
        for key, value in section.items()
    }


def _from_here(value: Any, is_root: bool, folders: list[Path]) -> Any:
    if isinstance(value, Mapping):
        return {key: _from_here(content, key in _ROOTS, folders) for key, content in value.items()}
    if isinstance(value, list):
        return [_from_here(content, False, folders) for content in value]
    if not isinstance(value, str) or not value or Path(value).expanduser().is_absolute():
        return value
    if not is_root and not Path(value).suffix:
        return value  # a name, such as that of a split
    here = Path.cwd().resolve()
    for folder in folders:
        path = folder / value
        if path.is_dir() if is_root else path.is_file():
            return value if folder.resolve() == here else str(path)
    return value
