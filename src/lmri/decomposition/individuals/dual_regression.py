"""Dual regression: individual versions of group networks for each text.

Stage 1 regresses each volume on the group maps and estimates time courses; stage 2 regresses each neuron on these time
courses and estimates maps; stage 3, which compares the maps of texts, is in `lmri.individuals.inference`.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lmri.decomposition.individuals.two_regressions import StageOne, regress_twice
from lmri.decomposition.standardization import STANDARDIZATIONS, moments, pooled, standardized
from lmri.exceptions import SpaceMismatchError
from lmri.networks import NetworkSet
from lmri.networks.origin import Origin
from lmri.space import Img, NeuronSpace
from lmri.storage import texts_of
from lmri.storage.recording import Recording

UNITS = ("text", "run")
SCOPES = ("study", "individual")
TOO_SHORT = ("raise", "skip")

VOLUMES_PER_MAP = 3
"""Smallest number of volumes per map; with fewer, stage 2 fits noise."""


@dataclass(frozen=True, eq=False)
class Individuals:
    """Individual versions of group networks, one per text or run.

    Parameters
    ----------
    networks : NetworkSet
        Group maps.
    names : tuple of str
        Names of the individuals.
    maps : ndarray of float32, shape (n_individuals, n_networks, n_neurons)
        Weights of stage 2, in units of the standardized data per standard deviation of the time course or, without
        variance normalization, per unit of the time course.
    t : ndarray of float32, shape (n_individuals, n_networks, n_neurons)
        Ratio of weights to their standard errors within the individual, as if tokens were independent; for inspection
        only.
    time_courses : tuple of ndarray of shape (n_volumes, n_networks)
        Time courses of stage 1, one array per individual, before normalization.
    variance_normalized : bool
        Whether time courses had unit variance in stage 2. Otherwise a network that is twice as strong in one text has
        the same map there, because its time course is twice as large.
    leave_own_out : bool
        Whether each neuron was regressed on time courses estimated without it.
    left_out : tuple of str
        Names of individuals that were too short.
    text_hashes : dict
        Hashes of the texts of each individual; None if unknown.
    info : dict
        Parameters.
    """

    networks: NetworkSet
    names: tuple[str, ...]
    maps: np.ndarray
    t: np.ndarray
    time_courses: tuple[np.ndarray, ...]
    variance_normalized: bool
    leave_own_out: bool = False
    left_out: tuple[str, ...] = ()
    text_hashes: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def space(self) -> NeuronSpace:
        """Neuron space of the maps."""
        return self.networks.space

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> NetworkSet:
        """Return the maps of one individual."""
        if name not in self.names:
            raise KeyError(f"There is no individual {name!r}; there are {', '.join(self.names[:10])} …")
        origin = Origin.of({"method": "dual_regression", **self.info})
        texts = self.networks.fit_texts | (self.text_hashes.get(name) or frozenset())
        index = self.names.index(name)
        return NetworkSet(
            self.space, self.maps[index], method=f"{self.networks.method}-{name}", origin=origin, fit_texts=texts
        )

    @property
    def made_maps(self) -> dict[str, bool | None]:
        """Whether each individual's texts were used to fit the group maps; None if unknown."""
        fitted = self.networks.fit_texts
        known = {name: self.text_hashes.get(name) for name in self.names}
        return {name: bool(hashes & fitted) if hashes and fitted else None for name, hashes in known.items()}

    def __repr__(self) -> str:
        scaled = "variance-normalized" if self.variance_normalized else "not variance-normalized"
        return f"<Individuals: {len(self)} versions of {len(self.networks)} networks, time courses {scaled}>"


