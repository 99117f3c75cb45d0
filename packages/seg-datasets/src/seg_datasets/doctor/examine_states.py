"""What may become of a file that is examined, and the ids of a mask as they are kept."""

import numpy as np
import numpy.typing as npt

__all__ = ["STATES", "STATE_OF", "ids_in"]

STATES = (
    *("ok", "absent", "empty-file", "unreadable-image", "unreadable-mask", "wrong-bit-depth", "jpeg-mask"),
    *("float-mask", "orientation", "color-mask", "rgb-mask", "mixed-channels", "alpha"),
)
"""What became of a file; of `"ok"` and `"rgb-mask"` the pixels are known, `"absent"` has no file."""
STATE_OF = {name: number for number, name in enumerate(STATES)}
"""State -> its number in a record."""


def ids_in(bits: npt.NDArray[np.uint8]) -> list[int]:
    """Returns the ids whose bits are set in uint8 (32,)."""
    found: list[int] = np.flatnonzero(np.unpackbits(bits)).tolist()
    return found
