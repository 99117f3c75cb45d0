"""Evaluations of a run: the weights on val, with the images that are drawn of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from seg_core.metrics.metric_store import MetricStore
from seg_core.metrics.protocol import EvaluationProtocol, digest_of_dataset
from seg_core.transforms.preprocessing import resize_image
from seg_train.config.schema import TrainConfig
from seg_train.data.batches import Batch, evaluation_plan
from seg_train.loggers.base import Snapshot
from seg_train.run.build import RunData, precision_of
from seg_train.run.step import evaluate_batches
from seg_train.run.validation_loss import SplitLoss
from seg_train.run.ways import Way, WayOptions

__all__ = ["Outcome", "Validation"]


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found.

    Attributes:
        scores: as `MetricStore.summarize` gives them, over the samples of all processes; `"loss"` is None where it is
            not computed.
        matrix: int64 (K, K), rows truth.
        snapshots: of the fixed images; the main process has them.
    """

    scores: dict[str, Any]
    matrix: Tensor
    snapshots: Sequence[Snapshot]


class Validation:
    """Evaluates networks on val, each sample once over all processes.

    Args:
        config: of the run.
        data: whose val samples are taken.
        criterion: `(logits, target) -> loss`, for the measure `"loss"`.
        accelerator: device, precision and processes.

    Attributes:
        way: of predicting.
        protocol: what is scored, and how.

    Raises:
        UnknownNameError: if there is no such way of predicting.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: RunData,
        criterion: Callable[[Tensor, Tensor], Tensor],
        accelerator: Accelerator,
    ) -> None:
        section = config.evaluation
        options = WayOptions(
            section.tile, section.overlap, section.scales, section.hflip, section.predictor, section.params
        )
        self.way = Way(options, data.metadata)
        self._data = data
        self._criterion = criterion if section.loss else None
        self._accelerator = accelerator
        self._batch_size = section.batch_size
        self.protocol = EvaluationProtocol(
            dataset=data.metadata.name,
            split=config.data.dataset.val_split,
            digest=digest_of_dataset(data.val_set),
            num_images=len(data.val_set),
            classes=data.metadata.labels,
            resize=data.preprocessing.resize,
            precision=precision_of(accelerator),
            **options.protocol(),
        )
        # The fixed images, spread evenly over those that the main process evaluates.
        own = range(0, len(data.val_set), accelerator.num_processes)
        count = min(config.trainer.snapshots, len(own))
        self._shown = frozenset(own[i * (len(own) - 1) // max(count - 1, 1)] for i in range(count))

    def measures_loss(self, network: nn.Module) -> bool:
        """Returns whether evaluations have a val_loss; where the config does not say, one small image tells."""
        return self._criterion is not None and self.way.gives_logits(network)

    def __call__(self, network: nn.Module, on_progress: Callable[[int, int], None]) -> Outcome:
        """Returns what `network` reaches; every process must call it.

        Args:
            network: on the device of the accelerator.
            on_progress: called before each batch is counted, with the samples done and all samples of this process;
                what it raises ends the evaluation.
        """
        metadata, accelerator = self._data.metadata, self._accelerator
        store = MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index)
        loss = None if self._criterion is None else SplitLoss(self._criterion, metadata.ignore_index)
        plan = evaluation_plan(
            len(self._data.val_set), self._batch_size, accelerator.process_index, accelerator.num_processes
        )
        snapshots: dict[int, Snapshot] = {}
        done, total = 0, sum(map(len, plan))

        def on_batch(batch: Batch, labels: Tensor) -> None:
            nonlocal done
            done += len(batch.indices)
            on_progress(done, total)
            for place, index in enumerate(batch.indices):
                if index in self._shown:
                    mask = batch.masks[place]
                    image = resize_image(batch.images[place], (mask.shape[-2], mask.shape[-1]))
                    snapshots[index] = Snapshot(index, image, mask, labels[place].cpu())

        with accelerator.autocast():
            evaluate_batches(
                network,
                self._data.val_loader.read(plan),
                store,
                way=self.way,
                transform=self._data.val_transform,
                device=accelerator.device,
                loss=loss,
                on_batch=on_batch,
            )
        store.reduce()
        scores = store.summarize()
        scores["loss"] = None if loss is None or not loss.is_measured else loss.value_of_all_processes()
        return Outcome(scores, store.confusion_matrix, [snapshots[index] for index in sorted(snapshots)])
