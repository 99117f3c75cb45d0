"""The keys of `-s KEY=VALUE` in `seg eval`: their allowed values, and conflicts between them."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from seg_core.checks import is_integer, is_number
from seg_core.device import names_device
from seg_core.errors import UsageError, nearest

if TYPE_CHECKING:
    from seg_train.run.ways import WayOptions

__all__ = ["ALLOWED", "Settings", "read_settings"]


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_factor(value: object) -> bool:
    return is_number(value) and 0 < value < math.inf


def _is_tile(value: object) -> bool:
    return is_integer(value, 1) or (
        isinstance(value, list) and len(value) == 2 and all(is_integer(length, 1) for length in value)
    )


# key -> whether a value is allowed, and a description of the allowed values
ALLOWED: dict[str, tuple[Callable[[object], bool], str]] = {
    "root": (_is_name, "a folder; quote a name that is a number, as in -s 'root=\"2012\"'"),
    "split": (_is_name, "the name of a split, such as val; quote one that is a number"),
    "batch_size": (lambda v: is_integer(v, 1), "an integer >= 1"),
    "num_workers": (lambda v: is_integer(v, 0), "an integer >= 0; 0 reads in the main process"),
    "device": (names_device, "auto, cuda, mps, cpu, or the number of a GPU, such as 0 for cuda:0"),
    "precision": (lambda v: v in ("fp32", "bf16", "fp16"), "fp32, bf16 or fp16"),
    "resize": (lambda v: isinstance(v, dict), "a table such as {scale = 0.5}; omit it to use the model's"),
    "scale": (_is_factor, "a factor above 0, such as 0.5; omit it to use the model's"),
    "tile": (_is_tile, "pixels, one integer >= 1 or [height, width]"),
    "overlap": (lambda v: is_number(v) and 0 <= v < 1, "a fraction of a tile, from 0 to below 1"),
    "scales": (
        lambda v: isinstance(v, list) and bool(v) and all(map(_is_factor, v)),
        "a list of factors above 0, such as [0.75, 1, 1.25]",
    ),
    "hflip": (lambda v: isinstance(v, bool), "true or false"),
    "predictor": (_is_name, "the name of a predictor, such as whole"),
    "predictor_params": (lambda v: isinstance(v, dict), "a table, set as in -s predictor_params.name=value"),
    "loss": (lambda v: isinstance(v, bool), "true or false"),
    "params": (lambda v: isinstance(v, dict), "a table, set as in -s params.name=value"),
    "import_paths": (
        lambda v: isinstance(v, list) and all(map(_is_name, v)),
        'a list of folders, such as ["/path/to/folder"]',
    ),
}
# sections of a config whose keys are keys here too
_SECTIONS = ("data.dataset.", "data.loader.", "evaluation.", "trainer.")
_WAY_KEYS = ("tile", "overlap", "scales", "hflip", "predictor", "predictor_params")


@dataclass(frozen=True)
class Settings:
    """The values of `-s`, one field per key; None if the key was not given."""

    root: str | None = None
    split: str | None = None
    batch_size: int | None = None
    num_workers: int = 2
    device: str | int = "auto"
    precision: str | None = None
    resize: dict[str, Any] | None = None
    scale: float | None = None
    tile: int | list[int] | None = None
    overlap: float | None = None
    scales: list[float] | None = None
    hflip: bool | None = None
    predictor: str | None = None
    predictor_params: dict[str, Any] = field(default_factory=dict)
    loss: bool = True
    params: dict[str, Any] = field(default_factory=dict)
    import_paths: list[str] = field(default_factory=list)

    def way(self) -> "WayOptions | None":
        """Returns the prediction options, or None if no key sets any."""
        from seg_train.run.ways import WayOptions

        given = {f.name for f in fields(self) if getattr(self, f.name) not in (None, {})}
        if not given & set(_WAY_KEYS):
            return None
        tile = (self.tile, self.tile) if isinstance(self.tile, int) else self.tile
        return WayOptions(
            None if tile is None else (tile[0], tile[1]),
            self.overlap,
            None if self.scales is None else tuple(map(float, self.scales)),
            bool(self.hflip),
            self.predictor or "whole",
            self.predictor_params,
        )


def read_settings(overrides: Sequence[str]) -> Settings:
    """Returns the values of `-s`, checked as far as possible without model and dataset.

    Raises:
        UsageError: if a key is unknown or a value is not allowed; the message names all of them.
    """
    from seg_train.config.load import apply_overrides

    values: dict[str, Any] = {}
    problems = apply_overrides(values, overrides)
    for name, value in values.items():
        if name not in ALLOWED:
            hint = _key_of_config(name, value) or nearest(name, ALLOWED)
            if name in ("threshold", "thresholds"):
                hint = " It is an option of its own: --threshold 0.5, or --threshold 0.5,0.3 with one for each class."
            problems.append(f"-s {name}: unknown key.{hint} Known: {', '.join(ALLOWED)}")
            continue
        fits, allowed = ALLOWED[name]
        if not fits(value):
            problems.append(f"-s {name} = {json.dumps(value, default=str)}: must be {allowed}")
    if not problems:
        problems = _contradictions(values)
    if len(problems) > 1:
        raise UsageError(f"-s has {len(problems)} problems:" + "".join(f"\n  {problem}" for problem in problems))
    if problems:
        raise UsageError(problems[0])
    return Settings(**values)


def _key_of_config(name: str, value: object) -> str:
    """Returns what to write instead of a key of the config of `seg train`, or ""."""
    from seg_train.config.schema import flatten

    if not isinstance(value, dict):
        return ""
    for key, given in flatten(value, f"{name}.").items():
        section = next((section for section in _SECTIONS if key.startswith(section)), None)
        if section is None:
            continue
        own = "split" if key.endswith("_split") else key.removeprefix(section)
        if own.split(".")[0] in ALLOWED:
            shown = given if isinstance(given, str) else json.dumps(given)
            return f" Here it is {own}, without its section: -s {own}={shown}."
    return ""


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each group of conflicting keys."""
    problems = []
    if "scale" in values and "resize" in values:
        problems.append("-s scale and -s resize both set the resizing; remove one of them")
    if "overlap" in values and "tile" not in values:
        problems.append(f"-s overlap = {values['overlap']}: needs tiles; set tile too, or remove it")
    short = [key for key in ("tile", "scales", "hflip") if values.get(key) not in (None, False)]
    own = [key for key in ("predictor", "predictor_params") if values.get(key) not in (None, {}, "whole")]
    if short and own:
        problems.append(f"-s {own[0]} cannot be used together with {', '.join(short)}; remove one or the other")
    return problems
