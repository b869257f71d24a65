"""Commands that keep or amplify networks: once, or over a grid of sizes or doses."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, check_new, guarded, quote, records
from lmri.cli.describe import Json, Quiet
from lmri.cli.interventions import BatchSize, Model, Scoring, Split, Tasks, TextColumn
from lmri.cli.options import (
    Baseline,
    Controls,
    Device,
    DeviceMap,
    DryRun,
    Families,
    Networks,
    OffloadFolder,
    Pickle,
    ScoresName,
    Seed,
    SiteOption,
    Strict,
    StudyFolder,
    Trust,
)

if TYPE_CHECKING:
    from lmri.cli.requests import Request
    from lmri.lesions.interventions import Intervention
    from lmri.lesions.scores import Scores
    from lmri.lesions.tasks import Task
    from lmri.networks import NetworkSet
    from lmri.storage.outcome import Outcome
    from lmri.study import Study

GridFolder = Annotated[
    Path | None,
    typer.Option(help="New folder to write tables and figures of a grid to.", show_default="only stored in the study"),
]


@guarded
def preserve(
    study: StudyFolder,
    networks: Annotated[
        list[str] | None,
        typer.Option(help="Name of a network set; of several, the union of each is kept.", show_default=False),
    ] = None,
    share: Annotated[
        list[float] | None,
        typer.Option(
            help="Keep this share of all neurons, those with the largest |z| over the maps of --decomposition; may be "
            "repeated.",
            show_default=False,
        ),
    ] = None,
    decomposition: Annotated[
        str | None, typer.Option(help="Name; needed for --share if there are several.", show_default=False)
    ] = None,
    task: Tasks = None,
    n_controls: Controls = 20,
    controls: Families = None,
    scoring: Scoring = None,
    split: Split = "",
    dry_run: DryRun = False,
    baseline: Baseline = "zero",
    site: SiteOption = None,
    model: Model = None,
    text_column: TextColumn = "text",
    name: ScoresName = None,
    out: GridFolder = None,
    batch_size: BatchSize = 8,
    device: Device = "cpu",
    trust_remote_code: Trust = False,
    allow_pickle: Pickle = False,
    device_map: DeviceMap = None,
    offload_folder: OffloadFolder = None,
    strict: Strict = False,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Silence all neurons but those of networks, or of a share of all, and score the model beside matched controls."""
    from lmri.cli.requests import Request, intervene

    sets, shares = networks or [], share or []
    if not sets and not shares:
        raise ValueError("There is nothing to preserve. Give --networks, once or several times, or --share, or both.")
    if decomposition is not None and not shares:
        raise ValueError(f"--decomposition is {decomposition!r}, which is of use with --share only. Give both.")
    request = Request(
        "preserve",
        {"baseline": baseline},
        sets[0] if sets else "",
        task or [],
        n_controls,
        text_column,
        batch_size,
        seed,
        controls or ["layer"],
        scoring,
        split,
    )
    output, loading = (
        Output(quiet, json),
        {"allow_pickle": allow_pickle, "device_map": device_map, "offload_folder": offload_folder},
    )
    if len(sets) == 1 and not shares:
        _no_grid(out, "several --networks, or --share")
        intervene(output, study, request, site, model, device, name, trust_remote_code, strict, dry_run, None, loading)
        return
    check_new("--out", out)
    place = _Place(study, site, model, device, name, out, trust_remote_code, strict, dry_run, loading)
    _preserve_grid(output, request, sets, shares, decomposition, place)


