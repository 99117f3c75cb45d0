"""The thresholds of `seg eval` for a binary or multilabel dataset, and where they are from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from seg_core.interfaces import SegmentationDataset
    from seg_core.labels.metadata import DatasetMetadata
    from seg_core.metrics.protocol import EvaluationProtocol

__all__ = ["UsedThresholds", "find_thresholds", "show_thresholds"]

_OPTION, _FILE, _DEFAULT = "--threshold", "model file", "default"


@dataclass(frozen=True)
class UsedThresholds:
    """Thresholds, one per class, and where they are from.

    Attributes:
        values: probabilities; None for a multiclass task.
        source: `"--threshold"`, `"model file"` or `"default"`.
        tuned_on: dataset, split, digest and score that those of a model file were tuned on; None if they were not
            tuned, or the file does not say where.
    """

    values: tuple[float, ...] | None
    source: str = _DEFAULT
    tuned_on: Mapping[str, str] | None = None

    def is_tuned_on(self, protocol: "EvaluationProtocol", dataset: "SegmentationDataset") -> bool:
        """Returns whether they were tuned on the images of `dataset`, which `protocol` describes."""
        found = self.tuned_on
        if found is None or found["dataset"] != protocol.dataset or found["digest"] not in ("", protocol.digest):
            return False
        # a split may have two names, and images without files the same digest in all splits
        is_of_files = bool(found["digest"]) and any(Path(name).is_file() for name in dataset.file_names(0)[:1])
        return is_of_files or found["split"] == protocol.split

    def described(
        self, protocol: "EvaluationProtocol", dataset: "SegmentationDataset"
    ) -> tuple["EvaluationProtocol", dict[str, Any]]:
        """Returns the protocol with the thresholds, and the key `thresholds` of the report; none for multiclass."""
        if self.values is None:
            return protocol, {}
        is_tuned = self.is_tuned_on(protocol, dataset)
        tuned_on = None
        if self.tuned_on is not None:
            tuned_on = {name: self.tuned_on[name] for name in ("dataset", "split", "score")} | {"same_images": is_tuned}
        own = {"values": list(self.values), "source": self.source, "tuned_on": tuned_on}
        return replace(protocol, thresholds=self.values, tuned=is_tuned), {"thresholds": own}


def find_thresholds(
    network: "nn.Module", metadata: "DatasetMetadata", given: tuple[float, ...] | None
) -> UsedThresholds:
    """Returns the thresholds to evaluate a network with.

    Args:
        network: with `model_info` if its file has one.
        metadata: of the dataset.
        given: the user's, one per class; None for those of the model file, or 0.5.
    """
    from seg_train.run.thresholds import thresholds_for

    values = thresholds_for(network, metadata, given)
    info = getattr(network, "model_info", None)
    if given is not None or values is None:
        return UsedThresholds(values, _OPTION)
    if info is None or info.thresholds != values:
        return UsedThresholds(values)
    protocol = info.protocol if isinstance(info.protocol, Mapping) else {}
    tuned_on = None
    if protocol.get("tuned") is True and tuple(protocol.get("thresholds") or ()) == values:
        tuned_on = {name: str(protocol.get(name, "")) for name in ("dataset", "split", "digest")} | {"score": "iou"}
    return UsedThresholds(values, _FILE, tuned_on)


def show_thresholds(labels: Sequence[str], thresholds: Mapping[str, Any]) -> None:
    """Prints the thresholds and where they are from; a warning if they were tuned on the images that were scored.

    Args:
        labels: names of the classes.
        thresholds: the key `thresholds` of the report.
    """
    values, tuned_on = thresholds["values"], thresholds["tuned_on"]
    shown = f"{values[0]:.3g}"
    if len(set(values)) > 1:
        shown = ", ".join(f"{label} {value:.3g}" for label, value in zip(labels, values, strict=True))
    source = {_FILE: "of the model file", _OPTION: f"of {_OPTION}"}.get(thresholds["source"], "by default")
    text = f"threshold{'s' * (len(set(values)) > 1)} {shown} {source}"
    if tuned_on is not None:
        text += f", tuned on the {tuned_on['split']} split of {tuned_on['dataset']} for the highest IoU"
        if tuned_on["same_images"]:
            text += (
                ". These are the images scored here, so the scores are slightly too good; score another split, as with "
                "-s split=test, or set --threshold 0.5"
            )
    print(text)
