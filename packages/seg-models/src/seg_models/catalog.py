"""The contents of this package as data: models with their facts and weights, backbones, predictors, commands.

This module does not import torch, so listing names is instant. Everything that lists models (`list_models`, the weights
enums, the public names of the package, `seg models`, torch.hub) is derived from these tables.
"""

from dataclasses import replace
from typing import Any

from seg_core.catalog import Entry, ModelEntry
from seg_models.published import WEIGHTS

__all__ = ["BACKBONES", "COMMANDS", "EXPORT_SUFFIXES", "LOADERS", "MODELS", "PREDICTORS"]

_TITLES = {
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "vgg16": "VGG-16",
    "vgg16_bn": "VGG-16 with batch norm",
    "mobilenet_v3_large": "MobileNetV3 large",
    "mobilenet_v3_small": "MobileNetV3 small",
    "efficientnet_b0": "EfficientNet-B0",
    "efficientnet_b1": "EfficientNet-B1",
    "efficientnet_b2": "EfficientNet-B2",
    "efficientnet_b3": "EfficientNet-B3",
    "efficientnet_b4": "EfficientNet-B4",
    "xception": "Xception",
    "xception65": "aligned Xception-65",
    "mit_b0": "MiT-B0",
    "mit_b1": "MiT-B1",
    "mit_b2": "MiT-B2",
    "mit_b3": "MiT-B3",
    "mit_b4": "MiT-B4",
    "mit_b5": "MiT-B5",
}

BACKBONES: dict[str, Entry] = {
    name: Entry(f"seg_models.backbones.{module}:{name}", title)
    for name, title in _TITLES.items()
    for module in ("resnet", "vgg", "mobilenet_v3", "efficientnet", "xception", "mit")
    if name.startswith(module)
}


def _network(
    name: str, family: str, what: str, on: dict[str, tuple[int, int] | dict[str, Any]], **common: Any
) -> dict[str, ModelEntry]:
    """Returns the entries of a network: one for any backbone, and one for each backbone that has its own builder.

    Args:
        name: name of the builder for any backbone, and of its module.
        family: name in the paper.
        what: short description of the network.
        on: backbone -> parameters and multiply-accumulates, or all fields that only this entry has.
        common: fields of all entries.
    """
    module = f"seg_models.networks.{name}"
    rows = {name: ModelEntry(f"{module}:{name}", f"{what} on any backbone", family, any_backbone=True, **common)}
    for backbone, facts in on.items():
        known = dict(zip(("params", "macs"), facts, strict=True)) if isinstance(facts, tuple) else facts
        builder = f"{name}_{backbone}"
        fields = {"backbone": backbone, **common, **known}
        summary = f"{what} on {_TITLES[fields['backbone']]}"
        rows[builder] = ModelEntry(f"{module}:{builder}", summary, family, **fields)
    return rows


# of networks on a ResNet; files trained on crops of 769x769 have their own variant
_MMSEGMENTATION = ("mmsegmentation", "mmsegmentation_769")

