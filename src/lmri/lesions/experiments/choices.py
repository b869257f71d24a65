"""Choices of a robustness analysis, and the networks that they result in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lmri.lesions.baselines import Baseline
from lmri.networks import Network

BASE = "base"
KINDS = ("site", "baseline", "threshold", "seed", "method", "sinks", "controls")
FAMILIES = ("layer", "energy")
UNION = "union"

Threshold = tuple[str, Mapping[str, float]]
"""Method of a threshold, and its values by name."""


@dataclass(frozen=True)
class Choice:
    """All choices for one lesion.

    Parameters
    ----------
    kind : str
        Kind of the choice that differs from the base, in `KINDS`, or ``"base"``.
    label : str
        Readable name of the choice.
    site, method : str
        Site of the neurons, and method of the decomposition.
    seed : int
        Seed of the decomposition.
    threshold : tuple of str and mapping
        Threshold method and its values.
    baseline : str
        Baseline: ``"zero"``, ``"CORPUS"`` for its mean, or ``"resample:CORPUS"`` with or without ``":SEED"``.
    spared : str
        Spared tokens: ``"sinks"``, or empty.
    controls : {"layer", "energy"}
        Family of matched controls.
    """

    kind: str
    label: str
    site: str
    method: str
    seed: int
    threshold: Threshold
    baseline: str = "zero"
    spared: str = ""
    controls: str = "layer"

    @property
    def name(self) -> str:
        """Name of the condition."""
        return self.kind if self.kind == BASE else f"{self.kind}: {self.label}"

    def cells(self) -> dict[str, object]:
        """Return all choices as cells of a table."""
        chosen = {name: getattr(self, name) for name in ("site", "method", "seed", "baseline", "spared")}
        return {"kind": self.kind, "choice": self.label, **chosen, "threshold": threshold_label(self.threshold)}


@dataclass(frozen=True, eq=False)
class Variant:
    """A choice, and the network that corresponds to the base's network under it.

    Parameters
    ----------
    choice : Choice
        Choices of the variant.
    network : Network, optional
        Network to lesion; None if there is none, for the reason in `problem`.
    matched_by : {"", "maps", "time courses"}
        Method by which the network was matched; empty for the same map, or the union.
    r, limit : float
        Correlation with the base's map or time course, and the 95 % level of its null.
    above_null : bool
        Whether the correlation exceeds the null.
    n_converged, n_starts : int
        Numbers of converged and of all starts of the decomposition.
    problem : str
        Reason why there is no network.
    """

    choice: Choice
    network: Network | None = None
    matched_by: str = ""
    r: float = np.nan
    limit: float = np.nan
    above_null: bool = True
    n_converged: int = 0
    n_starts: int = 0
    problem: str = ""


def threshold_label(threshold: Threshold) -> str:
    """Format a threshold in the notation of the command line.

    Examples
    --------
    >>> threshold_label(("z", {"z": 2.5}))
    'z:2.5'
    """
    method, values = threshold
    return ":".join([method, *(f"{value:g}" for value in values.values())])


def choice_label(kind: str, choice: Choice) -> str:
    """Return the readable name of a choice that differs from the base in one kind."""
    if kind == "threshold":
        return threshold_label(choice.threshold)
    if kind == "baseline":
        return Baseline.parse(choice.baseline).label
    if kind == "sinks":
        return "first token spared"
    return f"seed {choice.seed}" if kind == "seed" else str(getattr(choice, kind))


def check_known(name: str, values: Iterable[str], known: tuple[str, ...]) -> None:
    """Raise `ValueError` if a value is not among the known ones."""
    unknown = [value for value in values if value not in known]
    if unknown:
        raise ValueError(f"{name} contains {', '.join(map(repr, unknown))}; choose from {', '.join(known)}.")
