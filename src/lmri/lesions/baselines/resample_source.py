"""Tokens of a recording from which lesioned neurons take their values."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmri.space import NeuronSpace
from lmri.storage import digest, text_hash
from lmri.storage.recording import Recording

_TABLE = 65_536
"""Size of the tables of random numbers; positions and token ids are taken modulo this size."""


@dataclass(frozen=True, eq=False)
class ResampleSource:
    """Donor tokens: tokens of a recording, with the activations of all neurons at each.

    Every token that the model reads is assigned one donor, the same in all layers, so that the silenced neurons take
    values that occurred together. The donor depends on the seed, on the position of the token in its text and on the
    token id. A text therefore has the same donors alone and in a batch, padded or not, read at once or generated token
    by token.

    Parameters
    ----------
    space : NeuronSpace
        Space of the neurons.
    values : ndarray of float32, shape (n_donors, n_neurons)
        Activations at the donor tokens.
    corpus : str
        Corpus of the recording.
    seed : int
        Seed of the draw and of the assignment of donors; ten seeds are ten interventions.
    texts : frozenset of str
        Hashes of the texts that donors may come from. A donor is guaranteed to come from *another* text only if the
        model reads none of these.
    """

    space: NeuronSpace
    values: np.ndarray
    corpus: str
    seed: int = 0
    texts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != self.space.n_neurons or not len(self.values):
            raise ValueError(
                f"values have shape {self.values.shape}; one row per donor is needed, (n_donors, "
                f"{self.space.n_neurons}), with at least one donor."
            )
        for row in self.values:
            self.space.check_finite(row, f"The donors of {self.corpus!r}")

    @classmethod
    def draw(cls, recording: Recording, seed: int = 0, n: int = 512) -> "ResampleSource":
        """Draw donor tokens from the volumes of a recording.

        Dummy tokens, such as the first token of every text, are not in the images and therefore never donors.

        Parameters
        ----------
        recording : Recording
            Recording of the network's model and site.
        seed : int, default=0
            Seed of the draw.
        n : int, default=512
            Number of donors, drawn without replacement; all tokens if there are fewer. Each donor takes 4 bytes per
            neuron.
        """
        if n < 1:
            raise ValueError(f"n is {n}; at least 1 donor is needed.")
        check_tokens(recording)
        rng = np.random.default_rng([seed, 0])
        chosen = np.sort(rng.choice(recording.n_volumes, size=min(n, recording.n_volumes), replace=False))
        values = np.empty((len(chosen), recording.space.n_neurons), dtype=np.float32)
        first = 0
        for array in recording.arrays():
            in_run = (chosen >= first) & (chosen < first + len(array))
            values[in_run] = array[chosen[in_run] - first]
            first += len(array)
        texts = frozenset(text_hash(text) for text in recording.fit_texts)
        return cls(recording.space, values, recording.corpus, seed, texts)

    @property
    def label(self) -> str:
        """Label in scores of a lesion with these donors."""
        return f"resample of {self.corpus}, seed {self.seed}"

    def digest(self) -> str:
        """Return the hash of the donors' activations and of their assignment to tokens."""
        return digest([hashlib.sha256(np.ascontiguousarray(self.values).tobytes()).hexdigest(), self.seed])

    @cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, 1])
        by_position, by_token = rng.integers(len(self.values), size=(2, _TABLE))
        return by_position, by_token

    def choose(self, positions: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Return the donor of every token, as an index into `values`.

        Parameters
        ----------
        positions, ids : ndarray of int, of one shape
            Position of each token in its text, counted from 0 without padding, and token id.
        """
        by_position, by_token = self._tables
        # Both numbers are uniform, and so is their sum modulo n, for any pair of position and token.
        return (by_position[positions % _TABLE] + by_token[ids % _TABLE]) % len(self.values)


def check_tokens(recording: Recording) -> None:
    """Refuse recordings of words or sentences, whose volumes are means: a lesion acts at single tokens."""
    per = recording.info.get("parameters", {}).get("per", "token")
    if per != "token":
        raise ValueError(
            f"The recording of {recording.corpus!r} has one volume per {per}, but a lesion acts at single tokens. "
            "Record one volume per token for a baseline: omit --per."
        )