MODELS: dict[str, ModelEntry] = {
    "enet": ModelEntry(
        "seg_models.networks.enet:enet",
        "small and fast; trains from scratch on a CPU",
        family="ENet",
        params=366_148,
        macs=4_159_045_632,
        variants=("paper", "pixseg"),
    ),
    **_network(
        "fcn",
        "FCN",
        "fully convolutional head",
        {
            "resnet18": {
                "params": 11_769_301,
                "macs": 101_113_135_104,
                "variants": ("paper", "torchvision", *_MMSEGMENTATION),
            },
            "resnet34": (21_877_461, 185_670_303_744),
            "resnet50": {
                "params": 32_957_013,
                "macs": 276_735_983_616,
                "variants": ("paper", "torchvision", *_MMSEGMENTATION),
            },
            "resnet101": {
                "params": 51_949_141,
                "macs": 431_891_677_184,
                "variants": ("paper", "torchvision", *_MMSEGMENTATION),
            },
            "vgg16": {"params": 134_362_751, "macs": 221_670_014_976, "min_size": 32, "variants": ("paper", "pixseg")},
        },
        outputs=("out", "aux"),
        variants=("paper", "torchvision", "pixseg"),
    ),
    **_network(
        "deeplabv3",
        "DeepLabV3",
        "atrous spatial pyramid pooling",
        {
            "resnet18": {
                "params": 15_313_749,
                "macs": 129_052_573_696,
                "variants": ("paper", "torchvision", "pixseg", *_MMSEGMENTATION),
            },
            "resnet50": {
                "params": 39_048_533,
                "macs": 322_326_495_232,
                "variants": ("paper", "torchvision", *_MMSEGMENTATION),
            },
            "resnet101": {
                "params": 58_040_661,
                "macs": 477_482_188_800,
                "variants": ("paper", "torchvision", *_MMSEGMENTATION),
            },
            "mobilenet_v3_large": (10_435_141, 18_442_223_488),
        },
        outputs=("out", "aux"),
        variants=("paper", "torchvision"),
    ),
    **_network(
        "deeplabv3plus",
        "DeepLabV3+",
        "atrous spatial pyramid pooling and a decoder",
        {
            "resnet18": {"params": 16_608_181, "macs": 82_577_588_224, "variants": ("paper", *_MMSEGMENTATION)},
            "resnet50": {"params": 40_352_181, "macs": 138_446_110_720, "variants": ("paper", *_MMSEGMENTATION)},
            "resnet101": {"params": 59_344_309, "macs": 177_235_034_112, "variants": ("paper", *_MMSEGMENTATION)},
            "mobilenet_v3_large": (4_720_373, 11_481_382_784),
            "xception": {"backbone": "xception65", "params": 41_055_413, "macs": 102_568_116_224},
        },
        outputs=("out", "aux"),
    ),
    **_network(
        "lraspp",
        "LRASPP",
        "gated lite head",
        {
            "mobilenet_v3_large": {
                "params": 3_221_538,
                "macs": 3_947_700_096,
                "variants": ("paper", "torchvision", "mmsegmentation"),
            },
            "mobilenet_v3_small": {
                "params": 1_077_954,
                "macs": 1_268_932_608,
                "variants": ("paper", "torchvision", "mmsegmentation"),
            },
            "resnet18": {
                "params": 11_313_258,
                "macs": 32_013_090_816,
                "variants": ("paper", "torchvision", "pixseg"),
            },
        },
        variants=("paper", "torchvision"),
    ),
    **_network(
        "pspnet",
        "PSPNet",
        "pyramid pooling",
        {
            "resnet18": {
                "params": 12_622_293,
                "macs": 105_948_250_112,
                "variants": ("paper", *_MMSEGMENTATION, "mmsegmentation_plain", "mmsegmentation_plain_769"),
            },
            "resnet50": {
                "params": 46_592_597,
                "macs": 354_097_823_744,
                "variants": ("paper", "pixseg", "pixseg_20250222", "pixseg_20250304", *_MMSEGMENTATION),
            },
            "resnet101": {"params": 65_584_725, "macs": 509_253_517_312, "variants": ("paper", *_MMSEGMENTATION)},
        },
        outputs=("out", "aux"),
    ),
    **_network(
        "upernet",
        "UPerNet",
        "feature pyramid with pyramid pooling",
        {
            "resnet18": {
                "params": 40_789_077,
                "macs": 437_940_387_840,
                "variants": ("paper", "pixseg", "mmsegmentation"),
            },
            "resnet50": {"params": 64_032_341, "macs": 470_997_270_528, "variants": ("paper", *_MMSEGMENTATION)},
            "resnet101": {
                "params": 83_024_469,
                "macs": 509_786_193_920,
                "variants": ("paper", "pixseg", *_MMSEGMENTATION),
            },
        },
        outputs=("out", "aux"),
    ),
    **_network(
        "bisenet",
        "BiSeNet",
        "spatial path and context path",
        {
            "resnet18": {
                "params": 12_894_293,
                "macs": 25_932_038_144,
                "variants": ("paper", "pixseg", "pixseg_20250304", "mmsegmentation"),
            },
            "resnet50": {
                "params": 28_076_629,
                "macs": 52_406_681_600,
                "variants": ("paper", "pixseg", "mmsegmentation"),
            },
            "xception": {"params": 25_034_557, "macs": 56_992_923_648, "variants": ("paper", "pixseg")},
        },
        outputs=("out", "aux", "aux_16x"),
    ),
    **_network(
        "sfnet",
        "SFNet",
        "feature pyramid aligned by semantic flow",
        {
            "resnet18": {"params": 12_721_493, "macs": 45_786_726_400, "variants": ("paper", "pixseg")},
            "resnet50": (31_201_877, 151_705_878_528),
            "resnet101": {"params": 50_194_005, "macs": 190_494_801_920, "variants": ("paper", "pixseg")},
        },
        outputs=("out", "aux", "aux_8x", "aux_16x"),
    ),
    **_network(
        "sfnet_lite",
        "SFNet-Lite",
        "two levels aligned by gated semantic flow",
        {
            "resnet18": {
                "params": 11_931_641,
                "macs": 29_532_356_608,
                "variants": ("paper", "pixseg", "pixseg_fam_pooling"),
            },
            "resnet50": (27_983_737, 86_044_180_480),
            "resnet101": {"params": 46_975_865, "macs": 124_833_103_872, "variants": ("paper", "pixseg")},
        },
        outputs=("out", "aux"),
    ),
    "fast_scnn": ModelEntry(
        "seg_models.networks.fast_scnn:fast_scnn",
        "two branches that share their first layers; very small",
        family="Fast-SCNN",
        params=1_138_053,
        macs=1_679_663_104,
        outputs=("out", "aux", "aux_32x"),
        variants=("paper", "mmsegmentation"),
    ),
    "bisenetv2": ModelEntry(
        "seg_models.networks.bisenetv2:bisenetv2",
        "detail branch and semantic branch, without a backbone",
        family="BiSeNetV2",
        params=3_360_933,
        macs=24_620_089_344,
        outputs=("out", "aux", "aux_8x", "aux_16x", "aux_32x"),
    ),
    "stdc1": ModelEntry(
        "seg_models.networks.stdc:stdc1",
        "one path that learns boundaries, on its smaller backbone",
        family="STDC",
        params=8_275_616,
        macs=16_867_328_000,
        outputs=("out", "aux", "aux_16x", "boundary"),
        variants=("paper", "mmsegmentation"),
    ),
    "stdc2": ModelEntry(
        "seg_models.networks.stdc:stdc2",
        "one path that learns boundaries, on its larger backbone",
        family="STDC",
        params=12_306_080,
        macs=23_460_773_888,
        outputs=("out", "aux", "aux_16x", "boundary"),
        variants=("paper", "mmsegmentation"),
    ),
    "ddrnet23_slim": ModelEntry(
        "seg_models.networks.ddrnet:ddrnet23_slim",
        "two branches that exchange features; small",
        family="DDRNet",
        params=5_696_053,
        macs=9_071_427_584,
        outputs=("out", "aux"),
    ),
    "pidnet_s": ModelEntry(
        "seg_models.networks.pidnet:pidnet_s",
        "three branches: detail, context, boundaries; the smallest",
        family="PIDNet",
        params=7_625_909,
        macs=11_800_690_688,
        outputs=("out", "aux", "boundary"),
    ),
    "pidnet_m": ModelEntry(
        "seg_models.networks.pidnet:pidnet_m",
        "three branches: detail, context, boundaries; twice as wide",
        family="PIDNet",
        params=28_538_645,
        macs=44_334_350_336,
        outputs=("out", "aux", "boundary"),
    ),
    "pidnet_l": ModelEntry(
        "seg_models.networks.pidnet:pidnet_l",
        "three branches: detail, context, boundaries; wide and deeper",
        family="PIDNet",
        params=36_939_957,
        macs=68_737_646_592,
        outputs=("out", "aux", "boundary"),
    ),
    **_network(
        "segformer",
        "SegFormer",
        "linear decoder",
        {
            "b0": {"backbone": "mit_b0", "params": 3_719_541, "macs": 17_773_887_488},
            "b1": {"backbone": "mit_b1", "params": 13_682_645, "macs": 34_834_743_296},
            "b2": {"backbone": "mit_b2", "params": 27_362_773, "macs": 129_213_923_328},
            "b3": {"backbone": "mit_b3", "params": 47_238_613, "macs": 166_490_800_128},
            "b4": {"backbone": "mit_b4", "params": 64_009_173, "macs": 204_867_108_864},
            "b5": {"backbone": "mit_b5", "params": 84_609_493, "macs": 240_041_066_496},
        },
        variants=("paper", "mmsegmentation"),
        min_size=29,
    ),
    **_network(
        "unet",
        "U-Net",
        "decoder with skips to the image's size",
        {"resnet34": (24_439_269, 64_021_856_256), "efficientnet_b0": (5_837_601, 24_564_158_976)},
    ),
    **_network(
        "fpn",
        "FPN",
        "feature pyramid, summed",
        {"resnet34": (23_157_973, 54_924_410_880), "efficientnet_b0": (5_349_905, 19_828_789_760)},
    ),
    "regseg": ModelEntry(
        "seg_models.networks.regseg:regseg",
        "residual blocks of two dilations, without a backbone",
        family="RegSeg",
        params=3_335_081,
        macs=9_592_844_032,
    ),
}

