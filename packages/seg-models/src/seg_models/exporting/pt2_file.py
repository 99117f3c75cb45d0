"""Programs of torch.export as `.pt2` files, which torch runs without the code of the network."""

import io
import os
from pathlib import Path

import torch
from torch import Tensor

from seg_core.errors import CorruptFileError
from seg_core.model_files.weighing import weigh_archive
from seg_models.exporting.description import DESCRIPTION_KEY, ExportDescription, not_described
from seg_models.exporting.exported import ExportedNetwork
from seg_models.exporting.quiet import quiet

__all__ = ["Pt2Network", "write_pt2"]

_FILE = f"{DESCRIPTION_KEY}.json"


def write_pt2(program: torch.export.ExportedProgram, path: Path, description: ExportDescription) -> None:
    """Writes a program as a file of torch.

    Raises:
        OSError: if it cannot be written.
    """
    # on a full disk torch's own writer would end the process
    content = io.BytesIO()
    with quiet():
        torch.export.save(program, content, extra_files={_FILE: description.to_json()})
    path.write_bytes(content.getbuffer())


class Pt2Network(ExportedNetwork):
    """A `.pt2` file as a network.

    Args:
        path: the file.

    Raises:
        CorruptFileError: if it cannot be read, or was not exported by this toolkit.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        extra = {_FILE: ""}
        try:
            weigh_archive(path)
            with quiet():
                program = torch.export.load(path, extra_files=extra)
                module = program.module()
        except (FileNotFoundError, CorruptFileError):
            raise
        except Exception as error:  # torch's reader raises whatever it meets
            raise CorruptFileError(
                f"{path} cannot be loaded as a program of torch.export: it is damaged, or of another version of torch "
                f"than {torch.__version__}; export the model again"
            ) from error
        text = extra[_FILE]
        if not text:
            raise not_described(path)
        super().__init__(path, ExportDescription.from_json(path, text))
        self._run = module.forward  # not a submodule: its parameters have their type and place

    @torch.no_grad()
    def run(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Runs the file, see `ExportedNetwork.run`."""
        found = self._run(images)
        return (found[0], found[1]) if self.description.labels else (found, None)
