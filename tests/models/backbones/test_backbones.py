"""What every backbone promises, and how each agrees with its source."""

import sys
import weakref

import pytest
import torch
import torchvision

from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_models import get_backbone, list_backbones
from seg_models.backbones.base import with_in_channels
from seg_models.catalog import BACKBONES

# of the same code as a smaller one, with more layers or channels
LARGER = {*(f"efficientnet_b{n}" for n in range(1, 8)), *(f"mit_b{n}" for n in range(1, 6)), "resnet34", "resnet101"}


def sized(name, *values):
    """The parameters of a test of one backbone; the larger ones are tested by `hatch run models`."""
    return pytest.param(name, *values, marks=[pytest.mark.full] if name in LARGER else [])


every_backbone = pytest.mark.parametrize("name", [sized(name) for name in sorted(BACKBONES)])
dilated_backbone = pytest.mark.parametrize(
    "name", [sized(name) for name in sorted(BACKBONES) if not name.startswith("mit")]
)
PUBLISHED = sorted(name for name in BACKBONES if not name.startswith(("xception", "mit")))


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [sized(name, s) for name in sorted(BACKBONES) for s in (8, 16, 32) if s == 32 or not name.startswith("mit")],
)
def test_features_are_those_of_feature_info_from_fine_to_coarse(name, output_stride):
    with torch.device("meta"):
        backbone = get_backbone(name, output_stride=output_stride)
        features = backbone(torch.zeros(1, 3, 64, 96))
    strides = (4, 8, 16, 32) if name.startswith("mit") else (2, 4, 8, 16, 32)
    assert [info.stride for info in backbone.feature_info] == [min(s, output_stride) for s in strides]
    assert [info.name for info in backbone.feature_info] == list(features)
    for info, feature in zip(backbone.feature_info, features.values(), strict=True):
        assert feature.shape == (1, info.channels, 64 // info.stride, 96 // info.stride)


@every_backbone
def test_select_leaves_the_features_named_alone(name):
    torch.manual_seed(0)
    with torch.device("meta"):
        backbone = get_backbone(name)
        whole = backbone(torch.zeros(1, 3, 64, 64))
        chosen = list(whole)[::2]
        backbone.select(reversed(chosen))
        features = backbone(torch.zeros(1, 3, 64, 64))
    assert list(features) == chosen == [info.name for info in backbone.feature_info]
    assert all(features[key].shape == whole[key].shape for key in chosen)
    with pytest.raises(InvalidArgumentError, match="the backbone has no feature 'stage0'.* Known: "):
        backbone.select(["stage0"])


def test_select_holds_no_other_feature_in_memory():
    backbone = get_backbone("resnet18").eval()
    seen = []
    backbone.layer1.register_forward_hook(lambda module, inputs, output: seen.append(weakref.ref(output)))
    backbone.select(["layer3"])
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, 64, 64))
    assert list(features) == ["layer3"]
    assert seen[0]() is None


@dilated_backbone
def test_dilation_keeps_the_parameters(name):
    with torch.device("meta"):
        states = [get_backbone(name, output_stride=s).state_dict() for s in (32, 8)]
    assert [(k, v.shape) for k, v in states[0].items()] == [(k, v.shape) for k, v in states[1].items()]


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "efficientnet_b0", "vgg16", "xception", "xception65", "resnet18"]
)
def test_dilation_begins_where_the_stride_ends(name):
    torch.manual_seed(0)
    plain = get_backbone(name).eval()
    dilated = get_backbone(name, output_stride=16).eval()
    dilated.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        *_, before, coarse = plain(images).values()
        *_, same, fine = dilated(images).values()
    assert torch.equal(before, same)
    assert fine.shape[-1] == 2 * coarse.shape[-1]


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_of_torchvision_fit_and_are_loaded(name, monkeypatch):
    enum = torchvision.models.get_model_weights(name)
    with torch.device("meta"):
        shapes = torchvision.models.get_model(name).state_dict()
    generator = torch.Generator().manual_seed(0)
    # the hidden layers of VGG's classifier are large and not part of the backbone
    state = {
        k: torch.zeros(()).expand(v.shape)
        if "classifier" in k
        else torch.rand(v.shape, generator=generator).to(v.dtype)
        for k, v in shapes.items()
    }
    monkeypatch.setattr(enum, "get_state_dict", lambda self, **options: state)
    monkeypatch.setattr("seg_models.backbones.base.fetch", lambda *args, **options: None)  # as if it were there
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda tensor, *a, **k: tensor)
    backbone = get_backbone(name, weights="DEFAULT", progress=False)
    prefix = "" if name.startswith("resnet") else "features."
    for key, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, state[prefix + key])


