"""The published weights as data: which files exist for which model. Does not import torch.

`published.json` has one row for each file; this module adds what follows from its dataset and origin.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from importlib import resources
from typing import Any

from seg_core.catalog import WeightsEntry

__all__ = ["WEIGHTS"]

# all of these networks were trained with it
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

# "time" in seconds and "memory" in bytes beyond the network's own, without auxiliary heads
_MEASURED = "one 3x512x1024 image, no auxiliary heads, float32, two cores of an AMD EPYC"

# mmsegmentation's files since its version 1 also hold objects of mmengine
_AFTER_2022 = re.compile(r"openmmlab\.com/.*_202[3-9]\d{4}_")
_PICKLED = "the file likely holds pickled objects; then it is only read with SEG_OLD_CHECKPOINTS=1"

# dataset -> label set, name of the member, size of the images, protocol of the scores
_DATA: Mapping[str, tuple[str, str, Mapping[str, int], str]] = {
    "ADE20K": ("ADE20K", "ADE20K", {"shorter_side": 512}, "val, shorter side 512"),
    "COCO with VOC labels": (
        "VOC",
        "COCO_WITH_VOC_LABELS_V1",
        {"shorter_side": 520},
        "COCO val2017 with the labels of VOC, shorter side 520",
    ),
    "COCO-Stuff 10k": ("COCOStuff", "COCO_STUFF_10K", {"shorter_side": 512}, "test, shorter side 512"),
    "COCO-Stuff 164k": ("COCOStuff", "COCO_STUFF", {"shorter_side": 512}, "val, shorter side 512"),
    "Cityscapes": ("CityscapesClass", "CITYSCAPES", {}, "val, images as they are"),
    "Cityscapes with background": ("CityscapesBackground", "CITYSCAPES", {}, "val, images as they are"),
    "LoveDA": ("LoveDA", "LOVEDA", {}, "val, images as they are"),
    "Mapillary Vistas v1.2": ("MapillaryVistas_v1.2", "MAPILLARY_VISTAS", {}, "val"),
    "Pascal Context": ("PascalContext60", "PASCAL_CONTEXT_60", {}, "val, longer side 520"),
    "Pascal Context 59": ("PascalContext", "PASCAL_CONTEXT", {}, "val, longer side 520"),
    "Pascal VOC 2012 + Aug": ("VOC", "VOC2012_AUG", {"shorter_side": 512}, "VOC 2012 val, shorter side 512"),
    "Potsdam": ("Potsdam", "POTSDAM", {}, "val tiles of 512x512"),
    "SBD": ("VOC", "SBD", {}, ""),
    "VOC 2012": ("VOC", "VOC2012", {}, ""),
    "Vaihingen": ("Vaihingen", "VAIHINGEN", {}, "val tiles of 512x512"),
    "iSAID": ("iSAID", "ISAID", {}, "val tiles of 896x896"),
}
# origin -> source of the scores, license of the code and the files
_ORIGINS = {
    "mmsegmentation": (
        "https://github.com/open-mmlab/mmsegmentation/blob/v1.2.2/docs/en/model_zoo.md",
        "Apache-2.0 (mmsegmentation)",
    ),
    "pixseg": ("https://github.com/CyrusCKF/PixSeg", "MIT (pixseg)"),
    "torchvision": (
        "https://github.com/pytorch/vision/tree/main/references/segmentation",
        "BSD-3-Clause (torchvision)",
    ),
}
_FAMILIES = {
    "bisenet": "BiSeNet",
    "bisenetv2": "BiSeNetV2",
    "ddrnet23": "DDRNet23",
    "deeplabv3": "DeepLabV3",
    "deeplabv3plus": "DeepLabV3Plus",
    "enet": "ENet",
    "fast": "Fast",
    "fcn": "FCN",
    "lraspp": "LRASPP",
    "pidnet": "PIDNet",
    "pspnet": "PSPNet",
    "segformer": "SegFormer",
    "sfnet": "SFNet",
    "stdc1": "STDC1",
    "stdc2": "STDC2",
    "upernet": "UPerNet",
}
_PARTS = {"mobilenet": "MobileNet", "scnn": "SCNN"}


def _rows() -> dict[str, list[dict[str, Any]]]:
    """Returns model -> its rows, the best one first."""
    text = (resources.files("seg_models") / "published.json").read_text(encoding="utf-8")
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in json.loads(text):
        found[row["model"]].append(row)
    return found


def _enum_name(model: str) -> str:
    """Returns the name of a model's weights enum, as torchvision names them: FCN_ResNet50_Weights."""
    family, *rest = model.split("_")
    parts = [_PARTS.get(part, part.replace("resnet", "ResNet", 1)) for part in rest]
    parts = [part[0].upper() + part[1:] for part in parts]
    return "_".join([_FAMILIES[family], *parts, "Weights"])


def _entry(row: Mapping[str, Any]) -> WeightsEntry:
    label_set, _, resize, how = _DATA[row["data"]]
    source, terms = _ORIGINS[row["origin"].partition("_")[0]]
    window = f", windows of {row['window']}x{row['window']}" if "window" in row else ""
    metrics = {key: row[key] for key in ("miou", "miou_tta", "acc") if key in row}
    tta = "; miou_tta with several scales and flips" if "miou_tta" in row else ""
    protocol = row.get("protocol") or f"{how}{window}{tta}, as published"
    return WeightsEntry(
        url=row["url"],
        hash=row.get("hash", ""),
        verified="prefix" if "hash" in row else "first-use",
        label_set=label_set,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        resize=resize,
        variant=row["variant"],
        key_rules=row["origin"].partition("_")[0],
        aux=row["aux"],
        meta={
            "data": row["data"],
            "num_params": row["params"],
            "macs": row["macs"],
            "time": row["seconds"],
            "memory": row["mib"] * 2**20,
            "measured": _MEASURED,
            "metrics": metrics,
            "protocol": protocol if metrics else "no score published",
            "source": source,
            "license": terms,
            **({"note": _PICKLED} if _AFTER_2022.search(row["url"]) else {}),
        },
    )


def _members(rows: list[dict[str, Any]]) -> dict[str, WeightsEntry]:
    """Returns member -> entry: named after the dataset, and after the origin too if there are several for one."""
    plain = [_DATA[row["data"]][1] for row in rows]
    return {
        name if plain.count(name) == 1 else f"{name}_{row['origin'].upper()}": _entry(row)
        for name, row in zip(plain, rows, strict=True)
    }


# Published weights: model -> name of its enum, its members, the default member, which is the first row.
WEIGHTS: dict[str, tuple[str, dict[str, WeightsEntry], str]] = {}
for _model, _of_model in _rows().items():
    _named = _members(_of_model)
    WEIGHTS[_model] = (_enum_name(_model), _named, next(iter(_named)))
