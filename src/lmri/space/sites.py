"""Sites: the places in a block where neurons are read and changed.

A new site is one entry of `SITES`; help, messages, docstrings and the report follow. Its neurons are found by the
attributes of the entry, if they are output or input of the final projection of an MLP or an attention; others need code
in `lmri.models.sites.finding`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

ROUTER = "router"
"""The site whose neurons are experts: how much weight each is given at a token, 0 where it is not chosen."""

DECODER = "decoder_"
"""Begins the name of a site in the decoder of an encoder–decoder, as in ``"decoder_mlp_out"``."""

_Documented = TypeVar("_Documented", bound=Callable[..., object])


@dataclass(frozen=True)
class Site:
    """A place in a block where neurons are read.

    Parameters
    ----------
    name : str
        Name on the command line, in files and in code.
    help : str
        One line of help.
    wording : str
        Wording in the methods section of the report, behind "a neuron is".
    neuron : str
        Definition of a neuron at this site, in Markdown.
    remark : str, default=""
        Remark on these neurons, in Markdown.
    is_attention : bool, default=False
        Whether the neurons belong to the attention; else to the MLP.
    is_input : bool, default=False
        Whether neurons are inputs of a projection, which writes them to the residual stream by its weights.
    has_experts : bool, default=False
        Whether the experts of a mixture are slices of their own.
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
    one.name: one
    for one in (
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
            "output of each attention",
            "the output of each attention's final projection",
            "a coordinate of the output of attention",
            is_attention=True,
        ),
        Site(
            "attn_heads",
            "outputs of the heads of each attention",
            "the input of each attention's final projection, which its heads give",
            "a coordinate of the output of a head, before the heads are mixed; `space.head_of` gives the head",
            "a head is a set of neurons",
            is_attention=True,
            is_input=True,
        ),
        Site(
            ROUTER,
            "weights of the experts of a mixture",
            "how much weight each expert is given",
            "an expert; its activity is the weight assigned to it",
            "can be recorded, but not lesioned",
        ),
    )
}
"""All sites by name."""


def site_of(name: str) -> Site:
    """Return the site of a name, which may begin with `DECODER`.

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
        If there is no such site; the message lists all.
    """
    if site.removeprefix(DECODER) not in SITES:
        raise ValueError(
            f"site is {site!r}; accepted are {', '.join(map(repr, SITES))} and, for the decoder of an "
            f"encoder–decoder, the same after {DECODER!r}."
        )
    return site


def site_names() -> str:
    """List the names of all sites.

    Examples
    --------
    >>> site_names()
    'mlp_out, mlp_hidden, attn_out, attn_heads or router'
    """
    *first, last = SITES
    return f"{', '.join(first)} or {last}"


def site_wording(name: str) -> str:
    """Return the wording of a site in the report; names of newer versions stay as they are.

    Examples
    --------
    >>> site_wording("decoder_attn_out"), site_wording("mine")
    ("the output of each attention's final projection", 'mine')
    """
    known = SITES.get(name.removeprefix(DECODER))
    return known.wording if known else name


def with_sites(function: _Documented) -> _Documented:
    """Put the list of all sites into a docstring, in place of ``%(sites)s``."""
    listed = ", ".join(f'"{name}"' for name in SITES)
    function.__doc__ = (function.__doc__ or "").replace("%(sites)s", f"{{{listed}}}")
    return function
