"""The commands `lesion`, `preserve` and `amplify`, for single interventions or a grid of sizes or doses."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import Output, check_new, pluralize, quote, records
from lmri.cli.options import (
    PAPER,
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
    StudyModel,
    StudyScope,
    WritableStudy,
    command,
)
from lmri.cli.scores import pivot_by_task, run_time
from lmri.models.study_model import ModelSource
from lmri.networks.roi_values import MASK
from lmri.networks.stored_rois import roi_parameters

if TYPE_CHECKING:
    from lmri.lesions.plans import Plan, StoredScores
    from lmri.storage.outcome import Outcome

GridFolder = Annotated[
    Path | None,
    typer.Option(help="New folder for tables and figures of a grid.", show_default="only stored in the study"),
]


@command
def lesion(
    study: WritableStudy,
    source: StudyModel,
    scored: Scoring,
    printing: Printing,
    networks: Annotated[
        str | None,
        typer.Option(help="Name of the network set to lesion, for example ica-z3.", show_default=False),
    ] = None,
    roi: Annotated[
        list[Path] | None,
        typer.Option(
            help="Image of regions of interest to lesion instead of networks: a mask, a label image (one region per "
            "label) or a thresholded weight map. Can be repeated.",
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
            help="Lesion as in the paper: 10 components of temporal FastICA, computed if they are not stored; neurons "
            "with z > 3.6; activity set to 0; a random 15 % of all neurons as the only control.",
            rich_help_panel=PAPER,
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
    """Lesion networks or regions of interest, and measure how much worse the model performs.

    Each network in the set given by --networks is lesioned separately, then all of them together. Each lesion is
    compared with lesions of random neurons (controls). The weights of the model are not changed.

    Score the model on the held-out texts of the study, with 99 controls:
      lmri lesion study --networks ica-z3 --n-controls 99

    Score it on a benchmark, or on texts of your own:
      lmri lesion study --networks ica-z3 --task sst2:dev.jsonl
      lmri lesion study --networks ica-z3 --task perplexity:other.txt

    Keep lesioned neurons at their mean over the corpus news, instead of at 0:
      lmri lesion study --networks ica-z3 --baseline news

    Lesion a region that was drawn in the viewer:
      lmri lesion study --roi study/lmri/sub-gpt2/rois/mlpout/mine.nii.gz
    """
    from lmri.lesions.controls import ControlOptions
    from lmri.lesions.experiments.lesion_plan import plan_lesion
    from lmri.lesions.requests import Silencing, lesion_request

    output = printing.output
    check_new("--out", out)
    silencing = Silencing(baseline, n_seeds, spare, _positions(positions))
    matched = ControlOptions(controls, n_controls, stop_after)
    request = lesion_request(networks, roi or (), silencing, scored.options(split), matched, seed, paper)
    opened, model_source = study.open(), ModelSource(**vars(source))
    plan = plan_lesion(
        opened, request, lambda: opened.decompose(paper=True, site=site, seed=seed).method, site, name,
        model_source.location, paper_model=paper_model, paper=paper,
    )  # fmt: skip
    if dry_run:
        _say_cost(output, plan, model_source)
        return
    stored = _run(output, plan, model_source, strict)
    if out is not None and stored.outcome is not None:
        stored.outcome.write(out)
    _say_scores(output, study, plan, stored, out)


@command
def preserve(
    study: WritableStudy,
    source: StudyModel,
    scored: Scoring,
    printing: Printing,
    networks: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of a network set; may be repeated. With several sets, the union of each is preserved.",
            show_default=False,
        ),
    ] = None,
    share: Annotated[
        list[float] | None,
        typer.Option(
            help="Fraction of all neurons to preserve, those with the largest |z| over the maps of --decomposition; "
            "may be repeated.",
            show_default=False,
        ),
    ] = None,
    decomposition: Annotated[
        str | None,
        typer.Option(help="Name of the decomposition for --share; required if there are several.", show_default=False),
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
    """Lesion all neurons outside networks, or all but a fraction, and compare the model's scores with controls."""
    from lmri.lesions.controls import ControlOptions
    from lmri.lesions.experiments.grids import Sizes, plan_preservation
    from lmri.lesions.requests import Request

    sizes = Sizes(networks or (), share or (), decomposition)
    _check_out(out, sizes.is_grid, "several --networks, or --share")
    matched = ControlOptions(controls, n_controls)
    request = Request("preserve", {"baseline": baseline}, sizes.first, scored.options(split), matched, seed)
    model_source = ModelSource(**vars(source))
    plan = plan_preservation(study.open(), request, sizes, site, name, model_source.location)
    _carry_out(printing.output, study, plan, model_source, strict, dry_run, out)


@command
def amplify(
    study: WritableStudy,
    networks: Networks,
    source: StudyModel,
    scored: Scoring,
    printing: Printing,
    gain: Annotated[
        list[float] | None,
        typer.Option(
            help="Factor by which the activity of a network's neurons is multiplied; may be repeated.",
            show_default=False,
        ),
    ] = None,
    offset: Annotated[
        list[float] | None,
        typer.Option(
            help="Constant added to the activity of a network's neurons; may be repeated.", show_default=False
        ),
    ] = None,
    along_sign: Annotated[
        bool,
        typer.Option("--along-sign", help="Add --offset to neurons of positive weight, subtract it from the others."),
    ] = False,
    n_controls: Controls = 20,
    controls: Families = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="Split to score: fit, select or test. Of several doses, the best is chosen on select and reported on "
            "test. Named tasks have these splits; other texts are divided into halves by a hash.",
            show_default="all items for one dose, select and test for several",
        ),
    ] = None,
    dry_run: DryRun = False,
    site: SiteOption = None,
    name: ScoresName = None,
    out: GridFolder = None,
    strict: Strict = False,
    seed: Seed = 0,
) -> None:
    """Amplify each network at one or several doses, and compare the model's scores with matched controls."""
    from lmri.lesions.controls import ControlOptions
    from lmri.lesions.experiments.grids import Doses, plan_amplification
    from lmri.lesions.requests import Request

    doses = Doses(gain or (), offset or (), along_sign, split or ())
    _check_out(out, doses.is_grid, "several doses")
    tasks, matched = scored.options(doses.single_split), ControlOptions(controls, n_controls)
    request = Request("amplify", doses.options(), networks, tasks, matched, seed)
    model_source = ModelSource(**vars(source))
    plan = plan_amplification(study.open(), request, doses, site, name, model_source.location)
    _carry_out(printing.output, study, plan, model_source, strict, dry_run, out)


