"""The variants of networks on a ResNet that mmsegmentation's checkpoints need.

https://github.com/open-mmlab/mmsegmentation, version 1.2.2. Its `r18`, `r50`, `r101` have the deep stem, `r18b`,
`r50b`, `r101b` the plain one. Files trained on crops of 769x769 align corners in every resize, the others in none.
"""

from dataclasses import replace
from typing import Any, TypeVar

from seg_models.builders.options import BackboneOptions

__all__ = ["on_resnet"]

STEMS = {"": "deep", "_plain": "plain"}
ALIGN_CORNERS = {"": False, "_769": True}

OptionsT = TypeVar("OptionsT", bound=BackboneOptions)


def on_resnet(options: OptionsT) -> dict[str, OptionsT]:
    """Returns the variants `"mmsegmentation"`, with the suffixes `"_plain"`, `"_769"`, and both.

    Args:
        options: options of the network that all of its files share; they include `align_corners`.
    """
    variants = {}
    for stem_suffix, stem in STEMS.items():
        for crop_suffix, align_corners in ALIGN_CORNERS.items():
            changes: dict[str, Any] = {"align_corners": align_corners, "backbone_options": {"stem": stem}}
            variants[f"mmsegmentation{stem_suffix}{crop_suffix}"] = replace(options, **changes)
    return variants
