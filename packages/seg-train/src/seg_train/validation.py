"""Evaluations of a run: the weights on val, with the pictures that are drawn of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from seg_core.interfaces import Predict
from seg_core.metrics.metric_store import MetricStore
from seg_train.building import RunData
from seg_train.config.schema import TrainConfig
from seg_train.engine import evaluate_batches
from seg_train.loggers.base import Snapshot
from seg_train.samples import Batch, evaluation_plan

__all__ = ["Outcome", "Validation"]


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found.

    Attributes:
        scores: as `MetricStore.summarize` gives them, over the samples of all processes.
        matrix: int64 (K, K), rows truth.
        snapshots: of the fixed pictures; the main process has them.
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
        predict: way of predicting.
        accelerator: device, precision and processes.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: RunData,
        criterion: Callable[[Tensor, Tensor], Tensor],
        predict: Predict,
        accelerator: Accelerator,
    ) -> None:
        self.predict = predict
        self._data = data
        self._criterion = criterion
        self._accelerator = accelerator
        loader = config.data.loader
        whole = config.data.transform.val.size is None  # pictures of any size share no batch
        self._batch_size = loader.eval_batch_size or (1 if whole else loader.batch_size)
        # The fixed pictures, spread evenly over those that the main process evaluates.
        own = range(0, len(data.val_set), accelerator.num_processes)
        count = min(config.trainer.snapshots, len(own))
        self._shown = frozenset(own[i * (len(own) - 1) // max(count - 1, 1)] for i in range(count))

    def __call__(self, network: nn.Module, on_progress: Callable[[int, int], None]) -> Outcome:
        """Returns what `network` reaches; every process must call it.

        Args:
            network: on the device of the accelerator.
            on_progress: called before each batch is counted, with the samples done and all samples of this process;
                what it raises ends the evaluation.
        """
        metadata, accelerator = self._data.metadata, self._accelerator
        store = MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index)
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
                    snapshots[index] = Snapshot(index, batch.images[place], batch.masks[place], labels[place].cpu())

        with accelerator.autocast():
            evaluate_batches(
                network,
                self._data.val_loader.read(plan),
                store,
                predict=self.predict,
                augment=self._data.normalize,
                device=accelerator.device,
                criterion=self._criterion,
                on_batch=on_batch,
            )
        store.reduce()
        return Outcome(store.summarize(), store.confusion_matrix, [snapshots[index] for index in sorted(snapshots)])
