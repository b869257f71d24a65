"""What an evaluation consists of: conditions, the controls of each, and the hashes that say what it is made of."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from lmri.controls import Controls, random_share
from lmri.exceptions import DataWarning
from lmri.interventions import Intervention
from lmri.models import alterations, fingerprint
from lmri.networks import Network, NetworkSet
from lmri.storage import digest
from lmri.tasks import Task

PAPER_SHARE = 0.15
"""Share of all neurons in the paper's random control."""


def conditions_of(
    networks: NetworkSet, intervention: Callable[[Network], Intervention], seed: int = 0
) -> dict[str, Intervention]:
    """Make the conditions of the paper: each network, their union, and 15 % of all neurons at random.

    Parameters
    ----------
    networks : NetworkSet
        Thresholded.
    intervention : callable
        Such as `lmri.lesion`.
    seed : int, default=0
        Of the random neurons.
    """
    targets = [*networks, networks.union(), random_share(networks.space, PAPER_SHARE, seed)]
    return {target.name: intervention(target) for target in targets}


def identity(
    model: PreTrainedModel,
    tasks: Sequence[Task],
    conditions: Mapping[str, Intervention],
    controls: Controls | None,
    seed: int,
) -> dict[str, Any]:
    """Say what scores are a function of, as hashes: two evaluations of one identity are the same evaluation."""
    return {
        "model": fingerprint(model, head=True),
        "tasks": {task.info.name: task.digest() for task in tasks},
        "conditions": digest([[name, one.digest()] for name, one in conditions.items()]),
        "controls": controls.identity() if controls else None,
        "controls_seed": seed,
        "altered": alterations(model),
    }


def plan_row(condition: str, kind: str, network: str, n_neurons: int, **control: object) -> dict[str, object]:
    """Make the row of a condition, or of a control of one."""
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


def make_plan(
    conditions: Mapping[str, Intervention], controls: Controls | None, seed: int
) -> Iterator[tuple[dict[str, object], Intervention]]:
    """List every condition and its controls, as rows of the table of conditions and what is done to the model."""
    for name, intervention in conditions.items():
        target = intervention.target
        controlled = controls is not None and target.kind in ("network", "union") and target.n_neurons > 0
        problem = controls.problem(target) if controls is not None and controlled else ""
        note = problem or (controls.note(target) if controls is not None and controlled else "")
        if note:
            warnings.warn(f"{name}: {note}.", DataWarning, stacklevel=3)
        yield plan_row(name, target.kind, target.name, target.n_neurons, note=note), intervention
        if controls is None or not controlled or problem:
            continue
        for number in range(controls.n):
            control = controls.draw(target, number, seed)
            row = plan_row(
                f"{name}/control-{number:03d}",
                "control",
                control.name,
                control.n_neurons,
                control_of=name,
                control_family=controls.family,
                draw=number,
            )
            yield row, intervention.on_other(control)
