"""Plans of grids: preservation over sizes, and amplification over doses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmri.decomposition.codec import DECOMPOSITION_CODEC
from lmri.lesions.controls.registry import CONTROLS
from lmri.lesions.experiments.amplification import dose_conditions, dose_grid
from lmri.lesions.experiments.amplification_text import amplification_outcome
from lmri.lesions.experiments.preservation import preservation_grid
from lmri.lesions.experiments.preservation_text import preservation_outcome
from lmri.lesions.experiments.splitting import split_tasks
from lmri.lesions.plans import Plan, WriteUp, plan_networks
from lmri.lesions.requests import Request, build_tasks, check_not_learned, intervention_maker
from lmri.networks.codec import DECOMPOSITIONS, NETWORKS, NETWORKS_CODEC
from lmri.networks.network_set import NetworkSet
from lmri.storage.entries import as_name
from lmri.storage.store import Store

if TYPE_CHECKING:
    from lmri.lesions.evaluation.plan import Conditions


@dataclass(frozen=True)
class Sizes:
    """The network sets and shares of neurons to preserve.

    Parameters
    ----------
    networks : sequence of str
        Names of network sets; the union of each set is one size.
    shares : sequence of float
        Shares of all neurons: the neurons with the largest absolute z over the maps of the decomposition.
    decomposition : str, optional
        Name of the decomposition of the shares; by default the decomposition of the first network set, or the only one.

    Raises
    ------
    ValueError
        If there is nothing to preserve, or a decomposition without a share.
    """

    networks: Sequence[str] = ()
    shares: Sequence[float] = ()
    decomposition: str | None = None

    def __post_init__(self) -> None:
        if not self.networks and not self.shares:
            raise ValueError("There is nothing to preserve. Give --networks (once or several times), --share, or both.")
        if self.decomposition is not None and not self.shares:
            raise ValueError(f"--decomposition is {self.decomposition!r}, which is used only with --share. Give both.")

    @property
    def first(self) -> str:
        """Name of the first network set; empty if there is none."""
        return self.networks[0] if self.networks else ""

    @property
    def is_grid(self) -> bool:
        """Whether sizes are compared; otherwise every network of the single set is preserved separately."""
        return len(self.networks) > 1 or bool(self.shares)


@dataclass(frozen=True)
class Doses:
    """The doses of an amplification, and the splits to score.

    Parameters
    ----------
    gains : sequence of float
        Factors applied to the activity of a network's neurons.
    offsets : sequence of float
        Constants added to their activity.
    along_sign : bool, default=False
        Whether to add offsets where a weight is positive and subtract them where it is negative.
    splits : sequence of str
        Splits: at most one for a single dose; by default ``"select"`` and ``"test"`` for several.

    Raises
    ------
    ValueError
        If there are several splits for a single dose.
    """

    gains: Sequence[float] = ()
    offsets: Sequence[float] = ()
    along_sign: bool = False
    splits: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.is_grid and len(self.splits) > 1:
            raise ValueError(
                f"--split is {', '.join(self.splits)}, but with a single dose there is no dose to choose. Give one "
                "split."
            )

    @property
    def is_grid(self) -> bool:
        """Whether doses are compared."""
        return len(self.gains) + len(self.offsets) > 1

    @property
    def single_split(self) -> str:
        """First split; empty for all items."""
        return self.splits[0] if self.splits else ""

    def options(self) -> dict[str, Any]:
        """Return the options of the intervention: numbers for a single dose, lists for several."""
        gains, offsets = list(self.gains), list(self.offsets)
        if self.is_grid:
            options: dict[str, Any] = {"gain": gains or None, "offset": offsets or None}
        else:
            options = {"gain": gains[0] if gains else None, "offset": offsets[0] if offsets else None}
        return options | ({"along_sign": True} if self.along_sign else {})


def plan_preservation(
    store: Store,
    request: Request,
    sizes: Sizes,
    site: str | None = None,
    name: str | None = None,
    location: str | None = None,
) -> Plan:
    """Plan a preservation of every network of one set, or of several sizes.

    Parameters
    ----------
    store : Store
        Study of the networks.
    request : Request
        Intervention (of the first network set, if there is one), tasks and controls.
    sizes : Sizes
        Sizes.
    site : str, optional
        Site of the neurons; needed if there are several.
    name : str, optional
        Name of the entries; by default the sets and the decomposition.
    location : str, optional
        Location of the model, if one is named.
    """
    if not sizes.is_grid:
        return plan_networks(store, request, site, name, location)
    _check_controls(request)
    sets, shares, decomposition = list(sizes.networks), list(sizes.shares), sizes.decomposition
    at = site or _common_site(store, sets, decomposition if shares else None)
    opened: list[NetworkSet] = [store.open(NETWORKS_CODEC, set_name, at) for set_name in sets]
    if shares and decomposition is None and sets:
        decomposition = str(store.find(NETWORKS, sets[0], at).inputs["decomposition"])
    maps = store.open(DECOMPOSITION_CODEC, decomposition, at) if shares else None
    grid = preservation_grid(opened, maps, shares)
    first = [*opened, *([maps] if maps is not None else [])][0]
    request.baseline.recording(store, first.space.site)  # raises here if there is no recording
    parameters: dict[str, Any] = {"networks": sets}
    inputs: dict[str, Any] = {"networks": sets} if sets else {}
    if maps is not None:
        parameters |= {"shares": shares, "decomposition": maps.method}
        inputs["decomposition"] = maps.method

    def conditions() -> "Mapping[str, Conditions]":
        make = intervention_maker(store, request, first.space.site)
        return {point.name: make(point.network) for point in grid}

    return Plan(
        store,
        request,
        first,
        name or "-".join(["preserve", *sets, *(["share-of", maps.method] if maps is not None else [])]),
        build_tasks(store, request, location),
        conditions,
        parameters,
        write_up=WriteUp(
            lambda scores, _: preservation_outcome(scores, grid, str(request.options["baseline"])),
            {**request.parameters(), **parameters, "seed": request.seed},
            inputs,
        ),
    )


def plan_amplification(
    store: Store,
    request: Request,
    doses: Doses,
    site: str | None = None,
    name: str | None = None,
    location: str | None = None,
) -> Plan:
    """Plan an amplification of every network by one or several doses.

    Parameters
    ----------
    store : Store
        Study of the networks.
    request : Request
        Intervention with the options of `doses`, tasks and controls.
    doses : Doses
        Doses and splits.
    site : str, optional
        Site of the neurons; needed if there are several.
    name : str, optional
        Name of the entries; by default the networks.
    location : str, optional
        Location of the model, if one is named.
    """
    if not doses.is_grid:
        return plan_networks(store, request, site, name, location)
    _check_controls(request)
    networks = store.open(NETWORKS_CODEC, request.networks, site)
    grid = dose_grid(networks, doses.gains, doses.offsets, doses.along_sign)
    splits = list(doses.splits) or ["select", "test"]
    tasks = split_tasks(store, request.tasks, splits)
    check_not_learned(location, tasks)
    parameters = {"networks": [request.networks], "splits": splits}
    return Plan(
        store,
        request,
        networks,
        name or as_name(f"amplify-{request.networks}-doses"),
        tasks,
        lambda: dose_conditions(grid),
        parameters,
        write_up=WriteUp(
            lambda scores, _: amplification_outcome(scores, grid),
            {**request.parameters(), **parameters, "seed": request.seed},
            {"networks": [request.networks]},
        ),
    )


def _check_controls(request: Request) -> None:
    """Refuse families whose controls differ in size from their network."""
    refused = [family for family in request.controls.names if not CONTROLS[family].same_size]
    if refused:
        *first, last = [family.name for family in CONTROLS.values() if family.same_size]
        raise ValueError(
            f"--controls is {refused[0]!r}, but {refused[0]} controls are larger than their network, and a larger set "
            f"preserves or changes more. Accepted are {', '.join(first)} and {last}."
        )


def _common_site(store: Store, sets: Sequence[str], decomposition: str | None) -> str | None:
    """Find the only common site of all sets; None if there are several or none, which the study reports."""
    named = [(NETWORKS, name) for name in sets] + ([(DECOMPOSITIONS, decomposition)] if decomposition else [])
    sites = [{entry.site for entry in store.entries.list(kind) if entry.name == name} for kind, name in named]
    if not sites or not all(sites):
        return None
    common = set.intersection(*sites)
    if not common:
        locations = "; ".join(
            f"{name!r} at {', '.join(sorted(set_sites))}" for (_, name), set_sites in zip(named, sites, strict=True)
        )
        raise ValueError(
            f"These sets are at different sites: {locations}. A grid needs sets of one site. Give such sets."
        )
    return common.pop() if len(common) == 1 else None
