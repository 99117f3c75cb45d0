"""`export`: writes a network for other runtimes, and keeps the file only if it computes what the network computes."""

import copy
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from seg_core.checks import is_integer
from seg_core.errors import InvalidArgumentError, UserError
from seg_core.files.atomic import check_folder, torch_write_error, write_error
from seg_core.files.json_text import to_json
from seg_core.files.temporaries import temporary_folder
from seg_core.labels.channels import ImageChannels
from seg_core.labels.metadata import DatasetMetadata
from seg_core.metrics.argmax import Thresholds
from seg_core.model_files.build_spec import OBJECT, BuildSpec
from seg_core.model_files.load_network import load_network
from seg_core.model_files.reading import ModelInfo
from seg_core.transforms.preprocessing import Preprocessing
from seg_core.versions import installed_versions
from seg_models.catalog import EXPORT_SUFFIXES
from seg_models.exporting.description import ExportDescription, Precision
from seg_models.exporting.exported import ExportedNetwork
from seg_models.exporting.graph import INPUT, LABELS, LOGITS, ExportGraph, trace
from seg_models.exporting.load import load_exported_network
from seg_models.exporting.verify import Tolerance, Verification, verify
from seg_models.inference.decisions import thresholds_of
from seg_models.inference.preparation import check_fit, check_model, describe_images

__all__ = ["ExportReport", "Format", "export"]

Format = Literal["onnx", "pt2", "openvino"]
"""Kind of an exported file."""

_VERSIONS = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "seg-core", "seg-models")


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how far it agrees with the network.

    Attributes:
        path: the exported file.
        format: `"onnx"`, `"pt2"` or `"openvino"`.
        description: what the file says of itself.
        verification: what the comparison found.
        speed: of int8 the milliseconds per image of the float32 file and of this one, `{}` for others.
    """

    path: Path
    format: Format
    description: ExportDescription
    verification: Verification
    speed: Mapping[str, float]

    @property
    def json_path(self) -> Path:
        """The file with this report, beside the exported one."""
        return self.path.with_name(f"{self.path.name}.json")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as they are written beside the file."""
        described, found = self.description, self.verification
        facts = described.to_dict()
        channels = described.info.metadata.channels
        return {
            "file": self.path.name,
            "format": self.format,
            "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest(),
            "max_abs_error": found.max_abs_error,
            "label_agreement": found.label_agreement,
            "miou_before": found.miou_before,
            "miou_after": found.miou_after,
            "tolerance": {"max_error": found.tolerance.max_error, "min_agreement": found.tolerance.min_agreement},
            "compared": [each.to_dict() for each in found.comparisons],
            "speed": dict(self.speed),
            "precision": described.precision,
            "opset": described.opset,
            "dynamic": described.size is None,
            "size": facts["size"],
            "min_size": described.min_size,
            "input": {
                "name": INPUT,
                "layout": "NCHW",
                "type": "float32",
                "channels": list(channels.names),
                "values": "as in the image" if described.normalizes else "normalized",
            },
            "outputs": [LOGITS, LABELS] if described.labels else [LOGITS],
            "task": facts["task"],
            "thresholds": facts.get("thresholds"),
            "metadata": facts["metadata"],
            "preprocessing": facts["preprocessing"],
            "versions": installed_versions("python", *_VERSIONS),
        }

    def __str__(self) -> str:
        described, found = self.description, self.verification
        size = "any size" if described.size is None else f"{described.size[0]}x{described.size[1]} pixels"
        lines = [
            f"file      {self.path} ({self.path.stat().st_size / 2**20:.1f} MiB), {described.precision}, for {size}",
            f"verified  on {len(found.comparisons)} images: logits differ by at most {found.max_abs_error:.2g}, "
            f"{found.label_agreement:.3%} of the labels are equal",
        ]
        if found.miou_before is not None and found.miou_after is not None:
            lines.append(f"mIoU      {found.miou_before:.4f} before, {found.miou_after:.4f} after")
        if self.speed:
            before, after = self.speed["fp32_ms"], self.speed["int8_ms"]
            lines.append(f"speed     {before:.1f} ms per image in fp32, {after:.1f} ms in int8 ({before / after:.2f}x)")
        lines.append(f"report    {self.json_path}")
        return "\n".join(lines)


