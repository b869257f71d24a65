"""Planted networks: simulated recordings with known members and strengths of networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from lmri.space import NeuronSpace
from lmri.storage import save_img, write_json, write_table

MASSIVE = 100.0
"""Activity of a massive neuron, in noise sds."""

MASSIVE_SHARE = 0.01
"""Share of volumes at which all massive neurons spike together."""

TREND_SHARE = 0.1
"""Share of neurons that depend on the position in the run, if there is a trend."""

GRADES = (0.2, 1.8)
"""Range of graded weights relative to the strength of the network; uniform, so that their mean is the strength."""

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


@dataclass(frozen=True, eq=False)
class Phantom:
    """Simulated recording with its ground truth.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space.
    maps : ndarray of shape (n_networks, n_neurons)
        Planted weights, in activation units per sd of the time course; 0 outside a network. Nulls have no rows.
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        Time courses of variance 1, one array per run; 0 in runs in which the network is inactive.
    imgs : list of Nifti1Image
        4D images, one per run, in memory.
    name : str
        Name in tables.
    noise_sd : float
        Standard deviation of the added noise, in activation units; the unit of effects.
    parameters : dict
        Parameters of the simulation.
    """

    space: NeuronSpace
    maps: np.ndarray
    time_courses: list[np.ndarray]
    imgs: list[nib.Nifti1Image]
    name: str = "phantom"
    noise_sd: float = 1.0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_null(self) -> bool:
        """Whether there are no planted networks, so that all estimated networks are false positives."""
        return len(self.maps) == 0

    @property
    def members(self) -> np.ndarray:
        """Planted members: bool, ``(n_networks, n_neurons)``."""
        return self.maps != 0

    @property
    def effects(self) -> np.ndarray:
        """Absolute weights in noise sds, ``(n_networks, n_neurons)``."""
        return np.abs(self.maps) / self.noise_sd

    @property
    def strengths(self) -> np.ndarray:
        """Mean effect of each network's members, ``(n_networks,)``."""
        return self.effects.sum(axis=1) / self.members.sum(axis=1)

    def save(self, folder: str | Path) -> Path:
        """Write images, ground truth and parameters to a new folder, for viewers or other software.

        Parameters
        ----------
        folder : str or Path
            New folder. Its files are ``run-01_bold.nii`` and so on, ``mask.nii.gz``, ``phantom.json`` and, except for
            nulls, ``truth.nii.gz`` (one volume per network) and ``run-01_timecourses.tsv``.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        ValueError
            If the folder exists and is not empty.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} exists and is not empty. Nothing was overwritten. Choose another folder.")
        folder.mkdir(parents=True, exist_ok=True)
        for number, img in enumerate(self.imgs, start=1):
            save_img(img, folder / f"run-{number:02d}_bold.nii")
        save_img(self.space.mask_img, folder / "mask.nii.gz")
        if not self.is_null:
            names = [f"network-{number:02d}" for number in range(len(self.maps))]
            save_img(self.space.to_img(self.maps, "estimate"), folder / "truth.nii.gz")
            for number, courses in enumerate(self.time_courses, start=1):
                write_table(folder / f"run-{number:02d}_timecourses.tsv", pd.DataFrame(courses, columns=names))
        content = {"name": self.name, "is_null": self.is_null, "noise_sd": self.noise_sd}
        write_json(
            folder / "phantom.json", {**content, "parameters": dict(self.parameters), "space": self.space.to_dict()}
        )
        return folder

    def __repr__(self) -> str:
        what = "nothing planted" if self.is_null else f"{len(self.maps)} planted networks"
        n_volumes = sum(img.shape[3] for img in self.imgs)
        return f"<Phantom {self.name!r}: {what}, {len(self.imgs)} runs, {n_volumes} volumes, {self.space.describe()}>"


def plant(
    space: NeuronSpace,
    n_networks: int = 20,
    *,
    share: float = 0.01,
    minority: float = 0.1,
    weights: str = "sharp",
    strength: tuple[float, float] = (1.0, 1.0),
    n_runs: int = 10,
    n_volumes: int = 300,
    n_engaged: int | None = None,
    time_courses: str = "laplace",
    n_massive: int = 0,
    trend: float = 0.0,
    noise_sd: float = 1.0,
    random_state: int = 0,
    name: str = "planted",
) -> Phantom:
    """Simulate a recording with sparse networks, scattered over all layers, in Gaussian noise.

    A run is ``time_courses @ maps + trend + noise``; the activity of massive neurons is replaced. Members are drawn
    independently for each network, so networks overlap by chance.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space, simulated or of a real model.
    n_networks : int, default=20
        Number of networks.
    share : float, default=0.01
        Share of the neurons in each network.
    minority : float, default=0.1
        Share of a network's members with a negative weight, below 0.5, so that the majority determines the sign.
    weights : {"sharp", "graded"}, default="sharp"
        Distribution of absolute weights in a network: constant, or uniform from 0.2 to 1.8 times the strength.
    strength : (float, float), default=(1.0, 1.0)
        Strengths of the weakest and strongest network, in noise sds; the others are evenly spaced on a log scale.
    n_runs, n_volumes : int, default=10, 300
        Numbers of runs, and of volumes per run.
    n_engaged : int, optional
        Number of active networks per run, all by default. The number of runs in which a network is active differs by at
        most one between networks.
    time_courses : {"laplace", "sparse", "gaussian"}, default="laplace"
        Distribution of time courses: super-Gaussian, nonzero at a tenth of the volumes, or Gaussian; independent across
        volumes.
    n_massive : int, default=0
        Number of neurons outside all networks at 100 noise sds, which double at the same 1 % of the volumes, like
        massive activations.
    trend : float, default=0
        Strength, in noise sds, of the dependence of a tenth of the neurons on the position in the run, with Gaussian
        weights.
    noise_sd : float, default=1
        Standard deviation of the noise, in activation units.
    random_state : int, default=0
        Random seed.
    name : str
        Name in tables.

    Returns
    -------
    Phantom
        Recording with its ground truth.

    Raises
    ------
    ValueError
        If a network would have no neurons or no runs, or a value is out of range.
    """
    parameters = {key: value for key, value in locals().items() if key not in ("space", "name")}
    parameters["strength"] = list(strength)
    size = round(share * space.n_neurons)
    n_engaged = n_networks if n_engaged is None else n_engaged
    _check(space, parameters, size, n_engaged)
    rng = np.random.default_rng(random_state)

    maps = np.zeros((n_networks, space.n_neurons))
    for number, network_strength in enumerate(rng.permutation(np.geomspace(*strength, n_networks))):
        neurons = rng.choice(space.n_neurons, size, replace=False)
        sizes = np.ones(size) if weights == "sharp" else rng.uniform(*GRADES, size)
        signs = np.where(np.arange(size) < round(minority * size), -1, 1)
        maps[number, neurons] = network_strength * noise_sd * sizes * signs

    courses = [TIME_COURSES[time_courses](rng, (n_volumes, n_networks)) for _ in range(n_runs)]
    courses = [course * on for course, on in zip(courses, engagement(n_runs, n_networks, n_engaged, rng), strict=True)]
    drifting = np.zeros(space.n_neurons)
    drifting_neurons = rng.choice(space.n_neurons, round(TREND_SHARE * space.n_neurons), replace=False)
    drifting[drifting_neurons] = trend * noise_sd * rng.normal(size=len(drifting_neurons))
    position = (np.arange(n_volumes) - (n_volumes - 1) / 2) / np.sqrt((n_volumes**2 - 1) / 12)  # mean 0, variance 1
    massive = rng.choice(np.flatnonzero(~maps.any(axis=0)), n_massive, replace=False)

    imgs = []
    for course in courses:
        noise = noise_sd * rng.standard_normal((n_volumes, space.n_neurons), dtype=np.float32)
        run = course @ maps + noise
        if trend:
            run += position[:, None] * drifting
        if n_massive:
            spikes = np.zeros(n_volumes)
            spikes[rng.choice(n_volumes, max(1, round(MASSIVE_SHARE * n_volumes)), replace=False)] = 1
            level = MASSIVE * noise_sd * rng.uniform(0.5, 1.5, n_massive)
            run[:, massive] = noise[:, massive] + level * (1 + spikes[:, None])
        imgs.append(space.to_img(run.astype(np.float32)))
    return Phantom(space, maps, courses, imgs, name, noise_sd, parameters)


def engagement(n_runs: int, n_networks: int, n_engaged: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the active networks of each run, such that all networks are active in equally many runs, up to one.

    With independent draws some networks would be inactive in all runs (5 of 20 in 10 runs: one on average) and could
    not be detected.

    Returns
    -------
    ndarray of bool, shape (n_runs, n_networks)
        Whether each network is active.
    """
    engaged = np.zeros((n_runs, n_networks), dtype=bool)
    for run in range(n_runs):
        # Networks that were active least often, with ties in random order.
        order = np.lexsort((rng.random(n_networks), engaged.sum(axis=0)))
        engaged[run, order[:n_engaged]] = True
    return engaged


