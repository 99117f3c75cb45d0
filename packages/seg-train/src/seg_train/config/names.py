"""Looks up the names of a config."""

from collections.abc import Callable
from typing import Any

from seg_core.errors import UserError
from seg_core.registry import Registry

__all__ = ["known"]


def known(registry: Registry, key: str, name: str, problems: list[str]) -> Callable[..., Any] | None:
    """Returns the object registered as `name`; adds a problem and returns None if there is none."""
    try:
        found: Callable[..., Any] = registry.get(name)
    except UserError as error:
        problems.append(f'{key} = "{name}": {error}')
        return None
    return found
