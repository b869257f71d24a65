"""Requests to lesion, preserve or amplify networks: from options to stored scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmri.cli.console import Output, quote, records
from lmri.cli.regions import open_rois, said_of, targets_of, written_of
from lmri.exceptions import EntryExistsError
from lmri.lesions.baselines import Baseline
from lmri.lesions.controls import EnergyMatchedControls, MatchedControls, PermutedControls, SharedControls
from lmri.lesions.scores import Scores
from lmri.lesions.scores.stored import scores_inputs
from lmri.networks import Network, NetworkSet
from lmri.networks.rois import RoiSet
from lmri.networks.stored import corpora_of
from lmri.space.layers import is_input
from lmri.storage import check_name, check_writable, text_hash
from lmri.storage.texts import read_texts
from lmri.study import Study, open_study

if TYPE_CHECKING:
    from lmri.lesions.controls import Controls
    from lmri.lesions.evaluation import ItemStore
    from lmri.lesions.evaluation.plan import Conditions
    from lmri.lesions.interventions import Intervention
    from lmri.lesions.tasks import Task


@dataclass(frozen=True)
class Request:
    """What is to be done to which networks, and what is to be scored.

    Parameters
    ----------
    kind : {"lesion", "preserve", "amplify"}
        The intervention.
    options : dict
        Of the intervention: ``baseline``, or ``gain`` and ``offset``.
    networks : str
        Name of the network set; empty where there are `rois`.
    tasks : list of str
        As on the command line.
    n_controls : int
        Draws a network.
    text_column : str
        Of task files.
    batch_size : int
        Texts read at once.
    seed : int
        Of controls and bootstrap.
    controls : str or sequence of str, default="layer"
        Families of controls: ``"layer"``, ``"energy"``, ``"index"``, ``"shared"``.
    scoring : str, optional
        Of named tasks; their own by default.
    split : {"", "fit", "select", "test"}, default=""
        Of named tasks; all items by default.
    n_seeds : int, default=1
        Seeds of donor tokens, over which each condition is repeated.
    stop_after : int, default=0
        Controls at least as bad after which no more are drawn; 0 to draw all.
    rois : sequence of Path
        Images of regions of interest, in place of networks.
    """

    kind: str
    options: dict[str, Any]
    networks: str
    tasks: list[str]
    n_controls: int
    text_column: str
    batch_size: int
    seed: int
    controls: str | Sequence[str] = "layer"
    scoring: str | None = None
    split: str = ""
    n_seeds: int = 1
    stop_after: int = 0
    rois: Sequence[Path] = ()

    @property
    def families(self) -> list[str]:
        """Families of controls, as a list."""
        return [self.controls] if isinstance(self.controls, str) else list(self.controls)

    def shown(self) -> dict[str, Any]:
        """Give what people should read beside the scores."""
        tasks = self.tasks or ["perplexity"]  # named or by default, it is the same
        families = self.families
        return {
            "intervention": self.kind,
            **self.options,
            "n_controls": self.n_controls,
            "controls": families[0] if len(families) == 1 else families,
            "tasks": [without_folder(task) for task in tasks],
            **({"n_seeds": self.n_seeds} if self.n_seeds > 1 else {}),
            **({"stop_after": self.stop_after} if self.stop_after else {}),
        }


def without_folder(task: str) -> str:
    """Name a task by its kind and the name of its file: where that lies on this machine is nobody's business."""
    kind, colon, file = task.partition(":")
    return f"{kind}{colon}{Path(file).name}" if file else task


