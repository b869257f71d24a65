"""Plans of evaluations: from a checked request to stored scores, or to an estimate of the run time."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmri.exceptions import EntryExistsError
from lmri.lesions.requests import Request, build_tasks, make_conditions, make_controls, open_networks
from lmri.lesions.scores import Scores
from lmri.lesions.scores.codec import SCORES, SCORES_CODEC, save_scores, scores_inputs
from lmri.models.study_model import ModelSource
from lmri.networks.network_set import NetworkSet
from lmri.networks.stored_rois import roi_parameters
from lmri.storage import check_name, check_writable
from lmri.storage.entries import as_name
from lmri.storage.experiments import save_experiment
from lmri.storage.outcome import Outcome
from lmri.storage.store import Store

if TYPE_CHECKING:
    from lmri.lesions.controls.base import Controls
    from lmri.lesions.evaluation.plan import Conditions
    from lmri.lesions.tasks.base import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StoredScores:
    """The stored results of one evaluation.

    Parameters
    ----------
    name, site : str
        Name and site of the entries.
    scores : Scores
        Scores.
    outcome : Outcome, optional
        Outcome of the experiment, if the evaluation is one.
    not_stored : str
        Reason why the outcome is not stored; empty if it is.
    """

    name: str
    site: str
    scores: Scores
    outcome: Outcome | None = None
    not_stored: str = ""


@dataclass(frozen=True, eq=False)
class WriteUp:
    """The experiment as which scores are stored.

    Parameters
    ----------
    make : callable
        Computes the outcome from the scores and the controls.
    parameters : mapping
        Parameters of the entry.
    inputs : mapping
        Inputs of the entry besides the scores.
    may_differ : bool, default=False
        Whether another write-up of the same scores may already be stored; it is then not overwritten.
    """

    make: "Callable[[Scores, Sequence[Controls]], Outcome]"
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Any]
    may_differ: bool = False


@dataclass(frozen=True, eq=False)
class Plan:
    """An evaluation of stored networks whose cost can be estimated, or that can be run.

    Parameters
    ----------
    store : Store
        Study of the networks.
    request : Request
        Intervention, tasks and controls.
    networks : NetworkSet
        Networks at whose site controls are drawn.
    name : str
        Name of the entries.
    tasks : list of Task
        Tasks, as built by `TaskOptions.build`.
    conditions : callable
        Creates the conditions.
    parameters : mapping
        Parameters of the scores besides those of the request.
    network_set : str, optional
        Stored network set that is an input of the scores.
    write_up : WriteUp, optional
        Experiment as which the scores are stored.
    """

    store: Store
    request: Request
    networks: NetworkSet
    name: str
    tasks: "list[Task]"
    conditions: "Callable[[], Mapping[str, Conditions]]"
    parameters: Mapping[str, Any]
    network_set: str | None = None
    write_up: WriteUp | None = None

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def site(self) -> str:
        """Site of the neurons."""
        return self.networks.space.site

    @property
    def is_grid(self) -> bool:
        """Whether conditions differ in size or dose, not only in the network."""
        return self.write_up is not None and not self.write_up.may_differ

    def controls(self, model: Any) -> "list[Controls]":
        """Create the controls."""
        return make_controls(self.store, self.request, self.networks, model)

    def cost(self, source: ModelSource) -> pd.DataFrame:
        """Estimate the run time by scoring the intact model; nothing is stored.

        Parameters
        ----------
        source : ModelSource
            Model.

        Returns
        -------
        DataFrame
            One row per task, as `lmri.evaluation.estimate_cost` returns it.
        """
        from lmri.lesions.evaluation import ItemStore, estimate_cost

        logger.info("Loading the model")
        model, tokenizer = source.load(self.store)
        conditions, controls = self.conditions(), self.controls(model)
        logger.info("Scoring the intact model")
        store = ItemStore(self.store.layout.items)
        return estimate_cost(model, tokenizer, self.tasks, conditions, controls, self.request.seed, store)

    def run(
        self, source: ModelSource, strict: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> StoredScores:
        """Evaluate and store the scores, unless identical scores are already stored.

        Parameters
        ----------
        source : ModelSource
            Model.
        strict : bool, default=False
            Whether to refuse weights that differ from the recorded ones.
        progress : callable, optional
            Called with the number of finished evaluations and the total.

        Raises
        ------
        EntryExistsError
            If another evaluation has the same name.
        """
        check_writable(self.store.root)
        logger.info("Loading the model")
        model, tokenizer = source.load(self.store)
        controls = self.controls(model)
        scores = self._score(model, tokenizer, controls, strict, progress)
        if self.write_up is None:
            return StoredScores(self.name, self.site, scores)
        outcome = self.write_up.make(scores, controls)
        inputs = {**self.write_up.inputs, SCORES: self.name}
        try:
            save_experiment(self.store, outcome, self.name, self.site, inputs, self.write_up.parameters)
        except EntryExistsError as error:
            if not self.write_up.may_differ:
                raise
            return StoredScores(self.name, self.site, scores, outcome, str(error))
        return StoredScores(self.name, self.site, scores, outcome)

    def _score(
        self,
        model: Any,
        tokenizer: Any,
        controls: "list[Controls]",
        strict: bool,
        progress: Callable[[int, int], None] | None,
    ) -> Scores:
        from lmri.lesions.evaluation import ItemStore, evaluate, identity

        conditions, seed, stop_after = self.conditions(), self.request.seed, self.request.controls.stop_after
        made_of = identity(model, self.tasks, conditions, controls, seed, stop_after)
        parameters = {**self.request.parameters(), **self.parameters}

        def compute() -> None:
            logger.info("Scoring %s conditions and their controls", len(conditions))
            scores = evaluate(
                model, tokenizer, self.tasks, conditions, controls, seed, strict, progress,
                store=ItemStore(self.store.layout.items), stop_after=stop_after,
            )  # fmt: skip
            save_scores(self.store, scores, self.name, self.site, self.network_set, parameters)

        inputs = scores_inputs(self.store, self.network_set, self.site, made_of)
        key = (inputs, {**parameters, "seed": seed})
        self.store.compute_unless_stored(SCORES, self.site, self.name, key, compute)
        return self.store.open(SCORES_CODEC, self.name, self.site)


def plan_networks(
    store: Store, request: Request, site: str | None = None, name: str | None = None, location: str | None = None
) -> Plan:
    """Plan one intervention on every network of a set, or on regions of interest.

    Parameters
    ----------
    store : Store
        Study of the networks.
    request : Request
        Intervention, tasks and controls.
    site : str, optional
        Site of the neurons; needed if there are several.
    name : str, optional
        Name of the entries; by default the intervention and the networks.
    location : str, optional
        Location of the model, if one is named.
    """
    networks = open_networks(store, request, site)
    return Plan(
        store,
        request,
        networks,
        name or as_name(f"{request.kind}-{networks.method}"),
        build_tasks(store, request, location),
        lambda: make_conditions(store, request, networks),
        roi_parameters(networks),
        request.networks or None,
    )
