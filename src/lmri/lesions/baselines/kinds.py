"""Description of a kind of baseline."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from lmri.lesions.baselines.resample_source import ResampleSource
    from lmri.storage.recording import Recording

    Moments = tuple[np.ndarray, np.ndarray]
    """Mean and variance of every neuron over tokens, each of shape (n_neurons,)."""


@dataclass(frozen=True)
class BaselineKind:
    """A kind of baseline: its notation and the values that it assigns.

    Parameters
    ----------
    name : str
        Name of the kind.
    keyword : str
        Keyword of the notation; empty if the notation is the corpus alone.
    accepted : tuple of str
        All accepted forms, for error messages.
    form : str
        Summary of the accepted forms, for ``--help``.
    help : str
        One-line description for ``--help``; empty if the form needs none.
    words : str
        Wording of the methods section after "lesioned neurons were", with ``{corpus}``.
    value : callable
        Computes the ``baseline`` of `lmri.lesion` from the recording of the corpus (None if no corpus is taken) and
        the seed.
    label : callable
        Formats the label of the baseline for tables, figures and the report, from the corpus and the seed.
    removed : callable
        Computes the mean square over tokens that a lesion of each neuron removes, in squared activation units, from the
        moments of the neuron and those of the corpus of the baseline.
    takes_corpus, takes_seed : bool
        Whether a corpus and a seed are parts of the form.
    """

    name: str
    keyword: str
    accepted: tuple[str, ...]
    form: str
    help: str
    words: str
    value: "Callable[[Any, int], str | Recording | ResampleSource]"
    label: Callable[[str, int], str]
    removed: "Callable[[Moments, Moments], np.ndarray]"
    takes_corpus: bool = True
    takes_seed: bool = False
