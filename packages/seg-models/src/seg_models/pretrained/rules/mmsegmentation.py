"""Key rules of mmsegmentation 1.2.2. https://github.com/open-mmlab/mmsegmentation"""

from collections.abc import Mapping

from torch import Tensor

from seg_models.pretrained.key_table import KeyTable

__all__ = ["TABLES"]

Rules = list[tuple[str, str]]

# ResNetV1c's deep stem: ours ends in the trunk's own norm. The plain stem and all stages have our names already.
RESNET = [
    (r"^backbone\.stem\.7\.", "backbone.bn1."),
    (r"^backbone\.stem\.", "backbone.conv1."),
]

# convolution and norm of mmcv's ConvModule, and of its depthwise separable pair; applied before modules are renamed
CONV_MODULES = [
    (r"^decode_head\.(.+)\.depthwise_conv\.", r"decode_head.\1.0."),
    (r"^decode_head\.(.+)\.pointwise_conv\.", r"decode_head.\1.1."),
    (r"^decode_head\.(.+)\.conv\.", r"decode_head.\1.0."),
    (r"^decode_head\.(.+)\.bn\.", r"decode_head.\1.1."),
]

# FCN's head of one convolution, our FCNHead
AUXILIARY = [
    (r"^auxiliary_head\.convs\.0\.conv\.", "aux_classifier.0."),
    (r"^auxiliary_head\.convs\.0\.bn\.", "aux_classifier.1."),
    (r"^auxiliary_head\.conv_seg\.", "aux_classifier.4."),
]

# the pooled branch, then the others, then the convolution that joins them
ASPP = [
    (r"^decode_head\.image_pool\.1\.0\.", "aspp.convs.0.1."),
    (r"^decode_head\.image_pool\.1\.1\.", "aspp.convs.0.2."),
    *((rf"^decode_head\.aspp_modules\.{branch}\.", f"aspp.convs.{branch + 1}.") for branch in range(4)),
    (r"^decode_head\.bottleneck\.", "aspp.project."),
]

PYRAMID = [
    (r"^decode_head\.psp_modules\.(\d)\.1\.", r"pyramid.\1."),
    (r"^decode_head\.bottleneck\.", "bottleneck."),
]

RESNET_HEADS = {
    "fcn": [
        (r"^decode_head\.convs\.", "classifier.convs."),
        (r"^decode_head\.conv_cat\.", "classifier.fusion."),
        (r"^decode_head\.conv_seg\.", "classifier.logits.1."),
    ],
    "deeplabv3": [
        *ASPP,
        (r"^aspp\.", "classifier.0."),
        (r"^decode_head\.conv_seg\.", "classifier.1."),
    ],
    "deeplabv3plus": [
        *ASPP,
        (r"^decode_head\.c1_bottleneck\.", "decoder.reduce."),
        (r"^decode_head\.sep_bottleneck\.", "decoder.refine."),
        (r"^decode_head\.conv_seg\.", "classifier."),
    ],
    "pspnet": [
        *PYRAMID,
        (r"^decode_head\.conv_seg\.", "classifier.1."),
    ],
    "upernet": [
        *PYRAMID,
        (r"^decode_head\.lateral_convs\.", "laterals."),
        (r"^decode_head\.fpn_convs\.", "fpn_convs."),
        (r"^decode_head\.fpn_bottleneck\.", "fusion."),
        (r"^decode_head\.conv_seg\.", "classifier.1."),
    ],
}


CONV = [(r"\.conv\.(weight|bias)$", r".0.\1"), (r"\.bn\.(\w+)$", r".1.\1")]


def fcn_heads(*aux: str) -> Rules:
    """Returns rules for heads of one convolution, our FCNHead; `aux` are our names of the auxiliary ones in order."""
    names = {r"decode_head": "classifier", **{rf"auxiliary_head\.{n}": name for n, name in enumerate(aux)}}
    return [
        rule
        for theirs, ours in names.items()
        for rule in ((rf"^{theirs}\.convs\.0\.", f"{ours}."), (rf"^{theirs}\.conv_seg\.", f"{ours}.4."))
    ]


