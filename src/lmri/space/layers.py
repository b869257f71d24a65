"""Layers: one slice of a space each, and properties of the site that its neurons are read at."""

from dataclasses import asdict, dataclass
from typing import Any

from lmri.space.sites import DECODER, site_of


@dataclass(frozen=True)
class Layer:
    """One slice of a space.

    Parameters
    ----------
    name : str
        What a person calls it, such as ``"layer 3"``.
    module : str
        Path of the module that is watched, from the base model, such as ``"h.3.mlp.c_proj"``.
    width : int
        Number of neurons.
    block : int, optional
        Number of the block, where a block has several slices, as one for each of its experts.
    expert : int, optional
        Which expert of a mixture; its neurons are 0 at tokens that were not routed to it.
    call : int, optional
        Which call of a module that several layers share, counted from 0 in each forward pass.
    n_heads : int, optional
        Attention heads, of ``width / n_heads`` neurons each.
    """

    name: str
    module: str
    width: int
    block: int | None = None
    expert: int | None = None
    call: int | None = None
    n_heads: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give the layer as JSON, without what it has not."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class ModelInfo:
    """Which weights a space was found in: provenance, not geometry.

    Parameters
    ----------
    id : str
        Hub name, or the name of the local folder.
    revision : str or None
        Commit on the hub.
    fingerprint : str
        Hash of the weights.
    model_type : str
        As in the model's configuration, such as ``"gpt2"``.
    dtype : str
        In which the model was run.
    """

    id: str
    revision: str | None
    fingerprint: str
    model_type: str
    dtype: str


def stack_of(site: str) -> str:
    """Name the stack that a site is in: ``"decoder"`` for the second of two, else ``"encoder"``, which may be all."""
    return "decoder" if site.startswith(DECODER) else "encoder"


def is_attention(site: str) -> bool:
    """Return whether a site is in the attention."""
    return site_of(site).is_attention


def has_experts(site: str) -> bool:
    """Return whether experts of a mixture are slices of their own at a site."""
    return site_of(site).has_experts


def is_input(site: str) -> bool:
    """Return whether neurons are inputs of a projection, which writes them to the residual stream by its weights."""
    return site_of(site).is_input
