"""Plan of a lesion: the evaluation of networks or regions of interest, with its write-up."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from lmri.lesions.experiments.lesions import lesion_outcome
from lmri.lesions.experiments.parity import check_parity
from lmri.lesions.plans import Plan, WriteUp, plan_networks
from lmri.lesions.requests import Request
from lmri.lesions.scores import Scores
from lmri.networks.network_set import NetworkSet
from lmri.networks.stored_rois import lesion_targets, roi_words
from lmri.storage.outcome import Outcome
from lmri.storage.store import Store

if TYPE_CHECKING:
    from lmri.lesions.controls.base import Controls


def plan_lesion(
    store: Store,
    request: Request,
    decompose: Callable[[], str],
    site: str | None = None,
    name: str | None = None,
    location: str | None = None,
    *,
    paper_model: str | None = None,
    paper: bool = False,
) -> Plan:
    """Plan a lesion of every network of a set, or of regions of interest, with its write-up.

    Parameters
    ----------
    store : Store
        Study of the networks.
    request : Request
        Request, as created by `lesion_request`.
    decompose : callable
        Computes the networks with the paper's settings, unless they are stored, and returns their name; called if the
        request names neither networks nor regions.
    site : str, optional
        Site of the neurons; needed if there are several.
    name : str, optional
        Name of the entries; by default the intervention and the networks.
    location : str, optional
        Location of the model, if one is named.
    paper_model : str, optional
        Model of the paper whose values are shown alongside.
    paper : bool, default=False
        Whether to label the outcome as computed with the paper's settings.

    Raises
    ------
    ValueError
        If `paper` is set and a setting differs from the paper's.
    """
    if not request.networks and not request.rois:
        request = replace(request, networks=decompose())
    plan = plan_networks(store, request, site, name, location)
    networks, parameters = plan.networks, request.parameters()
    if paper:
        check_parity(networks, parameters)

    def make(scores: Scores, controls: "Sequence[Controls]") -> Outcome:
        return lesion_outcome(scores, networks.method, paper_model, paper, _balance(networks, controls))

    about = {**parameters, "seed": request.seed, "paper_model": paper_model, "parity": paper, **roi_words(networks)}
    return replace(plan, write_up=WriteUp(make, about, {}, may_differ=True))


def _balance(networks: NetworkSet, controls: "Sequence[Controls]") -> pd.DataFrame | None:
    """Compute how well controls match networks in removed energy; None if they are not matched by it."""
    from lmri.lesions.controls import EnergyMatchedControls

    matched = [family for family in controls if isinstance(family, EnergyMatchedControls)]
    filled = [network for network in lesion_targets(networks) if network.n_neurons]
    return pd.DataFrame([matched[0].balance(network).row() for network in filled]) if matched and filled else None
