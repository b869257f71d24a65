"""Sites: the locations in a block at which neurons are read and changed.

A new site is one entry of `SITES`; help, messages, docstrings and the report are generated from it. Its neurons are
found from the attributes of the entry, if they are the output or input of the final projection of an MLP or of an
attention; other sites need code in `lmri.models.sites.finding`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

ROUTER = "router"
"""Site whose neurons are experts, with their routing weights as activations (0 if an expert is not selected)."""

DECODER = "decoder_"
"""Prefix of the names of sites in the decoder of an encoder–decoder, as in ``"decoder_mlp_out"``."""

_Documented = TypeVar("_Documented", bound=Callable[..., object])


@dataclass(frozen=True)
class Site:
    """Location in a block at which neurons are read.

    Parameters
    ----------
    name : str
        Name on the command line, in files and in code.
    help : str
        One line of help.
    wording : str
        Wording in the methods section of the report, after "a neuron is".
    neuron : str
        Definition of a neuron at this site, in Markdown.
    remark : str, default=""
        Remark on these neurons, in Markdown.
    is_attention : bool, default=False
        Whether the neurons belong to the attention instead of the MLP.
    is_input : bool, default=False
        Whether neurons are inputs of a projection, which writes them to the residual stream by its weights.
    has_experts : bool, default=False
        Whether each expert of a mixture is a separate slice.
    """

    name: str
    help: str
    wording: str
    neuron: str
    remark: str = ""
    is_attention: bool = False
    is_input: bool = False
    has_experts: bool = False


SITES: dict[str, Site] = {
    site.name: site
    for site in (
        Site(
            "mlp_out",
            "output of each MLP",
            "the output of each MLP's final projection",
            "a coordinate of the output of an MLP",
            "the paper's site",
        ),
        Site(
            "mlp_hidden",
            "hidden units of each MLP",
            "the input of each MLP's final projection",
            "a hidden unit of an MLP; in a mixture, of each chosen expert (`--experts 0,4-6`)",
            "0 where a token was not routed to the expert",
            is_input=True,
            has_experts=True,
        ),
        Site(
            "attn_out",
            "output of each attention module",
            "the output of each attention's final projection",
            "a coordinate of the output of attention",
            is_attention=True,
        ),
        Site(
            "attn_heads",
            "outputs of the heads of each attention module",
            "the input of each attention's final projection, which its heads give",
            "a coordinate of the output of a head, before the heads are mixed; `space.head_of` gives the head",
            "a head is a set of neurons",
            is_attention=True,
            is_input=True,
        ),
        Site(
            ROUTER,
            "routing weights of the experts of a mixture",
            "how much weight each expert is given",
            "an expert; its activity is the weight assigned to it",
            "can be recorded, but not lesioned",
        ),
    )
}
"""All sites by name."""


def site_of(name: str) -> Site:
    """Return the site with a name, which may have the prefix `DECODER`.

    Raises
    ------
    ValueError
        If there is no such site.
    """
    return SITES[check_site(name).removeprefix(DECODER)]


def check_site(site: str) -> str:
    """Return `site` if it exists.

    Raises
    ------
    ValueError
        If there is no such site; the message lists all sites.
    """
    if site.removeprefix(DECODER) not in SITES:
        raise ValueError(
            f"site is {site!r}; choose from {', '.join(map(repr, SITES))} and, for the decoder of an "
            f"encoder–decoder, the same with the prefix {DECODER!r}."
        )
    return site


def site_names() -> str:
    """Return the names of all sites as a phrase.

    Examples
    --------
    >>> site_names()
    'mlp_out, mlp_hidden, attn_out, attn_heads or router'
    """
    *first, last = SITES
    return f"{', '.join(first)} or {last}"


def site_wording(name: str) -> str:
    """Return the wording of a site in the report; unknown names, from newer versions, are returned unchanged.

    Examples
    --------
    >>> site_wording("decoder_attn_out"), site_wording("mine")
    ("the output of each attention's final projection", 'mine')
    """
    known = SITES.get(name.removeprefix(DECODER))
    return known.wording if known else name


def with_sites(function: _Documented) -> _Documented:
    """Replace ``%(sites)s`` in a docstring with the list of all sites."""
    listed = ", ".join(f'"{name}"' for name in SITES)
    function.__doc__ = (function.__doc__ or "").replace("%(sites)s", f"{{{listed}}}")
    return function
