"""Layers and sites: what one slice of a space is, and where in a block its neurons are read."""

from dataclasses import asdict, dataclass
from typing import Any

ROUTER = "router"
"""The site whose neurons are experts: how much weight each is given at a token, 0 where it is not chosen."""

SITES = ("mlp_out", "mlp_hidden", "attn_out", "attn_heads", ROUTER)
"""Output and input of the final projection of each MLP, the same of each attention, and what chooses experts."""

DECODER = "decoder_"
"""Begins the name of a site in the decoder of an encoder–decoder, as in ``"decoder_mlp_out"``."""


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


def check_site(site: str) -> str:
    """Return `site` if there is such a one, else raise `ValueError`."""
    if site.removeprefix(DECODER) not in SITES:
        raise ValueError(
            f"site is {site!r}; accepted are {', '.join(map(repr, SITES))} and, for the decoder of an "
            f"encoder–decoder, the same after {DECODER!r}."
        )
    return site


def stack_of(site: str) -> str:
    """Name the stack that a site is in: ``"decoder"`` for the second of two, else ``"encoder"``, which may be all."""
    return "decoder" if site.startswith(DECODER) else "encoder"


def is_attention(site: str) -> bool:
    """Say whether a site is in the attention."""
    return site.removeprefix(DECODER).startswith("attn")


def has_experts(site: str) -> bool:
    """Say whether experts of a mixture are slices of their own at a site."""
    return site.removeprefix(DECODER) == "mlp_hidden"


def is_input(site: str) -> bool:
    """Say whether neurons are the inputs of a projection, which writes them to the residual stream by its weights."""
    return site.removeprefix(DECODER) in ("mlp_hidden", "attn_heads")
