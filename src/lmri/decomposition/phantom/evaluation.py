"""Evaluation of decompositions on phantoms: recovered networks, signs and members, and false maps on nulls."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import roc_auc_score

from lmri.decomposition.phantom.planting import Phantom
from lmri.networks import NetworkSet
from lmri.networks.thresholds import z_scores

FOUND = 0.8
"""Smallest ``|r|`` over all neurons with which a planted network counts as recovered by its matched map."""

EFFECT_EDGES = (0.0, 0.5, 1.0, np.inf)
"""Bounds of the bins of effect size for power, in noise sds; upper bounds are excluded."""

COLUMNS = (
    "planted",
    "map",
    "strength",
    "r",
    "found",
    "sign_right",
    "n_members",
    "n_kept",
    "n_right",
    "power",
    "false_share",
    "auc",
    "spearman",
)


def matched(phantom: Phantom, networks: NetworkSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match planted networks and maps one to one by the largest sum of ``|r|`` over neurons.

    Returns
    -------
    planted, found : ndarray of int, shape (n_pairs,)
        Rows of the planted and of the estimated maps; the number of pairs is the smaller of the two numbers.
    r : ndarray of shape (n_pairs,)
        Signed correlations; 0 for constant maps.
    """
    phantom.space.check_same(networks.space, f"The network set {networks.method!r}")
    correlation = z_scores(phantom.maps) @ z_scores(networks.weights).T / phantom.space.n_neurons
    planted, estimated = linear_sum_assignment(-np.abs(correlation))
    return planted, estimated, correlation[planted, estimated]


def measure(phantom: Phantom, networks: NetworkSet) -> pd.DataFrame:
    """Compare networks with the planted networks of a phantom.

    Parameters
    ----------
    phantom : Phantom
        Phantom with planted networks.
    networks : NetworkSet
        Networks estimated from ``phantom.imgs``. Without a threshold they have no members, and `n_kept`, `n_right`,
        `power` and `false_share` are missing.

    Returns
    -------
    DataFrame
        Metrics, one row per planted network in order, then one row per unmatched map:

        - ``planted, map``: number of the planted network (-1 for an unmatched map) and name of its map ("" for none);
        - ``strength``: mean effect of its members, noise sds;
        - ``r, found, sign_right``: signed correlation over all neurons; whether ``|r| >= 0.8``; whether r is positive,
          missing if the network was not found and the sign is meaningless;
        - ``n_members, n_kept, n_right``: numbers of planted neurons, of members of the map, and of neurons in both;
        - ``power``: ``n_right / n_members``; 0 without a map;
        - ``false_share``: ``1 - n_right / n_kept``, missing for empty networks. Members of *another* planted network
          count as false, and all members of an unmatched map are false, even if it duplicates a planted network;
        - ``auc``: area under the ROC curve of ``|weight|`` for membership, which does not depend on the threshold;
        - ``spearman``: rank correlation of planted and estimated ``|weight|`` over the members; missing for sharp
          weights.

    Raises
    ------
    SpaceMismatchError
        If the space of the networks differs.
    ValueError
        If the phantom is a null.
    """
    if phantom.is_null:
        raise ValueError(f"{phantom.name!r} has no planted networks. Use measure_null(networks).")
    planted, estimated, r = matched(phantom, networks)
    members = networks.members if networks.is_thresholded else None
    partner = dict(zip(planted.tolist(), zip(estimated.tolist(), r.tolist(), strict=True), strict=True))
    rows = [
        _row(phantom, networks, members, number, *partner.get(number, (-1, np.nan)))
        for number in range(len(phantom.maps))
    ]
    left = sorted(set(range(len(networks))) - set(estimated.tolist()))
    rows += [_row(phantom, networks, members, -1, number, np.nan) for number in left]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(
    phantom: Phantom, networks: NetworkSet, members_of_maps: np.ndarray | None, planted: int, number: int, r: float
) -> dict[str, float | int | str | bool]:
    """Compute the metrics of one pair; -1 is none."""
    n_neurons = phantom.space.n_neurons
    members = phantom.members[planted] if planted >= 0 else np.zeros(n_neurons, dtype=bool)
    selected = (
        (members_of_maps[number] if number >= 0 else np.zeros(n_neurons, dtype=bool))
        if members_of_maps is not None
        else None
    )
    both = planted >= 0 and number >= 0
    size = np.abs(networks.weights[number]) if both else None
    n_members, n_kept = int(members.sum()), np.nan if selected is None else int(selected.sum())
    n_right = np.nan if selected is None else int((selected & members).sum())
    truth = np.abs(phantom.maps[planted][members])
    graded = both and n_members > 1 and not np.allclose(truth, truth[0])
    is_found = bool(both and abs(r) >= FOUND)
    return {
        "planted": planted,
        "map": networks.names[number] if number >= 0 else "",
        "strength": float(phantom.strengths[planted]) if planted >= 0 else np.nan,
        "r": r,
        "found": is_found,
        "sign_right": float(r > 0) if is_found else np.nan,
        "n_members": n_members,
        "n_kept": n_kept,
        "n_right": n_right,
        "power": n_right / n_members if n_members else np.nan,
        "false_share": 1 - n_right / n_kept if n_kept else np.nan,
        "auc": float(roc_auc_score(members, size)) if size is not None else np.nan,
        "spearman": _spearman(truth, size[members]) if graded and size is not None else np.nan,
    }


