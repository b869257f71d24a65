"""Stability of a decomposition across starts: clusters of estimates and their index (ICASSO)."""

import numpy as np
from scipy import sparse
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform


def icasso(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cluster the estimates of several starts, and return the centrotype of each cluster.

    In white space the correlation of two components is the inner product of their rows, so no maps are needed.

    Parameters
    ----------
    W : ndarray of shape (n_starts, n_components, n_components)
        Orthogonal unmixing matrices of the same white data.

    Returns
    -------
    centrotypes : ndarray of shape (n_components, n_components)
        Centrotypes, one row per cluster, the most compact first.
    iq : ndarray of shape (n_components,)
        Cluster index: mean ``|r|`` within a cluster minus mean ``|r|`` to all other estimates; NaN for a single start.

    References
    ----------
    Himberg, Hyvärinen & Esposito (2004). Validating the independent components of neuroimaging time series via
    clustering and visualization. NeuroImage, 22, 1214–1222.
    """
    n_starts, n_components, _ = W.shape
    if n_starts == 1:
        return W[0], np.full(n_components, np.nan)
    estimates = W.reshape(-1, n_components)
    similarity = np.clip(np.abs(estimates @ estimates.T), 0, 1)
    labels = clusters(similarity, n_components)
    iq = cluster_index(similarity, labels)
    middles = []
    for label in range(n_components):
        members = np.flatnonzero(labels == label)
        middles.append(members[similarity[np.ix_(members, members)].sum(axis=1).argmax()])
    order = np.argsort(-iq, kind="stable")
    return estimates[middles][order], iq[order]


def clusters(similarity: np.ndarray, n_clusters: int) -> np.ndarray:
    """Cluster by average linkage of ``1 - |r|``, and return labels from 0, ``(n_estimates,)``."""
    if len(similarity) == n_clusters:
        return np.arange(n_clusters)
    distance = 1 - similarity
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    # Exactly n_clusters, also with tied distances: connected components of the first merges.
    n = len(similarity)
    # 32-bit indices: versions of SciPy before 1.12 ignore a graph with others.
    merged = np.arange(n, 2 * n - n_clusters, dtype=np.int32)
    pairs = tree[: len(merged), :2].astype(np.int32).ravel(), np.repeat(merged, 2)
    graph = sparse.coo_array((np.ones(len(pairs[0])), pairs), shape=(2 * n, 2 * n))
    return sparse.csgraph.connected_components(graph, directed=False)[1][:n]


def cluster_index(similarity: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute ICASSO's Iq: mean similarity within each cluster minus mean similarity to all other estimates."""
    members = (labels[:, None] == np.arange(labels.max() + 1)).astype(float)  # (n_estimates, n_clusters)
    sizes = members.sum(axis=0)
    within = np.einsum("ic,ij,jc->c", members, similarity, members, optimize=True)
    total = (similarity @ members).sum(axis=0)
    others = len(labels) - sizes
    between = np.divide(total - within, sizes * others, out=np.zeros(len(sizes)), where=others > 0)
    return within / sizes**2 - between
