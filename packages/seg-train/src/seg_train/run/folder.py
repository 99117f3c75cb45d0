"""The run folder: its files, its name, and the folder that a resumed run continues in.

<paths.output>/<name>/
config.toml            the config of the run; `format` is the version of its keys
environment.json       versions, machine, and what the start showed; `resumed` has those of later starts
class_weights.json     computed once
pixel_counts.npy       counted once, if samples are drawn by class
metrics.jsonl          one row per line; steps.csv and epochs.csv hold the same
metrics.damaged.jsonl  what was found in its place, if something else changed it; metrics.superseded.jsonl of a run that
                       started over
checkpoints/           step_00000120.pt and a few earlier ones, last.pt, best.pt
model.pt               model file of the last weights; model_ema.pt of their EMA, model_best.pt of the best
plots/ confusion/ snapshots/    plots/first_batch.png is the first batch after augmentation
nonfinite_loss.json    files of the batch whose loss ended the run, if one did
.lock, .lock.json      lock of the process that uses the folder, and a description of it
"""

import contextlib
import math
import os
import platform
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch

from seg_core.errors import ConfigError, CorruptFileError, UsageError, reading_file
from seg_core.files.atomic import atomic_path, is_leftover, remove_leftovers, write_text
from seg_core.files.json_text import write_json
from seg_core.model_files.paths import WEIGHTS_SUFFIXES
from seg_core.parsing import parse_json, parse_toml, read_json
from seg_core.text import read_text, short
from seg_core.versions import installed_versions
from seg_train.config.files import read_tables
from seg_train.config.load import load_config
from seg_train.config.migrate import CONFIG_FORMAT
from seg_train.config.own_code import import_own_code
from seg_train.config.schema import PathsSection, TrainConfig
from seg_train.config.show import toml_value
from seg_train.run.checkpoint import Checkpoints
from seg_train.run.lock import LOCK_FILES, check_unlocked, locked
from seg_train.run.relative_paths import dataset_from_here, folders_of_run

__all__ = ["RunFolder", "describe_environment", "find_run", "find_weights", "new_run_path"]

_PACKAGES = (
    "seg-core",
    "seg-models",
    "seg-datasets",
    "seg-train",
    "torch",
    "torchvision",
    "numpy",
    "accelerate",
    "Pillow",
)


_COUNT_AGAIN = "delete it to count the pixels again"


