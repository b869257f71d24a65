"""Planted networks: recordings of which it is known which neurons work together, and how strongly."""

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
"""Level of a massive neuron, in noise sds."""

MASSIVE_SHARE = 0.01
"""Share of the volumes at which all massive neurons spike together."""

TREND_SHARE = 0.1
"""Share of the neurons that follow the position in the run, where there is a trend."""

GRADES = (0.2, 1.8)
"""Range of graded weights, in strengths of the network; uniform, so that their mean is the strength."""

SPARSE_SHARE = 0.1
"""Share of the volumes at which a network with sparse time courses is active."""


def _sparse(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    active = rng.random(shape) < SPARSE_SHARE
    return np.where(active, rng.laplace(scale=1 / np.sqrt(2 * SPARSE_SHARE), size=shape), 0)


# All of mean 0 and variance 1, so that a weight is an effect in units of the activations.
TIME_COURSES: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "laplace": lambda rng, shape: rng.laplace(scale=np.sqrt(0.5), size=shape),
    "sparse": _sparse,
    "gaussian": lambda rng, shape: rng.normal(size=shape),
}

WEIGHTS = ("sharp", "graded")


@dataclass(frozen=True, eq=False)
class Phantom:
    """A simulated recording, and what is true of it.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    maps : ndarray of shape (n_networks, n_neurons)
        Planted weights, activation units per sd of the time course; 0 outside a network. No row in a null.
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        One array a run, of variance 1; 0 throughout a run that does not engage the network.
    imgs : list of Nifti1Image
        4D, one a run, in memory.
    name : str
        What tables call it.
    noise_sd : float
        Standard deviation of the noise that was added, activation units: what effects are measured in.
    parameters : dict
        What it was made with.
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
        """Whether nothing was planted, so that whatever is found is false."""
        return len(self.maps) == 0

    @property
    def members(self) -> np.ndarray:
        """Planted neurons: bool, ``(n_networks, n_neurons)``."""
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
        """Write images, truth and parameters into a new folder, for a viewer or for other software.

        Parameters
        ----------
        folder : str or Path
            Made here. It gets ``run-01_bold.nii`` and so on, ``mask.nii.gz``, ``phantom.json`` and, unless this is a
            null, ``truth.nii.gz`` (a volume a network) and ``run-01_timecourses.tsv``.

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
            raise ValueError(f"{folder} exists and is not empty. Nothing was overwritten: choose another folder.")
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
    """Plant sparse networks, scattered over all layers, in Gaussian noise.

    A run is ``time_courses @ maps + trend + noise``, and massive neurons replace what they would have been. Neurons are
    drawn for each network on its own, so networks overlap as much as chance has it.

    Parameters
    ----------
    space : NeuronSpace
        Any; a real model's too.
    n_networks : int, default=20
        How many.
    share : float, default=0.01
        Share of the neurons in each network.
    minority : float, default=0.1
        Share of a network's members whose weight is negative, below 0.5: the majority is what makes the sign.
    weights : {"sharp", "graded"}, default="sharp"
        Whether all members of a network have the same absolute weight, or a uniform one from 0.2 to 1.8 times that.
    strength : (float, float), default=(1.0, 1.0)
        Weakest and strongest network, in noise sds; evenly spaced between them on a logarithmic scale.
    n_runs, n_volumes : int, default=10, 300
        Runs, and volumes of each.
    n_engaged : int, optional
        Networks that are active in each run, all by default. Every network is engaged as often as any other, give or
        take one run.
    time_courses : {"laplace", "sparse", "gaussian"}, default="laplace"
        Super-Gaussian, active at a tenth of the volumes only, or Gaussian; independent from volume to volume.
    n_massive : int, default=0
        Neurons outside all networks at 100 noise sds, which double at the same few volumes (1 %), as massive
        activations do.
    trend : float, default=0
        Noise sds by which a tenth of the neurons follow the position in the run, with Gaussian weights.
    noise_sd : float, default=1
        Activation units.
    random_state : int, default=0
        Seed.
    name : str
        What tables call it.

    Returns
    -------
    Phantom
        The recording and its truth.

    Raises
    ------
    ValueError
        If a network would have no neuron or no run, or a value is out of its range.
    """
    parameters = {key: value for key, value in locals().items() if key not in ("space", "name")}
    parameters["strength"] = list(strength)
    size = round(share * space.n_neurons)
    n_engaged = n_networks if n_engaged is None else n_engaged
    _check(space, parameters, size, n_engaged)
    rng = np.random.default_rng(random_state)

    maps = np.zeros((n_networks, space.n_neurons))
    for number, own in enumerate(rng.permutation(np.geomspace(*strength, n_networks))):
        neurons = rng.choice(space.n_neurons, size, replace=False)
        sizes = np.ones(size) if weights == "sharp" else rng.uniform(*GRADES, size)
        signs = np.where(np.arange(size) < round(minority * size), -1, 1)
        maps[number, neurons] = own * noise_sd * sizes * signs

    courses = [TIME_COURSES[time_courses](rng, (n_volumes, n_networks)) for _ in range(n_runs)]
    courses = [course * on for course, on in zip(courses, engagement(n_runs, n_networks, n_engaged, rng), strict=True)]
    drifting = np.zeros(space.n_neurons)
    places = rng.choice(space.n_neurons, round(TREND_SHARE * space.n_neurons), replace=False)
    drifting[places] = trend * noise_sd * rng.normal(size=len(places))
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
    """Draw which networks each run engages, every one as often as any other, give or take one run.

    Free draws would leave some networks out of all runs (5 of 20 in 10 runs: one on average), and nothing could find
    those.

    Returns
    -------
    ndarray of bool, shape (n_runs, n_networks)
    """
    engaged = np.zeros((n_runs, n_networks), dtype=bool)
    for run in range(n_runs):
        # The least engaged so far; ties in random order.
        order = np.lexsort((rng.random(n_networks), engaged.sum(axis=0)))
        engaged[run, order[:n_engaged]] = True
    return engaged


