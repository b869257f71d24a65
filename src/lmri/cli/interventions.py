"""Commands that lesion, preserve or amplify networks: once, or over a grid of sizes or doses."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import Output, check_new, quote, records
from lmri.cli.options import (
    Baseline,
    Controls,
    DryRun,
    Families,
    Networks,
    OutFolder,
    PaperModel,
    Positions,
    Printing,
    ScoresName,
    Scoring,
    Seed,
    Seeds,
    SiteOption,
    Spare,
    Split,
    StopAfter,
    Strict,
    StudyFolder,
    StudyModel,
    command,
)
from lmri.cli.scores import pivot_by_task, run_time
from lmri.models.study_model import ModelSource

if TYPE_CHECKING:
    from lmri.lesions.plans import Plan, StoredScores
    from lmri.storage.outcome import Outcome

GridFolder = Annotated[
    Path | None,
    typer.Option(help="New folder to write tables and figures of a grid to.", show_default="only stored in the study"),
]


@command
def lesion(
    study: StudyFolder,
    source: StudyModel,
    scored: Scoring,
    printing: Printing,
    networks: Annotated[
        str | None, typer.Option(help="Name of the network set; not needed with --paper or --roi.", show_default=False)
    ] = None,
    roi: Annotated[
        list[Path] | None,
        typer.Option(
            help="Image of the neurons to lesion instead, as lmri view saves it or any viewer draws it: all voxels "
            "that are not 0. May be repeated.",
            show_default=False,
        ),
    ] = None,
    n_controls: Controls = 20,
    controls: Families = None,
    stop_after: StopAfter = 0,
    split: Split = "",
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="The paper's choices: temporal FastICA with the solver's signs, 10 maps, one-sided z > 3.6, made if "
            "they are not there; zeros; no controls but random 15 %.",
        ),
    ] = False,
    paper_model: PaperModel = None,
    dry_run: DryRun = False,
    baseline: Baseline = "zero",
    n_seeds: Seeds = 1,
    spare: Spare = None,
    positions: Positions = None,
    site: SiteOption = None,
    name: ScoresName = None,
    out: OutFolder = None,
    strict: Strict = False,
    seed: Seed = 0,
) -> None:
    """Silence each network, and their union, or regions of interest, and score the model beside matched controls."""
    from lmri.lesions.controls import ControlOptions
    from lmri.lesions.experiments.lesion_plan import plan_lesion
    from lmri.lesions.requests import Silencing, lesion_request
    from lmri.study import open_study

    output = printing.output
    check_new("--out", out)
    silencing = Silencing(baseline, n_seeds, spare, _positions(positions))
    matched = ControlOptions(controls, n_controls, stop_after)
    request = lesion_request(networks, roi or (), silencing, scored.options(split), matched, seed, paper)
    opened, place = open_study(study), ModelSource(**vars(source))
    plan = plan_lesion(
        opened, request, lambda: opened.decompose(paper=True, site=site, seed=seed).method, site, name,
        place.location, paper_model=paper_model, paper=paper,
    )  # fmt: skip
    if dry_run:
        _say_cost(output, plan, place)
        return
    found = _run(output, plan, place, strict)
    if out is not None and found.outcome is not None:
        found.outcome.write(out)
    _say_scores(output, study, plan, found, out)


@command
def preserve(
    study: StudyFolder,
    source: StudyModel,
    scored: Scoring,
    printing: Printing,
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
    n_controls: Controls = 20,
    controls: Families = None,
    split: Split = "",
    dry_run: DryRun = False,
    baseline: Baseline = "zero",
    site: SiteOption = None,
    name: ScoresName = None,
    out: GridFolder = None,
    strict: Strict = False,
    seed: Seed = 0,
) -> None:
    """Silence all neurons but those of networks, or of a share of all, and score the model beside matched controls."""
    from lmri.lesions.controls import ControlOptions
    from lmri.lesions.experiments.grids import Sizes, plan_preservation
    from lmri.lesions.requests import Request
    from lmri.study import open_study

    sizes = Sizes(networks or (), share or (), decomposition)
    _check_out(out, sizes.is_grid, "several --networks, or --share")
    matched = ControlOptions(controls, n_controls)
    request = Request("preserve", {"baseline": baseline}, sizes.first, scored.options(split), matched, seed)
    place = ModelSource(**vars(source))
    plan = plan_preservation(open_study(study), request, sizes, site, name, place.location)
    _carry_out(printing.output, study, plan, place, strict, dry_run, out)


@command
def amplify(
    study: StudyFolder,
    networks: Networks,
    source: StudyModel,
    scored: Scoring,
    printing: Printing,
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
    n_controls: Controls = 20,
    controls: Families = None,
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
    name: ScoresName = None,
    out: GridFolder = None,
    strict: Strict = False,
    seed: Seed = 0,
) -> None:
    """Amplify each network, by one dose or several, and score the model beside matched controls."""
    from lmri.lesions.controls import ControlOptions
    from lmri.lesions.experiments.grids import Doses, plan_amplification
    from lmri.lesions.requests import Request
    from lmri.study import open_study

    doses = Doses(gain or (), offset or (), along_sign, split or ())
    _check_out(out, doses.is_grid, "several doses")
    tasks, matched = scored.options(doses.single_split), ControlOptions(controls, n_controls)
    request = Request("amplify", doses.options(), networks, tasks, matched, seed)
    place = ModelSource(**vars(source))
    plan = plan_amplification(open_study(study), request, doses, site, name, place.location)
    _carry_out(printing.output, study, plan, place, strict, dry_run, out)


def _positions(text: str | None) -> str | list[int] | None:
    """Read ``--positions``: a word, which is checked where it is used, or positions."""
    parts = [part.strip() for part in (text or "").split(",")]
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else text


def _check_out(out: Path | None, is_grid: bool, accepted: str) -> None:
    if out is not None and not is_grid:
        raise ValueError(
            f"--out is {out}, but tables and figures are made of a grid. Give {accepted}, or leave out --out."
        )
    check_new("--out", out)


def _carry_out(
    output: Output, study: Path, plan: "Plan", place: ModelSource, strict: bool, dry_run: bool, out: Path | None
) -> None:
    """Run a plan and print its scores, or those of its grid; or print the estimated cost."""
    if dry_run:
        _say_cost(output, plan, place)
        return
    found = _run(output, plan, place, strict)
    if found.outcome is None:
        _say_scores(output, study, plan, found)
    else:
        _say_grid(output, found, found.outcome, out)


def _run(output: Output, plan: "Plan", place: ModelSource, strict: bool) -> "StoredScores":
    with output.progress("Loading the model") as progress:
        return plan.run(place, strict, progress)


def _say_cost(output: Output, plan: "Plan", place: ModelSource) -> None:
    with output.progress("Loading the model"):
        cost = plan.cost(place)
    conditions, n_controls = len(plan.conditions()), plan.request.controls.n
    total = float(cost["total_seconds"].sum())
    output.table(cost.round({"seconds": 2, "total_seconds": 0}))
    if plan.is_grid:
        said = f"The grid has {conditions} conditions with up to {n_controls} controls each, and takes"
    else:
        said = f"{conditions} conditions with {n_controls} controls each take"
    output.say(f"{said} about {run_time(total)} here. Nothing was stored.")
    n_conditions = {"n_conditions": conditions} if plan.is_grid else {}
    output.result({"cost": records(cost), **n_conditions, "total_seconds": total})


def _say_scores(output: Output, study: Path, plan: "Plan", found: "StoredScores", out: Path | None = None) -> None:
    scores, networks, request = found.scores, plan.networks, plan.request
    summary, n_controls = scores.summary(), request.controls.n
    units = ", ".join(sorted({task.metric.replace("_", " ") for task in scores.tasks}))
    better = "more is better" if scores.tasks[0].higher_is_better else "less is better"
    output.table(
        pivot_by_task(summary),
        f"{found.name} at {found.site}: {units} ({better}) of the intact model, and the difference from it"
        + (f"; p beside {n_controls} controls" if n_controls else ""),
    )
    if not networks.members.any():
        output.say(f"Every network of {networks.method} is empty: there was nothing to {request.kind}.")
    labels = scores.label_counts()
    if len(labels):
        output.table(labels.round(3), "Labels")
    if not n_controls:
        output.say("Without controls a difference says nothing of these neurons: --n-controls 20.")
    if (scores.conditions["kind"] == "control").any():
        output.say(
            f"The smallest possible p is {scores.p_floor:.3g}; for one network alone to reach q ≤ 0.05, "
            f"--n-controls {scores.controls_needed} are needed. Write it all up: lmri report {study}"
        )
    if out is not None:
        output.say(f"Tables and figures: {quote(out)}")
    if found.not_stored:
        output.say(f"This write-up was not stored in the study, which has one of another kind: {found.not_stored}")
    output.result(
        {
            "name": found.name,
            "site": found.site,
            "p_floor": scores.p_floor,
            "summary": records(summary),
            "labels": records(labels),
        }
    )


def _say_grid(output: Output, found: "StoredScores", outcome: "Outcome", out: Path | None) -> None:
    # All doses of all networks fill pages; where there are best ones, the others are for the files.
    shown = {stem: one for stem, one in outcome.layouts.items() if stem == "best" or "best" not in outcome.layouts}
    for stem, layout in shown.items():
        output.table(layout, f"{outcome.title} ({stem})")
    output.say(outcome.text)
    output.say(f"Stored as scores and experiment {found.name} at {found.site}.")
    if out is not None:
        outcome.write(out)
        output.say(f"Tables and figures: {quote(out)}")
    main = next(iter(outcome.tables.values()))
    output.result(
        {"name": found.name, "site": found.site, "text": outcome.text, "table": records(main)}
        | {stem: records(table) for stem, table in outcome.tables.items() if stem == "best"}
    )
