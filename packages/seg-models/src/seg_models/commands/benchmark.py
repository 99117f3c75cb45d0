"""`seg benchmark`: latency, throughput and memory of networks, and the ratios of their times."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_core.catalog import ModelEntry
from seg_core.checks import is_integer, is_number
from seg_core.command import Command, parse_settings
from seg_core.errors import CorruptFileError, InvalidArgumentError, UsageError
from seg_core.files.atomic import check_folder
from seg_core.files.json_text import to_json, write_json
from seg_core.model_files.load_network import find_network, is_model_name
from seg_core.own_code import add_import_option, import_modules
from seg_core.progress import StatusLine, print_table
from seg_core.registry import MODELS
from seg_models.commands.model_errors import errors_of_model
from seg_models.commands.sizes import parse_size

if TYPE_CHECKING:
    from seg_models.speed.benchmark_report import BenchmarkReport
    from seg_models.speed.contenders import Contender

__all__ = ["BENCHMARK"]

_DEFAULT_SIZE = (512, 512)


def _configure(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("models")
    # both go to one list, so that the first that is written is the baseline
    model.add_argument(
        "models",
        action="append",
        metavar="MODEL",
        help="model file, run folder, exported file, or name from `seg models` (with random weights, unless --weights)",
    )
    model.add_argument(
        "--compare",
        dest="models",
        action="append",
        metavar="MODEL",
        help="one more model, called in turn with the first; may be repeated. The ratios of their times are shown",
    )
    model.add_argument(
        "--weights", metavar="W", help="for models by name: weights member, such as DEFAULT, or checkpoint file"
    )
    model.add_argument("--variant", metavar="V", help="for models by name: their variant, such as torchvision")
    model.add_argument(
        "-s",
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for models by name: set an option of the builder, as in -s num_classes=19 or -s backbone=resnet50; may "
        "be repeated",
    )
    add_import_option(model)
    what = parser.add_argument_group("what is measured")
    what.add_argument("--size", metavar="HxW", help="height and width of the images in pixels (default: 512x512)")
    what.add_argument(
        "--batch-size",
        type=int,
        action="append",
        metavar="N",
        help="images in one call; may be repeated, to see the throughput by batch size (default: 1)",
    )
    what.add_argument(
        "--network-only", action="store_true", help="measure only the network, not the step from image to labels"
    )
    what.add_argument(
        "--optimize",
        action="store_true",
        help="measure each model also as seg_models.optimize changes it for inference",
    )
    what.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        metavar="S",
        help="how long to measure each model, step and batch size (default: %(default)g)",
    )
    machine = parser.add_argument_group("machine and output")
    machine.add_argument(
        "--device", default="auto", metavar="D", help="device: cpu, cuda, 0 for cuda:0, ... (default: %(default)s)"
    )
    machine.add_argument(
        "--dtype",
        type=str.lower,
        choices=("auto", "fp32", "bf16", "fp16"),
        help="floating-point type to compute in (default: that of the weights)",
    )
    machine.add_argument(
        "--threads", type=int, metavar="N", help="processor threads to compute with (default: as torch chooses)"
    )
    machine.add_argument(
        "--json",
        nargs="?",
        const=True,
        metavar="FILE",
        help="write the numbers to FILE as JSON; without FILE, print JSON instead of the tables",
    )


def _run(arguments: argparse.Namespace) -> int:
    # the whole command line is checked before torch is imported and a model is loaded
    size = _size_of(arguments.size)
    batch_sizes = arguments.batch_size or [1]
    for option, values in (("--batch-size", batch_sizes), ("--threads", [arguments.threads])):
        for value in values:
            if value is not None and not is_integer(value, 1):
                raise UsageError(f"{option} {value} must be an integer >= 1")
    if not (is_number(arguments.seconds) and arguments.seconds > 0):
        raise UsageError(f"--seconds {arguments.seconds} must be a number above 0, such as 5")
    options = parse_settings(arguments.set, "num_classes=19")
    for key in options:
        if key in ("weights", "variant"):
            raise UsageError(f"-s {key} cannot be set here; use --{key}")
    _check_json(arguments)
    import_modules(arguments.imports)
    _check_models(arguments, options)

    from seg_core.device import resolve_device

    try:
        device = resolve_device(arguments.device, "--device")
        from seg_models.inference.preparation import usable_dtype

        usable_dtype(arguments.dtype, device)
    except InvalidArgumentError as error:
        raise UsageError(str(error)) from error
    from seg_models.speed.benchmark import measure

    contenders = [_load(model, arguments, options) for model in arguments.models]
    line = StatusLine()
    try:
        report = measure(
            contenders,
            size=size,
            batch_sizes=batch_sizes,
            device=device,
            dtype=arguments.dtype,
            threads=arguments.threads,
            seconds=arguments.seconds,
            end_to_end=not arguments.network_only,
            optimize=arguments.optimize,
            say=lambda text: line.show(f"seg: {text} ..."),
        )
    finally:
        line.close("" if line.live else None)
    if arguments.json is True:
        print(to_json(report.to_dict(), indent=2))
        return 0
    _show(report)
    if arguments.json is not None:
        write_json(arguments.json, report.to_dict())
    return 0


def _size_of(text: str | None) -> tuple[int, int]:
    found = parse_size("--size", text)
    if found is None:
        print(f"seg: no --size given, taking {_DEFAULT_SIZE[0]}x{_DEFAULT_SIZE[1]}", file=sys.stderr)
    return found or _DEFAULT_SIZE


def _check_json(arguments: argparse.Namespace) -> None:
    """Checks the FILE of `--json` before the work starts.

    Raises:
        UsageError: if it is a folder, or a model that is read.
        WrongTargetError: if its folder is a file.
    """
    file = arguments.json
    if not isinstance(file, str):
        return
    path = Path(file)
    if not file or path.is_dir():
        raise UsageError(f"--json {file!r} is a folder; add the file's name")
    check_folder(path.parent, f"--json {file}")
    read = [*arguments.models, arguments.weights]
    if path.exists() and any(name is not None and path.resolve() == Path(name).resolve() for name in read):
        raise UsageError(f"--json {file} would overwrite a file that is read; name another file")


def _of_names(arguments: argparse.Namespace, model: str) -> bool:
    """Returns whether `--weights`, `--variant` and `-s` are for a model: those by name, if there are any."""
    return is_model_name(model) or not any(map(is_model_name, arguments.models))


def _check_models(arguments: argparse.Namespace, options: dict[str, Any]) -> None:
    """Checks that the models exist, as far as that is known without loading them.

    Raises:
        UsageError: if one does not, or options do not fit it.
    """
    for model in arguments.models:
        if is_model_name(model) and model.strip():
            entry = MODELS.entry(model)
            if isinstance(entry, ModelEntry) and entry.any_backbone and "backbone" not in options:
                raise UsageError(f"model {model!r} needs a backbone; set one, as in -s backbone=resnet50")
            continue
        given = (arguments.weights, arguments.variant) if _of_names(arguments, model) else (None, None)
        with errors_of_model(usage=True):
            source = find_network(model, *given)
        if source.path is not None and not source.path.is_file():
            raise UsageError(
                f"there is no file {source.path}; give a model file, a run folder, or a name from `seg models`"
            )
        if options and _of_names(arguments, model):
            raise UsageError(
                f"-s {next(iter(options))} is for models by name; {model} contains its own options, remove -s"
            )


def _load(model: str, arguments: argparse.Namespace, options: dict[str, Any]) -> "Contender":
    from seg_models.speed.contenders import load_contender

    try:
        with errors_of_model():
            if is_model_name(model):
                return load_contender(model, arguments.weights, arguments.variant, options)
            return load_contender(model)
    except CorruptFileError:
        raise
    except InvalidArgumentError as error:
        raise UsageError(str(error)) from error


def _show(report: "BenchmarkReport") -> None:
    for part in report.parts():
        if isinstance(part, str):
            print(part)
        else:
            print_table(part.header, part.rows, part.align)


BENCHMARK = Command(
    configure=_configure,
    run=_run,
    description=(
        "Measures networks on this machine: latency with percentiles, throughput by batch size, peak memory, and the "
        "operations\nper second beside the most that the machine reaches. Two steps are measured: the network alone, "
        "and all from an\nimage in memory to its labels."
    ),
    epilog=(
        "examples:\n"
        "  seg benchmark lraspp_mobilenet_v3_large --size 512x1024\n"
        "  seg benchmark runs/camvid --size 360x480 --batch-size 1 --batch-size 8 --json speed.json\n"
        "  seg benchmark runs/camvid/model.pt --compare pidnet_s --size 720x960 --threads 1\n"
        "  seg benchmark --compare bisenet enet -s num_classes=19    (the same as: bisenet --compare enet)\n"
        "  seg benchmark runs/camvid --optimize --dtype auto\n"
        "\n"
        "Times of models that are compared are measured in turn, and the ratio is the median over the rounds, so that\n"
        "other work on the machine changes it little. Images are synthetic. A resize that a model prescribes is left\n"
        "out: --size is the size that the network sees. --optimize keeps the labels, so it needs trained weights.\n"
        "Exit codes: 0 measured; 1 a model is damaged, or does not fit in memory; 2 wrong usage, also a size or batch\n"
        "size that a model does not take; 130 interrupted."
    ),
)