def dual_regression(
    networks: NetworkSet,
    data: Recording | Img | Sequence[Img | np.ndarray],
    *,
    unit: str = "text",
    texts: Sequence[Sequence[str]] | None = None,
    text_hashes: Mapping[str, str] | None = None,
    standardize: str = "zscore",
    scope: str = "study",
    variance_normalized: bool = True,
    leave_own_out: bool = False,
    too_short: str = "raise",
) -> Individuals:
    """Estimate an individual version of group networks for each text.

    Each volume is regressed on all group maps, giving time courses; each neuron is then regressed on all time courses,
    giving maps. Both regressions include an intercept [1]_.

    A neuron with weight in a map also contributes to its time course, so its weight in stage 2 is not 0 even in noise.
    This bias cancels in comparisons of groups of texts, but not in tests against 0: with `leave_own_out`, every neuron
    is regressed on time courses to which it did not contribute.

    Parameters
    ----------
    networks : NetworkSet
        Group maps; their weights are used, whether thresholded or not.
    data : Recording, or image or array or sequence of them
        Runs, in activation units: a recording, which includes its texts; paths or 4D images; or arrays ``(n_volumes,
        n_neurons)``.
    unit : {"text", "run"}, default="text"
        Unit of an individual. A text is the volumes of one ``text_id``.
    texts : sequence of sequence of str, optional
        Text of every volume of every run, for images and arrays; without it an individual is a run.
    text_hashes : mapping, optional
        Hash (`lmri.storage.text_hash`) of each individual's text by name, for images and arrays. Recordings include it.
    standardize : {"zscore", "center", "none"}, default="zscore"
        Standardization of each neuron's time series.
    scope : {"study", "individual"}, default="study"
        Scope of mean and standard deviation. Scaling within each individual removes differences in a neuron's activity
        between texts.
    variance_normalized : bool, default=True
        Whether time courses have unit variance in stage 2, so that maps reflect a network's strength as well as its
        shape.
    leave_own_out : bool, default=False
        Whether each neuron is regressed on time courses estimated without it; required by `one_sample`.
    too_short : {"raise", "skip"}, default="raise"
        Treatment of individuals with fewer than 3 volumes per map.

    Returns
    -------
    Individuals
        Maps and time courses.

    Raises
    ------
    ValueError
        If an individual is too short, or its time courses or the maps are not linearly independent.
    SpaceMismatchError
        If the space of the data differs.

    References
    ----------
    .. [1] Nickerson et al. (2017). Using dual regression to investigate network shape and amplitude in functional
       connectivity analyses. Frontiers in Neuroscience, 11, 115.
    """
    for name, value, accepted in (
        ("unit", unit, UNITS), ("standardize", standardize, STANDARDIZATIONS), ("scope", scope, SCOPES),
        ("too_short", too_short, TOO_SHORT),
    ):  # fmt: skip
        if value not in accepted:
            raise ValueError(f"{name} is {value!r}; choose from {', '.join(map(repr, accepted))}.")
    runs, labels, hashes = _sources(networks.space, data, unit, texts, text_hashes)
    design = StageOne.of(networks)

    counted = {name: int(np.sum(names == name)) for names in labels for name in dict.fromkeys(names)}
    needed = VOLUMES_PER_MAP * len(networks)
    short = {name: count for name, count in counted.items() if count < needed}
    if short and (too_short == "raise" or len(short) == len(counted)):
        name, count = next(iter(short.items()))
        skip = "" if len(short) == len(counted) else " or leave short ones out with too_short='skip',"
        raise ValueError(
            f"{len(short)} of {len(counted)} individuals are too short: {name!r} has {count} volumes, and "
            f"{len(networks)} maps need at least {needed} ({VOLUMES_PER_MAP} per map). Use longer texts, "
            f"unit='run',{skip} or fewer maps."
        )

    pool = pooled([moments(run) for run in _loaded(networks.space, runs)]) if scope == "study" else None
    names, maps, t_maps, courses = [], [], [], []
    for run, label in zip(_loaded(networks.space, runs), labels, strict=True):
        if len(label) != len(run):
            raise ValueError(
                f"texts has {len(label)} entries for a run of {len(run)} volumes. Name the text of every volume."
            )
        for name in dict.fromkeys(label):
            if name in short:
                continue
            X = run[label == name]
            X = standardized(X, pool if pool is not None else moments(X), standardize).astype(np.float64)
            course, weights, t = regress_twice(design, X, variance_normalized, leave_own_out, f"Individual {name!r}")
            names.append(str(name))
            maps.append(weights.astype(np.float32))
            t_maps.append(t.astype(np.float32))
            courses.append(course)
    info = {
        "unit": unit,
        "standardize": standardize,
        "scope": scope,
        "variance_normalized": variance_normalized,
        "leave_own_out": leave_own_out,
        "n_volumes": [len(course) for course in courses],
        "networks": networks.method,
    }
    return Individuals(
        networks, tuple(names), np.stack(maps), np.stack(t_maps), tuple(courses), variance_normalized, leave_own_out,
        tuple(short), {name: hashes.get(name) for name in names}, info,
    )  # fmt: skip


