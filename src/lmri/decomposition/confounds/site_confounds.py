"""Confounds that depend on the site."""

import itertools

import numpy as np

MASSIVE = (100.0, 1000.0)
"""Smallest absolute value of a massive activation, and its smallest ratio to the median absolute value of its layer at
the same token [1]_.

References
----------
.. [1] Sun et al. (2024). Massive activations in large language models. COLM.
"""


def global_signal(array: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Compute the mean activity of all neurons at every volume."""
    return array.mean(axis=1, dtype=np.float64)


def massive_activation(array: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Flag the volumes at which a neuron has a massive activation."""
    least, times = MASSIVE
    massive = np.zeros(len(array), dtype=bool)
    for first, last in itertools.pairwise(offsets):
        if last == first:
            continue
        size = np.abs(array[:, first:last])
        largest = size.max(axis=1)
        rows = np.flatnonzero(largest > least)  # medians are slow, and few volumes need one
        for row in rows:
            # Neurons behind a ReLU, or of experts that were not selected, are mostly 0.
            massive[row] |= largest[row] >= times * np.median(size[row][size[row] > 0])
    return massive.astype(np.int64)