def _check(space: NeuronSpace, parameters: Mapping[str, Any], size: int, n_engaged: int) -> None:
    for key in ("n_networks", "n_runs"):
        if parameters[key] < 1:
            raise ValueError(f"{key} is {parameters[key]}; it must be at least 1.")
    if parameters["n_volumes"] < 2:
        raise ValueError(f"n_volumes is {parameters['n_volumes']}; it must be at least 2.")
    if not 1 <= size < space.n_neurons:
        raise ValueError(
            f"share is {parameters['share']}, which is {size} of {space.n_neurons} neurons; a network needs at least 1 "
            "and not all. Use another share."
        )
    if not 0 <= parameters["minority"] < 0.5:
        raise ValueError(
            f"minority is {parameters['minority']}; accepted is 0 up to below 0.5, where a network has no sign."
        )
    for key, accepted in (("weights", WEIGHTS), ("time_courses", tuple(TIME_COURSES))):
        if parameters[key] not in accepted:
            raise ValueError(f"{key} is {parameters[key]!r}; accepted are {', '.join(map(repr, accepted))}.")
    low, high = parameters["strength"]
    if not 0 < low <= high:
        raise ValueError(f"strength is {(low, high)}; it must be two numbers above 0, the lower one first.")
    if not 1 <= n_engaged <= parameters["n_networks"]:
        raise ValueError(f"n_engaged is {n_engaged}; it must lie between 1 and n_networks={parameters['n_networks']}.")
    if n_engaged * parameters["n_runs"] < parameters["n_networks"]:
        raise ValueError(
            f"{parameters['n_runs']} runs that engage {n_engaged} networks each leave some of the "
            f"{parameters['n_networks']} out, and nothing could find those. Use more runs, or a larger n_engaged."
        )
    for key in ("trend", "n_massive"):
        if parameters[key] < 0:
            raise ValueError(f"{key} is {parameters[key]}; it must be at least 0.")
    if not parameters["noise_sd"] > 0:
        raise ValueError(f"noise_sd is {parameters['noise_sd']}; it must be above 0.")
