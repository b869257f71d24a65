"""Model order: parallel analysis with circularly shifted neurons, compared with minimum description length.

Pure functions on runs ``(n_volumes, n_neurons)``. Every run is z-scored neuron by neuron (dead neurons become zero) and
every volume is centred over neurons before eigenvalues are computed, so previous standardization has no effect.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lmri.decomposition.order_criteria import (
    ALPHA,
    RANK_TOLERANCE,
    ParallelAnalysis,
    check_surrogates,
    checked_run,
    mdl,
    parallel_analysis,
)
from lmri.exceptions import DataWarning

SCOPES = ("group", "run")

VOLUMES_PER_NETWORK = 5
"""Smallest number of volumes per network. With fewer, the networks themselves dominate the surrogates: of 60 planted
networks in 30 to 120 volumes, the estimate is a quarter of the number of volumes."""


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
        raise ValueError(f"scope is {scope!r}; choose from {', '.join(map(repr, SCOPES))}.")
    if max_order is not None and max_order < 1:
        raise ValueError(f"max_order is {max_order}; it must be at least 1.")
    if max_volumes < 3:
        raise ValueError(f"max_volumes is {max_volumes}; it must be at least 3.")
    check_surrogates(n_surrogates)

    rows, curves, lengths, group_runs, stride, n_neurons = [], [], [], [], 1, 0
    for number, run in enumerate(runs, start=1):
        run = checked_run(run, f"Run {number}")
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
