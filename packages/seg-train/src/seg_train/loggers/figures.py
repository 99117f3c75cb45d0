"""Figures of samples and snapshots, as every logger shows them. Their images are colors, whatever the dataset's are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seg_core.labels.channels import RGB_CHANNELS
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.figures import draw_snapshots
from seg_core.plots.masks import draw_masks
from seg_train.loggers.base import Moment, Snapshot, TrainingSample
from seg_train.loggers.naming import title_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_of_samples", "figure_of_snapshots"]


def figure_of_samples(samples: Sequence[TrainingSample], metadata: DatasetMetadata) -> "Figure":
    """Returns a figure of the images of a batch beside their masks."""
    titles = [title_of("train", sample.index, sample.name) for sample in samples]
    images, masks = [sample.image for sample in samples], [sample.mask for sample in samples]
    return draw_masks(images, masks, metadata, titles, channels=RGB_CHANNELS)


def figure_of_snapshots(
    snapshots: Sequence[Snapshot], metadata: DatasetMetadata, moment: Moment | None = None
) -> "Figure":
    """Returns a figure of images, ground truth and predictions; with `moment` each row has a title."""
    titles = None
    if moment is not None:
        titles = [f"{title_of('val', shot.index, shot.name)}, {moment.title}" for shot in snapshots]
    return draw_snapshots(
        [shot.image for shot in snapshots],
        [shot.target for shot in snapshots],
        [shot.prediction for shot in snapshots],
        metadata,
        titles=titles,
        channels=RGB_CHANNELS,
    )
