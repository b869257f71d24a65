"""Checks of a fit: number of components, number of samples, convergence."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning

from lmri.exceptions import DataWarning


def check_n_components(n_components: Any, can_be_auto: bool) -> None:
    """Raise an error unless the number of components is a positive integer, or ``"auto"`` where it is accepted."""
    if can_be_auto and n_components == "auto":
        return
    if not isinstance(n_components, int | np.integer) or isinstance(n_components, bool) or n_components < 1:
        raise ValueError(
            f"n_components is {n_components!r}; it must be an integer of at least 1{', or auto' * can_be_auto}."
        )


def check_components(n_volumes: Sequence[int], n_components: int, n_neurons: int) -> None:
    """Raise an error if a run has too few volumes: a centred run of ``T`` volumes allows ``T - 1`` components.

    nilearn would silently return fewer components.
    """
    if n_components > n_neurons - 1:
        raise ValueError(
            f"n_components is {n_components}, but there are {n_neurons} neurons, which allows at most {n_neurons - 1}. "
            "Choose fewer components."
        )
    shortest = min(n_volumes)
    if n_components > shortest - 1:
        run = list(n_volumes).index(shortest) + 1
        where = f"run {run}, the shortest, has" if len(n_volumes) > 1 else "there are"
        raise ValueError(
            f"n_components is {n_components}, but {where} {shortest} volumes, which allows at most {shortest - 1}. "
            "Choose fewer components, or record longer runs (more texts, a larger run_tokens)."
        )


def warn_of_overlearning(n_samples: int, n_components: int, what: str) -> None:
    """Warn if there are fewer samples than squared components."""
    if n_samples < n_components**2:
        warnings.warn(
            f"{n_samples} {what} for {n_components} components are fewer than n_components² = {n_components**2}. "
            "ICA overlearns and finds spikes even in noise. Record more, or choose fewer components.",
            DataWarning,
            stacklevel=4,
        )


@contextmanager
def counted_non_convergence() -> Iterator[list[int]]:
    """Count scikit-learn's convergence warnings instead of showing them; other warnings are passed on."""
    counter = [0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield counter
    for warning in caught:
        if issubclass(warning.category, SklearnConvergenceWarning):
            counter[0] += 1
        elif not issubclass(warning.category, DeprecationWarning | FutureWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
