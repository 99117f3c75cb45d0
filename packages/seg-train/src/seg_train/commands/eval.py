"""`seg eval`: the scores of a model on a dataset, computed as in the evaluations of training."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from seg_core.command import Command, probabilities
from seg_core.device import resolve_device, warn_of_slow_bf16
from seg_core.errors import InvalidArgumentError, UsageError
from seg_core.own_code import add_import_option, import_modules
from seg_core.versions import installed_versions
from seg_train.commands.advice import advise_eval
from seg_train.commands.eval_report import report_json, results_of, show_report
from seg_train.commands.eval_settings import read_settings
from seg_train.commands.eval_target import (
    check_way,
    find_target,
    load_model_of,
    open_dataset,
    preprocessing_for,
    protocol_of,
)
from seg_train.commands.eval_thresholds import find_thresholds

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from seg_core.interfaces import SegmentationDataset
    from seg_core.metrics.metric_store import MetricStore
    from seg_core.transforms.preprocessing import Preprocessing
    from seg_train.data.batches import Batch
    from seg_train.run.ways import Way

__all__ = ["EVAL"]

_EPILOG = """\
examples:
  seg eval runs/enet-camvid                                the best weights of a run, as the run evaluated them
  seg eval runs/enet-camvid/model.pt CamVid -s root=data/camvid -s split=test --json scores.json
  seg eval fcn_resnet50 VOC --weights DEFAULT -s root=data/voc --json > scores.json

Masks are never resized: if images are, the logits are resized to the masks. A model of a run is evaluated as the run
evaluated it, at the same size and with the same predictor, unless -s overrides it.

keys of -s (KEY=VALUE, the value in TOML syntax), with their defaults in parentheses:
  root              root folder of the dataset
  split             split to evaluate on (val)
  params            other options of the dataset, as in -s params.metadata=classes.toml; those of a run without DATASET
                    are kept, unless one of the same name replaces it
  resize            resize images for the network: {scale = 0.5}, {shorter_side = 512}, {longer_side = 1024} or
                    {size = [512, 1024]}, or {} for no resizing (as stored in the model)
  scale             the same as resize.scale
  tile              predict in tiles of this size in pixels, one number or [height, width] (as in the run, or none)
  overlap           fraction of a tile that overlaps with the next one (0.5)
  scales            scales of test-time augmentation, such as [0.75, 1, 1.25] (as in the run, or none)
  hflip             test-time augmentation with flipped images (as in the run, or false)
  predictor         name of a registered predictor (as in the run, or whole)
  predictor_params  its options
  loss              compute the loss too (true)
  batch_size        images per batch (that of a run folder without DATASET, else 1); images of different sizes
                    are processed one by one
  num_workers       worker processes that read images (2)
  device            auto, cuda, mps, cpu, or the number of a GPU: 0 for cuda:0 (auto)
  precision         fp32, bf16, or on a GPU fp16 (that of a run folder, else fp32)
  import_paths      folders with the code of a run, if it has moved: ["/path/to/folder"]

The JSON has the keys model, weights, dataset, split, num_images, protocol, protocol_text, settings, scores (miou, acc,
macc, fwiou, dice, loss), per_class (class name -> iou, acc, dice, pixels), confusion_matrix (rows are ground truth) and
versions. An undefined score, such as the IoU of a class that does not occur, is null. Of binary and multilabel datasets
scores are miou, acc, dice, precision, recall, specificity, ap (average precision) and loss, and confusion_matrix has a
table of 2 rows (without and with the class) and 2 columns per class. Labels are those above --threshold, else above the
thresholds of the model file, else 0.5; the key thresholds has values, source and tuned_on (dataset, split, score, and
same_images: whether the images scored here are those that they were tuned on, which makes scores slightly too good).
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="a run folder, a model file (training writes model.pt), or a model's name"
    )
    parser.add_argument(
        "dataset", nargs="?", metavar="DATASET", help="a name from `seg datasets`; default: that of the run"
    )
    parser.add_argument(
        "--weights", metavar="W", help="with a model's name: weights member or checkpoint file (default: DEFAULT)"
    )
    parser.add_argument(
        "--variant",
        metavar="V",
        help="with a model's name: its variant, such as torchvision (default: that of the weights)",
    )
    parser.add_argument(
        "-s",
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key, as in -s split=test; may be repeated; the keys are listed below",
    )
    parser.add_argument(
        "--threshold",
        type=probabilities,
        metavar="P",
        help="of a binary or multilabel dataset: the probability that a class must exceed, or a list with one for each "
        "class, 0.5,0.3 (default: those of the model file, or 0.5)",
    )
    add_import_option(parser)
    parser.add_argument(
        "--json",
        nargs="?",
        const=True,
        metavar="FILE",
        help="write the scores to FILE as JSON; without FILE, print JSON instead of the table",
    )


