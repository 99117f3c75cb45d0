"""`seg export`: writes a model for another runtime, verified there."""

import argparse
from pathlib import Path

from seg_core.command import Command
from seg_core.errors import InvalidArgumentError, UsageError
from seg_core.files.atomic import check_folder
from seg_core.files.json_text import to_json
from seg_core.own_code import add_import_option, import_modules
from seg_models.catalog import EXPORT_SUFFIXES
from seg_models.commands.sizes import parse_size
from seg_models.inference.input_paths import is_pattern

__all__ = ["EXPORT"]

_EXAMPLES = ("python", "web")

_EPILOG = """\
examples:
  seg export runs/first                                      runs/first/model.onnx, for images of any size
  seg export runs/first --format openvino --out street.xml --static --size 512x1024
  seg export model.pt --with-preprocessing --with-argmax --with-example python
  seg export model.pt --int8 data/train --verify data/val --masks data/val_masks

The file is run in its runtime beside the model, on three generated images or those of --verify, and is kept only if
both agree. FILE.json beside it says what was compared and how far it differs. The file holds its classes, preprocessing
and thresholds: seg predict --model FILE, seg eval FILE and seg_models.load_exported take it.

Input: images, float32 (N, C, H, W), normalized; with --with-preprocessing the values as in the image, 0 to 255 of 8-bit
colors. Output 0: logits, float32 (N, K, H, W), at the size of the input. With --with-argmax output 1: labels, uint8.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model file, run folder, or name from `seg models`")
    parser.add_argument("--weights", metavar="W", help="for a model's name: weights member or file (default: DEFAULT)")
    parser.add_argument("--variant", metavar="V", help="for a model's name: its variant (default: that of the weights)")
    parser.add_argument(
        "--classes",
        metavar="FILE|DATASET",
        help="names and colors of the classes, for weights that do not name them (default: the model's)",
    )
    add_import_option(parser)
    parser.add_argument(
        "--format",
        choices=tuple(EXPORT_SUFFIXES),
        help="ONNX, a program of torch.export, or OpenVINO (default: by the suffix of --out, else onnx)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write (default: beside the model, with the suffix of the format)",
    )
    parser.add_argument(
        "--size", metavar="HxW", help="height and width of the network's input in pixels; for --static, and to verify"
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--dynamic", action="store_true", help="any number of images of any height and width (the default)"
    )
    sizes.add_argument("--static", action="store_true", help="one image of --size, which some runtimes need")
    parser.add_argument("--with-preprocessing", action="store_true", help="normalize images in the file")
    parser.add_argument("--with-argmax", action="store_true", help="labels as a second output")
    precisions = parser.add_mutually_exclusive_group()
    precisions.add_argument("--fp16", action="store_true", help="weights and computation in float16")
    precisions.add_argument(
        "--int8", metavar="IMAGES", help="8 bits, calibrated on these images: folder or glob pattern"
    )
    parser.add_argument("--opset", type=int, metavar="N", help="version of ONNX's operators (default: 18)")
    parser.add_argument("--verify", metavar="IMAGES", help="images to compare on: folder or glob pattern")
    parser.add_argument(
        "--masks", metavar="DIR", help="masks of class ids of the images of --verify, for the mIoU before and after"
    )
    parser.add_argument(
        "--max-error",
        type=float,
        metavar="F",
        help="allowed difference of logits, as a fraction of the image's largest (default: 0.001; fp16 0.02; int8 any)",
    )
    parser.add_argument(
        "--min-agreement",
        type=float,
        metavar="F",
        help="fraction of labels that must be equal in each image (default: 0.999; fp16 0.99; int8 0.9)",
    )
    parser.add_argument(
        "--with-example",
        action="append",
        choices=_EXAMPLES,
        default=[],
        help="also write a program that needs no torch: a Python script, or a folder with a web page; may be repeated",
    )
    parser.add_argument(
        "--ort-web",
        type=Path,
        metavar="DIR",
        help="folder of the unpacked npm package onnxruntime-web, for --with-example web",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _run(arguments: argparse.Namespace) -> int:
    from seg_models.commands.predict.classes import parse_classes

    size = parse_size("--size", arguments.size)
    if arguments.static and arguments.size is None:
        raise UsageError("--static is for one size; add --size HxW, such as --size 512x1024")
    if arguments.masks is not None and arguments.verify is None:
        raise UsageError("--masks are those of the images of --verify; add --verify IMAGES")
    if arguments.ort_web is not None and "web" not in arguments.with_example:
        raise UsageError("--ort-web is for --with-example web; add that, or remove it")
    for option, value in (("--int8", arguments.int8), ("--verify", arguments.verify)):
        if value is not None and not (is_pattern(value) or Path(value).exists()):
            raise UsageError(f"{option} {value}: there is no such folder or image")
    out = _target(arguments)
    if arguments.with_example and out.suffix != ".onnx":
        raise UsageError("--with-example runs ONNX files; remove --format, or --with-example")
    check_folder(out.parent, f"--out {out}")
    classes = parse_classes(arguments.classes)
    import_modules(arguments.imports)

    from seg_core.model_files.load_network import find_network, load_network
    from seg_models.exporting.examples import check_examples, write_example
    from seg_models.exporting.export import export
    from seg_models.exporting.onnx_file import default_opset
    from seg_models.exporting.verify import Tolerance

    kinds = list(dict.fromkeys(arguments.with_example))
    check_examples(kinds, arguments.ort_web)
    try:
        Tolerance.of("fp32", arguments.max_error, arguments.min_agreement)
        if arguments.opset is not None:
            default_opset(arguments.opset)
    except InvalidArgumentError as error:
        name, _, rest = str(error).partition(" ")  # the argument stands first
        raise UsageError(f"--{name.replace('_', '-')} {rest}") from error
    source = find_network(arguments.model, arguments.weights, arguments.variant)
    network = load_network(source)
    report = export(
        network,
        out,
        size=size,
        dynamic=not arguments.static,
        metadata=classes,
        with_preprocessing=arguments.with_preprocessing,
        with_argmax=arguments.with_argmax,
        fp16=arguments.fp16,
        int8=arguments.int8,
        images=arguments.verify,
        masks=arguments.masks,
        max_error=arguments.max_error,
        min_agreement=arguments.min_agreement,
        opset=arguments.opset,
    )
    examples = [write_example(report, kind, arguments.ort_web if kind == "web" else None) for kind in kinds]
    if arguments.json:
        print(to_json(report.to_dict(), indent=2))
        return 0
    print(report)
    for example in examples:
        print(f"example   {example.path}; run: {example.command}")
    return 0


def _target(arguments: argparse.Namespace) -> Path:
    """Returns the file to write."""
    if arguments.out is not None:
        kinds = {suffix: name for name, suffix in EXPORT_SUFFIXES.items()}
        out: Path = arguments.out
        wanted = EXPORT_SUFFIXES[arguments.format] if arguments.format else None
        if out.suffix not in kinds or (wanted is not None and out.suffix != wanted):
            raise UsageError(
                f"--out {out} must be a file with the suffix {wanted or ', '.join(kinds)}, such as "
                f"{out.with_suffix(wanted or '.onnx').name}"
            )
        return out
    suffix = EXPORT_SUFFIXES[arguments.format or "onnx"]
    given = Path(arguments.model)
    if given.is_dir():
        return given / f"model{suffix}"
    return given.with_suffix(suffix) if given.is_file() else Path(f"{arguments.model}{suffix}")


EXPORT = Command(
    configure=_configure,
    run=_run,
    description="Exports a model for another runtime, and keeps the file only if it computes what the model computes.",
    epilog=_EPILOG,
)
