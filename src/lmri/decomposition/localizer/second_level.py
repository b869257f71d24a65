"""The second level: tests over texts or runs, never over tokens.

By permutation, p is corrected by the largest t over all neurons; by nilearn's `SecondLevelModel`, p is of each neuron.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lmri.decomposition.individuals.inference import one_sample_t
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
    """A test of one contrast at every neuron.

    Parameters
    ----------
    effect : ndarray of shape (n_neurons,)
        The contrast of means, in units of the data.
    t : ndarray of shape (n_neurons,)
        The effect over its standard error over units.
    kind : {"max_t", "parametric"}
        Where p comes from.
    n_units : int
        Texts or runs.
    df : float
        Degrees of freedom, of the parametric test only.
    extremes : ndarray of shape (n_permutations, 2)
        Smallest and largest t over neurons of every relabelling.
    exact : bool
        Whether these are all relabellings.
    shares : dict
        By tail, the share of relabellings that cannot differ from the observed one.
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
        """Give p of every neuron, ``(n_neurons,)``: corrected over neurons for ``max_t``, of each one otherwise."""
        check_tail(tail)
        size = {"two": np.abs(self.t), "positive": self.t, "negative": -self.t}[tail]
        if self.kind == "parametric":
            p = (2 if tail == "two" else 1) * stats.t.sf(size, self.df)
            # A neuron that does not vary was not tested.
            return np.asarray(np.where(self.t == 0, 1.0, p))
        largest = {
            "two": np.abs(self.extremes).max(axis=1),
            "positive": self.extremes[:, 1],
            "negative": -self.extremes[:, 0],
        }[tail]
        # The same relabelling may come out different in the last bit; all relabellings contain the observed one.
        reached = len(largest) - np.searchsorted(np.sort(largest), size - 1e-9 * np.abs(size))
        p = reached / len(largest) if self.exact else (reached + 1) / (len(largest) + 1)
        return np.asarray(np.where(self.t == 0, 1.0, p))

    def p_floor(self, tail: str = "two") -> float:
        """Give the smallest possible p; 0 for the parametric test, which has none."""
        check_tail(tail)
        if self.kind == "parametric":
            return 0.0
        share = self.shares[tail]
        return share if self.exact else max(share, 1 / (len(self.extremes) + 1))

    def members(self, alpha: float = ALPHA, tail: str = "two") -> np.ndarray:
        """Say which neurons differ: familywise error `alpha` for ``max_t``, false discovery rate for ``parametric``.

        Raises
        ------
        ValueError
            If `alpha` is below the smallest possible p, so that nothing could be found.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1.")
        floor = self.p_floor(tail)
        if floor > alpha:
            raise ValueError(
                f"With {self.n_units} units and {len(self.extremes)} permutations the smallest possible p is "
                f"{floor:.3g}, above alpha = {alpha:g}: nothing could be found. Take more texts (within texts: shorter "
                "runs, or texts as units, unit='text', --unit text), more permutations, or test='parametric'."
            )
        p = self.p(tail)
        return np.asarray((q_values(p) if self.kind == "parametric" else p) <= alpha) & (self.t != 0)

    def describe(self, tail: str = "two") -> str:
        """Say in a sentence what the threshold controls, and what was permuted."""
        side = {"two": "two-sided", "positive": "one-sided, positive", "negative": "one-sided, negative"}[tail]
        if self.kind == "parametric":
            return f"{side} FDR over neurons; p from t over {self.n_units} units (nilearn's second level)"
        how = "all" if self.exact else len(self.extremes)
        return f"{side} familywise error over neurons, by the largest t of {how} relabellings of {self.n_units} units"


def check_tail(tail: str) -> None:
    """Refuse a tail that is none."""
    if tail not in TAILS:
        raise ValueError(f"tail is {tail!r}; accepted are {', '.join(map(repr, TAILS))}.")


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

    By permutation, labels of texts are exchanged. With two conditions t is Welch's; with more, weighted means and their
    variances are combined the same way, so that conditions may differ in spread and in number [1]_. With more than two,
    conditions may differ although the contrast is 0; such differences are taken out before anything is exchanged [2]_.
    Left in, all neurons that know them would go up and down together in every relabelling, and the largest t over
    neurons would be that of a single one.

    Parameters
    ----------
    means : ndarray of shape (n_texts, n_neurons)
        A row a text.
    labels : sequence of str, length n_texts
        Condition of every text, all of them in the contrast.
    contrast : Contrast
        Weights of the conditions.
    kind : {"max_t", "parametric"}, default="max_t"
        Permutation of labels, or nilearn's `SecondLevelModel` with a column a condition and one variance for all.
    n_permutations : int, default=1000
        Where there are no more distinct relabellings than this, all are taken and p is exact.
    seed : int, default=0
        Of the permutations.
    space : NeuronSpace, optional
        Needed for ``"parametric"``, as nilearn takes images.

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
        raise ValueError(f"Texts by condition: {few}; each needs at least 2. Record more, or leave the condition out.")
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
        As for `between_texts`; flips take the place of relabellings, and a mean that of the contrast.

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
        raise ValueError(f"There is {n} unit with all conditions; a test needs more, at least 6 for p = 0.05.")
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
    if kind not in TESTS:
        raise ValueError(f"test is {kind!r}; accepted are {', '.join(map(repr, TESTS))}.")
    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}; it must be at least 1, and 1000 is usual.")
    Y = np.asarray(values, dtype=np.float64)
    if Y.ndim != 2 or not np.isfinite(Y).all():
        raise ValueError(
            f"The maps to test have shape {Y.shape}{'' if Y.ndim != 2 else ' and hold NaN or infinity'}; accepted are "
            "finite values (n_units, n_neurons). Record again, in float32."
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
    extremes = np.empty((len(relabelled), 2))
    for first in range(0, len(relabelled), _BLOCK):
        t = statistic(relabelled[first : first + _BLOCK])
        extremes[first : first + _BLOCK] = np.column_stack([t.min(axis=1), t.max(axis=1)])
    n_units = observed.shape[1]
    return SecondLevel(effect, statistic(observed)[0], "max_t", n_units, extremes=extremes, exact=exact, shares=shares)


def _parametric(
    Y: np.ndarray, design: pd.DataFrame, weights: np.ndarray, effect: np.ndarray, space: NeuronSpace | None
) -> SecondLevel:
    """Fit nilearn's second level, on images."""
    from nilearn.glm.second_level import SecondLevelModel  # takes seconds to load, and permutations do without

    if space is None:
        raise ValueError("test='parametric' needs the space of the neurons, because nilearn takes images. Give space.")
    df = len(Y) - design.shape[1]
    model = SecondLevelModel(mask_img=space.mask_img, smoothing_fwhm=None, verbose=0)
    alive = Y.std(axis=0) > 0
    model.fit([space.to_img(row.astype(np.float32), "estimate") for row in Y], design_matrix=design)
    img: Any = model.compute_contrast(weights, second_level_stat_type="t", output_type="stat")
    # nilearn leaves rounding, or NaN, where a neuron does not vary.
    data = np.nan_to_num(np.asarray(img.dataobj, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    t = np.asarray(data.reshape(-1, order="F")[space.inside])
    return SecondLevel(effect, np.where(alive, t, 0.0), "parametric", len(Y), df=df)
