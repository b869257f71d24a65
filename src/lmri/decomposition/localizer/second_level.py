"""Second level: tests over texts or runs, never over tokens.

In permutation tests, p is corrected by the largest t over all neurons; p from nilearn's `SecondLevelModel` is
uncorrected.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lmri.decomposition.individuals.t_statistics import one_sample_t
from lmri.decomposition.localizer.contrast import Contrast
from lmri.decomposition.localizer.permutation import arrangements, contrast_t, n_same, without_contrast
from lmri.networks.thresholds import q_values
from lmri.space import NeuronSpace

TESTS = ("max_t", "parametric")
TAILS = ("two", "positive", "negative")
ALPHA = 0.05

_BLOCK = 50  # relabellings at once


@dataclass(frozen=True, eq=False)
class SecondLevel:
    """Test of one contrast at every neuron.

    Parameters
    ----------
    effect : ndarray of shape (n_neurons,)
        Contrast of means, in units of the data.
    t : ndarray of shape (n_neurons,)
        Ratio of the effect to its standard error over units.
    kind : {"max_t", "parametric"}
        Kind of test: permutation or parametric.
    n_units : int
        Number of texts or runs.
    df : float
        Degrees of freedom, only of the parametric test.
    extremes : ndarray of shape (n_permutations, 2)
        Smallest and largest t over neurons for every relabelling.
    exact : bool
        Whether all relabellings were used.
    shares : dict
        Share of relabellings that are equivalent to the observed one, by tail.
    """

    effect: np.ndarray
    t: np.ndarray
    kind: str
    n_units: int
    df: float = math.nan
    extremes: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    exact: bool = False
    shares: dict[str, float] = field(default_factory=dict)

    def p(self, tail: str = "two") -> np.ndarray:
        """Compute p of every neuron, ``(n_neurons,)``: corrected over neurons for ``max_t``, otherwise uncorrected."""
        check_tail(tail)
        size = {"two": np.abs(self.t), "positive": self.t, "negative": -self.t}[tail]
        if self.kind == "parametric":
            p = (2 if tail == "two" else 1) * stats.t.sf(size, self.df)
            # Constant neurons were not tested.
            return np.asarray(np.where(self.t == 0, 1.0, p))
        largest = {
            "two": np.abs(self.extremes).max(axis=1),
            "positive": self.extremes[:, 1],
            "negative": -self.extremes[:, 0],
        }[tail]
        # t of the same relabelling may differ in the last bit; the relabellings include the observed one.
        reached = len(largest) - np.searchsorted(np.sort(largest), size - 1e-9 * np.abs(size))
        p = reached / len(largest) if self.exact else (reached + 1) / (len(largest) + 1)
        return np.asarray(np.where(self.t == 0, 1.0, p))

    def p_floor(self, tail: str = "two") -> float:
        """Compute the smallest possible p; 0 for the parametric test, which has no minimum."""
        check_tail(tail)
        if self.kind == "parametric":
            return 0.0
        share = self.shares[tail]
        return share if self.exact else max(share, 1 / (len(self.extremes) + 1))

    def members(self, alpha: float = ALPHA, tail: str = "two") -> np.ndarray:
        """Return the significant neurons: at familywise error `alpha` for ``max_t``, FDR `alpha` for ``parametric``.

        Raises
        ------
        ValueError
            If `alpha` is below the smallest possible p, so that no neuron could be significant.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}; it must be between 0 and 1.")
        floor = self.p_floor(tail)
        if floor > alpha:
            raise ValueError(
                f"With {self.n_units} units and {len(self.extremes)} permutations the smallest possible p is "
                f"{floor:.3g}, above alpha = {alpha:g}, so no neuron could be significant. Use more texts (within "
                "texts: shorter runs, or texts as units, unit='text', --unit text), more permutations, or "
                "test='parametric'."
            )
        p = self.p(tail)
        return np.asarray((q_values(p) if self.kind == "parametric" else p) <= alpha) & (self.t != 0)

    def describe(self, tail: str = "two") -> str:
        """Describe the error rate that the threshold controls, and the permutations."""
        side = {"two": "two-sided", "positive": "one-sided, positive", "negative": "one-sided, negative"}[tail]
        if self.kind == "parametric":
            return f"{side} FDR over neurons; p from t over {self.n_units} units (nilearn's second level)"
        how = "all" if self.exact else len(self.extremes)
        return f"{side} familywise error over neurons, by the largest t of {how} relabellings of {self.n_units} units"


