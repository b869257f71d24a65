"""Plans of robustness analyses: from validated choices to a stored outcome, or to an estimate of the run time."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmri.lesions.experiments.choices import KINDS, UNION, Choice, threshold_label
from lmri.lesions.experiments.robustness import Robustness, robustness
from lmri.lesions.experiments.specifications import OTHER_METHODS, OTHER_THRESHOLDS, SEEDS, Specifications
from lmri.lesions.experiments.stored import StoredExperiment
from lmri.lesions.tasks.requested import TaskOptions
from lmri.models.study_model import ModelSource
from lmri.networks.thresholds.parsing import parse_threshold
from lmri.storage.entries import as_name
from lmri.storage.experiments import save_experiment
from lmri.storage.store import Store

if TYPE_CHECKING:
    from lmri.lesions.tasks.base import Task

logger = logging.getLogger(__name__)

THRESHOLDS = tuple(threshold_label(threshold) for threshold in OTHER_THRESHOLDS)
"""Default thresholds, in the notation of the command line."""


@dataclass(frozen=True)
class Variations:
    """Choices to vary one at a time.

    Parameters
    ----------
    vary : sequence of str
        Kinds of choice.
    baselines : sequence of str, optional
        Baselines; by default the mean of every fitted corpus, and resampling from it.
    thresholds : sequence of str
        Thresholds, each as ``METHOD`` or ``METHOD:VALUE``.
    seeds : sequence of int
        Seeds of other decompositions.
    methods : sequence of str
        Methods of other decompositions.

    Raises
    ------
    ValueError
        If a threshold is unknown.
    """

    vary: Sequence[str] = KINDS
    baselines: Sequence[str] | None = None
    thresholds: Sequence[str] = THRESHOLDS
    seeds: Sequence[int] = SEEDS
    methods: Sequence[str] = OTHER_METHODS

    def __post_init__(self) -> None:
        self.options()

    def options(self) -> dict[str, Any]:
        """Return the options of `Specifications.choices`."""
        return {
            "vary": list(self.vary),
            "baselines": None if self.baselines is None else list(self.baselines),
            "thresholds": [(by or "", values) for by, values in map(parse_threshold, self.thresholds)],
            "seeds": list(self.seeds),
            "methods": list(self.methods),
        }


@dataclass(frozen=True)
class RobustnessOptions:
    """The lesion whose robustness is tested, its controls, and the varied choices.

    Parameters
    ----------
    networks : str
        Name of the network set.
    network : str, default="union"
        Lesioned network: ``"union"``, or one network by its name or number.
    variations : Variations
        Varied choices.
    tasks : TaskOptions
        Tasks.
    n_controls : int, default=39
        Number of matched controls per variant.
    controls : {"layer", "energy"}, default="layer"
        Family of controls of the base; the other family is the variant.
    seed : int, default=0
        Seed of controls, bootstrap and nulls.
    """

    networks: str
    network: str = UNION
    variations: Variations = field(default_factory=Variations)
    tasks: TaskOptions = field(default_factory=TaskOptions)
    n_controls: int = 39
    controls: str = "layer"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class RobustnessPlan:
    """A robustness analysis whose cost can be estimated, or that can be run.

    Parameters
    ----------
    store : Store
        Study of the networks.
    options : RobustnessOptions
        Lesion and varied choices.
    choices : list of Choice
        Choices of the base and of every variant.
    base : Specifications
        Specifications of the base.
    tasks : list of Task
        Tasks.
    name : str, optional
        Name of the entry; by default the networks and the lesioned network.
    """

    store: Store
    options: RobustnessOptions
    choices: list[Choice]
    base: Specifications
    tasks: "list[Task]"
    name: str | None = None

    @classmethod
    def of(
        cls, store: Store, options: RobustnessOptions, site: str | None = None, name: str | None = None
    ) -> "RobustnessPlan":
        """Check all choices and create the plan, without fitting."""
        base = Specifications(store, options.networks, site, options.network, options.controls)
        choices = base.choices(**options.variations.options())
        return cls(store, options, choices, base, options.tasks.build(store), name)

    @property
    def specifications(self) -> list[str]:
        """Names of the base and of every variant."""
        return [choice.name for choice in self.choices]

    def cost(self, source: ModelSource) -> pd.DataFrame:
        """Estimate the run time of scoring by scoring the intact model; nothing is fitted or stored.

        Parameters
        ----------
        source : ModelSource
            Model.

        Returns
        -------
        DataFrame
            One row per task: ``task, n_items, seconds`` per evaluation, ``n_evaluations`` at most, ``total_seconds``.
        """
        from lmri.lesions.evaluation import estimate_cost

        logger.info("Loading the model")
        model, tokenizer = source.load(self.store)
        logger.info("Scoring the intact model")
        cost = estimate_cost(model, tokenizer, self.tasks, {}, None, self.options.seed)
        n_evaluations = 1 + len(self.choices) * (1 + self.options.n_controls)
        return cost.assign(n_evaluations=n_evaluations, total_seconds=cost["seconds"] * n_evaluations)

    def run(
        self, source: ModelSource, strict: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> StoredExperiment[Robustness]:
        """Fit and score all variants, and store the outcome.

        Parameters
        ----------
        source : ModelSource
            Model.
        strict : bool, default=False
            Whether to refuse weights that differ from the recorded ones.
        progress : callable, optional
            Called with the number of finished evaluations and the total.
        """
        from lmri.lesions.evaluation import ItemStore

        options, base = self.options, self.base
        logger.info("Loading the model")
        model, tokenizer = source.load(self.store)
        logger.info("Decomposing and scoring")
        result = robustness(
            self.store, model, tokenizer, self.tasks, base.entry.name, base.network, base.entry.site,
            **options.variations.options(), controls=base.controls, n_controls=options.n_controls, seed=options.seed,
            strict=strict, progress=progress, store=ItemStore(self.store.layout.items),
        )  # fmt: skip
        label = self.name or as_name(f"robustness-{result.networks}-{options.network}")
        outcome = result.to_outcome()
        inputs: Mapping[str, Any] = {
            "networks": result.networks,
            "evaluations": [dict(hashes) for hashes in result.made_of],
        }
        parameters = {
            "network": options.network,
            "n_controls": options.n_controls,
            "controls": options.controls,
            "seed": options.seed,
            "alpha": result.alpha,
            "tasks": options.tasks.labels,
            "choices": self.specifications,
        }
        save_experiment(self.store, outcome, label, result.site, inputs, parameters)
        return StoredExperiment(label, result.site, result, outcome)
