"""Tokens of a recording from which lesioned neurons take their values."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmri.space import NeuronSpace
from lmri.storage import digest, text_hash
from lmri.storage.recording import Recording

_TABLE = 65_536
"""Positions and token ids beyond are counted from 0 again."""


@dataclass(frozen=True, eq=False)
class ResampleSource:
    """Tokens of a recording, with the activity of all neurons at each.

    Every token that the model reads gets one donor, the same in all layers, so that the silenced neurons have values
    that they had together. Which one depends on the seed, on the token's position in its text and on the token: a text
    has the same donors alone and in a batch, padded or not, read at once or generated token by token.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    values : ndarray of float32, shape (n_donors, n_neurons)
        Activations.
    corpus : str
        That of the recording.
    seed : int
        Which tokens are donors, and whose; ten seeds are ten interventions.
    texts : frozenset of str
        Hashes of the texts that donors may come from. A donor comes from *another* text only if none of these is read.
    """

    space: NeuronSpace
    values: np.ndarray
    corpus: str
    seed: int = 0
    texts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != self.space.n_neurons or not len(self.values):
            raise ValueError(
                f"values have shape {self.values.shape}; needed is a row a donor, (n_donors, {self.space.n_neurons}), "
                "and at least one of them."
            )
        for row in self.values:
            self.space.check_finite(row, f"The donors of {self.corpus!r}")

    @classmethod
    def draw(cls, recording: Recording, seed: int = 0, n: int = 512) -> "ResampleSource":
        """Draw donor tokens from the texts in a recording's images.

        Dummies, such as the first token of every text, are in no image and so never donors.

        Parameters
        ----------
        recording : Recording
            Of the model and site of the network.
        seed : int, default=0
            Of this draw.
        n : int, default=512
            ResampleSource, without replacement; all tokens if there are fewer. Each takes 4 bytes a neuron.
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
        """What scores say of a lesion with these donors."""
        return f"resample of {self.corpus}, seed {self.seed}"

    def digest(self) -> str:
        """Hash of the donors' activity and of who gets which."""
        return digest([hashlib.sha256(np.ascontiguousarray(self.values).tobytes()).hexdigest(), self.seed])

    @cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, 1])
        by_position, by_token = rng.integers(len(self.values), size=(2, _TABLE))
        return by_position, by_token

    def choose(self, positions: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Give the donor of every token, an index into `values`.

        Parameters
        ----------
        positions, ids : ndarray of int, of one shape
            Place of the token in its text, counted from 0 and without pads, and its id.
        """
        by_position, by_token = self._tables
        # Each of the two is uniform, and so is their sum modulo n, for any pair of position and token.
        return (by_position[positions % _TABLE] + by_token[ids % _TABLE]) % len(self.values)


def check_tokens(recording: Recording) -> None:
    """Refuse a recording of words or sentences, whose volumes are means: a lesion writes at single tokens."""
    per = recording.info.get("parameters", {}).get("per", "token")
    if per != "token":
        raise ValueError(
            f"The recording of {recording.corpus!r} has a volume a {per}, and a lesion writes at single tokens. Record "
            "tokens for a baseline: without --per."
        )