BISENET = [
    (r"^backbone\.context_path\.backbone\.", "context_path.backbone."),
    (r"^backbone\.context_path\.arm(16|32)\.conv_layer\.", r"context_path.refine\1.conv."),
    (r"^backbone\.context_path\.arm(16|32)\.atten_conv_layer\.1\.", r"context_path.refine\1.attention.1."),
    (r"^backbone\.context_path\.conv_head(16|32)\.", r"context_path.conv\1."),
    (r"^backbone\.context_path\.gap_conv\.1\.", "context_path.global_context.1."),
    *((rf"^backbone\.spatial_path\.layer{n + 1}\.", f"spatial_path.{n}.") for n in range(4)),
    (r"^backbone\.ffm\.conv1\.", "fusion.conv."),
    (r"^backbone\.ffm\.conv_atten\.0\.", "fusion.attention.1."),
    *fcn_heads("aux_classifier", "aux_classifier_16x"),
    *CONV,
]


def lraspp(first: int, gated: str) -> Rules:
    """Returns rules for MobileNetV3. torchvision numbers the parts of a block, so names depend on the parts before.

    Args:
        first: number of parts before the last in layer1, which does not expand.
        gated: the layers from 2 on with squeeze and excitation, as a pattern.
    """
    return [
        (r"^backbone\.layer1\.depthwise_conv\.", "backbone.1.block.0."),
        (r"^backbone\.layer1\.se\.", "backbone.1.block.1."),
        (r"^backbone\.layer1\.linear_conv\.", f"backbone.1.block.{first}."),
        (r"^backbone\.layer(\d+)\.expand_conv\.", r"backbone.\1.block.0."),
        (r"^backbone\.layer(\d+)\.depthwise_conv\.", r"backbone.\1.block.1."),
        (r"^backbone\.layer(\d+)\.se\.", r"backbone.\1.block.2."),
        (rf"^backbone\.layer({gated})\.linear_conv\.", r"backbone.\1.block.3."),
        (r"^backbone\.layer(\d+)\.linear_conv\.", r"backbone.\1.block.2."),
        (r"^backbone\.layer(\d+)\.", r"backbone.\1."),
        (r"\.block\.(\d)\.conv(\d)\.conv\.", r".block.\1.fc\2."),
        (r"^decode_head\.aspp_conv\.", "classifier.reduce."),
        (r"^decode_head\.image_pool\.1\.conv\.", "classifier.gate.project."),
        (r"^decode_head\.conv_up_input\.", "classifier.coarse."),
        (r"^decode_head\.convs\.conv(\d)\.", r"classifier.fine.\1."),
        (r"^decode_head\.conv_ups\.conv_up(\d)\.", r"classifier.fusions.\1."),
        (r"^decode_head\.conv_seg\.", "classifier.logits.1."),
        *CONV,
    ]


BISENETV2_AUX = ("aux", "aux_8x", "aux_16x", "aux_32x")
BISENETV2 = [
    *(
        (rf"^backbone\.detail\.detail_branch\.{stage}\.{layer}\.", f"detail.{first + layer}.")
        for stage, first, count in ((0, 0, 2), (1, 2, 3), (2, 5, 3))
        for layer in range(count)
    ),
    (r"^backbone\.semantic\.stage1\.conv_first\.", "semantic.stem.first."),
    (r"^backbone\.semantic\.stage1\.convs\.", "semantic.stem.strided."),
    (r"^backbone\.semantic\.stage1\.fuse_last\.", "semantic.stem.join."),
    (r"^backbone\.semantic\.stage4_CEBlock\.gap\.", "semantic.embedding.context."),
    (r"^backbone\.semantic\.stage4_CEBlock\.conv_gap\.", "semantic.embedding.context.2."),
    (r"^backbone\.semantic\.stage4_CEBlock\.conv_last\.", "semantic.embedding.conv."),
    *((rf"^backbone\.semantic\.stage{n + 2}\.", f"semantic.stages.{n}.") for n in range(3)),
    (r"^(semantic\.stages\.\d\.\d)\.conv1\.", r"\1.gather."),
    (r"^(semantic\.stages\.\d\.\d)\.dwconv\.", r"\1.expand."),
    (r"^(semantic\.stages\.\d\.\d)\.conv2\.0\.", r"\1.project."),
    (r"^(semantic\.stages\.\d\.\d\.shortcut)\.0\.depthwise_conv\.", r"\1.0."),
    (r"^(semantic\.stages\.\d\.\d\.shortcut)\.0\.pointwise_conv\.", r"\1.1."),
    (r"^backbone\.bga\.detail_dwconv\.0\.", "aggregation.detail_fine."),
    (r"^backbone\.bga\.detail_down\.", "aggregation.detail_coarse."),
    (r"^backbone\.bga\.semantic_conv\.0\.", "aggregation.semantic_fine."),
    (r"^backbone\.bga\.semantic_dwconv\.0\.", "aggregation.semantic_coarse."),
    (r"^backbone\.bga\.conv\.", "aggregation.join."),
    (r"^(aggregation\.\w+)\.depthwise_conv\.", r"\1.0."),
    (r"^(aggregation\.\w+)\.pointwise_conv\.conv\.", r"\1.1."),  # no norm follows
    (r"^decode_head\.convs\.0\.", "classifier."),
    (r"^decode_head\.conv_seg\.", "classifier.4."),
    *((rf"^auxiliary_head\.{n}\.", f"aux_classifiers.{name}.") for n, name in enumerate(BISENETV2_AUX)),
    (r"^(aux_classifiers\.\w+)\.convs\.", r"\1."),
    (r"^(aux_classifiers\.\w+)\.conv_seg\.", r"\1.1.4."),
    *CONV,
]

