"""Decompositions of a study: from stored recordings to stored networks, and the number of maps beforehand."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from lmri.decomposition import parity
from lmri.decomposition.codec import DECOMPOSITION_CODEC, decomposition_identity, save_decomposition
from lmri.decomposition.confounds import select
from lmri.decomposition.order import OrderEstimate, estimate_order
from lmri.decomposition.reproducibility import FEWEST_TEXTS, Reproducibility, reproducibility, volume_texts
from lmri.decomposition.settings import DecompositionSettings
from lmri.exceptions import EntryExistsError
from lmri.networks import NetworkSet
from lmri.networks.codec import DECOMPOSITIONS, NETWORKS, NETWORKS_CODEC, save_networks
from lmri.networks.thresholds import parse_threshold
from lmri.storage import check_writable
from lmri.storage.identifiers import GROUP
from lmri.storage.recording import Recording
from lmri.storage.store import Store

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


def decompose(
    store: Store,
    settings: DecompositionSettings,
    site: str | None = None,
    corpora: str | Sequence[str] | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> NetworkSet:
    """Decompose recordings unless the same decomposition is stored, threshold its maps, and store the networks.

    Parameters
    ----------
    store : Store
        Study.
    settings : DecompositionSettings
        Method, parameters and threshold.
    site : str, optional
        Site of the neurons; needed if there are several.
    corpora : str or sequence of str, optional
        Corpora to fit; by default all at the site.
    name : str, optional
        Name of the decomposition and its networks; by default the method.
    progress : callable, optional
        Callback for the number of finished repetitions on samples of the texts, and their total.

    Returns
    -------
    NetworkSet
        Stored networks; their `method` is the name.

    Raises
    ------
    EntryExistsError
        If the name is taken by another decomposition or by networks of another one.
    ValueError
        If there are too few texts for the repetitions.
    """
    if settings.paper:
        return _decompose_as_paper(store, settings, site, corpora, name or "paper-parity")
    if store.scope == GROUP:
        raise ValueError(
            "The group has no recordings of its own. Name the models to decompose together: --subject A,B "
            "(subjects=['A', 'B'])."
        )
    recordings = store.group(site, corpora)
    estimator = settings.registered.build(recordings[0].space, **settings.parameters)
    return fit_unless_stored(store, settings, estimator, recordings, name, progress)


def fit_unless_stored(
    store: Store,
    settings: DecompositionSettings,
    estimator: Any,
    recordings: Sequence[Recording],
    name: str | None = None,
    progress: Progress | None = None,
) -> NetworkSet:
    """Fit an estimator to recordings unless the same decomposition is stored, and store the thresholded networks.

    Parameters
    ----------
    store : Store
        Scope of the result: the model of the recordings, or the group.
    settings : DecompositionSettings
        Method, parameters and threshold.
    estimator : Decomposition
        Estimator that is not fitted yet.
    recordings : sequence of Recording
        Recordings of one site.
    name : str, optional
        Name of the decomposition and its networks; by default the method.
    progress : callable, optional
        Callback for the number of finished repetitions, and their total.
    """
    check_writable(store.root)
    at = recordings[0].space.site
    label = name or estimator.method_name
    nuisance = select(recordings, settings.confounds) if settings.confounds else None
    estimator.set_confounds(nuisance)
    repeats = settings.repeats
    identity = decomposition_identity(
        estimator,
        recordings,
        settings.n_surrogates,
        repeats.n_bootstraps,
        repeats.n_splits,
        in_group=store.scope == GROUP,
    )

    def fit() -> None:
        _check_free(store, at, label)
        texts = _check_texts(recordings, settings)
        logger.info("Decomposing by %s", settings.method)
        estimator.fit(_imgs(recordings), confounds=nuisance)
        stability = _repeat(estimator, settings, texts, progress)
        save_decomposition(store, estimator, recordings, label, stability)

    store.compute_unless_stored(DECOMPOSITIONS, at, label, identity, fit)
    return _thresholded(store, label, at, *settings.chosen_threshold)


def threshold(store: Store, decomposition: str, by: str, name: str, site: str | None = None) -> NetworkSet:
    """Threshold the maps of a stored decomposition, and store the networks.

    Parameters
    ----------
    store : Store
        Study.
    decomposition : str
        Name of the decomposition.
    by : str
        Threshold as text, such as ``"z:2.5"``.
    name : str
        Name of the networks.
    site : str, optional
        Site of the neurons; needed if there are several.

    Returns
    -------
    NetworkSet
        Stored networks.
    """
    method, values = parse_threshold(by)
    networks = store.open(DECOMPOSITION_CODEC, decomposition, site).threshold(method, **values)
    save_networks(store, networks, decomposition, name)
    return store.open(NETWORKS_CODEC, name, networks.space.site)


def order(
    store: Store,
    site: str | None = None,
    corpora: str | Sequence[str] | None = None,
    scope: str = "group",
    n_surrogates: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
) -> OrderEstimate:
    """Estimate the number of components of recordings; nothing is stored.

    Parameters
    ----------
    store : Store
        Study.
    site : str, optional
        Site of the neurons; needed if there are several.
    corpora : str or sequence of str, optional
        Corpora; by default all at the site.
    scope : {"group", "run"}, default="group"
        Scope of the recommendation: all runs together, or the median over runs.
    n_surrogates : int, default=20
        Number of surrogates, at least 19.
    seed : int, default=0
        Random seed of the surrogates.
    progress : callable, optional
        Callback for the number of runs that were read, and their total.

    Returns
    -------
    OrderEstimate
        Recommendation, table and curves; run numbers count over all recordings, see `run_names`.
    """
    recordings = store.group(site, corpora)
    logger.info("Estimating the number of networks")
    return estimate_order(_arrays(recordings, progress), n_surrogates, seed, scope=scope)


def run_names(recordings: Sequence[Recording]) -> list[str]:
    """Name all runs of recordings; number 0 of an order estimate is all runs together.

    Parameters
    ----------
    recordings : sequence of Recording
        Recordings in the order in which they were read.

    Returns
    -------
    list of str
        Names by the number of the run, such as ``["all", "code 1", "code 2"]``.
    """
    return [
        "all",
        *(f"{recording.corpus} {run}" for recording in recordings for run in range(1, len(recording.runs) + 1)),
    ]


def _decompose_as_paper(
    store: Store, settings: DecompositionSettings, site: str | None, corpora: str | Sequence[str] | None, name: str
) -> NetworkSet:
    """Decompose with the paper's choices unless the same decomposition is stored; see `lmri.decomposition.parity`."""
    z = parity.check_z(settings.paper_z)
    recordings = store.group(site, corpora)
    space = recordings[0].space
    estimator = parity.paper_estimator(space, settings.seed, int(settings.number_of_maps))

    def fit() -> None:
        logger.info("Decomposing by %s, as in the paper", parity.METHOD)
        estimator.fit(_imgs(recordings))
        save_decomposition(store, estimator, recordings, name)

    identity = decomposition_identity(estimator, recordings)
    store.compute_unless_stored(DECOMPOSITIONS, space.site, name, identity, fit)
    maps = store.open(DECOMPOSITION_CODEC, name, space.site)
    save_networks(store, parity.as_parity(maps.threshold(parity.THRESHOLD, z=z)), name)
    return store.open(NETWORKS_CODEC, name, space.site)


