"""The plan of a run: the batches of each epoch, and the steps after which it evaluates."""

from collections.abc import Sequence

from accelerate import Accelerator

from seg_train.config.schema import TrainConfig
from seg_train.data.batches import PlannedSample, training_plan
from seg_train.data.rare_classes import RareClassSampling
from seg_train.run.data import RunLength
from seg_train.run.state import Position

__all__ = ["RunPlan"]


class RunPlan:
    """Says what a run does at each position; it depends on the config and the data alone.

    Args:
        config: config of the run.
        num_images: number of training images.
        sampling: sampling by class, or None: each image once per epoch, or `crops_per_image` times.
        accelerator: its processes share each batch.

    Attributes:
        length: of the run, in steps and epochs.
    """

    def __init__(
        self, config: TrainConfig, num_images: int, sampling: RareClassSampling | None, accelerator: Accelerator
    ) -> None:
        self.length = RunLength.of(config, num_images)
        self._config = config
        self._num_images = num_images
        self._sampling = sampling
        self._share = (accelerator.process_index, accelerator.num_processes)
        self._last: tuple[int, Sequence[Sequence[int | PlannedSample]]] | None = None

    def batches(self, epoch: int) -> Sequence[Sequence[int | PlannedSample]]:
        """Returns the batches of an epoch, counted from 0: this process's share of each."""
        if self._last is None or self._last[0] != epoch:
            batch_size, seed = self._config.data.loader.batch_size, self._config.trainer.seed
            crops = self._config.data.transform.train.crops_per_image
            if self._sampling is not None:
                plan: Sequence[Sequence[int | PlannedSample]] = self._sampling.plan(
                    batch_size, seed, epoch, *self._share, crops_per_image=crops
                )
            else:
                plan = training_plan(self._num_images, batch_size, seed, epoch, *self._share, crops_per_image=crops)
            self._last = (epoch, plan)
        return self._last[1]

    def epoch_is_over(self, position: Position) -> bool:
        """Returns whether all batches of the epoch are used, or the run is at its last step."""
        return position.batches >= len(self.batches(position.epoch)) or position.step >= self.length.steps

    def evaluation_is_due(self, position: Position) -> bool:
        """Returns whether the weights at this position are evaluated, and were not yet."""
        section = self._config.evaluation
        if position.evaluated == position.step or position.step == 0:
            return False
        if position.step >= self.length.steps:
            return True
        if section.every_steps is not None:
            return position.step % section.every_steps == 0
        return self.epoch_is_over(position) and (position.epoch + 1) % (section.every_epochs or 1) == 0

    def steps_to_evaluation(self, position: Position) -> int:
        """Returns the number of steps up to the next evaluation or the end of the epoch."""
        every = self._config.evaluation.every_steps
        if self.evaluation_is_due(position) or self.epoch_is_over(position):  # where a resumed run was stopped
            return 0
        left = min(len(self.batches(position.epoch)) - position.batches, self.length.steps - position.step)
        return left if every is None else min(left, every - position.step % every)

    def evaluations(self) -> int:
        """Returns the number of evaluations of the whole run, as if it never stopped early."""
        section, length = self._config.evaluation, self.length
        if section.every_steps is not None:
            return -(-length.steps // section.every_steps)
        return -(-length.epochs // (section.every_epochs or 1))
