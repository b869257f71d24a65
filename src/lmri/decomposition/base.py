"""What all decompositions share: checks before the fit; signs, order and metrics after it."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning

from lmri.decomposition.standardization import StandardizedRuns, standardized
from lmri.exceptions import ConvergenceWarning, DataWarning
from lmri.masker import NeuronMasker
from lmri.space import Img, NeuronSpace
from lmri.storage import texts_of
from lmri.thresholds import z_scores


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
        A row a map: share of variance explained alone, skewness, and whether the sign is determined.
    info_ : dict
        Provenance: method, parameters, sizes, dead neurons and convergence.
    time_courses_ : list of ndarray of shape (n_volumes, n_components)
        One array a run; they carry the signs of the maps.
    fit_texts_ : frozenset of str
        Hashes of the texts in the images, where sidecars tell.
    """

    space: NeuronSpace
    n_components: int
    standardize: str
    scope: str
    method_name: str

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Give the constructor's parameters, as scikit-learn's estimators do."""
        return super().get_params(deep)  # type: ignore[misc]

    def _start(self, imgs: Img | Sequence[Img]) -> StandardizedRuns:
        """Check the images against the space, and give them standardized."""
        if isinstance(imgs, str | Path | nib.Nifti1Image):
            imgs = [imgs]
        imgs = list(imgs)
        if not imgs:
            raise ValueError("imgs is empty; give at least one 4D image, such as recording.imgs.")
        if not isinstance(self.n_components, int | np.integer) or self.n_components < 1:
            raise ValueError(f"n_components is {self.n_components!r}; it must be an integer of at least 1.")
        runs = StandardizedRuns(self.space, imgs, self.standardize, self.scope)
        self.fit_texts_ = texts_of(imgs)
        self._moments = runs.moments
        return runs

    def _finish(self, maps: np.ndarray, runs: StandardizedRuns, convergence: dict[str, Any]) -> None:
        """Sign by skewness, sort by explained variance, and set every attribute that comes from the maps."""
        maps = maps.astype(np.float64)
        signs, determined, skewness = signs_by_skewness(maps)
        maps *= signs[:, None]
        alone, together = explained_variance(maps, runs)
        order = np.argsort(-alone, kind="stable")
        self._set_maps(maps[order].astype(np.float32))
        self.metrics_ = pd.DataFrame(
            {
                "variance": alone[order],
                "skewness": np.abs(skewness[order]),
                "sign_determined": determined[order].astype(int),
            }
        )
        self.time_courses_ = [time_courses(self.components_, run) for run in runs]
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
        if dead.any():
            warnings.warn(
                f"{int(dead.sum())} of {self.space.n_neurons} neurons do not vary in at least one "
                f"{'run' if self.scope == 'run' else 'study'}"
                f"{' and are 0 there' if self.standardize == 'zscore' else ''} (first: layer "
                f"{self.space.layer_of[dead][0]}, neuron {self.space.neuron_of[dead][0]}; all are in info_).",
                DataWarning,
                stacklevel=3,
            )
        if convergence["n_converged"] < convergence["n_starts"]:
            warnings.warn(
                f"{self.method_name} converged from {convergence['n_converged']} of {convergence['n_starts']} starts. "
                "Maps may depend on the seed: compare two seeds, ask for fewer components, or record more.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _set_maps(self, maps: np.ndarray) -> None:
        self.components_ = maps
        self.components_img_ = self.space.to_img(maps, "estimate")
        self.masker_: NeuronMasker = self.space.masker()
        self.mask_img_ = self.space.mask_img

    def _json_parameters(self) -> dict[str, Any]:
        hidden = ("space", "memory", "memory_level", "n_jobs", "verbose")
        return {name: value for name, value in self.get_params(deep=False).items() if name not in hidden}

    def transform(self, imgs: Img | Sequence[Img], confounds: None = None) -> list[np.ndarray]:
        """Regress every volume on the maps.

        Parameters
        ----------
        imgs : path, Nifti1Image or sequence of them
            4D, on the grid of the space. They are standardized as in the fit; with ``scope="study"`` by the moments of
            the fitted runs.
        confounds : None
            Here for nilearn's signature.

        Returns
        -------
        list of ndarray of shape (n_volumes, n_components)
            Time courses, one array an image.
        """
        if confounds is not None:
            raise ValueError("confounds are not supported; regress them out of the images first.")
        if not hasattr(self, "components_"):
            raise ValueError(f"{type(self).__name__} is not fitted. Call fit(recording.imgs) first.")
        if isinstance(imgs, str | Path | nib.Nifti1Image):
            imgs = [imgs]
        if self.scope == "run":
            return [
                time_courses(self.components_, run)
                for run in StandardizedRuns(self.space, list(imgs), self.standardize, "run")
            ]
        arrays = (np.atleast_2d(self.space.from_img(img)) for img in imgs)
        return [time_courses(self.components_, standardized(run, self._moments, self.standardize)) for run in arrays]


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
    cubes = (z**3).sum(axis=1)
    error = np.sqrt((z**6).sum(axis=1))
    skewness = np.nan_to_num(stats.skew(z, axis=1))
    return np.where(cubes < 0, -1.0, 1.0), np.abs(cubes) > 2 * error, skewness


def explained_variance(maps: np.ndarray, runs: StandardizedRuns) -> tuple[np.ndarray, float]:
    """Compute the share of the standardized data's variance that each map explains alone, and all together.

    Variance is around each neuron's mean, also where the data were not centred: a mean pattern would outweigh all else.

    Returns
    -------
    alone : ndarray of shape (n_maps,)
        Overlapping maps share, so these may add up to more than all together.
    together : float
        In [0, 1].
    """
    norms = (maps**2).sum(axis=1)
    inverse = np.linalg.pinv(maps @ maps.T, hermitian=True)
    alone, together, total = np.zeros(len(maps)), 0.0, 0.0
    for run in runs.centred():
        projected = run @ maps.T  # (n_volumes, n_maps)
        alone += (projected**2).sum(axis=0)
        together += float(np.einsum("ti,ij,tj->", projected, inverse, projected, optimize=True))
        total += float(np.square(run, dtype=np.float64).sum())
    total = total or 1.0
    return np.divide(alone, norms, out=np.zeros(len(maps)), where=norms > 0) / total, together / total


def time_courses(maps: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Regress volumes ``(n_volumes, n_neurons)`` on maps by least squares: ``(n_volumes, n_maps)``, float64."""
    maps = maps.astype(np.float64)
    return run @ maps.T @ np.linalg.pinv(maps @ maps.T, hermitian=True)


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
