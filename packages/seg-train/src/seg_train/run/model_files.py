"""The model files that a run writes after each evaluation."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seg_core.metrics.names import row_names
from seg_core.metrics.protocol import EvaluationProtocol
from seg_core.model_files.model_file import save_model
from seg_core.progress import Progress
from seg_train.run.data import RunData
from seg_train.run.folder import RunFolder
from seg_train.run.guards import on_any_process
from seg_train.run.state import RunState
from seg_train.run.together import together

__all__ = ["restore_models", "save_models"]


def save_models(
    folder: RunFolder,
    state: RunState,
    data: RunData,
    protocol: EvaluationProtocol,
    row: Mapping[str, Any],
    best: str | None,
) -> None:
    """Writes `model.pt`, `model_ema.pt` if there is an EMA, and `model_best.pt`; every process must call it.

    Args:
        folder: run folder.
        state: state of the run, with its weights.
        data: data of the run; its metadata and preprocessing are stored in the files.
        protocol: how the weights were evaluated.
        row: row of the evaluation; its scores are stored in the files.
        best: the weights that are the best so far, `"last"` or `"ema"`; None if they are not the best.
    """
    files = {folder.model: "last"}
    if state.network.average is not None:
        files[folder.model_ema] = "ema"
    if best is not None:
        files[folder.model_best] = best
    names = (*row_names(data.metadata.task), "iou_per_class")
    for path, which in files.items():
        network = state.network.for_evaluation(which)
        if not state.accelerator.is_main_process:
            continue
        prefix = "" if which == "last" else f"{which}_"
        tuned = row.get(f"{prefix}threshold_per_class")
        thresholds = None if tuned is None else tuple(tuned[label] for label in data.metadata.labels)
        save_model(
            network,
            path,
            metadata=data.metadata,
            preprocessing=data.preprocessing,
            metrics={name: row[prefix + name] for name in names if prefix + name in row},
            protocol=protocol if thresholds is None else replace(protocol, thresholds=thresholds),
            thresholds=thresholds,
        )


def restore_models(
    folder: RunFolder, state: RunState, data: RunData, protocol: EvaluationProtocol, progress: Progress
) -> None:
    """Writes model files of a finished run that were lost; those of the best weights cannot be written again.

    Every process must call it.

    Args:
        folder: run folder.
        state: state of the run, with its weights.
        data: data of the run.
        protocol: how the weights were evaluated.
        progress: shows what was written, and what could not be.
    """
    lost = [folder.model] + [folder.model_ema] * (state.network.average is not None)
    # writing gathers the weights of all processes, so the main one decides for all
    if on_any_process(state.accelerator, state.accelerator.is_main_process and not all(p.is_file() for p in lost)):
        with contextlib.ExitStack() as claimed:
            with together():
                if state.accelerator.is_main_process:
                    claimed.enter_context(folder.claim(new=False))
            save_models(folder, state, data, protocol, state.last_row, None)
        progress.warn(f"model files in {folder.path} were missing; they are written again")
    if state.position.best is not None and not folder.model_best.is_file():
        progress.warn(
            f"{folder.model_best} is missing, and only an evaluation writes it; model.pt has the last weights"
        )
