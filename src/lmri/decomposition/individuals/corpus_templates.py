"""Templates of each corpus, and their counts in single texts of every corpus: Tables 1 to 3 of the paper."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.decomposition.individuals import TemplateOverlap, draw_texts, template_overlap
from lmri.exceptions import ConvergenceWarning, DataWarning, NothingFoundError
from lmri.networks import NetworkSet
from lmri.space import Img
from lmri.storage.recording import Recording


@dataclass(frozen=True, eq=False)
class CorpusTemplates:
    """Result of `find_templates_by_corpus`.

    Parameters
    ----------
    overlaps : dict of str to TemplateOverlap
        Overlaps by the corpus of the templates.
    n_individuals : int
        Number of texts that were decomposed individually.
    n_not_converged, n_nothing_found : int
        Numbers of these decompositions that did not converge, and that found nothing and count as empty.
    """

    overlaps: dict[str, TemplateOverlap]
    n_individuals: int
    n_not_converged: int
    n_nothing_found: int

    @property
    def table(self) -> pd.DataFrame:
        """All tables in one, with ``templates_of`` as the first column; see `lmri.individuals.TemplateOverlap`."""
        parts = [overlap.table.assign(templates_of=corpus) for corpus, overlap in self.overlaps.items()]
        table = pd.concat(parts, ignore_index=True)
        return table[["templates_of", *(column for column in table if column != "templates_of")]]


def find_templates_by_corpus(
    fit: Callable[[list[Img]], NetworkSet],
    recordings: Sequence[Recording],
    n_group: int | None = None,
    n_individual: int | None = None,
    *,
    min_volumes: int = 30,
    threshold: float = 0.2,
    random_state: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CorpusTemplates:
    """Compute group templates of each corpus, and count their matches in other single texts of every corpus.

    Each single text is decomposed once and compared with the templates of all corpora: networks common to all texts are
    found in every corpus, networks specific to a corpus only in its own texts.

    Parameters
    ----------
    fit : callable
        Function from a list of images to a thresholded `NetworkSet`; called once per corpus and once per single text.
    recordings : sequence of Recording
        Recordings, one per corpus.
    n_group, n_individual : int, optional
        Numbers of texts of each corpus for its templates, and of other texts that are decomposed individually (100 and
        100 in the paper); by default half the number of texts of the smallest corpus.
    min_volumes : int, default=30
        Smallest number of volumes of a text to be drawn; it must exceed the number of components.
    threshold : float, default=0.2
        IoU above which two networks count as the same.
    random_state : int, default=0
        Random seed of the draw of texts.
    progress : callable, optional
        Callback for the number of finished decompositions, and the number of all decompositions.

    Returns
    -------
    CorpusTemplates
        Counts, and chance levels that preserve each network's layer profile.

    References
    ----------
    Liu et al. (2025). Brain-inspired exploration of functional networks and key neurons in large language models.
    arXiv 2502.20408, Tables 1 to 3.
    """
    drawn = draw_texts(recordings, n_group, n_individual, min_volumes=min_volumes, random_state=random_state)
    n_all = len(drawn) + sum(len(texts.individuals) for texts in drawn)
    n_done = n_not_converged = n_nothing = 0
    templates: dict[str, NetworkSet] = {}
    for texts in drawn:
        templates[texts.corpus] = fit(texts.group)
        n_done += 1
        if progress is not None:
            progress(n_done, n_all)
    space = next(iter(templates.values())).space
    individuals, labels = [], []
    for texts in drawn:
        for img in texts.individuals:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ConvergenceWarning)
                warnings.simplefilter("ignore", DataWarning)  # on the small number of volumes of single texts
                try:
                    networks = fit([img])
                except NothingFoundError:
                    nothing = np.zeros((1, space.n_neurons))
                    networks, n_nothing = NetworkSet(space, nothing, nothing > 0), n_nothing + 1
            n_not_converged += any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
            individuals.append(networks)
            labels.append(texts.corpus)
            n_done += 1
            if progress is not None:
                progress(n_done, n_all)
    overlaps = {
        corpus: template_overlap(corpus_templates, individuals, threshold, labels)
        for corpus, corpus_templates in templates.items()
    }
    return CorpusTemplates(overlaps, len(individuals), n_not_converged, n_nothing)
