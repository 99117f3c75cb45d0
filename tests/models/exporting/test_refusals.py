"""What must not pass: exports that disagree, damaged files, full disks, wrong arguments."""

import resource

import numpy as np
import pytest
import torch
from torch import nn

from seg_core.errors import CorruptFileError, DisagreementError, InvalidArgumentError, WriteError
from seg_models import export, load_exported
from seg_models.exporting import export as export_module
from seg_models.exporting import onnx_file
from seg_models.exporting.description import DESCRIPTION_KEY
from seg_models.exporting.load import load_exported_network
from seg_models.exporting.verify import verify

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def edited(path, edit):
    """Loads an ONNX file, edits it and writes it again."""
    proto = onnx.load(path)
    edit(proto)
    onnx.save(proto, path)


def other_corners(proto):
    (resize,) = [node for node in proto.graph.node if node.op_type == "Resize"]
    (mode,) = [each for each in resize.attribute if each.name == "coordinate_transformation_mode"]
    mode.s = b"align_corners"


def no_normalization(proto):
    entry = next(each for each in proto.metadata_props if each.key == DESCRIPTION_KEY)
    assert '"mean": [0.4, 0.5, 0.6]' in entry.value
    entry.value = entry.value.replace('"mean": [0.4, 0.5, 0.6]', '"mean": [0.0, 0.0, 0.0]')


def without_offset(proto):
    (subtract,) = [node for node in proto.graph.node if node.op_type == "Sub"]
    (zero,) = [each for each in proto.graph.initializer if each.name == subtract.input[1]]
    zero.CopyFrom(onnx.numpy_helper.from_array(np.zeros((3, 1, 1), np.float32), zero.name))


def swapped_channels(proto):
    index = onnx.numpy_helper.from_array(np.array([2, 1, 0]), "bgr")
    proto.graph.initializer.append(index)
    for node in proto.graph.node:
        node.input[:] = ["swapped" if name == "images" else name for name in node.input]
    proto.graph.node.insert(0, onnx.helper.make_node("Gather", ["images", "bgr"], ["swapped"], axis=1))


def other_labels(proto):
    (argmax,) = [node for node in proto.graph.node if node.op_type == "ArgMax"]
    argmax.op_type = "ArgMin"


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        ({}, (other_corners, no_normalization, swapped_channels)),
        ({"with_preprocessing": True, "with_argmax": True}, (without_offset, swapped_channels, other_labels)),
    ],
)
def test_planted_faults_are_found(tiny, described, tmp_path, options, faults):
    file = tmp_path / "net.onnx"
    report = export(tiny(), file, **options, **described)
    content = file.read_bytes()
    tolerance = report.verification.tolerance
    for fault in (None, *faults):
        file.write_bytes(content)
        if fault is None:
            verify(load_exported_network(file), tiny(), report.description.info, tolerance)
            continue
        edited(file, fault)
        with pytest.raises(DisagreementError, match=r"net\.onnx"):
            verify(load_exported_network(file), tiny(), report.description.info, tolerance)


def test_export_that_disagrees_leaves_the_file_of_before(tiny, described, tmp_path, monkeypatch):
    export(tiny(), tmp_path / "net.onnx", **described)
    before = (tmp_path / "net.onnx").read_bytes()
    write = onnx_file.write_onnx

    def write_wrong(program, path, description):
        write(program, path, description)
        edited(path, other_corners)

    monkeypatch.setattr(onnx_file, "write_onnx", write_wrong)
    with pytest.raises(DisagreementError, match=r"net\.onnx does not compute what .*nothing is kept"):
        export(tiny(), tmp_path / "net.onnx", **described)
    assert (tmp_path / "net.onnx").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.json"]


def test_weights_of_another_network_are_refused(tiny, described, tmp_path, monkeypatch):
    trace = export_module.trace

    def trace_other(graph, *arguments):
        with torch.no_grad():
            graph.network.second.bias[0] += 0.5
        return trace(graph, *arguments)

    monkeypatch.setattr(export_module, "trace", trace_other)
    with pytest.raises(DisagreementError, match="a logit differs by 0.5"):
        export(tiny(), tmp_path / "net.pt2", **described)
    assert not list(tmp_path.iterdir())


