"""Requests to lesion, preserve or amplify networks: the choices that define an evaluation, checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmri.lesions.baselines import BASELINES, Baseline
from lmri.lesions.controls.family import Lesioned
from lmri.lesions.controls.registry import CONTROLS, ControlOptions
from lmri.lesions.tasks.requested import TaskOptions
from lmri.networks.codec import NETWORKS_CODEC, corpora_of
from lmri.networks.network import Network
from lmri.networks.network_set import NetworkSet
from lmri.networks.rois import RoiSet
from lmri.networks.stored_rois import lesion_targets, open_rois
from lmri.space.layers import is_input
from lmri.storage import text_hash
from lmri.storage.store import Store

if TYPE_CHECKING:
    import numpy as np

    from lmri.lesions.controls.base import Controls
    from lmri.lesions.evaluation.plan import Conditions
    from lmri.lesions.tasks.base import Task
    from lmri.storage.recording import Recording


@dataclass(frozen=True)
class Silencing:
    """Values and tokens of a lesion.

    Parameters
    ----------
    baseline : str, default="zero"
        Value assigned to lesioned neurons, in the notation of the command line.
    n_seeds : int, default=1
        Number of seeds of donor tokens over which each condition is repeated.
    spare : str, optional
        ``"sinks"`` to exclude the first token of every text.
    positions : str or sequence of int, optional
        Tokens to change: ``"prompt"``, ``"generated"`` or ``"last"``, or positions in the text; all by default.
    """

    baseline: str = "zero"
    n_seeds: int = 1
    spare: str | None = None
    positions: str | Sequence[int] | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of the intervention, omitting defaults other than the baseline."""
        options: dict[str, Any] = {"baseline": self.baseline}
        if self.spare:
            options["spare"] = self.spare
        if self.positions is not None:
            options["positions"] = self.positions if isinstance(self.positions, str) else list(self.positions)
        return options


@dataclass(frozen=True)
class Request:
    """The networks, the intervention on them, and the tasks and controls of one evaluation.

    Parameters
    ----------
    kind : {"lesion", "preserve", "amplify"}
        Intervention.
    options : mapping
        Options of the intervention: ``baseline`` in the notation of the command line, ``spare`` and ``positions``; or
        ``gain``, ``offset`` (each a number, or a list over a grid of doses) and ``along_sign``.
    networks : str
        Name of the network set; empty if `rois` are given.
    tasks : TaskOptions
        Tasks.
    controls : ControlOptions
        Matched controls.
    seed : int, default=0
        Seed of controls and bootstrap.
    n_seeds : int, default=1
        Number of seeds of donor tokens over which each condition is repeated.
    rois : sequence of str or Path
        Images of regions of interest, instead of networks.

    Raises
    ------
    ValueError
        If the options contradict each other.
    """

    kind: str
    options: Mapping[str, Any]
    networks: str = ""
    tasks: TaskOptions = field(default_factory=TaskOptions)
    controls: ControlOptions = field(default_factory=ControlOptions)
    seed: int = 0
    n_seeds: int = 1
    rois: Sequence[str | Path] = ()

    def __post_init__(self) -> None:
        takes_seed = BASELINES[self.baseline.kind].takes_seed
        if self.n_seeds < 1 or (self.n_seeds > 1 and not takes_seed):
            raise ValueError(
                f"--n-seeds is {self.n_seeds}; it must be 1, or a larger number with --baseline resample:CORPUS, "
                "such as 10."
            )
        doses = [self.options.get("gain"), self.options.get("offset")]
        is_grid = any(isinstance(dose, list) for dose in doses)
        if self.kind == "amplify" and not is_grid and doses.count(None) != 1:
            raise ValueError(
                "The dose of the amplification is missing or ambiguous. Give exactly one of --gain, such as 1.5, and "
                "--offset, such as 1.0."
            )

    @property
    def baseline(self) -> Baseline:
        """Baseline of the intervention; zero if it takes none."""
        return Baseline.parse(self.options.get("baseline") or "zero")

    def parameters(self) -> dict[str, Any]:
        """Return the parameters under which scores are stored, without the seed."""
        families = self.controls.names
        return {
            "intervention": self.kind,
            **self.options,
            "n_controls": self.controls.n,
            "controls": families[0] if len(families) == 1 else families,
            "tasks": self.tasks.labels,
            **({"n_seeds": self.n_seeds} if self.n_seeds > 1 else {}),
            **({"stop_after": self.controls.stop_after} if self.controls.stop_after else {}),
        }


