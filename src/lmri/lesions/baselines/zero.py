"""Zero: silenced neurons are set to 0, as in the paper."""

from typing import TYPE_CHECKING

from lmri.lesions.baselines.kinds import BaselineKind

if TYPE_CHECKING:
    import numpy as np

    from lmri.lesions.baselines.kinds import Moments
    from lmri.storage.recording import Recording


def _value(_recording: "Recording | None", _seed: int) -> str:
    return "zero"


def _removed(moments: "Moments", _baseline_moments: "Moments") -> "np.ndarray":
    mean, variance = moments
    return variance + mean**2


KIND = BaselineKind(
    name="zero",
    keyword="zero",
    accepted=("zero",),
    form="zero",
    help="0",
    words="set to zero",
    value=_value,
    label=lambda _corpus, _seed: "zero",
    removed=_removed,
    takes_corpus=False,
)