# of DDRNet and PIDNet: residual blocks, and modules whose norm comes before the convolution
BLOCKS = [
    (r"^backbone\.stem\.4\.", "stem.3."),
    (r"^backbone\.stem\.", "stem."),
    *((rf"^((?:stem|context\d\d|spatial|detail|boundary)\..*)conv{n + 1}\.", rf"\1residual.{n}.") for n in range(3)),
    (r"^((?:stem|context\d\d|spatial|detail|boundary)\..*)downsample\.", r"\1shortcut."),
]
PREACTIVATED = [
    (r"^backbone\.spp\.scales\.(\d)\.(?:1\.)?", r"pyramid.scales.\1."),
    (r"^backbone\.spp\.processes\.", "pyramid.aggregation."),
    (r"^backbone\.spp\.", "pyramid."),
    (r"^((?:pyramid|classifier|aux_\w+|fusion\.conv)\..*)bn\.", r"\1norm."),
]
# everywhere except in modules whose norm comes first
CONV_UNLESS_PREACTIVATED = [
    (rf"^(?!pyramid|classifier|aux_|fusion\.conv)(.*){p}", rf"\1{r}")
    for p, r in ((r"\.conv\.weight$", ".0.weight"), (r"\.bn\.", ".1."))
]

DDRNET = [
    *((rf"^backbone\.context_branch_layers\.{n}\.", f"context{16 * 2**n}.") for n in range(2)),
    (r"^backbone\.context_branch_layers\.2\.0\.", "context64."),
    (r"^backbone\.spatial_branch_layers\.2\.0\.", "spatial.2."),
    (r"^backbone\.spatial_branch_layers\.", "spatial."),
    *BLOCKS,
    *((rf"^backbone\.compression_{n + 1}\.", f"fusion{16 * 2**n}.compression.") for n in range(2)),
    (r"^backbone\.down_1\.", "fusion16.down.0."),
    (r"^backbone\.down_2\.", "fusion32.down."),
    (r"^decode_head\.head\.", "classifier."),
    (r"^decode_head\.conv_seg\.", "classifier.3."),
    (r"^decode_head\.aux_head\.", "aux_classifier."),
    (r"^decode_head\.aux_cls_seg\.", "aux_classifier.3."),
    *PREACTIVATED,
    *CONV_UNLESS_PREACTIVATED,
]


