"""Layers, which are the slices of a space, the model of a space, and properties of sites."""

from dataclasses import asdict, dataclass
from typing import Any

from lmri.space.sites import DECODER, site_of


@dataclass(frozen=True)
class Layer:
    """One slice of a space.

    Parameters
    ----------
    name : str
        Display name, such as ``"layer 3"``.
    module : str
        Path of the hooked module, relative to the base model, such as ``"h.3.mlp.c_proj"``.
    width : int
        Number of neurons.
    block : int, optional
        Number of the block, if a block has several slices, such as one per expert.
    expert : int, optional
        Number of the expert of a mixture; its neurons are 0 at tokens that were not routed to it.
    call : int, optional
        Number of the call of a module that several layers share, counted from 0 in each forward pass.
    n_heads : int, optional
        Number of attention heads, of ``width / n_heads`` neurons each.
    """

    name: str
    module: str
    width: int
    block: int | None = None
    expert: int | None = None
    call: int | None = None
    n_heads: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the layer as JSON content, without properties that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class ModelInfo:
    """Model of a space, identified by its weights: provenance, not geometry.

    Parameters
    ----------
    id : str
        Hub name, or the name of the local folder.
    revision : str or None
        Commit on the hub.
    fingerprint : str
        Hash of the weights.
    model_type : str
        Architecture from the model's configuration, such as ``"gpt2"``.
    dtype : str
        Precision in which the model was run.
    """

    id: str
    revision: str | None
    fingerprint: str
    model_type: str
    dtype: str


def stack_of(site: str) -> str:
    """Return the stack of a site: ``"decoder"`` in the decoder of an encoder–decoder, else ``"encoder"``."""
    return "decoder" if site.startswith(DECODER) else "encoder"


def is_attention(site: str) -> bool:
    """Return whether a site belongs to the attention."""
    return site_of(site).is_attention


def has_experts(site: str) -> bool:
    """Return whether each expert of a mixture is a separate slice at a site."""
    return site_of(site).has_experts


def is_input(site: str) -> bool:
    """Return whether neurons are inputs of a projection, which writes them to the residual stream by its weights."""
    return site_of(site).is_input
