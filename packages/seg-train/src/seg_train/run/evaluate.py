"""Evaluation of a network on a split: `evaluate` for your own loop, `Validation` for the training run.

Masks are never resized: if an image was resized for the network, its logits are resized to the mask.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from seg_core.errors import ConfigError, InvalidArgumentError
from seg_core.interfaces import SegmentationDataset
from seg_core.labels.comparison import check_several_classes
from seg_core.labels.tasks import MULTICLASS, MULTILABEL
from seg_core.metrics.argmax import Thresholds
from seg_core.metrics.decidable import warning_of_non_finite
from seg_core.metrics.metric_store import MetricStore
from seg_core.metrics.names import AVERAGE_PRECISION, row_names
from seg_core.metrics.protocol import EvaluationProtocol, digest_of_dataset
from seg_core.metrics.thresholds import class_thresholds
from seg_core.modes import eval_mode
from seg_core.transforms.evaluation import EvaluationTransform
from seg_core.transforms.preprocessing import Preprocessing, resize_image
from seg_train.config.schema import TrainConfig
from seg_train.data.batches import Batch, Loader, evaluation_plan
from seg_train.loggers.base import Snapshot
from seg_train.loggers.naming import image_name
from seg_train.monitor import Monitor
from seg_train.optim.warmup import Scheduler
from seg_train.run.build import precision_of
from seg_train.run.channels import default_preprocessing, other_channels
from seg_train.run.classes import comparing_classes
from seg_train.run.data import RunData
from seg_train.run.labels import scores_of
from seg_train.run.preview import shown_image
from seg_train.run.thresholds import other_task, thresholds_for, tuning_problem
from seg_train.run.validation_loss import SplitLoss
from seg_train.run.ways import Way, WayOptions

__all__ = ["Outcome", "Validation", "check_val_loss", "evaluate", "evaluate_batches"]


@torch.inference_mode()
def evaluate_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    store: MetricStore,
    *,
    way: Way,
    transform: EvaluationTransform,
    device: torch.device,
    loss: SplitLoss | None = None,
    on_batch: Callable[[Batch, Tensor, Tensor | None], None] | None = None,
) -> None:
    """Adds the results of `model` on `batches` to `store`.

    The network is in eval mode meanwhile, and each of its modules in its previous mode afterwards.

    Args:
        model: network on `device`.
        batches: each sample once, images resized by `transform` and masks at their own size.
        store: collects the confusion matrix.
        way: the predictor.
        transform: normalizes the images.
        device: where to compute.
        loss: collects the loss of each image if the predictor returns logits.
        on_batch: called with each batch, its predicted labels, uint8 or uint16 (N, H, W) or (N, K, H, W), and for a
            binary or multilabel task their probabilities of the same shape, both on `device`; None if there are none.
    """
    with eval_mode(model), warning_of_non_finite():
        for batch in batches:
            images = transform.normalize(batch.images, device)
            masks = batch.masks.to(device, non_blocking=True)
            size = (masks.shape[-2], masks.shape[-1])
            labels, logits = way(model, images, size, wants_logits=loss is not None)
            scores = None if logits is None or store.task == MULTICLASS else scores_of(logits, store.task)
            store.store_results(masks, labels, scores)
            if loss is not None and logits is not None:
                loss.add(logits, masks)
            if on_batch is not None:
                on_batch(batch, labels, scores)


def evaluate(
    model: nn.Module,
    dataset: SegmentationDataset,
    *,
    preprocessing: Preprocessing | None = None,
    predictor: str = "whole",
    predictor_params: Mapping[str, Any] | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
    thresholds: Thresholds | None = None,
) -> MetricStore:
    """Returns a store with the confusion matrix of `model` over all of `dataset`; `.summarize()` returns the scores.

    Masks are never resized: if `preprocessing` resizes an image, the logits are resized to its mask. The network is in
    eval mode meanwhile, and each of its modules in its previous mode afterwards. It runs on its parameters' device.

    Args:
        model: a network as `seg_models.get_model` returns it.
        dataset: images with masks, without transforms.
        preprocessing: resizing and normalization of the images; None uses those of the model's weights or file
            (`model.model_info`); if the model has none, at each image's own size the normalization that the dataset's
            channels give, or ImageNet's for three channels of 8 bits.
        predictor: name of a registered predictor.
        predictor_params: its arguments, such as `{"tile": 512}` for `"tiled"`.
        batch_size: images per batch; images of different sizes are processed one by one.
        num_workers: worker processes that read samples; 0 reads in this process.
        criterion: `(logits, target) -> loss`, for the measure `"loss"` over the whole split, see
            `seg_train.run.validation_loss.SplitLoss`.
        thresholds: of a binary or multilabel dataset: probability above which a pixel has a class, one or one per
            class; None uses those of the model's file, or 0.5.

    Warns:
        UserWarning: if the network's classes are not the dataset's: another number, or other names in its weights or
            file. They are compared by index.

    Raises:
        UnknownNameError: if there is no such predictor.
        InvalidArgumentError: if the model's file is of another task; if the dataset of a multiclass task has only one
            class, whose IoU would always be 1; if its channels are not those of the model or the preprocessing; if
            nothing says how they are normalized; or if `thresholds` are given for a multiclass task, or not allowed.
        UserError: if a sample cannot be read or does not fit its metadata.
    """
    metadata = dataset.metadata
    check_several_classes(metadata)
    device = next(model.parameters(), torch.empty(0)).device  # an exported file has no parameters
    if found := other_channels(model, metadata.channels):
        raise InvalidArgumentError(f"{found}; evaluate it on images of the channels that it was trained on")
    if found := other_task(model, metadata):
        raise InvalidArgumentError(f"{found}; evaluate it on a dataset of its task")
    if preprocessing is None:
        info = getattr(model, "model_info", None)
        preprocessing = default_preprocessing(metadata.channels) if info is None else info.preprocessing
    elif preprocessing.channels.ranges != metadata.channels.ranges:
        raise InvalidArgumentError(
            f"preprocessing is for {preprocessing.channels}, but {metadata.name} has {metadata.channels}; give it "
            "channels=dataset.metadata.channels, with their mean and std"
        )
    transform = EvaluationTransform(preprocessing)
    limits = thresholds_for(model, metadata, thresholds)
    store = MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index, task=metadata.task)
    loss = None if criterion is None else SplitLoss(criterion, metadata.ignore_index)
    loader = Loader(
        dataset, transform, num_workers=num_workers, pin_memory=device.type == "cuda", splits_unlike_sizes=True
    )
    way = Way(WayOptions(predictor=predictor, params=predictor_params or {}), metadata, limits or 0.5)
    with comparing_classes(model, metadata):
        evaluate_batches(
            model,
            loader.read(evaluation_plan(len(dataset), batch_size)),
            store,
            way=way,
            transform=transform,
            device=device,
            loss=loss,
        )
    if loss is not None and loss.is_measured:
        store.store_measures(1, {"loss": loss.value()})
    return store


# ---- evaluations of a training run -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """The result of one evaluation.

    Attributes:
        scores: as `MetricStore.summarize` returns them, over the samples of all processes; `"loss"` is None if it is
            not computed.
        matrix: confusion matrix, int64 (K, K), rows are ground truth; of binary and multilabel tasks (K, 2, 2).
        snapshots: predictions of the snapshot images; on the main process only.
        thresholds: of binary and multilabel tasks, one per class, those of the scores; else None.
        is_tuned: whether they were chosen in this evaluation.
    """

    scores: dict[str, Any]
    matrix: Tensor
    snapshots: Sequence[Snapshot]
    thresholds: tuple[float, ...] | None = None
    is_tuned: bool = False


class Validation:
    """Evaluates networks on the val split, each sample once over all processes.

    Args:
        config: config of the run.
        data: data of the run; its val samples are evaluated.
        criterion: `(logits, target) -> loss`, for `"loss"`.
        accelerator: device, precision and processes.

    Attributes:
        way: the predictor.
        protocol: the evaluation protocol.

    Raises:
        UnknownNameError: if there is no such predictor.
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
        self._tunes = section.tune_threshold
        if self._tunes and data.metadata.task == MULTICLASS:
            raise ConfigError(tuning_problem(data.metadata))
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
            thresholds=class_thresholds(None, data.metadata),
            tuned=self._tunes,
            **options.protocol(),
        )
        # The snapshot images are spread evenly over those that the main process evaluates.
        own = range(0, len(data.val_set), accelerator.num_processes)
        count = min(config.trainer.snapshots, len(own))
        self._shown = frozenset(own[i * (len(own) - 1) // max(count - 1, 1)] for i in range(count))

    def measures_loss(self, network: nn.Module) -> bool:
        """Returns whether evaluations compute val_loss; tries the predictor on one small image."""
        return self._criterion is not None and self.gives_logits(network)

    def gives_logits(self, network: nn.Module) -> bool:
        """Returns whether the predictor returns logits; tries it on one small image."""
        return self.way.gives_logits(network, self._data.metadata.channels.count)

    def __call__(
        self, network: nn.Module, on_progress: Callable[[int, int], None], *, first: int | None = None
    ) -> Outcome:
        """Evaluates `network`; every process must call it.

        Args:
            network: on the device of the accelerator.
            on_progress: called with each batch, with the samples done and all samples of this process; an exception
                from it ends the evaluation.
            first: number of val samples to evaluate, the first ones; None for all.
        """
        metadata, accelerator = self._data.metadata, self._accelerator
        store = MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index, task=metadata.task)
        loss = None if self._criterion is None else SplitLoss(self._criterion, metadata.ignore_index)
        count = len(self._data.val_set) if first is None else min(first, len(self._data.val_set))
        plan = evaluation_plan(count, self._batch_size, accelerator.process_index, accelerator.num_processes)
        snapshots: dict[int, Snapshot] = {}
        probabilities: dict[int, Tensor] = {}
        done, total = 0, sum(map(len, plan))

        def on_batch(batch: Batch, labels: Tensor, scores: Tensor | None) -> None:
            nonlocal done
            done += len(batch.indices)
            on_progress(done, total)
            for place, index in enumerate(batch.indices):
                if index in self._shown:
                    mask = batch.masks[place]
                    image = shown_image(batch.images[place], metadata.channels)
                    image = resize_image(image, (mask.shape[-2], mask.shape[-1]))
                    name = image_name(self._data.val_set, index)
                    snapshots[index] = Snapshot(index, image, mask, labels[place].cpu(), name)
                    if self._tunes and scores is not None:
                        probabilities[index] = scores[place].cpu()

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
        thresholds = class_thresholds(None, metadata)
        if self._tunes:
            thresholds = tuple(store.best_thresholds())
            store = store.at_thresholds(thresholds)
            limits = torch.tensor(thresholds)
            if metadata.task == MULTILABEL:
                limits = limits[:, None, None]
            snapshots = {
                index: replace(shown, prediction=(probabilities[index] > limits).to(torch.uint8))
                for index, shown in snapshots.items()
            }
        scores = store.summarize()
        scores["loss"] = None if loss is None or not loss.is_measured else loss.value_of_all_processes()
        shown = [snapshots[index] for index in sorted(snapshots)]
        return Outcome(scores, store.confusion_matrix, shown, thresholds, self._tunes)


def check_val_loss(
    config: TrainConfig, monitor: Monitor, scheduler: Scheduler | None, validation: Validation, network: nn.Module
) -> None:
    """Checks before training that evaluations compute what the config asks of them: val_loss, scores, thresholds.

    Raises:
        ConfigError: if they do not.
    """
    _check_scores(config, monitor, scheduler, validation, network)
    watching = []
    if monitor.name.endswith("val_loss"):
        watching.append(f'evaluation.monitor = "{monitor.name}"')
    if scheduler is not None and scheduler.watched_score == "loss":
        watching.append('lr_scheduler.params.monitor = "loss"')
    if watching and not validation.measures_loss(network):
        reason = f"the predictor {validation.way.options.predictor!r} returns labels without logits"
        if not config.evaluation.loss:
            reason = "evaluation.loss = false"
        raise ConfigError(
            f"{' and '.join(watching)} needs val_loss, which is not computed ({reason}); use a score such as miou, "
            "or let evaluations compute the loss"
        )


def _check_scores(
    config: TrainConfig, monitor: Monitor, scheduler: Scheduler | None, validation: Validation, network: nn.Module
) -> None:
    task = validation.way.task
    watched = None if scheduler is None else scheduler.watched_score
    if watched is not None and watched not in ("loss", *row_names(task)):
        raise ConfigError(
            f'lr_scheduler.params.monitor = "{watched}": the task "{task}" of the dataset has no such score; choose '
            f"one of loss, {', '.join(row_names(task))}"
        )
    asking = ["evaluation.tune_threshold = true"] * config.evaluation.tune_threshold
    if monitor.name.removeprefix("ema_") == AVERAGE_PRECISION:
        asking.append(f'evaluation.monitor = "{monitor.name}"')
    if watched == AVERAGE_PRECISION:
        asking.append(f'lr_scheduler.params.monitor = "{watched}"')
    if asking and not validation.gives_logits(network):
        raise ConfigError(
            f"{' and '.join(asking)} needs the probabilities of the classes, but the predictor "
            f"{validation.way.options.predictor!r} returns labels without logits; set another one"
        )
