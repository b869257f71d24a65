"""Overlap of a localizer's networks with networks of a decomposition, which should come from other texts.

Under the null, members are drawn at random with the observed number of members of both networks in every layer; its
distribution is exact.
"""

import warnings

import numpy as np
import pandas as pd
from scipy import stats

from lmri.exceptions import DataWarning
from lmri.networks import NetworkSet
from lmri.networks.thresholds import q_values
from lmri.space import NeuronSpace

OVERLAP_COLUMNS = ("first", "second", "n_first", "n_second", "n_both", "n_expected", "iou", "dice", "p", "q")


def overlap_p(space: NeuronSpace, ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Compute the expected overlap of two random sets with these layer profiles, and the p of the observed overlap.

    In a layer of N neurons, the overlap of sets of size a and b is hypergeometric; layers are independent, so the sum
    has the convolved distribution. It is the limit of infinitely many permutations within layers.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space.
    ours, theirs : ndarray of bool, shape (n_neurons,)
        Members of the two sets.

    Returns
    -------
    expected, p : float
        Mean of the null, and one-sided probability of at least the observed overlap. p is missing if a set is empty.
    """
    n_ours, n_theirs = space.count_per_layer(ours), space.count_per_layer(theirs)
    expected = float((n_ours * n_theirs / np.array(space.widths)).sum())
    if not n_ours.sum() or not n_theirs.sum():
        return expected, np.nan
    chance = np.ones(1)
    for width, a, b in zip(space.widths, n_ours, n_theirs, strict=True):
        chance = np.convolve(chance, stats.hypergeom.pmf(np.arange(min(a, b) + 1), width, a, b))
    # Summed from the smallest terms, to limit rounding errors.
    return expected, float(min(1.0, chance[::-1][: len(chance) - int((ours & theirs).sum())].sum()))


def overlap_table(first: NetworkSet, second: NetworkSet) -> pd.DataFrame:
    """Compare the members of every network of one set with those of every network of another.

    A small p means that the overlap exceeds chance given the layer profiles. Neurons with large activity in any text
    are selected by contrasts and decompositions alike; p does not account for them.

    Parameters
    ----------
    first, second : NetworkSet
        Thresholded networks over spaces of the same geometry, such as a localizer's, and those from an ICA of other
        texts.

    Returns
    -------
    DataFrame
        Comparison, one row per pair: ``first, second, n_first, n_second, n_both, n_expected, iou, dice, p, q``. IoU and
        Dice are missing if both networks are empty, p if any is; q is p adjusted for the false discovery rate over the
        table.

    Raises
    ------
    SpaceMismatchError
        If the spaces differ.
    NotThresholdedError
        If either set is not thresholded.

    Warns
    -----
    DataWarning
        If both sets were estimated from some of the same texts, whose noise they share.
    """
    first.space.check_same(second.space, f"The network set {second.method!r}")
    if shared := first.fit_texts & second.fit_texts:
        warnings.warn(
            f"{first.method!r} and {second.method!r} were estimated from {len(shared)} of the same texts, so their "
            "overlap is biased by properties of these texts. Use networks from other texts: decompose other corpora "
            "(lmri decompose STUDY --corpus OTHER).",
            DataWarning,
            stacklevel=2,
        )
    rows = []
    for name, ours in zip(first.names, first.members, strict=True):
        for other, theirs in zip(second.names, second.members, strict=True):
            n_first, n_second, n_both = int(ours.sum()), int(theirs.sum()), int((ours & theirs).sum())
            total = n_first + n_second
            expected, p = overlap_p(first.space, ours, theirs)
            iou, dice = (n_both / (total - n_both), 2 * n_both / total) if total else (np.nan, np.nan)
            rows.append((name, other, n_first, n_second, n_both, expected, iou, dice, p, np.nan))
    table = pd.DataFrame(rows, columns=list(OVERLAP_COLUMNS))
    return table.assign(q=q_values(table["p"].to_numpy(dtype=float)))
