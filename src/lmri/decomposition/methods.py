"""Registry of the decomposition methods. A new method needs its own file and one entry in `METHODS`."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmri.decomposition.base import Decomposition
    from lmri.space import NeuronSpace


@dataclass(frozen=True)
class DecompositionMethod:
    """A decomposition method and its descriptions.

    Parameters
    ----------
    name : str
        Name in Python and on the command line; default name of its results.
    estimator : str
        Module and class of the estimator, as ``"package.module:Class"``; loaded on first use.
    words : str
        Name in the report.
    description : str
        Description in the documentation, one line.
    fixed : mapping, optional
        Parameters of the estimator that the name decides.
    options : tuple of str
        Parameters that other methods do not have: ``alpha``, ``solver``, ``n_init``, ``device``, ``n_jobs``.
    auto : bool, default=False
        Whether ``n_components="auto"`` is accepted.
    threshold : str, default="fdr"
        Name of the default threshold.
    """

    name: str
    estimator: str
    words: str
    description: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    auto: bool = False
    threshold: str = "fdr"

    def build(self, space: "NeuronSpace", **parameters: Any) -> "Decomposition":
        """Return an estimator.

        Parameters
        ----------
        space : NeuronSpace
            Neurons of the recordings.
        **parameters
            Parameters of the estimator.
        """
        module, _, name = self.estimator.partition(":")
        return getattr(importlib.import_module(module), name)(space, **self.fixed, **parameters)


_ICA = ("solver", "n_init", "device", "n_jobs")

METHODS: dict[str, DecompositionMethod] = {
    method.name: method
    for method in (
        DecompositionMethod(
            "ica",
            "lmri.decomposition.neuronica:NeuronICA",
            "spatial ICA",
            "NeuronICA with maps that are independent over neurons",
            {"kind": "spatial"},
            _ICA,
            auto=True,
        ),
        DecompositionMethod(
            "ica-temporal",
            "lmri.decomposition.neuronica:NeuronICA",
            "temporal ICA",
            "NeuronICA with time courses that are independent over volumes",
            {"kind": "temporal"},
            _ICA,
            auto=True,
        ),
        DecompositionMethod(
            "canica",
            "lmri.decomposition.nilearn:CanICA",
            "CanICA",
            "nilearn's canonical ICA",
            options=("n_init", "n_jobs"),
        ),
        DecompositionMethod(
            "dictlearning",
            "lmri.decomposition.nilearn:DictLearning",
            "dictionary learning",
            "nilearn's dictionary learning, whose maps are sparse",
            options=("alpha", "n_jobs"),
            threshold="support",
        ),
        DecompositionMethod(
            "fastica-temporal",
            "lmri.decomposition.fastica:FastICA",
            "temporal FastICA",
            "scikit-learn's FastICA over volumes, as in the paper",
            {"kind": "temporal"},
        ),
        DecompositionMethod(
            "fastica-spatial",
            "lmri.decomposition.fastica:FastICA",
            "spatial FastICA",
            "scikit-learn's FastICA over neurons",
            {"kind": "spatial"},
        ),
    )
}
"""All methods: help texts, docstrings, error messages and the report are generated from them."""


def find_method(name: str) -> DecompositionMethod:
    """Return a method by its name.

    Raises
    ------
    ValueError
        If there is no method of this name.
    """
    if name not in METHODS:
        raise ValueError(f"There is no method {name!r}; choose from {', '.join(map(repr, METHODS))}.")
    return METHODS[name]


def build(method: str, space: "NeuronSpace", **parameters: Any) -> "Decomposition":
    """Return an estimator by the name of its method.

    Parameters
    ----------
    method : str
        <methods>.
    space : NeuronSpace
        Neurons of the recordings.
    **parameters
        Parameters of the estimator.

    Raises
    ------
    ValueError
        If there is no method of this name.
    """
    return find_method(method).build(space, **parameters)


build.__doc__ = str(build.__doc__).replace(
    "<methods>", "; ".join(f'``"{method.name}"``, {method.description}' for method in METHODS.values())
)
