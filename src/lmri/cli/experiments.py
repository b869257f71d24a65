"""Commands for the questions that several results answer together."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, check_new, guarded, quote, records
from lmri.cli.describe import Json, Quiet
from lmri.cli.options import Seed, SiteOption, StudyFolder

if TYPE_CHECKING:
    import pandas as pd

    from lmri.networks import NetworkSet
    from lmri.space import Img
    from lmri.storage.outcome import Outcome
    from lmri.study import Study

SHOWN = 12

Name = Annotated[
    str | None, typer.Option(help="Of what is stored in the study.", show_default="the command and what it is made of")
]
Out = Annotated[
    Path | None,
    typer.Option(help="New folder to write all tables and figures to as well.", show_default="only in the study"),
]


def keep(
    output: Output,
    study: "Study",
    outcome: "Outcome",
    name: str,
    site: str,
    inputs: Mapping[str, Any],
    parameters: Mapping[str, Any],
    out: Path | None = None,
) -> None:
    """Store an outcome in the study, write it to a folder if one is given, and say where it is."""
    study.save_experiment(outcome, name, site, inputs, parameters)
    output.say(f"Stored as {name}. Write it all up: lmri report {quote(study.root)}")
    if out is not None:
        outcome.write(out)
        output.say(f"Tables and figures: {quote(out)}")


_LONGEST = 80  # characters, as file names have to hold it and more


def _default_name(command: str, parts: Sequence[str]) -> str:
    """Make a name of what something is made of; what is too long is told apart by a hash."""
    from lmri.storage import digest

    name = re.sub(r"[^A-Za-z0-9._-]", "-", "-".join([command, *parts]))
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{digest(list(parts))[:8]}"


@guarded
def dissociate(
    study: StudyFolder,
    scores: Annotated[
        str | None, typer.Argument(metavar="[SCORES]", help="Name of an evaluation; needed if there are several.")
    ] = None,
    site: SiteOption = None,
    network: Annotated[list[str] | None, typer.Option(help="Only this one; give it several times.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this one; give it several times.")] = None,
    name: Name = None,
    out: Out = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find double dissociations of stored lesions: one network matters for one task, another for another."""
    from lmri.lesions.experiments.dissociation import dissociate as test
    from lmri.lesions.experiments.dissociation import dissociation_outcome
    from lmri.study import open_study

    output = Output(quiet, json)
    check_new("--out", out)
    opened = open_study(study)
    entry = opened.entries.find("scores", scores, site)
    found = test(opened.scores(entry.name, entry.site), network, task)
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
    outcome = dissociation_outcome(found, entry.name)
    output.say(outcome.text)
    chosen = {"networks": network or "all", "tasks": task or "all"}
    label = name or _default_name("dissociate", [entry.name, *(network or []), *(task or [])])
    keep(output, opened, outcome, label, entry.site, {"scores": entry.name}, chosen, out)
    output.result(found.to_dict())


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
    paper_model: Annotated[
        str | None,
        typer.Option(help="Whose counts of the paper stand beside: gpt2, qwen2.5-3b or chatglm3-6b."),
    ] = None,
    name: Name = None,
    out: Out = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make group templates of each corpus, and count how often they come back in single other texts of every corpus."""
    from lmri.decomposition import build, parity
    from lmri.decomposition.individuals.corpus_templates import find_templates_by_corpus
    from lmri.lesions.experiments.paper import check_model
    from lmri.lesions.experiments.templates import templates_outcome
    from lmri.networks import NetworkSet
    from lmri.networks.thresholds import parse_threshold
    from lmri.study import open_study

    output = Output(quiet, json)
    check_new("--out", out)
    check_model(paper_model)
    parameters = {"n_components": n_components, "random_state": seed}
    if paper:
        if (method, n_components, threshold) != (parity.METHOD, 10, "z:3"):
            raise ValueError(
                "--paper decides method, number of maps and threshold. Leave these out, or leave out --paper."
            )
        threshold = f"{parity.THRESHOLD}:{parity.Z_DEFAULT}"
        parameters = {**parity.PARAMETERS, "random_state": seed}
    by, values = parse_threshold(threshold)
    opened = open_study(study)
    recordings = opened.group(site, corpus)
    space = recordings[0].space

    def fit(imgs: "list[Img]") -> "NetworkSet":
        return NetworkSet.from_estimator(build(method, space, **parameters).fit(imgs)).threshold(by, **values)

    with output.progress("Decomposing texts") as progress:
        found = find_templates_by_corpus(
            fit, recordings, n_group, n_individual,
            min_volumes=min_volumes, threshold=iou, random_state=seed, progress=progress,
        )  # fmt: skip
    table = found.table
    for made_by, own in table.groupby("templates_of", sort=False):
        output.table(_counted(own), f"Templates of {made_by}")
    output.say(
        f"Networks of single texts with IoU > {iou:g} to a template; in brackets, the 95 % level of random networks "
        f"with the same layer profiles. Of {found.n_individuals} texts, {found.n_not_converged} decompositions did not "
        f"converge, and {found.n_nothing_found} found nothing. Templates and networks of texts were made by this "
        f"command ({method}, threshold {threshold}): they are no sets of the study."
    )
    corpora = [one.corpus for one in recordings]
    about: dict[str, Any] = {
        "method": method,
        **parameters,
        "threshold": threshold,
        "iou": iou,
        "min_volumes": min_volumes,
    }
    about |= {"n_group": n_group, "n_individual": n_individual, "paper_model": paper_model}
    about |= {"label": parity.PARITY} if paper else {}
    label = name or _default_name("templates", [*(["paper"] if paper else []), *corpora])
    outcome = templates_outcome(found, paper_model, paper)
    keep(output, opened, outcome, label, space.site, {"corpora": corpora}, about, out)
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
