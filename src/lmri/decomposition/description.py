"""Stored decompositions described by their time courses: annotation, connectivity and spectra."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.decomposition.codec import DECOMPOSITION_CODEC
from lmri.decomposition.confounds import joined
from lmri.networks import labels
from lmri.networks.annotation import Annotation, annotate
from lmri.networks.codec import time_courses
from lmri.networks.connectivity import Connectivity
from lmri.networks.connectivity import connectivity as correlate
from lmri.networks.spectra import Spectra, spectra
from lmri.storage.identifiers import GROUP
from lmri.storage.store import Store

logger = logging.getLogger(__name__)

KINDS = {"correlation": "correlation", "partial": "partial correlation"}
"""Kinds of connectivity by their names on the command line."""


@dataclass(frozen=True, eq=False)
class ConnectivityResult:
    """Connectivity between the networks of a decomposition, and the spectra of their time courses.

    Parameters
    ----------
    names : list of str
        Names of the networks.
    kind : {"correlation", "partial correlation"}
        Kind of connectivity.
    connectivity : Connectivity
        Coefficients per run and text, and tests over texts.
    spectra : Spectra
        Power spectra.
    """

    names: list[str]
    kind: str
    connectivity: Connectivity
    spectra: Spectra

    @property
    def peaks(self) -> pd.DataFrame:
        """Frequency that exceeds red noise, in cycles per volume, one row per network; missing if there is none."""
        return pd.DataFrame({"network": self.names, "peak": self.spectra.peaks})

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name."""
        power = pd.DataFrame(self.spectra.power.T, columns=self.names)
        power.insert(0, "frequency", self.spectra.frequencies)
        return {"connectivity": self.connectivity.table, "spectra": power, "peaks": self.peaks}


@dataclass(frozen=True, eq=False)
class OpenedTimeCourses:
    """Time courses of a stored decomposition with the events of their volumes.

    Parameters
    ----------
    names : list of str
        Names of the networks.
    courses : list of ndarray of shape (n_volumes, n_networks)
        Time courses, one array per run.
    events : list of DataFrame
        Events, one table per run and one row per volume, with stored confounds.
    """

    names: list[str]
    courses: list[np.ndarray]
    events: list[pd.DataFrame]


def open_time_courses(store: Store, decomposition: str | None = None, site: str | None = None) -> OpenedTimeCourses:
    """Open the time courses of a stored decomposition with the events of their volumes.

    Parameters
    ----------
    store : Store
        Study.
    decomposition : str, optional
        Name of the decomposition; needed if there are several.
    site : str, optional
        Site of the neurons; needed if there are several.
    """
    if store.scope == GROUP:
        raise ValueError(
            "Time courses of the group are of several models that read the same texts, which are not independent. "
            "Describe the dual regression of one model instead: --subject MODEL (subject=), decomposition NAME-dr."
        )
    courses = time_courses(store, decomposition, site)
    networks = store.open(DECOMPOSITION_CODEC, decomposition, site)
    recordings = {corpus: store.recording(corpus, networks.space.site) for corpus, _, _ in courses}
    # All corpora at once: a confound that one of them lacks would be a gap in its tables.
    tables = iter(joined(list(recordings.values())))
    events_of = {corpus: [next(tables) for _ in recording.runs] for corpus, recording in recordings.items()}
    events = [events_of[corpus][run - 1] for corpus, run, _ in courses]
    return OpenedTimeCourses(networks.names, [table.to_numpy() for _, _, table in courses], events)


def describe(
    store: Store,
    decomposition: str | None = None,
    site: str | None = None,
    n_permutations: int = 1000,
    save: bool = False,
    seed: int = 0,
) -> Annotation:
    """Annotate the networks of a stored decomposition, and store the suggested labels on request.

    Parameters
    ----------
    store : Store
        Study.
    decomposition : str, optional
        Name of the decomposition; needed if there are several.
    site : str, optional
        Site of the neurons; needed if there are several.
    n_permutations : int, default=1000
        Smallest number of permutations of whole texts.
    save : bool, default=False
        Whether the suggested labels are stored; edited labels stay.
    seed : int, default=0
        Random seed of the permutations.

    Returns
    -------
    Annotation
        Tokens, kinds of text and confounds of each network, and suggested labels.
    """
    opened = open_time_courses(store, decomposition, site)
    logger.info("Describing")
    annotation = annotate(opened.names, opened.courses, opened.events, n_permutations=n_permutations, random_state=seed)
    if save:
        suggested = dict(zip(annotation.labels["network"], annotation.labels["suggested"], strict=True))
        labels.suggest(store, suggested, decomposition, site)
    return annotation


def connectivity(
    store: Store,
    decomposition: str | None = None,
    site: str | None = None,
    kind: str = "correlation",
    min_volumes: int = 20,
) -> ConnectivityResult:
    """Correlate the networks of a stored decomposition, and compute the spectra of their time courses.

    Parameters
    ----------
    store : Store
        Study.
    decomposition : str, optional
        Name of the decomposition; needed if there are several.
    site : str, optional
        Site of the neurons; needed if there are several.
    kind : {"correlation", "partial"}, default="correlation"
        Kind of connectivity; partial correlations are given all other networks.
    min_volumes : int, default=20
        Smallest number of volumes of a text; shorter texts are left out.

    Returns
    -------
    ConnectivityResult
        Connectivity, spectra and their peaks.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"--kind is {kind!r}; accepted values are {' and '.join(KINDS)}.")
    opened = open_time_courses(store, decomposition, site)
    texts = [table["text_id"].tolist() for table in opened.events]
    logger.info("Correlating")
    estimate = correlate(opened.courses, KINDS[kind], texts, opened.names, min_volumes)
    return ConnectivityResult(opened.names, KINDS[kind], estimate, spectra(opened.courses, texts))
