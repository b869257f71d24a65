"""Description of a family of controls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from lmri.lesions.controls.base import Controls
    from lmri.networks import Network
    from lmri.storage.recording import Recording


@dataclass(frozen=True)
class Lesioned:
    """The networks that need controls, and how they are lesioned.

    Parameters
    ----------
    targets : callable
        Lists the networks, of one site.
    baseline : str
        Name of the kind of baseline in `lmri.lesions.baselines.BASELINES`.
    recordings : callable
        Opens the recordings in which the networks were found.
    given : callable
        Opens the recording of the baseline; None if the baseline takes none.
    norms : callable
        Computes the squared norms of the output weights, of shape (n_neurons,); None where neurons have none.
    """

    targets: "Callable[[], Sequence[Network]]"
    baseline: str
    recordings: "Callable[[], list[Recording]]"
    given: "Callable[[], Recording | None]"
    norms: "Callable[[], np.ndarray | None]"


@dataclass(frozen=True)
class ControlFamily:
    """A family of matched controls.

    Parameters
    ----------
    name : str
        Name on the command line.
    family : str
        Name in tables, the ``family`` of the controls that `make` returns.
    help : str
        One-line description for ``--help``: the property that controls share with their network besides size. Empty if
        the name needs none.
    words : str
        Description for the report, after "Controls have".
    make : callable
        Creates the controls from the lesioned networks and the number of draws per network.
    same_size : bool, default=True
        Whether a control has the same number of neurons as its network, as comparisons over sizes or doses require.
    """

    name: str
    family: str
    help: str
    words: str
    make: "Callable[[Lesioned, int], Controls]"
    same_size: bool = True
