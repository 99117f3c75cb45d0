"""Trains our network and loss with Lightning's `Trainer`: `python examples/with_lightning.py --help`.

Lightning loops, stores checkpoints and moves batches; network, loss, augmentation and metric are ours.
Needs `pip install lightning`, beside seg-train.
"""

import argparse

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from seg_core import DatasetMetadata, MetricStore, SegmentationAugment, SegmentationTransform, argmax_labels
from seg_datasets import get_dataset
from seg_models import get_model
from seg_train import CrossEntropyLoss

SIZE = (64, 96)


class Segmentation(lightning.LightningModule):
    """A network with its loss, augmentation and confusion matrix."""

    def __init__(self, name: str, metadata: DatasetMetadata, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.network = get_model(name, num_classes=metadata.num_classes)
        self.criterion = CrossEntropyLoss(ignore_index=metadata.ignore_index)
        self.augment = SegmentationAugment(hflip=0.5)
        self.normalize = SegmentationAugment()
        self.store = MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning's names
        images, masks = self.augment(*batch)  # uint8 in; normalized float32 images, int64 masks out
        loss = self.criterion(self.network(images)["out"], masks)
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.store.reset()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:  # noqa: ARG002 - Lightning's names
        images, masks = self.normalize(*batch)
        self.store.store_results(masks, argmax_labels(self.network(images)["out"]))

    def on_validation_epoch_end(self) -> None:
        # over all pixels of the split, not a mean of the batches; with several processes, sum the matrices first
        self.log("miou", self.store.summarize()["miou"], prog_bar=True)

    def configure_optimizers(self) -> torch.optim.lr_scheduler.LRScheduler | dict[str, object]:
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def train(name: str, steps: int, lr: float = 1e-2) -> float:
    """Trains on Shapes and returns the mIoU of the val split."""
    lightning.seed_everything(0)
    transform = SegmentationTransform(size=SIZE)
    train_set = get_dataset("Shapes", None, split="train", length=8 * steps, size=SIZE, transforms=transform)
    val_set = get_dataset("Shapes", None, split="val", length=32, size=SIZE, transforms=SegmentationTransform())
    module = Segmentation(name, train_set.metadata, lr)
    trainer = lightning.Trainer(max_epochs=1, accelerator="auto", devices=1, logger=False, enable_checkpointing=False)
    trainer.fit(module, DataLoader(train_set, batch_size=8, shuffle=True), DataLoader(val_set, batch_size=16))
    return float(trainer.callback_metrics["miou"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fast_scnn", help="a name from `seg models` (default: fast_scnn)")
    parser.add_argument("--steps", type=int, default=96, help="batches of 8 images (default: 96)")
    args = parser.parse_args()
    print(f"mIoU {train(args.model, args.steps):.3f}")


if __name__ == "__main__":
    main()
