"""The commands `describe`, `label` and `connectivity`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import check_new, format_p, pluralize, quote, records
from lmri.cli.options import DecompositionName, Folder, Printing, Seed, SiteOption, StudyScope, WritableStudy, command

if TYPE_CHECKING:
    import pandas as pd


@command
def describe(
    study: WritableStudy,
    printing: Printing,
    decomposition: DecompositionName = None,
    site: SiteOption = None,
    n_permutations: Annotated[int, typer.Option(help="Minimum number of permutations of whole texts.")] = 1000,
    out: Folder = None,
    save: Annotated[
        bool, typer.Option("--save", help="Store the labels in the study; edited labels are not replaced.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Annotate each network with the tokens and kinds of text in which it is active, and suggest labels."""
    output, opened = printing.output, study.open()
    check_new("--out", out)
    with output.progress("Describing"):
        annotation = opened.describe(decomposition, site, n_permutations, save, seed)
    confounds = annotation.confounds.drop(columns="network").round(2)
    output.table(annotation.labels[["network", "label"]].join(confounds))
    output.say(
        "Labels are suggestions based on significant results only (q ≤ 0.05 over all networks); please edit them. "
        "r is the correlation of the time course with each confound, within texts."
    )
    for note in annotation.info["notes"]:
        output.say(note)
    if out is not None:
        _write(out, annotation.tables)
        output.say(f"Tables: {quote(out)}")
    if save:
        from lmri.networks.labels import EDITED

        names, labels = list(annotation.labels["network"]), opened.labels(decomposition, site)
        edited = [name for name in names if name in set(labels.loc[labels["source"] == EDITED, "network"])]
        saved = pluralize(len(names) - len(edited), "label")
        output.say(f"Saved {saved}. Edit a label: lmri label {quote(study)} {names[0]} TEXT")
        if edited:
            output.say(f"Edited labels were not replaced: {', '.join(edited)}.")
    output.result(annotation.to_dict())


@command
def label(
    study: WritableStudy,
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="Name of the network, such as ica-03.", show_default=False)
    ],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Label to display.", show_default=False)],
    printing: Printing,
    site: SiteOption = None,
) -> None:
    """Set a network's display label (does not affect results)."""
    output = printing.output
    name = study.open().label(network, text, site)
    output.say(f"The label of {name} is now {text.strip()!r}. Update the report: lmri report {quote(study)}")
    output.result({"network": name, "label": text.strip()})


@command
def connectivity(
    study: StudyScope,
    printing: Printing,
    decomposition: DecompositionName = None,
    site: SiteOption = None,
    kind: Annotated[
        str, typer.Option(help="correlation, or partial (controlling for all other networks).")
    ] = "correlation",
    min_volumes: Annotated[
        int, typer.Option(help="Minimum number of volumes per text; shorter texts are excluded.")
    ] = 20,
    out: Folder = None,
) -> None:
    """Compute connectivity between networks (tested across texts) and power spectra of their time courses."""
    from lmri.networks.connectivity import FEWEST_TEXTS

    output = printing.output
    check_new("--out", out)
    with output.progress("Correlating"):
        result = study.open().connectivity(decomposition, site, kind, min_volumes)
    correlations, peaks = result.connectivity, result.peaks
    table = correlations.table
    strongest = table.reindex(table["r"].abs().sort_values(ascending=False, kind="stable").index)
    output.table(
        strongest.head(20)[["first", "second", "r", "ci_low", "ci_high", "p", "q"]]
        .assign(p=strongest["p"].map(format_p), q=strongest["q"].map(format_p))
        .round(4),
        f"{result.kind.capitalize()} within texts: strongest of {pluralize(len(table), 'pair')}",
    )
    output.say(
        f"{int((table['q'] <= 0.05).sum())} of {len(table)} pairs have q ≤ 0.05 across {len(correlations.texts)} texts "
        f"({correlations.n_left_out} shorter than {min_volumes} volumes were excluded)."
        + ("" if len(correlations.texts) >= FEWEST_TEXTS else f" A test needs at least {FEWEST_TEXTS} texts.")
    )
    periodic = peaks.dropna()
    listed = ", ".join(f"{row.network} at {row.peak:.3f}" for row in periodic.itertuples())
    output.say(
        f"The spectra of {len(periodic)} of {len(peaks)} networks exceed red noise at some frequency"
        + (f": {listed} cycles per token." if listed else ".")
    )
    if out is not None:
        _write(out, result.tables)
        output.say(f"Tables: {quote(out)}")
    output.result(
        {
            "kind": result.kind,
            "n_texts": len(correlations.texts),
            "n_left_out": correlations.n_left_out,
            "pairs": records(table),
            "peaks": records(peaks),
        }
    )


def _write(out: Path, tables: "dict[str, pd.DataFrame]") -> None:
    """Write tables to a new folder."""
    from lmri.storage import write_table

    out.mkdir(parents=True)
    for name, table in tables.items():
        write_table(out / f"{name}.tsv", table)
