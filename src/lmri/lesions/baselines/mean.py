"""Mean: silenced neurons are set to their mean over the recording of a corpus."""

from typing import TYPE_CHECKING

from lmri.lesions.baselines.kinds import BaselineKind

if TYPE_CHECKING:
    import numpy as np

    from lmri.lesions.baselines.kinds import Moments
    from lmri.storage.recording import Recording


def _value(recording: "Recording", _seed: int) -> "Recording":
    return recording


def _removed(own: "Moments", given: "Moments") -> "np.ndarray":
    mean, variance = own
    return variance + (mean - given[0]) ** 2


KIND = BaselineKind(
    name="mean",
    keyword="",
    accepted=("CORPUS",),
    form="CORPUS",
    help="the neuron's mean over CORPUS",
    value=_value,
    label=lambda corpus, _seed: f"mean of {corpus}",
    removed=_removed,
)
