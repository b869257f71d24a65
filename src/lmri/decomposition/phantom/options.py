"""Options of planted networks: validated, with their defaults."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np

from lmri.space import NeuronSpace

SPARSE_SHARE = 0.1
"""Share of volumes at which a network with sparse time courses is active."""


def _sparse(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw time courses that are 0 at most volumes."""
    active = rng.random(shape) < SPARSE_SHARE
    return np.where(active, rng.laplace(scale=1 / np.sqrt(2 * SPARSE_SHARE), size=shape), 0)


# All have mean 0 and variance 1, so that a weight is an effect in activation units.
TIME_COURSES: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "laplace": lambda rng, shape: rng.laplace(scale=np.sqrt(0.5), size=shape),
    "sparse": _sparse,
    "gaussian": lambda rng, shape: rng.normal(size=shape),
}

WEIGHTS = ("sharp", "graded")


class PlantingKeywords(TypedDict, total=False):
    """Keywords of `lmri.phantom.plant`; see there."""

    share: float
    minority: float
    weights: str
    strength: tuple[float, float]
    n_runs: int
    n_volumes: int
    n_engaged: int | None
    time_courses: str
    n_massive: int
    trend: float
    noise_sd: float
    random_state: int


@dataclass(frozen=True)
class PlantingOptions:
    """Options of `lmri.phantom.plant`, under the same names; see there.

    The order of the fields is their order in the parameters of a phantom.
    """

    n_networks: int = 20
    share: float = 0.01
    minority: float = 0.1
    weights: str = "sharp"
    strength: tuple[float, float] = (1.0, 1.0)
    n_runs: int = 10
    n_volumes: int = 300
    n_engaged: int | None = None
    time_courses: str = "laplace"
    n_massive: int = 0
    trend: float = 0.0
    noise_sd: float = 1.0
    random_state: int = 0

    def __post_init__(self) -> None:
        for key in ("n_networks", "n_runs"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}; it must be at least 1.")
        if self.n_volumes < 2:
            raise ValueError(f"n_volumes is {self.n_volumes}; it must be at least 2.")
        if not 0 <= self.minority < 0.5:
            raise ValueError(
                f"minority is {self.minority}; it must be at least 0 and below 0.5, where the sign is undefined."
            )
        for key, accepted in (("weights", WEIGHTS), ("time_courses", tuple(TIME_COURSES))):
            if getattr(self, key) not in accepted:
                raise ValueError(f"{key} is {getattr(self, key)!r}; choose from {', '.join(map(repr, accepted))}.")
        low, high = self.strength
        if not 0 < low <= high < np.inf:
            raise ValueError(f"strength is {(low, high)}; it must be two finite numbers above 0, the lower one first.")
        if not 1 <= self.n_active <= self.n_networks:
            raise ValueError(f"n_engaged is {self.n_active}; it must be between 1 and n_networks={self.n_networks}.")
        if self.n_active * self.n_runs < self.n_networks:
            raise ValueError(
                f"{self.n_runs} runs with {self.n_active} active networks each cannot include all {self.n_networks} "
                "networks. Use more runs, or a larger n_engaged."
            )
        for key in ("trend", "n_massive"):
            if not 0 <= getattr(self, key) < np.inf:
                raise ValueError(f"{key} is {getattr(self, key)}; it must be finite and at least 0.")
        if not 0 < self.noise_sd < np.inf:
            raise ValueError(f"noise_sd is {self.noise_sd}; it must be finite and above 0.")

    @property
    def n_active(self) -> int:
        """Number of active networks per run."""
        return self.n_networks if self.n_engaged is None else self.n_engaged

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters as stored with a phantom."""
        return {**asdict(self), "strength": list(self.strength)}

    def size_in(self, space: NeuronSpace) -> int:
        """Return the number of neurons of each network in a space; raise an error if it is 0 or all."""
        size = round(self.share * space.n_neurons)
        if not 1 <= size < space.n_neurons:
            raise ValueError(
                f"share is {self.share}, which is {size} of {space.n_neurons} neurons; a network needs at least 1 "
                "neuron, but not all. Use another share."
            )
        return size
