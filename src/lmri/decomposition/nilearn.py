"""nilearn's CanICA and DictLearning, with settings that are valid for neurons.

Defaults for brain images would destroy maps of neurons: smoothing mixes unrelated neighbours, detrending removes
effects of the position in the text, CCA amplifies noise of texts in which few networks are active, mask computation
expects a head, and ``threshold="auto"`` keeps a fixed number of voxels. All of these are off here, and the mask is
always the mask of the space.
"""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from joblib import parallel_config
from nilearn import decomposition
from nilearn.maskers import NiftiMapsMasker

from lmri.decomposition.base import Decomposition, Runs
from lmri.decomposition.fit_checks import check_components, counted_non_convergence, warn_of_overlearning
from lmri.decomposition.standardization import StandardizedRuns
from lmri.exceptions import DataWarning, NothingFoundError
from lmri.space import Img, NeuronSpace


class _Nilearn(Decomposition):
    """Base class of nilearn's estimators over neurons: conversion to images, nilearn's own fit, conversion back."""

    smoothing_fwhm: float | None
    allow_smoothing: bool
    mask: Any
    needs_every_run = True

    def _prepare_checked_runs(
        self, imgs: Img | Sequence[Img], confounds: Sequence[Any] | None = None
    ) -> StandardizedRuns:
        """Prepare the runs; raise an error if smoothing is requested."""
        if self.smoothing_fwhm is not None and not self.allow_smoothing:
            raise ValueError(
                f"smoothing_fwhm is {self.smoothing_fwhm}; accepted is None. Neighbouring voxels hold unrelated "
                "neurons, and smoothing mixes them. To demonstrate its effect, set allow_smoothing=True."
            )
        return self._prepare_runs(imgs, confounds)

    def _fit_nilearn(self, runs: Runs) -> int:
        """Fit on standardized copies, and count scikit-learn's convergence warnings."""
        check_components(runs.n_volumes, self.n_components, self.space.n_neurons)
        warn_of_overlearning(self.space.n_neurons, self.n_components, "neurons")
        with tempfile.TemporaryDirectory(prefix="lmri-") as folder, self._as_nilearn():
            paths = []
            for number, run in enumerate(runs):
                path = Path(folder) / f"run-{number:05d}.nii"
                nib.save(self.space.to_img(run), path)
                paths.append(str(path))
            # Threads, because warnings of other processes, and thus the convergence, would be lost.
            with parallel_config(backend="threading"), counted_non_convergence() as counter:
                # nilearn's fit: the abstract one of Decomposition comes before it.
                super(Decomposition, self).fit(paths)  # type: ignore[misc]
        return counter[0]

    @contextmanager
    def _as_nilearn(self) -> Iterator[None]:
        """Override parameters for nilearn's fit: runs are already standardized, and the space provides the mask."""
        standardize = self.standardize
        self.standardize, self.mask = None, self.space.mask_img  # type: ignore[assignment]
        try:
            yield
        finally:
            self.standardize = standardize

    def _store_results(self, *args: Any) -> None:
        """Set the attributes of the maps, including nilearn's masker."""
        super()._store_results(*args)
        self.maps_masker_ = NiftiMapsMasker(self.components_img_, self.mask_img_, standardize=None).fit()