def _run(arguments: argparse.Namespace) -> int:
    from seg_core.metrics.protocol import EvaluationProtocol, digest_of_dataset
    from seg_core.metrics.thresholds import thresholds_of_option
    from seg_train.run.ways import Way, WayOptions

    settings = read_settings(arguments.set)
    import_modules(arguments.imports)
    _check_json_file(arguments.json, arguments.model, arguments.weights)
    target = find_target(arguments.model, arguments.weights, arguments.variant, arguments.dataset, settings)
    options = settings.way()
    if options is not None:
        check_way(options, "-s")
    try:
        device = resolve_device(settings.device, "-s device")
    except InvalidArgumentError as error:
        raise UsageError(str(error)) from error
    # before the network, so that a wrong folder is reported before weights are downloaded
    dataset = open_dataset(target)
    given = None if arguments.threshold is None else thresholds_of_option(arguments.threshold, dataset.metadata)
    _check_masks(dataset, target.dataset, target.split, settings.num_workers)
    network = load_model_of(target)
    resize = {"scale": settings.scale} if settings.scale is not None else settings.resize
    preprocessing = preprocessing_for(arguments.model, network, dataset, resize)
    protocol = protocol_of(network)
    if options is None:
        options = WayOptions.of_protocol(protocol)
        check_way(options, arguments.model)
    precision = settings.precision or (protocol.get("precision", "fp32") if target.source.run is not None else "fp32")
    own = getattr(network, "own_precision", None)  # of an exported file
    if own is not None:
        if settings.precision not in (None, own):
            raise UsageError(
                f"precision = {settings.precision!r}: {arguments.model} was exported in {own} and computes in it; "
                "remove -s precision"
            )
        precision = own
    elif precision == "fp16" and device.type == "cpu":
        raise UsageError("precision fp16 needs a GPU; set -s precision=fp32")
    if precision == settings.precision == "bf16":
        warn_of_slow_bf16(device, "-s precision=fp32")
    thresholds = find_thresholds(network, dataset.metadata, given)
    store = _evaluate(
        network.to(device),
        dataset,
        preprocessing,
        Way(options, dataset.metadata, thresholds.values or 0.5),
        device,
        precision=precision,
        batch_size=target.batch_size,
        num_workers=settings.num_workers,
        with_loss=settings.loss,
        seed=target.seed,
    )

    measured = EvaluationProtocol(
        dataset=dataset.metadata.name,
        split=target.split,
        digest=digest_of_dataset(dataset),
        num_images=len(dataset),
        classes=dataset.metadata.labels,
        resize=preprocessing.resize,
        absent=store.absent,
        precision=precision,
        **options.protocol(),
    )
    measured, used_thresholds = thresholds.described(measured, dataset)
    plain = measured.to_dict()
    report = {
        "model": arguments.model,
        "weights": target.source.weights,
        "dataset": target.dataset,
        "split": target.split,
        "num_images": len(dataset),
        "protocol": plain,
        "protocol_text": str(measured),
        "settings": {
            "root": target.root,
            "params": target.params,
            "resize": preprocessing.resize,
            "scale": preprocessing.scale,
            "shorter_side": preprocessing.shorter_side,
            **{key: plain[key] for key in ("tile", "overlap", "scales", "hflip", "predictor")},
            "predictor_params": options.params,
            "batch_size": target.batch_size,
            "device": device.type,
            "precision": precision,
        },
        **used_thresholds,
        **results_of(store, dataset.metadata.labels),
        "versions": installed_versions(),
    }
    if arguments.json is True:
        print(report_json(report))
        return 0
    show_report(report)
    # after the table: if the disk is full, the scores are still shown
    if arguments.json is not None:
        from seg_core.files.atomic import write_text

        sys.stdout.flush()
        write_text(arguments.json, report_json(report) + "\n")
    return 0


