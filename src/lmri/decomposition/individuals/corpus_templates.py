"""Templates of every corpus, and how often they come back in single texts of all: Tables 1 to 3 of the paper."""

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
    """What `find_templates_by_corpus` gave.

    Parameters
    ----------
    overlaps : dict of str to TemplateOverlap
        By the corpus that made the templates.
    n_individuals : int
        Texts that were decomposed one by one.
    n_not_converged, n_nothing_found : int
        How many of these decompositions did not converge, and how many found nothing; these count as empty.
    """

    overlaps: dict[str, TemplateOverlap]
    n_individuals: int
    n_not_converged: int
    n_nothing_found: int

    @property
    def table(self) -> pd.DataFrame:
        """All tables in one, with the column ``templates_of`` in front; see `lmri.individuals.TemplateOverlap`."""
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
    """Make group templates of each corpus, and count how often they come back in single other texts of every corpus.

    Each single text is decomposed once, and compared with the templates of all corpora: what is common to all texts
    comes back everywhere, what belongs to a corpus in its own texts only.

    Parameters
    ----------
    fit : callable
        From a list of images to a thresholded `NetworkSet`; called once a corpus and once for each single text.
    recordings : sequence of Recording
        One a corpus.
    n_group, n_individual : int, optional
        Texts of each corpus that make its templates, and others that are decomposed one by one (the paper: 100 and
        100); half of what the smallest corpus has by default.
    min_volumes : int, default=30
        Shorter texts are not drawn; more than there are components are needed.
    threshold : float, default=0.2
        IoU above which two networks count as the same.
    random_state : int, default=0
        Of the draw of texts.
    progress : callable, optional
        Called with decompositions done and in all.

    Returns
    -------
    CorpusTemplates
        Counts beside the chance level that keeps each network's layer profile.

    References
    ----------
    Liu et al. (2025). Brain-inspired exploration of functional networks and key neurons in large language models.
    arXiv 2502.20408, Tables 1 to 3.
    """
    drawn = draw_texts(recordings, n_group, n_individual, min_volumes=min_volumes, random_state=random_state)
    n_all = len(drawn) + sum(len(one.individuals) for one in drawn)
    n_done = n_not_converged = n_nothing = 0
    templates: dict[str, NetworkSet] = {}
    for one in drawn:
        templates[one.corpus] = fit(one.group)
        n_done += 1
        if progress is not None:
            progress(n_done, n_all)
    space = next(iter(templates.values())).space
    individuals, labels = [], []
    for one in drawn:
        for img in one.individuals:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ConvergenceWarning)
                warnings.simplefilter("ignore", DataWarning)  # of few volumes, which single texts have
                try:
                    found = fit([img])
                except NothingFoundError:
                    nothing = np.zeros((1, space.n_neurons))
                    found, n_nothing = NetworkSet(space, nothing, nothing > 0), n_nothing + 1
            n_not_converged += any(issubclass(own.category, ConvergenceWarning) for own in caught)
            individuals.append(found)
            labels.append(one.corpus)
            n_done += 1
            if progress is not None:
                progress(n_done, n_all)
    overlaps = {corpus: template_overlap(own, individuals, threshold, labels) for corpus, own in templates.items()}
    return CorpusTemplates(overlaps, len(individuals), n_not_converged, n_nothing)
