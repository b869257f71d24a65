"""Decomposition methods by their names on the command line."""

from lmri.decomposition.fastica import FastICA
from lmri.decomposition.neuronica import NeuronICA
from lmri.decomposition.nilearn import CanICA, DictLearning

METHODS = ("ica", "ica-temporal", "canica", "dictlearning", "fastica-temporal", "fastica-spatial")
"""Names on the command line, and the default names of what they make."""


def build(method: str, space, **parameters):  # type: ignore[no-untyped-def]
    """Make an estimator by its name on the command line.

    Parameters
    ----------
    method : {"ica", "ica-temporal", "canica", "dictlearning", "fastica-temporal", "fastica-spatial"}
        Which one.
    space : NeuronSpace
        The neurons.
    **parameters
        As the estimator takes them.
    """
    if method in ("ica", "ica-temporal"):
        return NeuronICA(space, kind="temporal" if method == "ica-temporal" else "spatial", **parameters)
    if method == "canica":
        return CanICA(space, **parameters)
    if method == "dictlearning":
        return DictLearning(space, **parameters)
    if method in ("fastica-temporal", "fastica-spatial"):
        return FastICA(space, kind=method.removeprefix("fastica-"), **parameters)
    raise ValueError(f"The method is {method!r}; accepted are {', '.join(map(repr, METHODS))}.")
