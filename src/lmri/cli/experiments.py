"""Commands for the questions that several results answer together."""

from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import Output, check_new, guarded, quote, records
from lmri.cli.describe import Folder, Json, Quiet, Seed, SiteOption, StudyFolder

if TYPE_CHECKING:
    import pandas as pd

    from lmri.networks import NetworkSet
    from lmri.space import Img

SHOWN = 12


@guarded
def dissociate(
    study: StudyFolder,
    scores: Annotated[
        str | None, typer.Argument(metavar="[SCORES]", help="Name of an evaluation; needed if there are several.")
    ] = None,
    site: SiteOption = None,
    network: Annotated[list[str] | None, typer.Option(help="Only this one; give it several times.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this one; give it several times.")] = None,
    out: Folder = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find double dissociations of stored lesions: one network matters for one task, another for another."""
    from lmri.experiments.dissociation import dissociate as test
    from lmri.storage import write_table
    from lmri.study import open_study

    output = Output(quiet, json)
    check_new("--out", out)
    found = test(open_study(study).scores(scores, site), network, task)
    table = found.table.sort_values("p", kind="stable")
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
    n_found, n_all = int(table["dissociated"].sum()), len(table)
    output.say(
        f"{n_found} of {n_all} pairs of networks and tasks dissociate: q ≤ 0.05 for the interaction and both simple "
        "effects together, in sd of matched controls. One model is one subject."
    )
    if table["q"].isna().all():
        most = int(table[["n_controls_a", "n_controls_b"]].to_numpy().min())
        output.say(
            f"No q could be given: {most} controls a network are too few. Score again with --controls 99 or more."
        )
    if out is not None:
        out.mkdir(parents=True)
        write_table(out / "dissociations.tsv", table)
        write_table(out / "effects.tsv", found.effects)
        output.say(f"Tables: {quote(out)}")
    output.result(found.to_dict())


PAPERS = {"method": "fastica-temporal", "threshold": "z_positive:1.96", "n_components": 10}
"""What the paper's code does, with scikit-learn's signs."""


@guarded
def templates(
    study: StudyFolder,
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
    out: Folder = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make group templates of each corpus, and count how often they come back in single other texts of every corpus."""
    from lmri.cli.stages import parse_threshold
    from lmri.decomposition import build
    from lmri.experiments.templates import find_templates_by_corpus
    from lmri.networks import NetworkSet
    from lmri.report.figures import templates_figure
    from lmri.storage import versions, write_json, write_table, write_text
    from lmri.study import open_study

    output = Output(quiet, json)
    check_new("--out", out)
    if paper:
        if (method, n_components, threshold) != ("fastica-temporal", 10, "z:3"):
            raise ValueError(
                "--paper decides method, number of maps and threshold. Leave these out, or leave out --paper."
            )
        threshold = str(PAPERS["threshold"])
    by, values = parse_threshold(threshold)
    recordings = open_study(study).group(site, corpus)
    space = recordings[0].space
    parameters = {"n_components": n_components, "random_state": seed} | ({"signs": "solver"} if paper else {})

    def fit(imgs: "list[Img]") -> "NetworkSet":
        return NetworkSet.from_estimator(build(method, space, **parameters).fit(imgs)).threshold(by, **values)

    with output.progress("Decomposing texts") as progress:
        found = find_templates_by_corpus(
            fit, recordings, n_group, n_individual,
            min_volumes=min_volumes, threshold=iou, random_state=seed, progress=progress,
        )  # fmt: skip
    table = found.table
    for name, own in table.groupby("templates_of", sort=False):
        output.table(_counted(own), f"Templates of {name}")
    output.say(
        f"Networks of single texts with IoU > {iou:g} to a template; in brackets, the 95 % level of random networks "
        f"with the same layer profiles. Of {found.n_individuals} texts, {found.n_not_converged} decompositions did not "
        f"converge, and {found.n_nothing_found} found nothing."
    )
    if out is not None:
        out.mkdir(parents=True)
        write_table(out / "templates.tsv", table)
        write_text(out / "templates.svg", templates_figure(found.overlaps))
        about = {"method": method, "parameters": parameters, "threshold": threshold, "iou": iou, "paper": paper}
        write_json(out / "about.json", {**about, "site": space.site, "versions": versions()})
        output.say(f"Tables and figure: {quote(out)}")
    output.result(
        {
            "templates": records(table),
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
