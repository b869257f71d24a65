"""Model order: parallel analysis with circularly shifted neurons, compared with minimum description length.

Pure functions on runs ``(n_volumes, n_neurons)``. Every run is z-scored neuron by neuron (dead neurons become zero) and
every volume is centred over neurons before eigenvalues are computed, so previous standardization has no effect.
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
"""Probability, at each rank, that surrogates of neuron-wise shifts reach the eigenvalue that is counted."""

VOLUMES_PER_NETWORK = 5
"""Smallest number of volumes per network. With fewer, the networks themselves dominate the surrogates: of 60 planted
networks in 30 to 120 volumes, the estimate is a quarter of the number of volumes."""

RANK_TOLERANCE = 1e-9
"""Smallest share of the largest eigenvalue that is not rounding error; centring removes at least one dimension."""

BLOCK = 4096


@dataclass(frozen=True, eq=False)
class ParallelAnalysis:
    """Eigenvalues of the data compared with those of surrogates.

    Parameters
    ----------
    eigenvalues : ndarray of shape (n_ranks,)
        Eigenvalues of the covariance of volumes over neurons, largest first.
    limit : ndarray of shape (n_ranks,)
        Critical value of each rank, for p <= 0.05 among eigenvalues of the same rank in the surrogates.
    order : int
        Number of eigenvalues above the first limit, the critical value of the largest eigenvalue of noise.
    """

    eigenvalues: np.ndarray
    limit: np.ndarray
    order: int


@dataclass(frozen=True, eq=False)
class OrderEstimate:
    """Estimated number of networks, by two criteria.

    Parameters
    ----------
    table : DataFrame
        Estimates, one row per run: ``run, n_volumes, mdl, parallel``; `run` counts from 1, and 0 is all runs together.
        `mdl` is missing if there are no more neurons than volumes.
    curves : DataFrame
        Curves, one row per run and rank: ``run, rank, eigenvalue, limit, mdl``; `rank` counts from 1 and `mdl` is the
        description length, in nats, of `rank` components. The description length of 0 components is left out.
    recommended : int
        Recommended number of networks, by parallel analysis: of all runs together or, with ``scope="run"``, the median
        over runs, rounded down. 0 means that no component exceeds those of shifted neurons, a valid null result.
    scope : {"group", "run"}
        Scope of the recommendation.
    ceiling : int
        Largest number of networks that the data can distinguish, or `max_order`; the true number may be larger than a
        recommendation that reaches it.
    info : dict
        Number of surrogates, seed, and number and stride of the volumes of the group estimate.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    recommended: int
    scope: str
    ceiling: int
    info: dict[str, Any]

    @property
    def at_ceiling(self) -> bool:
        """Whether the recommendation is limited by the amount of data or by `max_order`."""
        return self.recommended >= self.ceiling

    @property
    def distribution(self) -> pd.DataFrame:
        """Minimum, median and maximum over runs of each criterion, one row each."""
        estimates = self.table.loc[self.table["run"] > 0, ["mdl", "parallel"]]
        return estimates.agg(["min", "median", "max"]).T.rename_axis("criterion").reset_index()

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

    The recommendation uses parallel analysis, because its null distribution preserves properties of real activations
    that Gaussian noise lacks (heavy tails, and autocorrelation of each neuron). Minimum description length assumes that
    neurons are independent samples of Gaussian data, which is wrong: in runs of a small GPT-2 its estimate is six times
    as large. If there are nearly as many volumes as neurons, its estimate is too small.

    Runs in which different networks are active have fewer networks each than the group: with 20 planted networks, 5 of
    them active in each run, the estimate is 5 by run and 20 by group. Use ``scope="group"`` for a group decomposition.

    Parameters
    ----------
    runs : iterable of ndarray of shape (n_volumes, n_neurons)
        Runs, iterated over once, with any standardization. Differences between means of runs are never counted, because
        shifts within runs cannot test them.
    n_surrogates : int, default=20
        Number of surrogates, at least 19; with fewer, no eigenvalue can reach p = 0.05.
    random_state : int, default=0
        Random seed of the shifts. The order of the runs has no effect.
    scope : {"group", "run"}, default="group"
        Scope of the recommendation. The table contains the estimates by run in either case.
    max_order : int, optional
        Largest recommended number; no limit by default.
    max_volumes : int, default=2000
        Largest number of volumes that the group estimate holds in memory. If there are more, every second volume is
        used, or every fourth, and so on: weak networks may then be missed, but no false ones are added.

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

    rows, curves, lengths, group_runs, stride, n_neurons = [], [], [], [], 1, 0
    for number, run in enumerate(runs, start=1):
        run = _checked(run, f"Run {number}")
        if n_neurons and run.shape[1] != n_neurons:
            raise ValueError(
                f"Run {number} has {run.shape[1]} neurons, but the runs before it have {n_neurons}. Use one space."
            )
        n_neurons = run.shape[1]
        analysis = parallel_analysis(run, n_surrogates, random_state)
        row, curve = _described(number, len(run), n_neurons, analysis)
        rows.append(row)
        curves.append(curve)
        lengths.append(len(run))
        if scope == "group":
            group_runs.append(run[::stride].copy())
            while sum(map(len, group_runs)) > max_volumes:
                # Repeated halving selects the same volumes for any order of the runs.
                stride, group_runs = 2 * stride, [part[::2].copy() for part in group_runs]
                if min(map(len, group_runs)) < 3:
                    raise ValueError(
                        f"max_volumes is {max_volumes}, too few for these short runs: fewer than 3 volumes of the "
                        "shortest run would be left. Raise max_volumes, pack texts into longer runs, or use "
                        "scope='run'."
                    )
    if not rows:
        raise ValueError("runs is empty. Pass at least one run, such as recording.arrays().")

    info: dict[str, Any] = {"n_surrogates": n_surrogates, "random_state": random_state, "alpha": ALPHA}
    if scope == "group":
        used = sum(map(len, group_runs))
        # A single complete run has been estimated already.
        analysis = (
            analysis
            if len(group_runs) == 1 and stride == 1
            else parallel_analysis(group_runs, n_surrogates, random_state)
        )
        row, curve = _described(0, sum(lengths), n_neurons, analysis)
        rows.append(row)
        curves.append(curve)
        order, available = analysis.order, used
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
            f"{order} components exceed those of shifted neurons, but "
            + (
                f"max_order={max_order}. "
                if by_hand
                else f"{available} volumes of {n_neurons} neurons can distinguish at most "
                f"about {ceiling}. There may be many more. "
            )
            + ("Raise max_order." if by_hand else "Record more or longer texts, or set n_components to a number."),
            DataWarning,
            stacklevel=2,
        )
    return estimate