def test_weights_are_those_of_torchvisions_own_features(monkeypatch):
    theirs = torchvision.models.mobilenet_v3_small().eval()
    enum = torchvision.models.MobileNet_V3_Small_Weights
    monkeypatch.setattr(enum, "get_state_dict", lambda self, **options: theirs.state_dict())
    monkeypatch.setattr("seg_models.backbones.base.fetch", lambda *args, **options: None)  # as if it were there
    backbone = get_backbone("mobilenet_v3_small", weights=enum.IMAGENET1K_V1).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(list(backbone(images).values())[-1], theirs.features(images))


def test_weights_of_vgg_fill_the_hidden_layers_as_convolutions(monkeypatch):
    with torch.device("meta"):
        shapes = torchvision.models.vgg16().state_dict()
    state = {k: torch.zeros(()).expand(v.shape) for k, v in shapes.items()}
    state["classifier.0.weight"] = torch.arange(25088.0).expand(4096, 25088)
    enum = torchvision.models.VGG16_Weights
    monkeypatch.setattr(enum, "get_state_dict", lambda self, **options: state)
    monkeypatch.setattr("seg_models.backbones.base.fetch", lambda *args, **options: None)  # as if it were there
    backbone = get_backbone("vgg16", weights="IMAGENET1K_V1", fully_convolutional=True)
    kernel = backbone[31].weight
    assert kernel.shape == (4096, 512, 7, 7)
    # the classifier sees channels of 7x7 features, one after the other
    assert kernel[5, 3, 2, 6] == 3 * 49 + 2 * 7 + 6
    assert not backbone[34].bias.any()
    # those of the features alone have NaN there
    state["classifier.0.weight"] = torch.full((), torch.nan).expand(4096, 25088)
    backbone = get_backbone("vgg16", weights="IMAGENET1K_FEATURES", fully_convolutional=True)
    assert backbone[31].weight.isfinite().all()
    assert backbone.feature_info[-1].channels == 4096


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "vgg16"])
@pytest.mark.parametrize("in_channels", [1, 2, 4, 6])
def test_other_channels_keep_the_weights_by_the_inflation_rule(name, in_channels, monkeypatch):
    if name == "vgg16":
        with torch.device("meta"):
            shapes = torchvision.models.vgg16().state_dict()
        state = {k: torch.rand(v.shape) if "features" in k else torch.zeros(()) for k, v in shapes.items()}
    else:
        state = torchvision.models.get_model(name).state_dict()
    enum = torchvision.models.get_model_weights(name)
    monkeypatch.setattr(enum, "get_state_dict", lambda self, **options: state)
    monkeypatch.setattr("seg_models.backbones.base.fetch", lambda *args, **options: None)  # as if it were there
    backbone = get_backbone(name, weights="DEFAULT", in_channels=in_channels)
    key, kernel = next(iter(backbone.state_dict().items()))
    theirs = next(iter(state.values()))
    assert kernel.shape[1] == in_channels
    if in_channels == 1:
        torch.testing.assert_close(kernel[:, 0], theirs.sum(1))
    else:
        for channel in range(in_channels):
            torch.testing.assert_close(kernel[:, channel], theirs[:, channel % 3] * 3 / in_channels)
    rest = {k: v for k, v in backbone.state_dict().items() if k != key}
    prefix = "" if name == "resnet18" else "features."
    assert all(torch.equal(tensor, state[prefix + k]) for k, tensor in rest.items())