def _positions(text: str | None) -> str | list[int] | None:
    """Parse ``--positions``: a list of positions, or a word, which is checked later."""
    parts = [part.strip() for part in (text or "").split(",")]
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else text


def _check_out(out: Path | None, is_grid: bool, accepted: str) -> None:
    if out is not None and not is_grid:
        raise ValueError(
            f"--out is {out}, but tables and figures are only written for a grid. Add {accepted}, or omit --out."
        )
    check_new("--out", out)


def _carry_out(
    output: Output,
    study: StudyScope,
    plan: "Plan",
    model_source: ModelSource,
    strict: bool,
    dry_run: bool,
    out: Path | None,
) -> None:
    """Run a plan and print its scores or its grid, or print only the estimated cost."""
    if dry_run:
        _say_cost(output, plan, model_source)
        return
    stored = _run(output, plan, model_source, strict)
    if stored.outcome is None:
        _say_scores(output, study, plan, stored)
    else:
        _say_grid(output, stored, stored.outcome, out)


def _run(output: Output, plan: "Plan", model_source: ModelSource, strict: bool) -> "StoredScores":
    with output.progress("Loading the model") as progress:
        return plan.run(model_source, strict, progress)


def _say_cost(output: Output, plan: "Plan", model_source: ModelSource) -> None:
    with output.progress("Loading the model"):
        cost = plan.cost(model_source)
    conditions, n_controls = len(plan.conditions()), plan.request.controls.n
    total = float(cost["total_seconds"].sum())
    output.table(cost.round({"seconds": 2, "total_seconds": 0}))
    if plan.is_grid:
        extent = f"a grid of {conditions} conditions with up to {n_controls} controls each"
    else:
        extent = f"{conditions} conditions with {n_controls} controls each"
    output.say(f"Estimated run time: about {run_time(total)} ({extent}). Nothing was stored.")
    n_conditions = {"n_conditions": conditions} if plan.is_grid else {}
    output.result({"cost": records(cost), **n_conditions, "total_seconds": total})


def _say_scores(
    output: Output, study: StudyScope, plan: "Plan", stored: "StoredScores", out: Path | None = None
) -> None:
    scores, networks, request = stored.scores, plan.networks, plan.request
    summary, n_controls = scores.summary(), request.controls.n
    units = ", ".join(sorted({task.metric.replace("_", " ") for task in scores.tasks}))
    better = "higher is better" if scores.tasks[0].higher_is_better else "lower is better"
    output.table(
        pivot_by_task(summary),
        f"{stored.name} at {stored.site}: {units} ({better}) of the intact model, and differences from it"
        + (f"; p relative to {n_controls} controls" if n_controls else ""),
    )
    rois = roi_parameters(networks).get("rois", [])
    for roi in rois:
        label = f", label {roi['label']}" if "label" in roi else ""
        output.say(f"Region {roi['name']}: {pluralize(roi['n_neurons'], 'neuron')} ({roi.get('kind', MASK)}{label}).")
    if not networks.members.any():
        output.say(f"Every network of {networks.method} is empty, so there were no neurons to {request.kind}.")
    labels = scores.label_counts()
    if len(labels):
        output.table(labels.round(3), "Labels")
    if not n_controls:
        output.say("Without matched controls the effect cannot be attributed to these neurons. Add --n-controls 20.")
    if (scores.conditions["kind"] == "control").any():
        output.say(
            f"The smallest possible p is {scores.p_floor:.3g}; a single network can only reach q ≤ 0.05 with at least "
            f"--n-controls {scores.controls_needed}. Write the report: lmri report {quote(study)}"
        )
    if out is not None:
        output.say(f"Tables and figures: {quote(out)}")
    if stored.not_stored:
        output.say(f"The write-up was not stored, because the study has a different one: {stored.not_stored}")
    output.result(
        {
            "name": stored.name,
            "site": stored.site,
            **({"rois": [{"kind": MASK, **roi} for roi in rois]} if rois else {}),
            "p_floor": scores.p_floor,
            "summary": records(summary),
            "labels": records(labels),
        }
    )


def _say_grid(output: Output, stored: "StoredScores", outcome: "Outcome", out: Path | None) -> None:
    # All doses of all networks would fill pages: if there is a table of the best doses, only that one is printed.
    best = {stem: layout for stem, layout in outcome.layouts.items() if stem == "best"}
    shown = best or outcome.layouts
    for stem, layout in shown.items():
        output.table(layout, f"{outcome.title} ({stem})")
    output.say(outcome.text)
    output.say(f"Stored as scores and experiment {stored.name} at {stored.site}.")
    if out is not None:
        outcome.write(out)
        output.say(f"Tables and figures: {quote(out)}")
    main = next(iter(outcome.tables.values()))
    output.result(
        {"name": stored.name, "site": stored.site, "text": outcome.text, "table": records(main)}
        | {stem: records(table) for stem, table in outcome.tables.items() if stem == "best"}
    )
