"""Base class of all decompositions: checks before the fit; signs, order and metrics of the maps after it.

The module is long because it is one class with complete docstrings.
"""

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from lmri.decomposition.fit_checks import check_n_components
from lmri.decomposition.map_metrics import (
    Projected,
    explained_variance,
    shape_metrics,
    signs_by_skewness,
    time_courses,
    top_token_share,
)
from lmri.decomposition.nuisance import Nuisance
from lmri.decomposition.standardization import StandardizedRuns
from lmri.decomposition.surrogates import N_SURROGATES, ShiftedRuns
from lmri.exceptions import ConvergenceWarning, DataWarning, NothingFoundError
from lmri.networks.thresholds import SurrogateNull
from lmri.space import Img, NeuronSpace
from lmri.space.masker import NeuronMasker
from lmri.storage import texts_of

Runs = StandardizedRuns | ShiftedRuns


SURROGATE_ITERATIONS = 40
"""Maximum number of iterations on surrogates. Without co-activation ICA hardly ever converges; the tails of its maps
settle within 30 iterations."""


class Decomposition(ABC):
    """Mixin for estimators over a neuron space: images in, signed and sorted maps out.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_neurons)
        Maps in (layer, neuron) order, sorted by explained variance; the heavier tail is positive.
    components_img_ : Nifti1Image
        The same maps as a 4D image.
    masker_ : NeuronMasker
        Masker that converts between images and arrays.
    mask_img_ : Nifti1Image
        Mask of the voxels that hold a neuron.
    metrics_ : DataFrame
        Metrics, one row per map: share of variance explained alone, skewness, kurtosis, sparsity, whether the sign is
        determined, distribution over layers, share of the time course's energy in its top token, and metrics of the
        single method.
    info_ : dict
        Provenance: method, parameters, sizes, dead neurons and convergence.
    time_courses_ : list of ndarray of shape (n_volumes, n_components)
        Time courses, one array per run, with the signs of the maps.
    fit_texts_ : frozenset of str
        Hashes of the texts in the images, if they have sidecars.
    seconds_ : float
        Wall time of the fit, in seconds.
    null_ : SurrogateNull
        Null distribution; only after `surrogate_null`.
    """

    space: NeuronSpace
    n_components: int
    standardize: str
    scope: str
    method_name: str
    can_be_auto = False
    needs_every_run = False
    """Whether each run must have more volumes than there are components."""
    label: str
    """Label of the settings, such as "paper parity", stored with the parameters; most estimators have none."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters, as scikit-learn's estimators do."""
        return super().get_params(deep)  # type: ignore[misc]

    def set_confounds(self, confounds: Sequence[Any] | None) -> "Decomposition":
        """Set the confounds that the next fit will regress out, so that its identity is known before the fit.

        Parameters
        ----------
        confounds : sequence of array or DataFrame, or None
            Confounds as for ``fit``, to which they must also be passed.
        """
        self._nuisance = None if confounds is None else Nuisance.read(confounds)
        return self

    def set_models(self, models: Sequence[int] | None) -> None:
        """Set the number of the model of each image of the next fit; each model is standardized on its own.

        Parameters
        ----------
        models : sequence of int or None
            Number of the model of each image; None if all images are of one model.
        """
        self._models = models

    def _prepare_runs(self, imgs: Img | Sequence[Img], confounds: Sequence[Any] | None = None) -> StandardizedRuns:
        """Check the images against the space, discard an earlier fit, and return the standardized runs.

        Confounds are regressed out here, in the same way for every method. An interrupted fit leaves an estimator that
        is not fitted, rather than a mixture of two fits.
        """
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)
        if isinstance(imgs, str | Path | nib.Nifti1Image):
            imgs = [imgs]
        imgs = list(imgs)
        if not imgs:
            raise ValueError("imgs is empty. Pass at least one 4D image, such as recording.imgs.")
        check_n_components(self.n_components, self.can_be_auto)
        self._started = time.perf_counter()
        self.set_confounds(confounds)
        models = getattr(self, "_models", None)
        self._runs = StandardizedRuns(
            self.space, imgs, self.standardize, self.scope, confounds=confounds, models=models
        )
        return self._runs

    @abstractmethod
    def fit(self, imgs: Img | Sequence[Img], y: None = None, confounds: Sequence[Any] | None = None) -> "Decomposition":
        """Estimate the maps.

        Parameters
        ----------
        imgs : path, Nifti1Image or sequence of them
            4D images of the space, such as ``recording.imgs``.
        y : None
            Ignored; present for scikit-learn's signature.
        confounds : sequence of array or DataFrame of shape (n_volumes, n_confounds), optional
            Confounds, one array or table per run, as from `lmri.confounds.select`.

        Returns
        -------
        Decomposition
            The fitted estimator itself.
        """

    @abstractmethod
    def _fit_maps(self, runs: Runs) -> tuple[np.ndarray, dict[str, Any]]:
        """Estimate maps ``(n_components, n_neurons)``, of any sign and order, and return them with the convergence."""

    @property
    def _convergence_advice(self) -> str:
        """What to do if initializations did not converge."""
        return "Compare two seeds, choose fewer components, or record more."

    def _store_results(
        self,
        maps: np.ndarray,
        runs: StandardizedRuns,
        convergence: dict[str, Any],
        extra: Mapping[str, np.ndarray] | None = None,
        projected: Projected | None = None,
        courses: Sequence[np.ndarray] | None = None,
    ) -> None:
        """Sign maps by skewness, sort them by explained variance, and set every attribute derived from them.

        `extra` holds more metrics, one value per map; `projected` holds the items of `runs.projected(maps)` if they are
        known already. With `courses`, the method has its own time courses, signs and order, which are kept.
        """
        maps = maps.astype(np.float64)
        signs, determined, skewness = signs_by_skewness(maps)
        if courses is None and getattr(self, "signs", "skewness") == "skewness":
            maps *= signs[:, None]
            projected = None if projected is None else ((scores * signs, squares) for scores, squares in projected)
        alone, together, regressed = explained_variance(maps, runs, projected)
        order = np.argsort(-alone, kind="stable") if courses is None else np.arange(len(maps))
        self.time_courses_ = [
            course[:, order].astype(np.float32, copy=False) for course in (regressed if courses is None else courses)
        ]
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
        """Warn of dead neurons and of starts that did not converge."""
        if dead.any():
            warnings.warn(
                f"{int(dead.sum())} of {self.space.n_neurons} neurons are constant in at least one "
                f"{'run' if self.scope == 'run' else 'study'}"
                f"{' and set to 0 there' if self.standardize == 'zscore' else ''} (first: layer "
                f"{self.space.layer_of[dead][0]}, neuron {self.space.neuron_of[dead][0]}). All are listed in info_.",
                DataWarning,
                stacklevel=4,
            )
        n_converged, n_starts = convergence["n_converged"], convergence["n_starts"]
        if n_converged < n_starts:
            number = f"converged from {n_converged or 'none'} of {n_starts} initializations"
            warnings.warn(
                f"{self.method_name} {'did not converge' if n_starts == 1 else number}, so its maps may depend on the "
                f"seed. {self._convergence_advice}",
                ConvergenceWarning,
                stacklevel=4,
            )

    def surrogate_null(self, n_surrogates: int = N_SURROGATES, n_jobs: int = 1) -> SurrogateNull:
        """Repeat the whole pipeline on surrogates of the fitted images, and pool the maps of the surrogates.

        Every neuron is shifted circularly and independently within its run (`lmri.decomposition.surrogates`). The
        pipeline is the same except that iterations stop at 40.

        Parameters
        ----------
        n_surrogates : int, default=20
            Number of surrogates; at least 20 for a threshold at 0.05.
        n_jobs : int, default=1
            Number of processes. Spatial `NeuronICA` uses threads, which share one pass over the data: as many as BLAS
            may use if there is memory for them, or more; `joblib.parallel_config` may select another backend.

        Returns
        -------
        SurrogateNull
            Null distribution, also stored as ``null_`` and not computed again.
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
        """Estimate the maps of each surrogate, in order."""

        def find(number: int) -> np.ndarray:
            estimator = self._clone_for_surrogate()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # surrogates need not converge
                try:
                    return estimator._fit_maps(ShiftedRuns(self._runs, self._seed, number))[0].astype(np.float32)
                except NothingFoundError:
                    return np.zeros_like(self.components_)

        return list(Parallel(n_jobs=n_jobs)(delayed(find)(number) for number in range(n_surrogates)))

    def maps_of(self, volumes: Sequence[np.ndarray]) -> np.ndarray:
        """Estimate maps again, with the same parameters, from a subset of the fitted volumes.

        Parameters
        ----------
        volumes : sequence of ndarray of int
            Indices of volumes, one array per run; an array may be empty, and an index may occur twice.

        Returns
        -------
        ndarray of shape (n_components, n_neurons)
            Maps of any sign and order.
        """
        parameters = {**self.get_params(deep=False), "n_components": len(self.components_)}
        estimator = type(self)(**parameters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # poorer convergence on subsets shows in their maps
            return estimator._fit_maps(self._runs.selected(volumes))[0].astype(np.float32)

    @property
    def confounds_digest(self) -> str | None:
        """Hash of the confounds that are regressed out, or None."""
        nuisance: Nuisance | None = getattr(self, "_nuisance", None)
        return None if nuisance is None else nuisance.digest

    @property
    def confound_names(self) -> list[str]:
        """Names of the confounds, if they were tables."""
        nuisance: Nuisance | None = getattr(self, "_nuisance", None)
        return [] if nuisance is None else list(nuisance.names)

    def can_fit(self, n_volumes: Sequence[int]) -> bool:
        """Return whether runs of these lengths suffice for the fitted number of components."""
        counts = [count for count in n_volumes if count]
        least = min(counts, default=0) if self.needs_every_run else sum(counts)
        return least > len(self.components_) + 1

    @property
    def n_volumes_by_run(self) -> list[int]:
        """Volumes of each fitted run."""
        return list(self._runs.n_volumes)

    def _clone_for_surrogate(self) -> "Decomposition":
        """Create an estimator with the same parameters for a surrogate, with fewer iterations."""
        parameters = {**self.get_params(deep=False), "n_components": len(self.components_)}
        if "max_iter" in parameters:
            parameters["max_iter"] = min(parameters["max_iter"], SURROGATE_ITERATIONS)
        return type(self)(**parameters)

    @property
    def _seed(self) -> int:
        """Random seed; 0 if the method has none."""
        return int(getattr(self, "random_state", 0) or 0)

    def _set_maps(self, maps: np.ndarray) -> None:
        """Set the maps as array and image, with their masker and mask."""
        self.components_ = maps
        self.components_img_ = self.space.to_img(maps, "estimate")
        self.masker_: NeuronMasker = self.space.masker()
        self.mask_img_ = self.space.mask_img

    def _json_parameters(self) -> dict[str, Any]:
        """Return the parameters that are stored as provenance."""
        hidden = ("space", "memory", "memory_level", "n_jobs", "verbose")
        parameters = {name: value for name, value in self.get_params(deep=False).items() if name not in hidden}
        return {**parameters, "confounds": self.confound_names} if self.confound_names else parameters

    def transform(self, imgs: Img | Sequence[Img], confounds: Sequence[Any] | None = None) -> list[np.ndarray]:
        """Regress every volume on the maps.

        Parameters
        ----------
        imgs : path, Nifti1Image or sequence of them
            4D images on the grid of the space. They are standardized as in the fit; with ``scope="study"``, by the
            moments of the fitted runs.
        confounds : sequence of array or DataFrame of shape (n_volumes, n_confounds), optional
            Confounds, one array or table per image; required if the fit had confounds.

        Returns
        -------
        list of ndarray of shape (n_volumes, n_components)
            Time courses, one array per image.
        """
        if not hasattr(self, "components_"):
            raise ValueError(f"{type(self).__name__} is not fitted. Call fit(recording.imgs) first.")
        if (confounds is None) != (self._runs.confounds is None):
            raise ValueError(
                "confounds is missing, but the fit had confounds. Pass the confounds of these images."
                if confounds is None
                else "confounds were passed, but the fit had none. Leave them out, or fit with confounds."
            )
        if isinstance(imgs, str | Path | nib.Nifti1Image):
            imgs = [imgs]
        runs = StandardizedRuns(self.space, list(imgs), self.standardize, self.scope, confounds=confounds)
        if self.scope == "study":
            runs.take_moments(self._moments)
        return [time_courses(self.components_, run) for run in runs]
