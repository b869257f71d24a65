"""What all decompositions share: checks before the fit; signs, order and metrics after it."""

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats
from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning

from lmri.decomposition.nuisance import Nuisance
from lmri.decomposition.standardization import StandardizedRuns, products
from lmri.decomposition.surrogates import N_SURROGATES, ShiftedRuns
from lmri.exceptions import ConvergenceWarning, DataWarning, NothingFoundError
from lmri.networks.thresholds import SurrogateNull, z_scores
from lmri.space import Img, NeuronSpace
from lmri.space.masker import NeuronMasker
from lmri.storage import texts_of

Runs = StandardizedRuns | ShiftedRuns

Projected = Iterable[tuple[np.ndarray, float]]
"""A run after the other: its products with maps, ``(n_volumes, n_maps)``, and its sum of squares."""

SURROGATE_ITERATIONS = 40
"""Where there is nothing to be found, ICA hardly ever converges; the tails of its maps settle within 30 iterations."""


class Decomposition:
    """Mixin of an estimator over a neuron space: images in, signed and sorted maps out.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_neurons)
        Maps in (layer, neuron) order; the heavier tail positive; the one that explains most first.
    components_img_ : Nifti1Image
        The same, 4D.
    masker_ : NeuronMasker
        Between the two.
    mask_img_ : Nifti1Image
        Which voxels hold a neuron.
    metrics_ : DataFrame
        A row a map: share of variance explained alone, skewness, kurtosis, sparsity, whether the sign is determined,
        where it lies among the layers, the share of the time course's energy in its top token, and what else the
        method knows.
    info_ : dict
        Provenance: method, parameters, sizes, dead neurons and convergence.
    time_courses_ : list of ndarray of shape (n_volumes, n_components)
        One array a run; they carry the signs of the maps.
    fit_texts_ : frozenset of str
        Hashes of the texts in the images, where sidecars tell.
    seconds_ : float
        Wall time of the fit.
    null_ : SurrogateNull
        After `surrogate_null`.
    """

    space: NeuronSpace
    n_components: int
    standardize: str
    scope: str
    method_name: str
    can_be_auto = False
    needs_every_run = False
    """Whether each run has to have more volumes than there are components."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Give the constructor's parameters, as scikit-learn's estimators do."""
        return super().get_params(deep)  # type: ignore[misc]

    def announce(self, confounds: Sequence[Any] | None) -> "Decomposition":
        """Say which confounds the next fit will regress out, so that what it makes has a name before it is made.

        Parameters
        ----------
        confounds : sequence of array or DataFrame, or None
            As for ``fit``, which has to be given them, too.
        """
        self._nuisance = None if confounds is None else Nuisance.read(confounds)
        return self

    def _start(self, imgs: Img | Sequence[Img], confounds: Sequence[Any] | None = None) -> StandardizedRuns:
        """Check the images against the space, and give them standardized; forget an earlier fit.

        Confounds are regressed out here, the same for every method. An interrupted fit leaves an estimator that is not
        fitted, rather than one that mixes two.
        """
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)
        if isinstance(imgs, str | Path | nib.Nifti1Image):
            imgs = [imgs]
        imgs = list(imgs)
        if not imgs:
            raise ValueError("imgs is empty; give at least one 4D image, such as recording.imgs.")
        _check_n_components(self.n_components, self.can_be_auto)
        self._started = time.perf_counter()
        self.announce(confounds)
        self._runs = StandardizedRuns(self.space, imgs, self.standardize, self.scope, confounds=confounds)
        return self._runs

    def _find(self, runs: Runs) -> tuple[np.ndarray, dict[str, Any]]:
        """Find maps ``(n_components, n_neurons)``, of any sign and order, and say how it converged."""
        raise NotImplementedError

    def _finish(
        self,
        maps: np.ndarray,
        runs: StandardizedRuns,
        convergence: dict[str, Any],
        extra: Mapping[str, np.ndarray] | None = None,
        projected: Projected | None = None,
    ) -> None:
        """Sign by skewness, sort by explained variance, and set every attribute that comes from the maps.

        `extra` holds more metrics, a value a map; `projected` what `runs.projected(maps)` would give, if it is known.
        """
        maps = maps.astype(np.float64)
        signs, determined, skewness = signs_by_skewness(maps)
        if getattr(self, "signs", "skewness") == "skewness":
            maps *= signs[:, None]
            projected = None if projected is None else ((own * signs, squares) for own, squares in projected)
        alone, together, courses = explained_variance(maps, runs, projected)
        order = np.argsort(-alone, kind="stable")
        self.time_courses_ = [course[:, order] for course in courses]
        self.fit_texts_by_run_ = [texts_of([img]) for img in runs.imgs]
        self.fit_texts_ = frozenset().union(*self.fit_texts_by_run_)
        self._moments = runs.moments
        self._set_maps(maps[order].astype(np.float32))
        self.metrics_ = pd.DataFrame(
            {
                "variance": alone[order],
                "skewness": np.abs(skewness[order]),
                "sign_determined": determined[order].astype(int),
                **shape_metrics(self.components_, self.space),
                "top_token_share": top_token_share(self.time_courses_),
                **{name: values[order] for name, values in (extra or {}).items()},
            }
        )
        dead = runs.dead
        self.info_ = {
            "method": self.method_name,
            "parameters": self._json_parameters(),
            "n_runs": len(runs),
            "n_volumes": int(sum(runs.n_volumes)),
            "n_dead_neurons": int(dead.sum()),
            "dead_neurons": np.column_stack([self.space.layer_of[dead], self.space.neuron_of[dead]]).tolist(),
            "variance_explained_together": together,
            "convergence": convergence,
        }
        self.seconds_ = time.perf_counter() - self._started
        self._warn(dead, convergence)

    def _warn(self, dead: np.ndarray, convergence: dict[str, Any]) -> None:
        if dead.any():
            warnings.warn(
                f"{int(dead.sum())} of {self.space.n_neurons} neurons do not vary in at least one "
                f"{'run' if self.scope == 'run' else 'study'}"
                f"{' and are 0 there' if self.standardize == 'zscore' else ''} (first: layer "
                f"{self.space.layer_of[dead][0]}, neuron {self.space.neuron_of[dead][0]}; all are in info_).",
                DataWarning,
                stacklevel=4,
            )
        if convergence["n_converged"] < convergence["n_starts"]:
            warnings.warn(
                f"{self.method_name} converged from {convergence['n_converged']} of {convergence['n_starts']} starts. "
                "Maps may depend on the seed: compare two seeds, ask for fewer components, or record more.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def surrogate_null(self, n_surrogates: int = N_SURROGATES, n_jobs: int = 1) -> SurrogateNull:
        """Repeat the whole pipeline on surrogates of the fitted images, and pool what it finds there.

        Every neuron is shifted circularly on its own within its run (`lmri.decomposition.surrogates`). Only iterations
        are cut short, at 40.

        Parameters
        ----------
        n_surrogates : int, default=20
            At least 20 for a threshold at 0.05.
        n_jobs : int, default=1
            Processes. Spatial `NeuronICA` takes threads, which share one reading of the data: as many as BLAS may use
            if there is memory for them, or more; `joblib.parallel_config` may put others in their place.

        Returns
        -------
        SurrogateNull
            Also kept as ``null_``, and not made again.
        """
        if not hasattr(self, "components_"):
            raise ValueError(f"{type(self).__name__} is not fitted. Call fit(recording.imgs) first.")
        if not isinstance(n_surrogates, int | np.integer) or n_surrogates < 1:
            raise ValueError(f"n_surrogates is {n_surrogates!r}; it must be an integer of at least 1.")
        known: SurrogateNull | None = getattr(self, "null_", None)
        if known is None or known.n_surrogates != n_surrogates:
            self.null_ = SurrogateNull.from_maps(self._surrogate_maps(n_surrogates, n_jobs))
        return self.null_

    def _surrogate_maps(self, n_surrogates: int, n_jobs: int) -> list[np.ndarray]:
        def find(number: int) -> np.ndarray:
            own = self._again()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # where there is nothing to be found, nothing need converge
                try:
                    return own._find(ShiftedRuns(self._runs, self._seed, number))[0].astype(np.float32)
                except NothingFoundError:
                    return np.zeros_like(self.components_)

        return list(Parallel(n_jobs=n_jobs)(delayed(find)(number) for number in range(n_surrogates)))

    def maps_of(self, volumes: Sequence[np.ndarray]) -> np.ndarray:
        """Fit again, with the same parameters, on some volumes of the fitted images.

        Parameters
        ----------
        volumes : sequence of ndarray of int
            Which volumes of each run; a run may have none, and a volume may come twice.

        Returns
        -------
        ndarray of shape (n_components, n_neurons)
            Of any sign and order.
        """
        parameters = {**self.get_params(deep=False), "n_components": len(self.components_)}
        own = type(self)(**parameters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that parts converge worse shows in what they give
            return own._find(self._runs.selected(volumes))[0].astype(np.float32)

    @property
    def confounds_digest(self) -> str | None:
        """Hash of the confounds that are regressed out; None if there are none."""
        nuisance: Nuisance | None = getattr(self, "_nuisance", None)
        return None if nuisance is None else nuisance.digest

    @property
    def confound_names(self) -> list[str]:
        """Names of the confounds, where tables gave them."""
        nuisance: Nuisance | None = getattr(self, "_nuisance", None)
        return [] if nuisance is None else list(nuisance.names)

    def can_fit(self, n_volumes: Sequence[int]) -> bool:
        """Say whether runs of these lengths are enough for as many components as were fitted."""
        counts = [count for count in n_volumes if count]
        least = min(counts, default=0) if self.needs_every_run else sum(counts)
        return least > len(self.components_) + 1

    @property
    def n_volumes_by_run(self) -> list[int]:
        """Volumes of each fitted run."""
        return list(self._runs.n_volumes)

    def _again(self) -> "Decomposition":
        """Make an estimator like this one for a surrogate, with fewer iterations."""
        parameters = {**self.get_params(deep=False), "n_components": len(self.components_)}
        if "max_iter" in parameters:
            parameters["max_iter"] = min(parameters["max_iter"], SURROGATE_ITERATIONS)
        return type(self)(**parameters)

    @property
    def _seed(self) -> int:
        return int(getattr(self, "random_state", 0) or 0)

    def _set_maps(self, maps: np.ndarray) -> None:
        self.components_ = maps
        self.components_img_ = self.space.to_img(maps, "estimate")
        self.masker_: NeuronMasker = self.space.masker()
        self.mask_img_ = self.space.mask_img

    def _json_parameters(self) -> dict[str, Any]:
        hidden = ("space", "memory", "memory_level", "n_jobs", "verbose")
        own = {name: value for name, value in self.get_params(deep=False).items() if name not in hidden}
        return {**own, "confounds": self.confound_names} if self.confound_names else own

    def transform(self, imgs: Img | Sequence[Img], confounds: Sequence[Any] | None = None) -> list[np.ndarray]:
        """Regress every volume on the maps.

        Parameters
        ----------
        imgs : path, Nifti1Image or sequence of them
            4D, on the grid of the space. They are standardized as in the fit; with ``scope="study"`` by the moments of
            the fitted runs.
        confounds : sequence of array or DataFrame of shape (n_volumes, n_confounds), optional
            One an image; needed if the fit had confounds.

        Returns
        -------
        list of ndarray of shape (n_volumes, n_components)
            Time courses, one array an image.
        """
        if not hasattr(self, "components_"):
            raise ValueError(f"{type(self).__name__} is not fitted. Call fit(recording.imgs) first.")
        if (confounds is None) != (self._runs.confounds is None):
            raise ValueError(
                "The fit had confounds; give those of these images, too."
                if confounds is None
                else "The fit had no confounds, so none are regressed out here. Leave them out, or fit with them."
            )
        if isinstance(imgs, str | Path | nib.Nifti1Image):
            imgs = [imgs]
        runs = StandardizedRuns(self.space, list(imgs), self.standardize, self.scope, confounds=confounds)
        if self.scope == "study":
            runs.take_moments(self._moments)
        return [time_courses(self.components_, run) for run in runs]


def signs_by_skewness(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose each map's sign so that its heavier tail is positive.

    The largest weight is a bad guide: where some members have the other sign, spatial centring makes those the peak.
    The sign counts as determined if the sum of cubed z-scores exceeds two of its standard errors, estimated from the
    map itself; a map with as many members on either side has no sign.

    Parameters
    ----------
    maps : ndarray of shape (n_maps, n_neurons)
        Any sign.

    Returns
    -------
    signs : ndarray of shape (n_maps,)
        1 or -1, to multiply by.
    determined : ndarray of bool, shape (n_maps,)
        Whether the data decide.
    skewness : ndarray of shape (n_maps,)
        Of the maps as they came.
    """
    z = z_scores(maps)
    each = z * z * z  # a power would take ten times as long
    cubes, error = each.sum(axis=1), np.linalg.norm(each, axis=1)
    return np.where(cubes < 0, -1.0, 1.0), np.abs(cubes) > 2 * error, cubes / z.shape[1]


def shape_metrics(maps: np.ndarray, space: NeuronSpace) -> dict[str, np.ndarray]:
    """Describe how maps are distributed, over neurons and over layers.

    Returns
    -------
    dict of ndarray of shape (n_maps,)
        ``kurtosis``, in excess of a Gaussian's; ``sparsity``, from 0 (all weights equal) to 1 (one neuron; Hoyer,
        2004); ``layer_centre``, the mean layer, and ``layer_entropy``, from 0 (one layer) to 1 (all alike), both by
        squared weight.
    """
    z = z_scores(maps)
    size = np.abs(maps, dtype=np.float64)
    norm, root = np.linalg.norm(size, axis=1), np.sqrt(maps.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        sparsity = (root - size.sum(axis=1) / norm) / (root - 1)
        energy = np.stack([(size[:, space.layer_of == layer] ** 2).sum(axis=1) for layer in range(space.n_layers)])
        share = energy / energy.sum(axis=0)  # (n_layers, n_maps)
    entropy = stats.entropy(share, axis=0) / np.log(space.n_layers) if space.n_layers > 1 else np.zeros(len(maps))
    return {
        "kurtosis": np.nan_to_num(stats.kurtosis(z, axis=1)),
        "sparsity": sparsity,
        "layer_centre": np.arange(space.n_layers) @ share,
        "layer_entropy": entropy,
    }


def top_token_share(courses: Sequence[np.ndarray]) -> np.ndarray:
    """Share of each time course's energy in its largest token: near 1, a component is one token. ``(n_maps,)``."""
    squares = [course**2 for course in courses]
    largest = np.max([square.max(axis=0) for square in squares], axis=0)
    total = np.sum([square.sum(axis=0) for square in squares], axis=0)
    return np.divide(largest, total, out=np.zeros(len(total)), where=total > 0)


def explained_variance(
    maps: np.ndarray, runs: StandardizedRuns, projected: Projected | None = None
) -> tuple[np.ndarray, float, list[np.ndarray]]:
    """Compute the share of the standardized data's variance that each map explains alone, and all together.

    Variance is around each neuron's mean, also where the data were not centred: a mean pattern would outweigh all else.
    Time courses come from the same pass over the data, which is not read if `projected` is what it would give.

    Returns
    -------
    alone : ndarray of shape (n_maps,)
        Overlapping maps share, so these may add up to more than all together.
    together : float
        In [0, 1].
    courses : list of ndarray of shape (n_volumes, n_maps)
        As `time_courses` gives them, one array a run, float32.
    """
    norms = (maps**2).sum(axis=1)
    inverse = np.linalg.pinv(maps @ maps.T, hermitian=True)
    alone, together, total = np.zeros(len(maps)), 0.0, 0.0
    courses = []
    mean = runs.moments.mean if runs.standardize == "none" else None  # the others leave no mean behind
    for onto, squares in runs.projected(maps) if projected is None else projected:
        own = (onto if mean is None else onto + mean @ maps.T) @ inverse
        courses.append(own.astype(np.float32))  # what grows with the number of runs
        alone += (onto**2).sum(axis=0)
        together += float(np.einsum("ti,ij,tj->", onto, inverse, onto, optimize=True))
        total += squares
    total = total or 1.0
    shares = np.divide(alone, norms, out=np.zeros(len(maps)), where=norms > 0) / total
    return shares, together / total, courses


def time_courses(maps: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Regress volumes ``(n_volumes, n_neurons)`` on maps by least squares: ``(n_volumes, n_maps)``, float64."""
    maps = maps.astype(np.float64)
    return products(run, maps) @ np.linalg.pinv(maps @ maps.T, hermitian=True)


def _check_n_components(n_components: Any, can_be_auto: bool) -> None:
    if can_be_auto and n_components == "auto":
        return
    if not isinstance(n_components, int | np.integer) or isinstance(n_components, bool) or n_components < 1:
        raise ValueError(
            f"n_components is {n_components!r}; it must be an integer of at least 1{', or auto' * can_be_auto}."
        )


def check_components(n_volumes: Sequence[int], n_components: int, n_neurons: int) -> None:
    """Refuse more components than every run allows: a centred run of ``T`` volumes has at most ``T - 1``.

    nilearn would silently give fewer.
    """
    if n_components > n_neurons - 1:
        raise ValueError(
            f"n_components is {n_components}, but there are {n_neurons} neurons, which allows at most {n_neurons - 1}. "
            "Ask for fewer components."
        )
    shortest = min(n_volumes)
    if n_components > shortest - 1:
        run = list(n_volumes).index(shortest) + 1
        where = f"run {run}, the shortest, has" if len(n_volumes) > 1 else "there are"
        raise ValueError(
            f"n_components is {n_components}, but {where} {shortest} volumes, which allows at most {shortest - 1}. "
            "Ask for fewer components, or record longer runs (more texts, a larger run_tokens)."
        )


def warn_of_overlearning(n_samples: int, n_components: int, what: str) -> None:
    """Warn if there are fewer samples than squared components."""
    if n_samples < n_components**2:
        warnings.warn(
            f"{n_samples} {what} for {n_components} components are fewer than n_components² = {n_components**2}: "
            "ICA overlearns there, and finds spikes even in noise. Record more, or ask for fewer components.",
            DataWarning,
            stacklevel=4,
        )


@contextmanager
def counted_non_convergence() -> Iterator[list[int]]:
    """Count scikit-learn's convergence warnings instead of showing them; others pass."""
    counter = [0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield counter
    for warning in caught:
        if issubclass(warning.category, SklearnConvergenceWarning):
            counter[0] += 1
        elif not issubclass(warning.category, DeprecationWarning | FutureWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
