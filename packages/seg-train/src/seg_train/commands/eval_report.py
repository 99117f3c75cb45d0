"""The report of `seg eval`: one JSON object, and tables of it.

These keys are stable; others may be added:

- `model`, `weights`, `dataset`, `split`: as named on the command line or by the run; `weights` is null for a run and a
  model file, and the name of the selected member for `DEFAULT`.
- `num_images`: number of images scored.
- `protocol`: how the scores were measured, see `seg_core.EvaluationProtocol`; `protocol_text`: the same in a sentence.
- `settings`: `root`, `params`, `resize` (`{}` if each image keeps its size), `scale` and `shorter_side` (of the resize,
  null for another kind), `tile`, `overlap`, `scales`, `hflip`, `predictor`, `predictor_params`, `batch_size`, `device`
  (the one used) and `precision`.
- `scores`: `miou`, `acc`, `macc`, `fwiou`, `dice` (see `seg_core.scores_from_confusion`), each 0 to 1, and `loss`, the
  mean cross entropy over all pixels (null if the predictor returns no logits, or with `-s loss=false`).
- `per_class`: class name -> `iou`, `acc`, `dice` (0 to 1), and `pixels`, the pixels of the class in the masks.
- `confusion_matrix`: K lists of K pixel counts; rows are ground truth, columns are predictions, both in the order of
  `per_class`.
- `versions`: package -> version.

An undefined score, such as the IoU of a class that does not occur, is null.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seg_core.files.json_text import to_json
from seg_core.metrics.names import SCORE_NAMES, SCORE_TITLES
from seg_core.progress import print_table

if TYPE_CHECKING:
    from seg_core.metrics.metric_store import MetricStore

__all__ = ["report_json", "results_of", "show_report"]


def results_of(store: "MetricStore", labels: Sequence[str]) -> dict[str, Any]:
    """Returns the keys `scores`, `per_class` and `confusion_matrix` of the report."""
    matrix, scores = store.confusion_matrix, store.summarize()
    per_class = {
        label: {
            **{key: scores[f"{key}_per_class"][index] for key in ("iou", "acc", "dice")},
            "pixels": int(matrix[index].sum()),
        }
        for index, label in enumerate(labels)
    }
    means = {key: scores.get(key) for key in (*SCORE_NAMES, "loss")}
    return {"scores": means, "per_class": per_class, "confusion_matrix": matrix.tolist()}


def report_json(report: Mapping[str, Any]) -> str:
    """Returns the report as indented JSON; a row of the confusion matrix takes one line, not one per number."""
    parts = []
    for key, value in report.items():
        text = to_json(value, indent=2, default=str).replace("\n", "\n  ")
        if key == "confusion_matrix":
            text = "[\n" + ",\n".join(f"    {to_json(row)}" for row in value) + "\n  ]"
        parts.append(f"  {to_json(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}"


def show_report(report: Mapping[str, Any]) -> None:
    """Prints the protocol, the scores per class, their means, and the mIoU as the last line."""
    print(f"{report['model']} on {report['num_images']} images: {report['protocol_text']}")
    print_table(
        ("class", "IoU", "accuracy", "Dice", "pixels"),
        [
            (label, *(_number(row[key], "absent") for key in ("iou", "acc", "dice")), str(row["pixels"]))
            for label, row in report["per_class"].items()
        ],
    )
    print()
    scores = report["scores"]
    width = max(len(SCORE_TITLES[key]) for key in scores)
    for key, value in scores.items():
        print(f"{SCORE_TITLES[key]:<{width}}  {_number(value, 'none')}")
    print(f"mIoU {report['scores']['miou']:.4f}")


def _number(value: float | None, otherwise: str) -> str:
    return otherwise if value is None or math.isnan(value) else f"{value:.4f}"