def parallel_analysis(
    X: np.ndarray | Sequence[np.ndarray], n_surrogates: int = 20, random_state: int = 0
) -> ParallelAnalysis:
    """Count the eigenvalues that exceed the largest eigenvalue of independently shifted neurons.

    Horn compares rank by rank. After ``k`` networks the largest eigenvalue of noise would then be compared with the
    limit of rank ``k + 1``, which is lower: with 12 planted networks the estimate would be 14 to 16. Therefore the
    limit of the first rank is used for all ranks.

    Shifts are circular, within each run, and independent over neurons: they preserve every neuron's values and
    autocorrelation, and destroy co-activation. The eigenvalues of data and surrogates have the same sum, so a strong
    network raises the limit for weak ones: the estimate is conservative, and on noise it is 0 in about 95 % of cases. A
    shifted series has a seam between its end and its beginning, which the data lack: with strong autocorrelation and
    short runs, noise is more often mistaken for one or two components (autocorrelation 0.8 over 100 volumes: 27 % of
    cases; 0.3, which 95 % of a small GPT-2's neurons do not exceed: 5 %). Volumes at which the activity of all neurons
    is larger also count as co-activation.

    Parameters
    ----------
    X : ndarray of shape (n_volumes, n_neurons), or sequence of them
        Run, or runs that are analysed together.
    n_surrogates : int, default=20
        Number of surrogates, at least 19.
    random_state : int, default=0
        Random seed of the shifts; the order of the runs has no effect.

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
    # Seeds depend on the content, so that the shifts of a run do not depend on its position.
    sources = [(Shifter(run), zlib.crc32(run.tobytes())) for run in scaled]
    null = np.empty((n_surrogates, len(observed)))
    for number in range(n_surrogates):
        shifted = [shift(np.random.default_rng([random_state, key, number])) for shift, key in sources]
        null[number] = eigenvalues(np.concatenate(shifted))
    # Under exchangeability an eigenvalue exceeds the k-th largest of n surrogates with probability k / (n + 1).
    rank = int(ALPHA * (n_surrogates + 1) + 1e-9)
    limit = np.sort(null, axis=0)[-rank]
    return ParallelAnalysis(observed, limit, int((observed > limit[0] * (1 + 1e-6)).sum()))


def mdl(eigenvalues: np.ndarray, n_samples: int) -> np.ndarray:
    """Compute the description length of every number of components, in nats.

    The number of parameters is for real data (Wax and Kailath: complex data). Dependence between samples, as between
    neurons, makes the estimated order too large.

    Parameters
    ----------
    eigenvalues : ndarray of shape (n_dimensions,)
        Eigenvalues of the sample covariance, largest first, all positive.
    n_samples : int
        Number of samples of the covariance; for a spatial decomposition, of neurons.

    Returns
    -------
    ndarray of shape (n_dimensions,)
        Description lengths of 0, 1, … components, up to a constant; the estimate is ``argmin``.

    References
    ----------
    Wax & Kailath (1985). Detection of signals by information theoretic criteria. IEEE Transactions on Acoustics,
    Speech, and Signal Processing, 33, 387–392.
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not (values > 0).all() or (np.diff(values) > 0).any():
        raise ValueError("eigenvalues must be positive and sorted, largest first. Leave out eigenvalues that are 0.")
    n_dimensions = len(values)
    if n_samples <= n_dimensions:
        raise ValueError(
            f"n_samples is {n_samples} for {n_dimensions} dimensions. The criterion needs more samples than dimensions."
        )
    orders = np.arange(n_dimensions)
    left = n_dimensions - orders
    # Means over the eigenvalues beyond each order, which are modelled as isotropic noise.
    mean = np.cumsum(values[::-1])[::-1] / left
    mean_log = np.cumsum(np.log(values[::-1]))[::-1] / left
    n_parameters = 1 + orders * n_dimensions - orders * (orders - 1) / 2
    return n_samples / 2 * left * (np.log(mean) - mean_log) + n_parameters / 2 * np.log(n_samples)


