"""Entry for torch.hub: `torch.hub.load("<clone or repository>", "enet", num_classes=5)`.

Only torch and torchvision need to be installed. The packages stay on the path, because a model may import more of them
after it was loaded. torch.hub lists every callable here that has no leading underscore.
"""

import sys as _sys
from pathlib import Path as _Path

dependencies = ["torch", "torchvision"]

_sys.path[:0] = [str(_folder) for _folder in sorted(_Path(__file__).resolve().parent.glob("packages/*/src"))]

from seg_hub.entrypoints import *  # noqa: E402, F403 - the path must be set first; __all__ there lists the names
