"""How a localizer's networks overlap with those that a decomposition found, in other texts if the answer is to count.

The null keeps how many members each of the two has in every layer, and draws which ones; its distribution is exact.
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
    """Compute how many members two random sets with these layer profiles share, and the chance of as many as here.

    In a layer of N neurons, sets of a and b share a hypergeometric number; layers are independent, so that their sum
    has the convolved distribution. It is what infinitely many permutations within layers would give.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    ours, theirs : ndarray of bool, shape (n_neurons,)
        Members.

    Returns
    -------
    expected, p : float
        Mean of the null, and one-sided P(at least as many shared). p is missing if either set is empty.
    """
    n_ours, n_theirs = space.count_per_layer(ours), space.count_per_layer(theirs)
    expected = float((n_ours * n_theirs / np.array(space.widths)).sum())
    if not n_ours.sum() or not n_theirs.sum():
        return expected, np.nan
    chance = np.ones(1)
    for width, a, b in zip(space.widths, n_ours, n_theirs, strict=True):
        chance = np.convolve(chance, stats.hypergeom.pmf(np.arange(min(a, b) + 1), width, a, b))
    # Summed from the small end, where rounding does not hide it.
    return expected, float(min(1.0, chance[::-1][: len(chance) - int((ours & theirs).sum())].sum()))


def overlap_table(first: NetworkSet, second: NetworkSet) -> pd.DataFrame:
    """Compare the members of every network of one set with those of every network of another.

    A small p says that both know the same neurons beyond what their layers explain. Neurons that are loud in any text
    are found by contrasts and decompositions alike; p does not know of them.

    Parameters
    ----------
    first, second : NetworkSet
        Thresholded, over spaces of the same geometry; such as a localizer's, and those of an ICA of other texts.

    Returns
    -------
    DataFrame
        A row a pair: ``first, second, n_first, n_second, n_both, n_expected, iou, dice, p, q``. IoU and Dice are
        missing for two empty networks, p for any; q is p adjusted for the false discovery rate over the table.

    Raises
    ------
    SpaceMismatchError
        If the spaces differ.
    NotThresholdedError
        If either set has no members yet.

    Warns
    -----
    DataWarning
        If both were found in the same texts: then they share noise, too.
    """
    first.space.check_same(second.space, f"The network set {second.method!r}")
    if shared := first.fit_texts & second.fit_texts:
        warnings.warn(
            f"{first.method!r} and {second.method!r} were found in {len(shared)} of the same texts, so that they share "
            "what is peculiar to these. An overlap counts if the networks come from other texts: decompose other "
            "corpora (lmri decompose STUDY --corpus OTHER).",
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
