"""One BLAS thread for matrices so small that more would only wait for each other."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_lock = threading.Lock()
_inside: int = 0
_limits: threadpool_limits | None = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold the process to one BLAS thread while any caller is inside.

    The limit belongs to the process. Two callers in two Python threads that each set and restore it may leave it set
    for good, and what is computed next then differs in its last bits: so the first one in sets it and the last one out
    restores it.

    Yields
    ------
    None
        While the limit holds.
    """
    global _inside, _limits
    with _lock:
        if _inside == 0:
            _limits = threadpool_limits(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _limits is not None:
                _limits.restore_original_limits()
                _limits = None
