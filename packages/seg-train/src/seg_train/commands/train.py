"""`seg train`: trains a network from a config, or resumes a run."""

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from seg_core.command import Command
from seg_core.errors import UsageError, UserError
from seg_core.own_code import add_import_option, import_modules
from seg_core.progress import print_table
from seg_train.commands.advice import advise_train

if TYPE_CHECKING:
    from seg_core.progress import Progress
    from seg_train.run.trainer import RunResult, Trainer

__all__ = ["TRAIN"]

_EPILOG = """\
examples:
  seg train camvid.toml                                  a new run in runs/<model>-<dataset>-<time>/
  seg train camvid.toml -s optimizer.params.lr=0.002     the same with another learning rate
  seg train --resume runs/enet-camvid-20250101-120000    resume that run
  seg train camvid.toml --resume                         resume the newest run of this config
  seg train --resume runs/my-run/checkpoints/best.pt     resume a run from that checkpoint
  seg train --resume runs/my-run --epochs 300            continue that run until 300 epochs in total
  seg train camvid.toml --weights runs/my-run            a new run from the weights of that run
  seg train camvid.toml --dry-run                        what the run would take in time, memory and disk

several processes that train one run together:
  torchrun --nproc_per_node 4 -m seg_core.command train CONFIG        on four GPUs of this machine
  accelerate launch --multi_gpu --num_processes 4 -m seg_core.command train CONFIG        the same
  torchrun --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500 \\
    -m seg_core.command train CONFIG        on two machines: start it on both; HOST is the first of them
  accelerate launch --multi_gpu --num_machines 2 --machine_rank 0 --num_processes 8 --main_process_ip HOST \\
    --main_process_port 29500 -m seg_core.command train CONFIG        the same; --machine_rank 1 on the second
  With -s trainer.device=cpu they need no GPUs. data.loader.batch_size is that of all processes together. Each machine
  needs config and data at the same paths, and the run folder to resume from.

Ctrl-C or SIGTERM stops after the current step and saves a checkpoint to resume from; a second Ctrl-C stops at once.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="config of the run, a TOML file")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="RUN_DIR",
        help="resume the run in this folder, or from this checkpoint of it; without a value, the newest run of CONFIG",
    )
    parser.add_argument(
        "--weights",
        metavar="RUN|FILE",
        help="start a new run of CONFIG from the weights of this run (model_best.pt, else model.pt) or model file",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="total length of the run in epochs, also with --resume")
    parser.add_argument("--steps", type=int, metavar="N", help="total length of the run in steps, also with --resume")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="take a step, evaluate 8 val images and write a checkpoint; print what the whole run would take, keep "
        "nothing",
    )
    parser.add_argument(
        "--progress",
        default="auto",
        metavar="MODE",
        help="bar, plain (lines for a log file), quiet (warnings only), or auto: bar on a terminal, else plain",
    )
    parser.add_argument(
        "-s",
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the config, as in -s trainer.epochs=20; may be repeated",
    )
    add_import_option(parser)


def _run(arguments: argparse.Namespace) -> int:
    from seg_train.run.failures import NonFiniteLossError, NonFiniteWeightsError
    from seg_train.run.interruption import RunInterruptedError
    from seg_train.run.together import together

    with together():
        if arguments.dry_run:
            return _dry_run(arguments)
        trainer = _make_trainer(arguments)
    try:
        result = trainer.run()
    except RunInterruptedError as stop:
        print(f"seg: {stop}", file=sys.stderr)
        return stop.exit_code
    except UserError as error:
        print(f"seg: error: {error}", file=sys.stderr)
        if trainer.folder.checkpoints.last.is_file() and not isinstance(
            error, NonFiniteLossError | NonFiniteWeightsError
        ):
            print(f"seg: {_next_step(trainer.folder.path)}", file=sys.stderr)
        return error.exit_code
    if trainer.accelerator.is_main_process:
        _show(result)
    return 0


def _dry_run(arguments: argparse.Namespace) -> int:
    from seg_core.progress import make_progress
    from seg_train.config.load import load_config
    from seg_train.run.dry_run import dry_run

    if arguments.resume is not None:
        raise UsageError("--dry-run tries a new run, and --resume continues one; remove one of them")
    if arguments.config is None:
        raise UsageError("name the CONFIG of the run that --dry-run tries, as in: seg train CONFIG --dry-run")
    progress = make_progress(arguments.progress)
    weights = _find_weights(arguments, progress)
    length = {"epochs": arguments.epochs, "steps": arguments.steps}
    config = load_config(arguments.config, arguments.set, weights=weights, imports=arguments.imports, **length)
    found = dry_run(config, progress=progress)
    if found.is_main_process:
        print_table(("dry run", "measured"), found.rows())
    return 0


def _next_step(run: Path) -> str:
    from seg_train.config.schema import WITHOUT_INFLUENCE

    return (
        f"fix this, then resume with: seg train --resume {run} (with -s KEY=VALUE for trainer.epochs, trainer.steps, "
        f"{', '.join(WITHOUT_INFLUENCE)}; if another key must change, start a new run instead)"
    )


def _make_trainer(arguments: argparse.Namespace) -> "Trainer":
    from seg_core.progress import make_progress
    from seg_train.config.load import load_config
    from seg_train.run.folder import RunFolder
    from seg_train.run.trainer import Trainer

    progress = make_progress(arguments.progress)
    if arguments.weights is not None and arguments.resume is not None:
        raise UsageError(
            f"--weights {arguments.weights} starts a new run, and --resume continues one that has its own weights; "
            "remove one of them"
        )
    length = {"epochs": arguments.epochs, "steps": arguments.steps}
    if None not in length.values():
        raise UsageError(
            f"--epochs {arguments.epochs} and --steps {arguments.steps} both set the length of the run; remove one"
        )
    keys = [override.partition("=")[0].strip() for override in arguments.set]
    extend = any(length.values()) or "trainer.epochs" in keys or "trainer.steps" in keys
    if isinstance(arguments.resume, str):
        if arguments.config is not None:
            raise UsageError(
                f"--resume {arguments.resume} uses the config saved in that folder, so CONFIG "
                f"({arguments.config}) would be ignored; remove one of them"
            )
        path = Path(arguments.resume)
        is_checkpoint = path.is_file() and path.parent.name == "checkpoints"
        folder = RunFolder(path.parent.parent if is_checkpoint else path)
        resume = path if is_checkpoint else True
        import_modules(arguments.imports)
        config = folder.load_config(arguments.set, **length)
        return Trainer(config, folder.path, resume=resume, extend=extend, progress=progress)
    if arguments.config is None:
        raise UsageError("name a CONFIG to start a run, or a run folder with --resume RUN_DIR; see seg train --help")
    weights = _find_weights(arguments, progress)
    config = load_config(arguments.config, arguments.set, weights=weights, imports=arguments.imports, **length)
    return Trainer(config, resume=arguments.resume is True, extend=extend, progress=progress)


def _find_weights(arguments: argparse.Namespace, progress: "Progress") -> str | None:
    """Returns the model file that `--weights` names, and shows what it replaces."""
    from seg_train.config.load import load_config
    from seg_train.run.folder import find_weights

    if arguments.weights is None:
        return None
    path = find_weights(arguments.weights)
    length = {"epochs": arguments.epochs, "steps": arguments.steps}
    model = load_config(arguments.config, arguments.set, imports=arguments.imports, **length).model
    given = {"model.weights": model.weights, "model.weights_backbone": model.weights_backbone}
    replaced = [f'{key} = "{value}"' for key, value in given.items() if value is not None]
    instead = f" instead of the config's {' and '.join(replaced)}" if replaced else ""
    progress.message(f"the run starts from the weights of {path}{instead}")
    return str(path)


def _show(result: "RunResult") -> None:
    """Prints IoU per class, the run folder, the best weights, and as the last line the mIoU of the last weights."""
    scores = result.scores
    columns = {"last weights": scores["iou_per_class"]}
    if "ema_iou_per_class" in scores:
        columns["EMA"] = scores["ema_iou_per_class"]
    rows = [(name, *(_number(column[name]) for column in columns.values())) for name in scores["iou_per_class"]]
    print("IoU per class on val")
    print_table(("class", *columns), rows)
    print(f"run folder: {result.run_dir}")
    if result.best is not None:
        print(f"{result.best}: model_best.pt")
    if "ema_miou" in scores:
        print(f"mIoU of the EMA {scores['ema_miou']:.3f}")
    print(f"mIoU {scores['miou']:.3f}")


def _number(value: float | None) -> str:
    return "absent" if value is None or math.isnan(value) else f"{value:.4f}"


TRAIN = Command(
    configure=_configure,
    run=_run,
    description="Trains a network from a config: progress on stderr, scores on stdout, the rest in a run folder.",
    epilog=_EPILOG,
    advise=advise_train,
)
