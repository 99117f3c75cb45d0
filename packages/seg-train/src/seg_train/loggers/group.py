"""All loggers of a run as one, which no failure of a single one of them can end."""

import contextlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from seg_core.errors import UserError
from seg_core.labels.metadata import DatasetMetadata
from seg_train.loggers.base import Logger, Moment, Snapshot

__all__ = ["LoggerGroup"]


class LoggerGroup:
    """Calls each hook of every logger; one that raises is left out from then on, with a warning.

    The local logger stays: what it could not write it writes the next time.

    Args:
        loggers: by name.
        warn: shows a sentence.
    """

    def __init__(self, loggers: Mapping[str, Logger], warn: Callable[[str], None]) -> None:
        self.loggers = dict(loggers)
        self._warn = warn

    def on_start(self, config: Mapping[str, Any], environment: Mapping[str, Any], metadata: DatasetMetadata) -> None:
        """As `Logger.on_start`."""
        self._call("on_start", config, environment, metadata)

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
        """Returns what a checkpoint keeps, by the logger's name."""
        return {name: value for name, value in self._call("state").items() if isinstance(value, dict)}

    def load_state(self, states: Mapping[str, Mapping[str, Any]], step: int) -> None:
        """Goes back to what `state` gave.

        Args:
            states: by the logger's name; a logger that is new gets the step alone.
            step: of the checkpoint.
        """
        for name in list(self.loggers):
            self._call("load_state", {**states.get(name, {}), "step": step}, only=name)

    def _call(self, hook: str, *arguments: Any, only: str | None = None) -> dict[str, Any]:
        results = {}
        for name, logger in list(self.loggers.items()):
            if only not in (None, name):
                continue
            try:
                results[name] = getattr(logger, hook)(*arguments)
            except Exception as error:  # whatever a logger does must not end a run of days
                self._report(name, hook, error)
        return results

    def _report(self, name: str, hook: str, error: Exception) -> None:
        stays = name == "local"
        if not stays:
            logger = self.loggers.pop(name)
            if hook != "close":
                with contextlib.suppress(Exception):  # what failed once may fail again
                    logger.close()
        how = "it goes on with the next" if stays else "the run goes on without it"
        reason = str(error) or type(error).__name__
        if not isinstance(error, UserError):  # a mistake in the logger: whoever wrote it wants to know where
            reason = "".join(traceback.format_exception(error)).rstrip()
        self._warn(f"logger {name} failed in {hook}; {how}: {reason}")
