"""The command that tests whether a result is robust to other choices."""

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
    StudyFolder,
    StudyModel,
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
    study: StudyFolder,
    networks: Networks,
    source: StudyModel,
    scored: Scoring,
    printing: Printing,
    network: Annotated[str, typer.Option(help="union, or one network by its name or number.")] = "union",
    vary: Annotated[str, typer.Option(help="Kinds of choice to vary, one at a time.")] = FULL_VARY,
    baselines: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(_FORMS[:-1])}, or {_FORMS[-1]}.",
            show_default="the mean of every fitted corpus, and resampling from it",
        ),
    ] = None,
    thresholds: Annotated[str, typer.Option(help="As of lmri threshold --by.")] = "z:2.5,z:3,z:3.5,top:0.01",
    seeds: Annotated[str, typer.Option(help="Of other decompositions.")] = "1,2,3",
    methods: Annotated[str, typer.Option(help="Other decompositions.")] = "ica,canica,fastica-temporal",
    n_controls: Annotated[int, typer.Option(help="Matched controls of each variant; at least 19.")] = 39,
    controls: Annotated[
        str, typer.Option(help="Family of the base, layer or energy; the other one is the variant.")
    ] = "layer",
    split: Split = "",
    site: SiteOption = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the result.", show_default="robustness, the networks and the target")
    ] = None,
    out: Folder = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be run and how long it would take to score.")
    ] = False,
    strict: Strict = False,
    seed: Seed = 0,
) -> None:
    """Ask whether what a lesion shows survives other choices: site, baseline, threshold, seed, method and so on."""
    from lmri.lesions.experiments.robustness_plan import RobustnessOptions, RobustnessPlan, Variations
    from lmri.study import open_study

    output = printing.output
    check_new("--out", out)
    variations = Variations(
        _listed(vary),
        None if baselines is None else _listed(baselines),
        _listed(thresholds),
        _numbers(seeds),
        _listed(methods),
    )
    options = RobustnessOptions(networks, network, variations, scored.options(split), n_controls, controls, seed)
    plan = RobustnessPlan.of(open_study(study), options, site, name)
    place = ModelSource(**vars(source))
    if dry_run:
        _say_cost(output, plan, place)
        return
    with output.progress("Loading the model") as progress:
        stored = plan.run(place, strict, progress)
    _say(output, stored.found)
    output.say(f"Stored as {stored.name!r} at {stored.site}.")
    if out is not None:
        stored.outcome.write(out)
        output.say(f"Tables and figure: {quote(out)}")
    output.result(
        {
            "name": stored.name,
            "site": stored.site,
            "target": stored.found.target,
            "text": stored.found.text,
            "survival": records(stored.found.survival),
            "specifications": records(stored.found.table),
        }
    )


def _listed(text: str) -> list[str]:
    return [part for part in (one.strip() for one in text.split(",")) if part]


def _numbers(text: str) -> list[int]:
    wrong = [one for one in _listed(text) if not one.isdecimal()]
    if wrong:
        raise ValueError(f"--seeds holds {wrong[0]!r}; accepted are whole numbers, such as 1,2,3.")
    return [int(one) for one in _listed(text)]


def _say_cost(output: Output, plan: "RobustnessPlan", place: ModelSource) -> None:
    """Print the specifications and the estimated time of scoring them; nothing is fitted."""
    with output.progress("Loading the model"):
        cost = plan.cost(place)
    total, choices = float(cost["total_seconds"].sum()), plan.specifications
    output.say(f"{len(choices)} specifications: {'; '.join(choices)}.")
    output.say(
        f"Scoring them with {plan.options.n_controls} controls each takes at most about {run_time(total)} here, beside "
        "the decompositions that are not there yet. Nothing was stored."
    )
    n_evaluations = int(cost["n_evaluations"].iloc[0])
    output.result({"choices": choices, "n_evaluations": n_evaluations, "total_seconds": total})


def _say(output: Output, found: "Robustness") -> None:
    for name, own in found.table.groupby("task", sort=False):
        table = own[["kind", "choice", "n_neurons", "r", "effect", "effect_low", "effect_high", "effect_sd", "p"]]
        shown = table.rename(
            columns={"n_neurons": "neurons", "effect_low": "from", "effect_high": "to", "effect_sd": "in sd"}
        ).round({"r": 2, "effect": 4, "from": 4, "to": 4, "in sd": 1, "p": 3})
        conclusion = [f"{row.status}: {row.reason}" if row.reason else str(row.status) for row in own.itertuples()]
        output.table(shown.assign(conclusion=conclusion), f"{name} ({own['metric'].iloc[0].replace('_', ' ')})")
    output.say(found.text)