def _check(space: NeuronSpace, parameters: Mapping[str, Any], size: int, n_engaged: int) -> None:
    """Raise an error for parameters out of range."""
    for key in ("n_networks", "n_runs"):
        if parameters[key] < 1:
            raise ValueError(f"{key} is {parameters[key]}; it must be at least 1.")
    if parameters["n_volumes"] < 2:
        raise ValueError(f"n_volumes is {parameters['n_volumes']}; it must be at least 2.")
    if not 1 <= size < space.n_neurons:
        raise ValueError(
            f"share is {parameters['share']}, which is {size} of {space.n_neurons} neurons; a network needs at least 1 "
            "neuron, but not all. Use another share."
        )
    if not 0 <= parameters["minority"] < 0.5:
        raise ValueError(
            f"minority is {parameters['minority']}; it must be at least 0 and below 0.5, where the sign is undefined."
        )
    for key, accepted in (("weights", WEIGHTS), ("time_courses", tuple(TIME_COURSES))):
        if parameters[key] not in accepted:
            raise ValueError(f"{key} is {parameters[key]!r}; choose from {', '.join(map(repr, accepted))}.")
    low, high = parameters["strength"]
    if not 0 < low <= high:
        raise ValueError(f"strength is {(low, high)}; it must be two numbers above 0, the lower one first.")
    if not 1 <= n_engaged <= parameters["n_networks"]:
        raise ValueError(f"n_engaged is {n_engaged}; it must be between 1 and n_networks={parameters['n_networks']}.")
    if n_engaged * parameters["n_runs"] < parameters["n_networks"]:
        raise ValueError(
            f"{parameters['n_runs']} runs with {n_engaged} active networks each cannot include all "
            f"{parameters['n_networks']} networks. Use more runs, or a larger n_engaged."
        )
    for key in ("trend", "n_massive"):
        if parameters[key] < 0:
            raise ValueError(f"{key} is {parameters[key]}; it must be at least 0.")
    if not parameters["noise_sd"] > 0:
        raise ValueError(f"noise_sd is {parameters['noise_sd']}; it must be above 0.")
