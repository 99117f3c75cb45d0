"""Key rules of pixseg 0.8.2 and of older versions. https://github.com/CyrusCKF/PixSeg

Variant "pixseg" is also that of the files enet-...-20250304 and bisenet_resnet18-...-20250305: the same networks.
"""

from seg_models.pretrained.key_table import KeyTable

__all__ = ["TABLES", "XCEPTION"]

# inside Xception's blocks
_XCEPTION_BLOCKS = [
    (r"\.residual_branch\.", ".shortcut."),
    # pixseg's first block begins with one more ReLU, after that of the stem
    *((rf"\bentry\.0\.main_branch\.{n}\.", f"entry.0.main.{n - 1}.") for n in range(1, 6)),
    (r"\.main_branch\.", ".main."),
]
_XCEPTION_STAGES = [
    (r"^backbone\.layer1\.([01])\.", r"backbone.stem.0.\1."),
    (r"^backbone\.layer1\.3\.", "backbone.stem.1.0."),
    (r"^backbone\.layer1\.4\.", "backbone.stem.1.1."),
    (r"^backbone\.layer2\.", "backbone.entry.0."),
    (r"^backbone\.layer3\.", "backbone.entry.1."),
    (r"^backbone\.layer4\.0\.", "backbone.entry.2."),
    *((rf"^backbone\.layer4\.{n}\.", f"backbone.middle.{n - 1}.") for n in range(1, 9)),
    (r"^backbone\.layer5\.", "backbone.exit."),
]
_PATHS = [
    (r"^backbone\.", "context_path.backbone."),
    (r"^context_path_stage\.arm_(16|32)x\.attention\.1\.", r"context_path.refine\1.attention.1.0."),
    (r"^context_path_stage\.arm_(16|32)x\.attention\.2\.", r"context_path.refine\1.attention.1.1."),
    (r"^context_path_stage\.arm_(16|32)x\.conv\.", r"context_path.refine\1.conv."),
    (r"^context_path_stage\.conv_(16|32)x\.", r"context_path.conv\1."),
    (r"^context_path_stage\.conv_global\.", "context_path.global_context.1."),
    (r"^ffm\.", "fusion."),
]
_SHUFFLED_HEADS = [
    (r"^head\.", "classifier."),
    (r"^aux_heads\.16x\.", "aux_classifier."),
    (r"^aux_heads\.32x\.", "aux_classifier_16x."),
    (r"^((?:aux_)?classifier(?:_16x)?)\.1\.0\.", r"\1.1."),
]

_BISENET_20250304 = [
    *((rf"^spatial_path\.{n}\.(?=[a-z])", f"spatial_path.{n // 3}.{n % 3}.") for n in range(11)),
    (r"^head\.", "classifier."),
    (r"^aux_head\.", "aux_classifier_16x."),
]
_ENET = [
    (r"^initial\.norm_act\.0\.", "initial.norm."),
    (r"^initial\.norm_act\.1\.", "initial.act."),
    (r"^section(\d)_(down|up)\.", r"\2\1."),
    (r"^section(\d)_convs\.", r"section\1."),
    (r"\.final_act\.", ".act."),
    (r"^(up\d)\.conv_before_unpool\.", r"\1.main."),
    *((rf"^(up\d)\.main_modules\.{n}\.", rf"\1.reduction.{n}.") for n in range(3)),
    (r"^(up\d)\.main_modules\.3\.", r"\1.doubling."),
    *((rf"^(up\d)\.main_modules\.{n}\.", rf"\1.extension.{n - 4}.") for n in (4, 5)),
    (r"^(up\d)\.main_modules\.6\.", r"\1.extension.2.0."),
    *((rf"\.main_modules\.{n}\.", f".extension.{n // 3}.{n % 3}.") for n in range(10)),
    (r"^head\.", "classifier."),
]
# pixseg has pooling, convolution, norm, ReLU; our network has no module for the pooling
NECK = [
    (r"^neck\.poolings\.(\d)\.1\.", r"pyramid.pyramid.\1.0."),
    (r"^neck\.poolings\.(\d)\.2\.", r"pyramid.pyramid.\1.1."),
    (r"^neck\.bottleneck\.", r"pyramid.reduce."),
]
_WIDE = [
    (r"^classifier\.poolings\.(\d)\.1\.", r"pyramid.\1.0."),
    (r"^classifier\.poolings\.(\d)\.2\.", r"pyramid.\1.1."),
    (r"^classifier\.head\.([01])\.", r"bottleneck.\1."),
    (r"^classifier\.head\.4\.", r"classifier.1."),
]
_SFNET_LITE = [
    *NECK,
    (r"^head\.fpn_in_0\.", r"lateral_fine."),
    (r"^head\.fpn_in_2\.", r"lateral_middle."),
    (r"^head\.fam\.down_", r"alignment.reduce_"),
    (r"^head\.fam\.flow_make\.", r"alignment.flows."),
    (r"^head\.fam\.flow_gate\.0\.", r"alignment.gate."),
    (r"^head\.final_conv\.0\.", r"classifier."),
    (r"^head\.final_conv\.1\.", r"classifier.3."),
]