@guarded
def amplify(
    study: StudyFolder,
    networks: Networks,
    gain: Annotated[
        list[float] | None,
        typer.Option(help="Factor on the activity of a network's neurons; may be repeated.", show_default=False),
    ] = None,
    offset: Annotated[
        list[float] | None, typer.Option(help="Constant added to it; may be repeated.", show_default=False)
    ] = None,
    along_sign: Annotated[
        bool, typer.Option("--along-sign", help="Add --offset where a weight is positive, subtract it where negative.")
    ] = False,
    task: Tasks = None,
    n_controls: Controls = 20,
    controls: Families = None,
    scoring: Scoring = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="Score fit, select or test only. Of several doses the best is chosen on select and reported on test: "
            "named tasks have these splits, other texts are halved by a hash.",
            show_default="all items of one dose, select and test of several",
        ),
    ] = None,
    dry_run: DryRun = False,
    site: SiteOption = None,
    model: Model = None,
    text_column: TextColumn = "text",
    name: ScoresName = None,
    out: GridFolder = None,
    batch_size: BatchSize = 8,
    device: Device = "cpu",
    trust_remote_code: Trust = False,
    allow_pickle: Pickle = False,
    device_map: DeviceMap = None,
    offload_folder: OffloadFolder = None,
    strict: Strict = False,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Amplify each network, by one dose or several, and score the model beside matched controls."""
    from lmri.cli.requests import Request, intervene

    gains, offsets, splits = gain or [], offset or [], split or []
    single = len(gains) + len(offsets) < 2
    options: dict[str, Any] = {"gain": gains or None, "offset": offsets or None}
    if single:
        options = {"gain": gains[0] if gains else None, "offset": offsets[0] if offsets else None}
    request = Request(
        "amplify",
        options | ({"along_sign": True} if along_sign else {}),
        networks,
        task or [],
        n_controls,
        text_column,
        batch_size,
        seed,
        controls or ["layer"],
        scoring,
        splits[0] if splits else "",
    )
    output, loading = (
        Output(quiet, json),
        {"allow_pickle": allow_pickle, "device_map": device_map, "offload_folder": offload_folder},
    )
    if single:
        _no_grid(out, "several doses")
        if len(splits) > 1:
            raise ValueError(
                f"--split is {', '.join(splits)}, and of one dose there is none to choose. Give one split."
            )
        intervene(output, study, request, site, model, device, name, trust_remote_code, strict, dry_run, None, loading)
        return
    check_new("--out", out)
    place = _Place(study, site, model, device, name, out, trust_remote_code, strict, dry_run, loading)
    _dose_grid(output, request, gains, offsets, along_sign, splits or ["select", "test"], place)


def _no_grid(out: Path | None, what: str) -> None:
    if out is not None:
        raise ValueError(f"--out is {out}, but tables and figures are made of a grid. Give {what}, or leave out --out.")


@dataclass(frozen=True)
class _Place:
    """Where a grid is done, and what becomes of it: options of both commands."""

    folder: Path
    site: str | None
    model: str | None
    device: str
    name: str | None
    out: Path | None
    trust_remote_code: bool
    strict: bool
    dry_run: bool
    loading: dict[str, Any]


def _preserve_grid(
    output: Output,
    request: "Request",
    sets: list[str],
    shares: list[float],
    decomposition: str | None,
    place: _Place,
) -> None:
    from lmri.cli.requests import build_tasks
    from lmri.lesions.experiments.preservation import preservation_grid, preservation_outcome
    from lmri.study import open_study

    study = open_study(place.folder)
    at = place.site or _common_site(study, sets, decomposition if shares else None)
    opened = [study.networks(name, at) for name in sets]
    if shares and decomposition is None and sets:  # that of the networks, which are kept beside its strongest neurons
        decomposition = str(study.entries.find("networks", sets[0], at).inputs["decomposition"])
    maps = study.decomposition(decomposition, at) if shares else None
    grid = preservation_grid(opened, maps, shares)
    tasks = build_tasks(study, request)
    shown: dict[str, Any] = {"networks": sets}
    inputs: dict[str, Any] = {"networks": sets} if sets else {}
    if maps is not None:
        shown |= {"shares": shares, "decomposition": maps.method}
        inputs["decomposition"] = maps.method

    def conditions() -> "dict[str, Intervention]":
        from lmri.cli.requests import intervention_maker

        make = intervention_maker(study, request, grid[0].network.space.site)
        return {one.name: make(one.network) for one in grid}

    label = place.name or "-".join(["preserve", *sets, *(["share-of", maps.method] if maps is not None else [])])
    first = [*opened, *([maps] if maps is not None else [])][0]
    baseline = str(request.options["baseline"])
    work = _Grid(study, request, first, conditions, tasks, label, shown, inputs)
    _run(output, work, place, lambda scores: preservation_outcome(scores, grid, baseline))


def _common_site(study: "Study", sets: Sequence[str], decomposition: str | None) -> str | None:
    """Find the one site at which all sets are; None where there is a choice, or nothing, as the study will say."""
    named = [("networks", name) for name in sets] + ([("decompositions", decomposition)] if decomposition else [])
    sites = [{one.site for one in study.entries.list(kind) if one.name == name} for kind, name in named]
    if not sites or not all(sites):
        return None
    common = set.intersection(*sites)
    if not common:
        found = "; ".join(f"{name!r} at {', '.join(sorted(own))}" for (_, name), own in zip(named, sites, strict=True))
        raise ValueError(
            f"These are at different sites: {found}. Neurons of two sites make no grid: give sets of one site."
        )
    return common.pop() if len(common) == 1 else None


def _dose_grid(
    output: Output,
    request: "Request",
    gains: list[float],
    offsets: list[float],
    along_sign: bool,
    splits: list[str],
    place: _Place,
) -> None:
    from lmri.lesions.experiments.amplification import amplification_outcome, dose_conditions, dose_grid
    from lmri.study import open_study

    study = open_study(place.folder)
    networks = study.networks(request.networks, place.site)
    grid = dose_grid(networks, gains, offsets, along_sign)
    tasks = split_tasks(study, request, splits)
    label = place.name or f"amplify-{request.networks}-doses"
    shown = {"networks": [request.networks], "splits": splits}
    work = _Grid(
        study, request, networks, lambda: dose_conditions(grid), tasks, label, shown, {"networks": [request.networks]}
    )
    _run(output, work, place, lambda scores: amplification_outcome(scores, grid))


def split_tasks(study: "Study", request: "Request", splits: Sequence[str]) -> "list[Task]":
    """Make the tasks of a request once for every split, each named after its split.

    Named tasks have splits of their own; texts to be predicted, and classification files, are halved by a hash into
    *select* and *test*, as all of them were held out already.
    """
    from lmri.cli.requests import build_tasks
    from lmri.storage.splits import SPLITS

    if len(set(splits)) < len(splits) or not set(splits) <= set(SPLITS):
        raise ValueError(f"--split is {', '.join(splits)}; accepted are {', '.join(SPLITS)}, each once.")
    return [_of_split(task, split) for split in splits for task in build_tasks(study, replace(request, split=split))]


def _of_split(task: "Task", split: str) -> "Task":
    from lmri.lesions.tasks import Classification, Perplexity
    from lmri.storage import text_hash

    name, note = f"{task.info.name}-{split}", task.info.note
    if task.info.split == split:
        task.info = replace(task.info, name=name)
        return task
    if split == "fit":
        raise ValueError(
            f"--split is fit, but {task.info.name!r} was held out whole, so it has select and test only. Give one of "
            "these, or both."
        )
    if isinstance(task, Perplexity):
        assigned = _halved([text_hash(text) for text in task.texts], task.texts, task.info.name)
        kept = [text for text, own in zip(task.texts, assigned, strict=True) if own == split]
        return Perplexity(kept, name, task.batch_size, split=split, note=note)
    if isinstance(task, Classification):
        assigned = _halved(task.clusters, [list(item.values()) for item in task.items], task.info.name)
        places = [place for place, own in enumerate(assigned) if own == split]
        return Classification(
            [task.items[place] for place in places],
            [task.labels[place] for place in places],
            task.verbalizer,
            task.prompt,
            [task.clusters[place] for place in places],
            name,
            task.batch_size,
            scoring=task.info.scoring,
            also=task.info.also,
            positive=task.info.positive,
            max_new_tokens=task.max_new_tokens,
            aliases=task.aliases,
            split=split,
        )
    raise ValueError(f"{task.info.name!r} has no splits. Score it with one dose.")


def _halved(clusters: Sequence[str], texts: Sequence[Any], name: str) -> list[str]:
    """Assign items to select and test by a hash, with the first seed that gives at least a third to either."""
    from lmri.exceptions import DataWarning
    from lmri.storage.splits import split_clusters

    fewest = max(1, len(set(clusters)) // 3)
    for seed in range(100):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # of an empty half: then comes the next seed
            assigned = split_clusters(clusters, texts, (0.0, 0.5, 0.5), seed)
        sides = dict(zip(clusters, assigned, strict=True)).values()
        if min(list(sides).count(side) for side in ("select", "test")) >= fewest:
            return assigned
    raise ValueError(
        f"The {len(set(clusters))} texts of {name!r} could not be halved into select and test. Give a task with more "
        "texts, or one dose, for which nothing is chosen."
    )


# -- any grid ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """What is to be scored, and what its entries in the study say of it."""

    study: "Study"
    request: "Request"
    networks: "NetworkSet"  # of the site; controls are measured there
    conditions: "Callable[[], Mapping[str, Intervention]]"  # loads torch
    tasks: "list[Task]"
    label: str
    shown: dict[str, Any]
    inputs: dict[str, Any]

    @property
    def site(self) -> str:
        """Of the neurons."""
        return self.networks.space.site


def _run(output: Output, work: _Grid, place: _Place, make: "Callable[[Scores], Outcome]") -> None:
    """Score a grid unless its scores are there, store what came of it, and show it; or only say what it would cost."""
    from lmri.cli.requests import check_not_learned, check_options, load_model_of
    from lmri.storage import check_name, check_writable

    check_name(work.label)
    if not place.dry_run:
        check_writable(work.study.root)
    if work.request.n_controls < 0:
        raise ValueError(f"--n-controls is {work.request.n_controls}; it must be at least 0.")
    if "shared" in work.request.families:
        raise ValueError(
            "--controls is 'shared', but shared controls are larger than their network, and here a larger set leaves "
            "or changes more. Accepted are layer, energy and index."
        )
    if work.request.kind == "preserve":
        check_options(work.study, work.request, work.networks)
    else:  # a grid has more than the one dose that is checked there
        one = {"gain": 1.0, "offset": None}
        check_options(work.study, replace(work.request, options=one), work.networks)
    check_not_learned(place.model, work.tasks)
    with output.progress("Loading the model"):
        model, tokenizer = load_model_of(work.study, place.model, place.device, place.trust_remote_code, place.loading)
    if place.dry_run:
        _say_cost(output, work, model, tokenizer)
        return
    scores = _score(output, work, model, tokenizer, place.strict)
    outcome = make(scores)
    parameters = {**work.request.shown(), **work.shown, "seed": work.request.seed}
    work.study.save_experiment(outcome, work.label, work.site, {**work.inputs, "scores": work.label}, parameters)
    _show(output, work, outcome, place)


def _score(output: Output, work: _Grid, model: Any, tokenizer: Any, strict: bool) -> "Scores":
    from lmri.cli.requests import item_store, make_controls
    from lmri.lesions.evaluation import evaluate, identity
    from lmri.lesions.scores.stored import scores_inputs

    study, request, conditions = work.study, work.request, work.conditions()
    controls = make_controls(study, request, work.networks, model) if request.n_controls else []
    made_of = identity(model, work.tasks, conditions, controls, request.seed)
    shown = {**request.shown(), **work.shown}
    inputs = scores_inputs(study, None, work.site, made_of)
    if not study.entries.has("scores", work.site, work.label, inputs, {**shown, "seed": request.seed}):
        with output.progress(f"Scoring {len(conditions)} conditions and their controls") as progress:
            scores = evaluate(
                model, tokenizer, work.tasks, conditions, controls, request.seed, strict, progress,
                store=item_store(study),
            )  # fmt: skip
        study.save_scores(scores, work.label, work.site, None, shown)
    return study.scores(work.label, work.site)


def _say_cost(output: Output, work: _Grid, model: Any, tokenizer: Any) -> None:
    from lmri.cli.requests import item_store, make_controls
    from lmri.lesions.evaluation import estimate_cost

    conditions, n_controls = work.conditions(), work.request.n_controls
    controls = make_controls(work.study, work.request, work.networks, model) if n_controls else []
    with output.progress("Scoring the intact model"):
        cost = estimate_cost(
            model, tokenizer, work.tasks, conditions, controls, work.request.seed, item_store(work.study)
        )
    total = float(cost["total_seconds"].sum())
    output.table(cost.round({"seconds": 2, "total_seconds": 0}))
    output.say(
        f"The grid has {len(conditions)} conditions with up to {n_controls} controls each, and takes about "
        f"{f'{total / 60:.0f} minutes' if total > 90 else f'{total:.0f} seconds'} here. Nothing was stored."
    )
    output.result({"cost": records(cost), "n_conditions": len(conditions), "total_seconds": total})


def _show(output: Output, work: _Grid, outcome: "Outcome", place: _Place) -> None:
    # All doses of all networks fill pages; where there are best ones, the others are for the files.
    shown = {stem: one for stem, one in outcome.layouts.items() if stem == "best" or "best" not in outcome.layouts}
    for stem, layout in shown.items():
        output.table(layout, f"{outcome.title} ({stem})")
    output.say(outcome.text)
    output.say(f"Stored as scores and experiment {work.label} at {work.site}.")
    if place.out is not None:
        outcome.write(place.out)
        output.say(f"Tables and figures: {quote(place.out)}")
    main = next(iter(outcome.tables.values()))
    output.result(
        {"name": work.label, "site": work.site, "text": outcome.text, "table": records(main)}
        | {stem: records(table) for stem, table in outcome.tables.items() if stem == "best"}
    )
