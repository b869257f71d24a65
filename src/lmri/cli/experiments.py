"""Commands for the questions that several results answer together."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, check_new, quote, records
from lmri.cli.options import Printing, Seed, SiteOption, StudyFolder, command

if TYPE_CHECKING:
    import pandas as pd

    from lmri.lesions.experiments.stored import StoredExperiment

SHOWN = 12

Name = Annotated[
    str | None, typer.Option(help="Of what is stored in the study.", show_default="the command and what it is made of")
]
Out = Annotated[
    Path | None,
    typer.Option(help="New folder to write all tables and figures to as well.", show_default="only in the study"),
]


def _say_stored(output: Output, study: Path, stored: "StoredExperiment[Any]", out: Path | None) -> None:
    output.say(f"Stored as {stored.name}. Write it all up: lmri report {quote(study)}")
    if out is not None:
        stored.outcome.write(out)
        output.say(f"Tables and figures: {quote(out)}")


@command
def dissociate(
    study: StudyFolder,
    printing: Printing,
    scores: Annotated[
        str | None, typer.Argument(metavar="[SCORES]", help="Name of an evaluation; needed if there are several.")
    ] = None,
    site: SiteOption = None,
    network: Annotated[list[str] | None, typer.Option(help="Only this one; give it several times.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this one; give it several times.")] = None,
    name: Name = None,
    out: Out = None,
) -> None:
    """Find double dissociations of stored lesions: one network matters for one task, another for another."""
    from lmri.lesions.experiments.stored import store_dissociations
    from lmri.study import open_study

    output = printing.output
    check_new("--out", out)
    stored = store_dissociations(open_study(study), scores, site, network, task, name)
    table = stored.found.table.sort_values("p", kind="stable")
    shown = [
        "network_a",
        "task_1",
        "network_b",
        "task_2",
        "control_family",
        "interaction",
        "ci_low",
        "ci_high",
        "p",
        "q",
    ]
    output.table(table[shown].head(SHOWN).round({"interaction": 1, "ci_low": 1, "ci_high": 1, "p": 3, "q": 3}))
    output.say(stored.outcome.text)
    _say_stored(output, study, stored, out)
    output.result(stored.found.to_dict())


@command
def templates(
    study: StudyFolder,
    printing: Printing,
    site: SiteOption = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus to take; may be repeated.", show_default="all at the site")
    ] = None,
    method: Annotated[str, typer.Option(help="As for lmri decompose.")] = "fastica-temporal",
    n_components: Annotated[int, typer.Option(help="Maps of each decomposition.")] = 10,
    threshold: Annotated[
        str, typer.Option(help="As for lmri decompose; fdr takes long, as it is for each text.")
    ] = "z:3",
    n_group: Annotated[
        int | None, typer.Option(help="Texts of each corpus that make its templates.", show_default="half")
    ] = None,
    n_individual: Annotated[
        int | None, typer.Option(help="Other texts of each, decomposed one by one.", show_default="the other half")
    ] = None,
    min_volumes: Annotated[int, typer.Option(help="Shorter texts are not drawn.")] = 30,
    iou: Annotated[float, typer.Option(help="Networks that overlap more are the same.")] = 0.2,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper", help="The paper's choices: temporal FastICA, scikit-learn's signs, 10 maps, one-sided z > 1.96."
        ),
    ] = False,
    paper_model: Annotated[
        str | None,
        typer.Option(help="Whose counts of the paper stand beside: gpt2, qwen2.5-3b or chatglm3-6b."),
    ] = None,
    name: Name = None,
    out: Out = None,
    seed: Seed = 0,
) -> None:
    """Make group templates of each corpus, and count how often they come back in single other texts of every corpus."""
    from lmri.lesions.experiments.stored import TemplateOptions, store_templates
    from lmri.study import open_study

    output = printing.output
    check_new("--out", out)
    options = TemplateOptions(
        method, n_components, threshold, n_group, n_individual, min_volumes, iou, paper, paper_model, seed
    )
    with output.progress("Decomposing texts") as progress:
        stored = store_templates(open_study(study), options, site, corpus, name, progress)
    found = stored.found
    for made_by, own in found.table.groupby("templates_of", sort=False):
        output.table(_counted(own), f"Templates of {made_by}")
    output.say(
        f"Networks of single texts with IoU > {iou:g} to a template; in brackets, the 95 % level of random networks "
        f"with the same layer profiles. Of {found.n_individuals} texts, {found.n_not_converged} decompositions did not "
        f"converge, and {found.n_nothing_found} found nothing. Templates and networks of texts were made by this "
        f"command ({method}, threshold {options.used_threshold}): they are no sets of the study."
    )
    _say_stored(output, study, stored, out)
    output.result(
        {
            "templates": records(found.table),
            "n_individuals": found.n_individuals,
            "n_not_converged": found.n_not_converged,
            "n_nothing_found": found.n_nothing_found,
        }
    )


def _counted(own: "pd.DataFrame") -> "pd.DataFrame":
    """Lay one corpus' templates out as the paper does: a row a template, a column a corpus."""
    cells = own.assign(cell=[f"{row.n_above} ({row.chance_95})" for row in own.itertuples()])
    wide = cells.pivot(index="template", columns="label", values="cell")[list(dict.fromkeys(own["label"]))]
    sizes = own.drop_duplicates("template").set_index("template")["n_template"]
    return wide.assign(neurons=sizes).reset_index()
