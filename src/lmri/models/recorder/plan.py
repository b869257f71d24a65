"""The plan of a recording, made before the first forward pass from all texts at once.

Runs and batches are in it, so that a recording which was interrupted, and one that is made in shards, reads the same
batches as one that was made in one go; the same batches give the same bits. Data only; nothing here loads a model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmri import storage
from lmri.exceptions import StudyError
from lmri.space import NeuronSpace
from lmri.storage.bids import TEXT_COLUMNS

_WORDS = {
    "texts": "other texts",
    "tokens": "other tokens of the same texts (another tokenizer, or other settings of it)",
    "split": "another split into texts to fit and to test (the study has got other recordings since)",
    "neurons": "other neurons",
    "batches": "other batches",
}


@dataclass(frozen=True)
class Plan:
    """What is recorded, in which runs and in which batches.

    Parameters
    ----------
    corpus : str
        Name of the texts.
    spaces : tuple of NeuronSpace
        The sites, recorded in the same passes.
    texts : DataFrame
        A row a text, as in the study.
    batches : list of list of int
        Texts that are read at once.
    parameters : mapping
        As in the index of the recording.
    made_of : mapping
        All that the bytes of the recording are a function of, by name.
    location : str
        Where the model was loaded from; no byte depends on it.
    caveats : mapping from str to list of str
        Of every site, what stands between its neurons and the residual stream.
    beside : tuple of NeuronSpace
        Routers, which are read in the same passes and become tables.
    """

    corpus: str
    spaces: tuple[NeuronSpace, ...]
    texts: pd.DataFrame
    batches: list[list[int]]
    parameters: Mapping[str, Any]
    made_of: Mapping[str, Any]
    location: str
    caveats: Mapping[str, list[str]] = field(default_factory=dict)
    beside: tuple[NeuronSpace, ...] = ()

    @cached_property
    def runs(self) -> list[list[int]]:
        """Texts of every run, in order; texts that are held out or give no volume are in none."""
        found: list[list[int]] = [[] for _ in range(int(self.texts["run"].max()))]
        for text, number in enumerate(self.texts["run"]):
            if not np.isnan(number):
                found[int(number) - 1].append(text)
        return found

    @cached_property
    def n_volumes(self) -> list[int]:
        """Volumes of every text."""
        return [int(count) for count in self.texts["n_volumes"]]

    @cached_property
    def n_tokens(self) -> list[int]:
        """Tokens of every text."""
        return [int(count) for count in self.texts["n_tokens"]]

    @property
    def read(self) -> tuple[NeuronSpace, ...]:
        """Everything that is read."""
        return (*self.spaces, *self.beside)

    @property
    def sites(self) -> list[str]:
        """Names of the sites."""
        return [space.site for space in self.spaces]

    @property
    def digest(self) -> str:
        """Hash of all that the bytes are a function of."""
        return storage.digest(self.made_of)

    @property
    def n_bytes(self) -> int:
        """Bytes of all volumes."""
        n_volumes = sum(self.n_volumes[text] for run in self.runs for text in run)
        return sum(4 * space.inside.size * n_volumes for space in self.read)

    def own_batches(self, shard: tuple[int, int] | None) -> list[int]:
        """Choose the numbers of the batches of a shard, given as (number from 1, how many), or of all."""
        number, n_shards = shard or (1, 1)
        return list(range(number - 1, len(self.batches), n_shards))

    def own_runs(self, shard: tuple[int, int] | None) -> list[int]:
        """Choose the runs, counted from 1, whose tables a shard writes."""
        number, n_shards = shard or (1, 1)
        return list(range(number, len(self.runs) + 1, n_shards))

    def save(self, folder: Path) -> None:
        """Write the plan whole into a new folder."""
        with storage.whole(folder) as partial:
            partial.mkdir(parents=True)
            storage.write_table(partial / "texts.tsv", self.texts)
            content = {
                "corpus": self.corpus,
                "spaces": [space.to_dict() for space in self.spaces],
                "batches": self.batches,
                "parameters": dict(self.parameters),
                "made_of": dict(self.made_of),
                "location": self.location,
                "caveats": dict(self.caveats),
                "beside": [space.to_dict() for space in self.beside],
            }
            storage.write_json(partial / "plan.json", content)

    @classmethod
    def load(cls, folder: Path) -> "Plan":
        """Undo `save`."""
        content = storage.read_json(folder / "plan.json")
        spaces = tuple(NeuronSpace.from_dict(space) for space in content["spaces"])
        texts = storage.read_table(folder / "texts.tsv", TEXT_COLUMNS)
        rest = {name: content[name] for name in ("batches", "parameters", "made_of", "location", "caveats")}
        beside = tuple(NeuronSpace.from_dict(space) for space in content.get("beside", []))
        return cls(content["corpus"], spaces, texts, **rest, beside=beside)

    def check_same(self, folder: Path, next_step: str) -> None:
        """Refuse to go on with a recording of another plan.

        Raises
        ------
        StudyError
            Naming what differs.
        """
        begun = storage.read_json(folder / "plan.json")["made_of"]
        if found := differences(begun, dict(self.made_of)):
            raise StudyError(
                f"The recording of {self.corpus!r} that was begun in {folder} was of another plan: {'; '.join(found)}. "
                f"Go on with the same texts, options, model and versions, or {next_step}."
            )


def differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in words what two plans differ in."""
    found = []
    for name in dict.fromkeys([*begun, *now]):
        old, new = begun.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new)
        elif name in _WORDS:
            found.append(_WORDS[name])
        else:
            found.append(f"{name} was {old!r} and is {new!r}")
    # Other texts have other tokens, splits and batches; the cause is enough.
    return found[: 1 + found.index(_WORDS["texts"])] if _WORDS["texts"] in found else found


def text_shares(texts: Sequence[int], n_volumes: Sequence[int], n_bytes: int) -> list[tuple[int, int, int]]:
    """Lay texts behind each other: (text, first byte, bytes) of each, at `n_bytes` a volume."""
    shares, first = [], 0
    for text in texts:
        size = n_bytes * n_volumes[text]
        shares.append((text, first, size))
        first += size
    return shares
