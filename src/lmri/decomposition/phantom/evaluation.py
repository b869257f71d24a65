"""What a decomposition got right on a phantom: networks found, signs, members, and what it finds where nothing is."""

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
"""A planted network is found if its matched map correlates with it, over all neurons, at least this much."""

EFFECT_EDGES = (0.0, 0.5, 1.0, np.inf)
"""Bounds of the effect sizes by which power is counted, in noise sds; the upper bound of each is excluded."""

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
    """Match planted networks and maps one to one, by the largest sum of ``|r|`` over neurons.

    Returns
    -------
    planted, found : ndarray of int, shape (n_pairs,)
        Rows of the planted and of the estimated maps; as many pairs as the smaller number of the two.
    r : ndarray of shape (n_pairs,)
        Signed correlation; 0 where a map is constant.
    """
    phantom.space.check_same(networks.space, f"The network set {networks.method!r}")
    correlation = z_scores(phantom.maps) @ z_scores(networks.weights).T / phantom.space.n_neurons
    planted, found = linear_sum_assignment(-np.abs(correlation))
    return planted, found, correlation[planted, found]


def measure(phantom: Phantom, networks: NetworkSet) -> pd.DataFrame:
    """Compare networks with what was planted.

    Parameters
    ----------
    phantom : Phantom
        With planted networks.
    networks : NetworkSet
        What was found in ``phantom.imgs``. Not thresholded, it has no members: `n_kept`, `n_right`, `power` and
        `false_share` are missing.

    Returns
    -------
    DataFrame
        A row a planted network in order, then a row for each map that none of them was matched with:

        - ``planted, map``: number of the planted network (-1 for a map left over) and name of its map ("" for none);
        - ``strength``: mean effect of its members, noise sds;
        - ``r, found, sign_right``: signed correlation over all neurons; whether ``|r| >= 0.8``; whether r is positive,
          missing where the network was not found and the sign means nothing;
        - ``n_members, n_kept, n_right``: planted neurons; neurons that the map keeps; those that are both;
        - ``power``: ``n_right / n_members``; 0 without a map;
        - ``false_share``: ``1 - n_right / n_kept``, missing where nothing is kept. Members of *another* planted network
          count as false, and a map left over is false as a whole, even where it repeats a planted network;
        - ``auc``: area under the curve of ``|weight|`` for membership: the ranking, whatever the threshold;
        - ``spearman``: rank correlation of planted and found ``|weight|`` over the members; missing for sharp weights.

    Raises
    ------
    SpaceMismatchError
        If the networks are over other neurons.
    ValueError
        If nothing was planted.
    """
    if phantom.is_null:
        raise ValueError(f"Nothing was planted in {phantom.name!r}. Use measure_null(networks).")
    planted, found, r = matched(phantom, networks)
    kept = networks.members if networks.is_thresholded else None
    partner = dict(zip(planted.tolist(), zip(found.tolist(), r.tolist(), strict=True), strict=True))
    rows = [
        _row(phantom, networks, kept, number, *partner.get(number, (-1, np.nan))) for number in range(len(phantom.maps))
    ]
    left = sorted(set(range(len(networks))) - set(found.tolist()))
    rows += [_row(phantom, networks, kept, -1, number, np.nan) for number in left]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(
    phantom: Phantom, networks: NetworkSet, kept: np.ndarray | None, planted: int, found: int, r: float
) -> dict[str, float | int | str | bool]:
    """Describe one pair; -1 is none."""
    n_neurons = phantom.space.n_neurons
    members = phantom.members[planted] if planted >= 0 else np.zeros(n_neurons, dtype=bool)
    own = (kept[found] if found >= 0 else np.zeros(n_neurons, dtype=bool)) if kept is not None else None
    both = planted >= 0 and found >= 0
    size = np.abs(networks.weights[found]) if both else None
    n_members, n_kept = int(members.sum()), np.nan if own is None else int(own.sum())
    n_right = np.nan if own is None else int((own & members).sum())
    truth = np.abs(phantom.maps[planted][members])
    graded = both and n_members > 1 and not np.allclose(truth, truth[0])
    is_found = bool(both and abs(r) >= FOUND)
    return {
        "planted": planted,
        "map": networks.names[found] if found >= 0 else "",
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


def _spearman(truth: np.ndarray, found: np.ndarray) -> float:
    return float(stats.spearmanr(truth, found).statistic) if np.ptp(found) > 0 else 0.0


def power_by_effect(phantom: Phantom, networks: NetworkSet, edges: tuple[float, ...] = EFFECT_EDGES) -> pd.DataFrame:
    """Count how many planted neurons are kept, by the size of their effect.

    Parameters
    ----------
    phantom : Phantom
        With planted networks.
    networks : NetworkSet
        Thresholded.
    edges : tuple of float
        Bounds in noise sds: the absolute weight, times the sd of the time course (1), over the sd of the noise.

    Returns
    -------
    DataFrame
        A row a range: ``low, high`` (excluded), ``n_members, n_kept, power``; power is missing where nothing of that
        size was planted. A neuron of two networks counts twice, and is kept where the matched map keeps it.
    """
    planted, found, _ = matched(phantom, networks)
    kept = np.zeros(phantom.maps.shape, dtype=bool)
    kept[planted] = networks.members[found]
    # Rounded, so that an effect of 1 is not below 1 for the last bit of a product.
    bins = np.digitize(phantom.effects[phantom.members].round(9), edges[1:-1])
    n_bins = len(edges) - 1
    n_members = np.bincount(bins, minlength=n_bins)
    n_kept = np.bincount(bins, weights=kept[phantom.members], minlength=n_bins).astype(int)
    power = np.divide(n_kept, n_members, out=np.full(n_bins, np.nan), where=n_members > 0)
    return pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "n_members": n_members, "n_kept": n_kept, "power": power}
    )


@dataclass(frozen=True)
class FalseMaps:
    """How many maps of a null keep any neuron.

    Parameters
    ----------
    n_maps : int
        Maps in all.
    n_kept : int
        Maps that keep at least one neuron.
    share, low, high : float
        ``n_kept / n_maps`` with its exact 95 % interval, as if maps were independent.
    n_neurons : float
        Neurons kept, mean over all maps.
    """

    n_maps: int
    n_kept: int
    share: float
    low: float
    high: float
    n_neurons: float


def measure_null(*networks: NetworkSet) -> FalseMaps:
    """Count the maps that keep any neuron where there is nothing to keep.

    Parameters
    ----------
    *networks : NetworkSet
        Thresholded; what was found in one null, or in several.

    Returns
    -------
    FalseMaps
        With the exact binomial interval [1]_.

    References
    ----------
    .. [1] Clopper & Pearson (1934). The use of confidence or fiducial limits illustrated in the case of the binomial.
       Biometrika, 26, 404–413.
    """
    return false_maps(np.concatenate([one.members.sum(axis=1) for one in networks]))


def false_maps(sizes: np.ndarray) -> FalseMaps:
    """Summarize the sizes of a null's networks, ``(n_maps,)``."""
    n_kept = int((sizes > 0).sum())
    interval = stats.binomtest(n_kept, len(sizes)).proportion_ci(0.95, method="exact")
    return FalseMaps(
        len(sizes), n_kept, n_kept / len(sizes), float(interval.low), float(interval.high), float(sizes.mean())
    )
