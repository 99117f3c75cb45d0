"""The error about images that lack the file of a class, which the user decides about."""

from typing import Any

from seg_core.errors import DatasetNotFoundError

__all__ = ["LackingClassesError"]


class LackingClassesError(DatasetNotFoundError):
    """Raised if images lack the mask of a class: whether it has no pixel there, only the user knows.

    Attributes:
        choices: options of `FolderDataset` -> their value; with one of them the images are read, or left out.
    """

    def __init__(self, message: str, choices: dict[str, Any]) -> None:
        super().__init__(message)
        self.choices = choices

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.choices)
