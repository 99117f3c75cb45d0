"""Reads other projects' checkpoints that hold pickled objects besides tensors, without running any of their code.

A pickle is a program: it names functions and classes and calls them, so the author of a file decides what runs on the
machine that opens it. `torch.load(weights_only=True)` therefore rejects all names but those that tensors need, and that
is how this toolkit reads files. Some published files name more: mmengine's of 2023 hold the buffers of their logger
besides the weights. `load_inert` reads those, with the user's consent.

Protection against a hostile file:

- A name is looked up in a short list, never imported. Every other name, including `builtins.getattr` and `eval`,
  becomes an `Inert` object, which accepts any call, argument, item, attribute and state, and does nothing.
- The names on the list cannot be misused: tensors are rebuilt by our own functions that ignore hooks and metadata,
  state is dropped (the original could set attributes of the listed functions), and codes of `copyreg`, which bypass
  the list, are rejected.
- TorchScript archives, which `torch.load` would pass to another interpreter, are rejected; so are the tar files of
  torch before 2017, whose unpacking follows links out of its folder.

- A file is weighed before it is read (see `seg_core.model_files.weighing`), so that time and memory are in proportion
  to its size.

No protection: a file may still crash torch's own reader of bytes if that has an error, or hold wrong weights. Only
dense tensors are returned, parameters as plain tensors.
"""

import contextlib
import io
import os
import pickle
import pickletools
import types
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any, ClassVar, Never

import torch
from torch import Tensor

from seg_core.errors import CorruptFileError
from seg_core.model_files.weighing import is_zip, load_plain, weigh, weigh_archive

__all__ = ["Inert", "consent", "foreign_parts", "is_consented", "load_inert", "load_safely"]

_ENVIRONMENT = "SEG_OLD_CHECKPOINTS"
_PARTS_SHOWN = 5
_LAST_PLAIN_PROTOCOL = 3  # torch.save writes 2; torch's reader of plain tensors supports no later operations
_LEGACY_PICKLES = 4  # magic number, protocol, system, content; the bytes of the tensors follow

_consent: ContextVar[bool] = ContextVar("seg_core.model_files.foreign_pickle.consent", default=False)


@contextlib.contextmanager
def consent() -> Iterator[None]:
    """Allows reading files with pickled objects inside the block; `SEG_OLD_CHECKPOINTS=1` allows it everywhere.

    None of their code runs; see this module for the protection.
    """
    token = _consent.set(True)
    try:
        yield
    finally:
        _consent.reset(token)


def is_consented() -> bool:
    """Returns whether files with pickled objects may be read: inside `consent()`, or by `SEG_OLD_CHECKPOINTS=1`."""
    return _consent.get() or os.environ.get(_ENVIRONMENT) == "1"


def load_safely(path: str | os.PathLike[str]) -> object:
    """Reads a file of `torch.save`, tensors on the CPU, without running any code in it.

    A file that holds pickled objects besides tensors and plain containers is only read with consent, by `load_inert`.

    Args:
        path: path of the file.

    Raises:
        CorruptFileError: if it is damaged or of another kind, or holds pickled objects and there is no consent.
    """
    try:
        return load_plain(path)
    except CorruptFileError:
        raise
    except Exception as error:  # torch raises many types for files in other formats
        if is_consented():
            return load_inert(path)
        parts = foreign_parts(path)
        if not parts:
            raise CorruptFileError(
                f"{os.fspath(path)} cannot be read as a checkpoint: it is truncated, or no file of torch.save; write, "
                "copy or fetch it again"
            ) from error
        more = f" and {len(parts) - _PARTS_SHOWN} more" if len(parts) > _PARTS_SHOWN else ""
        raise CorruptFileError(
            f"{os.fspath(path)} holds more than plain tensors, which could run code: {', '.join(parts[:_PARTS_SHOWN])}"
            f"{more}. If you trust its source, allow its tensors to be read without running anything else: set "
            f"{_ENVIRONMENT}=1, or load inside `with seg_core.model_files.foreign_pickle.consent():`"
        ) from error


def load_inert(path: str | os.PathLike[str]) -> object:
    """Reads a file of `torch.save`, tensors on the CPU, with `Inert` objects for all but tensors and plain containers.

    It does not check consent; `load_safely` does.

    Args:
        path: path of the file, in torch's zip format or the earlier one (of torch 1.5 and before).

    Raises:
        CorruptFileError: if it is damaged or of another kind.
    """
    try:
        weigh(path)
        with Path(path).open("rb") as file:
            _refuse_programs(file)
            # torch uses the module's name, `Unpickler` and `load`
            module = types.SimpleNamespace(__name__=__name__, Unpickler=_InertUnpickler, load=_load)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns that it finds no source of pickled modules
                content: object = torch.load(
                    file, map_location="cpu", pickle_module=module, weights_only=False, mmap=False
                )
            return content
    except CorruptFileError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise CorruptFileError(
            f"{os.fspath(path)} cannot be read as a checkpoint: it is truncated, or no file of torch.save "
            f"({_first_line(error)}); write, copy or fetch it again"
        ) from error


