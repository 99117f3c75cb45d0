"""The digest of a model file: one hash over its description and its tensors.

Every value is written with its type and its length before it goes into the hash, so that no two contents share an
encoding. The digest does not depend on how the file is packed.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["digest_of", "encode", "plain"]

# A view repeats one number a million times, and a list a view a thousand times: the values to hash may be so many times
# those that are stored, beyond these bytes. Tied weights of a network are hashed twice.
_MOST_TIMES = 8
_FREE = 2**26
_MOST_VALUES = 5_000_000


def digest_of(content: Mapping[str, Any]) -> str:
    """Returns the hexadecimal sha256 of plain values and dense tensors on the CPU, in order.

    Tensors enter with dtype, shape and bytes; contiguous ones are not copied.

    Raises:
        TypeError: if it holds anything else, or tensors that repeat a few stored numbers over and over, or too many
            values, or itself.
    """
    stored: dict[int, int] = {}
    total, count = _weight(content, stored, {})
    if count > _MOST_VALUES:
        raise TypeError(f"it holds {count} values, at most {_MOST_VALUES} are read again")
    if total > _MOST_TIMES * sum(stored.values()) + _FREE:
        raise TypeError(
            f"its tensors show {total} bytes of {sum(stored.values())} that are stored, far more than weights do"
        )
    found = hashlib.sha256()
    _encode(content, found.update)
    return found.hexdigest()


def _weight(value: Any, stored: dict[int, int], known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Returns the bytes of the tensors in a value, and the number of values, each as often as it is in it.

    Args:
        value: the value.
        stored: takes the bytes of each storage.
        known: what was found for each container, by its id, so that each is looked through once; None within itself.

    Raises:
        TypeError: if a container holds itself.
    """
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        stored[storage.data_ptr()] = storage.nbytes()
        return value.nbytes, 1
    if not isinstance(value, Mapping | list | tuple):
        return 0, 1
    if id(value) not in known:
        known[id(value)] = None
        total, count = 0, 1
        for inner in value.values() if isinstance(value, Mapping) else value:
            size, number = _weight(inner, stored, known)
            total, count = total + size, count + number
        known[id(value)] = (total, count)
    found = known[id(value)]
    if found is None:
        raise TypeError("it holds itself")
    return found


def encode(value: Any) -> bytes:
    """Returns the bytes that the digest of a value is computed from; only equal values have equal bytes."""
    parts: list[Any] = []
    _encode(value, parts.append)
    return b"".join(parts)


def _encode(value: Any, write: Callable[[Any], object]) -> None:
    if value is None or isinstance(value, bool):
        write(f"{value};".encode())
    elif isinstance(value, int):
        write(f"i{value};".encode())
    elif isinstance(value, float):
        write(f"f{value!r};".encode())
    elif isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        write(f"s{len(data)}:".encode())
        write(data)
    elif isinstance(value, list | tuple):
        write(f"{'l' if isinstance(value, list) else 't'}{len(value)}:".encode())
        for inner in value:
            _encode(inner, write)
    elif isinstance(value, Mapping):
        write(f"d{len(value)}:".encode())
        for key, inner in value.items():
            _encode(key, write)
            _encode(inner, write)
    elif isinstance(value, Tensor):
        write(f"T{value.dtype}{tuple(value.shape)}:".encode())
        dense = value.detach().resolve_conj().resolve_neg().contiguous()
        write(dense.reshape(-1).view(torch.uint8).numpy())
    else:
        raise TypeError(f"{type(value).__name__} is not a plain value")


def plain(value: Any) -> Any:
    """Returns a value as Python numbers, strings, lists, tuples and dicts, which every reader of a file can load.

    Scalars and arrays of numpy and torch become numbers and lists.

    Raises:
        TypeError: if it holds anything else; the message says where.
    """
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):  # numpy's float64 is a float too
            return kind(value)
    if isinstance(value, list):
        return [_at(f"[{place}]", inner) for place, inner in enumerate(value)]
    if isinstance(value, tuple):
        return tuple(_at(f"[{place}]", inner) for place, inner in enumerate(value))
    if isinstance(value, Mapping):
        return {_at(" key", key): _at(f"[{key!r}]", inner) for key, inner in value.items()}
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return _at("", value.tolist())
    raise TypeError(f" is {value!r} of type {type(value).__name__}")


def _at(where: str, value: Any) -> Any:
    try:
        return plain(value)
    except TypeError as error:
        raise TypeError(f"{where}{error}") from error
