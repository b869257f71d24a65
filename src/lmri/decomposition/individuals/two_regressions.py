"""The two regressions of dual regression, for one individual."""

from dataclasses import dataclass

import numpy as np

from lmri.networks import NetworkSet


@dataclass(frozen=True, eq=False)
class StageOne:
    """Precomputed solution of stage 1 for the group maps.

    Parameters
    ----------
    solver : ndarray of shape (n_networks, n_neurons)
        Solver: ``course = volume @ solver.T`` is the least squares solution, with an intercept over neurons.
    centred : ndarray of shape (n_networks, n_neurons)
        Centred maps.
    leverage : ndarray of shape (n_neurons,)
        Leverage of every neuron in the fit of a volume, including the intercept; below 1.
    """

    solver: np.ndarray
    centred: np.ndarray
    leverage: np.ndarray

    @classmethod
    def of(cls, networks: NetworkSet) -> "StageOne":
        """Compute the solution for a set; raise an error if maps are constant or linearly dependent."""
        maps = networks.weights.astype(np.float64)
        centred = maps - maps.mean(axis=1, keepdims=True)
        size = np.linalg.norm(centred, axis=1)
        flat = [name for name, norm, peak in zip(networks.names, size, np.abs(maps).max(axis=1), strict=True)
                if norm <= 1e-9 * max(peak, np.finfo(float).tiny)]  # fmt: skip
        if flat:
            raise ValueError(
                f"The maps {', '.join(map(repr, flat))} are constant, so volumes cannot be regressed on them. "
                "Leave them out: NetworkSet(space, weights[keep])."
            )
        unit = centred / size[:, None]
        values = np.linalg.eigvalsh(unit @ unit.T)
        if values[0] < 1e-10 * values[-1]:
            raise ValueError(
                f"The {len(maps)} maps are not linearly independent, so their time courses are not determined. "
                "Leave out maps that are sums or copies of others."
            )
        solver = np.linalg.solve(unit @ unit.T, unit) / size[:, None]
        leverage = 1 / maps.shape[1] + (solver * centred).sum(axis=0)
        return cls(solver, centred, leverage)


def regress_twice(
    design: StageOne, X: np.ndarray, variance_normalized: bool, leave_own_out: bool, what: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute stages 1 and 2 for one individual.

    Leaving out a neuron changes the time courses by its residual in stage 1 times its row of the solver, divided by one
    minus its leverage; so each volume is regressed only once.

    Parameters
    ----------
    design : StageOne
        Solution of stage 1.
    X : ndarray of shape (n_volumes, n_neurons)
        Standardized data, float64.
    variance_normalized, leave_own_out : bool
        Options of `dual_regression`.
    what : str
        Name of the individual in messages.

    Returns
    -------
    courses : ndarray of shape (n_volumes, n_networks)
        Time courses.
    weights, t : ndarray of shape (n_networks, n_neurons)
        Weights of stage 2, and their t.
    """
    n_volumes, n_maps = len(X), len(design.solver)
    courses = X @ design.solver.T
    D = courses - courses.mean(axis=0)
    Y = X - X.mean(axis=0)
    size = np.linalg.norm(D, axis=0)
    scale = np.where(size > 0, size, 1)
    values = np.linalg.eigvalsh((D / scale).T @ (D / scale))
    if not size.all() or values[0] < 1e-10 * values[-1]:
        raise ValueError(
            f"{what}: the time courses of its {n_volumes} volumes are constant or linearly dependent, so its maps are "
            "not determined. Leave it out, or use fewer maps."
        )
    gram, products = D.T @ D, D.T @ Y  # (n_maps, n_maps), (n_maps, n_neurons)
    squares = (Y**2).sum(axis=0)
    if leave_own_out:
        weights, variances, spread, products = _without_own(design, Y, D, gram, products)
    else:
        inverse = np.linalg.inv(gram)
        weights = inverse @ products
        variances = (np.diag(gram) / n_volumes)[:, None]
        spread = np.diag(inverse)[:, None]
    left = (squares - (weights * products).sum(axis=0)).clip(min=0) / (n_volumes - n_maps - 1)
    # A neuron that is constant, or a combination of time courses, has no residual error.
    error = np.sqrt(left * spread)
    t = np.divide(weights, error, out=np.zeros_like(weights), where=left > 1e-12 * squares / n_volumes)
    return courses, weights * np.sqrt(variances) if variance_normalized else weights, t


def _without_own(
    design: StageOne, Y: np.ndarray, D: np.ndarray, gram: np.ndarray, products: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compute stage 2 with every neuron left out of its time courses: weights, variances, spread and products."""
    n_volumes, n_maps = D.shape
    n_neurons = Y.shape[1]
    # Residual of stage 1, centred over volumes like all terms here.
    residual = Y - Y.mean(axis=1, keepdims=True) - D @ design.centred
    change = design.solver / (1 - design.leverage)  # (n_maps, n_neurons)
    cross = D.T @ residual
    size = (residual**2).sum(axis=0)
    products = products - change * (residual * Y).sum(axis=0)
    weights, variances, spread = (np.empty((n_maps, n_neurons)) for _ in range(3))
    block = max(1, 1_000_000 // n_maps**2)  # one small matrix per neuron
    for first in range(0, n_neurons, block):
        part = slice(first, first + block)
        outer = np.einsum("in,jn->nij", cross[:, part], change[:, part])
        quadratic = np.einsum("n,in,jn->nij", size[part], change[:, part], change[:, part])
        grams = gram - outer - outer.transpose(0, 2, 1) + quadratic
        inverse = np.linalg.inv(grams)
        weights[:, part] = np.einsum("nij,jn->in", inverse, products[:, part])
        variances[:, part] = np.einsum("nii->in", grams) / n_volumes
        spread[:, part] = np.einsum("nii->in", inverse)
    return weights, variances, spread, products
