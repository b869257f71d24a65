"""Stability: how much of a decomposition comes back from another start, other texts, or half of them."""

import numpy as np
from scipy import sparse
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform


def icasso(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cluster the estimates of several starts, and take the one in the middle of each cluster.

    In white space the correlation of two components is the product of their rows, so no maps are needed.

    Parameters
    ----------
    W : ndarray of shape (n_starts, n_components, n_components)
        Orthogonal unmixings of the same white data.

    Returns
    -------
    centrotypes : ndarray of shape (n_components, n_components)
        A row a cluster, the tightest first.
    iq : ndarray of shape (n_components,)
        Mean ``|r|`` within a cluster minus that to all other estimates; NaN for a single start.

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
        own = np.flatnonzero(labels == label)
        middles.append(own[similarity[np.ix_(own, own)].sum(axis=1).argmax()])
    order = np.argsort(-iq, kind="stable")
    return estimates[middles][order], iq[order]


def clusters(similarity: np.ndarray, n_clusters: int) -> np.ndarray:
    """Cluster by average linkage of ``1 - |r|``: labels from 0, ``(n_estimates,)``."""
    if len(similarity) == n_clusters:
        return np.arange(n_clusters)
    distance = 1 - similarity
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    # Exactly as many as asked for, also where distances tie: the first merges, and what hangs together by them.
    n = len(similarity)
    merged = np.arange(n, 2 * n - n_clusters)
    pairs = tree[: len(merged), :2].astype(int).ravel(), np.repeat(merged, 2)
    graph = sparse.coo_array((np.ones(len(pairs[0])), pairs), shape=(2 * n, 2 * n))
    return sparse.csgraph.connected_components(graph, directed=False)[1][:n]


def cluster_index(similarity: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute ICASSO's Iq: mean similarity within each cluster minus that to all other estimates."""
    members = (labels[:, None] == np.arange(labels.max() + 1)).astype(float)  # (n_estimates, n_clusters)
    sizes = members.sum(axis=0)
    within = np.einsum("ic,ij,jc->c", members, similarity, members, optimize=True)
    total = (similarity @ members).sum(axis=0)
    others = len(labels) - sizes
    between = np.divide(total - within, sizes * others, out=np.zeros(len(sizes)), where=others > 0)
    return within / sizes**2 - between
