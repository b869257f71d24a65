"""Stage 3 of dual regression: permutation tests of individual maps over texts. Tokens are never the unit of a test.

Every test computes one t per neuron, and p corrected by the largest ``|t|`` over a family of neurons.
"""

import itertools
import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from lmri.decomposition.individuals.dual_regression import Individuals
from lmri.decomposition.individuals.map_test import ALPHA, MapTest
from lmri.decomposition.individuals.t_statistics import one_sample_t, two_sample_t
from lmri.exceptions import DataWarning

FAMILIES = ("map", "set")


def contrast(
    individuals: Individuals,
    groups: Sequence[Hashable] | Mapping[str, Hashable],
    n_permutations: int = 1000,
    random_state: int = 0,
    *,
    family: str = "map",
    pooled_variance: bool = False,
) -> MapTest:
    """Compare the maps of two groups of texts, neuron by neuron.

    Labels of whole texts are permuted, never tokens; p is corrected by the largest ``|t|`` over neurons [1]_. Texts are
    assumed to be exchangeable under the null. This is violated by consecutive texts of one document, or by groups with
    different settings of the recording.

    Parameters
    ----------
    individuals : Individuals
        Individual maps, preferably variance-normalized; otherwise maps do not reflect a network's strength.
    groups : sequence of length n_individuals, or mapping from names
        Group of each individual, with two different values. The effect is the first in sorted order minus the second.
        Individuals that are not in a mapping are left out.
    n_permutations : int, default=1000
        Number of permutations. If there are at most as many distinct relabellings, all are used and p is exact.
    random_state : int, default=0
        Random seed of the permutations.
    family : {"map", "set"}, default="map"
        Family of the correction: the neurons of each map, or of all maps.
    pooled_variance : bool, default=False
        Whether both groups share one variance (Student) instead of one per group (Welch); the tests agree for equal
        group sizes.

    Returns
    -------
    MapTest
        Differences, t and corrected p.

    Raises
    ------
    ValueError
        If there are not two groups of at least 2 texts, or too few texts for any p to reach 0.05.

    Warns
    -----
    DataWarning
        If more texts of one group than of the other were used to fit the maps, which favours that group; and if time
        courses were not variance-normalized.

    References
    ----------
    .. [1] Nichols & Holmes (2002). Nonparametric permutation tests for functional neuroimaging: a primer with examples.
       Human Brain Mapping, 15, 1–25.
    """
    _check_test(n_permutations, family)
    indices, labels = _grouped(individuals, groups)
    first, second = sorted(set(labels), key=str)
    chosen = np.array([label == first for label in labels])
    n, n_first = len(chosen), int(chosen.sum())
    if min(n_first, n - n_first) < 2:
        raise ValueError(
            f"The groups have {n_first} ({first!r}) and {n - n_first} ({second!r}) texts; each needs at least 2, and "
            "more for a small p."
        )
    members = {str(first): chosen, str(second): ~chosen}
    named = {
        name: tuple(individuals.names[index] for index, member in zip(indices, mask, strict=True) if member)
        for name, mask in members.items()
    }
    _warn_of_contrast(individuals, named)
    n_distinct = math.comb(n, n_first)
    # With equal group sizes, exchanging the groups only changes the sign.
    n_same = 2 if 2 * n_first == n else 1
    rng = np.random.default_rng(random_state)
    exact = n_distinct <= n_permutations
    if exact:
        relabelled = np.zeros((n_distinct, n), dtype=bool)
        for row, subset in enumerate(itertools.combinations(range(n), n_first)):
            relabelled[row, list(subset)] = True
    else:
        relabelled = rng.permuted(np.tile(chosen, (n_permutations, 1)), axis=1)
    p_floor = _floor(n_same / n_distinct, n_permutations, exact, f"groups of {n_first} and {n - n_first} texts")

    def statistic(Y: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return two_sample_t(Y, labels, pooled_variance)

    info = {
        "test": "contrast",
        "first": str(first),
        "second": str(second),
        "pooled_variance": pooled_variance,
        "n_permutations": len(relabelled),
        "exact": exact,
        "random_state": random_state,
    }
    return _tested(individuals, indices, chosen[None], relabelled, statistic, exact, p_floor, family, named, info)


def one_sample(
    individuals: Individuals,
    n_permutations: int = 1000,
    random_state: int = 0,
    *,
    family: str = "map",
    independent: bool = False,
) -> MapTest:
    """Test every neuron's weight against 0 over texts that were not used to fit the maps, by sign flips of whole texts.

    On the texts that were used to fit the maps the test would be circular, because the neurons were selected for their
    co-activation in these texts (double dipping). A neuron must not contribute to the time course that it is regressed
    on either, because a map's neurons would then be significant even in noise: the individuals must come from
    ``dual_regression(..., leave_own_out=True)``.

    Parameters
    ----------
    individuals : Individuals
        Individual maps of texts that were not used to fit the group maps.
    n_permutations : int, default=1000
        Number of sign flips. If there are at most as many distinct flips, all are used and p is exact.
    random_state : int, default=0
        Random seed of the flips.
    family : {"map", "set"}, default="map"
        Family of the correction: the neurons of each map, or of all maps.
    independent : bool, default=False
        Whether you confirm that texts without hashes were not used to fit the maps. Texts that are known to have been
        used are refused nevertheless.

    Returns
    -------
    MapTest
        Means, t and corrected p.

    Raises
    ------
    ValueError
        If texts were used to fit the maps, if this is unknown, if neurons were regressed on themselves, or if there are
        too few texts for any p to reach 0.05.
    """
    _check_test(n_permutations, family)
    if not individuals.leave_own_out:
        raise ValueError(
            "Each neuron was regressed on time courses that it contributed to, so its mean weight is not 0 even in "
            "noise. Use dual_regression(..., leave_own_out=True)."
        )
    used = individuals.made_maps
    dipped = [name for name, was_used in used.items() if was_used]
    if dipped:
        raise ValueError(
            f"{len(dipped)} of {len(used)} texts were used to fit the maps ({', '.join(map(repr, dipped[:3]))}), so "
            "this test would be circular (double dipping). Use texts that were in no decomposition."
        )
    unknown = [name for name, was_used in used.items() if was_used is None]
    if unknown and not independent:
        raise ValueError(
            f"It is unknown whether {len(unknown)} of {len(used)} texts ({', '.join(map(repr, unknown[:3]))}) were "
            "used to fit the maps, because the maps or these texts have no hashes. Pass text_hashes to dual_regression "
            "or, if you know that they were not used, independent=True."
        )
    n = len(individuals)
    if n < 2:
        raise ValueError(f"There is {n} text. A test over texts needs more, at least 6 for p = 0.05.")
    n_distinct = 2**n
    exact = n_distinct <= n_permutations
    if exact:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
    else:
        signs = np.random.default_rng(random_state).choice((1.0, -1.0), size=(n_permutations, n))
    p_floor = _floor(2 / n_distinct, n_permutations, exact, f"{n} texts")
    info = {"test": "one-sample", "n_permutations": len(signs), "exact": exact, "random_state": random_state,
            "independent": "stated" if unknown else "by hashes"}  # fmt: skip
    indices = list(range(n))
    return _tested(individuals, indices, np.ones((1, n)), signs, one_sample_t, exact, p_floor, family,
                   {"all": individuals.names}, info)  # fmt: skip


def _tested(
    individuals: Individuals,
    indices: list[int],
    observed: np.ndarray,
    relabelled: np.ndarray,
    statistic: Any,
    exact: bool,
    p_floor: float,
    family: str,
    groups: Mapping[str, tuple[str, ...]],
    info: Mapping[str, Any],
    block: int = 100,
) -> MapTest:
    """Compare the observed t of every neuron with the largest t of every relabelling, map by map."""
    n_maps, n_neurons = individuals.maps.shape[1:]
    t, effect = np.empty((n_maps, n_neurons)), np.empty((n_maps, n_neurons))
    max_t = np.empty((len(relabelled), n_maps))
    for number in range(n_maps):
        Y = individuals.maps[indices, number].astype(np.float64)
        t[number] = statistic(Y, observed)[0]
        effect[number] = Y[observed[0] > 0].mean(axis=0)
        if not (observed[0] > 0).all():
            effect[number] -= Y[observed[0] <= 0].mean(axis=0)
        for first in range(0, len(relabelled), block):
            part = statistic(Y, relabelled[first : first + block])
            max_t[first : first + block, number] = np.abs(part).max(axis=1)
    if family == "set":
        max_t = np.broadcast_to(max_t.max(axis=1, keepdims=True), max_t.shape).copy()
    # t of the same relabelling may differ in the last bit; the relabellings include the observed one.
    size = np.abs(t) * (1 - 1e-9)
    p = np.empty_like(size)
    for number in range(n_maps):
        reached = len(max_t) - np.searchsorted(np.sort(max_t[:, number]), size[number])
        p[number] = reached / len(max_t) if exact else (reached + 1) / (len(max_t) + 1)
    return MapTest(individuals.networks, effect.astype(np.float32), t.astype(np.float32), p, family, max_t, groups,
                   p_floor, {"variance_normalized": individuals.variance_normalized, **info})  # fmt: skip


def _floor(share: float, n_permutations: int, exact: bool, what: str) -> float:
    """Compute the smallest possible p; raise an error if it is above 0.05."""
    floor = share if exact else max(share, 1 / (n_permutations + 1))
    if floor > ALPHA:
        raise ValueError(
            f"With {what} and {n_permutations} permutations the smallest possible p is {floor:.3g}, so no neuron could "
            "be significant. Use more texts, or more permutations."
        )
    return floor


def _check_test(n_permutations: int, family: str) -> None:
    """Raise an error for an invalid number of permutations or family."""
    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}; it must be at least 1, and 1000 is usual.")
    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}; choose from {', '.join(map(repr, FAMILIES))}.")


