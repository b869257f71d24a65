"""Origin of maps: how they were computed and thresholded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Origin:
    """How the maps of a network set were computed and thresholded.

    Parameters
    ----------
    method : str, optional
        Name of the decomposition method; None if it is not known.
    parameters : mapping
        Parameters of the method.
    n_runs, n_volumes : int, optional
        Number of runs and of volumes that the maps were fitted on.
    n_dead_neurons : int, optional
        Number of neurons that are constant in at least one run.
    dead_neurons : sequence of (int, int)
        Layer and neuron of each of them.
    variance_explained_together : float, optional
        Share of the variance of the data that all maps explain together.
    convergence : mapping
        ``n_starts`` and ``n_converged``, the numbers of initializations and of those that converged, and further
        values of some methods; empty if the method does not report convergence.
    other : mapping
        Further results of some methods, such as ``contrast`` and ``n_units`` of a localizer.
    seconds : float, optional
        Run time of the fit; no result depends on it.
    threshold : mapping
        ``method``, ``description`` and parameters of the threshold; empty before a threshold.
    """

    method: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    n_runs: int | None = None
    n_volumes: int | None = None
    n_dead_neurons: int | None = None
    dead_neurons: Sequence[Sequence[int]] | None = None
    variance_explained_together: float | None = None
    convergence: Mapping[str, Any] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    threshold: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, results: Mapping[str, Any]) -> "Origin":
        """Build an origin from results as they are stored: `info_` of an estimator or ``results`` of an entry.

        Examples
        --------
        >>> Origin.of({"method": "ica", "n_runs": 2, "level": "within"}).other
        {'level': 'within'}
        """
        known = [item.name for item in fields(cls) if item.name != "other"]
        other = {name: value for name, value in results.items() if name not in known}
        return cls(**{name: results[name] for name in known if name in results}, other=other)

    def as_dict(self) -> dict[str, Any]:
        """Return the results as they are stored, without values that are not known; the inverse of `of`."""
        results: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "other":
                results |= value
            elif value is not None and value != {}:
                results[item.name] = value
        return results