def _thresholded(store: Store, name: str, site: str, method: str, values: dict[str, float]) -> NetworkSet:
    """Store the networks of a decomposition under its own name, and return them."""
    save_networks(store, store.open(DECOMPOSITION_CODEC, name, site).threshold(method, **values), name)
    return store.open(NETWORKS_CODEC, name, site)


def _check_free(store: Store, site: str, name: str) -> None:
    """Raise an error if networks of this name exist whose decomposition was deleted."""
    networks = store.layout.entry(NETWORKS, site, name)
    if networks.is_dir():
        raise EntryExistsError(
            f"Networks {name!r} ({site}) already exist in {store.root}, but their decomposition was deleted. They were "
            f"not overwritten. Choose another --name, or delete {networks} and the results computed from it."
        )


def _check_texts(recordings: Sequence[Recording], settings: DecompositionSettings) -> list[Any]:
    """Return the text of each volume, one array per run; raise an error if texts are too few for repetitions."""
    texts = volume_texts(recordings)
    n_texts = len({name for run in texts for name in run})
    if settings.repeats.of_texts and n_texts < FEWEST_TEXTS:
        raise ValueError(
            f"There are {n_texts} texts. Stability across texts needs at least {FEWEST_TEXTS}. Record more, or leave "
            "out --n-bootstraps and --n-splits."
        )
    return list(texts)


def _repeat(
    estimator: Any, settings: DecompositionSettings, texts: list[Any], progress: Progress | None
) -> Reproducibility | None:
    """Repeat a fit on surrogates and on samples of the texts."""
    if settings.n_surrogates:
        logger.info("Repeating the decomposition on %d surrogates", settings.n_surrogates)
        estimator.surrogate_null(settings.n_surrogates, settings.n_jobs)
    repeats = settings.repeats
    if not repeats.of_texts:
        return None
    logger.info("Repeating the decomposition on samples of the texts")
    return reproducibility(
        estimator, texts, repeats.n_bootstraps, repeats.n_splits, n_jobs=settings.n_jobs, progress=progress
    )


def _imgs(recordings: Sequence[Recording]) -> list[Any]:
    """Return the images of all runs."""
    return [img for recording in recordings for img in recording.imgs]


def _arrays(recordings: Sequence[Recording], progress: Progress | None) -> Iterator[np.ndarray]:
    """Read one run after the other, ``(n_volumes, n_neurons)``, and report the number of runs that were read."""
    total, done = sum(len(recording.runs) for recording in recordings), 0
    for recording in recordings:
        for array in recording.arrays():
            yield array
            done += 1
            if progress is not None:
                progress(done, total)
