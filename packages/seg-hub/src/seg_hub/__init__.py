"""The torch.hub interface of the seg toolkit; see `seg_hub.entrypoints`."""

from seg_hub.__about__ import __version__ as __version__

__all__ = ["__version__"]
