"""What the network sees: samples of a batch after augmentation, with the normalization undone."""

import torch

from seg_core.interfaces import SegmentationDataset
from seg_core.randomness import sample_generator
from seg_train.data.batches import Batch
from seg_train.loggers.base import TrainingSample
from seg_train.loggers.naming import image_name
from seg_train.run.step import Parts

__all__ = ["preview_of"]


@torch.no_grad()
def preview_of(parts: Parts, batch: Batch, dataset: SegmentationDataset, limit: int = 8) -> list[TrainingSample]:
    """Returns the first samples of a batch as `train_step` gives them to the network.

    Each sample has generators of its own, from the run's seed, epoch and index. So the draws of the training step are
    repeated here, and no other random state changes.

    Args:
        parts: of the run; its augmentation is applied on its device.
        batch: as the loader returns it; it is not changed.
        dataset: the train split, for the names of the files.
        limit: maximum number of samples.
    """
    device, augment = parts.accelerator.device, parts.augment
    images, masks = augment(
        batch.images[:limit].to(device),
        batch.masks[:limit].to(device),
        generator=[sample_generator(parts.seed, batch.epoch, place, 1) for place in batch.places[:limit]],
    )
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (augment.mean, augment.std))
    pixels = images.mul(std).add_(mean).mul_(255).round_().clamp_(0, 255).to(torch.uint8).cpu()
    return [
        TrainingSample(index, image_name(dataset, index), image.contiguous(), mask)
        for index, image, mask in zip(batch.indices, pixels, masks.cpu(), strict=False)
    ]