def pidnet(boundary: Rules) -> Rules:
    """Returns rules for a size of PIDNet; `boundary` numbers the blocks of its boundary branch."""
    return [
        *((rf"^backbone\.i_branch_layers\.{n}\.", f"context{16 * 2**n}.") for n in range(3)),
        (r"^backbone\.p_branch_layers\.2\.0\.", "detail.2."),
        (r"^backbone\.p_branch_layers\.", "detail."),
        *boundary,
        (r"^backbone\.d_branch_layers\.2\.0\.", "boundary.2."),
        *BLOCKS,
        *((rf"^backbone\.{a}_{n + 1}\.", f"{b}.{n}.") for a, b in PIDNET_PARTS.items() for n in range(2)),
        (r"^backbone\.dfm\.", "fusion."),
        (r"^(attention\.\d|fusion)\.f_i\.", r"\1.context."),
        (r"^(attention\.\d|fusion)\.f_p\.", r"\1.detail."),
        (r"^backbone\.spp\.processes\.(conv|bn)\.", r"backbone.spp.processes.conv.\1."),
        (r"^decode_head\.i_head\.", "classifier."),
        (r"^decode_head\.p_head\.", "aux_classifier."),
        (r"^decode_head\.d_head\.", "aux_boundary."),
        (r"^decode_head\.conv_seg\.", "classifier.3."),
        (r"^decode_head\.p_cls_seg\.", "aux_classifier.3."),
        (r"^decode_head\.d_cls_seg\.", "aux_boundary.3."),
        (r"^(classifier|aux_\w+)\.norm\.", r"\1.1."),
        (r"^(classifier|aux_\w+)\.conv\.", r"\1.0."),
        *PREACTIVATED,
        *CONV_UNLESS_PREACTIVATED,
    ]


PIDNET_PARTS = {"compression": "compression", "pag": "attention", "diff": "difference"}
PIDNET_SMALL = [
    (r"^backbone\.d_branch_layers\.0\.", "boundary.0.0."),
    (r"^backbone\.d_branch_layers\.1\.0\.", "boundary.1."),
]
PIDNET_LARGE = [(r"^backbone\.d_branch_layers\.([01])\.", r"boundary.\1.0.")]

FAST_SCNN = [
    (r"^backbone\.learning_to_downsample\.conv\.", "learning_to_downsample.0."),
    (r"^backbone\.learning_to_downsample\.dsconv(\d)\.", r"learning_to_downsample.\1."),
    *(
        (
            rf"^backbone\.global_feature_extractor\.bottleneck{group + 1}\.{block}\.conv\.",
            f"global_features.bottlenecks.{3 * group + block}.layers.",
        )
        for group in range(3)
        for block in range(3)
    ),
    (r"^backbone\.global_feature_extractor\.ppm\.(\d)\.1\.", r"global_features.pyramid.\1."),
    (r"^backbone\.global_feature_extractor\.out\.", "global_features.join."),
    (r"^backbone\.feature_fusion\.dwconv\.", "fusion.coarse.0."),
    (r"^backbone\.feature_fusion\.conv_lower_res\.", "fusion.coarse.1."),
    (r"^backbone\.feature_fusion\.conv_higher_res\.", "fusion.fine."),
    (r"^decode_head\.convs\.(\d)\.", r"classifier.\1."),
    (r"^decode_head\.conv_seg\.", "classifier.3."),
    (r"^((?:learning_to_downsample|classifier)\.\d)\.depthwise_conv\.", r"\1.0."),
    (r"^((?:learning_to_downsample|classifier)\.\d)\.pointwise_conv\.", r"\1.1."),
    *fcn_heads("aux_classifier_32x", "aux_classifier")[2:],
    *CONV,
]

STDC = [
    (r"^.*\.(?:laplacian|fusion)_kernel$", ""),  # constants of the loss
    (r"^backbone\.backbone\.stages\.([01])\.", r"backbone.stem.\1."),
    *((rf"^backbone\.backbone\.stages\.{n + 2}\.", f"backbone.stages.{n}.") for n in range(3)),
    (r"^(backbone\.stages\.\d\.\d)\.layers\.0\.", r"\1.first."),
    *((rf"^(backbone\.stages\.\d\.\d)\.layers\.{n + 1}\.", rf"\1.others.{n}.") for n in range(3)),
    (r"^backbone\.arms\.0\.", "context_path.refine32."),
    (r"^backbone\.arms\.1\.", "context_path.refine16."),
    (r"^(context_path\.refine\d\d)\.conv_layer\.", r"\1.conv."),
    (r"^(context_path\.refine\d\d)\.atten_conv_layer\.", r"\1.attention."),
    (r"^backbone\.convs\.0\.", "context_path.conv32."),
    (r"^backbone\.convs\.1\.", "context_path.conv16."),
    (r"^backbone\.conv_avg\.", "context_path.global_context.1."),
    (r"^backbone\.ffm\.conv0\.", "fusion.conv."),
    (r"^backbone\.ffm\.attention\.1\.conv\.", "fusion.attention.1."),
    (r"^backbone\.ffm\.attention\.2\.conv\.", "fusion.attention.3."),
    *fcn_heads("aux_classifier", "aux_classifier_16x", "aux_boundary"),
    *CONV,
]


