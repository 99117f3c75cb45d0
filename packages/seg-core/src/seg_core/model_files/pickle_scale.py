"""Follows the operations of a pickle on stand-ins, which take no memory, to learn what reading it would need."""

import os
import pickletools
from collections.abc import Callable, Iterable
from typing import Any, Never, TypeAlias

from seg_core.errors import CorruptFileError

__all__ = ["PickleScale", "refuse"]

_VIEWS = 4  # times as much in all views of the storages: tied weights and their copies
_MOST_OPERATIONS = 4_000_000  # of one pickle; a network of 300 tensors needs 10,000
_MOST_VALUES = 5_000_000  # that a pickle may hold beyond 10 per operation, those that it holds twice counted twice
_PER_OPERATION = 10
_DEEPEST = 200  # containers in containers
_LARGEST_KEY = 100  # values in a key
_ITEM_SIZES = {
    **dict.fromkeys(("Untyped", "Byte", "Char", "Bool", "QInt8", "QUInt8"), 1),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
}  # bytes of a number, by the storages of torch
_LARGEST_ITEM = 16  # bytes of a number of an unknown type
_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor")
_LATIN = ("latin1", "latin-1")  # how pickles of protocol 2 write bytes

_Memory: TypeAlias = "dict[int, Any]"


class _Part:
    """Stands for an object in a pickle: how much it is when it is walked through, and how deep.

    Attributes:
        weight: number of values in it; a long string counts as several.
        depth: containers in containers.
        used: whether it is a part of another one, so that it must not grow any more.
        items: the items of a tuple.
        name: module and name of what the pickle names, a function or a class.
        numel: number of items of a storage, else -1.
        itemsize: bytes of one of them.
    """

    __slots__ = ("depth", "items", "itemsize", "name", "numel", "used", "weight")

    def __init__(self, items: tuple[Any, ...] = (), name: tuple[str, str] | None = None) -> None:
        self.weight = 1
        self.depth = 1
        self.used = False
        self.items = items
        self.name = name
        self.numel = -1
        self.itemsize = 1
        self.add(items)

    def add(self, items: Iterable[Any]) -> None:
        """Makes values a part of this one."""
        for item in items:
            if type(item) is _Part:
                item.used = True
                self.weight += item.weight
                if item.depth >= self.depth:
                    self.depth = item.depth + 1
            else:
                self.weight += _weight(item)


def _weight(value: Any) -> int:
    if type(value) is _Part:
        return value.weight
    return 1 + len(value) // 8 if isinstance(value, str | bytes | bytearray) else 1


def refuse(path: str | os.PathLike[str], what: str) -> Never:
    """Raises CorruptFileError for a file that asks for too much; `what` says of what."""
    raise CorruptFileError(
        f"{os.fspath(path)} asks for far more time or memory than a checkpoint of its size: {what}. It is damaged, or "
        "made to do harm; get it again, from a source that you trust"
    )