def _spearman(truth: np.ndarray, estimate: np.ndarray) -> float:
    """Compute a rank correlation; 0 for a constant estimate."""
    return float(stats.spearmanr(truth, estimate).statistic) if np.ptp(estimate) > 0 else 0.0


def power_by_effect(phantom: Phantom, networks: NetworkSet, edges: tuple[float, ...] = EFFECT_EDGES) -> pd.DataFrame:
    """Compute power per bin of effect size of the planted neurons.

    Parameters
    ----------
    phantom : Phantom
        Phantom with planted networks.
    networks : NetworkSet
        Thresholded networks.
    edges : tuple of float
        Bounds of the bins in noise sds. The effect is the absolute weight times the sd of the time course (1), divided
        by the sd of the noise.

    Returns
    -------
    DataFrame
        Power, one row per bin: ``low, high`` (excluded), ``n_members, n_kept, power``; power is missing for bins
        without planted neurons. A neuron of two networks counts twice, and is kept if it is a member of the matched
        map.
    """
    planted, estimated, _ = matched(phantom, networks)
    selected = np.zeros(phantom.maps.shape, dtype=bool)
    selected[planted] = networks.members[estimated]
    # Rounded, so that an effect of 1 is not below 1 because of rounding.
    bins = np.digitize(phantom.effects[phantom.members].round(9), edges[1:-1])
    n_bins = len(edges) - 1
    n_members = np.bincount(bins, minlength=n_bins)
    n_kept = np.bincount(bins, weights=selected[phantom.members], minlength=n_bins).astype(int)
    power = np.divide(n_kept, n_members, out=np.full(n_bins, np.nan), where=n_members > 0)
    return pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "n_members": n_members, "n_kept": n_kept, "power": power}
    )


@dataclass(frozen=True)
class FalseMaps:
    """Number of maps of a null with any member.

    Parameters
    ----------
    n_maps : int
        Number of maps.
    n_kept : int
        Number of maps with at least one member.
    share, low, high : float
        Share ``n_kept / n_maps`` with its exact 95 % interval, as if maps were independent.
    n_neurons : float
        Number of members, mean over all maps.
    """

    n_maps: int
    n_kept: int
    share: float
    low: float
    high: float
    n_neurons: float


def measure_null(*networks: NetworkSet) -> FalseMaps:
    """Count the maps with any member on nulls.

    Parameters
    ----------
    *networks : NetworkSet
        Thresholded networks of one or several nulls.

    Returns
    -------
    FalseMaps
        Counts with the exact binomial interval [1]_.

    References
    ----------
    .. [1] Clopper & Pearson (1934). The use of confidence or fiducial limits illustrated in the case of the binomial.
       Biometrika, 26, 404–413.
    """
    return false_maps(np.concatenate([network_set.members.sum(axis=1) for network_set in networks]))


def false_maps(sizes: np.ndarray) -> FalseMaps:
    """Summarize the sizes of networks of a null, ``(n_maps,)``."""
    n_kept = int((sizes > 0).sum())
    interval = stats.binomtest(n_kept, len(sizes)).proportion_ci(0.95, method="exact")
    return FalseMaps(
        len(sizes), n_kept, n_kept / len(sizes), float(interval.low), float(interval.high), float(sizes.mean())
    )