def check_tail(tail: str) -> None:
    """Raise an error for an unknown tail."""
    if tail not in TAILS:
        raise ValueError(f"tail is {tail!r}; choose from {', '.join(map(repr, TAILS))}.")


def between_texts(
    means: np.ndarray,
    labels: Sequence[str],
    contrast: Contrast,
    kind: str = "max_t",
    n_permutations: int = 1000,
    seed: int = 0,
    space: NeuronSpace | None = None,
) -> SecondLevel:
    """Test a contrast between texts, each of which is in one condition.

    In a permutation test, labels of texts are exchanged. With two conditions t is Welch's; with more, weighted means
    and their variances are combined in the same way, so that conditions may differ in spread and in number [1]_. With
    more than two, conditions may differ although the contrast is 0; such differences are regressed out before labels
    are exchanged [2]_. Otherwise t of all neurons with these differences would vary together across relabellings, and
    the largest t over neurons would be distributed as for a single neuron.

    Parameters
    ----------
    means : ndarray of shape (n_texts, n_neurons)
        Mean activity, one row per text.
    labels : sequence of str, length n_texts
        Condition of every text, all of them in the contrast.
    contrast : Contrast
        Weights of the conditions.
    kind : {"max_t", "parametric"}, default="max_t"
        Permutation of labels, or nilearn's `SecondLevelModel` with one column per condition and a common variance.
    n_permutations : int, default=1000
        Number of permutations. If there are at most as many distinct relabellings, all are used and p is exact.
    seed : int, default=0
        Random seed of the permutations.
    space : NeuronSpace, optional
        Neuron space; required for ``"parametric"``, because nilearn expects images.

    Returns
    -------
    SecondLevel
        Effect, t, and p by `SecondLevel.p`.

    Raises
    ------
    ValueError
        If a condition has fewer than 2 texts, or values are not finite.

    References
    ----------
    .. [1] Chung & Romano (2013). Exact and asymptotically robust permutation tests. Annals of Statistics, 41.
    .. [2] Freedman & Lane (1983). A nonstochastic interpretation of reported significance levels. Journal of Business &
       Economic Statistics, 1, 292–298.
    """
    Y = _checked(means, kind, n_permutations)
    codes = np.array([contrast.conditions.index(label) for label in labels])
    counts = np.bincount(codes, minlength=len(contrast.conditions))
    if counts.min() < 2:
        few = ", ".join(f"{name!r} {count}" for name, count in zip(contrast.conditions, counts, strict=True))
        raise ValueError(f"Texts per condition: {few}; each needs at least 2. Record more, or leave the condition out.")
    group = np.stack([Y[codes == code].mean(axis=0) for code in range(len(counts))])
    effect = np.array(contrast.values) @ group
    if kind == "parametric":
        design = pd.DataFrame({name: codes == code for code, name in enumerate(contrast.conditions)}, dtype=float)
        return _parametric(Y, design, np.array(contrast.values), effect, space)
    residuals = Y - without_contrast(Y, codes, contrast.values)

    def statistic(relabelled: np.ndarray) -> np.ndarray:
        return contrast_t(residuals, relabelled, contrast.values)

    n_distinct = math.factorial(len(codes)) // math.prod(math.factorial(int(count)) for count in counts)
    exact = n_distinct <= n_permutations
    if exact:
        relabelled = np.array(list(arrangements(counts.tolist())))
    else:
        relabelled = np.random.default_rng(seed).permuted(np.tile(codes, (n_permutations, 1)), axis=1)
    same = {tail: n_same(counts.tolist(), contrast.values, tail) / n_distinct for tail in TAILS}
    return _by_permutation(effect, statistic, codes[None], relabelled, exact, same)


