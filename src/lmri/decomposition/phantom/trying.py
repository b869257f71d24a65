"""Evaluation of methods and thresholds on named phantoms and nulls, in simulated neurons or neurons of a study."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from lmri.decomposition.methods import METHODS
from lmri.decomposition.phantom.nulls import NULLS
from lmri.decomposition.phantom.tables import PHANTOMS, THRESHOLDS, make, table
from lmri.networks.thresholds.parsing import parse_threshold
from lmri.space import Img, NeuronSpace
from lmri.storage.store import Store

logger = logging.getLogger(__name__)

SMALL = (4, 256)
"""Default number of layers and width: small enough for a first evaluation in a minute or two."""

SALMON = "salmon"
"""The null that shifts a real recording."""


@dataclass(frozen=True)
class Neurons:
    """Neurons to plant networks in.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space.
    imgs : tuple of path or Nifti1Image
        Recording that ``"salmon"`` shifts; empty if there is none.
    """

    space: NeuronSpace
    imgs: tuple[Img, ...] = ()

    @classmethod
    def of_study(cls, store: Store, site: str | None = None) -> "Neurons":
        """Return the neurons and recordings of a site of a study."""
        recordings = store.group(site)
        return cls(recordings[0].space, tuple(img for recording in recordings for img in recording.imgs))

    @classmethod
    def simulated(cls, layers: int | None = None, width: int | None = None) -> "Neurons":
        """Simulate layers of equal width."""
        n_layers, n_neurons = SMALL[0] if layers is None else layers, SMALL[1] if width is None else width
        return cls(NeuronSpace.build([n_neurons] * n_layers))


@dataclass(frozen=True)
class Trial:
    """Phantoms, methods and thresholds to evaluate.

    Parameters
    ----------
    data : sequence of str, optional
        Names of phantoms and nulls; all by default, ``"salmon"`` only with a recording.
    method : sequence of str, optional
        Names of decomposition methods; ``"ica"`` by default.
    threshold : sequence of str, optional
        Thresholds as ``METHOD`` or ``METHOD:VALUE``; by default `lmri.phantom.THRESHOLDS`.
    n_components : int, optional
        Number of maps; by default the number of planted networks, and 20 on nulls.
    seeds : int, default=1
        Number of phantoms of each kind, with the seeds 0, 1, ...
    order : bool, default=False
        Whether the number of networks is estimated, too.
    """

    data: Sequence[str] | None = None
    method: Sequence[str] | None = None
    threshold: Sequence[str] | None = None
    n_components: int | None = None
    seeds: int = 1
    order: bool = False

    def __post_init__(self) -> None:
        for option, names, accepted in (
            ("--data", self.data, (*PHANTOMS, *NULLS)),
            ("--method", self.method, METHODS),
        ):
            for name in names or ():
                if name not in accepted:
                    raise ValueError(f"{option} is {name!r}; choose from {', '.join(accepted)}.")
        for text in self.threshold or ():
            if text not in THRESHOLDS:
                parse_threshold(text)
        if self.seeds < 1:
            raise ValueError(f"--seeds is {self.seeds}; it must be at least 1.")

    def names(self, has_recording: bool) -> list[str]:
        """List the phantoms and nulls without duplicates."""
        everything = [name for name in (*PHANTOMS, *NULLS) if has_recording or name != SALMON]
        names = list(dict.fromkeys(self.data or everything))
        if SALMON in names and not has_recording:
            raise ValueError("--data salmon shifts a real recording. Name a study with a recording: --study STUDY.")
        return names


def try_phantoms(
    neurons: Neurons, trial: Trial, n_jobs: int = 1, progress: Callable[[int, int], None] | None = None
) -> pd.DataFrame:
    """Evaluate methods and thresholds on data with known networks.

    Parameters
    ----------
    neurons : Neurons
        Neurons to plant networks in.
    trial : Trial
        Phantoms, methods and thresholds.
    n_jobs : int, default=1
        Number of processes.
    progress : callable, optional
        Callback for the number of finished phantoms, and the number of all phantoms.

    Returns
    -------
    DataFrame
        Table with one row per phantom, method and threshold; see `lmri.phantom.table`.
    """
    names = trial.names(bool(neurons.imgs))
    makers = {name: partial(make, name, neurons.space, imgs=list(neurons.imgs)) for name in names}
    methods = list(dict.fromkeys(trial.method or [next(iter(METHODS))]))
    thresholds = list(dict.fromkeys(trial.threshold or THRESHOLDS))
    return table(makers, methods, thresholds, range(trial.seeds), trial.n_components, trial.order, n_jobs, progress)


def save_phantoms(
    folder: Path, neurons: Neurons, trial: Trial, progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """Write the images of phantoms and nulls with seed 0, each to a folder of its name.

    Parameters
    ----------
    folder : Path
        New folder.
    neurons : Neurons
        Neurons to plant networks in.
    trial : Trial
        Names of phantoms and nulls; methods and thresholds have no effect.
    progress : callable, optional
        Callback for the number of written phantoms, and the number of all phantoms.

    Returns
    -------
    list of Path
        Folders, one per phantom.
    """
    names = trial.names(bool(neurons.imgs))
    for done, name in enumerate(names, start=1):
        make(name, neurons.space, imgs=list(neurons.imgs)).save(folder / name)
        if progress is not None:
            progress(done, len(names))
    return [folder / name for name in names]
