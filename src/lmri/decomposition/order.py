"""How many networks: parallel analysis against circularly shifted neurons, and minimum description length beside it.

Pure functions on runs ``(n_volumes, n_neurons)``. Every run is z-scored neuron by neuron (dead neurons become zero) and
every volume is centred over neurons before eigenvalues are taken, so it does not matter how the runs were standardized.
"""

import warnings
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lmri.decomposition.standardization import moments, standardized
from lmri.decomposition.surrogates import Shifter
from lmri.exceptions import DataWarning

SCOPES = ("group", "run")

ALPHA = 0.05
"""Chance, at each rank, that a neuron-wise shift of the data reaches the eigenvalue that is counted."""

VOLUMES_PER_NETWORK = 5
"""With fewer, the networks themselves fill the surrogates: of 60 planted in 30 to 120 volumes, a quarter as many as
there are volumes are counted."""

RANK_TOLERANCE = 1e-9
"""Eigenvalues below this share of the largest are rounding: centring takes at least one dimension away."""

BLOCK = 4096


@dataclass(frozen=True, eq=False)
class ParallelAnalysis:
    """Eigenvalues beside those of surrogates.

    Parameters
    ----------
    eigenvalues : ndarray of shape (n_ranks,)
        Of the covariance of volumes over neurons, largest first.
    limit : ndarray of shape (n_ranks,)
        What an eigenvalue of this rank has to exceed for p <= 0.05 among those of the same rank in the surrogates.
    order : int
        How many eigenvalues exceed the first limit, which is that of the largest eigenvalue of noise.
    """

    eigenvalues: np.ndarray
    limit: np.ndarray
    order: int


@dataclass(frozen=True, eq=False)
class OrderEstimate:
    """How many networks the data hold, by two criteria.

    Parameters
    ----------
    table : DataFrame
        A row a run: ``run, n_volumes, mdl, parallel``; `run` counts from 1, and 0 is all runs together. `mdl` is
        missing where there are no more neurons than volumes.
    curves : DataFrame
        A row a run and rank: ``run, rank, eigenvalue, limit, mdl``; `rank` counts from 1 and `mdl` is the description
        length, in nats, of that many components. The length for none is not a rank and is left out.
    recommended : int
        By parallel analysis: of all runs together or, with ``scope="run"``, the median over runs, rounded down. 0 means
        that no component stands out of shifted neurons, and is a result.
    scope : {"group", "run"}
        Which of the two.
    ceiling : int
        From how many on these data, or `max_order`, cannot tell how many more there are.
    info : dict
        Surrogates, seed, and how many volumes the group estimate used, every how manyth.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    recommended: int
    scope: str
    ceiling: int
    info: dict[str, Any]

    @property
    def at_ceiling(self) -> bool:
        """Whether the recommendation says more of the data's size than of their networks."""
        return self.recommended >= self.ceiling

    @property
    def distribution(self) -> pd.DataFrame:
        """Minimum, median and maximum over runs of each criterion, one row each."""
        own = self.table.loc[self.table["run"] > 0, ["mdl", "parallel"]]
        return own.agg(["min", "median", "max"]).T.rename_axis("criterion").reset_index()

    def __repr__(self) -> str:
        return f"<OrderEstimate: {self.recommended} networks by parallel analysis, scope {self.scope!r}>"


