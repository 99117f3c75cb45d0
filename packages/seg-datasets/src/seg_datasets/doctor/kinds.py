"""The kinds of faults that the doctor finds in a dataset, with their severity."""

from dataclasses import dataclass

__all__ = ["ERROR", "KINDS", "WARNING", "Kind"]

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        severity: `"error"` if a network that is trained on such data learns something else than was meant, or the data
            cannot be read; else `"warning"`.
        meaning: what it means, in a few words.
    """

    severity: str
    meaning: str


KINDS: dict[str, Kind] = {
    "missing-mask": Kind(ERROR, "an image without a mask"),
    "missing-image": Kind(ERROR, "a mask, or a name in a list of files, without an image"),
    "empty-file": Kind(ERROR, "a file of 0 bytes"),
    "unreadable-image": Kind(ERROR, "an image that cannot be decoded"),
    "unreadable-mask": Kind(ERROR, "a mask that cannot be decoded"),
    "name-collision": Kind(ERROR, "two files that would be the same image or mask"),
    "size-mismatch": Kind(ERROR, "a mask of another size than its image"),
    "orientation": Kind(ERROR, "an orientation tag that image and mask do not share; a warning for images"),
    "rgb-mask": Kind(ERROR, "ids stored in three equal channels"),
    "color-mask": Kind(ERROR, "colors where ids are expected"),
    "float-mask": Kind(ERROR, "floating-point numbers in a mask"),
    "binary-0-255": Kind(ERROR, "masks of 0 and 255 where class ids are expected"),
    "off-by-one": Kind(ERROR, "ids from 1 where classes are counted from 0"),
    "id-out-of-range": Kind(ERROR, "an id that is neither a class nor ignored"),
    "wrong-bit-depth": Kind(ERROR, "images or masks of another bit depth than the dataset reads"),
    "jpeg-mask": Kind(ERROR, "a mask in a lossy format, which changes ids"),
    "duplicate-across-splits": Kind(
        ERROR, "the same image in two splits; a warning if neither is train, or if it has one color alone"
    ),
    "all-ignored": Kind(WARNING, "a mask without a pixel of any class; an error if all masks are"),
    "expanded-palette": Kind(
        WARNING, "a palette mask whose colors were stored instead of its indices; with an error, as none is read so"
    ),
    "permuted-palette": Kind(WARNING, "a palette in another order than the ids"),
    "class-absent": Kind(
        WARNING, "a class that occurs in no mask of a split; an error if one class and ignored pixels are all there is"
    ),
    "antialiased-mask": Kind(
        WARNING, "smoothed edges: ids between those of two classes; with an id-out-of-range if these are no classes"
    ),
    "mixed-channels": Kind(
        WARNING, "gray and color images in one split; an error if images have other channels than are read"
    ),
    "alpha": Kind(WARNING, "an image with transparency; an error if a described channel is marked as alpha"),
    "near-duplicate-across-splits": Kind(WARNING, "nearly the same image in two splits"),
    "frames-across-splits": Kind(WARNING, "frames of one sequence in two splits"),
    "size-outlier": Kind(WARNING, "an image of a very different size than the others"),
}
"""Name -> kind. The names are the `kind` of a finding, and the argument of `seg datasets fake --fault`."""
