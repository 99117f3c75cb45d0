"""Entry for torch.hub: `torch.hub.load("<clone or repository>", "enet", num_classes=5)`.

Nothing needs to be installed but torch and torchvision: the packages are put on the path for good, since a model may
import more of them after it was loaded. torch.hub lists every callable here without a leading underscore.
"""

import sys as _sys
from pathlib import Path as _Path

dependencies = ["torch", "torchvision"]

_sys.path[:0] = [str(_folder) for _folder in sorted(_Path(__file__).resolve().parent.glob("packages/*/src"))]

from seg_hub.entrypoints import *  # noqa: E402, F403 - the path comes first, and what is shown is __all__ there
