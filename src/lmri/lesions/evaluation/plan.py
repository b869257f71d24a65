"""Plan of an evaluation: conditions, the controls of each, and the hashes that identify it."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from lmri.exceptions import DataWarning
from lmri.lesions.controls import Controls, SharedControls, random_share
from lmri.lesions.interventions import Intervention
from lmri.lesions.tasks import Task
from lmri.models import alterations, fingerprint
from lmri.networks import Network, NetworkSet
from lmri.storage import digest

Conditions = Intervention | Sequence[Intervention]
"""Intervention of one condition, or several repetitions of it."""

PAPER_SHARE = 0.15
"""Share of all neurons in the paper's random control."""


def conditions_of(
    networks: NetworkSet, intervention: Callable[[Network], Conditions], seed: int = 0
) -> dict[str, Conditions]:
    """Create the conditions of the paper: each network, their union, and 15 % of all neurons at random.

    Parameters
    ----------
    networks : NetworkSet
        Thresholded networks.
    intervention : callable
        Function such as `lmri.lesion`; it may return several interventions, as repetitions.
    seed : int, default=0
        Seed of the random neurons.
    """
    targets = [*networks, networks.union(), random_share(networks.space, PAPER_SHARE, seed)]
    return {target.name: intervention(target) for target in targets}


def identity(
    model: PreTrainedModel,
    tasks: Sequence[Task],
    conditions: Mapping[str, Conditions],
    controls: Controls | Sequence[Controls] | None,
    seed: int,
    stop_after: int = 0,
) -> dict[str, Any]:
    """Return hashes of everything that determines scores; evaluations with equal hashes are identical."""
    families = families_of(controls)
    return {
        "model": fingerprint(model, head=True),
        "tasks": {task.info.name: task.digest() for task in tasks},
        "conditions": digest(
            [
                [name, *(intervention.digest() for intervention in repeats(condition))]
                for name, condition in conditions.items()
            ]
        ),
        "controls": families[0].identity()
        if len(families) == 1
        else [family.identity() for family in families] or None,
        "controls_seed": seed,
        "altered": alterations(model),
    } | ({"stop_after": stop_after} if stop_after else {})


@dataclass(frozen=True)
class ConditionRun:
    """One condition, or one of its controls.

    Parameters
    ----------
    row : dict
        Row in the table of conditions.
    interventions : tuple of Intervention
        Interventions, each applied separately; their items are pooled. More than one are repetitions, such as over
        seeds.
    """

    row: dict[str, Any]
    interventions: tuple[Intervention, ...]

    @property
    def name(self) -> str:
        """Name of the condition."""
        return str(self.row["condition"])

    @property
    def changes(self) -> bool:
        """Whether the run differs from the intact model."""
        return any(intervention.edits() for intervention in self.interventions)


@dataclass(frozen=True)
class Plan:
    """A condition and the controls of each family, in the order in which they are drawn.

    Parameters
    ----------
    run : ConditionRun
        Run of the condition.
    families : tuple of callable
        Functions from the number of a draw to its run, one per family.
    n_draws : tuple of int
        Number of draws of each family.
    """

    run: ConditionRun
    families: tuple[Callable[[int], ConditionRun], ...]
    n_draws: tuple[int, ...]

    def runs(self) -> Iterator[ConditionRun]:
        """List the condition and all its controls."""
        yield self.run
        for draw, n in zip(self.families, self.n_draws, strict=True):
            yield from map(draw, range(n))


def plan_row(condition: str, kind: str, network: str, n_neurons: int, **control: object) -> dict[str, Any]:
    """Create the row of a condition or of one of its controls."""
    return {
        "condition": condition,
        "kind": kind,
        "network": network,
        "n_neurons": n_neurons,
        "control_of": control.get("control_of", ""),
        "control_family": control.get("control_family", ""),
        "draw": control.get("draw", -1),
        "note": control.get("note", ""),
    }


def repeats(condition: Intervention | Sequence[Intervention]) -> tuple[Intervention, ...]:
    """Return the interventions of a condition as a tuple of repetitions."""
    return (condition,) if isinstance(condition, Intervention) else tuple(condition)


def families_of(controls: Controls | Sequence[Controls] | None) -> list[Controls]:
    """Return the families of controls as a list, and check that none is repeated."""
    families = [] if controls is None else list(controls) if isinstance(controls, Sequence) else [controls]
    names = [family.family for family in families]
    if len(set(names)) < len(names):
        raise ValueError(f"The families of controls are {names}; do not repeat one.")
    return families


def make_plans(
    conditions: Mapping[str, Conditions], controls: Controls | Sequence[Controls] | None, seed: int
) -> list[Plan]:
    """Plan every condition and its controls, and warn of caveats of the controls."""
    plans = []
    for name, condition in conditions.items():
        plans.append(_plan(name, repeats(condition), families_of(controls), seed))
    return plans


def _plan(name: str, interventions: tuple[Intervention, ...], families: Sequence[Controls], seed: int) -> Plan:
    if not interventions:
        raise ValueError(f"The condition {name!r} is an empty list. Give at least one intervention.")
    target = interventions[0].target
    if any(not np.array_equal(intervention.target.members, target.members) for intervention in interventions):
        raise ValueError(
            f"The interventions of {name!r} are on different neurons. One condition accepts only repetitions on the "
            "same neurons, such as several seeds. Make separate conditions."
        )
    controlled = target.kind in ("network", "union") and target.n_neurons > 0
    makers, counts, notes = [], [], []
    for controls in families if controlled else []:
        if isinstance(controls, SharedControls) and any(
            intervention.kind != "lesion" for intervention in interventions
        ):
            raise ValueError(
                f"{name!r} is not a lesion. Shared controls are larger than their network, which is conservative only "
                "for lesions. Use MatchedControls."
            )
        reason = controls.unavailable_reason(target)
        note = reason or controls.note(target)
        if note:
            # A single family needs no name, as the row contains it.
            notes.append(f"{controls.family}: {note}" if len(families) > 1 else note)
        if not reason:
            makers.append(_drawer(name, interventions, controls, len(families) > 1, seed))
            counts.append(controls.n)
    note = "; ".join(notes)
    if note:
        warnings.warn(f"{name}: {note}.", DataWarning, stacklevel=4)
    row = plan_row(name, target.kind, target.name, target.n_neurons, note=note)
    return Plan(ConditionRun(row, interventions), tuple(makers), tuple(counts))


def _drawer(
    name: str, interventions: tuple[Intervention, ...], controls: Controls, several: bool, seed: int
) -> Callable[[int], ConditionRun]:
    target = interventions[0].target
    prefix = f"/{controls.family}" if several else ""

    def draw(number: int) -> ConditionRun:
        control = controls.draw(target, number, seed)
        row = plan_row(
            f"{name}{prefix}/control-{number:03d}",
            "control",
            control.name,
            control.n_neurons,
            control_of=name,
            control_family=controls.family,
            draw=number,
        )
        return ConditionRun(row, tuple(intervention.on_other(control) for intervention in interventions))

    return draw
