"""What the networks on a ResNet behind mmsegmentation's public checkpoints have in common.

https://github.com/open-mmlab/mmsegmentation, version 1.2.2; its `r18`, `r50`, `r101` have the deep stem, `r18b`,
`r50b`, `r101b` the plain one. Files trained on crops of 769x769 align corners in every resize, the others in none.
"""

from typing import Any

__all__ = ["on_resnet"]

STEMS = {"": "deep", "_plain": "plain"}
ALIGN_CORNERS = {"": False, "_769": True}


def on_resnet(**options: Any) -> dict[str, dict[str, Any]]:
    """Returns presets for `build_network`: `"mmsegmentation"`, with the suffixes `"_plain"`, `"_769"`, and both.

    Args:
        options: the network's own that all of its files share.
    """
    return {
        f"mmsegmentation{kind}{crop}": {**options, "align_corners": align, "backbone_options": {"stem": stem}}
        for kind, stem in STEMS.items()
        for crop, align in ALIGN_CORNERS.items()
    }
