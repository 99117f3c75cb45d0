"""What `seg models show FILE` prints: what is in a model file, an exported file or a checkpoint."""

from pathlib import Path

from seg_core.errors import InvalidArgumentError
from seg_core.labels.channels import ImageChannels
from seg_core.model_files.paths import find_run_file, split_nest
from seg_core.model_files.reading import ModelInfo
from seg_models.catalog import EXPORT_SUFFIXES
from seg_models.exporting.load import load_exported_network
from seg_models.pretrained.checkpoint import networks_in_file

__all__ = ["describe_file"]

_LABELS_SHOWN = 8
_NAMES_SHOWN = 2


def describe_file(path: str) -> str:
    """Returns the lines for a model file, the best model of a run folder, or another project's checkpoint.

    Raises:
        InvalidArgumentError: if there is no such file, or a folder holds no model file.
        CorruptFileError: if it is damaged or no checkpoint.
    """
    lines: list[str] = []
    path, _ = split_nest(path)
    if Path(path).is_dir():
        file, note = find_run_file(path)
        path, lines = str(file), [note, ""]
    if not Path(path).is_file():
        raise InvalidArgumentError(
            f"there is no file {path}; give a model file, a checkpoint, a run folder, or a name from `seg models`"
        )
    if Path(path).suffix in EXPORT_SUFFIXES.values():
        return "\n".join([*lines, *_exported(path)])
    found = networks_in_file(path)
    size = f"{Path(path).stat().st_size / 1e6:.1f} MB"
    if isinstance(found, ModelInfo):
        lines += [f"{path}: model file, {size}", "", *_described(found)]
        return "\n".join([*lines, "", f"predict with: seg predict IMAGES --model {path}"])
    lines += [f"{path}: tensors without a description of their network, {size}", ""]
    for place, tensors in found.items():
        numbers = sum(tensor.numel() for tensor in tensors.values())
        names = ", ".join(list(tensors)[:_NAMES_SHOWN])
        lines.append(f"{place or 'tensors':<9} {len(tensors)} tensors, {numbers / 1e6:.2f} M numbers: {names}, ...")
    chosen = f"{path}#{next(iter(found))}" if len(found) > 1 else path
    return "\n".join([*lines, "", f"predict with: seg predict IMAGES --model NAME --weights {chosen}"])


def _channels(channels: ImageChannels) -> str:
    """Returns such as "4 channels (red, green, blue, nir) from 0 to 10000; nodata 0; bands 4, 3, 2, 8"."""
    parts = [str(channels)]
    if channels.nodata is not None:
        parts.append(f"nodata {channels.nodata:g}")
    if channels.bands:
        parts.append(f"{'pages' if channels.pages else 'bands'} {', '.join(map(str, channels.bands))}")
    elif channels.pages:
        parts.append("one per page")
    return "; ".join(parts)


def _thresholds(values: tuple[float, ...]) -> str:
    """Returns the thresholds in words: one number if all are equal."""
    if len(set(values)) == 1:
        return f"threshold {values[0]:g}"
    more = f" and {len(values) - _LABELS_SHOWN} more" if len(values) > _LABELS_SHOWN else ""
    return f"thresholds {', '.join(f'{value:g}' for value in values[:_LABELS_SHOWN])}{more}"


def _exported(path: str) -> list[str]:
    """Returns the lines for an exported file."""
    described = load_exported_network(path).description
    size = f"{Path(path).stat().st_size / 1e6:.1f} MB"
    height, width = described.size or (described.min_size, described.min_size)
    takes = f"one image of {height}x{width} pixels" if described.size else f"images of any size from {height}x{width}"
    values = "values as in the image" if described.normalizes else "normalized values"
    outputs = "logits, labels" if described.labels else "logits"
    opset = "" if described.opset is None else f", opset {described.opset}"
    return [
        f"{path}: exported file, {described.precision}{opset}, {size}",
        "",
        f"{'file':<9} {takes}, {values}; outputs {outputs}",
        *_described(described.info),
        "",
        f"predict with: seg predict IMAGES --model {path}",
    ]


def _described(info: ModelInfo) -> list[str]:
    labels = info.metadata.labels
    more = f" and {len(labels) - _LABELS_SHOWN} more" if len(labels) > _LABELS_SHOWN else ""
    resize = ", ".join(f"{name} {value}" for name, value in info.preprocessing.resize.items()) or "images as they are"
    mean, std = (", ".join(f"{n:g}" for n in numbers) for numbers in (info.preprocessing.mean, info.preprocessing.std))
    scores = ", ".join(f"{name} {value:.4f}" for name, value in info.metrics.items() if isinstance(value, float))
    facts = [
        ("model", f"{info.spec.builder}, variant {info.spec.variant}"),
        ("arguments", ", ".join(f"{name}={value!r}" for name, value in info.spec.arguments.items())),
        ("classes", f"{len(labels)} of {info.metadata.name}: {', '.join(labels[:_LABELS_SHOWN])}{more}"),
        ("task", "" if info.thresholds is None else f"{info.metadata.task}; {_thresholds(info.thresholds)}"),
        ("channels", "" if info.metadata.channels.is_rgb8 else _channels(info.metadata.channels)),
        ("input", f"{resize}; mean {mean}; std {std}"),
        ("scores", scores or "none"),
        ("protocol", info.protocol_text),
        ("versions", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
    ]
    return [f"{title:<9} {text}" for title, text in facts if text]
