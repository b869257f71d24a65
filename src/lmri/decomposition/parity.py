"""Paper parity: the paper's choices for a decomposition and its threshold, and a check of stored networks.

The method is temporal FastICA as computed by scikit-learn, with the signs of the solver, and a one-sided z over
neurons. These choices reproduce the paper but are not recommended: the heavier side of a map may fall below a one-sided
threshold. Two differences remain: the first token of each text is left out unless it is recorded (``lmri record
--n-dummy 0``), and texts that are scored were not fitted. The paper's lesions are in
`lmri.lesions.experiments.parity`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lmri.decomposition.methods import build
from lmri.networks import NetworkSet
from lmri.space import Img, NeuronSpace

if TYPE_CHECKING:
    from lmri.decomposition.base import Decomposition

PARITY = "paper parity"
"""Label of all results with the paper's choices."""

METHOD = "fastica-temporal"

PARAMETERS: Mapping[str, Any] = {
    "n_components": 10,
    "fun": "logcosh",
    "standardize": "center",  # scikit-learn's FastICA centres over all volumes; there is no other preprocessing
    "scope": "study",
    "max_iter": 200,
    "tol": 1e-4,
    "signs": "solver",
}
"""Parameters of temporal FastICA as scikit-learn computes it; the paper's code calls scikit-learn."""

THRESHOLD = "z_positive"

Z_LESIONS = 3.6
"""Threshold of the paper's lesions; the default of its code is 1.96."""

Z_DEFAULT = 1.96


@dataclass(frozen=True)
class Difference:
    """A choice that differs from the paper's.

    Parameters
    ----------
    what : str
        Name of the choice, such as ``"signs"``.
    value, expected : object
        The choice, and the paper's.
    """

    what: str
    value: object
    expected: object

    def __str__(self) -> str:
        return f"{self.what} is {self.value!r}, and {self.expected!r} in the paper"


def paper_estimator(space: NeuronSpace, seed: int = 0, n_components: int = 10) -> "Decomposition":
    """Return the paper's estimator: temporal FastICA as scikit-learn computes it, with the solver's signs.

    Parameters
    ----------
    space : NeuronSpace
        Neurons of the recordings.
    seed : int, default=0
        Seed of the start; the paper has one start.
    n_components : int, default=10
        Number of maps; in the paper 10, and for preservation up to 512.
    """
    estimator = build(METHOD, space, **{**PARAMETERS, "n_components": n_components, "random_state": seed})
    estimator.label = PARITY  # stored with its parameters
    return estimator


def paper_networks(
    space: NeuronSpace, imgs: Sequence[Img], threshold: float = Z_DEFAULT, seed: int = 0, n_components: int = 10
) -> NetworkSet:
    """Compute networks as in the paper: temporal FastICA, and one-sided z over neurons.

    Parameters
    ----------
    space : NeuronSpace
        Neurons of the recordings.
    imgs : sequence of images
        Images of all runs, such as ``recording.imgs``; they are concatenated in time.
    threshold : {1.96, 3.6}, default=1.96
        One-sided z above which a neuron belongs to a network; the paper's lesions use 3.6.
    seed : int, default=0
        Seed of the start.
    n_components : int, default=10
        Number of networks.

    Notes
    -----
    The sign of a map is the solver's, so the heavier side may fall below the threshold. This reproduces the paper's
    choice and is not recommended.
    """
    check_z(threshold)
    estimator = paper_estimator(space, seed, n_components).fit(imgs)
    return as_parity(NetworkSet.from_estimator(estimator).threshold(THRESHOLD, z=threshold))


def check_z(threshold: float) -> float:
    """Return the threshold if the paper uses it; raise an error otherwise."""
    if threshold not in (Z_DEFAULT, Z_LESIONS):
        raise ValueError(
            f"The threshold is {threshold!r}; the paper's are {Z_DEFAULT} and {Z_LESIONS} (lesions). Use one of "
            "these, or leave out the label of paper parity."
        )
    return threshold


def as_parity(networks: NetworkSet) -> NetworkSet:
    """Label networks that have the paper's choices; raise an error if they have others."""
    raise_if_different(networks, differences(networks, n_components=None))
    return replace(networks, origin=replace(networks.origin, threshold={**networks.origin.threshold, "label": PARITY}))


def differences(networks: NetworkSet, n_components: int | None = 10) -> list[Difference]:
    """List the choices of networks that differ from the paper's.

    Parameters
    ----------
    networks : NetworkSet
        Thresholded networks.
    n_components : int or None, default=10
        Number of maps, as in the paper's lesions; None accepts any number, as in its preservations.
    """
    parameters, threshold = networks.origin.parameters, networks.origin.threshold
    expected = {name: value for name, value in PARAMETERS.items() if name != "n_components"}
    expected |= {} if n_components is None else {"n_components": n_components}
    pairs = [("method", networks.origin.method, METHOD)]
    pairs += [(name, parameters.get(name), value) for name, value in expected.items()]
    pairs.append(("threshold", threshold.get("method"), THRESHOLD))
    deviations = [Difference(*pair) for pair in pairs if pair[1] != pair[2]]
    if threshold.get("method") == THRESHOLD and threshold.get("z") not in (Z_DEFAULT, Z_LESIONS):
        deviations.append(Difference("z", threshold.get("z"), f"{Z_DEFAULT} or {Z_LESIONS}"))
    return deviations


def raise_if_different(networks: NetworkSet, differing: Sequence[Difference]) -> None:
    """Raise an error if choices differ from the paper's.

    Parameters
    ----------
    networks : NetworkSet
        Networks with these choices.
    differing : sequence of Difference
        Choices that differ.

    Raises
    ------
    ValueError
        If there is any; the message names all of them.
    """
    if differing:
        raise ValueError(
            f"{networks.method!r} was not computed as in the paper: {'; '.join(map(str, differing))}. Compute networks "
            "with the paper's choices (lmri decompose STUDY --paper), or leave out the label."
        )