class PickleScale:
    """Follows pickles on stand-ins.

    Args:
        path: the file, for messages.
        room: bytes that it may stand for.
    """

    def __init__(self, path: str | os.PathLike[str], room: int) -> None:
        self._path, self._room = path, room
        self._storages: dict[tuple[type, Any], int] = {}  # key -> bytes
        self._stored = self._viewed = 0

    def weigh(self, pickled: Any) -> None:
        """Follows the next pickle.

        Args:
            pickled: an open file at its start.

        Raises:
            CorruptFileError: if reading it would need too much.
            Exception: of `pickletools`, if it is damaged.
        """
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: _Memory = {}
        self._copied = self._count = 0
        handlers = _HANDLERS
        for opcode, argument, _ in pickletools.genops(pickled):
            self._count += 1
            if self._count > _MOST_OPERATIONS:
                self._refuse(f"its pickle has over {_MOST_OPERATIONS:,} operations")
            handler = handlers.get(opcode.code)
            if handler is not None:
                handler(self, argument)
            elif argument is not None or opcode.name == "NONE":
                self._stack.append(argument)  # a number, a string or bytes
            else:
                self._follow(opcode)
        if self._stack and type(self._stack[-1]) is _Part:
            self._check(self._stack[-1])

    def _refuse(self, what: str) -> Never:
        refuse(self._path, what)

    def _check(self, part: _Part) -> _Part:
        if part.depth > _DEEPEST:
            self._refuse(f"containers are nested over {_DEEPEST} deep")
        if part.weight > _MOST_VALUES + _PER_OPERATION * self._count:
            self._refuse(f"{self._count:,} operations stand for {part.weight:,} values")
        return part

    def _follow(self, opcode: pickletools.OpcodeInfo) -> None:
        """Follows an operation by what it takes from the stack and puts on it."""
        taken: list[Any] = []
        for kind in reversed(opcode.stack_before):
            if kind.name == "mark":
                continue  # taken with the slice above it
            taken[:0] = self._slice() if kind.name == "stackslice" else [self._stack.pop()]
        if opcode.name in ("DICT", "FROZENSET"):
            self._check_keys(taken[::2] if opcode.name == "DICT" else taken)
        for _ in opcode.stack_after:
            self._stack.append(self._check(_Part(tuple(taken))))

    def _slice(self) -> list[Any]:
        """Takes what is above the last mark from the stack, and the mark."""
        start = self._marks.pop()
        found = self._stack[start:]
        del self._stack[start:]
        return found

    # ---- handlers ----------------------------------------------------------------------------------------------------

    def _skip(self, _: Any) -> None:
        pass

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _put(self, index: Any) -> None:
        self._memo[int(index)] = self._stack[-1]

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, index: Any) -> None:
        value = self._memo[int(index)]
        if type(value) is _Part:
            value.used = True
        self._stack.append(value)

    def _dup(self, _: Any) -> None:
        if type(self._stack[-1]) is _Part:
            self._stack[-1].used = True
        self._stack.append(self._stack[-1])

    def _pop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._slice()

    def _empty(self, _: Any) -> None:
        self._stack.append(_Part())

    def _tuple(self, _: Any) -> None:
        self._stack.append(self._check(_Part(tuple(self._slice()))))

    def _append(self, _: Any) -> None:
        item = self._stack.pop()
        self._grow([item])

    def _append_many(self, _: Any) -> None:
        self._grow(self._slice())

    def _add(self, _: Any) -> None:
        items = self._slice()
        self._check_keys(items)
        self._grow(items)

    def _set(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._check_keys([key])
        self._grow([key, value])

    def _set_many(self, _: Any) -> None:
        items = self._slice()
        self._check_keys(items[::2])
        self._grow(items)

    def _grow(self, items: list[Any]) -> None:
        container = self._stack[-1]
        if type(container) is not _Part:
            raise ValueError("a pickle adds to a value that is no container")
        if container.used and items:
            # a pickle fills a container before it uses it, unless the container holds itself
            self._refuse("a container holds itself, or grows after it was used")
        container.add(items)
        self._check(container)

    def _check_keys(self, keys: Iterable[Any]) -> None:
        for key in keys:
            if type(key) is _Part and key.weight > _LARGEST_KEY:
                self._refuse(f"a key holds over {_LARGEST_KEY} values")

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        if type(state) is _Part:
            self._check(state).used = True
            if state.items and type(state.items[0]) is _Part and state.items[0].numel >= 0:
                self._view(state.items)  # an early way to write a tensor

    def _global(self, text: Any) -> None:
        module, _, name = str(text).partition(" ")
        self._stack.append(_Part(name=(module, name)))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(_Part(name=(str(module), str(name))))

    def _reduce(self, _: Any) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        self._call(called, arguments.items if type(arguments) is _Part else (arguments,))

    def _reduce_with_keywords(self, _: Any) -> None:
        keywords, arguments, called = self._stack.pop(), self._stack.pop(), self._stack.pop()
        self._call(called, (arguments, keywords))

    def _instance(self, text: Any) -> None:
        module, _, name = str(text).partition(" ")
        self._call(_Part(name=(module, name)), tuple(self._slice()))

    def _object(self, _: Any) -> None:
        called, *arguments = self._slice()
        self._call(called, tuple(arguments))

    def _call(self, called: Any, arguments: tuple[Any, ...]) -> None:
        """Follows a call of what the pickle names; the result counts as its arguments."""
        result = _Part(arguments)
        self._copied += result.weight
        if self._copied > _MOST_VALUES + _PER_OPERATION * self._count:
            self._refuse("its calls copy too many values")
        self._stack.append(self._check(result))
        if type(called) is not _Part or called.name is None:
            return
        module, name = called.name
        plain = any(type(value) is int or (type(value) is _Part and value.items) for value in arguments)
        if module.partition(".")[0] == "torch" and name.endswith(("Tensor", "Storage")) and plain:
            self._refuse(f"it creates a {name} by its size, without values")
        if name == "bytearray" and any(type(value) is int for value in arguments):
            self._refuse("it creates bytes without values")
        if (module, name) == ("_codecs", "encode") and tuple(arguments[1:]) not in {(codec,) for codec in _LATIN}:
            self._refuse("it converts bytes in a way that no checkpoint does")
        if module == "torch._utils" and name in _TENSORS:
            self._view(arguments)

    def _persistent(self, _: Any) -> None:
        """Follows a reference to a storage: `("storage", type, key, location, number of items, ...)`."""
        given = self._stack.pop()
        storage = _Part()
        if type(given) is _Part and len(given.items) >= 5 and type(given.items[4]) is int:
            kind, key, numel = given.items[1], given.items[2], given.items[4]
            storage.numel = max(numel, 0)
            storage.itemsize = _itemsize(kind)
            self._stored += self._growth(key, storage.numel * storage.itemsize)
            if self._stored > self._room:
                self._refuse(f"its storages would need {self._stored:,} bytes")
        self._stack.append(storage)

    def _growth(self, key: Any, size: int) -> int:
        known = self._storages.get((type(key), key), 0)
        self._storages[type(key), key] = max(known, size)
        return max(size - known, 0)

    def _view(self, arguments: tuple[Any, ...]) -> None:
        """Checks a tensor by the arguments that rebuild it: storage, offset, size and strides."""
        storage, offset, size, stride = (*arguments, None, None, None, None)[:4]
        sizes, strides = (part.items if type(part) is _Part else () for part in (size, stride))
        if type(storage) is not _Part or storage.numel < 0 or type(offset) is not int:
            raise ValueError("a tensor has no storage")
        if not all(type(number) is int and number >= 0 for number in (*sizes, *strides, offset)):
            raise ValueError("the size of a tensor is not of numbers")
        numel = 1
        for number in sizes:
            numel *= number
        last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        if numel and last >= storage.numel:
            self._refuse(f"a tensor of size {_shape(sizes)} is larger than its storage")
        self._viewed += numel * storage.itemsize
        if self._viewed > _VIEWS * self._room:
            self._refuse(f"a tensor of size {_shape(sizes)} repeats its values, or many tensors share theirs")


def _shape(sizes: tuple[Any, ...]) -> str:
    return repr(sizes)[:80]


def _itemsize(kind: Any) -> int:
    """Returns the bytes of an item of a storage, of its class: `torch.FloatStorage`."""
    name = kind.name[1] if type(kind) is _Part and kind.name else ""
    return _ITEM_SIZES.get(name.removesuffix("Storage"), _LARGEST_ITEM)


def _by_code(handlers: dict[str, Callable[..., None]]) -> dict[str, Callable[..., None]]:
    return {opcode.code: handlers[opcode.name] for opcode in pickletools.opcodes if opcode.name in handlers}


_HANDLERS = _by_code(
    {
        **dict.fromkeys(("PROTO", "FRAME", "STOP", "READONLY_BUFFER"), PickleScale._skip),
        "MARK": PickleScale._mark,
        **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), PickleScale._put),
        "MEMOIZE": PickleScale._memoize,
        **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), PickleScale._get),
        "DUP": PickleScale._dup,
        "POP": PickleScale._pop,
        "POP_MARK": PickleScale._pop_mark,
        **dict.fromkeys(("EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT", "EMPTY_SET"), PickleScale._empty),
        "TUPLE": PickleScale._tuple,
        "APPEND": PickleScale._append,
        "APPENDS": PickleScale._append_many,
        "ADDITEMS": PickleScale._add,
        "SETITEM": PickleScale._set,
        "SETITEMS": PickleScale._set_many,
        "BUILD": PickleScale._build,
        "GLOBAL": PickleScale._global,
        "STACK_GLOBAL": PickleScale._stack_global,
        **dict.fromkeys(("REDUCE", "NEWOBJ"), PickleScale._reduce),
        "NEWOBJ_EX": PickleScale._reduce_with_keywords,
        "INST": PickleScale._instance,
        "OBJ": PickleScale._object,
        "BINPERSID": PickleScale._persistent,
        "PERSID": PickleScale._empty,
    }
)