def _check_masks(dataset: "SegmentationDataset", name: str, split: str, num_workers: int) -> None:
    """Warns on stderr if the masks may not give the scores that are meant.

    Raises:
        LabelOutOfRangeError: if a mask contains an id that is neither a class nor ignored.
        InvalidArgumentError: if the pixels to be found are ignored, as of masks of 0 and 255.
        UserError: if a mask cannot be read.
    """
    from seg_core.errors import LabelOutOfRangeError
    from seg_core.progress import make_progress
    from seg_train.run.mask_check import find_mask_problems

    if getattr(dataset, "generated", False):
        return
    scan, found = find_mask_problems(
        dataset, name, split, make_progress(), use="scored", num_workers=num_workers, key="params"
    )
    for finding in found:
        if scan.wrong_ids:
            raise LabelOutOfRangeError(finding.text)
        if finding.spoils_scores:
            raise InvalidArgumentError(finding.text)
        # a class that only does not occur is absent in the table
        if finding.is_error or finding.kind == "binary-0-255":
            print(f"seg: warning: {finding.text}", file=sys.stderr)


def _check_json_file(file: str | bool | None, model: str, weights: str | None) -> None:
    """Checks the FILE of --json before the work starts.

    Raises:
        UsageError: if it is a folder, or one of the files that are read.
        WrongTargetError: if its folder is a file.
    """
    from seg_core.files.atomic import check_folder

    if not isinstance(file, str):
        return
    path = Path(file)
    if not file or path.is_dir():
        raise UsageError(f"--json {file!r} is a folder; add the file's name")
    check_folder(path.parent, f"--json {file}")
    if path.exists() and any(read is not None and path.resolve() == Path(read).resolve() for read in (model, weights)):
        raise UsageError(f"--json {file} would overwrite the model; name another file")


def _evaluate(
    network: "nn.Module",
    dataset: "SegmentationDataset",
    preprocessing: "Preprocessing",
    way: "Way",
    device: "torch.device",
    *,
    precision: str,
    batch_size: int,
    num_workers: int,
    with_loss: bool,
    seed: int,
) -> "MetricStore":
    """Returns a store with the confusion matrix over all of `dataset`; shows progress on stderr.

    Raises:
        UserError: if a sample cannot be read or does not fit its metadata.
    """
    import torch

    from seg_core.metrics.metric_store import MetricStore
    from seg_core.progress import make_progress
    from seg_core.registry import LOSSES
    from seg_core.transforms.evaluation import EvaluationTransform
    from seg_train.config.task import default_loss
    from seg_train.data.batches import Loader, evaluation_plan
    from seg_train.run.evaluate import evaluate_batches
    from seg_train.run.validation_loss import SplitLoss

    metadata, total = dataset.metadata, len(dataset)
    store = MetricStore(metadata.num_classes, ignore_index=metadata.ignore_index, task=metadata.task)
    transform = EvaluationTransform(preprocessing)
    pin_memory = device.type == "cuda"
    loader = Loader(
        dataset, transform, seed=seed, num_workers=num_workers, pin_memory=pin_memory, splits_unlike_sizes=True
    )
    loss = None
    if with_loss:
        criterion = LOSSES.get(default_loss(metadata.task))
        loss = SplitLoss(criterion(ignore_index=metadata.ignore_index, task=metadata.task), metadata.ignore_index)
    progress = make_progress()
    done, start = 0, time.perf_counter()

    def on_batch(batch: "Batch", labels: "Tensor", scores: "Tensor | None") -> None:  # noqa: ARG001 - as called
        nonlocal done
        done += len(batch.indices)
        progress.part("evaluating", done, total)

    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    try:
        # around predictor and loss too, as in training
        with torch.autocast(device.type, dtype=half, enabled=half is not None):
            evaluate_batches(
                network,
                loader.read(evaluation_plan(total, batch_size)),
                store,
                way=way,
                transform=transform,
                device=device,
                loss=loss,
                on_batch=on_batch,
            )
        _ = store.confusion_matrix  # synchronizes with the device
        seconds = time.perf_counter() - start
        progress.message(f"evaluated {total} images in {seconds:.1f} s, {total / max(seconds, 1e-9):.1f} images/s")
    finally:
        progress.close()
    if loss is not None and loss.is_measured:
        store.store_measures(1, {"loss": loss.value()})
    return store


EVAL = Command(
    configure=_configure,
    run=_run,
    description="Evaluates a model on a dataset exactly as training does: progress on stderr, scores on stdout.",
    epilog=_EPILOG,
    advise=advise_eval,
)
