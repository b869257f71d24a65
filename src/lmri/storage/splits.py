"""Splits that share no cluster and no text: networks come from *fit*, choices from *select*, numbers from *test*."""

import hashlib
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence

from lmri.exceptions import DataWarning
from lmri.storage.provenance import text_hash

SPLITS = ("fit", "select", "test")

SHARES = (0.5, 0.25, 0.25)
"""Shares of clusters to fit, to select and to test, unless asked for otherwise."""


def split_clusters(
    clusters: Sequence[str],
    texts: Sequence[str | Iterable[str]] | None = None,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    known: Mapping[str, str] | None = None,
) -> list[str]:
    """Assign every item to a split.

    A cluster's split is a function of its name and the seed alone, as a hash decides: neither the order nor the number
    of items matters, so that more of them can be added, or fewer be scored, and none changes sides. For that the shares
    hold on average only. Clusters that have a text in common go together, and then the smallest of their names decides;
    an added item that joins two clusters is the one thing that can move them.

    Parameters
    ----------
    clusters : sequence of str
        Of each item.
    texts : sequence of str, or of several texts each, optional
        Of each item; no text comes into two splits.
    shares : sequence of 3 floats, default=SHARES
        To fit, to select and to test; they add up to 1, and may be 0.
    seed : int, default=0
        Of the hash.
    known : mapping of str to str, optional
        Split by text hash (`lmri.text_hash`), such as ``"fit"`` for texts in which networks were found: their
        clusters go there, whatever the hash says.

    Returns
    -------
    list of {"fit", "select", "test"}
        In the order of `clusters`.

    Raises
    ------
    ValueError
        If shares are no shares, or `known` texts of one cluster lie in two splits.

    Examples
    --------
    >>> split_clusters(["c0", "c1", "c3", "c0"])
    ['select', 'test', 'fit', 'select']
    """
    bounds = _bounds(shares)
    own: list[list[str]] = [[] for _ in clusters]
    if texts is not None:
        if len(texts) != len(clusters):
            raise ValueError(f"There are {len(clusters)} clusters and {len(texts)} texts; each item needs both.")
        own = [[text_hash(text) for text in ([item] if isinstance(item, str) else item)] for item in texts]
    together = _connected([str(cluster) for cluster in clusters], own)
    forced = _forced(together, own, known or {})
    assigned = {root: forced.get(root) or _drawn(root, seed, bounds) for root in set(together)}
    empty = [
        name for name, share in zip(SPLITS, shares, strict=True) if share and name not in set(assigned.values())
    ]  # fmt: skip
    if empty:
        warnings.warn(
            f"No item is left to {' or '.join(empty)}: {len(assigned)} clusters are too few for shares of "
            f"{', '.join(f'{share:g}' for share in shares)}. Give more clusters, other shares, or another seed.",
            DataWarning,
            stacklevel=2,
        )
    return [assigned[root] for root in together]


def _bounds(shares: Sequence[float]) -> list[float]:
    if len(shares) != len(SPLITS) or any(not 0 <= share <= 1 for share in shares) or not math.isclose(sum(shares), 1):
        raise ValueError(
            f"shares are {tuple(shares)}; accepted are 3 numbers from 0 to 1 that add up to 1: to {', '.join(SPLITS)}."
        )
    # The last bound of a split that is asked for is 1, whatever rounding has made of the sum.
    bounds = [sum(shares[: number + 1]) for number in range(len(shares))]
    last = max(number for number, share in enumerate(shares) if share)
    return [1.0 if number >= last else bound for number, bound in enumerate(bounds)]


def _drawn(root: str, seed: int, bounds: Sequence[float]) -> str:
    # 53 bits, as many as a float holds, so that the place is below 1.
    place = int.from_bytes(hashlib.sha256(f"{seed}:{root}".encode("utf-8", "surrogatepass")).digest()[:7]) >> 3
    return next(name for name, bound in zip(SPLITS, bounds, strict=True) if place / 2**53 < bound)


def _connected(clusters: Sequence[str], texts: Sequence[Sequence[str]]) -> list[str]:
    """Join clusters that have a text in common; give the smallest name of those joined, for every item."""
    parent = {cluster: cluster for cluster in clusters}

    def root(cluster: str) -> str:
        while parent[cluster] != cluster:
            parent[cluster] = parent[parent[cluster]]
            cluster = parent[cluster]
        return cluster

    home: dict[str, str] = {}
    for cluster, own in zip(clusters, texts, strict=True):
        for text in own:
            first, second = sorted((root(home.setdefault(text, cluster)), root(cluster)))
            parent[second] = first
    return [root(cluster) for cluster in clusters]


def _forced(together: Sequence[str], texts: Sequence[Sequence[str]], known: Mapping[str, str]) -> dict[str, str]:
    unknown = sorted(set(known.values()) - set(SPLITS))
    if unknown:
        raise ValueError(f"known names the splits {unknown}; accepted are {', '.join(map(repr, SPLITS))}.")
    forced: dict[str, str] = {}
    for root, own in zip(together, texts, strict=True):
        for split in (known[text] for text in own if text in known):
            if forced.setdefault(root, split) != split:
                raise ValueError(
                    f"The texts of cluster {root!r} are known to {forced[root]} and to {split}, but a cluster goes "
                    "into one split. Split by these clusters from the start, or leave the cluster out."
                )
    return forced
