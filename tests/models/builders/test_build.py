"""Variants, options, weights and numbers of classes, on small networks and files written by the tests."""

import copy
import dataclasses
import inspect
import pickle

import pytest
import torch

import seg_models
from seg_core import registry
from seg_core.catalog import WeightsEntry
from seg_core.errors import CorruptFileError, InvalidArgumentError, UnknownNameError
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_core.model_files.weights import make_weights_enum
from seg_core.transforms.preprocessing import Preprocessing
from seg_models.pretrained import enums


@pytest.fixture
def voc_enet():
    return seg_models.enet(num_classes=21).eval()


@pytest.fixture
def published(tmp_path, monkeypatch, voc_enet, serve):
    """ENet's catalog row with weights on a server of this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    torch.save(voc_enet.state_dict(), folder / "enet-voc.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))

    row = WeightsEntry(
        serve(folder) + "/enet-voc.pth",
        "",
        "first-use",
        "VOC",
        (0.5,) * 3,
        (0.25,) * 3,
        {"shorter_side": 32},
        meta={"metrics": {"miou": 0.5}, "protocol": "invented"},
    )
    entry = dataclasses.replace(
        registry.MODELS.entry("enet"), weights_enum="ENet_Weights", weights={"VOC": row}, default_weights="VOC"
    )
    monkeypatch.setitem(registry.MODELS._entries, "enet", entry)
    # replaces ENet's enum only: another enum that is first created during the test must outlast it, since the package
    # keeps the enums that it has returned
    enum = make_weights_enum("ENet_Weights", entry, module=enums.__name__)
    monkeypatch.setitem(enums._made, "ENet_Weights", enum)
    return enum


def same_output(model, other):
    images = torch.randn(1, 3, 16, 24)
    with torch.inference_mode():
        return torch.equal(model.eval()(images)["out"], other.eval()(images)["out"])


@pytest.mark.smoke
@pytest.mark.parametrize("weights", ["DEFAULT", "VOC", "ENet_Weights.VOC", "member"])
def test_weights_by_member_or_name_fill_the_network_and_set_its_classes(published, voc_enet, weights):
    model = seg_models.enet(weights=published.VOC if weights == "member" else weights, progress=False)
    assert same_output(model, voc_enet)
    assert model.build_spec.arguments["num_classes"] == 21
    assert model.randomly_initialized == ()
    assert model.model_info.metadata == resolve_metadata("VOC")
    assert model.model_info.preprocessing == Preprocessing((0.5,) * 3, (0.25,) * 3, shorter_side=32)
    assert model.model_info.metrics == {"miou": 0.5}
    assert model.model_info.spec == model.build_spec


def test_weights_member_pickles_and_copies_to_itself(published):
    for member in (published.VOC, seg_models.FCN_ResNet50_Weights.DEFAULT):
        assert pickle.loads(pickle.dumps(member)) is member
        assert copy.deepcopy(member) is member


def test_num_classes_other_than_the_weights_keeps_what_fits_and_names_the_rest(published, voc_enet, caplog):
    model = seg_models.enet(weights="VOC", num_classes=5, progress=False)
    assert model.randomly_initialized == ("classifier.weight", "classifier.bias")
    assert "randomly initialized: classifier.weight, classifier.bias" in caplog.text
    assert not hasattr(model, "model_info") or model.model_info is None
    for name, tensor in model.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(tensor, voc_enet.state_dict()[name])


def test_weights_unknown_member_lists_members(published):
    with pytest.raises(UnknownNameError, match=r"ENet_Weights has no member 'VOCC'.*Did you mean 'VOC'.*Members: VOC"):
        seg_models.enet(weights="VOCC")


def test_weights_of_a_model_without_any_says_who_has_some():
    with pytest.raises(UnknownNameError, match="no published weights for model 'regseg'; there are for .*fcn_resnet50"):
        seg_models.regseg(weights="DEFAULT")


def test_weights_of_another_builder_are_refused():
    with pytest.raises(TypeError, match="weights must be a member of FCN_ResNet50_Weights"):
        seg_models.fcn_resnet50(weights=3)


def test_plain_file_tells_the_number_of_classes(voc_enet, tmp_path):
    torch.save(voc_enet.state_dict(), tmp_path / "plain.pth")
    model = seg_models.enet(weights=str(tmp_path / "plain.pth"))
    assert model.build_spec.arguments["num_classes"] == 21
    assert same_output(model, voc_enet)
    smaller = seg_models.enet(weights=tmp_path / "plain.pth", num_classes=4)
    assert smaller.randomly_initialized == ("classifier.weight", "classifier.bias")


def test_model_file_as_weights_brings_its_metadata(tmp_path):
    metadata = DatasetMetadata("two", ("sky", "ground"))
    model = seg_models.enet(num_classes=2)
    path = tmp_path / "model.pt"
    seg_models.save_model(model, path, metadata=metadata, preprocessing=Preprocessing(scale=0.5))
    again = seg_models.enet(weights=path)
    assert same_output(model, again)
    assert again.model_info.metadata == metadata
    assert again.model_info.preprocessing.scale == 0.5
    assert seg_models.enet(weights=path, num_classes=3).model_info is None
    with pytest.raises(InvalidArgumentError, match="are of model 'enet' and do not fit 'fcn_resnet34'"):
        seg_models.fcn_resnet34(weights=path)


@pytest.mark.smoke
def test_model_saved_and_loaded_is_the_same(tmp_path):
    model = seg_models.fcn_resnet34(num_classes=2, aux_loss=True, output_stride=16, in_channels=3)
    metadata = DatasetMetadata("two", ("sky", "ground"))
    seg_models.save_model(model, tmp_path / "model.pt", metadata=metadata, preprocessing=Preprocessing())
    again = seg_models.load_model(tmp_path / "model.pt")
    assert not again.training
    assert again.build_spec == model.build_spec
    assert list(again(torch.zeros(1, 3, 32, 32))) == ["out", "aux"]
    assert same_output(model, again)


def test_file_of_another_network_is_refused_with_what_differs(voc_enet, tmp_path):
    state = voc_enet.state_dict()
    del state["initial.norm.weight"]
    state["extra.weight"] = torch.zeros(2)
    state["section5.act.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "other.pth")
    words = (
        r"other.pth is not of this network.*it lacks initial.norm.weight; it also holds extra.weight; "
        r"of another shape are section5.act.weight.* Choose the model"
    )
    with pytest.raises(CorruptFileError, match=words):
        seg_models.enet(weights=tmp_path / "other.pth", num_classes=21)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", b"not a checkpoint at all"])
def test_file_that_is_no_checkpoint_is_one_clear_error(content, tmp_path):
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"bad.pth cannot be read as a checkpoint: it is truncated"):
        seg_models.enet(weights=tmp_path / "bad.pth")


def test_file_truncated_is_one_clear_error(voc_enet, tmp_path):
    path = tmp_path / "cut.pth"
    torch.save(voc_enet.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CorruptFileError, match=r"cut.pth cannot be read as a checkpoint"):
        seg_models.enet(weights=path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(2)]])
def test_file_with_something_else_is_one_clear_error(content, tmp_path):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CorruptFileError, match=r"odd.pth holds .*, not tensors by name"):
        seg_models.enet(weights=tmp_path / "odd.pth")


class Ball:
    """Pickled, it would run code of its own when loaded."""

    def __reduce__(self):
        return print, ("code ran",)


def test_file_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"weight": Ball()}, tmp_path / "ball.pth")
    with pytest.raises(CorruptFileError, match="holds more than plain tensors"):
        seg_models.enet(weights=tmp_path / "ball.pth")
    assert "code ran" not in capsys.readouterr().out


def test_file_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(
        InvalidArgumentError, match=r"missing.pth' look like a file, but there is no such file; give the path"
    ):
        seg_models.enet(weights=str(tmp_path / "missing.pth"))


def test_auxiliary_heads_in_one_of_the_two_only_are_left_out_or_new(tmp_path, caplog):
    caplog.set_level("INFO")
    full = seg_models.fcn_resnet34(num_classes=2, aux_loss=True)
    torch.save(full.state_dict(), tmp_path / "full.pth")
    plain = seg_models.fcn_resnet34(weights=tmp_path / "full.pth")
    assert same_output(plain, full)
    assert "auxiliary heads dropped" in caplog.text
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    again = seg_models.fcn_resnet34(weights=tmp_path / "plain.pth", aux_loss=True)
    assert all(name.startswith("aux_classifier.") for name in again.randomly_initialized)
    assert len(again.randomly_initialized) == 8


def test_variant_unknown_suggests_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"model 'fcn_resnet50' has no variant 'torchvison'.*Did you mean 'torchvision'"
    ):
        seg_models.fcn_resnet50(variant="torchvison")
    with pytest.raises(UnknownNameError, match=r"model 'enet' has no variant 'torchvision'.*Known: paper"):
        seg_models.enet(variant="torchvision")


def test_variant_contradicted_by_an_option_is_refused():
    words = "output_stride=16 contradicts variant 'torchvision', which needs output_stride=8"
    with pytest.raises(InvalidArgumentError, match=words):
        seg_models.fcn_resnet34(variant="torchvision", output_stride=16)
    assert seg_models.fcn_resnet34(variant="torchvision", output_stride=8).build_spec.variant == "torchvision"
    assert seg_models.fcn_resnet34(output_stride=16).backbone.feature_info[-1].stride == 16


def test_variant_contradicted_by_the_weights_is_refused(tmp_path):
    model = seg_models.fcn_resnet34(num_classes=2, variant="torchvision")
    metadata = DatasetMetadata("two", ("sky", "ground"))
    seg_models.save_model(model, tmp_path / "model.pt", metadata=metadata, preprocessing=Preprocessing())
    with pytest.raises(InvalidArgumentError, match=r"variant='paper' contradicts the weights .*model.pt, which need v"):
        seg_models.fcn_resnet34(weights=tmp_path / "model.pt", variant="paper")
    assert seg_models.fcn_resnet34(weights=tmp_path / "model.pt").build_spec.variant == "torchvision"


def test_option_that_a_network_lacks_is_refused():
    with pytest.raises(InvalidArgumentError, match="model 'enet' has no auxiliary heads; remove aux_loss=True"):
        seg_models.enet(aux_loss=True)
    with pytest.raises(InvalidArgumentError, match="model 'enet' has no backbone; remove weights_backbone='DEFAULT'"):
        seg_models.enet(weights_backbone="DEFAULT")


def test_weights_and_weights_backbone_together_are_refused():
    with pytest.raises(
        InvalidArgumentError,
        match=r"weights='DEFAULT' already hold the backbone; remove weights_backbone='X', or weights",
    ):
        seg_models.fcn_resnet50(weights="DEFAULT", weights_backbone="X")


def test_weights_backbone_unknown_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown weights_backbone 'IMAGENET1K'"):
        seg_models.fcn_resnet34(weights_backbone="IMAGENET1K")


def test_catalog_weights_rows_are_complete():
    params = {}  # one network for all rows that need the same
    for name in seg_models.list_models():
        entry = registry.MODELS.entry(name)
        for member, row in entry.weights.items():
            weights = getattr(seg_models.get_model_weights(name), member)
            labels = resolve_metadata(row.label_set).labels
            assert weights.meta["categories"] == labels
            assert {"num_params", "macs", "metrics", "protocol", "source", "license", "data"} <= set(weights.meta)
            assert row.variant in entry.variants
            assert row.verified in ("sha256", "prefix", "first-use")
            assert (row.verified == "first-use") == (row.hash == "")
            built = (name, len(labels), row.variant, row.aux)
            if built not in params:
                with torch.device("meta"):
                    options = {"aux_loss": True} if row.aux else {}
                    model = seg_models.get_model(name, num_classes=len(labels), variant=row.variant, **options)
                params[built] = sum(p.numel() for p in model.parameters())
            assert params[built] == weights.meta["num_params"]
            batch = weights.transforms()(torch.zeros(3, 40, 60, dtype=torch.uint8))
            assert batch.shape[:2] == (1, 3)
        if entry.weights:
            assert entry.default_weights in entry.weights


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("fcn_resnet18", {"skips": 5}, "skips must be 0 to 4 on this backbone, got 5"),
        ("fcn_resnet18", {"skips": "8s"}, "skips must be 0 to 4 on this backbone, got '8s'"),
        ("deeplabv3_resnet18", {"atrous_rates": ()}, r"atrous_rates must be integers >= 1, got \(\)"),
        ("deeplabv3_resnet18", {"atrous_rates": (6, 0)}, r"atrous_rates must be integers >= 1, got \(6, 0\)"),
        ("deeplabv3plus_resnet18", {"output_stride": 4}, "output_stride must be 8, 16 or 32, got 4"),
    ],
)
def test_option_of_a_network_outside_of_what_is_allowed_is_refused(name, options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        seg_models.get_model(name, **options)


def test_signature_has_the_defaults_of_the_paper_on_the_builders_backbone():
    def defaults(builder):
        return {name: p.default for name, p in inspect.signature(builder).parameters.items()}

    assert defaults(seg_models.pspnet_resnet50)["output_stride"] == 8
    vgg, resnet = defaults(seg_models.fcn_vgg16), defaults(seg_models.fcn_resnet18)
    assert (vgg["output_stride"], vgg["skips"]) == (32, 2)
    assert (resnet["output_stride"], resnet["skips"]) == (8, 0)
    assert defaults(seg_models.segformer_b0)["width"] == 256
    assert defaults(seg_models.segformer_b5)["width"] == 768
    assert "skips: number of finer features" in seg_models.fcn_vgg16.__doc__


@pytest.mark.parametrize("name", [n for n in seg_models.list_models() if "101" not in n])
def test_signature_says_what_is_built(name):
    """The defaults that a builder shows are those of the network that it builds."""
    signature = inspect.signature(seg_models.get_model_builder(name))
    with torch.device("meta"):
        arguments = seg_models.get_model(name).build_spec.arguments
    for option, value in arguments.items():
        shown = signature.parameters[option].default
        assert value == shown or (option in ("num_classes", "aux_loss", "atrous_rates") and shown is None)


def test_builder_refuses_an_option_that_it_does_not_have():
    with pytest.raises(TypeError, match="unexpected keyword argument 'output_strid'"):
        seg_models.fcn_resnet18(output_strid=8)


def test_option_that_is_none_is_as_if_it_were_left_out():
    with torch.device("meta"):
        model = seg_models.deeplabv3_resnet18(variant="torchvision", output_stride=None, atrous_rates=[12, 24, 36])
    assert model.build_spec.arguments["output_stride"] == 8
    assert model.build_spec.arguments["atrous_rates"] == (12, 24, 36)


def test_skips_are_the_paper_s_strides():
    with torch.device("meta"):
        for skips, stride in ((0, 32), (1, 16), (2, 8)):
            logits = seg_models.fcn_vgg16(skips=skips).eval().forward_logits(torch.zeros(1, 3, 64, 96))
            assert logits["out"].shape == (1, 21, 64 // stride, 96 // stride)
