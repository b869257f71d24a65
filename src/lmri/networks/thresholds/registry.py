"""Thresholds by their names on the command line, and what each controls."""

import inspect
from collections.abc import Callable

import numpy as np

from lmri.networks.thresholds.descriptive import auto, fdr_gaussian, robust_z, support, top, z, z_positive
from lmri.networks.thresholds.mixture import mixture
from lmri.networks.thresholds.null import fdr, fdr_set

THRESHOLDS: dict[str, Callable[..., np.ndarray]] = {
    "fdr": fdr,
    "fdr_set": fdr_set,
    "z": z,
    "z_positive": z_positive,
    "robust_z": robust_z,
    "mixture": mixture,
    "top": top,
    "support": support,
    "auto": auto,
    "fdr_gaussian": fdr_gaussian,
}

DESCRIPTIONS = {
    "fdr": "two-sided FDR within each map that stands out; both from the whole pipeline on surrogates in which every "
    "neuron is shifted on its own",
    "fdr_set": "two-sided FDR over all maps together; p from the whole pipeline on surrogates in which every neuron is "
    "shifted on its own",
    "z": "two-sided z over neurons; descriptive, controls no error rate",
    "z_positive": "one-sided z over neurons, as in the paper; depends on the map's sign, and controls no error rate",
    "robust_z": "two-sided z over neurons by median and MAD; descriptive, controls no error rate",
    "mixture": "Gaussian-Gamma mixture of each map; descriptive, heavy tails count as active",
    "top": "a fixed share of the neurons; a quota, keeps as many in noise",
    "support": "all non-zero weights; the decomposition's own sparsity decides",
    "auto": "nilearn's quota over all maps; keeps as many in noise",
    "fdr_gaussian": "two-sided FDR as if z over neurons were Gaussian; a heuristic, not calibrated for heavy tails",
}


def value_name(method: str) -> str | None:
    """Name of a threshold's one parameter, such as ``"alpha"``; None if it has none."""
    names = [name for name in inspect.signature(THRESHOLDS[method]).parameters if name not in ("maps", "null")]
    return names[0] if names else None


def needs_null(method: str) -> bool:
    """Whether a threshold needs a `SurrogateNull`."""
    return "null" in inspect.signature(THRESHOLDS[method]).parameters
