"""Splits without shared clusters or texts: *fit* for networks, *select* for choices, *test* for reported scores."""

import hashlib
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence

from lmri.exceptions import DataWarning
from lmri.storage.provenance import text_hash

SPLITS = ("fit", "select", "test")

SHARES = (0.5, 0.25, 0.25)
"""Default shares of clusters for fit, select and test."""


def split_clusters(
    clusters: Sequence[str],
    texts: Sequence[str | Iterable[str]] | None = None,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    known: Mapping[str, str] | None = None,
) -> list[str]:
    """Assign each item to a split.

    The split of a cluster is determined by a hash of its name and the seed. It depends on neither the order nor the
    number of items, so items can be added or removed without moving others to another split. The shares therefore hold
    only on average. Clusters that share a text are joined, and the smallest of their names determines the split; only
    an added item that joins two clusters can move them.

    Parameters
    ----------
    clusters : sequence of str
        Cluster of each item.
    texts : sequence of str, or of several texts each, optional
        Text or texts of each item; no text is assigned to two splits.
    shares : sequence of 3 floats, default=SHARES
        Shares of fit, select and test; they add up to 1 and may be 0.
    seed : int, default=0
        Seed of the hash.
    known : mapping of str to str, optional
        Known splits by text hash (`lmri.text_hash`), such as ``"fit"`` for texts on which networks were fitted. They
        override the hash for the clusters of these texts.

    Returns
    -------
    list of {"fit", "select", "test"}
        Split of each item, in the order of `clusters`.

    Raises
    ------
    ValueError
        If the shares are invalid, or `known` texts of one cluster belong to two splits.

    Examples
    --------
    >>> split_clusters(["c0", "c1", "c3", "c0"])
    ['select', 'test', 'fit', 'select']
    """
    bounds = _bounds(shares)
    hashes: list[list[str]] = [[] for _ in clusters]
    if texts is not None:
        if len(texts) != len(clusters):
            raise ValueError(f"There are {len(clusters)} clusters and {len(texts)} texts; each item needs both.")
        hashes = [[text_hash(text) for text in ([item] if isinstance(item, str) else item)] for item in texts]
    together = _connected([str(cluster) for cluster in clusters], hashes)
    forced = _forced(together, hashes, known or {})
    assigned = {root: forced.get(root) or _drawn(root, seed, bounds) for root in set(together)}
    empty = [
        name for name, share in zip(SPLITS, shares, strict=True) if share and name not in set(assigned.values())
    ]  # fmt: skip
    if empty:
        warnings.warn(
            f"No item was assigned to {' or '.join(empty)}: {len(assigned)} clusters are too few for shares of "
            f"{', '.join(f'{share:g}' for share in shares)}. Use more clusters, other shares, or another seed.",
            DataWarning,
            stacklevel=2,
        )
    return [assigned[root] for root in together]


def _bounds(shares: Sequence[float]) -> list[float]:
    if len(shares) != len(SPLITS) or any(not 0 <= share <= 1 for share in shares) or not math.isclose(sum(shares), 1):
        raise ValueError(
            f"shares are {tuple(shares)}; give 3 numbers from 0 to 1 that add up to 1, for {', '.join(SPLITS)}."
        )
    # The upper bound of the last split with a nonzero share is exactly 1, despite rounding errors of the sum.
    bounds = [sum(shares[: number + 1]) for number in range(len(shares))]
    last = max(number for number, share in enumerate(shares) if share)
    return [1.0 if number >= last else bound for number, bound in enumerate(bounds)]


def _drawn(root: str, seed: int, bounds: Sequence[float]) -> str:
    # 53 bits, the precision of a float, so that the quotient is below 1.
    position = int.from_bytes(hashlib.sha256(f"{seed}:{root}".encode("utf-8", "surrogatepass")).digest()[:7]) >> 3
    return next(name for name, bound in zip(SPLITS, bounds, strict=True) if position / 2**53 < bound)


def _connected(clusters: Sequence[str], texts: Sequence[Sequence[str]]) -> list[str]:
    """Join clusters that share a text, and return the smallest name of the joined clusters for each item."""
    parent = {cluster: cluster for cluster in clusters}

    def root(cluster: str) -> str:
        while parent[cluster] != cluster:
            parent[cluster] = parent[parent[cluster]]
            cluster = parent[cluster]
        return cluster

    home: dict[str, str] = {}
    for cluster, item_texts in zip(clusters, texts, strict=True):
        for text in item_texts:
            first, second = sorted((root(home.setdefault(text, cluster)), root(cluster)))
            parent[second] = first
    return [root(cluster) for cluster in clusters]


def _forced(together: Sequence[str], texts: Sequence[Sequence[str]], known: Mapping[str, str]) -> dict[str, str]:
    unknown = sorted(set(known.values()) - set(SPLITS))
    if unknown:
        raise ValueError(f"known names the splits {unknown}; choose from {', '.join(map(repr, SPLITS))}.")
    forced: dict[str, str] = {}
    for root, item_texts in zip(together, texts, strict=True):
        for split in (known[text] for text in item_texts if text in known):
            if forced.setdefault(root, split) != split:
                raise ValueError(
                    f"The known texts of cluster {root!r} belong to {forced[root]} and to {split}, but a cluster "
                    "belongs to one split. Split by these clusters from the start, or exclude the cluster."
                )
    return forced