def _grouped(
    individuals: Individuals, groups: Sequence[Hashable] | Mapping[str, Hashable]
) -> tuple[list[int], list[Hashable]]:
    """Return the indices of the individuals in a group, and their groups."""
    if isinstance(groups, Mapping):
        unknown = [name for name in groups if name not in individuals.names and name not in individuals.left_out]
        if unknown:
            raise ValueError(f"groups names {unknown[0]!r}, which is not an individual.")
        indices = [index for index, name in enumerate(individuals.names) if name in groups]
        labels = [groups[individuals.names[index]] for index in indices]
    else:
        if len(groups) != len(individuals):
            left = f" ({len(individuals.left_out)} were left out)" if individuals.left_out else ""
            raise ValueError(
                f"groups has {len(groups)} entries for {len(individuals)} individuals{left}. Pass one entry per "
                "individual, or a mapping from their names."
            )
        indices, labels = list(range(len(individuals))), list(groups)
    if len(set(labels)) != 2:
        values = sorted(map(repr, set(labels)))
        raise ValueError(
            f"groups has {len(values)} different values ({', '.join(values[:5])}); exactly two are needed."
        )
    return indices, labels


def _warn_of_contrast(individuals: Individuals, named: Mapping[str, tuple[str, ...]]) -> None:
    """Warn of maps that do not reflect strength, or were fitted to more texts of one group."""
    if not individuals.variance_normalized:
        warnings.warn(
            "Time courses were not variance-normalized, so maps do not reflect the strength of a network as a whole. "
            "Only differences in shape can be detected.",
            DataWarning,
            stacklevel=3,
        )
    used = individuals.made_maps
    shares = [float(np.mean([bool(used[name]) for name in names])) for names in named.values()]
    if abs(shares[0] - shares[1]) > 0.1:
        both = " and ".join(f"{share:.0%} of {name!r}" for name, share in zip(named, shares, strict=True))
        warnings.warn(
            f"The maps were fitted to {both}. A group fits maps of its own texts better than the other group does, "
            "which biases the comparison. Compare texts that were not used for the maps, or equally many per group.",
            DataWarning,
            stacklevel=3,
        )