def within_units(
    effects: np.ndarray,
    kind: str = "max_t",
    n_permutations: int = 1000,
    seed: int = 0,
    space: NeuronSpace | None = None,
) -> SecondLevel:
    """Test effects of a contrast within runs (or texts) against 0, by flipping the signs of whole runs.

    Parameters
    ----------
    effects : ndarray of shape (n_units, n_neurons)
        First-level effects, not z.
    kind, n_permutations, seed, space
        Parameters of `between_texts`, with sign flips instead of relabellings, and the mean instead of the contrast.

    Returns
    -------
    SecondLevel
        Effect, t, and p by `SecondLevel.p`.

    Raises
    ------
    ValueError
        If there are fewer than 2 units, or values are not finite.
    """
    Y = _checked(effects, kind, n_permutations)
    n = len(Y)
    if n < 2:
        raise ValueError(f"There is {n} unit with all conditions. A test needs more, at least 6 for p = 0.05.")
    effect = Y.mean(axis=0)
    if kind == "parametric":
        return _parametric(Y, pd.DataFrame({"mean": np.ones(n)}), np.ones(1), effect, space)
    exact = 2**n <= n_permutations
    if exact:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
    else:
        signs = np.random.default_rng(seed).choice((1.0, -1.0), size=(n_permutations, n))
    same = {tail: (2 if tail == "two" else 1) / 2**n for tail in TAILS}
    return _by_permutation(effect, lambda flips: one_sample_t(Y, flips), np.ones((1, n)), signs, exact, same)


def _checked(values: np.ndarray, kind: str, n_permutations: int) -> np.ndarray:
    """Return values as float64; raise an error for invalid values or options."""
    if kind not in TESTS:
        raise ValueError(f"test is {kind!r}; choose from {', '.join(map(repr, TESTS))}.")
    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}; it must be at least 1, and 1000 is usual.")
    Y = np.asarray(values, dtype=np.float64)
    if Y.ndim != 2 or not np.isfinite(Y).all():
        raise ValueError(
            f"The maps to test have shape {Y.shape}{'' if Y.ndim != 2 else ' and hold NaN or infinity'}; they must be "
            "finite values of shape (n_units, n_neurons). Record again, in float32."
        )
    return Y


def _by_permutation(
    effect: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    observed: np.ndarray,
    relabelled: np.ndarray,
    exact: bool,
    shares: dict[str, float],
) -> SecondLevel:
    """Compute t, and its extremes over neurons for every relabelling."""
    extremes = np.empty((len(relabelled), 2))
    for first in range(0, len(relabelled), _BLOCK):
        t = statistic(relabelled[first : first + _BLOCK])
        extremes[first : first + _BLOCK] = np.column_stack([t.min(axis=1), t.max(axis=1)])
    n_units = observed.shape[1]
    return SecondLevel(effect, statistic(observed)[0], "max_t", n_units, extremes=extremes, exact=exact, shares=shares)


def _parametric(
    Y: np.ndarray, design: pd.DataFrame, weights: np.ndarray, effect: np.ndarray, space: NeuronSpace | None
) -> SecondLevel:
    """Fit nilearn's second level to images."""
    from nilearn.glm.second_level import SecondLevelModel  # slow to import, and not needed for permutations

    if space is None:
        raise ValueError("space is missing; test='parametric' needs it, because nilearn expects images. Pass space.")
    df = len(Y) - design.shape[1]
    model = SecondLevelModel(mask_img=space.mask_img, smoothing_fwhm=None, verbose=0)
    alive = Y.std(axis=0) > 0
    model.fit([space.to_img(row.astype(np.float32), "estimate") for row in Y], design_matrix=design)
    img: Any = model.compute_contrast(weights, second_level_stat_type="t", output_type="stat")
    # For constant neurons nilearn returns rounding errors or NaN.
    data = np.nan_to_num(np.asarray(img.dataobj, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    t = np.asarray(data.reshape(-1, order="F")[space.inside])
    return SecondLevel(effect, np.where(alive, t, 0.0), "parametric", len(Y), df=df)
