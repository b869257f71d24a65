"""Baselines as people write them: ``zero``, ``CORPUS``, ``resample:CORPUS`` or ``resample:CORPUS:SEED``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmri.storage.recording import Recording

if TYPE_CHECKING:
    from lmri.storage.store import Store

ACCEPTED = "accepted are zero, CORPUS, resample:CORPUS and resample:CORPUS:SEED"


@dataclass(frozen=True)
class Baseline:
    """What a silenced neuron gives.

    Parameters
    ----------
    kind : {"zero", "mean", "resample"}
        Nothing, its mean over a recording, or its values at donor tokens of one.
    corpus : str
        Of the recording; empty for zero.
    seed : int
        Of the draw of donors.
    """

    kind: str = "zero"
    corpus: str = ""
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> "Baseline":
        """Read one as people write it.

        Raises
        ------
        ValueError
            If it is none of the accepted forms.
        """
        kind, _, rest = text.partition(":")
        if kind != "resample":
            if text and not rest:
                return cls() if text == "zero" else cls("mean", text)
            raise ValueError(f"The baseline is {text!r}; {ACCEPTED}.")
        corpus, _, seed = rest.partition(":")
        if not corpus or (seed and not seed.isdecimal()):
            raise ValueError(f"The baseline is {text!r}; {ACCEPTED}.")
        return cls("resample", corpus, int(seed or 0))

    @property
    def label(self) -> str:
        """What tables and figures call it."""
        if self.kind == "resample":
            return f"resample of {self.corpus}, seed {self.seed}" if self.seed else f"resample of {self.corpus}"
        return f"mean of {self.corpus}" if self.kind == "mean" else "zero"

    def recording(self, study: "Store", site: str) -> Recording | None:
        """Open the recording that it speaks of; None for zero.

        Raises
        ------
        AmbiguousChoiceError
            If the study has none of this corpus at this site.
        """
        return None if self.kind == "zero" else study.recording(self.corpus, site)
