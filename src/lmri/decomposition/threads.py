"""How many threads BLAS may use while a decomposition is being found.

numpy and scipy each bring a BLAS with threads of its own. Where both are busy by turns, the threads of one wait,
spinning, on the cores that the other needs, and everything takes three times as long. And on small matrices more
threads than one only wait for each other.

Limits belong to the process, not to the Python thread that asks for them. Two that overlap in time and restore what
they found may leave a limit in place for good, and what is computed next then differs in its last bits: so they are
counted.
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
    """Count the threads that numpy's BLAS may use now."""
    libraries = [one for one in ThreadpoolController().lib_controllers if one.user_api == "blas"]
    numpys = [one for one in libraries if _is_numpys(one.filepath)] or libraries
    return max((one.get_num_threads() or 1 for one in numpys), default=1)


def one_thread() -> AbstractContextManager[None]:
    """Hold every BLAS to one thread while any caller is inside."""
    return _limited("thread")


def one_pool() -> AbstractContextManager[None]:
    """Hold every BLAS but numpy's to one thread while any caller is inside; one that both share is left as it is."""
    return _limited("pool")


def other_pool() -> AbstractContextManager[None]:
    """Hold numpy's BLAS to one thread while any caller is inside, and no other: scipy's has long work to do."""
    return _limited("other pool")


@contextmanager
def _limited(kind: str) -> Iterator[None]:
    _count(kind, 1)
    try:
        yield
    finally:
        _count(kind, -1)


def _count(kind: str, change: int) -> None:
    with _lock:
        if not any(_callers.values()):
            libraries = [one for one in ThreadpoolController().lib_controllers if one.user_api == "blas"]
            _before[:] = [(one, _is_numpys(one.filepath), one.get_num_threads()) for one in libraries]
        _callers[kind] += change
        several = len({is_numpys for _, is_numpys, _ in _before}) > 1
        for library, is_numpys, n_threads in _before:
            if _callers["other pool"]:
                held = several and is_numpys
            else:
                held = several and bool(_callers["pool"]) and not is_numpys
            library.set_num_threads(1 if held or _callers["thread"] else n_threads)


def _is_numpys(filepath: str) -> bool:
    return not {"numpy", "numpy.libs"}.isdisjoint(Path(filepath).parts)
