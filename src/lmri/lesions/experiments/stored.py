"""Experiments that are computed and stored in one step: dissociation and templates."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lmri.decomposition import parity
from lmri.lesions.experiments.dissociation import Dissociations, dissociate, dissociation_outcome
from lmri.lesions.experiments.paper import check_model
from lmri.lesions.scores.codec import SCORES, SCORES_CODEC
from lmri.networks.network_set import NetworkSet
from lmri.networks.thresholds.parsing import parse_threshold
from lmri.storage import digest
from lmri.storage.experiments import save_experiment
from lmri.storage.outcome import Outcome
from lmri.storage.store import Store

if TYPE_CHECKING:
    from lmri.decomposition.individuals.corpus_templates import CorpusTemplates
    from lmri.space import Img

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_LONGEST = 80  # characters; file names contain it with additions


@dataclass(frozen=True, eq=False)
class StoredExperiment(Generic[Result]):
    """An experiment and its entry in the study.

    Parameters
    ----------
    name, site : str
        Name and site of the entry.
    result : object
        Result from which the outcome was computed.
    outcome : Outcome
        Text, tables and figures, as stored.
    """

    name: str
    site: str
    result: Result
    outcome: Outcome


@dataclass(frozen=True)
class TemplateOptions:
    """Settings of the templates of corpora.

    Parameters
    ----------
    method : str, default="fastica-temporal"
        Method, as `lmri.decomposition.build` names it.
    n_components : int, default=10
        Number of maps per decomposition.
    threshold : str, default="z:3"
        Threshold, as ``METHOD`` or ``METHOD:VALUE``.
    n_group : int, optional
        Number of texts per corpus from which templates are computed; half of them by default.
    n_individual : int, optional
        Number of other texts per corpus that are decomposed one by one; the other half by default.
    min_volumes : int, default=30
        Smallest number of volumes of a text.
    iou : float, default=0.2
        Intersection over union above which two networks count as the same.
    paper : bool, default=False
        Whether to use the paper's method, number of maps and threshold.
    paper_model : str, optional
        Model of the paper whose counts are shown alongside.
    seed : int, default=0
        Seed of the decompositions and of the draw of texts.

    Raises
    ------
    ValueError
        If a setting is unknown, or contradicts the paper's.
    """

    method: str = "fastica-temporal"
    n_components: int = 10
    threshold: str = "z:3"
    n_group: int | None = None
    n_individual: int | None = None
    min_volumes: int = 30
    iou: float = 0.2
    paper: bool = False
    paper_model: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_model(self.paper_model)
        if self.paper and (self.method, self.n_components, self.threshold) != (parity.METHOD, 10, "z:3"):
            raise ValueError("--paper sets method, number of maps and threshold. Omit these options, or omit --paper.")
        parse_threshold(self.used_threshold)

    @property
    def used_threshold(self) -> str:
        """Applied threshold, taking `paper` into account."""
        return f"{parity.THRESHOLD}:{parity.Z_DEFAULT}" if self.paper else self.threshold

    @property
    def estimator_parameters(self) -> dict[str, Any]:
        """Parameters of the estimator."""
        if self.paper:
            return {**parity.PARAMETERS, "random_state": self.seed}
        return {"n_components": self.n_components, "random_state": self.seed}

    def parameters(self) -> dict[str, Any]:
        """Return the parameters under which templates are stored."""
        return {
            "method": self.method,
            **self.estimator_parameters,
            "threshold": self.used_threshold,
            "iou": self.iou,
            "min_volumes": self.min_volumes,
            "n_group": self.n_group,
            "n_individual": self.n_individual,
            "paper_model": self.paper_model,
            **({"label": parity.PARITY} if self.paper else {}),
        }


def store_dissociations(
    store: Store,
    scores: str | None = None,
    site: str | None = None,
    networks: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    name: str | None = None,
) -> StoredExperiment[Dissociations]:
    """Test stored lesions for double dissociations, and store the outcome.

    Parameters
    ----------
    store : Store
        Study of the lesions.
    scores : str, optional
        Name of the evaluation; needed if there are several.
    site : str, optional
        Site of the neurons.
    networks, tasks : sequence of str, optional
        Networks and tasks to test; all by default.
    name : str, optional
        Name of the entry; by default the name of the evaluation with the chosen networks and tasks.
    """
    entry = store.find(SCORES, scores, site)
    networks, tasks = list(networks or []), list(tasks or [])
    result = dissociate(store.open(SCORES_CODEC, entry.name, entry.site), networks or None, tasks or None)
    outcome = dissociation_outcome(result, entry.name)
    label = name or _default_name("dissociate", [entry.name, *networks, *tasks])
    chosen = {"networks": networks or "all", "tasks": tasks or "all"}
    save_experiment(store, outcome, label, entry.site, {SCORES: entry.name}, chosen)
    return StoredExperiment(label, entry.site, result, outcome)


def store_templates(
    store: Store,
    options: TemplateOptions,
    site: str | None = None,
    corpora: Sequence[str] | None = None,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> "StoredExperiment[CorpusTemplates]":
    """Compute templates of corpora, count their occurrences in other texts, and store the outcome.

    Parameters
    ----------
    store : Store
        Study of the recordings.
    options : TemplateOptions
        Method, threshold and texts.
    site : str, optional
        Site of the neurons; needed if there are several.
    corpora : sequence of str, optional
        Corpora; all at the site by default.
    name : str, optional
        Name of the entry; by default the corpora.
    progress : callable, optional
        Called with the number of finished decompositions and the total.
    """
    from lmri.decomposition import build
    from lmri.decomposition.individuals.corpus_templates import find_templates_by_corpus
    from lmri.lesions.experiments.templates import templates_outcome

    by, values = parse_threshold(options.used_threshold)
    recordings = store.group(site, corpora)
    space = recordings[0].space

    def fit(imgs: "list[Img]") -> NetworkSet:
        estimator = build(options.method, space, **options.estimator_parameters).fit(imgs)
        return NetworkSet.from_estimator(estimator).threshold(by, **values)

    logger.info("Decomposing texts")
    result = find_templates_by_corpus(
        fit, recordings, options.n_group, options.n_individual,
        min_volumes=options.min_volumes, threshold=options.iou, random_state=options.seed, progress=progress,
    )  # fmt: skip
    names = [recording.corpus for recording in recordings]
    label = name or _default_name("templates", [*(["paper"] if options.paper else []), *names])
    outcome = templates_outcome(result, options.paper_model, options.paper)
    save_experiment(store, outcome, label, space.site, {"corpora": names}, options.parameters())
    return StoredExperiment(label, space.site, result, outcome)


def _default_name(command: str, parts: Sequence[str]) -> str:
    """Join the command and its inputs; a name that is too long ends in a hash of the inputs."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", "-".join([command, *parts]))
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{digest(list(parts))[:8]}"
