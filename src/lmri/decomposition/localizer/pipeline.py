"""Localizers of a study: from stored recordings to a stored network of the neurons that differ."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lmri.decomposition.codec import save_decomposition
from lmri.decomposition.localizer.contrast import Contrast
from lmri.decomposition.localizer.estimator import Localizer, localize
from lmri.decomposition.localizer.overlap import overlap_table
from lmri.decomposition.localizer.second_level import check_tail
from lmri.networks import NetworkSet
from lmri.networks.codec import NETWORKS_CODEC, save_networks
from lmri.storage.recording import Recording
from lmri.storage.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalizerSettings:
    """Contrast, test and threshold of a localizer; see `lmri.localizer.Localizer`.

    Parameters
    ----------
    contrast : str
        Contrast of conditions, such as ``"code - prose"``.
    column : str, default="trial_type"
        Column of the events with the conditions; ``"trial_type"`` is the corpus.
    level : {"auto", "between", "within"}, default="auto"
        Comparison between texts or within texts.
    unit : {"run", "text"}, default="run"
        Unit of an effect map within texts.
    test : {"max_t", "parametric"}, default="max_t"
        Permutation test, corrected over neurons, or nilearn's second level with FDR.
    alpha : float, default=0.05
        Familywise error or false discovery rate.
    tail : {"two", "positive", "negative"}, default="two"
        Sign of the neurons that are kept.
    most : int, optional
        Largest number of neurons that are kept; by default all.
    n_permutations : int, default=1000
        Number of permutations.
    standardize : {"none", "zscore"}, default="none"
        Unit of the effects.
    match_positions : bool, default=False
        Whether only positions that all conditions reach are compared.
    confounds : sequence of str
        Names of stored confounds, as nuisance regressors within texts.
    seed : int, default=0
        Random seed of the permutations.
    """

    contrast: str
    column: str = "trial_type"
    level: str = "auto"
    unit: str = "run"
    test: str = "max_t"
    alpha: float = 0.05
    tail: str = "two"
    most: int | None = None
    n_permutations: int = 1000
    standardize: str = "none"
    match_positions: bool = False
    confounds: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_tail(self.tail)


@dataclass(frozen=True, eq=False)
class Localization:
    """Stored localizer.

    Parameters
    ----------
    networks : NetworkSet
        Stored network.
    localizer : Localizer
        Fitted localizer.
    neurons : DataFrame
        Neurons of the network, one row each.
    overlaps : list of DataFrame
        Overlap with each of the other network sets.
    """

    networks: NetworkSet
    localizer: Localizer
    neurons: pd.DataFrame
    overlaps: list[pd.DataFrame]


def localize_corpora(
    store: Store,
    settings: LocalizerSettings,
    site: str | None = None,
    corpora: str | Sequence[str] | None = None,
    overlap: Sequence[str] = (),
    name: str | None = None,
) -> Localization:
    """Compute a localizer of the neurons that differ between conditions, and store it with its network.

    Parameters
    ----------
    store : Store
        Study.
    settings : LocalizerSettings
        Contrast, test and threshold.
    site : str, optional
        Site of the neurons; needed if there are several.
    corpora : str or sequence of str, optional
        Corpora; by default those of the contrast, or all at the site.
    overlap : sequence of str
        Names of stored network sets to compare with.
    name : str, optional
        Name of the result; by default the contrast, as in ``"code-prose"``.

    Returns
    -------
    Localization
        The stored network with the localizer, its neurons, and overlaps.
    """
    recordings = _recordings(store, settings, site, corpora)
    at = recordings[0].space.site
    others = [store.open(NETWORKS_CODEC, other, at) for other in overlap]
    logger.info("Localizing %s", settings.contrast)
    localizer = localize(
        recordings,
        settings.contrast,
        settings.column,
        settings.confounds,
        level=settings.level,
        unit=settings.unit,
        test=settings.test,
        n_permutations=settings.n_permutations,
        standardize=settings.standardize,
        match_positions=settings.match_positions,
        random_state=settings.seed,
    )
    selection = (settings.alpha, settings.tail, settings.most)
    label = name or (localizer.name if settings.tail == "two" else f"{localizer.name}-{settings.tail}")
    networks = localizer.threshold(*selection)
    save_decomposition(store, localizer, recordings, label)
    save_networks(store, networks, label)
    stored = store.open(NETWORKS_CODEC, label, at)
    return Localization(
        stored, localizer, localizer.table(*selection), [overlap_table(stored, other) for other in others]
    )


def _recordings(
    store: Store, settings: LocalizerSettings, site: str | None, corpora: str | Sequence[str] | None
) -> list[Recording]:
    """Open the recordings of a contrast."""
    parsed = Contrast.parse(settings.contrast)
    if settings.column != "trial_type":
        return store.group(site, corpora)
    at = store.site(site)
    corpora = [corpora] if isinstance(corpora, str) else corpora
    parsed.check_present(corpora or [recording.corpus for recording in store.recordings(at)], f"the corpora at {at}")
    return store.group(at, parsed.conditions)
