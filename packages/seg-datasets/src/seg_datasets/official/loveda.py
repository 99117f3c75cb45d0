"""LoveDA: urban and rural land cover in aerial images, seven classes.

5987 images of 1024x1024 pixels of 0.3 m, of three Chinese cities: 2522 for training, 1669 for validation, and 1796 for
testing, whose masks are only on the evaluation server. The rural and the urban images differ so much that they serve as
two domains; each can be read alone.

Masks contain 1 to 7 for the classes and 0 for pixels without data. They are converted to 0 to 6 and 255; the background
is a class and counts in the mean. The server expects predictions from 0 to 6.

Expected on disk: see `TREE`. Download: https://zenodo.org/records/5706578

License: CC BY-NC-SA 4.0, academic use only; images under the terms of Google Earth.

Cite: J. Wang, Z. Zheng, A. Ma, X. Lu, Y. Zhong, "LoveDA: A Remote Sensing Land-Cover Dataset for Domain Adaptive
Semantic Segmentation", NeurIPS Datasets and Benchmarks 2021.
"""

import os
from collections.abc import Callable
from typing import Any

from seg_core.files.images import MAX_PIXELS
from seg_core.labels.label_map import IGNORE, LabelMap
from seg_datasets.reading.archives import Archive
from seg_datasets.reading.arguments import check_choice
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.layout import Layout, SplitFiles

__all__ = ["LoveDA"]

SITE = "https://zenodo.org/records/5706578/files"
TREE = """\
<any name>/                       root
  Train/Rural/images_png/0.png
  Train/Rural/masks_png/0.png     masks: 1..7 classes, 0 no data
  Train/Urban/images_png/1366.png
  Train/Urban/masks_png/1366.png
  Val/Rural/..., Val/Urban/...
  Test/Rural/images_png/, Test/Urban/images_png/    no masks
"""
FOLDERS = {"all": "*", "rural": "Rural", "urban": "Urban"}

_EXAMPLES = {
    "train": ("Rural/0", "Rural/1", "Urban/1366", "Urban/1367"),
    "val": ("Rural/2522", "Urban/3514"),
    "test": ("Rural/4191", "Urban/5167"),
}


def _edition(folder: str) -> Edition:
    def examples(keys: tuple[str, ...]) -> tuple[str, ...]:
        return keys if folder == "*" else tuple(key for key in keys if key.startswith(f"{folder}/"))

    return Edition(
        layout=Layout(
            dataset="LoveDA",
            source=f"get Train.zip, Val.zip and Test.zip from {SITE}/",
            tree=TREE,
            splits={
                "train": SplitFiles((f"Train/{folder}/images_png/*.png",), (f"Train/{folder}/masks_png/*.png",)),
                "val": SplitFiles((f"Val/{folder}/images_png/*.png",), (f"Val/{folder}/masks_png/*.png",)),
                "test": SplitFiles((f"Test/{folder}/images_png/*.png",)),
            },
            examples={split: examples(keys) for split, keys in _EXAMPLES.items()},
            aliases={"Train": "train", "Val": "val", "Test": "test"},
            prefixes=("", "LoveDA"),
            archives=(
                Archive(f"{SITE}/Train.zip", "md5:de2b196043ed9b4af1690b3f9a7d558f", splits=("train",)),
                Archive(f"{SITE}/Val.zip", "md5:84cae2577468ff0b5386758bb386d31d", splits=("val",)),
                Archive(f"{SITE}/Test.zip", "md5:a489be0090465e01fb067795d24e6b47", splits=("test",)),
            ),
        ),
        classes="LoveDA",
        label_map=LabelMap({0: IGNORE, **{raw: raw - 1 for raw in range(1, 8)}}),
    )


class LoveDA(OfficialDataset):
    """LoveDA's land cover with seven classes; pixels without data (0 on disk) become the ignore value 255.

    Other arguments, attributes and errors are those of `OfficialDataset`. Test images have the mask None.

    Args:
        domain: `"rural"` or `"urban"`; None for both.
    """

    editions = {name: _edition(folder) for name, folder in FOLDERS.items()}  # noqa: RUF012 - not changed
    edition = editions["all"]

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        domain: str | None = None,
        label_set: str | None = None,
        missing: str = "error",
        download: bool = False,
        orientation: str = "stored",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if domain is not None:
            check_choice("domain", domain, ("rural", "urban"), "None gives both")
        self.edition = self.editions[domain or "all"]
        super().__init__(
            root,
            split,
            transforms,
            label_set=label_set,
            missing=missing,
            download=download,
            orientation=orientation,
            max_pixels=max_pixels,
        )
