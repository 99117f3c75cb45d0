"""Scores a model file with torchmetrics beside our confusion matrix: `python examples/with_torchmetrics.py MODEL`.

Both give the same IoU per class: that of torchmetrics' `JaccardIndex`, which adds up the pixels of the whole split, as
`MetricStore` does. Its `MeanIoU` is a mean over images, another protocol and another number.
Needs `pip install torchmetrics`, beside seg-datasets and seg-models.
"""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassJaccardIndex

from seg_core import MetricStore, SegmentationAugment, SegmentationTransform, argmax_labels, scores_from_confusion
from seg_datasets import get_dataset
from seg_models import load_model

SIZE = (64, 96)


def score(model: nn.Module, length: int = 32) -> dict[str, list[float]]:
    """Returns IoU per class of the val split of Shapes, by torchmetrics and by our metric."""
    dataset = get_dataset("Shapes", None, split="val", length=length, size=SIZE, transforms=SegmentationTransform())
    metadata = dataset.metadata
    metric = MulticlassJaccardIndex(metadata.num_classes, average="none", ignore_index=metadata.ignore_index)
    store = MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index)
    normalize = SegmentationAugment()
    model.eval()
    with torch.inference_mode():
        for images, masks in DataLoader(dataset, batch_size=16):
            images, masks = normalize(images, masks)
            labels = argmax_labels(model(images)["out"])
            metric.update(labels.long(), masks)  # torchmetrics: prediction first
            store.store_results(masks, labels)  # ours: ground truth first
    ours = scores_from_confusion(store.confusion_matrix)["iou_per_class"]
    return {"torchmetrics": metric.compute().tolist(), "seg": [float(value) for value in ours]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model file that was trained on Shapes, such as `hatch run demo` writes")
    parser.add_argument("--length", type=int, default=32, help="images of the val split (default: 32)")
    args = parser.parse_args()
    model = load_model(args.model)
    scores = score(model, args.length)
    print(f"{'class':12} {'torchmetrics':>12} {'seg':>12}")
    labels = get_dataset("Shapes", None, split="val").metadata.labels
    for label, theirs, ours in zip(labels, scores["torchmetrics"], scores["seg"], strict=True):
        print(f"{label:12} {theirs:12.4f} {ours:12.4f}")


if __name__ == "__main__":
    main()