def test_inflation_keeps_the_response_to_gray_images():
    convolution = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)
    gray = torch.randn(1, 1, 8, 8)
    for in_channels in (1, 3, 6, 9):
        other = with_in_channels(convolution, in_channels, keep=True)
        torch.testing.assert_close(
            other(gray.expand(-1, in_channels, -1, -1)), convolution(gray.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("in_channels", [3, 1])
def test_xception_takes_the_published_weights_under_their_names(in_channels, monkeypatch, tmp_path, expected, fidelity):
    tensors = fidelity.tensors_of(expected("fidelity/pixseg/xception.json"))
    path = tmp_path / "xception_imagenet.pth"
    torch.save(tensors, path)
    monkeypatch.setattr("seg_models.backbones.xception.fetch", lambda url, progress: path)
    backbone = get_backbone("xception", weights="IMAGENET1K_PIXSEG", in_channels=in_channels)
    first = tensors["entry_flow.0.weight"]
    assert torch.equal(backbone.stem[0][0].weight, first if in_channels == 3 else first.sum(1, keepdim=True))
    assert torch.equal(backbone.exit[5].weight, tensors["exit_flow.5.weight"])
    with pytest.raises(
        UnknownNameError, match="unknown weights_backbone 'IMAGENET' of xception. Known: IMAGENET1K_PIXS"
    ):
        get_backbone("xception", weights="IMAGENET")


@pytest.mark.parametrize("name", ["xception65"])
def test_xception65_has_no_weights_and_says_where_there_are(name):
    with pytest.raises(UnknownNameError, match=f"torchvision publishes none for {name}; .*timm:legacy_xception"):
        get_backbone(name, weights="DEFAULT")


def test_stages_of_a_transformer_cannot_be_dilated():
    with pytest.raises(InvalidArgumentError, match="output_stride must be 32 for mit_b0, .* got 8; choose another"):
        get_backbone("mit_b0", output_stride=8)


@pytest.mark.parametrize("value", [1.0, -0.1, True, "half"])
def test_stochastic_depth_is_a_probability(value):
    with pytest.raises(InvalidArgumentError, match=f"stochastic_depth must be a number >= 0 and < 1, got {value!r}"):
        get_backbone("mit_b0", stochastic_depth=value)


def test_stochastic_depth_grows_with_depth_and_leaves_eval_mode_alone():
    torch.manual_seed(0)
    backbone = get_backbone("mit_b0", stochastic_depth=0.7)
    drops = [module.p for module in backbone.modules() if isinstance(module, torchvision.ops.StochasticDepth)]
    assert drops == pytest.approx([0.7 * position / 7 for position in range(8)])
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        first, second = (backbone(images)["stage4"] for _ in range(2))
        assert not torch.equal(first, second)
        assert torch.equal(*(backbone.eval()(images)["stage4"] for _ in range(2)))


@every_backbone
@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("output_stride", 4, "output_stride must be 8, 16 or 32, got 4"),
        ("in_channels", 0, "in_channels must be an integer >= 1, got 0"),
        ("in_channels", True, "in_channels must be an integer >= 1, got True"),
    ],
)
def test_argument_outside_of_what_is_allowed_is_refused(name, option, value, words):
    with pytest.raises(InvalidArgumentError, match=words):
        get_backbone(name, **{option: value})


def test_mobilenet_at_output_stride_16_is_torchvisions_dilated():
    for name in ("mobilenet_v3_large", "mobilenet_v3_small"):
        theirs = torchvision.models.get_model(name, dilated=True).features
        ours = get_backbone(name, output_stride=16)
        convolutions = [[m for m in net.modules() if isinstance(m, torch.nn.Conv2d)] for net in (theirs, ours)]
        for a, b in zip(*convolutions, strict=True):
            assert (a.stride, a.dilation, a.padding) == (b.stride, b.dilation, b.padding)


def test_mobilenet_reduced_tail_halves_the_last_stage_and_has_no_weights():
    with torch.device("meta"):
        whole, reduced = (get_backbone("mobilenet_v3_large", reduced_tail=r).feature_info for r in (False, True))
    assert [(a.channels, b.channels) for a, b in zip(whole, reduced, strict=True)][3:] == [(80, 80), (960, 480)]
    with pytest.raises(InvalidArgumentError, match="remove reduced_tail, or weights_backbone"):
        get_backbone("mobilenet_v3_large", reduced_tail=True, weights="DEFAULT")


