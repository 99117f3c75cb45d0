"""Draws a contact sheet of a config's augmentation: training images with their masks.

    python examples/augmentations.py examples/configs/camvid-enet.toml -s data.dataset.root=data/CamVid

Each image takes two rows: the image and its mask. The first column shows the transform's output, the others random
draws of the augmentation, without normalization. Pixels from outside of the image have the mean color and, in the mask,
the color of ignored pixels.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from seg_core import SegmentationAugment, SegmentationTransform, colorize, sample_generator
from seg_core.interfaces import SegmentationDataset
from seg_core.plots.overlay import image_array
from seg_datasets import get_dataset
from seg_train import load_config

GAP = 4  # pixels between images


def contact_sheet(
    dataset: SegmentationDataset,
    transform: SegmentationTransform,
    augment: SegmentationAugment,
    indices: Sequence[int],
    num_draws: int,
    seed: int = 0,
) -> Image.Image:
    """Returns the sheet; the transform must bring all images to one size."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (augment.mean, augment.std))
    channels = dataset.metadata.channels
    scaled = dataclasses.replace(channels, range=(0, 1))
    rows: list[list[npt.NDArray[np.uint8]]] = []
    for index in indices:
        image, mask = transform(*dataset[index], generator=sample_generator(seed, 0, index))
        images, masks = [image_array(image, channels)], [colorize(mask, dataset.metadata)]
        for epoch in range(num_draws):
            pixels, ids = augment(image, mask, generator=sample_generator(seed, epoch, index, stream=1))
            images.append(image_array(pixels.mul(std).add_(mean), scaled))
            masks.append(colorize(ids, dataset.metadata))
        rows += [images, masks]
    height, width = rows[0][0].shape[:2]
    sheet = Image.new(
        "RGB", (len(rows[0]) * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), dataset.metadata.ignore_color
    )
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            sheet.paste(Image.fromarray(cell), (x * (width + GAP), y * (height + GAP)))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a config of seg train")
    parser.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="as for seg train")
    parser.add_argument("--images", type=int, default=4, help="number of images, spread over the dataset (default: 4)")
    parser.add_argument("--draws", type=int, default=5, help="random draws per image (default: 5)")
    parser.add_argument("--out", type=Path, default=Path("augmentations.png"), help="file (default: augmentations.png)")
    args = parser.parse_args()

    data = load_config(args.config, args.set).data
    section = data.dataset
    dataset = get_dataset(section.name, section.root, split=section.train_split, **section.params)
    metadata = dataset.metadata
    if data.transform.train.size is None:
        parser.error(f"{args.config} does not set data.transform.train.size; a sheet needs images of one size")
    transform = SegmentationTransform(
        **data.transform.train.crop_options(), mask_fill=metadata.ignore_index, channels=metadata.channels
    )
    augment = SegmentationAugment(
        **data.augment.model_dump(),
        mask_fill=metadata.ignore_index,
        left_right_pairs=metadata.left_right_pairs,
        channels=metadata.channels,
    )
    indices = np.linspace(0, len(dataset) - 1, args.images).round().astype(int).tolist()
    contact_sheet(dataset, transform, augment, indices, args.draws).save(args.out)
    print(args.out)


if __name__ == "__main__":
    main()
