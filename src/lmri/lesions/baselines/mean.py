"""Mean: silenced neurons are set to their mean over the recording of a corpus."""

from typing import TYPE_CHECKING

from lmri.lesions.baselines.kinds import BaselineKind

if TYPE_CHECKING:
    import numpy as np

    from lmri.lesions.baselines.kinds import Moments
    from lmri.storage.recording import Recording


def _value(recording: "Recording", _seed: int) -> "Recording":
    return recording


def _removed(moments: "Moments", baseline_moments: "Moments") -> "np.ndarray":
    mean, variance = moments
    return variance + (mean - baseline_moments[0]) ** 2


KIND = BaselineKind(
    name="mean",
    keyword="",
    accepted=("CORPUS",),
    form="CORPUS",
    help="the neuron's mean over that corpus",
    words="replaced by their means over {corpus}",
    value=_value,
    label=lambda corpus, _seed: f"mean of {corpus}",
    removed=_removed,
)