def foreign_parts(path: str | os.PathLike[str]) -> list[str]:
    """Lists what a file of `torch.save` holds besides tensors and plain containers, without unpickling it.

    These are the functions and classes that it names, such as `"numpy.ndarray"`; for a pickle of protocol 4 or later,
    whose names cannot be found without running it, the protocol.

    Args:
        path: path of the file; a damaged file or one of another kind has no parts.
    """
    found: dict[str, None] = {}
    with contextlib.suppress(Exception), Path(path).open("rb") as file:
        if is_zip(file):
            weigh_archive(path)
            content = torch._C.PyTorchFileReader(file).get_record("data.pkl")
            found |= dict.fromkeys(_parts(io.BytesIO(content)))
        else:
            for _ in range(_LEGACY_PICKLES):
                found |= dict.fromkeys(_parts(file))
    return list(found)


class Inert:
    """Replaces every name in a pickle that is not on the list: accepts everything and does nothing.

    Args:
        name: what the pickle names, as `"module.name"`.
    """

    __slots__ = ("__name__",)

    __name__: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "__name__", name)

    def __call__(self, *_args: object, **_kwargs: object) -> "Inert":
        """Returns another `Inert`, whatever the arguments."""
        return Inert(self.__name__)

    def __getattr__(self, name: str) -> "Inert":
        if name.startswith("__"):  # Python uses these to find out what an object supports
            raise AttributeError(name)
        return Inert(f"{self.__name__}.{name}")

    def __setattr__(self, name: str, value: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def __iter__(self) -> Iterator[Never]:
        return iter(())

    def __repr__(self) -> str:
        return f"Inert({self.__name__!r})"


# torch's originals also accept hooks, which are functions, and metadata.
def _rebuild_tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return _view(storage, storage.dtype, offset, size, stride)


def _rebuild_tensor_of_type(
    storage: Any,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    _requires_grad: bool,
    _hooks: object,
    dtype: torch.dtype,
    *_: object,
) -> Tensor:
    return _view(storage, dtype, offset, size, stride)


def _view(storage: Any, dtype: torch.dtype, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    untyped = storage._untyped_storage
    stored = untyped.nbytes()
    tensor = torch.empty(0, dtype=dtype).set_(untyped, offset, size, stride)
    if untyped.nbytes() != stored:  # torch enlarges it, with uninitialized memory
        raise pickle.UnpicklingError(f"a tensor of size {tuple(size)} is larger than its storage")
    return tensor


def _rebuild_parameter(data: Tensor, *_: object) -> Tensor:
    return data


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_of_type,
    ("torch.storage", "UntypedStorage"): torch.UntypedStorage,
}


def _look_up(module: str, name: str) -> Any:
    if (module, name) in _ALLOWED:
        return _ALLOWED[module, name]
    if module == "torch" and isinstance(dtype := vars(torch).get(name), torch.dtype):
        return dtype
    return Inert(f"{module}.{name}")


def _is_storage(module: str, name: str) -> bool:
    """Returns whether torch replaces the name, such as torch.FloatStorage, before it calls `find_class`."""
    return module in ("torch", "torch.cuda") and name.endswith("Storage")


def _drop_state(unpickler: Any) -> None:
    unpickler.stack.pop()


def _make(unpickler: Any) -> None:
    arguments, make = unpickler.stack.pop(), unpickler.stack.pop()
    unpickler.append(make(*arguments))


def _make_with_keywords(unpickler: Any) -> None:
    keywords, arguments, make = (unpickler.stack.pop() for _ in range(3))
    unpickler.append(make(*arguments, **keywords))


# The standard library's unpickler in Python: the operations of the one in C cannot be overridden
class _InertUnpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _look_up(module, name)

    def get_extension(self, code: int) -> Never:
        raise pickle.UnpicklingError(f"it refers to code {code} of copyreg")

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _drop_state,
        pickle.NEWOBJ[0]: _make,
        pickle.NEWOBJ_EX[0]: _make_with_keywords,
    }


def _load(file: IO[bytes], **options: Any) -> Any:
    return _InertUnpickler(file, **options).load()


def _refuse_programs(file: IO[bytes]) -> None:
    if is_zip(file) and "constants.pkl" in torch._C.PyTorchFileReader(file).get_all_records():
        raise CorruptFileError(
            f"{file.name} is a TorchScript archive, a program and not a checkpoint; save model.state_dict() instead"
        )
    file.seek(0)


def _parts(pickled: IO[bytes]) -> Iterator[str]:
    """Yields the foreign parts of the next pickle in the file."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            if isinstance(_look_up(module, name), Inert) and not _is_storage(module, name):
                yield f"{module}.{name}"
        elif opcode.name == "PROTO" and int(argument or 0) > _LAST_PLAIN_PROTOCOL:
            yield f"pickle protocol {argument}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
