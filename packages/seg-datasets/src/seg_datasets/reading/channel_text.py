"""Writes a description of channels as TOML, for `classes.toml` and for configs."""

from collections.abc import Mapping
from typing import Any

from seg_core.labels.channels import ImageChannels

__all__ = ["channel_lines", "channel_table", "params_line"]


def channel_table(channels: ImageChannels) -> str:
    """Returns a description as a table of TOML in one line."""
    return _toml(channels.to_dict())


def channel_lines(channels: ImageChannels) -> str:
    """Returns a description as lines of TOML, one per field."""
    return "\n".join(f"{key} = {_toml(value)}" for key, value in channels.to_dict().items())


def params_line(channels: ImageChannels) -> str:
    """Returns the line of a config that describes the channels of a dataset."""
    return f"data.dataset.params.channels = {channel_table(channels)}"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)