def intervene(
    output: Output,
    folder: Path,
    request: Request,
    site: str | None,
    model: str | None,
    device: str,
    name: str | None,
    trust_remote_code: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    beside: "Beside | None" = None,
    loading: dict[str, Any] | None = None,
) -> None:
    """Carry out a request, unless its scores are there, and show them; or only say what it would cost."""
    study = open_study(folder)
    if not dry_run:
        check_writable(study.root)
    networks = open_rois(study, request.rois, site) if request.rois else study.networks(request.networks, site)
    beside = beside or Beside()
    if beside.parity:
        from lmri.lesions.experiments.parity import check_parity

        check_parity(networks, request.shown())
    if request.n_controls < 0:
        raise ValueError(f"--n-controls is {request.n_controls}; it must be at least 0.")
    check_options(study, request, networks)
    tasks = build_tasks(study, request)  # fails now on a bad task, rather than when the model is loaded
    check_not_learned(model, tasks)
    label, at = name or f"{request.kind}-{networks.method}", networks.space.site
    check_name(label)
    with output.progress("Loading the model"):
        loaded, tokenizer = load_model_of(study, model, device, trust_remote_code, loading)
    if dry_run:
        _say_cost(output, study, request, networks, loaded, tokenizer, tasks)
        return
    scores = score_networks(output, study, request, networks, label, loaded, tokenizer, strict)
    summary = scores.summary()
    units = ", ".join(sorted({task.metric.replace("_", " ") for task in scores.tasks}))
    better = "more is better" if scores.tasks[0].higher_is_better else "less is better"
    output.table(
        wide(summary),
        f"{label} at {at}: {units} ({better}) of the intact model, and the difference from it"
        + (f"; p beside {request.n_controls} controls" if request.n_controls else ""),
    )
    if not networks.members.any():
        output.say(f"Every network of {networks.method} is empty: there was nothing to {request.kind}.")
    labels = scores.label_counts()
    if len(labels):
        output.table(labels.round(3), "Labels")
    if not request.n_controls:
        output.say("Without controls a difference says nothing of these neurons: --n-controls 20.")
    if (scores.conditions["kind"] == "control").any():
        output.say(
            f"The smallest possible p is {scores.p_floor:.3g}; for one network alone to reach q ≤ 0.05, "
            f"--n-controls {scores.controls_needed} are needed. Write it all up: lmri report {folder}"
        )
    if request.kind == "lesion":
        balance = _balance(study, request, networks, loaded)
        _write_up(output, study, request, networks, label, scores, beside, balance)
    output.result(
        {"name": label, "site": at, "p_floor": scores.p_floor, "summary": records(summary), "labels": records(labels)}
    )


@dataclass(frozen=True)
class Beside:
    """How a lesion is written up.

    Parameters
    ----------
    out : Path, optional
        New folder for tables and figures.
    paper_model : str, optional
        Model of the paper whose numbers stand beside.
    parity : bool, default=False
        Refuse anything but the paper's own choices, and label what comes out as made with them.
    """

    out: Path | None = None
    paper_model: str | None = None
    parity: bool = False


def _balance(study: Study, request: Request, networks: NetworkSet, model: Any) -> pd.DataFrame | None:
    """Say how alike networks and their controls are in removed energy, if that is what they are matched by."""
    if "energy" not in request.families or not request.n_controls:
        return None
    controls = _energy_controls(study, request, networks, model)
    filled = [one for one in targets_of(networks) if one.n_neurons]
    return pd.DataFrame([controls.balance(one).row() for one in filled]) if filled else None


def _write_up(
    output: Output,
    study: Study,
    request: Request,
    networks: NetworkSet,
    label: str,
    scores: Scores,
    beside: Beside,
    balance: pd.DataFrame | None,
) -> None:
    """Store a lesion as an experiment, in the paper's layout, and write it to a folder if one is given."""
    from lmri.lesions.experiments.lesions import lesion_outcome

    outcome = lesion_outcome(scores, networks.method, beside.paper_model, beside.parity, balance)
    parameters = {**request.shown(), "seed": request.seed, "paper_model": beside.paper_model, "parity": beside.parity}
    parameters |= written_of(networks)
    if beside.out is not None:
        outcome.write(beside.out)
        output.say(f"Tables and figures: {quote(beside.out)}")
    try:
        study.save_experiment(outcome, label, networks.space.site, {"scores": label}, parameters)
    except EntryExistsError as error:  # the scores are the same, and only their write-up is another
        output.say(f"This write-up was not stored in the study, which has one of another kind: {error}")


def score_networks(
    output: Output,
    study: Study,
    request: Request,
    networks: NetworkSet,
    label: str,
    model: Any,
    tokenizer: Any,
    strict: bool = False,
) -> Scores:
    """Evaluate a set of networks unless exactly that is stored, store it, and give it."""
    from lmri.lesions.evaluation import evaluate, identity

    at, tasks = networks.space.site, build_tasks(study, request)
    conditions = make_conditions(study, request, networks)
    controls = make_controls(study, request, networks, model) if request.n_controls else []
    made_of = identity(model, tasks, conditions, controls, request.seed, request.stop_after)
    inputs = scores_inputs(study, request.networks or None, at, made_of)
    shown = {**request.shown(), **said_of(networks)}
    if not study.entries.has("scores", at, label, inputs, {**shown, "seed": request.seed}):
        with output.progress(f"Scoring {len(conditions)} conditions and their controls") as progress:
            scores = evaluate(
                model, tokenizer, tasks, conditions, controls, request.seed, strict, progress,
                store=item_store(study), stop_after=request.stop_after,
            )  # fmt: skip
        study.save_scores(scores, label, at, request.networks or None, shown)
    return study.scores(label, at)


