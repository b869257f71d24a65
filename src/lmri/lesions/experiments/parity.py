"""Paper parity of lesions: the paper's only control, and a check of networks and stored scores.

The paper silences the union of 10 networks with zeros and compares it with one random 15 % of all neurons. Uniformly
drawn neurons differ from the neurons of a network in their layers; this reproduces the paper and is not recommended.
The paper's decomposition and threshold are in `lmri.decomposition.parity`.
"""

from collections.abc import Mapping
from typing import Any

from lmri.decomposition.parity import Difference, differences, raise_if_different
from lmri.networks import NetworkSet

RANDOM_SHARE = 0.15
"""Share of all neurons, drawn once and uniformly over all layers: the paper's only control."""


def check_parity(
    networks: NetworkSet, parameters: Mapping[str, Any] | None = None, n_components: int | None = 10
) -> None:
    """Refuse networks that differ from the paper's settings.

    Parameters
    ----------
    networks : NetworkSet
        Thresholded networks of a study.
    parameters : mapping, optional
        Parameters of stored scores; an intervention among them must be a lesion to zero without controls.
    n_components : int or None, default=10
        Number of maps; None accepts any number.

    Raises
    ------
    ValueError
        If a setting differs; the message names all differences.
    """
    differing = differences(networks, n_components)
    shown = parameters or {}
    for name, expected in (("intervention", "lesion"), ("baseline", "zero"), ("n_controls", 0)):
        if shown.get(name, expected) != expected:
            differing.append(Difference(name, shown[name], expected))
    raise_if_different(networks, differing)
