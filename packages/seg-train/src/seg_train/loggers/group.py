"""All loggers of a run as one; a failure of one of them does not end the run."""

import contextlib
import functools
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from seg_core.errors import UserError
from seg_core.labels.metadata import DatasetMetadata
from seg_train.loggers.base import Logger, Moment, Snapshot, TrainingSample

__all__ = ["LoggerGroup"]


class LoggerGroup:
    """Calls a hook of every logger. A logger that raises is removed, with a warning.

    The local logger is not removed: rows that it could not write are written the next time. What it says more than once
    is shown once.

    Args:
        loggers: by name; or a function that builds them, called when they are first needed, since a logger may write to
            the run folder when it is built, which another process may use until the run has claimed it.
        warn: shows a warning.
    """

    def __init__(
        self, loggers: Mapping[str, Logger] | Callable[[], Mapping[str, Logger]], warn: Callable[[str], None]
    ) -> None:
        self._build = loggers if callable(loggers) else lambda: loggers
        self._warn = warn
        self._told: set[tuple[str, str]] = set()
        self._restored: tuple[Mapping[str, Mapping[str, Any]], int] | None = None

    @functools.cached_property
    def loggers(self) -> dict[str, Logger]:
        """The loggers by name; they are built if they are not yet.

        Raises:
            UserError: if one cannot be built.
        """
        built = dict(self._build())
        for name, logger in built.items():
            if getattr(type(logger), "warn", None) is Logger.warn:  # not one of the logger's own
                logger.warn = functools.partial(self._warn_of, name)  # type: ignore[method-assign]
        return built

    def open(self) -> None:
        """Builds the loggers if they are not yet, with the state that was loaded meanwhile.

        Raises:
            UserError: if one cannot be built.
        """
        if not self.loggers or self._restored is None:
            return
        (states, step), self._restored = self._restored, None
        for name in list(self.loggers):
            self._call("load_state", {**states.get(name, {}), "step": step}, only=name)

    def on_start(self, config: Mapping[str, Any], environment: Mapping[str, Any], metadata: DatasetMetadata) -> None:
        """As `Logger.on_start`; opens the loggers first."""
        self.open()
        self._call("on_start", config, environment, metadata)

    def on_first_batch(self, samples: Sequence[TrainingSample]) -> None:
        """As `Logger.on_first_batch`."""
        self._call("on_first_batch", samples)

    def on_step(self, row: Mapping[str, Any]) -> None:
        """As `Logger.on_step`."""
        self._call("on_step", row)

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """As `Logger.on_epoch`."""
        self._call("on_epoch", row)

    def on_confusion_matrix(self, moment: Moment, matrix: Tensor) -> None:
        """As `Logger.on_confusion_matrix`."""
        self._call("on_confusion_matrix", moment, matrix)

    def on_snapshots(self, moment: Moment, snapshots: Sequence[Snapshot]) -> None:
        """As `Logger.on_snapshots`."""
        self._call("on_snapshots", moment, snapshots)

    def on_checkpoint(self, path: Path) -> None:
        """As `Logger.on_checkpoint`."""
        self._call("on_checkpoint", path)

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """As `Logger.on_end`."""
        self._call("on_end", summary)

    def close(self) -> None:
        """As `Logger.close`."""
        self._call("close")

    def state(self) -> dict[str, dict[str, Any]]:
        """Returns the states for a checkpoint, by name of the logger."""
        return {name: value for name, value in self._call("state").items() if isinstance(value, dict)}

    def load_state(self, states: Mapping[str, Mapping[str, Any]], step: int) -> None:
        """Restores what `state` returned, when `open` is called.

        Args:
            states: by name of the logger; a new logger receives only the step.
            step: step of the checkpoint.
        """
        self._restored = states, step

    def _call(self, hook: str, *arguments: Any, only: str | None = None) -> dict[str, Any]:
        results = {}
        for name, logger in list(self.loggers.items()):
            if only not in (None, name):
                continue
            try:
                results[name] = getattr(logger, hook)(*arguments)
            except Exception as error:  # a logger's error must not end a run of days
                self._report(name, hook, error)
        return results

    def _report(self, name: str, hook: str, error: Exception) -> None:
        stays = name == "local"
        if not stays:
            logger = self.loggers.pop(name)
            if hook != "close":
                with contextlib.suppress(Exception):  # it may fail again
                    logger.close()
        how = "it stays in use" if stays else "the run continues without it"
        reason = str(error) or type(error).__name__
        if not isinstance(error, UserError):  # a bug in the logger: its author needs the traceback
            reason = "".join(traceback.format_exception(error)).rstrip()
        if (name, reason) not in self._told:
            self._told.add((name, reason))
            self._warn(f"logger {name} failed in {hook}; {how}: {reason}")

    def _warn_of(self, name: str, text: str) -> None:
        self._warn(f"logger {name}: {text}")