def _say_cost(
    output: Output,
    study: Study,
    request: Request,
    networks: NetworkSet,
    model: Any,
    tokenizer: Any,
    tasks: "list[Task]",
) -> None:
    """Estimate how long a request would take, and store nothing."""
    from lmri.lesions.evaluation import estimate_cost

    conditions = make_conditions(study, request, networks)
    controls = make_controls(study, request, networks, model) if request.n_controls else []
    with output.progress("Scoring the intact model"):
        cost = estimate_cost(model, tokenizer, tasks, conditions, controls, request.seed, item_store(study))
    total = float(cost["total_seconds"].sum())
    output.table(cost.round({"seconds": 2, "total_seconds": 0}))
    output.say(
        f"{len(conditions)} conditions with {request.n_controls} controls each take about "
        f"{f'{total / 60:.0f} minutes' if total > 90 else f'{total:.0f} seconds'} here. Nothing was stored."
    )
    output.result({"cost": records(cost), "total_seconds": total})


def item_store(study: Study) -> "ItemStore":
    """Open the item rows that a study keeps of every evaluation, so that none is made twice."""
    from lmri.lesions.evaluation import ItemStore

    return ItemStore(study.layout.items)


CONTROLS = ("layer", "energy", "index", "shared")


def make_controls(study: Study, request: Request, networks: NetworkSet, model: Any) -> "list[Controls]":
    """Make controls as the command line names them."""
    return [_family(name, study, request, networks, model) for name in request.families]


def _family(name: str, study: Study, request: Request, networks: NetworkSet, model: Any) -> "Controls":
    if name == "layer":
        return MatchedControls(request.n_controls)
    if name == "index":
        return PermutedControls(request.n_controls)
    if name == "shared":
        return SharedControls(targets_of(networks), request.n_controls)
    return _energy_controls(study, request, networks, model)


def _energy_controls(study: Study, request: Request, networks: NetworkSet, model: Any) -> EnergyMatchedControls:
    from lmri.lesions.interventions import output_norms

    space = networks.space
    norms = output_norms(model, space) if is_input(space.site) else None
    baseline = Baseline.parse(request.options.get("baseline") or "zero")
    given = baseline.recording(study, space.site)
    # What the networks were found in, whatever else has been recorded.
    corpora = corpora_of(study, request.networks, space.site) if request.networks else None
    fitted = study.group(space.site, corpora)
    return EnergyMatchedControls.measured(fitted, baseline.kind, norms, request.n_controls, given)


def check_not_learned(model: str | None, tasks: "list[Task]") -> None:
    """Refuse texts that a fine-tuned classifier has learned: its scores there say nothing."""
    from lmri.lesions.finetuning import learned_texts

    learned = learned_texts(model) if model else frozenset()
    for task in tasks:
        known = learned & {text_hash(text) for text in task.texts}
        if known:
            raise ValueError(
                f"{model} was tuned on {len(known)} of the {len(set(task.texts))} texts of {task.info.name!r}. Score "
                "others: --split test, or another file."
            )


def check_options(study: Study, request: Request, networks: NetworkSet) -> None:
    """Fail on bad options before the model is loaded."""
    for family in request.families:
        if family not in CONTROLS or request.families.count(family) > 1:
            raise ValueError(f"--controls is {family!r}; accepted are {', '.join(CONTROLS)}, each once.")
    baseline = Baseline.parse(request.options.get("baseline") or "zero")
    if request.n_seeds < 1 or (request.n_seeds > 1 and baseline.kind != "resample"):
        raise ValueError(
            f"--n-seeds is {request.n_seeds}; accepted is 1 and, with --baseline resample:CORPUS, more, such as 10."
        )
    if request.stop_after < 0:
        raise ValueError(f"--stop-after is {request.stop_after}; accepted are 0, to draw all, and more, such as 10.")
    baseline.recording(study, networks.space.site)  # fails now if there is none
    if request.kind == "amplify" and (request.options["gain"] is None) == (request.options["offset"] is None):
        raise ValueError("Give exactly one of --gain, such as 1.5, and --offset, such as 1.0.")


