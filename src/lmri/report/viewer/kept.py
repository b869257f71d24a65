"""Cache of values that were read from files, valid until the files change."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

Read = TypeVar("Read")

Stamp = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """Return the state of a file (modification time, size, inode); None if it does not exist."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class Kept:
    """Thread-safe cache of the values that were read last.

    Parameters
    ----------
    most : int
        Maximum number of values; the least recently used value is dropped first.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._values: OrderedDict[Hashable, tuple[list[Stamp], Any]] = OrderedDict()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, files: Iterable[Path], read: Callable[[], Read]) -> Read:
        """Return the cached value if none of `files` has changed since, else read it.

        Concurrent requests for the same key wait for one read; requests for other keys do not wait.
        """
        with self._lock:
            key_lock = self._locks.setdefault(key, threading.Lock())
        with key_lock:
            # Taken before reading, so that a file that changes meanwhile is read again next time.
            stamps = [stamp(path) for path in files]
            with self._lock:
                if key in self._values and self._values[key][0] == stamps:
                    self._values.move_to_end(key)
                    known: Read = self._values[key][1]
                    return known
            value = read()
            with self._lock:
                self._values[key] = (stamps, value)
                self._values.move_to_end(key)
                while len(self._values) > self.most:
                    dropped, _ = self._values.popitem(last=False)
                    self._locks.pop(dropped, None)
            return value