class RunFolder:
    """The paths of one run.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.environment = self.path / "environment.json"
        self.class_weights = self.path / "class_weights.json"
        self.pixel_counts = self.path / "pixel_counts.npy"
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.model = self.path / "model.pt"
        self.model_ema = self.path / "model_ema.pt"
        self.model_best = self.path / "model_best.pt"
        self.model_files = (self.model, self.model_ema, self.model_best)
        self._content: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None  # config and environment
        self._last_seen = _identity(self.checkpoints.last)
        self._was_claimed = False

    @contextlib.contextmanager
    def claim(self, *, new: bool) -> Iterator[None]:
        """Keeps other processes from using the folder within the block, and removes temporary files of killed ones.

        Args:
            new: whether a new run starts in it; False for a resumed one.

        Raises:
            RunLockedError: if another process uses it.
            UsageError: if another one has continued the run since this object was created.
            WriteError: if it cannot be written.
        """
        with locked(self.path):
            if not self._was_claimed:
                if new:
                    self._check_empty()
                elif self._last_seen != _identity(self.checkpoints.last):
                    raise UsageError(
                        f"another process has continued the run in {self.path} since its checkpoint was read; "
                        f"resume it again: seg train --resume {self.path}"
                    )
            self._was_claimed = True
            remove_leftovers(self.path)
            yield

    def create(self, config: TrainConfig, environment: dict[str, Any]) -> None:
        """Creates the folder with config and environment.

        Raises:
            WriteError: if it cannot be written.
        """
        self._content = config.to_dict(), environment
        self._write_config(self._content[0])
        write_json(self.environment, environment)

    def keep(self) -> None:
        """Writes config and environment of the run again if they are gone, since it cannot be resumed without them.

        Raises:
            WriteError: if they cannot be written.
        """
        if self._content is None:
            return
        if not self.config.is_file():
            self._write_config(self._content[0])
        if not self.environment.is_file():
            write_json(self.environment, self._content[1])

    def add_environment(self, environment: Mapping[str, Any], step: int) -> None:
        """Adds the environment of a resumed run to that of its first start, with the step that it goes on from.

        A file that is missing or damaged is written again.

        Raises:
            WriteError: if it cannot be written.
        """
        try:
            first = read_json(self.environment)
            resumed = [*first.get("resumed", []), {"step": step, **environment}]
        except (OSError, ValueError, TypeError, AttributeError):
            first, resumed = {}, [{"step": step, **environment}]
        whole = {**first, "resumed": resumed}
        write_json(self.environment, whole)
        self._content = parse_toml(read_text(self.config, "config")), whole

    def update_config(self, config: TrainConfig) -> None:
        """Writes the config of a resumed run in today's keys, with its new length.

        All other values stay. The file is not written if nothing has changed; one that is missing or damaged is
        written whole.

        Args:
            config: of the resumed run.

        Raises:
            WriteError: if it cannot be written.
        """
        if not self.config.is_file() or self._damage():
            self._write_config(config.to_dict())
            return
        length = config.trainer.model_dump(include={"epochs", "steps"}, exclude_none=True)
        former = read_text(self.config, "config")
        tables = read_tables(self.config, stored=True).values
        kept = {k: v for k, v in tables.get("trainer", {}).items() if k not in ("epochs", "steps")}
        tables["trainer"] = kept | length
        if parse_toml(former) != {"format": CONFIG_FORMAT, **tables}:
            self._write_config(tables)

    def _write_config(self, tables: Mapping[str, Any]) -> None:
        write_text(self.config, tomli_w.dumps({"format": CONFIG_FORMAT, **tables}))

    def check_unused(self) -> None:
        """Raises RunLockedError if another process uses the folder."""
        check_unlocked(self.path)

    def check_free(self) -> None:
        """Checks that a run may start in the folder; nothing is written.

        Raises:
            RunLockedError: if another process uses it.
            ConfigError: if it contains more than the leftovers of a run that was killed at its start.
        """
        self.check_unused()
        self._check_empty()

    def _check_empty(self) -> None:
        if self.path.exists() and (not self.path.is_dir() or any(not _is_unimportant(p) for p in self.path.iterdir())):
            raise ConfigError(
                f"the run folder {self.path} is not empty; resume its run with `seg train --resume {self.path}`, or "
                "set another folder with -s paths.run=NAME"
            )

    def load_config(
        self,
        overrides: Sequence[str] = (),
        *,
        epochs: int | None = None,
        steps: int | None = None,
        from_anywhere: bool = False,
    ) -> TrainConfig:
        """Returns the config of the run, in today's keys; the code that it names is imported.

        Args:
            overrides: as for `-s`, of keys that have no influence on learning.
            epochs: new length of the run in epochs.
            steps: new length of the run in steps; not together with `epochs`.
            from_anywhere: whether relative paths of the dataset are found where the run found them, from any working
                directory; for evaluations, since a resumed run compares its settings with the stored ones.

        Raises:
            UsageError: if this is not a run folder.
            ConfigError: if its config is missing or damaged, and what to do.
        """
        if self.checkpoints.last.is_file() and (damage := self._damage()):
            raise ConfigError(
                f"{self.config} {damage}, but the checkpoints of the run are there: resume it with the config that it "
                f"was started with, which writes the file again: seg train CONFIG --resume -s paths.output="
                f"{self.path.parent} -s paths.run={self.path.name}"
            )
        if not self.config.is_file():
            hint = "; it is a file, and --resume takes a run folder" if self.path.is_file() else ""
            raise UsageError(
                f"{self.path} is not a run folder (it has no config.toml){hint}: nothing to resume{self._nearest_run()}"
            )
        if from_anywhere:
            tables = read_tables(self.config, stored=True).values
            output = tables.get("paths", {}).get("output", PathsSection().output)
            section = tables.get("data", {}).get("dataset", {})
            found = dataset_from_here(section, folders_of_run(self.path, output))
            if found != section:
                overrides = [f"data.dataset={toml_value(found)}", *overrides]
        return load_config(self.config, overrides, epochs=epochs, steps=steps, stored=True)

    def _damage(self) -> str:
        """Returns what is wrong with the file of the config, or "" if it is TOML."""
        try:
            parse_toml(read_text(self.config, "config"))
        except FileNotFoundError:
            return "is missing"
        except (OSError, CorruptFileError, tomllib.TOMLDecodeError) as error:
            return f"is damaged ({error})"
        return ""

    def _nearest_run(self) -> str:
        """Returns what to do with a path within or above a run folder, as the end of a sentence; "" for others."""
        within = next((p for p in (self.path.parent, self.path.parent.parent) if (p / "config.toml").is_file()), None)
        if within is not None:
            told = f". To continue the run in {within}: seg train --resume {within}"
            if self.path.suffix in WEIGHTS_SUFFIXES and self.path.is_file():
                told += f". To start a new run from these weights: seg train CONFIG --weights {self.path}"
            return told
        if self.path.is_file() and self.path.suffix == ".toml":
            return f". To continue the newest run of this config: seg train {self.path} --resume"
        runs = sorted(p.parent for p in self.path.glob("*/config.toml"))
        return f"; run folders in it: {', '.join(map(str, runs[-3:]))}" if runs else ""

    def import_code(self) -> None:
        """Imports the code that the config of the run names; nothing if the folder has no config.

        Raises:
            ConfigError: if it cannot be imported.
        """
        if self.config.is_file():
            tables = read_tables(self.config, stored=True).values
            problems, wrong = import_own_code(tables, [], stored=True)
            if found := [*problems, *wrong.values()]:
                raise ConfigError(f"{self.config}: {found[0]}")

    def read_class_weights(self, num_classes: int) -> list[float] | None:
        """Returns the class weights computed before, or None.

        Args:
            num_classes: how many there must be.

        Raises:
            CorruptFileError: if their file is damaged, or holds no such numbers.
        """
        with reading_file(self.class_weights, _COUNT_AGAIN):
            try:
                weights = parse_json(read_text(self.class_weights))["weights"]
            except FileNotFoundError:
                return None
            if not isinstance(weights, list) or len(weights) != num_classes or not all(map(_is_weight, weights)):
                raise CorruptFileError(
                    f"{self.class_weights}: weights = {short(weights)} must be {num_classes} numbers >= 0, one for "
                    f"each class; {_COUNT_AGAIN}"
                )
            return [float(weight) for weight in weights]

    def write_class_weights(self, scheme: str, labels: tuple[str, ...], weights: list[float]) -> None:
        """Writes the class weights, so that a resumed run does not count again."""
        content = {"scheme": scheme, "labels": list(labels), "weights": weights}
        write_json(self.class_weights, content)

    def read_pixel_counts(self, num_classes: int) -> torch.Tensor | None:
        """Returns the pixel counts of each class in each training image, or None if they were not counted yet.

        Args:
            num_classes: how many columns there must be.

        Returns:
            An int64 tensor (images, classes).

        Raises:
            CorruptFileError: if their file is damaged, or holds no such counts.
        """
        with reading_file(self.pixel_counts, _COUNT_AGAIN):
            try:
                # mapped, so that a header that declares more than the file holds is refused before memory is taken
                counts = np.load(self.pixel_counts, mmap_mode="r", allow_pickle=False)
            except FileNotFoundError:
                return None
            if counts.dtype.kind not in "iu" or counts.shape[1:] != (num_classes,) or (counts < 0).any():
                raise CorruptFileError(
                    f"{self.pixel_counts} holds {counts.dtype} of shape {counts.shape}, not integers >= 0 for each "
                    f"image and each of {num_classes} classes; {_COUNT_AGAIN}"
                )
            return torch.from_numpy(counts.astype(np.int64))

    def write_pixel_counts(self, counts: torch.Tensor) -> None:
        """Writes the pixel counts, so that a resumed run does not count again."""
        with atomic_path(self.pixel_counts) as temporary:
            np.save(temporary, counts.numpy())


def find_weights(path: str | os.PathLike[str]) -> Path:
    """Returns the model file that a new run starts from: `path` itself, or of a run folder the best, else the last.

    Raises:
        UsageError: if there is none.
    """
    path = Path(path)
    if path.is_file():
        return path.resolve()
    if not path.is_dir():
        raise UsageError(f"--weights {path}: there is no such run folder or model file; check the path")
    folder = RunFolder(path)
    for file in (folder.model_best, folder.model):
        if file.is_file():
            return file.resolve()
    if not folder.config.is_file():
        raise UsageError(f"--weights {path} is not a run folder (it has no config.toml) and contains no model file")
    raise UsageError(
        f"--weights {path}: the run has no model file yet, its first evaluation writes model_best.pt and model.pt; "
        "resume it, or name a model file"
    )


def new_run_path(config: TrainConfig, stem: str) -> Path:
    """Returns the folder of a new run: `paths.run`, or an unused name from `stem` and the time.

    Args:
        config: config of the run.
        stem: names of model and dataset.
    """
    output = Path(config.paths.output)
    if config.paths.run is not None:
        return output / config.paths.run
    name = f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    names = [name, *(f"{name}-{count}" for count in range(2, 1000))]
    return next(output / name for name in names if not (output / name).exists())


def find_run(config: TrainConfig, stem: str) -> Path:
    """Returns the folder to resume a run of `config` in: `paths.run`, or the newest whose name starts with `stem`.

    Args:
        config: config of the run.
        stem: names of model and dataset.

    Raises:
        UsageError: if there is none.
    """
    output = Path(config.paths.output)
    if config.paths.run is not None:
        return output / config.paths.run
    runs = [p for p in output.glob(f"{stem}-*") if RunFolder(p).checkpoints.last.is_file()]
    if not runs:
        raise UsageError(
            f"nothing to resume: there is no run {stem}-* with a checkpoint in {output}; start one without --resume, "
            "or name its folder by --resume RUN_DIR"
        )
    return max(runs, key=lambda p: p.name)


def describe_environment() -> dict[str, Any]:
    """Returns package versions and the machine as plain values."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda_devices": devices,
        "command": sys.argv,
        "working_directory": str(Path.cwd()),
        "packages": installed_versions(*_PACKAGES),
    }


def _is_weight(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf  # type: ignore[operator]


def _is_unimportant(path: Path) -> bool:
    return path.name in LOCK_FILES or is_leftover(path)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Returns what distinguishes two versions of a file, or None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