# blocks of each stage, as in `seg_models.backbones.mit`
DEPTHS = ((2, 2, 2, 2), (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 18, 3), (3, 8, 27, 3), (3, 6, 40, 3))


def segformer(*blocks: int) -> Rules:
    """Returns rules for after `split_and_flatten`; `blocks`: number in each stage, as in `mit.SIZES`."""
    return [
        (r"^backbone\.layers\.(\d)\.0\.projection\.", r"backbone.stages.\1.0.0."),
        (r"^backbone\.layers\.(\d)\.0\.norm\.", r"backbone.stages.\1.0.1."),
        *((rf"^backbone\.layers\.(\d)\.1\.{n}\.", rf"backbone.stages.\1.{n + 1}.") for n in range(max(blocks))),
        *((rf"^backbone\.layers\.{n}\.2\.", f"backbone.stages.{n}.{count + 1}.") for n, count in enumerate(blocks)),
        (r"^(backbone\..*)\.attn\.sr\.", r"\1.attention.reduce.0."),
        (r"^(backbone\..*)\.attn\.norm\.", r"\1.attention.reduce.1."),
        (r"^(backbone\..*)\.attn\.attn\.out_proj\.", r"\1.attention.project."),
        (r"^(backbone\..*)\.attn\.attn\.(query|key_value)\.", r"\1.attention.\2."),
        (r"^(backbone\..*)\.ffn\.layers\.([01])\.", r"\1.ffn.\2."),
        (r"^(backbone\..*)\.ffn\.layers\.4\.", r"\1.ffn.3."),
        (r"^decode_head\.convs\.(\d)\.", r"reductions.\1."),
        (r"^decode_head\.fusion_conv\.", "fusion."),
        (r"^decode_head\.conv_seg\.", "classifier.1."),
        *CONV,
    ]


def split_and_flatten(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Splits SegFormer's stacked projections into query and key-value; flattens the 1x1 kernels of its ffn."""
    prepared: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        head, stacked, kind = name.partition(".in_proj_")
        if stacked:  # rows: query, key, value
            third = len(tensor) // 3
            prepared[f"{head}.query.{kind}"], prepared[f"{head}.key_value.{kind}"] = tensor[:third], tensor[third:]
        elif name.endswith((".ffn.layers.0.weight", ".ffn.layers.4.weight")):
            prepared[name] = tensor.flatten(1)
        else:
            prepared[name] = tensor
    return prepared


PAPER = ("paper",)
OTHER = ("mmsegmentation",)
FAMILIES = {
    "fcn": "FCN",
    "deeplabv3": "DeepLabV3",
    "deeplabv3plus": "DeepLabV3+",
    "pspnet": "PSPNet",
    "upernet": "UPerNet",
}


def _table(family: str, variants: tuple[str, ...], rules: Rules, *models: str) -> KeyTable:
    prepare = split_and_flatten if family == "SegFormer" else None
    return KeyTable("mmsegmentation", family, variants, rules, prepare, models or ("*",))


TABLES: tuple[KeyTable, ...] = (
    *(
        _table(
            FAMILIES[network],
            ("mmsegmentation", "mmsegmentation_769", "mmsegmentation_plain", "mmsegmentation_plain_769"),
            [*RESNET, *CONV_MODULES, *AUXILIARY, *head],
        )
        for network, head in RESNET_HEADS.items()
    ),
    _table("BiSeNet", OTHER, BISENET),
    _table("LRASPP", OTHER, lraspp(first=1, gated="4|5|6|11|12|13|14|15"), "*_large"),
    _table("LRASPP", OTHER, lraspp(first=2, gated="[4-9]|10|11"), "*_small"),
    _table("BiSeNetV2", PAPER, BISENETV2),
    _table("DDRNet", PAPER, DDRNET),
    _table("PIDNet", PAPER, pidnet(PIDNET_SMALL), "pidnet_s", "pidnet_m"),
    _table("PIDNet", PAPER, pidnet(PIDNET_LARGE), "pidnet_l"),
    _table("Fast-SCNN", OTHER, FAST_SCNN),
    _table("STDC", OTHER, STDC),
    *(_table("SegFormer", OTHER, segformer(*depths), f"segformer_b{size}") for size, depths in enumerate(DEPTHS)),
)
