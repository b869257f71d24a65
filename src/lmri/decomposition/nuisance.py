"""Nuisance regressors, which are regressed out of every run before an analysis."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

_BLOCK = 4096  # neurons in float64 at once
_ALIKE = 1e-8  # share of the largest singular value below which regressors add nothing


@dataclass(frozen=True, eq=False)
class Nuisance:
    """Nuisance regressors of every run, unchanged.

    Parameters
    ----------
    runs : list of ndarray of shape (n_volumes, n_confounds)
        Regressors, one array per run, finite, float64.
    names : tuple of str
        Names of the regressors, if they were tables.
    """

    runs: list[np.ndarray]
    names: tuple[str, ...] = ()

    @classmethod
    def read(cls, confounds: Sequence[Any]) -> "Nuisance":
        """Read arrays or tables, one per run; `checked` compares them with the images."""
        tables = [table_of_run for table_of_run in confounds if isinstance(table_of_run, pd.DataFrame)]
        names = tuple(map(str, tables[0].columns)) if tables else ()
        if tables and any(tuple(map(str, table.columns)) != names for table in tables):
            raise ValueError("The confounds have other columns in some runs. Pass the same columns for every run.")
        runs = [np.asarray(table_of_run, dtype=np.float64) for table_of_run in confounds]
        return cls([run[:, None] if run.ndim == 1 else run for run in runs], names)

    def checked(self, lengths: Sequence[int]) -> "Nuisance":
        """Return the regressors; raise an error if they do not match runs of these lengths, or are not finite."""
        if len(self.runs) != len(lengths):
            raise ValueError(f"There are {len(self.runs)} confounds for {len(lengths)} runs. Pass one array per run.")
        for number, (array, length) in enumerate(zip(self.runs, lengths, strict=True), start=1):
            if array.ndim != 2 or len(array) != length:
                raise ValueError(
                    f"The confounds of run {number} have shape {array.shape}; accepted is ({length}, n_confounds), "
                    "with one row per volume."
                )
            if not np.isfinite(array).all():
                raise ValueError(
                    f"The confounds of run {number} contain NaN or infinity. Fill or drop these columns first."
                )
        return self

    @property
    def digest(self) -> str:
        """Hash of all values."""
        return hashlib.sha256(
            b"".join(np.ascontiguousarray(table_of_run).tobytes() for table_of_run in self.runs)
        ).hexdigest()[:16]


def basis(confounds: np.ndarray | pd.DataFrame) -> np.ndarray:
    """Compute an orthonormal basis of centred regressors, ``(n_volumes, rank)``; constant ones are left out.

    Each regressor is scaled first, so that one in small units is not mistaken for rounding error.
    """
    array = np.asarray(confounds, dtype=np.float64)
    centred = array - array.mean(axis=0)
    size = np.linalg.norm(centred, axis=0)
    varies = size > 1e-12 * np.sqrt(len(array)) * np.abs(array).max(axis=0, initial=0)
    left, values, _ = np.linalg.svd(centred[:, varies] / size[varies], full_matrices=False)
    return np.asarray(left[:, values > _ALIKE * values.max(initial=0)])


def without(array: np.ndarray, confounds: np.ndarray) -> np.ndarray:
    """Regress centred confounds out of one run, ``(n_volumes, n_neurons)``, by least squares; float32."""
    Q = basis(confounds)
    out = np.array(array, dtype=np.float32)
    if not Q.shape[1]:
        return out
    for first in range(0, out.shape[1], _BLOCK):
        block = out[:, first : first + _BLOCK].astype(np.float64)
        out[:, first : first + _BLOCK] = block - Q @ (Q.T @ block)
    return out