def eigenvalues(X: np.ndarray, exact: bool = False) -> np.ndarray:
    """Compute the eigenvalues of the covariance of volumes over neurons, largest first.

    Parameters
    ----------
    X : ndarray of shape (n_volumes, n_neurons)
        Volumes; they are centred over neurons here.
    exact : bool, default=False
        Whether products are in float64; float32 is accurate to about 1e-6 of the largest eigenvalue and twice as fast.

    Returns
    -------
    ndarray of shape (min(n_volumes, n_neurons),)
        Eigenvalues, float64; about 0 beyond the rank.
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
    run: int, n_volumes: int, n_neurons: int, analysis: ParallelAnalysis
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return a run's row of the table and its curves."""
    values = analysis.eigenvalues
    values = values[values > RANK_TOLERANCE * values[0]]
    lengths = np.full(len(analysis.eigenvalues), np.nan)
    best = np.nan
    if len(values) > 0 and len(analysis.eigenvalues) < n_neurons:
        curve = mdl(values, n_neurons)
        best = float(np.argmin(curve))
        lengths[: len(curve) - 1] = curve[1:]
    row = {"run": run, "n_volumes": n_volumes, "mdl": best, "parallel": analysis.order}
    ranks = np.arange(1, len(lengths) + 1)
    parts = {"run": run, "rank": ranks, "eigenvalue": analysis.eigenvalues, "limit": analysis.limit, "mdl": lengths}
    return row, pd.DataFrame(parts)


def _checked(run: np.ndarray, what: str) -> np.ndarray:
    """Return a run as an array; raise an error if it is too small or not finite."""
    run = np.asarray(run)
    if run.ndim != 2 or min(run.shape) < 2 or len(run) < 3:
        raise ValueError(f"{what} has shape {run.shape}; it must be at least (3, 2), volumes by neurons.")
    if not np.isfinite(run).all():
        raise ValueError(f"{what} holds NaN or infinity. Record it again, in float32 if the model ran in float16.")
    return run


def _scaled(run: np.ndarray) -> np.ndarray:
    """Z-score every neuron of a run: ``(n_volumes, n_neurons)``, float32."""
    return standardized(run, moments(run), "zscore")


def _check_surrogates(n_surrogates: int) -> None:
    """Raise an error if there are too few surrogates for any eigenvalue to be significant."""
    if n_surrogates < 1 / ALPHA - 1:
        raise ValueError(f"n_surrogates is {n_surrogates}; with fewer than 19 no eigenvalue can reach p = {ALPHA}.")
