"""Training steps on a GPU: images/s and memory by network, precision, layout and compilation.

python -m benchmarks.cuda                       # all networks
python -m benchmarks.cuda --models enet --batch 16 --size 256 512

There is no peer here and nothing is compared: the figures say what to ask of a GPU, and which of the trainer's options
pay there. What is timed is the trainer's step on samples that are in memory already: to the device, augmentation,
forward, backward, optimizer, labels.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["main"]

MODELS = ("enet", "bisenet_resnet18", "fcn_resnet50")
NUM_CLASSES = 19
# precision, channels_last, compile
SETTINGS = (
    ("fp32", False, False),
    ("fp32", True, False),
    ("bf16", False, False),
    ("bf16", True, False),
    ("fp16", True, False),
    ("bf16", True, True),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for and prints a table; returns 0, or 1 where there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("H", "W"))
    parser.add_argument("--steps", type=int, default=20, help="timed, after 5 that are not")
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("torch sees no CUDA device here", file=sys.stderr)
        return 1
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; batches of {options.batch}, {options.size}")
    print(
        f"{'network':<20} {'precision':<9} {'layout':<13} {'compiled':<8} "
        f"{'images/s':>9} {'peak MiB':>9} {'begin s':>8}"
    )
    for name in options.models:
        for precision, channels_last, compiled in SETTINGS:
            if compiled and options.no_compile:
                continue
            speed, memory, begin = _measure(name, precision, channels_last, compiled, options)
            layout = "channels_last" if channels_last else "contiguous"
            print(
                f"{name:<20} {precision:<9} {layout:<13} {'yes' if compiled else 'no':<8} {speed:>9.1f} {memory:>9.0f} "
                f"{begin:>8.1f}",
                flush=True,
            )
    return 0


def _measure(
    name: str, precision: str, channels_last: bool, compiled: bool, options: argparse.Namespace
) -> tuple[float, float, float]:
    """Returns images/s, the peak of the allocated memory in MiB, and the seconds of the first steps."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import TorchDynamoPlugin

    import seg_models
    from seg_core.transforms.augment import SegmentationAugment
    from seg_train.data.batches import Batch
    from seg_train.losses.cross_entropy import CrossEntropyLoss
    from seg_train.losses.deep_supervision import DeepSupervision
    from seg_train.optim.optimizers import build_optimizer
    from seg_train.run.step import Parts, train_step

    AcceleratorState._reset_state(reset_partial_state=True)
    torch.cuda.empty_cache()
    torch.backends.cudnn.benchmark = True
    plugin = TorchDynamoPlugin(backend="inductor") if compiled else None
    accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(precision, precision), dynamo_plugin=plugin)
    torch.manual_seed(0)
    network: nn.Module = seg_models.get_model(name, num_classes=NUM_CLASSES)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    network = network.to(accelerator.device)
    params = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
    optimizer = build_optimizer(network, "SGD", params)
    model, optimizer = accelerator.prepare(network, optimizer)
    parts = Parts(model, DeepSupervision(CrossEntropyLoss()), optimizer, SegmentationAugment(hflip=0.5), accelerator)
    size, places = tuple(options.size), list(range(options.batch))
    images = torch.randint(0, 256, (options.batch, 3, *size), dtype=torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last).pin_memory()
    masks = torch.randint(0, NUM_CLASSES, (options.batch, *size), dtype=torch.uint8).pin_memory()
    batch = Batch(images, masks, places, 0, places)
    begin = time.perf_counter()
    for _ in range(5):
        train_step(parts, batch)
    torch.cuda.synchronize()
    begin = time.perf_counter() - begin
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(options.steps):
        start = time.perf_counter()
        train_step(parts, batch)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return options.batch / statistics.median(seconds), torch.cuda.max_memory_allocated() / 2**20, begin


if __name__ == "__main__":
    sys.exit(main())
