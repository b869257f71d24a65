"""The paper's choices as a switch: paper parity.

Temporal FastICA as scikit-learn does it, with the signs that the solver happens to give; a one-sided z over neurons;
the union of 10 networks, silenced with zeros; one random 15 % of all neurons instead of controls. It is there to repeat
what the paper did, not because it should be done: the heavier side of a map may fall below a one-sided threshold, and
neurons drawn uniformly lie in other layers than a network's. What remains ours: the first token of each text is left
out unless it is recorded (``lmri record --n-dummy 0``), and texts that are scored were not fitted.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmri.decomposition import build
from lmri.decomposition.stored import DECOMPOSITION_CODEC, decomposition_identity, save_decomposition
from lmri.networks import NetworkSet
from lmri.networks.stored import DECOMPOSITIONS, save_networks
from lmri.space import Img, NeuronSpace
from lmri.storage.store import Store

logger = logging.getLogger(__name__)

PARITY = "paper parity"
"""What everything carries that is made with the paper's choices."""

METHOD = "fastica-temporal"

PARAMETERS: Mapping[str, Any] = {
    "n_components": 10,
    "fun": "logcosh",
    "standardize": "center",  # scikit-learn's FastICA centres, over all volumes, and nothing else is done before
    "scope": "study",
    "max_iter": 200,
    "tol": 1e-4,
    "signs": "solver",
}
"""Of temporal FastICA as scikit-learn does it, which is what the paper's code calls."""

THRESHOLD = "z_positive"

Z_LESIONS = 3.6
"""Above which neurons belong to a network in the paper's lesions; the default of its code is 1.96."""

Z_DEFAULT = 1.96

RANDOM_SHARE = 0.15
"""Of all neurons, drawn once, uniformly over all layers: the paper's only control."""


@dataclass(frozen=True)
class Difference:
    """A choice that is not the paper's.

    Parameters
    ----------
    what : str
        Such as ``"signs"``.
    found, expected : object
        The choice, and the paper's.
    """

    what: str
    found: object
    expected: object

    def __str__(self) -> str:
        return f"{self.what} is {self.found!r}, and {self.expected!r} in the paper"


def paper_estimator(space: NeuronSpace, seed: int = 0, n_components: int = 10) -> Any:
    """Make the paper's decomposition: temporal FastICA as scikit-learn does it, with the solver's signs.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    seed : int, default=0
        Of the start; the paper has one.
    n_components : int, default=10
        The paper: 10, and for preservation up to 512.
    """
    estimator = build(METHOD, space, **{**PARAMETERS, "n_components": n_components, "random_state": seed})
    estimator.label = PARITY  # stored with its parameters
    return estimator


def paper_networks(
    space: NeuronSpace, imgs: Sequence[Img], threshold: float = Z_DEFAULT, seed: int = 0, n_components: int = 10
) -> NetworkSet:
    """Find networks as the paper does: temporal FastICA, and one-sided z over neurons.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    imgs : sequence of images
        Such as ``recording.imgs``; all are stacked in time.
    threshold : float, default=1.96
        Above it a neuron belongs to a network; the paper's lesions have 3.6.
    seed : int, default=0
        Of the start.
    n_components : int, default=10
        Number of networks.

    Notes
    -----
    The sign of a map is whatever the solver gives it, so that the heavier side may fall below the threshold: this
    repeats the paper's choice, and is not how networks should be found.
    """
    check_z(threshold)
    estimator = paper_estimator(space, seed, n_components).fit(imgs)
    return as_parity(NetworkSet.from_estimator(estimator).threshold(THRESHOLD, z=threshold))


def store_paper_networks(store: Store, site: str | None = None, seed: int = 0, name: str = "paper-parity") -> str:
    """Decompose with the paper's choices and store networks at z > 3.6, unless exactly these are stored.

    Parameters
    ----------
    store : Store
        Study of the recordings.
    site : str, optional
        Site of the neurons; needed if there are several.
    seed : int, default=0
        Seed of the start.
    name : str, default="paper-parity"
        Name of the decomposition and of the networks.

    Returns
    -------
    str
        Name of the networks.
    """
    recordings = store.group(site)
    at = recordings[0].space.site
    estimator = paper_estimator(recordings[0].space, seed)

    def compute() -> None:
        logger.info("Decomposing by %s, as in the paper", METHOD)
        estimator.fit([img for recording in recordings for img in recording.imgs])
        save_decomposition(store, estimator, recordings, name)

    store.compute_unless_stored(DECOMPOSITIONS, at, name, decomposition_identity(estimator, recordings), compute)
    networks = as_parity(store.open(DECOMPOSITION_CODEC, name, at).threshold(THRESHOLD, z=Z_LESIONS))
    save_networks(store, networks, name)
    return name


def check_z(threshold: float) -> float:
    """Return `threshold` if the paper has it, else raise."""
    if threshold not in (Z_DEFAULT, Z_LESIONS):
        raise ValueError(
            f"The threshold is {threshold!r}; the paper's are {Z_DEFAULT} and {Z_LESIONS} (lesions). Take one of "
            "these, or leave out the label of paper parity."
        )
    return threshold


def as_parity(networks: NetworkSet) -> NetworkSet:
    """Label networks that were made with the paper's choices, or raise where they were not."""
    check_parity(networks, n_components=None)
    return replace(networks, info={**networks.info, "threshold": {**networks.info["threshold"], "label": PARITY}})


def differences(networks: NetworkSet, n_components: int | None = 10) -> list[Difference]:
    """List what of the paper's choices networks were not made with.

    Parameters
    ----------
    networks : NetworkSet
        Thresholded.
    n_components : int or None, default=10
        As in the paper's lesions; None if any number will do, as in its preservations.
    """
    parameters, threshold = networks.info.get("parameters", {}), networks.info.get("threshold", {})
    expected = {name: value for name, value in PARAMETERS.items() if name != "n_components"}
    expected |= {} if n_components is None else {"n_components": n_components}
    pairs = [("method", networks.info.get("method"), METHOD)]
    pairs += [(name, parameters.get(name), value) for name, value in expected.items()]
    pairs.append(("threshold", threshold.get("method"), THRESHOLD))
    found = [Difference(*one) for one in pairs if one[1] != one[2]]
    if threshold.get("method") == THRESHOLD and threshold.get("z") not in (Z_DEFAULT, Z_LESIONS):
        found.append(Difference("z", threshold.get("z"), f"{Z_DEFAULT} or {Z_LESIONS}"))
    return found


def check_parity(
    networks: NetworkSet, parameters: Mapping[str, Any] | None = None, n_components: int | None = 10
) -> None:
    """Refuse networks that were not made with the paper's choices.

    Parameters
    ----------
    networks : NetworkSet
        Thresholded, as a study has them.
    parameters : mapping, optional
        Parameters of stored scores; an intervention named in them must be a lesion to zero without controls.
    n_components : int or None, default=10
        None if any number will do.

    Raises
    ------
    ValueError
        Naming all choices that differ.
    """
    found = differences(networks, n_components)
    shown = parameters or {}
    for name, expected in (("intervention", "lesion"), ("baseline", "zero"), ("n_controls", 0)):
        if shown.get(name, expected) != expected:
            found.append(Difference(name, shown[name], expected))
    if found:
        raise ValueError(
            f"{networks.method!r} was not made as in the paper: {'; '.join(map(str, found))}. Make networks with the "
            "paper's choices (lmri decompose STUDY --paper), or leave out the label."
        )
