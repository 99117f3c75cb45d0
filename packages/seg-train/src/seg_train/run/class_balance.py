"""Class weights and sampling of rare classes, from the pixel counts of the training masks.

Pixels are counted once per run. The results are kept in the run folder, so that a resumed run does not count again.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seg_core.errors import ConfigError
from seg_core.files.scan import DatasetScan
from seg_core.interfaces import SegmentationDataset
from seg_core.metrics.class_weights import class_weights, pixel_counts
from seg_train.config.schema import TrainConfig
from seg_train.config.task import weights_problem
from seg_train.data.rare_classes import RareClassSampling
from seg_train.run.folder import RunFolder

__all__ = ["ClassBalance"]


@dataclass(frozen=True)
class ClassBalance:
    """Class weights and rare-class sampling of a run.

    Attributes:
        weights: class weights of the loss, or None.
        sampling: draws samples by class, or None.
        pixel_counts: int64 (N, K), pixels of each class in each training image, or None if nothing needs them.
    """

    weights: list[float] | None
    sampling: RareClassSampling | None
    pixel_counts: Tensor | None

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        train_set: SegmentationDataset,
        folder: RunFolder,
        scan: Callable[[], DatasetScan],
        *,
        resumed: bool,
    ) -> "ClassBalance":
        """Returns the class balance for a config; counts pixels if necessary.

        Args:
            config: config of the run.
            train_set: dataset to train on.
            folder: run folder, with the counts of a resumed run.
            scan: returns the scan of all training masks; called at most once.
            resumed: whether the run is resumed from a checkpoint.

        Raises:
            ConfigError: if the config has class weights for another number of classes.
        """
        scan = functools.cache(scan)
        weights = _weights(config, train_set, folder, scan, resumed=resumed)
        section = config.data.sampling
        if not section.rare_classes:
            return cls(weights, None, None)
        counts = folder.read_pixel_counts(train_set.metadata.num_classes) if resumed else None
        if counts is None:
            counts = torch.from_numpy(scan().pixels)
        sampling = RareClassSampling(
            counts, temperature=section.temperature, min_pixels=section.min_pixels, attempts=section.attempts
        )
        return cls(weights, sampling, counts)

    def save(self, folder: RunFolder, scheme: object, labels: tuple[str, ...]) -> None:
        """Writes weights and counts to the run folder.

        Args:
            folder: run folder.
            scheme: `criterion.class_weights` of the config.
            labels: names of the classes.
        """
        if self.weights is not None:
            folder.write_class_weights(scheme if isinstance(scheme, str) else "given", labels, self.weights)
        if self.pixel_counts is not None:
            folder.write_pixel_counts(self.pixel_counts)


def _weights(
    config: TrainConfig,
    train_set: SegmentationDataset,
    folder: RunFolder,
    scan: Callable[[], DatasetScan],
    *,
    resumed: bool,
) -> list[float] | None:
    wanted, metadata = config.criterion.class_weights, train_set.metadata
    if problem := weights_problem(wanted, metadata):  # the config check does not know the task of every dataset
        raise ConfigError(problem)
    if not isinstance(wanted, str):
        if len(wanted) != metadata.num_classes:  # the config check does not know the classes of every dataset
            raise ConfigError(
                f"criterion.class_weights has {len(wanted)} numbers but {metadata.name} has {metadata.num_classes} "
                "classes"
            )
        return list(wanted)
    if wanted == "none":
        return None
    kept = folder.read_class_weights(metadata.num_classes) if resumed else None
    return kept if kept is not None else class_weights(pixel_counts(scan()), wanted).tolist()
