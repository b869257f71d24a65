"""Properties of tasks and of controls that the summary of scores needs."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TaskInfo:
    """Properties of a task that the summary needs.

    Parameters
    ----------
    name : str
        Name of the task.
    scoring : str
        Scoring method: ``"loglikelihood"``; ``"loglikelihood/token"`` or ``"loglikelihood/character"``, which divide by
        length; ``"generate"``; or ``"head"``.
    metric : str
        Metric, such as ``"nats_per_token"`` or ``"accuracy"``; ``"f1"``, ``"matthews"`` and ``"balanced_accuracy"`` are
        computed from labels, any other metric is a mean of the values.
    higher_is_better : bool
        Whether higher values are better.
    per_token : bool
        Whether items are weighted by their number of tokens; otherwise all have equal weight.
    also : tuple of str
        Further metrics of the same items, each with separate rows: metrics of labels, or any column of the items.
    positive : str
        Positive label of F1.
    split : str
        Split of the items: ``"fit"``, ``"select"`` or ``"test"``; empty if they were not split.
    note : str
        Caveats of the data, shown in every row.
    """

    name: str
    scoring: str
    metric: str
    higher_is_better: bool
    per_token: bool
    also: tuple[str, ...] = ()
    positive: str = ""
    split: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "also", tuple(self.also))  # a list if read from a file
        if "f1" in self.metrics and not self.positive:
            raise ValueError(f"The task {self.name!r} has the metric 'f1', but no positive label. Give positive=.")

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics; the main metric of the task comes first."""
        return (self.metric, *self.also)

    def identity(self) -> dict[str, Any]:
        """Return the properties that values depend on, for hashes; defaults are omitted to keep older hashes valid."""
        optional = {name: getattr(self, name) for name in ("also", "positive", "split") if getattr(self, name)}
        required = ("name", "scoring", "metric", "higher_is_better", "per_token")
        return {name: getattr(self, name) for name in required} | optional


@dataclass(frozen=True)
class Design:
    """Design of the controls, which determines how p is computed.

    Parameters
    ----------
    stop_after : int
        Number of controls at least as harmful as a network after which drawing stopped; 0 if all were drawn.
    n_planned : int
        Planned number of draws per network; 0 if it is unknown, as in scores of earlier versions.
    joint : tuple of str
        Families of controls whose draws with the same number are joint controls of all networks.
    """

    stop_after: int = 0
    n_planned: int = 0
    joint: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "joint", tuple(self.joint))  # a list if read from a file