def test_tolerances_are_options_and_written_down(tiny, described, tmp_path):
    with pytest.raises(DisagreementError, match=r"max_error: 1e-06.*raise max_error"):
        export(tiny(), tmp_path / "net.onnx", fp16=True, max_error=1e-6, **described)
    report = export(tiny(), tmp_path / "net.onnx", fp16=True, max_error=0.5, min_agreement=0.5, **described)
    assert report.to_dict()["tolerance"] == {"max_error": 0.5, "min_agreement": 0.5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_error": 0}, "max_error must be a fraction above 0"),
        ({"min_agreement": 1.5}, "min_agreement must be a fraction from 0 to 1"),
        ({"size": (3,)}, "size must be .height, width. in pixels"),
        ({"format": "tflite"}, "format must be one of onnx, pt2, openvino"),
        ({"format": "pt2"}, r"files of the format pt2 have the suffix \.pt2"),
        ({"fp16": True, "int8": "images"}, "fp16 and int8 exclude each other"),
        ({"opset": 3}, "opset must be an integer from 18 to"),
        ({"opset": True}, "opset must be an integer from 18 to"),
    ],
)
def test_wrong_arguments(tiny, described, tmp_path, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        export(tiny(), tmp_path / "net.onnx", **options, **described)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net.pb", {}, r"has not the suffix of a format; those are \.onnx, \.pt2, \.xml"),
        ("net.pt2", {"int8": "images"}, "int8 is for the formats"),
        ("net.pt2", {"opset": 18}, "opset = 18 is for ONNX"),
    ],
)
def test_wrong_arguments_of_a_format(tiny, described, tmp_path, name, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        export(tiny(), tmp_path / name, **options, **described)


def test_network_that_cannot_be_exported_says_why(described, tmp_path):
    class Odd(nn.Module):
        def forward(self, images):
            return images.numpy()

    with pytest.raises(InvalidArgumentError, match=r"torch\.export cannot export Odd: "):
        export(Odd(), tmp_path / "net.onnx", **described)
    with pytest.raises(InvalidArgumentError, match="a network must return float logits"):
        export(nn.Flatten(), tmp_path / "net.onnx", **described)


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2", "net.xml"])
def test_full_disk_leaves_nothing(tiny, described, tmp_path, name):
    if name.endswith("xml"):
        pytest.importorskip("openvino")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # no file may be larger
    try:
        with pytest.raises(WriteError, match=rf"cannot write .*net{name[3:]}"):
            export(tiny(), tmp_path / name, **described)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2", "net.xml"])
def test_damaged_files(tiny, described, tmp_path, name):
    if name.endswith("xml"):
        pytest.importorskip("openvino")
    file = tmp_path / name
    export(tiny(), file, **described)
    content = file.read_bytes()
    for part in (content[: len(content) // 2], content[:-40], b"", b"no model" * 40):
        file.write_bytes(part)
        with pytest.raises(CorruptFileError, match=f"{name} cannot be loaded"):
            load_exported(file)
    if name.endswith("xml"):
        file.write_bytes(content)
        file.with_suffix(".bin").write_bytes(b"")
        with pytest.raises(CorruptFileError, match=r"net\.xml cannot be loaded"):
            load_exported(file)
        file.with_suffix(".bin").unlink()
        with pytest.raises(CorruptFileError, match=r"there is no .*net\.bin"):
            load_exported(file)
    with pytest.raises(FileNotFoundError, match="there is no exported file"):
        load_exported(tmp_path / f"other{name[3:]}")
    with pytest.raises(InvalidArgumentError, match="has not the suffix of an exported file"):
        (tmp_path / "net.bmp").touch()
        load_exported(tmp_path / "net.bmp")


def test_files_of_other_tools_and_versions(tiny, described, tmp_path):
    file = tmp_path / "net.onnx"
    export(tiny(), file, **described)
    content = file.read_bytes()

    def described_as(text):
        file.write_bytes(content)
        entry = next(each for each in onnx.load(file).metadata_props if each.key == DESCRIPTION_KEY).value
        edited(file, lambda proto: setattr(proto.metadata_props[0], "value", text(entry)))

    for text, message in (
        (lambda entry: entry[:-9], "its description is damaged"),
        (lambda entry: "[1]", "was not exported by this toolkit"),
        (lambda entry: entry.replace('"format_version": 1', '"format_version": 9'), "by a newer seg-models"),
        (lambda entry: entry.replace('"min_size": 33', '"min_size": "33"'), "min_size = '33' in its description"),
        (lambda entry: entry.replace('"builder"', '"builders"'), "it has no builder"),
    ):
        described_as(text)
        with pytest.raises(CorruptFileError, match=message):
            load_exported(file)

    file.write_bytes(content)
    edited(file, lambda proto: proto.metadata_props.pop())
    with pytest.raises(CorruptFileError, match="was not exported by this toolkit"):
        load_exported(file)
    file.write_bytes(content)
    edited(file, lambda proto: setattr(proto.opset_import[0], "version", 99))
    with pytest.raises(CorruptFileError, match="upgrade onnxruntime, or export the model with a lower opset"):
        load_exported(file)
    torch.export.save(torch.export.export(tiny(), (torch.zeros(1, 3, 40, 40),)), tmp_path / "net.pt2")
    with pytest.raises(CorruptFileError, match="was not exported by this toolkit"):
        load_exported(tmp_path / "net.pt2")
