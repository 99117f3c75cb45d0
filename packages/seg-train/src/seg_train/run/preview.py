"""What the network sees: samples of a batch after augmentation, with the normalization undone."""

import torch

from seg_core.interfaces import SegmentationDataset
from seg_core.labels.channels import ImageChannels
from seg_core.plots.overlay import image_array
from seg_core.randomness import sample_generator
from seg_train.data.batches import Batch
from seg_train.loggers.base import TrainingSample
from seg_train.loggers.naming import image_name
from seg_train.run.step import Parts

__all__ = ["preview_of", "shown_image"]


@torch.no_grad()
def preview_of(parts: Parts, batch: Batch, dataset: SegmentationDataset, limit: int = 8) -> list[TrainingSample]:
    """Returns the first samples of a batch as `train_step` gives them to the network, in the channels that are shown.

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
    shown = list(dataset.metadata.channels.shown)
    mean, std = (torch.tensor(v, device=device)[shown, None, None] for v in (augment.mean, augment.std))
    # values are in 0 to 1 between scaling from the range of the channels and normalization
    pixels = images[:, shown].mul_(std).add_(mean).mul_(255).round_().clamp_(0, 255).to(torch.uint8).cpu()
    return [
        TrainingSample(index, image_name(dataset, index), image.contiguous(), mask)
        for index, image, mask in zip(batch.indices, pixels, masks.cpu(), strict=False)
    ]


def shown_image(image: torch.Tensor, channels: ImageChannels) -> torch.Tensor:
    """Returns an image as it is shown: its channels for red, green and blue, scaled from their range and clipped.

    Args:
        image: (C, H, W), in the unit of its channels.
        channels: its channels.

    Returns:
        uint8 (3, H, W) in 0 to 255; an image of three channels of 8 bits as it is.
    """
    if channels.is_rgb8:
        return image
    return torch.from_numpy(image_array(image, channels)).permute(2, 0, 1)