for _model, (_enum, _members, _default) in WEIGHTS.items():
    MODELS[_model] = replace(MODELS[_model], weights_enum=_enum, weights=_members, default_weights=_default)

PREDICTORS: dict[str, Entry] = {
    "augmented": Entry("seg_models.inference.augmented:predict_tta", "mean over scaled and flipped copies (TTA)"),
    "labels": Entry("seg_models.inference.whole:predict_labels", "labels only, without logits at full size"),
    "tiled": Entry("seg_models.inference.tiled:predict_tiled", "overlapping tiles (sliding window), for large images"),
    "whole": Entry("seg_models.inference.whole:predict_whole", "each image in one pass"),
}

EXPORT_SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "openvino": ".xml"}
"""Format of exported files -> their suffix."""

LOADERS: dict[str, Entry] = {
    ".onnx": Entry("seg_models.exporting.load:load_exported_network", "ONNX, run by ONNX Runtime"),
    ".pt2": Entry("seg_models.exporting.load:load_exported_network", "a program of torch.export, run by torch"),
    ".xml": Entry("seg_models.exporting.load:load_exported_network", "run by OpenVINO, with the .bin beside it"),
}

COMMANDS: dict[str, Entry] = {
    "benchmark": Entry(
        "seg_models.commands.benchmark:BENCHMARK",
        "measure latency, throughput and memory of networks, and compare them",
    ),
    "export": Entry("seg_models.commands.export:EXPORT", "export a model to ONNX, torch.export or OpenVINO, verified"),
    "models": Entry("seg_models.commands.models:MODELS_COMMAND", "list the models, show one and its weights"),
    "predict": Entry("seg_models.commands.predict.command:PREDICT", "predict label maps of images and videos"),
}