def _sources(
    space: NeuronSpace,
    data: Recording | Img | Sequence[Img | np.ndarray],
    unit: str,
    texts: Sequence[Sequence[str]] | None,
    text_hashes: Mapping[str, str] | None,
) -> tuple[list[Img | np.ndarray], list[np.ndarray], dict[str, frozenset[str] | None]]:
    """Return the runs, the individual of every volume, and the hashes of each individual's texts."""
    if isinstance(data, Recording):
        if texts is not None or text_hashes is not None:
            raise ValueError("A recording includes its texts. Pass texts and text_hashes only for images and arrays.")
        space.check_same(data.space, f"The recording of {data.corpus!r}")
        if unit == "text":
            labels = [events["text_id"].to_numpy(dtype=object) for events in data.events]
            table = zip(data.texts["text_id"], data.texts["sha256"], strict=True)
            return list(data.imgs), labels, {str(name): frozenset([sha]) for name, sha in table}
        return list(data.imgs), *_by_run(space, data.imgs)
    runs = [data] if isinstance(data, str | Path | nib.Nifti1Image | np.ndarray) else list(data)
    if not runs:
        raise ValueError("data is empty. Pass a recording, images or arrays.")
    hashes: dict[str, frozenset[str] | None]
    if texts is None or unit == "run":
        labels, hashes = _by_run(space, runs)
    else:
        if len(texts) != len(runs):
            raise ValueError(f"texts has {len(texts)} lists for {len(runs)} runs. Pass one list per run.")
        labels, hashes = [np.array([str(name) for name in names], dtype=object) for names in texts], {}
        seen: dict[Hashable, int] = {}
        for number, label in enumerate(labels, start=1):
            for name in dict.fromkeys(label):
                if name in seen:
                    raise ValueError(
                        f"The text {name!r} is in runs {seen[name]} and {number}. Use unique names of texts, such as "
                        "with the corpus as a prefix."
                    )
                seen[name] = number
    given = {name: frozenset([sha]) for name, sha in (text_hashes or {}).items()}
    unknown = set(given) - {name for label in labels for name in label}
    if unknown:
        raise ValueError(f"text_hashes names {sorted(unknown)[0]!r}, which is not an individual.")
    return runs, labels, {**hashes, **given}


def _by_run(space: NeuronSpace, runs: Sequence[Any]) -> tuple[list[np.ndarray], dict[str, frozenset[str] | None]]:
    """Return the individual of every volume, and text hashes, with one individual per run."""
    labels, hashes = [], {}
    for number, run in enumerate(runs, start=1):
        name = f"run-{number:03d}"
        array = isinstance(run, np.ndarray)
        # A 3D image is one volume.
        n_volumes = len(np.atleast_2d(run)) if array else (*space.check_img(run).shape, 1)[3]
        labels.append(np.full(n_volumes, name, dtype=object))
        hashes[name] = None if array else texts_of([run]) or None
    return labels, hashes


def _loaded(space: NeuronSpace, runs: Sequence[Any]) -> Iterator[np.ndarray]:
    """Yield each run as an array, checked against the space."""
    for number, run in enumerate(runs, start=1):
        array = np.atleast_2d(run if isinstance(run, np.ndarray) else space.from_img(run))
        if array.shape[1] != space.n_neurons:
            raise SpaceMismatchError(
                f"Run {number} has {array.shape[1]} neurons; the networks have {space.n_neurons}: {space.describe()}."
            )
        space.check_finite(array, f"Run {number}")
        yield array
