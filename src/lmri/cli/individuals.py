"""The commands `dual-regression` and `order`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import Output, check_new, check_new_figure, pluralize, quote, records
from lmri.cli.options import Printing, Seed, SiteOption, StudyScope, command

if TYPE_CHECKING:
    import pandas as pd

    from lmri.decomposition.individuals import MapTest
    from lmri.networks import NetworkSet

MOST_ROWS = 30
"""Maximum number of runs printed; the full list is in the JSON output."""


@command
def dual_regression(
    study: StudyScope,
    networks: Annotated[str, typer.Argument(metavar="NETWORKS", help="Name of a network set.", show_default=False)],
    printing: Printing,
    corpus: Annotated[
        str | None, typer.Option(help="Corpus of the texts; required if there are several.", show_default=False)
    ] = None,
    contrast: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="CORPUS CORPUS", help="Two corpora to compare (instead of --corpus).", show_default=False),
    ] = None,
    site: SiteOption = None,
    n_permutations: Annotated[
        int, typer.Option(help="Number of permutations of texts between the two corpora.")
    ] = 1000,
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for maps (NIfTI) and tables (TSV).", show_default="results are only printed"),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Estimate individual maps of the networks for each text, and test which neurons differ between two corpora."""
    from lmri.decomposition.individuals.dual_regression import VOLUMES_PER_MAP

    output = printing.output
    check_new("--out", out)
    with output.progress("Regressing texts"):
        result = study.open().dual_regression(networks, corpus, contrast, site, n_permutations, seed)
    individuals, test, maps = result.individuals, result.test, result.individuals.networks
    amplitudes, lengths = result.amplitudes, [len(course) for course in individuals.time_courses]
    n_made_maps = sum(bool(made_maps) for made_maps in individuals.made_maps.values())
    output.say(
        f"Individual maps of {len(maps)} networks were estimated for {len(individuals)} texts of "
        f"{' and '.join(dict.fromkeys(result.corpora.values()))}, with {min(lengths)} to {max(lengths)} volumes each; "
        f"{n_made_maps} of these texts were used to fit the networks. Standardization over all volumes: "
        f"{individuals.info['standardize']}."
    )
    if individuals.left_out:
        output.say(
            f"Excluded: {len(individuals.left_out)} of {len(result.corpora)} texts, with fewer than "
            f"{VOLUMES_PER_MAP * len(maps)} volumes ({VOLUMES_PER_MAP} per map): {_shortened(individuals.left_out)}."
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
            **individuals.info,
            "n_texts": len(individuals),
            "n_made_maps": n_made_maps,
            "left_out": list(individuals.left_out),
            "amplitudes": records(amplitudes.assign(text=individuals.names)),
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
    """Print the test of the difference between two corpora."""
    first, second = (f"{name} ({len(texts)} texts)" for name, texts in test.groups.items())
    output.table(
        test.table.drop(columns="p_floor").rename(
            columns={"n_significant": "neurons p ≤ 0.05", "max_abs_t": "max |t|"}
        ),
        f"{first} minus {second}",
    )
    how = "all relabellings" if test.info["exact"] else f"{test.info['n_permutations']} permutations"
    output.say(
        f"p is corrected for multiple comparisons over the neurons of all maps ({how} of whole texts; the smallest "
        f"possible p is {test.p_floor:.3g}). The layer and neuron shown have the largest |t|."
    )


def _shortened(names: Sequence[str], n_shown: int = 5) -> str:
    return ", ".join(names[:n_shown]) + (", …" if len(names) > n_shown else "")


@command
def order(
    study: StudyScope,
    printing: Printing,
    site: SiteOption = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus to include; may be repeated.", show_default="all at the site")
    ] = None,
    scope: Annotated[
        str, typer.Option(help="Scope of the recommendation: group (all runs together) or run (median over runs).")
    ] = "group",
    n_surrogates: Annotated[int, typer.Option(help="Number of surrogates; at least 19.")] = 20,
    figure: Annotated[Path | None, typer.Option(help="New SVG file for the scree plot.", show_default="none")] = None,
    seed: Seed = 0,
) -> None:
    """Estimate the number of components (model order) by parallel analysis with circularly shifted surrogates."""
    from lmri.cli.networks import site_hint
    from lmri.decomposition.pipeline import run_names

    output, opened = printing.output, study.open()
    check_new_figure("--figure", figure)
    with output.progress("Estimating the number of components") as progress:
        estimate = opened.order(site, corpus, scope, n_surrogates, seed, progress)
    recordings = opened.group(site, corpus)
    stored_site, names = recordings[0].space.site, run_names(recordings)
    table = estimate.table.assign(run=[names[run] for run in estimate.table["run"]])
    if len(table) <= MOST_ROWS:
        output.table(table.rename(columns={"n_volumes": "volumes", "parallel": "parallel analysis", "mdl": "MDL"}))
    else:
        output.table(estimate.distribution, f"Over {pluralize(len(names) - 1, 'run')}")
    over = "all runs together" if scope == "group" else f"the median of {pluralize(len(names) - 1, 'run')}"
    if estimate.recommended:
        output.say(f"Recommended: {estimate.recommended} components, by parallel analysis, {over}.")
    else:
        output.say(f"No component exceeds the circularly shifted surrogates ({over}). This is a valid null result.")
    output.say("MDL assumes that neurons are independent samples, which they are not; it is shown for comparison only.")
    if figure is not None:
        from lmri.report.figures import order_figure
        from lmri.storage import write_text

        write_text(figure, order_figure(estimate.curves))
        output.say(f"Figure: {quote(figure)}")
    if estimate.recommended:
        hint = site_hint(study, stored_site)
        output.say(f"Next: lmri decompose {quote(study)} --method ica --n-components {estimate.recommended}{hint}")
    output.result(
        {
            "site": stored_site,
            "scope": scope,
            "recommended": estimate.recommended,
            "at_ceiling": estimate.at_ceiling,
            "ceiling": estimate.ceiling,
            **estimate.info,
            "runs": records(table),
        }
    )
