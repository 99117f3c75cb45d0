"""Errors of models, as the commands say them."""

import contextlib
from collections.abc import Iterator

from seg_core.errors import InvalidArgumentError, UsageError, UserError

__all__ = ["errors_of_model"]

# what errors of models say in Python -> on the command line
_OPTIONS = {
    "; remove weights": "; remove --weights",
    "; remove variant": "; remove --variant",
    "(training writes model.pt), or weights": "(training writes model.pt), or --weights",
    "name their model, and give the file as its weights": "name their model with --model and the file with --weights",
    " as weights=": " as --weights",
}


@contextlib.contextmanager
def errors_of_model(*, usage: bool = False) -> Iterator[None]:
    """Names in errors the options of the command instead of arguments.

    Args:
        usage: whether an InvalidArgumentError becomes a UsageError.
    """
    try:
        yield
    except UserError as error:
        text = str(error)
        for ours, theirs in _OPTIONS.items():
            text = text.replace(ours, theirs)
        if usage and isinstance(error, InvalidArgumentError):
            raise UsageError(text) from error
        if text == str(error):
            raise
        raise type(error)(text) from error
