"""Eigenvectors by LAPACK without Python's global lock.

scipy's own wrappers hold Python's lock while LAPACK computes, so that threads wait for each other. Here the same
routines of the same library are called by the addresses that scipy exports for Cython, without the lock.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import cython_lapack

# Separate prototypes, because those in ctypes.pythonapi are shared by the whole process.
_python = ("PyCapsule_GetPointer", ctypes.pythonapi), ("PyCapsule_GetName", ctypes.pythonapi)
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(_python[0])
_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(_python[1])


def tridiagonal_eigen(squares: np.ndarray, n_vectors: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Compute all eigenvalues of a symmetric matrix, and the leading eigenvectors, through its tridiagonal form.

    Parameters
    ----------
    squares : ndarray of shape (n, n)
        Symmetric matrix, float64, finite.
    n_vectors : int
        Number of vectors, from 1 to n.

    Returns
    -------
    values : ndarray of shape (n,)
        All eigenvalues, largest last.
    vectors : ndarray of shape (n, n_vectors)
        Eigenvectors of the last values, in their order, by inverse iteration; not orthogonal if values are equal.
    None
        If a routine failed, or the library uses 64-bit integers.
    """
    n = len(squares)
    if b"int64" in _name_of(cython_lapack.__pyx_capi__["dsytrd"]):
        return None
    size = 64 * n
    # dsytrd stores the reflectors for the back-transformation below the first subdiagonal of `form`.
    form = np.array(squares, dtype=np.float64, order="F")
    diagonal, off, turns, work = np.empty(n), np.empty(max(n - 1, 1)), np.empty(max(n - 1, 1)), np.empty(size)
    if _call("dsytrd", b"L", n, form, n, diagonal, off, turns, work, size):
        return None
    values = diagonal.copy()
    if _call("dsterf", n, values, off.copy()):
        return None
    leading = values[n - n_vectors :].copy()
    if not np.isfinite(leading).all():
        return None
    block, split = np.ones(n, dtype=np.intc), np.zeros(n, dtype=np.intc)
    split[0] = n
    vectors = np.zeros((n, n_vectors), order="F")
    places, unfinished = np.empty(n, dtype=np.intc), np.empty(n_vectors, dtype=np.intc)
    if _call("dstein", n, diagonal, off, n_vectors, leading, block, split, vectors, n, work, places, unfinished):
        return None
    if n > 1 and _call("dormqr", b"L", b"N", n - 1, n_vectors, n - 1, form[1:], n, turns, vectors[1:], n, work, size):
        return None
    return values, vectors


def _call(name: str, *arguments: Any) -> int:
    """Call a routine and return its status, 0 on success."""
    status = ctypes.c_int(0)
    _routine(name, len(arguments) + 1)(*(_reference(argument) for argument in arguments), ctypes.byref(status))
    return status.value


def _reference(value: Any) -> object:
    """Convert a value to a pointer argument."""
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.byref(ctypes.c_int(value))


def _routine(name: str, n_arguments: int) -> Callable[..., None]:
    """Return a LAPACK routine as a ctypes function."""
    capsule = cython_lapack.__pyx_capi__[name]
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)
    return kind(_pointer_of(capsule, _name_of(capsule)))
