"""Code of a user's own in a config: its `imports`, and names such as `"my_code:MyLoss"`.

The folders of the config's files and the current folder are searched first. A stored config has them as `import_paths`,
so that the run can be resumed and evaluated from elsewhere.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_core.errors import InvalidArgumentError, UserError
from seg_core.own_code import (
    add_folders,
    check_defined_here,
    find_target,
    import_code,
    import_target,
    is_target,
    spelling_hint,
)
from seg_train.config.params import TRANSFORM
from seg_train.config.schema import OwnTransformSection
from seg_train.config.values import shown_value
from seg_train.data.own_transforms import build_own_transform

__all__ = ["code_places", "import_own_code", "transform_problems"]

# keys whose value is the name of something registered, in any table of a config
_NAME_KEYS = ("name", "predictor", "backbone")
# arguments that are functions, which learning-rate schedulers import themselves
_FUNCTION_KEYS = ("lr_lambda", "scale_fn")
_NOT_NAMES = ("metadata",)  # tables whose `name` is any text
_TIMM = "timm:"  # names of backbones that are no code of the user's own


def import_own_code(
    tables: dict[str, Any], folders: Sequence[Path], *, stored: bool = False
) -> tuple[list[str], dict[str, str]]:
    """Imports the code that a config names, and adds the searched folders to it as `import_paths`.

    Args:
        tables: of the config, merged, with absolute `import_paths` if it has any; changed in place.
        folders: of the config's files.
        stored: whether the config is that of a run folder, whose `import_paths` have all folders.

    Returns:
        What is wrong with `imports`.
        Name -> what is wrong with it, with its full key, for the names of the user's own code.
    """
    imports, given = tables.get("imports", []), tables.get("import_paths", [])
    if problems := [*_no_list("imports", imports, "my_code"), *_no_list("import_paths", given, "folder")]:
        return problems, {}
    if not stored:  # of a run, what is missing is told with the module that is not found
        missing = [(place, path) for place, path in enumerate(given) if not Path(path).is_dir()]
        if missing:
            return [
                f'import_paths[{place}] = "{path}": there is no such folder; correct or remove it'
                for place, path in missing
            ], {}
    found = [(key, name) for key, name in _names(tables, "") if is_target(name) and not name.startswith(_TIMM)]
    names = [(key, name) for key, name in found if not _is_function(key)]
    if not imports and not found:
        return [], {}
    here = Path.cwd()
    own = [] if stored else [*folders, here]
    paths = list(dict.fromkeys([*map(os.path.abspath, given), *(str(folder.resolve()) for folder in own)]))
    tables["import_paths"] = paths
    searched = list(dict.fromkeys([*paths, str(here)]))
    add_folders(searched)
    problems = []
    for place, module in enumerate(imports):
        try:
            import_code(module, searched)
        except InvalidArgumentError as error:
            problems.append(f"imports[{place}] = {shown_value(module)}: {error}{_moved(paths, stored)}")
    wrong = {}
    for key, name in names if not problems else ():
        try:
            target = import_target(name, searched)
            if not stored and _is_in_model_files(key):
                check_defined_here(name, target)
        except InvalidArgumentError as error:
            wrong[name] = f'{key} = "{name}": {error}{_moved(paths, stored)}'
    return problems, wrong


def code_places(tables: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns full key and value of each place of a config that names code, which a run imports; nothing is imported.

    Args:
        tables: of the config, merged.
    """
    listed = tables.get("imports", [])
    imports = listed if isinstance(listed, list) else [listed]
    return [
        *((f"imports[{place}]", str(module)) for place, module in enumerate(imports)),
        *(
            (key, name)
            for key, name in _names({k: v for k, v in tables.items() if k not in ("imports", "import_paths")}, "")
            if _is_function(key) or (is_target(name) and not name.startswith(_TIMM))
        ),
    ]


def _is_function(key: str) -> bool:
    """Returns whether a full key names a function, which is imported wherever it is."""
    return key.rpartition(".")[2].partition("[")[0] in _FUNCTION_KEYS


def transform_problems(named: Sequence[OwnTransformSection]) -> list[str]:
    """Returns what is wrong with the transforms of `data.transform.train.custom`, each with its full key."""
    found = []
    for place, own in enumerate(named):
        key = f"data.transform.train.custom[{place}]"
        if not is_target(own.name):
            found.append(
                f'{key}.name = "{own.name}": must be the import path of a class or function, "package.module:name"'
                + (f". {hint}".rstrip(".") if (hint := spelling_hint(own.name)) else "")
            )
            continue
        try:
            target = find_target(own.name, "transform")
            wrong = TRANSFORM.problems(key, own.name, target, own.params)
            if not wrong:
                build_own_transform(own.name, target, own.params)
        except UserError as error:
            wrong = [f"{key}: {error}"]
        found.extend(wrong)
    return found


def _moved(paths: Sequence[str], stored: bool) -> str:
    """Returns what to do if the code of a run has moved, or folders of it do not exist any more; "" for others."""
    missing = [path for path in paths if not Path(path).is_dir()]
    if not missing and not stored:
        return ""
    gone = f"; {', '.join(missing)} in import_paths does not exist here" if missing else ""
    return (
        f"{gone}{':' if missing else ';'} if the code has moved, start this command in the folder that contains it, or "
        "set that folder as in -s 'import_paths=[\"/path/to/folder\"]'"
    )


def _names(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yields full key and value of every key that names something registered; of `[log]` the keys are names."""
    if isinstance(value, Mapping):
        for name, content in value.items():
            inner = f"{key}.{name}" if key else str(name)
            if key == "log":
                yield inner, str(name)
            elif name in (*_NAME_KEYS, *_FUNCTION_KEYS):
                texts = content if isinstance(content, list) else [content]
                yield from ((inner, text) for text in texts if isinstance(text, str))
            elif name not in _NOT_NAMES:
                yield from _names(content, inner)
    elif isinstance(value, list):
        for place, content in enumerate(value):
            yield from _names(content, f"{key}[{place}]")


def _is_in_model_files(key: str) -> bool:
    """Returns whether model files contain the value of a key that names code."""
    return key == "model.name" or key.rpartition(".")[2] == "backbone"


def _no_list(key: str, value: Any, example: str) -> list[str]:
    """Returns what is wrong with a value that is no list of strings."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return []
    right = [value] if isinstance(value, str) else [example]
    return [f"{key} = {json.dumps(value, default=str)}: must be a list of strings; write {key} = {json.dumps(right)}"]