@pytest.mark.parametrize("output_stride", [32, 16])
def test_xception65_equals_timms(output_stride):
    timm = pytest.importorskip("timm")
    ours = get_backbone("xception65", output_stride=output_stride).eval()
    theirs = timm.create_model("xception65", num_classes=0, global_pool="", output_stride=output_stride).eval()
    own, state = ours.state_dict(), theirs.state_dict()
    for key, other in zip(sorted(own, key=in_block_order), sorted(state, key=in_block_order), strict=True):
        shape = own[key].shape
        assert state[other].shape == shape
        if state[other].is_floating_point():
            # of both signs, so that each ReLU shows
            scale = shape[1:].numel() ** -0.5
            state[other] = torch.rand(shape) + 0.5 if len(shape) == 1 else torch.randn(shape) * scale
            own[key].copy_(state[other])
    theirs.load_state_dict(state)
    images = torch.randn(1, 3, 97, 65)
    with torch.inference_mode():
        *_, found = ours.double()(images.double()).values()
        expected = theirs.double()(images.double())
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected)


def in_block_order(key):
    """Where a tensor stands: stem, then block by block, the shortcut of a block last; else the order stays."""
    part, *rest = key.split(".")
    first = {"stem": -1, "entry": 0, "middle": 3, "exit": 19, "blocks": 0}[part]
    return (first, 0, False) if part == "stem" else (first + int(rest[0]), 1, "shortcut" in key)


@pytest.mark.parametrize(
    ("name", "channels", "strides"),
    [
        ("convnext_atto", (40, 80, 160, 320), (4, 8, 16, 32)),
        ("mobilenetv3_small_050", None, (2, 4, 8, 16, 32)),
        ("swin_tiny_patch4_window7_224", (96, 192, 384, 768), (4, 8, 16, 32)),
    ],
)
def test_timm_backbone_gives_its_features_channels_first(name, channels, strides):
    pytest.importorskip("timm")
    backbone = get_backbone(f"timm:{name}", in_channels=5).eval()
    with torch.inference_mode():
        features = backbone(torch.randn(1, 5, 224, 224))
    assert tuple(info.stride for info in backbone.feature_info) == strides
    backbone.select(["stage2"])
    with torch.inference_mode():
        assert list(backbone(torch.randn(1, 5, 224, 224))) == ["stage2"]
    backbone = get_backbone(f"timm:{name}")
    if channels is not None:
        assert tuple(info.channels for info in backbone.feature_info) == channels
    for info in backbone.feature_info:
        side = 224 // info.stride
        assert features[info.name].shape == (1, info.channels, side, side)


def test_timm_backbone_dilates_where_timm_can_and_says_where_not():
    pytest.importorskip("timm")
    with torch.device("meta"):
        assert get_backbone("timm:convnext_atto", output_stride=8).feature_info[-1].stride == 8
    with pytest.raises(
        InvalidArgumentError, match=r"timm's 'swin_tiny.* has no option output_stride, .* such as 'timm:resnet50' or"
    ):
        get_backbone("timm:swin_tiny_patch4_window7_224", output_stride=8)


def test_timm_wrong_names_suggest_the_nearest(monkeypatch):
    pytest.importorskip("timm")
    with pytest.raises(UnknownNameError, match=r"unknown backbone 'timm:convnext_tyny'.*'convnext_tiny'"):
        get_backbone("timm:convnext_tyny")
    for prefix in ("timm/", "hf-hub:timm/"):
        with pytest.raises(UnknownNameError, match=r"Use 'timm:resnet18.a1_in1k', the name without the prefix"):
            get_backbone(f"timm:{prefix}resnet18.a1_in1k")
    with pytest.raises(UnknownNameError, match=r"unknown weights_backbone 'in22' of timm's 'convnext_tiny'.*DEFAULT, "):
        get_backbone("timm:convnext_tiny", weights="in22")


@pytest.mark.parametrize(("weights", "tag"), [("DEFAULT", "in12k_ft_in1k"), ("fb_in22k", "fb_in22k")])
def test_timm_weights_are_named_by_their_tag(weights, tag, monkeypatch):
    timm = pytest.importorskip("timm")
    asked = {}
    real = timm.create_model

    def create(name, pretrained, **options):
        if pretrained:
            asked[name] = pretrained
        return real(name.partition(".")[0], pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create)
    with torch.device("meta"):
        get_backbone("timm:convnext_tiny", weights=weights)
    assert asked == {f"convnext_tiny.{tag}": True}


def test_timm_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InvalidArgumentError, match=r"'timm:convnext_tiny' needs timm.*pip install seg-models\[timm\]"):
        get_backbone("timm:convnext_tiny")


def test_every_backbone_is_listed():
    assert set(BACKBONES) <= set(list_backbones())
