"""Resample: silenced neurons take their values at a random token of a corpus, all at the same token."""

from typing import TYPE_CHECKING

from lmri.lesions.baselines.kinds import BaselineKind
from lmri.lesions.baselines.resample_source import ResampleSource

if TYPE_CHECKING:
    import numpy as np

    from lmri.lesions.baselines.kinds import Moments
    from lmri.storage.recording import Recording


def _value(recording: "Recording", seed: int) -> "ResampleSource":
    return ResampleSource.draw(recording, seed)


def _label(corpus: str, seed: int) -> str:
    return f"resample of {corpus}, seed {seed}" if seed else f"resample of {corpus}"


def _removed(moments: "Moments", baseline_moments: "Moments") -> "np.ndarray":
    (mean, variance), (other_mean, other_variance) = moments, baseline_moments
    return variance + other_variance + (mean - other_mean) ** 2


KIND = BaselineKind(
    name="resample",
    keyword="resample",
    accepted=("resample:CORPUS", "resample:CORPUS:SEED"),
    form="resample:CORPUS[:SEED]",
    help="its values at random tokens of that corpus",
    words="replaced by their values at random tokens of {corpus}",
    value=_value,
    label=_label,
    removed=_removed,
    takes_seed=True,
)
