"""What was read, for as long as the files that it was read from stay as they are."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

Read = TypeVar("Read")

Stamp = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """Say in which state a file is: when it was written, how long it is and which it is; None if it is not there."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Kept:
    """A memory of the last things that were read, for threads that ask at the same time.

    Parameters
    ----------
    most : int
        How many are kept; the one that was not asked for longest goes first.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._found: OrderedDict[Hashable, tuple[list[Stamp], Any]] = OrderedDict()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, files: Iterable[Path], read: Callable[[], Read]) -> Read:
        """Give what was read before if none of `files` has changed since, else read.

        Who asks for the same thing meanwhile waits for it; who asks for another does not.
        """
        with self._lock:
            own = self._locks.setdefault(key, threading.Lock())
        with own:
            # Before reading: what is changed while it is read is read once more next time.
            stamps = [stamp(path) for path in files]
            with self._lock:
                if key in self._found and self._found[key][0] == stamps:
                    self._found.move_to_end(key)
                    known: Read = self._found[key][1]
                    return known
            found = read()
            with self._lock:
                self._found[key] = (stamps, found)
                self._found.move_to_end(key)
                while len(self._found) > self.most:
                    dropped, _ = self._found.popitem(last=False)
                    self._locks.pop(dropped, None)
            return found
