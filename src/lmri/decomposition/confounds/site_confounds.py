"""Confounds that depend on where neurons were read."""

import itertools

import numpy as np

MASSIVE = (100.0, 1000.0)
"""Least size of a massive activation, and how many times it is the median size of its layer at that token [1]_.

References
----------
.. [1] Sun et al. (2024). Massive activations in large language models. COLM.
"""


def global_signal(array: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Average the activity of all neurons at every volume."""
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
        rows = np.flatnonzero(largest > least)  # medians take long, and hardly any volume needs one
        for row in rows:
            # Units of a ReLU, or of experts that were not chosen, are 0 for the most part.
            massive[row] |= largest[row] >= times * np.median(size[row][size[row] > 0])
    return massive.astype(np.int64)
