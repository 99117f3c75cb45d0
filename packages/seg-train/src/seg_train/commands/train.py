"""`seg train`: trains a network from a config, or goes on with a run."""

import argparse
import importlib.util
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from seg_core.command import Command
from seg_core.errors import UsageError, UserError

if TYPE_CHECKING:
    from seg_core.progress import Progress
    from seg_train.run.trainer import RunResult, Trainer

__all__ = ["TRAIN"]

_EPILOG = """\
examples:
  seg train camvid.toml                                  a new run in runs/<model>-<dataset>-<time>/
  seg train camvid.toml -s optimizer.params.lr=0.002     the same with another learning rate
  seg train --resume runs/enet-camvid-20250101-120000    go on with that run
  seg train camvid.toml --resume                         go on with the newest run of this config
  seg train --resume runs/my-run/checkpoints/best.pt     go on from that checkpoint of a run
  seg train --resume runs/my-run --epochs 300            continue that run until 300 epochs in all
  seg train camvid.toml --weights runs/my-run            a new run from the weights of that run
  torchrun --nproc_per_node 4 -m seg_core.command train CONFIG
                                                         on four GPUs of this machine; or accelerate launch

Ctrl-C or SIGTERM stops after the running step and leaves a run that can be resumed; a second Ctrl-C stops at once.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="config of the run, a TOML file")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="RUN_DIR",
        help="go on with the run in this folder, or from this checkpoint of it; without either, in the one of CONFIG",
    )
    parser.add_argument(
        "--weights",
        metavar="RUN|FILE",
        help="start a new run of CONFIG from the weights of this run (model_best.pt, else model.pt) or model file",
    )
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="length of the run in epochs, those of a resumed run included"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="length of the run in steps, likewise")
    parser.add_argument(
        "--progress",
        default="auto",
        metavar="MODE",
        help="bar, plain (lines for a log file), quiet (warnings alone), or auto: bar on a terminal, else plain",
    )
    parser.add_argument(
        "-s",
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the config, as in -s trainer.epochs=20; may be repeated",
    )


def _run(arguments: argparse.Namespace) -> int:
    from seg_train.run.interruption import RunInterruptedError

    trainer = _make_trainer(arguments)
    try:
        result = trainer.run()
    except RunInterruptedError as stop:
        print(f"seg: {stop}", file=sys.stderr)
        return stop.exit_code
    except UserError as error:
        print(f"seg: error: {error}", file=sys.stderr)
        if trainer.folder.checkpoints.last.is_file():
            print(f"seg: fix this, then resume with: seg train --resume {trainer.folder.path}", file=sys.stderr)
        return error.exit_code
    if trainer.accelerator.is_main_process:
        _show(result)
    return 0


def _make_trainer(arguments: argparse.Namespace) -> "Trainer":
    from seg_core.progress import make_progress
    from seg_train.config.load import load_config
    from seg_train.run.folder import RunFolder
    from seg_train.run.trainer import Trainer

    progress = make_progress(arguments.progress)
    if arguments.weights is not None and arguments.resume is not None:
        raise UsageError(
            f"--weights {arguments.weights} starts a new run, and --resume continues one that has its own weights; "
            "leave one of them out"
        )
    length = {"epochs": arguments.epochs, "steps": arguments.steps}
    if None not in length.values():
        raise UsageError(
            f"--epochs {arguments.epochs} and --steps {arguments.steps} both say how long the run is; give one of them"
        )
    keys = [override.partition("=")[0].strip() for override in arguments.set]
    extend = any(length.values()) or "trainer.epochs" in keys or "trainer.steps" in keys
    if isinstance(arguments.resume, str):
        if arguments.config is not None:
            raise UsageError(
                f"--resume {arguments.resume} goes on with the config saved in that folder, so CONFIG "
                f"({arguments.config}) would be ignored; leave one of them out"
            )
        path = Path(arguments.resume)
        is_checkpoint = path.is_file() and path.parent.name == "checkpoints"
        folder = RunFolder(path.parent.parent if is_checkpoint else path)
        resume = path if is_checkpoint else True
        config = folder.load_config(arguments.set, **length)
        return Trainer(config, folder.path, resume=resume, extend=extend, progress=progress)
    if arguments.config is None:
        raise UsageError("name a CONFIG to start a run, or a run folder by --resume RUN_DIR; see seg train --help")
    weights = _find_weights(arguments, progress)
    config = load_config(arguments.config, arguments.set, weights=weights, **length)
    return Trainer(config, resume=arguments.resume is True, extend=extend, progress=progress)


def _find_weights(arguments: argparse.Namespace, progress: "Progress") -> str | None:
    """Returns the model file that `--weights` names, and says what it replaces."""
    from seg_train.config.load import load_config
    from seg_train.run.folder import find_weights

    if arguments.weights is None:
        return None
    path = find_weights(arguments.weights)
    model = load_config(arguments.config, arguments.set, epochs=arguments.epochs, steps=arguments.steps).model
    said = {"model.weights": model.weights, "model.weights_backbone": model.weights_backbone}
    replaced = [f'{key} = "{value}"' for key, value in said.items() if value is not None]
    instead = f" instead of the config's {' and '.join(replaced)}" if replaced else ""
    progress.message(f"the run starts from the weights of {path}{instead}")
    return str(path)


def _show(result: "RunResult") -> None:
    """Prints IoU per class, where the run is, and as the last line the mIoU of the last weights."""
    scores = result.scores
    columns = {"last weights": scores["iou_per_class"]}
    if "ema_iou_per_class" in scores:
        columns["moving average"] = scores["ema_iou_per_class"]
    rows = [(name, *(_number(column[name]) for column in columns.values())) for name in scores["iou_per_class"]]
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(title="IoU per class on val")
        table.add_column("class")
        for title in columns:
            table.add_column(title, justify="right")
        for name, *values in rows:
            table.add_row(escape(name), *values)
        Console().print(table)
    else:
        width = max(len(name) for name, *_ in rows)
        print(f"IoU per class on val: {', '.join(columns)}")
        for name, *values in rows:
            print("  ".join([f"  {name:<{width}}", *(f"{value:>6}" for value in values)]))
    print(f"run folder: {result.run_dir}")
    if "ema_miou" in scores:
        print(f"mIoU of the moving average {scores['ema_miou']:.2f}")
    print(f"mIoU {scores['miou']:.2f}")


def _number(value: float | None) -> str:
    return "absent" if value is None or math.isnan(value) else f"{value:.4f}"


TRAIN = Command(
    configure=_configure,
    run=_run,
    description="Trains a network from a config: progress on stderr, scores on stdout, the rest in a run folder.",
    epilog=_EPILOG,
)