def intervention_maker(study: Study, request: Request, site: str) -> Any:
    """Give the function that turns a network into the requested intervention, or into one for each seed."""
    from lmri.lesions import interventions

    function = getattr(interventions, request.kind)
    options = dict(request.options)
    if "baseline" not in options:
        return lambda network: function(network, **options)
    baseline = Baseline.parse(options["baseline"] or "zero")
    seeds = [replace(baseline, seed=baseline.seed + number) for number in range(request.n_seeds)]
    baselines = [interventions.baseline_of(study, one, site) for one in seeds]

    def make(network: Network) -> "Intervention | list[Intervention]":
        made = [function(network, **{**options, "baseline": one}) for one in baselines]
        return made[0] if len(made) == 1 else made

    return make


def make_conditions(study: Study, request: Request, networks: NetworkSet) -> "dict[str, Conditions]":
    """Make the conditions of a request: of regions of interest these neurons and no others."""
    from lmri.lesions.evaluation import conditions_of

    make = intervention_maker(study, request, networks.space.site)
    if isinstance(networks, RoiSet):
        return {one.name: make(one) for one in targets_of(networks)}
    return conditions_of(networks, make, request.seed)


def build_tasks(study: Study, request: Request) -> "list[Task]":
    """Make tasks as the command line names them, and refuse texts that were fitted."""
    from lmri.lesions.tasks import NAMES, Classification, Perplexity, load

    tasks: list[Task] = []
    for text in request.tasks or ["perplexity"]:
        kind, _, file = text.partition(":")
        name = f"{kind}-{Path(file).stem}"
        if kind == "perplexity" and not file:
            tasks.extend(held_out_tasks(study, request.batch_size))
        elif kind == "perplexity":
            texts = read_texts(file, column=request.text_column)
            study.check_apart(texts, file)
            tasks.append(Perplexity(texts, name, request.batch_size))
        elif kind == "classification" and file:
            task = Classification.from_file(Path(file), name)
            study.check_apart(task.texts, file)
            tasks.append(task)
        elif (file and kind.replace("_", "-") in NAMES) or kind.endswith((".yaml", ".yml")):
            named = load(
                kind, file or None, scoring=request.scoring, split=request.split, seed=0, batch_size=request.batch_size
            )
            study.check_apart(named.texts, file or kind)
            tasks.append(named)
        else:
            others = ", ".join(name for name in NAMES if name != "perplexity")
            raise ValueError(
                f"The task is {text!r}; accepted are perplexity, perplexity:FILE, classification:FILE, NAME:FILE with "
                f"NAME among {others}, and a YAML file."
            )
    return tasks


def held_out_tasks(study: Study, batch_size: int) -> "list[Task]":
    """Make a perplexity task of each corpus's held-out texts; a text in two corpora counts for the first."""
    from lmri.lesions.tasks import Perplexity

    seen: set[str] = set()
    tasks: list[Task] = []
    for corpus, texts in {one.corpus: one.test_texts for one in study.recordings()}.items():
        own = [text for text in texts if text_hash(text) not in seen]
        seen.update(text_hash(text) for text in own)
        if own:
            tasks.append(Perplexity(own, f"perplexity-{corpus}", batch_size))
    if not tasks:
        raise ValueError(f"{study.root} holds no texts out (test_fraction was 0). Name a file: --task perplexity:FILE.")
    return tasks


def load_model_of(
    study: Study,
    model: str | None,
    device: str,
    trust_remote_code: bool = False,
    loading: dict[str, Any] | None = None,
) -> tuple[Any, Any]:
    """Load the model of a study, from `model` or from where it was when it was recorded, and as precise.

    `loading` holds further options of `lmri.load_model`.
    """
    from lmri.models import load_model, parse_precision

    place = model or study.model_location or study.model.id
    try:
        return load_model(
            place,
            device=device,
            revision=study.model.revision if place == study.model.id else None,
            trust_remote_code=trust_remote_code,
            **parse_precision(study.model.dtype),
            **(loading or {}),
        )
    except ValueError as error:
        raise ValueError(f"{error} If the model has moved, say where it is: --model.") from error


def wide(summary: pd.DataFrame) -> pd.DataFrame:
    """Arrange a summary for the screen: a row a condition, a column a task."""
    rows = []
    for condition, own in summary.groupby("condition", sort=False):
        row: dict[str, Any] = {"condition": condition, "neurons": int(own["n_neurons"].iloc[0])}
        for one in own.drop_duplicates("task").itertuples():  # a task's own metric comes first
            if condition == "intact":
                row[str(one.task)] = f"{one.value:.3f}"
            else:
                p = "" if pd.isna(one.p) else f"  p {one.p:.3f}"
                row[str(one.task)] = "0" if one.diff == 0 else f"{one.diff:+.3f}{p}"
        rows.append(row)
    return pd.DataFrame(rows)
