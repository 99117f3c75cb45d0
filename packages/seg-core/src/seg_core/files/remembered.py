"""Files that are read once, by threads, and remembered across runs."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

from seg_core.files.scan_cache import (
    ChannelMoments,
    FileKey,
    HeaderSummary,
    ImageSummary,
    MaskSummary,
    Table,
    file_key,
    recall,
    remember,
)

__all__ = ["RememberedFiles"]

_Summary = TypeVar("_Summary", bound=MaskSummary | ImageSummary | HeaderSummary | ChannelMoments)

_MOST_THREADS = 16
_SAVED_AT_ONCE = 2000  # files; a scan that is interrupted keeps those before


class RememberedFiles(Generic[_Summary]):
    """Files of one kind, and what the cache knows of them.

    Args:
        table: the kind of files.
        files: path of each file, and the name of the function that reads it; None if it must not be remembered.

    Attributes:
        known: index -> what the cache knows of the file as it is now.
    """

    def __init__(self, table: Table[_Summary], files: Sequence[tuple[Path, str | None]]) -> None:
        self._table = table
        self._readers = [reader or "" for _, reader in files]
        self._keys: dict[int, FileKey] = {}
        for index, (path, reader) in enumerate(files):
            key = None if reader is None else file_key(path)
            if key is not None:
                self._keys[index] = key
        self.known: dict[int, _Summary] = {}
        for reader, indices in self._by_reader(self._keys).items():
            found = recall(table, reader, [self._keys[index] for index in indices])
            self.known |= {index: found[self._keys[index]] for index in indices if self._keys[index] in found}

    def read(self, indices: Sequence[int], summarize: Callable[[int], _Summary]) -> Iterator[_Summary]:
        """Yields what files hold, in this order, and remembers it.

        Args:
            indices: the files.
            summarize: reads the file of an index; threads call it.

        Raises:
            UserError: what `summarize` raises; of several the first. What was read before is remembered.
        """
        # threads are enough: decoding, most of the work, runs without Python's lock
        with ThreadPoolExecutor(min(_num_cpus(), _MOST_THREADS)) as threads:
            for start in range(0, len(indices), _SAVED_AT_ONCE):
                chunk = indices[start : start + _SAVED_AT_ONCE]
                pending = [threads.submit(summarize, index) for index in chunk]
                done: dict[int, _Summary] = {}
                try:
                    for index, task in zip(chunk, pending, strict=True):
                        done[index] = task.result()
                        yield done[index]
                finally:
                    for task in pending:
                        task.cancel()
                    self._remember(done)

    def _remember(self, done: Mapping[int, _Summary]) -> None:
        for reader, indices in self._by_reader(done.keys() & self._keys.keys()).items():
            remember(self._table, reader, [(self._keys[index], done[index]) for index in indices])

    def _by_reader(self, indices: Iterable[int]) -> Mapping[str, list[int]]:
        groups: dict[str, list[int]] = defaultdict(list)
        for index in indices:
            groups[self._readers[index]].append(index)
        return groups


def _num_cpus() -> int:
    # those of this process, which a container or a job may have restricted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
