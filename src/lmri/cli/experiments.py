"""The commands `dissociate` and `templates`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, check_new, quote, records
from lmri.cli.options import Printing, Seed, SiteOption, StudyScope, WritableStudy, command

if TYPE_CHECKING:
    import pandas as pd

    from lmri.lesions.experiments.stored import StoredExperiment

MOST_ROWS = 12
"""Maximum number of interactions printed; the full list is in the JSON output and the study."""

Name = Annotated[
    str | None,
    typer.Option(help="Name under which the result is stored.", show_default="the command and its inputs"),
]
Out = Annotated[
    Path | None,
    typer.Option(help="New folder for a copy of all tables and figures.", show_default="only in the study"),
]


def _say_stored(output: Output, study: StudyScope, stored: "StoredExperiment[Any]", out: Path | None) -> None:
    output.say(f"Stored as {stored.name}. Write the report: lmri report {quote(study)}")
    if out is not None:
        stored.outcome.write(out)
        output.say(f"Tables and figures: {quote(out)}")


@command
def dissociate(
    study: WritableStudy,
    printing: Printing,
    scores: Annotated[
        str | None, typer.Argument(metavar="SCORES", help="Name of an evaluation; required if there are several.")
    ] = None,
    site: SiteOption = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Network to test; may be repeated.", show_default="all")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Task to test; may be repeated.", show_default="all")] = None,
    name: Name = None,
    out: Out = None,
) -> None:
    """Test stored lesions for double dissociations: one network affects one task, and another network another task."""
    from lmri.lesions.experiments.stored import store_dissociations

    output = printing.output
    check_new("--out", out)
    stored = store_dissociations(study.open(), scores, site, network, task, name)
    table = stored.result.table.sort_values("p", kind="stable")
    columns = [
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
    output.table(table[columns].head(MOST_ROWS).round({"interaction": 1, "ci_low": 1, "ci_high": 1, "p": 3, "q": 3}))
    output.say(stored.outcome.text)
    _say_stored(output, study, stored, out)
    output.result(stored.result.to_dict())


@command
def templates(
    study: WritableStudy,
    printing: Printing,
    site: SiteOption = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus to include; may be repeated.", show_default="all at the site")
    ] = None,
    method: Annotated[str, typer.Option(help="Method, as in lmri decompose.")] = "fastica-temporal",
    n_components: Annotated[int, typer.Option(help="Number of maps per decomposition.")] = 10,
    threshold: Annotated[
        str,
        typer.Option(help="Threshold, as in lmri decompose; fdr is slow because it is calibrated for each text."),
    ] = "z:3",
    n_group: Annotated[
        int | None, typer.Option(help="Number of texts per corpus for its templates.", show_default="half")
    ] = None,
    n_individual: Annotated[
        int | None,
        typer.Option(help="Number of other texts per corpus, decomposed one by one.", show_default="the other half"),
    ] = None,
    min_volumes: Annotated[
        int, typer.Option(help="Minimum number of volumes per text; shorter texts are not drawn.")
    ] = 30,
    iou: Annotated[
        float, typer.Option(help="Intersection over union above which two networks count as the same.")
    ] = 0.2,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="Use the paper's settings: temporal FastICA, scikit-learn's signs, 10 maps, one-sided z > 1.96.",
        ),
    ] = False,
    paper_model: Annotated[
        str | None,
        typer.Option(help="Model of the paper whose counts are shown alongside: gpt2, qwen2.5-3b or chatglm3-6b."),
    ] = None,
    name: Name = None,
    out: Out = None,
    seed: Seed = 0,
) -> None:
    """Compute group templates of each corpus, and count their replications in single other texts of every corpus."""
    from lmri.lesions.experiments.stored import TemplateOptions, store_templates

    output = printing.output
    check_new("--out", out)
    options = TemplateOptions(
        method, n_components, threshold, n_group, n_individual, min_volumes, iou, paper, paper_model, seed
    )
    with output.progress("Decomposing texts") as progress:
        stored = store_templates(study.open(), options, site, corpus, name, progress)
    counts = stored.result
    for corpus_name, rows in counts.table.groupby("templates_of", sort=False):
        output.table(_pivot_by_corpus(rows), f"Templates of {corpus_name}")
    output.say(
        f"Cells: number of single texts' networks with IoU > {iou:g} to a template; in brackets, the 95th percentile "
        f"for random networks with the same layer profiles. Of {counts.n_individuals} decompositions of texts, "
        f"{counts.n_not_converged} did not converge and {counts.n_nothing_found} found no networks. The templates and "
        f"the networks of single texts were computed by this command ({method}, threshold {options.used_threshold}) "
        "and are not stored as network sets."
    )
    _say_stored(output, study, stored, out)
    output.result(
        {
            "templates": records(counts.table),
            "n_individuals": counts.n_individuals,
            "n_not_converged": counts.n_not_converged,
            "n_nothing_found": counts.n_nothing_found,
        }
    )


def _pivot_by_corpus(counts: "pd.DataFrame") -> "pd.DataFrame":
    """Arrange the counts of one corpus' templates as in the paper: one row per template, one column per corpus."""
    cells = counts.assign(cell=[f"{row.n_above} ({row.chance_95})" for row in counts.itertuples()])
    wide = cells.pivot(index="template", columns="label", values="cell")[list(dict.fromkeys(counts["label"]))]
    sizes = counts.drop_duplicates("template").set_index("template")["n_template"]
    return wide.assign(neurons=sizes).reset_index()
