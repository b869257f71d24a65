"""Baselines in the notation of the command line: ``zero``, ``CORPUS`` or ``resample:CORPUS[:SEED]``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmri.lesions.baselines.kinds import BaselineKind
from lmri.lesions.baselines.registry import BASELINES, accepted_baselines

if TYPE_CHECKING:
    from lmri.lesions.baselines.resample_source import ResampleSource
    from lmri.storage.recording import Recording
    from lmri.storage.store import Store


@dataclass(frozen=True)
class Baseline:
    """The values that replace the activity of silenced neurons.

    Parameters
    ----------
    kind : str, default="zero"
        Name of the kind in `BASELINES`.
    corpus : str
        Corpus of the recording; empty if the kind takes none.
    seed : int
        Seed for the draw of donor tokens.
    """

    kind: str = "zero"
    corpus: str = ""
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> "Baseline":
        """Parse a baseline in the notation of the command line.

        Raises
        ------
        ValueError
            If the text has none of the accepted forms.
        """
        keyword, *rest = text.split(":")
        named = [kind for kind in BASELINES.values() if kind.keyword and kind.keyword == keyword]
        if not named and text and not rest:
            return cls(next(kind.name for kind in BASELINES.values() if not kind.keyword), text)
        if named and (baseline := cls._of(named[0], rest)) is not None:
            return baseline
        raise ValueError(f"The baseline is {text!r}; {accepted_baselines()}.")

    @classmethod
    def _of(cls, kind: BaselineKind, rest: list[str]) -> "Baseline | None":
        """Parse corpus and seed; None if the kind does not accept them."""
        corpus, seed = rest[0] if rest else "", rest[1] if len(rest) > 1 else ""
        most = kind.takes_corpus + kind.takes_seed
        if len(rest) > most or (kind.takes_corpus and not corpus) or (seed and not seed.isdecimal()):
            return None
        return cls(kind.name, corpus, int(seed or 0))

    @property
    def label(self) -> str:
        """Name of the baseline in tables and figures."""
        return BASELINES[self.kind].label(self.corpus, self.seed)

    def recording(self, store: "Store", site: str) -> "Recording | None":
        """Open the recording of the corpus; None if the kind takes no corpus.

        Raises
        ------
        AmbiguousChoiceError
            If the corpus was not recorded at the site.
        """
        return store.recording(self.corpus, site) if BASELINES[self.kind].takes_corpus else None

    def value(self, store: "Store", site: str) -> "str | Recording | ResampleSource":
        """Return the ``baseline`` of `lmri.lesion` and `lmri.preserve`."""
        return BASELINES[self.kind].value(self.recording(store, site), self.seed)
