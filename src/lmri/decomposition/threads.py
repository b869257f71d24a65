"""Limits on the number of BLAS threads during a decomposition.

numpy and scipy each bundle a BLAS with its own thread pool. If they are used in turn, idle threads of one pool spin on
the cores that the other pool needs, and computation takes three times as long. On small matrices, additional threads
only wait for each other.

Limits apply to the process, not to the Python thread that sets them. Two limits that overlap in time, and each restore
the previous state, may leave a limit in place permanently, which changes the last bits of later results. Therefore
active limits are counted.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_callers = {"thread": 0, "other pool": 0, "pool": 0}
_before: list[tuple[Any, bool, int]] = []  # (library, whether it is numpy's, threads it had)


def n_threads() -> int:
    """Return the number of threads that numpy's BLAS may currently use."""
    libraries = [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]
    numpys = [library for library in libraries if _is_numpys(library.filepath)] or libraries
    return max((library.get_num_threads() or 1 for library in numpys), default=1)


def one_thread() -> AbstractContextManager[None]:
    """Limit every BLAS to one thread while any caller is inside the context."""
    return _limited("thread")


def one_pool() -> AbstractContextManager[None]:
    """Limit every BLAS except numpy's to one thread while any caller is inside; a shared BLAS is not limited."""
    return _limited("pool")


def other_pool() -> AbstractContextManager[None]:
    """Limit only numpy's BLAS to one thread while any caller is inside, for long computations by scipy's."""
    return _limited("other pool")


@contextmanager
def _limited(kind: str) -> Iterator[None]:
    """Count one caller of a kind of limit while inside the context."""
    _count(kind, 1)
    try:
        yield
    finally:
        _count(kind, -1)


def _count(kind: str, change: int) -> None:
    """Change the number of callers of a kind of limit, and set the number of threads of each library."""
    with _lock:
        if not any(_callers.values()):
            libraries = [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]
            _before[:] = [(library, _is_numpys(library.filepath), library.get_num_threads()) for library in libraries]
        _callers[kind] += change
        several = len({is_numpys for _, is_numpys, _ in _before}) > 1
        for library, is_numpys, n_threads in _before:
            if _callers["other pool"]:
                held = several and is_numpys
            else:
                held = several and bool(_callers["pool"]) and not is_numpys
            library.set_num_threads(1 if held or _callers["thread"] else n_threads)


def _is_numpys(filepath: str) -> bool:
    """Return whether a BLAS is bundled with numpy."""
    return not {"numpy", "numpy.libs"}.isdisjoint(Path(filepath).parts)