def lesion_request(
    networks: str | None,
    rois: Sequence[str | Path],
    silencing: Silencing,
    tasks: TaskOptions,
    controls: ControlOptions,
    seed: int = 0,
    paper: bool = False,
) -> Request:
    """Create the request of a lesion.

    Parameters
    ----------
    networks : str, optional
        Name of the network set.
    rois : sequence of str or Path
        Images of regions of interest, instead of networks.
    silencing : Silencing
        Values and tokens.
    tasks : TaskOptions
        Tasks.
    controls : ControlOptions
        Matched controls; none with `paper`.
    seed : int, default=0
        Seed of controls and bootstrap.
    paper : bool, default=False
        Whether to use the paper's settings. Without `networks`, the networks of the request stay empty.

    Raises
    ------
    ValueError
        If there is nothing to lesion, or options contradict each other.
    """
    if rois and (networks is not None or paper):
        raise ValueError(
            "--roi cannot be combined with --networks or --paper, because the neurons of the region are lesioned. Omit "
            "them."
        )
    if paper:
        if silencing.options() != {"baseline": "zero"} or controls.families or controls.stop_after:
            raise ValueError("--paper sets baseline, positions and controls. Omit these options, or omit --paper.")
        controls = replace(controls, n=0)
    elif networks is None and not rois:
        raise ValueError("There is nothing to lesion. Give --networks, --roi, or --paper.")
    return Request("lesion", silencing.options(), networks or "", tasks, controls, seed, silencing.n_seeds, tuple(rois))


def open_networks(store: Store, request: Request, site: str | None) -> NetworkSet:
    """Open the networks or regions of interest of a request, and check that its baseline was recorded at their site."""
    networks: NetworkSet = (
        open_rois(store, request.rois, site) if request.rois else store.open(NETWORKS_CODEC, request.networks, site)
    )
    request.baseline.recording(store, networks.space.site)  # raises here if there is no recording
    return networks


def build_tasks(store: Store, request: Request, location: str | None = None) -> "list[Task]":
    """Create the tasks of a request.

    Parameters
    ----------
    store : Store
        Study whose fitted texts may not be scored.
    request : Request
        Request.
    location : str, optional
        Location of the model. The training texts of a fine-tuned classifier may not be scored.
    """
    tasks = request.tasks.build(store)
    check_not_learned(location, tasks)
    return tasks


def check_not_learned(location: str | None, tasks: "Sequence[Task]") -> None:
    """Refuse texts that a fine-tuned classifier was trained on, because its scores on them are biased.

    Raises
    ------
    ValueError
        If a task contains such a text.
    """
    from lmri.lesions.finetuning import learned_texts

    learned = learned_texts(location) if location else frozenset()
    for task in tasks:
        known = learned & {text_hash(text) for text in task.texts}
        if known:
            raise ValueError(
                f"{location} was fine-tuned on {len(known)} of the {len(set(task.texts))} texts of {task.info.name!r}, "
                "so its scores would be biased. Score other texts: --split test, or another file."
            )


def make_controls(store: Store, request: Request, networks: NetworkSet, model: Any) -> "list[Controls]":
    """Create the controls of a request, one object per family; none if no draws are requested."""
    if not request.controls.n:
        return []
    site, baseline = networks.space.site, request.baseline
    # Only the corpora in which the networks were found, not all recorded corpora.
    corpora = corpora_of(store, request.networks, site) if request.networks else None
    lesioned = lesioned_by(store, baseline, site, corpora, model, lambda: lesion_targets(networks))
    return [CONTROLS[name].make(lesioned, request.controls.n) for name in request.controls.names]


def lesioned_by(
    store: Store,
    baseline: Baseline,
    site: str,
    corpora: Sequence[str] | None,
    model: Any,
    targets: Callable[[], Sequence[Network]] = tuple,
) -> Lesioned:
    """Describe a lesion for the families of controls; recordings are opened and norms computed on demand.

    Parameters
    ----------
    store : Store
        Study of the networks.
    baseline : Baseline
        Baseline of the lesion.
    site : str
        Site of the neurons.
    corpora : sequence of str, optional
        Corpora in which the networks were found; all at the site by default.
    model : PreTrainedModel
        Model with the output weights.
    targets : callable
        Lists the networks that are lesioned.
    """

    def norms() -> "np.ndarray | None":
        from lmri.lesions.interventions import output_norms

        return output_norms(model, store.space(site)) if is_input(site) else None

    def given() -> "Recording | None":
        return baseline.recording(store, site)

    return Lesioned(targets, baseline.kind, lambda: store.group(site, corpora), given, norms)


def intervention_maker(store: Store, request: Request, site: str) -> "Callable[[Network], Conditions]":
    """Return the function from a network to the requested intervention, or to one intervention per seed."""
    from lmri.lesions import interventions

    function = getattr(interventions, request.kind)
    options = dict(request.options)
    if "baseline" not in options:
        return lambda network: function(network, **options)
    baseline = request.baseline
    seeds = [replace(baseline, seed=baseline.seed + number) for number in range(request.n_seeds)]
    values = [seeded.value(store, site) for seeded in seeds]

    def make(network: Network) -> "Conditions":
        repetitions = [function(network, **{**options, "baseline": value}) for value in values]
        return repetitions[0] if len(repetitions) == 1 else repetitions

    return make


def make_conditions(store: Store, request: Request, networks: NetworkSet) -> "dict[str, Conditions]":
    """Create the conditions of a request; regions of interest get no random-neuron condition."""
    from lmri.lesions.evaluation import conditions_of

    make = intervention_maker(store, request, networks.space.site)
    if isinstance(networks, RoiSet):
        return {target.name: make(target) for target in lesion_targets(networks)}
    return conditions_of(networks, make, request.seed)