def estimate_order(
    runs: Iterable[np.ndarray],
    n_surrogates: int = 20,
    random_state: int = 0,
    *,
    scope: str = "group",
    max_order: int | None = None,
    max_volumes: int = 2000,
) -> OrderEstimate:
    """Estimate the number of networks of every run and of all runs together.

    The recommendation is by parallel analysis, because its null keeps what makes real activations unlike Gaussian noise
    (heavy tails, and each neuron's memory of the last tokens). Minimum description length takes neurons for independent
    samples of Gaussian data, which they are not: in a small GPT-2's runs it counts six times as many. With nearly as
    many volumes as neurons it counts too few.

    Runs that engage different networks have fewer each than the group: 20 planted networks of which every run engages
    5 are 5 by run and 20 by group. A group decomposition is to take ``scope="group"``.

    Parameters
    ----------
    runs : iterable of ndarray of shape (n_volumes, n_neurons)
        Passed through once. Any standardization; differences between runs' means are never counted, because shifts
        within runs cannot test them.
    n_surrogates : int, default=20
        At least 19, below which no eigenvalue can reach p = 0.05.
    random_state : int, default=0
        Of the shifts. The order of the runs does not matter.
    scope : {"group", "run"}, default="group"
        What is recommended. The estimate by run costs little, and is in the table either way.
    max_order : int, optional
        The most that is recommended; no limit by default.
    max_volumes : int, default=2000
        How many volumes the group estimate holds in memory. Of more, every second is taken, or every fourth, and so on:
        weak networks may then be missed, never invented.

    Returns
    -------
    OrderEstimate
        Table, curves and recommendation.

    Warns
    -----
    DataWarning
        If the recommendation reaches `max_order`, or a fifth of the volumes.

    References
    ----------
    Horn (1965). A rationale and test for the number of factors in factor analysis. Psychometrika, 30, 179–185.
    Wax & Kailath (1985). Detection of signals by information theoretic criteria. IEEE Transactions on Acoustics,
    Speech, and Signal Processing, 33, 387–392.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope is {scope!r}; accepted are {', '.join(map(repr, SCOPES))}.")
    if max_order is not None and max_order < 1:
        raise ValueError(f"max_order is {max_order}; it must be at least 1.")
    if max_volumes < 3:
        raise ValueError(f"max_volumes is {max_volumes}; it must be at least 3.")
    _check_surrogates(n_surrogates)

    rows, curves, lengths, kept, stride, n_neurons = [], [], [], [], 1, 0
    for number, run in enumerate(runs, start=1):
        run = _checked(run, f"Run {number}")
        if n_neurons and run.shape[1] != n_neurons:
            raise ValueError(f"Run {number} has {run.shape[1]} neurons, those before it {n_neurons}; use one space.")
        n_neurons = run.shape[1]
        found = parallel_analysis(run, n_surrogates, random_state)
        row, curve = _described(number, len(run), n_neurons, found)
        rows.append(row)
        curves.append(curve)
        lengths.append(len(run))
        if scope == "group":
            kept.append(run[::stride].copy())
            while sum(map(len, kept)) > max_volumes:
                # Taking every second of every second keeps the same volumes whatever the order of the runs.
                stride, kept = 2 * stride, [part[::2].copy() for part in kept]
                if min(map(len, kept)) < 3:
                    raise ValueError(
                        f"The runs are too many and too short for {max_volumes} volumes of all together: of the "
                        f"shortest fewer than 3 would be left. Raise max_volumes, join texts to longer runs, or take "
                        "scope='run'."
                    )
    if not rows:
        raise ValueError("runs is empty; give at least one run, such as recording.arrays().")

    info: dict[str, Any] = {"n_surrogates": n_surrogates, "random_state": random_state, "alpha": ALPHA}
    if scope == "group":
        used = sum(map(len, kept))
        # One run, taken whole, has been estimated already.
        found = found if len(kept) == 1 and stride == 1 else parallel_analysis(kept, n_surrogates, random_state)
        row, curve = _described(0, sum(lengths), n_neurons, found)
        rows.append(row)
        curves.append(curve)
        order, available = found.order, used
        info |= {"n_volumes_group": used, "stride": stride}
    else:
        order = int(np.median([row["parallel"] for row in rows]))
        available = int(np.median(lengths))
    ceiling = max(1, min(available // VOLUMES_PER_NETWORK, n_neurons - 1, max_order or available))
    estimate = OrderEstimate(
        pd.DataFrame(rows), pd.concat(curves, ignore_index=True), min(order, max_order or order), scope, ceiling, info
    )
    if estimate.at_ceiling:
        by_hand = max_order is not None and ceiling == max_order
        warnings.warn(
            f"{order} components stand out of shifted neurons, but "
            + (
                f"max_order={max_order}. "
                if by_hand
                else f"{available} volumes of {n_neurons} neurons can tell at most "
                f"about {ceiling} apart: there may be many more. "
            )
            + ("Raise max_order." if by_hand else "Record more or longer texts, or choose n_components yourself."),
            DataWarning,
            stacklevel=2,
        )
    return estimate


def parallel_analysis(
    X: np.ndarray | Sequence[np.ndarray], n_surrogates: int = 20, random_state: int = 0
) -> ParallelAnalysis:
    """Count the eigenvalues that the largest one of neurons shifted on their own does not reach.

    Horn compares rank by rank. After ``k`` networks the largest eigenvalue of noise would then meet the limit for rank
    ``k + 1``, which is lower: of 12 planted networks he would count 14 to 16. So the limit is that of the first rank.

    Shifts are circular, within each run, and independent over neurons: they keep every neuron's values and
    autocorrelation, and destroy what neurons have in common. All eigenvalues of data and surrogates have the same sum,
    so a strong network raises the limit for weak ones: the count errs low, and on noise it is 0 in about 95 % of cases.
    A shifted series has a seam where its end meets its beginning, which the data have not: where neurons remember far
    and runs are short, noise is taken for one or two components more often (autocorrelation 0.8 over 100 volumes: 27 %
    of cases; 0.3, which 95 % of a small GPT-2's neurons do not exceed: 5 %). Volumes at which all neurons are louder
    count as something in common, too.

    Parameters
    ----------
    X : ndarray of shape (n_volumes, n_neurons), or sequence of them
        One run, or runs that are analysed together.
    n_surrogates : int, default=20
        At least 19.
    random_state : int, default=0
        Of the shifts; the order of runs does not matter.

    Returns
    -------
    ParallelAnalysis
        Eigenvalues, limits and the count.

    References
    ----------
    Horn (1965). A rationale and test for the number of factors in factor analysis. Psychometrika, 30, 179–185.
    """
    _check_surrogates(n_surrogates)
    runs = [X] if isinstance(X, np.ndarray) else list(X)
    scaled = [_scaled(_checked(run, f"Run {number}")) for number, run in enumerate(runs, start=1)]
    observed = eigenvalues(np.concatenate(scaled), exact=True)
    # Seeds follow the content, so that a run is shifted in the same way wherever it stands.
    sources = [(Shifter(run), zlib.crc32(run.tobytes())) for run in scaled]
    null = np.empty((n_surrogates, len(observed)))
    for number in range(n_surrogates):
        shifted = [shift(np.random.default_rng([random_state, key, number])) for shift, key in sources]
        null[number] = eigenvalues(np.concatenate(shifted))
    # Exchangeable with its surrogates, an eigenvalue exceeds the k-th largest of n with probability k / (n + 1).
    rank = int(ALPHA * (n_surrogates + 1) + 1e-9)
    limit = np.sort(null, axis=0)[-rank]
    return ParallelAnalysis(observed, limit, int((observed > limit[0] * (1 + 1e-6)).sum()))


def mdl(eigenvalues: np.ndarray, n_samples: int) -> np.ndarray:
    """Compute the description length of every number of components, in nats.

    For real data; Wax and Kailath count the parameters of complex data. Samples that depend on each other, as neurons
    do, make the minimum lie too high.

    Parameters
    ----------
    eigenvalues : ndarray of shape (n_dimensions,)
        Of the sample covariance, largest first, all positive.
    n_samples : int
        Samples of the covariance; for a spatial decomposition the neurons.

    Returns
    -------
    ndarray of shape (n_dimensions,)
        For 0, 1, … components, up to a constant; the estimate is ``argmin``.

    References
    ----------
    Wax & Kailath (1985). Detection of signals by information theoretic criteria. IEEE Transactions on Acoustics,
    Speech, and Signal Processing, 33, 387–392.
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not (values > 0).all() or (np.diff(values) > 0).any():
        raise ValueError("eigenvalues must be positive and sorted, the largest first; leave out those of lost ranks.")
    n_dimensions = len(values)
    if n_samples <= n_dimensions:
        raise ValueError(
            f"n_samples is {n_samples} for {n_dimensions} dimensions; the criterion needs more samples than dimensions."
        )
    orders = np.arange(n_dimensions)
    left = n_dimensions - orders
    # Sums over the eigenvalues beyond each order: what is taken for noise of one variance.
    mean = np.cumsum(values[::-1])[::-1] / left
    mean_log = np.cumsum(np.log(values[::-1]))[::-1] / left
    n_parameters = 1 + orders * n_dimensions - orders * (orders - 1) / 2
    return n_samples / 2 * left * (np.log(mean) - mean_log) + n_parameters / 2 * np.log(n_samples)


def eigenvalues(X: np.ndarray, exact: bool = False) -> np.ndarray:
    """Compute the eigenvalues of the covariance of volumes over neurons, largest first.

    Parameters
    ----------
    X : ndarray of shape (n_volumes, n_neurons)
        Volumes are centred over neurons here.
    exact : bool, default=False
        Multiply in float64 and not in float32, which is right to about 1e-6 of the largest and twice as fast.

    Returns
    -------
    ndarray of shape (min(n_volumes, n_neurons),)
        Float64; lost ranks are about 0.
    """
    n_volumes, n_neurons = X.shape
    kind = np.float64 if exact else np.float32
    mean = X.mean(axis=1, dtype=np.float64)
    if n_volumes <= n_neurons:
        gram = np.zeros((n_volumes, n_volumes))
        for first in range(0, n_neurons, BLOCK):
            part: np.ndarray = X[:, first : first + BLOCK].astype(kind)
            gram += part @ part.T
        gram -= n_neurons * np.outer(mean, mean)
    else:
        gram = np.zeros((n_neurons, n_neurons))
        for first in range(0, n_volumes, BLOCK):
            part = (X[first : first + BLOCK] - mean[first : first + BLOCK, None]).astype(kind)
            gram += part.T @ part
    return np.linalg.eigvalsh(gram)[::-1].clip(min=0) / n_neurons


def _described(
    run: int, n_volumes: int, n_neurons: int, found: ParallelAnalysis
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Give a run's row of the table and its curves."""
    values = found.eigenvalues
    values = values[values > RANK_TOLERANCE * values[0]]
    lengths = np.full(len(found.eigenvalues), np.nan)
    best = np.nan
    if len(values) > 0 and len(found.eigenvalues) < n_neurons:
        curve = mdl(values, n_neurons)
        best = float(np.argmin(curve))
        lengths[: len(curve) - 1] = curve[1:]
    row = {"run": run, "n_volumes": n_volumes, "mdl": best, "parallel": found.order}
    ranks = np.arange(1, len(lengths) + 1)
    parts = {"run": run, "rank": ranks, "eigenvalue": found.eigenvalues, "limit": found.limit, "mdl": lengths}
    return row, pd.DataFrame(parts)


def _checked(run: np.ndarray, what: str) -> np.ndarray:
    run = np.asarray(run)
    if run.ndim != 2 or min(run.shape) < 2 or len(run) < 3:
        raise ValueError(f"{what} has shape {run.shape}; at least (3, 2) is needed, volumes by neurons.")
    if not np.isfinite(run).all():
        raise ValueError(f"{what} holds NaN or infinity; record it again, in float32 if the model ran in float16.")
    return run


def _scaled(run: np.ndarray) -> np.ndarray:
    """Z-score every neuron of a run: ``(n_volumes, n_neurons)``, float32."""
    return standardized(run, moments(run), "zscore")


def _check_surrogates(n_surrogates: int) -> None:
    if n_surrogates < 1 / ALPHA - 1:
        raise ValueError(f"n_surrogates is {n_surrogates}; with fewer than 19 no eigenvalue can reach p = {ALPHA}.")
