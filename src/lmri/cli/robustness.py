"""The command `robustness`."""

from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import Output, check_new, quote, records
from lmri.cli.options import (
    Folder,
    Networks,
    Printing,
    Scoring,
    Seed,
    SiteOption,
    Split,
    Strict,
    StudyModel,
    WritableStudy,
    command,
)
from lmri.cli.scores import run_time
from lmri.lesions.baselines.registry import baseline_forms
from lmri.models.study_model import ModelSource

if TYPE_CHECKING:
    from lmri.lesions.experiments.robustness import Robustness
    from lmri.lesions.experiments.robustness_plan import RobustnessPlan

FULL_VARY = "site,baseline,threshold,seed,method,sinks,controls"

_FORMS = baseline_forms()


@command
def robustness(
    study: WritableStudy,
    networks: Networks,
    source: StudyModel,
    scored: Scoring,
    printing: Printing,
    network: Annotated[
        str, typer.Option(help="Lesioned network: union, or the name or number of one network.")
    ] = "union",
    vary: Annotated[str, typer.Option(help="Analysis choices to vary, one at a time.")] = FULL_VARY,
    baselines: Annotated[
        str | None,
        typer.Option(
            help=f"Baselines, comma-separated: {', '.join(_FORMS[:-1])}, or {_FORMS[-1]}.",
            show_default="the mean of every fitted corpus, and resampling from it",
        ),
    ] = None,
    thresholds: Annotated[
        str, typer.Option(help="Thresholds, as in lmri threshold --by.")
    ] = "z:2.5,z:3,z:3.5,top:0.01",
    seeds: Annotated[str, typer.Option(help="Seeds of alternative decompositions.")] = "1,2,3",
    methods: Annotated[
        str, typer.Option(help="Methods of alternative decompositions.")
    ] = "ica,canica,fastica-temporal",
    n_controls: Annotated[int, typer.Option(help="Number of matched controls per variant; at least 19.")] = 39,
    controls: Annotated[
        str,
        typer.Option(help="Matching of the controls of the base specification, layer or energy; the other is varied."),
    ] = "layer",
    split: Split = "",
    site: SiteOption = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name under which the result is stored.", show_default="robustness, the networks and the target"
        ),
    ] = None,
    out: Folder = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the specifications, estimate the run time of scoring, and exit.")
    ] = False,
    strict: Strict = False,
    seed: Seed = 0,
) -> None:
    """Test whether a lesion effect is robust to analysis choices: site, baseline, threshold, seed, method and so on."""
    from lmri.lesions.experiments.robustness_plan import RobustnessOptions, RobustnessPlan, Variations

    output = printing.output
    check_new("--out", out)
    variations = Variations(
        _split(vary),
        None if baselines is None else _split(baselines),
        _split(thresholds),
        _parse_seeds(seeds),
        _split(methods),
    )
    options = RobustnessOptions(networks, network, variations, scored.options(split), n_controls, controls, seed)
    plan = RobustnessPlan.of(study.open(), options, site, name)
    model_source = ModelSource(**vars(source))
    if dry_run:
        _say_cost(output, plan, model_source)
        return
    with output.progress("Loading the model") as progress:
        stored = plan.run(model_source, strict, progress)
    _say(output, stored.result)
    output.say(f"Stored as {stored.name!r} at {stored.site}.")
    if out is not None:
        stored.outcome.write(out)
        output.say(f"Tables and figure: {quote(out)}")
    output.result(
        {
            "name": stored.name,
            "site": stored.site,
            "target": stored.result.target,
            "text": stored.result.text,
            "survival": records(stored.result.survival),
            "specifications": records(stored.result.table),
        }
    )


def _split(text: str) -> list[str]:
    return [part for part in map(str.strip, text.split(",")) if part]


def _parse_seeds(text: str) -> list[int]:
    seeds = _split(text)
    if invalid := [seed for seed in seeds if not seed.isdecimal()]:
        raise ValueError(f"--seeds contains {invalid[0]!r}; accepted values are whole numbers, such as 1,2,3.")
    return [int(seed) for seed in seeds]


def _say_cost(output: Output, plan: "RobustnessPlan", model_source: ModelSource) -> None:
    """Print the specifications and the estimated run time of scoring them, without fitting any decomposition."""
    with output.progress("Loading the model"):
        cost = plan.cost(model_source)
    total, choices = float(cost["total_seconds"].sum()), plan.specifications
    output.say(f"{len(choices)} specifications: {'; '.join(choices)}.")
    output.say(
        f"Estimated run time: at most about {run_time(total)} with {plan.options.n_controls} controls each, plus the "
        "decompositions that are not stored yet. Nothing was stored."
    )
    n_evaluations = int(cost["n_evaluations"].iloc[0])
    output.result({"choices": choices, "n_evaluations": n_evaluations, "total_seconds": total})


def _say(output: Output, result: "Robustness") -> None:
    for name, rows in result.table.groupby("task", sort=False):
        table = rows[["kind", "choice", "n_neurons", "r", "effect", "effect_low", "effect_high", "effect_sd", "p"]]
        shown = table.rename(
            columns={"n_neurons": "neurons", "effect_low": "from", "effect_high": "to", "effect_sd": "in sd"}
        ).round({"r": 2, "effect": 4, "from": 4, "to": 4, "in sd": 1, "p": 3})
        conclusion = [f"{row.status}: {row.reason}" if row.reason else str(row.status) for row in rows.itertuples()]
        output.table(shown.assign(conclusion=conclusion), f"{name} ({rows['metric'].iloc[0].replace('_', ' ')})")
    output.say(result.text)
