"""Commands between recordings and networks: the number of components, and individual maps of single texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import Output, check_new, check_new_figure, counted, quote, records
from lmri.cli.options import Printing, Seed, SiteOption, StudyFolder, command

if TYPE_CHECKING:
    import pandas as pd

    from lmri.decomposition.individuals import MapTest
    from lmri.networks import NetworkSet

MOST_ROWS = 30
"""Maximum number of runs printed; the full list is in the JSON output."""


@command
def dual_regression(
    study: StudyFolder,
    networks: Annotated[str, typer.Argument(metavar="NETWORKS", help="Name of a network set.", show_default=False)],
    printing: Printing,
    corpus: Annotated[
        str | None, typer.Option(help="Corpus whose texts are taken; needed if there are several.", show_default=False)
    ] = None,
    contrast: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="CORPUS CORPUS", help="Instead: two corpora, whose texts are compared.", show_default=False
        ),
    ] = None,
    site: SiteOption = None,
    n_permutations: Annotated[int, typer.Option(help="Of texts between the two corpora.")] = 1000,
    out: Annotated[
        Path | None, typer.Option(help="New folder for maps (NIfTI) and tables (TSV).", show_default="only shown")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Estimate every text's own version of the networks and, of two corpora, test which neurons differ."""
    from lmri.decomposition.individuals.dual_regression import VOLUMES_PER_MAP
    from lmri.study import open_study

    output = printing.output
    check_new("--out", out)
    with output.progress("Regressing texts"):
        result = open_study(study).dual_regression(networks, corpus, contrast, site, n_permutations, seed)
    found, test, maps = result.individuals, result.test, result.individuals.networks
    amplitudes, lengths = result.amplitudes, [len(course) for course in found.time_courses]
    made = sum(bool(one) for one in found.made_maps.values())
    output.say(
        f"{len(found)} texts of {' and '.join(dict.fromkeys(result.corpora.values()))} have their own versions of "
        f"{len(maps)} networks, of {min(lengths)} to {max(lengths)} volumes each; {made} of the texts are among those "
        f"that made the networks. Standardized over all volumes: {found.info['standardize']}."
    )
    if found.left_out:
        output.say(
            f"Left out: {len(found.left_out)} of {len(result.corpora)} texts, which have fewer than "
            f"{VOLUMES_PER_MAP * len(maps)} volumes ({VOLUMES_PER_MAP} a map): {_listed(found.left_out)}."
        )
    output.table(_amplitude_table(maps, amplitudes), "Amplitude (sd of the time course) over texts")
    if test is not None:
        _say_test(output, test)
    if out is not None:
        result.write(out)
        output.say(f"Maps and tables: {quote(out)}")
    output.result(
        {
            "networks": maps.method,
            "site": maps.space.site,
            **found.info,
            "n_texts": len(found),
            "n_made_maps": made,
            "left_out": list(found.left_out),
            "amplitudes": records(amplitudes.assign(text=found.names)),
            "contrast": None
            if test is None
            else {**test.info, "family": test.family, "p_floor": test.p_floor, "networks": records(test.table)},
        }
    )


def _amplitude_table(maps: "NetworkSet", amplitudes: "pd.DataFrame") -> "pd.DataFrame":
    """Summarize amplitudes over texts, one row per network."""
    import pandas as pd

    label = {"label": maps.metrics["label"].to_numpy()} if "label" in maps.metrics else {}
    return pd.DataFrame(
        {
            "network": maps.names,
            **label,
            "mean": amplitudes.mean().to_numpy(),
            "lowest": amplitudes.min().to_numpy(),
            "highest": amplitudes.max().to_numpy(),
        }
    )


def _say_test(output: Output, test: "MapTest") -> None:
    """Print the test of two corpora."""
    first, second = (f"{name} ({len(texts)} texts)" for name, texts in test.groups.items())
    output.table(
        test.table.drop(columns="p_floor").rename(
            columns={"n_significant": "neurons p ≤ 0.05", "max_abs_t": "max |t|"}
        ),
        f"{first} minus {second}",
    )
    how = "all relabellings" if test.info["exact"] else f"{test.info['n_permutations']} permutations"
    output.say(
        f"p is corrected over the neurons of all maps ({how} of whole texts; the smallest possible p is "
        f"{test.p_floor:.3g}). Layer and neuron are those of the largest |t|."
    )


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


@command
def order(
    study: StudyFolder,
    printing: Printing,
    site: SiteOption = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus to take; may be repeated.", show_default="all at the site")
    ] = None,
    scope: Annotated[str, typer.Option(help="What is recommended: for all runs together (group), or a run.")] = "group",
    n_surrogates: Annotated[int, typer.Option(help="Surrogates, at least 19.")] = 20,
    figure: Annotated[Path | None, typer.Option(help="New SVG file for the scree plot.", show_default="none")] = None,
    seed: Seed = 0,
) -> None:
    """Estimate how many networks there are, before any decomposition, against neurons shifted on their own."""
    from lmri.cli.networks import site_hint
    from lmri.decomposition.pipeline import run_names
    from lmri.study import open_study

    output, opened = printing.output, open_study(study)
    check_new_figure("--figure", figure)
    with output.progress("Estimating the number of networks") as progress:
        found = opened.order(site, corpus, scope, n_surrogates, seed, progress)
    recordings = opened.group(site, corpus)
    at, names = recordings[0].space.site, run_names(recordings)
    table = found.table.assign(run=[names[run] for run in found.table["run"]])
    if len(table) <= MOST_ROWS:
        output.table(table.rename(columns={"n_volumes": "volumes", "parallel": "parallel analysis", "mdl": "MDL"}))
    else:
        output.table(found.distribution, f"Over {counted(len(names) - 1, 'run')}")
    over = "all runs together" if scope == "group" else f"the median of {counted(len(names) - 1, 'run')}"
    if found.recommended:
        output.say(f"Recommended: {found.recommended} components, by parallel analysis, {over}.")
    else:
        output.say(f"No component stands out of neurons shifted on their own ({over}). That is a result.")
    output.say("MDL takes neurons for independent samples, which they are not: it is there to be compared with.")
    if figure is not None:
        from lmri.report.figures import order_figure
        from lmri.storage import write_text

        write_text(figure, order_figure(found.curves))
        output.say(f"Figure: {quote(figure)}")
    if found.recommended:
        hint = site_hint(study, at)
        output.say(f"Next: lmri decompose {quote(study)} --method ica --n-components {found.recommended}{hint}")
    output.result(
        {
            "site": at,
            "scope": scope,
            "recommended": found.recommended,
            "at_ceiling": found.at_ceiling,
            "ceiling": found.ceiling,
            **found.info,
            "runs": records(table),
        }
    )