def export(
    model: nn.Module | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    format: Format | None = None,  # noqa: A002 - the word of the command
    size: Sequence[int] | None = None,
    dynamic: bool = True,
    weights: Any = None,
    metadata: DatasetMetadata | Sequence[str] | str | None = None,
    preprocessing: Preprocessing | None = None,
    channels: ImageChannels | None = None,
    thresholds: Thresholds | None = None,
    with_preprocessing: bool = False,
    with_argmax: bool = False,
    fp16: bool = False,
    int8: Any = None,
    images: Any = None,
    masks: str | os.PathLike[str] | None = None,
    max_error: float | None = None,
    min_agreement: float | None = None,
    opset: int | None = None,
) -> ExportReport:
    """Writes a network as a file for another runtime, runs it there beside the network, and keeps it if both agree.

    The input of the file is `images`, float32 (N, C, H, W); output 0 is `logits`, float32 (N, K, H, W) at the size of
    the images. The file holds its classes, preprocessing and thresholds, so that `load_exported(path)` needs no other,
    and `path.json` beside it what the comparison found.

    Args:
        model: a network, the path of a model file, a run folder, or a model's name, as for `Predictor`. It is not
            changed.
        path: file to write.
        format: `"onnx"`, `"pt2"` (torch.export) or `"openvino"` (an `.xml`, with its weights in a `.bin` beside it);
            None goes by the suffix of `path`: `.onnx`, `.pt2`, `.xml`.
        size: (height, width) in pixels of the network's input. Needed without `dynamic`, if the preprocessing gives
            none.
        dynamic: whether the file takes any number of images of any height and width; else one image of `size`.
        weights: for a model's name, as for `Predictor`.
        metadata: as for `Predictor`.
        preprocessing: as for `Predictor`.
        channels: as for `Predictor`.
        thresholds: as for `Predictor`.
        with_preprocessing: whether the file normalizes images itself, so that its input is the values of the image as
            float32: 0 to 255 of 8-bit colors. A resize is never part of the file.
        with_argmax: whether output 1 is `labels`: uint8 (N, H, W), int32 for more than 256 classes; of binary and
            multilabel tasks uint8 (N, K, H, W), 1 where a class is above its threshold.
        fp16: whether weights and computation are float16; images and logits stay float32.
        int8: images to calibrate on, as `Predictor.stream` takes them, to quantize weights (per channel) and
            activations to 8 bits. For ONNX and OpenVINO.
        images: images to compare on, as `Predictor.stream` takes them; None compares on those of `int8`, else on three
            that are generated.
        masks: folder with a mask of class ids for each of `images`, for the mIoU before and after.
        max_error: largest difference of a logit that is allowed, as a fraction of the image's largest absolute logit;
            None is 1e-3, for `fp16` 2e-2, and any for `int8`.
        min_agreement: fraction of an image's labels that must be equal; None is 0.999, for `fp16` 0.99, for `int8` 0.9.
        opset: version of ONNX's operators; None for 18.

    Raises:
        DisagreementError: if the file does not compute what the network computes; it is not kept.
        InvalidArgumentError: if an argument is not allowed, or the network cannot be exported.
        FileNotFoundError: if there is no such model file, image or mask.
        MissingDependencyError: if a library is not installed.
        WriteError: if the file cannot be written; nothing is left.
    """
    target = Path(path)
    kind = _format_of(target, format)
    if fp16 and int8 is not None:
        raise InvalidArgumentError("fp16 and int8 exclude each other; give one of them")
    if int8 is not None and kind == "pt2":
        raise InvalidArgumentError('int8 is for the formats "onnx" and "openvino"; a .pt2 can be fp16')
    if opset is not None and kind == "pt2":
        raise InvalidArgumentError(f"opset = {opset!r} is for ONNX; leave it out")
    precision: Precision = "fp16" if fp16 else "fp32" if int8 is None else "int8"
    tolerance = Tolerance.of(precision, max_error, min_agreement)
    check_folder(target.parent, f"path = {os.fspath(path)!r}")

    network = load_network(check_model(model), weights)
    if isinstance(network, ExportedNetwork):
        raise InvalidArgumentError(f"{network.path} is exported already; export the model that it was made from")
    info = _info_of(network, metadata, preprocessing, channels, thresholds)
    fixed = _size_of(size, info.preprocessing)
    if not dynamic and fixed is None:
        raise InvalidArgumentError(
            "a file for one size (dynamic=False, --static) needs it: size=(height, width) of the network's input"
        )
    reference = copy.deepcopy(network).to("cpu", torch.float32)
    graph = ExportGraph(reference, info, normalizes=with_preprocessing, labels=with_argmax, half=fp16)
    program, least = trace(graph, info.metadata.channels.count, None if dynamic else fixed)
    described = ExportDescription(
        info,
        None if dynamic else fixed,
        least,
        with_preprocessing,
        with_argmax,
        precision,
        _opset(kind, opset),
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(target.parent, target.stem) as folder:
            file = folder / target.name
            speed = _write(kind, program, file, described, int8)
            exported = load_exported_network(file)
            found = verify(
                exported,
                reference,
                info,
                tolerance,
                size=fixed,
                images=images if images is not None else int8,
                masks=masks,
            )
            exported.close()
            report = ExportReport(file, kind, described, found, speed)
            report.json_path.write_text(to_json(report.to_dict(), indent=2) + "\n", encoding="utf-8")
            weights = [".bin"] if kind == "openvino" else []
            # what is needed first: a file that is there has its weights, and its report says what it is
            for name in (report.json_path.name, *(target.with_suffix(end).name for end in weights), target.name):
                _move(file.with_name(name), target.with_name(name))
    except OSError as error:
        if isinstance(error, UserError):
            raise
        raise write_error(f"write {target}", error) from error
    return replace(report, path=target)


def _format_of(path: Path, given: str | None) -> Format:
    by_suffix = {suffix: name for name, suffix in EXPORT_SUFFIXES.items()}
    if given is None and path.suffix not in by_suffix:
        raise InvalidArgumentError(
            f"path = {os.fspath(path)!r} has not the suffix of a format; those are {', '.join(by_suffix)}"
        )
    kind = by_suffix[path.suffix] if given is None else given
    if kind not in get_args(Format):
        raise InvalidArgumentError(f"format must be one of {', '.join(get_args(Format))}, or None, got {given!r}")
    if path.suffix != EXPORT_SUFFIXES[kind]:
        raise InvalidArgumentError(
            f"path = {os.fspath(path)!r}: files of the format {kind} have the suffix {EXPORT_SUFFIXES[kind]}"
        )
    return kind  # type: ignore[return-value]  # one of its values


def _opset(kind: Format, given: int | None) -> int | None:
    if kind == "pt2":
        return None
    from seg_models.exporting.onnx_file import default_opset

    return default_opset(given)


def _size_of(given: Sequence[int] | None, preprocessing: Preprocessing) -> tuple[int, int] | None:
    if given is None:
        return preprocessing.size
    is_pair = isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 2
    if not is_pair or not all(is_integer(side, 1) for side in given):
        raise InvalidArgumentError(f"size must be (height, width) in pixels, two integers >= 1, got {given!r}")
    return given[0], given[1]


def _info_of(
    network: nn.Module,
    metadata: DatasetMetadata | Sequence[str] | str | None,
    preprocessing: Preprocessing | None,
    channels: ImageChannels | None,
    thresholds: Thresholds | None,
) -> ModelInfo:
    known: ModelInfo | None = getattr(network, "model_info", None)
    described, prepared = describe_images(known, metadata, preprocessing, channels)
    check_fit(network, described)
    spec = getattr(network, "build_spec", None)
    if not isinstance(spec, BuildSpec):
        spec = BuildSpec(OBJECT, "", {"class": type(network).__name__, "num_classes": described.num_classes})
    return ModelInfo(
        spec,
        described,
        prepared,
        metrics={} if known is None else known.metrics,
        protocol={} if known is None else known.protocol,
        protocol_text="" if known is None else known.protocol_text,
        versions=installed_versions(*_VERSIONS),
        thresholds=thresholds_of(thresholds, None, described, known),
    )


def _write(
    kind: Format, program: torch.export.ExportedProgram, file: Path, described: ExportDescription, calibration: Any
) -> Mapping[str, float]:
    """Writes the exported file; returns the speed before and after the quantization, if there is one."""
    try:
        if kind == "pt2":
            from seg_models.exporting.pt2_file import write_pt2

            write_pt2(program, file, described)
            return {}
        from seg_models.exporting.onnx_file import write_onnx

        onnx_file = file.with_suffix(".onnx")
        write_onnx(program, onnx_file, described)
        speed: Mapping[str, float] = {}
        if described.precision == "int8":
            from seg_models.exporting.quantization import quantize

            speed = quantize(onnx_file, described, calibration)
        if kind == "openvino":
            from seg_models.exporting.openvino_file import write_openvino

            write_openvino(onnx_file, file, described)
            onnx_file.unlink()
        return speed
    except RuntimeError as error:  # of the writers of torch and OpenVINO, such as on a full disk
        raise torch_write_error(file, error) from error


def _move(source: Path, target: Path) -> None:
    """Gives a file of the same file system its name, once it is on the disk."""
    umask = os.umask(0)
    os.umask(umask)
    with source.open("rb") as written:
        os.fsync(written.fileno())
    source.chmod(0o666 & ~umask)
    source.replace(target)
