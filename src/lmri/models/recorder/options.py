"""Options of a recording: validated, with their defaults, and as the index of the recording stores them.

Nothing here loads a model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from lmri import storage
from lmri.models.recorder.time_axis import Axis
from lmri.space.layers import has_experts
from lmri.storage.adding import ModelLabels

_STORED = {"stored": "always"}
_STORED_IF_CHANGED = {"stored": "if changed"}
"""Options added later: they are stored in the index only if not at their default, so older recordings stay valid."""


@dataclass(frozen=True)
class Generation:
    """How a model continues a prompt.

    Parameters
    ----------
    max_new_tokens : int
        Largest number of generated tokens; the end-of-text token ends a continuation earlier.
    temperature : float, default=0.0
        Sampling temperature; 0 is greedy. Penalties and cut-offs of the checkpoint are ignored.
    seed : int, default=0
        Seed of the samples; each prompt has its own random numbers, independent of the other prompts.
    """

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"generate is {self.max_new_tokens}; it must be at least 1 token.")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}; it must be at least 0.")


@dataclass(frozen=True)
class RecordingOptions:
    """Options of `lmri.record`, under the same names and with the same defaults; see there.

    The order of the fields is their order in the index of a recording.
    """

    corpus: str = "texts"
    site: str | Sequence[str] = "mlp_out"
    run_tokens: int = field(default=1024, metadata=_STORED)
    texts_per_run: int | None = field(default=None, metadata=_STORED)
    n_dummy: int = field(default=1, metadata=_STORED)
    test_fraction: float = field(default=0.25, metadata=_STORED)
    seed: int = field(default=0, metadata=_STORED)
    max_tokens: int | None = field(default=None, metadata=_STORED)
    batch_size: int = field(default=8, metadata=_STORED)
    projection: str | None = field(default=None, metadata=_STORED)
    experts: Iterable[int] | None = field(default=None, metadata=_STORED_IF_CHANGED)
    per: str = field(default="token", metadata=_STORED_IF_CHANGED)
    every: int = field(default=1, metadata=_STORED_IF_CHANGED)
    generate: int | None = field(default=None, metadata=_STORED_IF_CHANGED)
    batch_tokens: int | None = field(default=None, metadata=_STORED_IF_CHANGED)
    temperature: float = 0.0
    resume: bool = False
    shard: tuple[int, int] | None = None
    subject: str | None = None
    session: str | None = None
    device_check: bool = True

    def __post_init__(self) -> None:
        storage.check_corpus(self.corpus)
        if not isinstance(self.site, str):
            object.__setattr__(self, "site", list(self.site))
        if self.experts is not None:
            object.__setattr__(self, "experts", sorted(set(self.experts)))
        if not self.sites or len(set(self.sites)) < len(self.sites):
            raise ValueError(f"site is {self.site!r}; give one name or a non-empty list of different names.")
        if self.n_dummy < 0:
            raise ValueError(f"n_dummy is {self.n_dummy}; it must be at least 0.")
        for name in ("batch_size", "batch_tokens", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            number, n_shards = self.shard
            raise ValueError(f"shard is {number}/{n_shards}; shards are 1/{n_shards} to {n_shards}/{n_shards}.")
        _ = self.axis, self.generation  # validated on construction
        if self.experts is not None and not any(has_experts(site) for site in self.sites):
            raise ValueError(
                f"experts are {self.experts}, but the neurons at {', '.join(self.sites)} do not belong to single "
                "experts. Record 'mlp_hidden' too."
            )

    @property
    def labels(self) -> ModelLabels:
        """Labels of the model that the user chose."""
        return ModelLabels(self.subject, self.session)

    @property
    def sites(self) -> list[str]:
        """Names of the sites."""
        return [self.site] if isinstance(self.site, str) else list(self.site)

    @cached_property
    def axis(self) -> Axis:
        """Time axis: which tokens become one volume."""
        return Axis(self.per, self.every)

    @cached_property
    def generation(self) -> Generation | None:
        """How prompts are continued; None if the texts are read as they are."""
        return None if self.generate is None else Generation(self.generate, self.temperature, self.seed)

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters as stored in the index of a recording."""
        stored = {
            option.name: getattr(self, option.name)
            for option in fields(self)
            if option.metadata.get("stored") == "always"
            or (option.metadata.get("stored") == "if changed" and getattr(self, option.name) != option.default)
        }
        if self.texts_per_run is not None:
            stored["run_tokens"] = None
        return stored if self.generation is None else stored | {"temperature": self.temperature}

    def experts_at(self, site: str) -> list[int] | None:
        """Return the experts to record at a site; None for all experts, or for sites without separate experts."""
        return list(self.experts) if self.experts is not None and has_experts(site) else None
