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

Of a binary or multilabel task:

- `protocol` has `thresholds`, one probability per class that it must exceed, and `tuned`, whether they were tuned on
  the images scored.
- `thresholds`: `values`, the same; `source`, `"--threshold"`, `"model file"` or `"default"` (0.5); `tuned_on`, null if
  the model file does not say that they were tuned, else `dataset`, `split`, `score` (`"iou"`, whose highest value chose
  them) and `same_images`: whether the images scored are those, which makes the scores slightly too good.
- `scores`: `miou`, `acc`, `dice`, `precision`, `recall`, `specificity`, `ap` (average precision; null if the predictor
  returns no logits), and `loss`, the mean binary cross entropy over all pixels and classes.
- `per_class`: `iou`, `dice`, `precision`, `recall`, `specificity` and `ap`, and `pixels`.
- `confusion_matrix`: K tables of 2 lists of 2 pixel counts; rows are ground truth without and with the class, columns
  are predictions.

An undefined score, such as the IoU of a class that does not occur, is null.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seg_core.files.json_text import to_json
from seg_core.labels.tasks import MULTICLASS
from seg_core.metrics.names import AVERAGE_PRECISION, SCORE_TITLES, per_class_names, row_names
from seg_core.progress import print_table
from seg_train.commands.eval_thresholds import show_thresholds

if TYPE_CHECKING:
    from seg_core.metrics.metric_store import MetricStore

__all__ = ["report_json", "results_of", "show_report"]


_TITLES = {"iou": "IoU", "acc": "accuracy", "dice": "Dice", "ap": "AP"}


def results_of(store: "MetricStore", labels: Sequence[str]) -> dict[str, Any]:
    """Returns the keys `scores`, `per_class` and `confusion_matrix` of the report."""
    matrix, scores = store.confusion_matrix, store.summarize()
    own = [name.removesuffix("_per_class") for name in per_class_names(store.task)]
    pixels = matrix
    if store.task != MULTICLASS:
        own.append(AVERAGE_PRECISION)
        pixels = matrix[:, 1]
    unknown = [None] * len(labels)
    per_class = {
        label: {
            **{key: scores.get(f"{key}_per_class", unknown)[index] for key in own},
            "pixels": int(pixels[index].sum()),
        }
        for index, label in enumerate(labels)
    }
    means = {key: scores.get(key) for key in (*row_names(store.task), "loss")}
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
    if "thresholds" in report:
        show_thresholds(list(report["per_class"]), report["thresholds"])
    keys = [key for key in next(iter(report["per_class"].values())) if key != "pixels"]
    print_table(
        ("class", *(_TITLES.get(key, key) for key in keys), "pixels"),
        [
            (label, *(_number(row[key], "absent") for key in keys), str(row["pixels"]))
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