class CanICA(_Nilearn, decomposition.CanICA):
    """nilearn's canonical ICA over a neuron space: spatial ICA of a group, from several starts.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space, ``recording.space``.
    n_components : int, default=20
        Number of maps, less than the number of volumes of the shortest run.
    standardize : {"zscore", "center", "none"}, default="zscore"
        Standardization of each neuron's time series.
    scope : {"run", "study"}, default="run"
        Scope of mean and standard deviation: each run, which removes differences between runs, or all runs.
    n_init : int, default=10
        Number of starts; the sparsest result is kept.
    smoothing_fwhm : None
        Smoothing; only None is accepted, because smoothing mixes unrelated neurons.
    allow_smoothing : bool, default=False
        Whether smoothing is accepted nevertheless, to demonstrate its effect.
    random_state : int, default=0
        Random seed.
    n_jobs : int, default=1
        Number of threads.
    verbose : int, default=0
        Verbosity, as in nilearn.

    References
    ----------
    Varoquaux et al. (2010). A group model for stable multi-subject ICA on fMRI datasets. NeuroImage, 51, 288–299.
    """

    method_name = "canica"

    def __init__(
        self,
        space: NeuronSpace,
        n_components: int = 20,
        *,
        standardize: str = "zscore",
        scope: str = "run",
        n_init: int = 10,
        smoothing_fwhm: float | None = None,
        allow_smoothing: bool = False,
        random_state: int = 0,
        n_jobs: int = 1,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            n_components=n_components,
            do_cca=False,
            detrend=False,
            threshold=None,
            n_init=n_init,
            smoothing_fwhm=smoothing_fwhm,
            standardize=standardize,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.space, self.scope, self.allow_smoothing = space, scope, allow_smoothing

    def fit(self, imgs: Img | Sequence[Img], y: None = None, confounds: Sequence[Any] | None = None) -> "CanICA":
        """Estimate the maps.

        Parameters
        ----------
        imgs : path, Nifti1Image or sequence of them
            4D images of the space, such as ``recording.imgs``.
        y : None
            Ignored; present for nilearn's signature.
        confounds : sequence of array or DataFrame of shape (n_volumes, n_confounds), optional
            Confounds, one array or table per run. As in all methods here, they are regressed out of every neuron after
            standardization, before nilearn's fit.
        """
        runs = self._prepare_checked_runs(imgs, confounds)
        maps, convergence = self._fit_maps(runs)
        self._store_results(maps, runs, convergence)
        return self

    def _fit_maps(self, runs: Runs) -> tuple[np.ndarray, dict[str, Any]]:
        """Run nilearn's CanICA."""
        convergence = {"n_starts": self.n_init, "n_converged": self.n_init - self._fit_nilearn(runs)}
        return self.space.from_img(self.components_img_), convergence


class DictLearning(_Nilearn, decomposition.DictLearning):
    """nilearn's dictionary learning over a neuron space: sparse maps.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space, ``recording.space``.
    n_components : int, default=20
        Number of maps.
    alpha : float, default=10
        Sparsity penalty, the decisive parameter: if too small, maps are dense; if too large, some are all zero.
    standardize : {"zscore", "center", "none"}, default="zscore"
        Standardization of each neuron's time series.
    scope : {"run", "study"}, default="run"
        Scope of mean and standard deviation.
    n_epochs : int, default=1
        Number of passes over the neurons.
    batch_size : int, default=20
        Number of neurons per update.
    smoothing_fwhm : None
        Smoothing; only None is accepted, because smoothing mixes unrelated neurons.
    allow_smoothing : bool, default=False
        Whether smoothing is accepted nevertheless, to demonstrate its effect.
    random_state : int, default=0
        Random seed.
    n_jobs : int, default=1
        Number of threads.
    verbose : int, default=0
        Verbosity, as in nilearn.

    References
    ----------
    Mensch, Varoquaux & Thirion (2016). Compressed online dictionary learning for fast resting-state fMRI
    decomposition. ISBI.
    """

    method_name = "dictlearning"

    def __init__(
        self,
        space: NeuronSpace,
        n_components: int = 20,
        *,
        alpha: float = 10,
        standardize: str = "zscore",
        scope: str = "run",
        n_epochs: float = 1,
        batch_size: int = 20,
        smoothing_fwhm: float | None = None,
        allow_smoothing: bool = False,
        random_state: int = 0,
        n_jobs: int = 1,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            n_components=n_components,
            alpha=alpha,
            n_epochs=n_epochs,
            batch_size=batch_size,
            detrend=False,
            smoothing_fwhm=smoothing_fwhm,
            standardize=standardize,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.space, self.scope, self.allow_smoothing = space, scope, allow_smoothing

    def fit(self, imgs: Img | Sequence[Img], y: None = None, confounds: Sequence[Any] | None = None) -> "DictLearning":
        """Estimate the maps.

        Parameters
        ----------
        imgs : path, Nifti1Image or sequence of them
            4D images of the space, such as ``recording.imgs``.
        y : None
            Ignored; present for nilearn's signature.
        confounds : sequence of array or DataFrame of shape (n_volumes, n_confounds), optional
            Confounds, one array or table per run. As in all methods here, they are regressed out of every neuron after
            standardization, before nilearn's fit.
        """
        if self.n_components == 1:
            raise ValueError(
                "n_components is 1; nilearn's dictionary learning needs at least 2. Use another method for one map."
            )
        runs = self._prepare_checked_runs(imgs, confounds)
        maps, convergence = self._fit_maps(runs)
        if convergence["n_empty_maps"]:
            warnings.warn(
                f"{convergence['n_empty_maps']} of {self.n_components} maps are all zero at alpha={self.alpha}. "
                "Set alpha lower to get denser maps.",
                DataWarning,
                stacklevel=2,
            )
        self._store_results(maps, runs, convergence)
        return self

    def _fit_maps(self, runs: Runs) -> tuple[np.ndarray, dict[str, Any]]:
        """Run nilearn's dictionary learning, and count empty maps."""
        try:
            n_warnings = self._fit_nilearn(runs)
        except ValueError as error:
            if "No component found" not in str(error):
                raise
            raise NothingFoundError(
                f"All {self.n_components} maps are zero at alpha={self.alpha}. Set alpha lower to get denser maps."
            ) from error
        maps = self.space.from_img(self.components_img_)
        # The inner regressions warn thousands of times although the outer iteration may do well, so the count is
        # reported but not taken as a failure to converge.
        return maps, {
            "n_starts": 0,  # the solver does not report convergence
            "n_converged": 0,
            "n_inner_warnings": n_warnings,
            "n_empty_maps": int((~maps.any(axis=1)).sum()),
        }
