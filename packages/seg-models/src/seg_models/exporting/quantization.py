"""Static quantization of an ONNX file to 8 bits, by ONNX Runtime: weights per channel, activations per tensor."""

import contextlib
import io
import itertools
import logging
import os
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError, UserError
from seg_core.files.images import MAX_PIXELS
from seg_core.transforms.evaluation import EvaluationTransform
from seg_models.exporting.description import ExportDescription
from seg_models.exporting.graph import INPUT
from seg_models.exporting.onnx_file import import_onnx, onnx_session
from seg_models.inference.inputs import find_inputs, load_input

__all__ = ["quantize"]

# more images change the ranges little, and take time
_MOST_IMAGES = 200
# of the activations of all images this part is inside of the range; single large ones would make its steps coarse
_PERCENTILE = 99.999
_TIMED_RUNS = 9


def quantize(file: Path, description: ExportDescription, images: Any) -> Mapping[str, float]:
    """Replaces a float32 ONNX file by one of 8-bit weights and activations.

    The range of each activation is that of the central 99.999 % of its values on the images.

    Args:
        file: the ONNX file.
        description: the description in it.
        images: images like those that are predicted later, as `Predictor.stream` takes them; the first 200 are used.

    Returns:
        Median milliseconds of one image in the file before (`"fp32_ms"`) and after (`"int8_ms"`), run in turns.

    Raises:
        InvalidArgumentError: if ONNX Runtime cannot quantize the network.
        FileNotFoundError: if there are no images.
        MissingDependencyError: if ONNX Runtime is not installed.
    """
    import_onnx()
    before = onnx_session(file)
    example = next(_inputs(description, images))
    prepared, result = (file.with_name(f"{file.stem}-{step}.onnx") for step in ("prepared", "int8"))
    try:
        _quantize(file, prepared, result, _inputs(description, images))
    except (UserError, OSError):
        raise
    except Exception as error:  # ONNX Runtime's tools raise whatever they meet
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InvalidArgumentError(f"int8: ONNX Runtime cannot quantize this network: {reason}") from error
    after = onnx_session(result)
    seconds: dict[str, list[float]] = {"fp32_ms": [], "int8_ms": []}
    for _ in range(_TIMED_RUNS + 1):  # the first run of each prepares its memory
        for name, session in (("fp32_ms", before), ("int8_ms", after)):
            start = time.perf_counter()
            session.run(None, {INPUT: example})
            seconds[name].append(time.perf_counter() - start)
    del before, after
    prepared.unlink()
    result.replace(file)
    return {name: 1000 * statistics.median(times[1:]) for name, times in seconds.items()}


def _quantize(file: Path, prepared: Path, result: Path, inputs: Iterator[npt.NDArray[np.float32]]) -> None:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # of a library without types
        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            found = next(inputs, None)
            return None if found is None else {INPUT: found}

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it logs by the root logger
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # and prints
            warnings.simplefilter("ignore")
            # the symbolic shapes are in the file already
            quant_pre_process(os.fspath(file), os.fspath(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                os.fspath(prepared),
                os.fspath(result),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": _PERCENTILE},
            )
    finally:
        logging.getLogger().setLevel(level)


def _inputs(description: ExportDescription, images: Any) -> Iterator[npt.NDArray[np.float32]]:
    """Yields float32 (1, C, h, w): images as the file takes them."""
    preprocessing = description.info.preprocessing
    if description.size is not None:
        preprocessing = preprocessing.with_resize({"size": description.size})
    transform = EvaluationTransform(preprocessing)
    channels = description.info.metadata.channels
    found = find_inputs(images, stacks=not channels.is_rgb8)
    for each in itertools.islice(found, _MOST_IMAGES):
        pixels = load_input(each, MAX_PIXELS, None, channels).pixels[None]
        resized = transform.resize(pixels)
        if description.normalizes:
            scale = 255 if channels.is_rgb8 and resized.is_floating_point() else 1
            inputs = resized.float() * scale
        else:
            inputs = transform.normalize(resized, torch.device("cpu"))
        missing = [max(0, description.min_size - side) for side in inputs.shape[-2:]]
        yield F.pad(inputs, (0, missing[1], 0, missing[0])).contiguous().numpy()
