"""Commands that describe networks: labels and connectivity."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import check_new, quote, records, told_p
from lmri.cli.options import DecompositionName, Folder, Printing, Seed, SiteOption, StudyFolder, command

if TYPE_CHECKING:
    import pandas as pd

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@command
def describe(
    study: StudyFolder,
    printing: Printing,
    decomposition: DecompositionName = None,
    site: SiteOption = None,
    n_permutations: Annotated[int, typer.Option(help="Permutations of whole texts, at least.")] = 1000,
    out: Folder = None,
    save: Annotated[bool, typer.Option("--save", help="Keep the labels in the study; edited ones stay.")] = False,
    seed: Seed = 0,
) -> None:
    """Say at which tokens, and in which kinds of text, each network is active; suggest labels."""
    from lmri.study import open_study

    output, opened = printing.output, open_study(study)
    check_new("--out", out)
    with output.progress("Describing"):
        found = opened.describe(decomposition, site, n_permutations, save, seed)
    confounds = found.confounds.drop(columns="network").round(2)
    output.table(found.labels[["network", "label"]].join(confounds))
    output.say(
        "A label names significant results only (q ≤ 0.05 over all networks); r is with what any text has, within "
        "texts. It is a suggestion: edit it."
    )
    for note in found.info["notes"]:
        output.say(note)
    if out is not None:
        _write(out, found.tables)
        output.say(f"Tables: {quote(out)}")
    if save:
        from lmri.networks.labels import EDITED

        names, labels = list(found.labels["network"]), opened.labels(decomposition, site)
        kept = [name for name in names if name in set(labels.loc[labels["source"] == EDITED, "network"])]
        n_saved = len(names) - len(kept)
        output.say(
            f"Saved {n_saved} label{'' if n_saved == 1 else 's'}. Edit one: lmri label {quote(study)} {names[0]} TEXT"
        )
        if kept:
            output.say(f"Edited labels were kept: {', '.join(kept)}.")
    output.result(found.to_dict())


@command
def label(
    study: StudyFolder,
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="Such as ica-03.", show_default=False)],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What it is to be called.", show_default=False)],
    printing: Printing,
    site: SiteOption = None,
) -> None:
    """Call a network something; tables and the report show it, and no result changes."""
    from lmri.study import open_study

    output = printing.output
    own = open_study(study).label(network, text, site)
    output.say(f"{own} is now called {text.strip()!r}. Show it: lmri report {quote(study)}")
    output.result({"network": own, "label": text.strip()})


@command
def connectivity(
    study: StudyFolder,
    printing: Printing,
    decomposition: DecompositionName = None,
    site: SiteOption = None,
    kind: Annotated[str, typer.Option(help="correlation, or partial: given all other networks.")] = "correlation",
    min_volumes: Annotated[int, typer.Option(help="Shorter texts are left out.")] = 20,
    out: Folder = None,
) -> None:
    """Say which networks go together, tested over texts, and whether any has a rhythm."""
    from lmri.networks.connectivity import FEWEST_TEXTS
    from lmri.study import open_study

    output = printing.output
    check_new("--out", out)
    with output.progress("Correlating"):
        result = open_study(study).connectivity(decomposition, site, kind, min_volumes)
    found, peaks = result.connectivity, result.peaks
    table = found.table
    strongest = table.reindex(table["r"].abs().sort_values(ascending=False, kind="stable").index)
    output.table(
        strongest.head(20)[["first", "second", "r", "ci_low", "ci_high", "p", "q"]]
        .assign(p=strongest["p"].map(told_p), q=strongest["q"].map(told_p))
        .round(4),
        f"{result.kind.capitalize()} within texts, the strongest pairs of {len(table)}",
    )
    output.say(
        f"{int((table['q'] <= 0.05).sum())} of {len(table)} pairs have q ≤ 0.05 over {len(found.texts)} texts "
        f"({found.n_left_out} shorter than {min_volumes} volumes were left out)."
        + ("" if len(found.texts) >= FEWEST_TEXTS else f" A test takes {FEWEST_TEXTS} texts.")
    )
    rhythmic = peaks.dropna()
    listed = ", ".join(f"{row.network} at {row.peak:.3f}" for row in rhythmic.itertuples())
    output.say(
        f"{len(rhythmic)} of {len(peaks)} networks exceed red noise at some frequency"
        + (f": {listed} cycles per token." if listed else ".")
    )
    if out is not None:
        _write(out, result.tables)
        output.say(f"Tables: {quote(out)}")
    output.result(
        {
            "kind": result.kind,
            "n_texts": len(found.texts),
            "n_left_out": found.n_left_out,
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
