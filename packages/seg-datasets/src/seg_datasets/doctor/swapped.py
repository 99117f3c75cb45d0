"""Tells when the folders of images and masks are swapped, of which every file would be a finding."""

from collections.abc import Sequence

import numpy as np

from seg_core.errors import InvalidArgumentError
from seg_datasets.doctor.checked import CheckedSplit, state
from seg_datasets.doctor.sources import Source

__all__ = ["check_not_swapped"]

_MOST = 0.8  # of the files
_FEW_LEVELS = 64  # values of a mask


def check_not_swapped(source: Source, splits: Sequence[CheckedSplit]) -> None:
    """Checks that images are not masks, and masks not images.

    Raises:
        InvalidArgumentError: if they are.
    """
    every = [split.examined.rows for split in splits if split.has_masks]
    if not sum(map(len, every)):
        return
    columns = (np.concatenate([rows[name] for rows in every]) for name in ("image", "levels", "mask", "many"))
    images, levels, masks, many = columns
    like_images = (np.isin(masks, [state("color-mask"), state("jpeg-mask")]) & many)[masks != state("absent")]
    like_masks = ((levels > 0) & (levels <= _FEW_LEVELS))[images == state("ok")]
    if not len(like_masks) or like_masks.mean() < _MOST or (len(like_images) and like_images.mean() < _MOST):
        return
    split = next(split for split in splits if split.has_masks)
    image = source.shown(split.image(0))
    where = (
        "exchange the two folders, or give images=... and masks=... the other way round"
        if not source.is_official
        else f"{source.again}"
    )
    raise InvalidArgumentError(
        f"images and masks of {source.root} are swapped: what is read as images, such as {image}, holds few values of "
        f"one channel, and what is read as masks holds photos. To remedy this, {where}"
    )
