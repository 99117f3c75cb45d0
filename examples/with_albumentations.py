"""Trains in a plain loop with transforms of albumentations: `python examples/with_albumentations.py --help`.

A transform of a dataset here is any function of a sample: `(image, mask) -> (image, mask)`. albumentations takes and
returns arrays (H, W, 3) and (H, W), so that a few lines lie between.
Needs `pip install albumentations`, beside seg-train.
"""

import argparse
from collections.abc import Callable

import albumentations
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from seg_core import MetricStore, SegmentationAugment, argmax_labels, seed
from seg_datasets import get_dataset
from seg_models import get_model
from seg_train import CrossEntropyLoss

SIZE = (64, 96)


def joint_transform(transform: albumentations.Compose) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Returns a transform of our samples, uint8 (3, H, W) and (H, W), that applies one of albumentations."""

    def apply(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        changed = transform(image=image.permute(1, 2, 0).numpy(), mask=mask.numpy())
        return (
            torch.from_numpy(np.ascontiguousarray(changed["image"].transpose(2, 0, 1))),
            torch.from_numpy(np.ascontiguousarray(changed["mask"])),
        )

    return apply


def train(name: str, steps: int, lr: float = 1e-2) -> float:
    """Trains on Shapes and returns the mIoU of the val split."""
    seed(0)
    augment = albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=0.5),
            # pixels outside of the image are not learned from: 255 is the ignored value
            albumentations.Affine(rotate=(-10, 10), scale=(0.9, 1.1), fill_mask=255, p=0.5),
            albumentations.RandomBrightnessContrast(p=0.5),
            albumentations.RandomCrop(*SIZE),
        ],
        seed=0,
    )
    train_set = get_dataset(
        "Shapes", None, split="train", length=8 * steps, size=(72, 104), transforms=joint_transform(augment)
    )
    val_set = get_dataset("Shapes", None, split="val", length=32, size=SIZE)
    metadata = train_set.metadata
    normalize = SegmentationAugment()  # without arguments: ImageNet's mean and std, float32 images and int64 masks
    model = get_model(name, num_classes=metadata.num_classes)
    criterion = CrossEntropyLoss(ignore_index=metadata.ignore_index)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)

    for images, masks in DataLoader(train_set, batch_size=8, shuffle=True):
        images, masks = normalize(images, masks)
        loss = criterion(model(images)["out"], masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()

    model.eval()
    store = MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index)
    with torch.inference_mode():
        for images, masks in DataLoader(val_set, batch_size=16):
            images, masks = normalize(images, masks)
            store.store_results(masks, argmax_labels(model(images)["out"]))
    return float(store.summarize()["miou"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fast_scnn", help="a name from `seg models` (default: fast_scnn)")
    parser.add_argument("--steps", type=int, default=96, help="batches of 8 images (default: 96)")
    args = parser.parse_args()
    print(f"mIoU {train(args.model, args.steps):.3f}")


if __name__ == "__main__":
    main()