_PSPNET = [
    (r"^classifier\.0\.poolings\.(\d)\.1\.", r"pyramid.\1.0."),
    (r"^classifier\.0\.poolings\.(\d)\.2\.", r"pyramid.\1.1."),
    (r"^classifier\.0\.bottleneck\.", r"bottleneck."),
    (r"^classifier\.1\.", r"classifier."),
]
_UPERNET = [
    *NECK,
    *((rf"^head\.fpn_entries\.layer{i + 1}\.", f"laterals.{i}.") for i in range(3)),
    *((rf"^head\.fpn_exits\.layer{i + 1}\.", f"fpn_convs.{i}.") for i in range(4)),
    (r"^head\.final_conv\.", r"fusion."),
]
_SFNET = [
    *NECK,
    *((rf"^head\.fpn_ins\.layer{i + 1}\.", f"laterals.{i}.") for i in range(3)),
    *((rf"^head\.fpn_outs\.layer{i + 1}\.", f"fpn_convs.{i}.") for i in range(3)),
    *((rf"^head\.fams\.layer{i + 1}\.down_", f"alignments.{i}.reduce_") for i in range(3)),
    *((rf"^head\.fams\.layer{i + 1}\.flow_make\.", f"alignments.{i}.flow.") for i in range(3)),
    (r"^head\.final_conv\.0\.", r"classifier."),
    (r"^head\.final_conv\.1\.", r"classifier.3."),
]

# of the backbone only, without the last layer of the classifier
XCEPTION = KeyTable(
    "pixseg",
    "",
    ("pixseg",),
    [
        (r"^exit_flow\.9\..*", ""),
        (r"^entry_flow\.([01])\.", r"stem.0.\1."),
        (r"^entry_flow\.3\.", "stem.1.0."),
        (r"^entry_flow\.4\.", "stem.1.1."),
        *((rf"^entry_flow\.{n}\.", f"entry.{n - 6}.") for n in (6, 7, 8)),
        (r"^(middle|exit)_flow\.", r"\1."),
        *_XCEPTION_BLOCKS,
    ],
)

TABLES: tuple[KeyTable, ...] = (
    KeyTable("pixseg", "BiSeNet", ("pixseg",), [*_PATHS, *_SHUFFLED_HEADS], models=("bisenet_resnet*",)),
    KeyTable(
        "pixseg",
        "BiSeNet",
        ("pixseg",),
        [*_XCEPTION_STAGES, *_XCEPTION_BLOCKS, *_PATHS, *_SHUFFLED_HEADS],
        models=("bisenet_xception",),
    ),
    KeyTable("pixseg", "BiSeNet", ("pixseg_20250304",), [*_PATHS, *_BISENET_20250304]),
    KeyTable("pixseg", "ENet", ("pixseg",), _ENET),
    KeyTable("pixseg", "PSPNet", ("pixseg",), _PSPNET),
    KeyTable("pixseg", "PSPNet", ("pixseg_20250222", "pixseg_20250304"), _WIDE),
    KeyTable("pixseg", "UPerNet", ("pixseg",), _UPERNET),
    KeyTable("pixseg", "SFNet", ("pixseg",), _SFNET),
    KeyTable("pixseg", "SFNet-Lite", ("pixseg", "pixseg_fam_pooling"), _SFNET_LITE),
    # torchvision's names, which are ours
    *(KeyTable("pixseg", family, ("pixseg",)) for family in ("DeepLabV3", "FCN", "LRASPP")),
)
