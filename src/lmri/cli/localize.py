"""The command `localize`, which finds a network by a contrast of conditions."""

from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import Output, quote, records
from lmri.cli.options import Printing, Seed, SiteOption, WritableStudy, command

if TYPE_CHECKING:
    import pandas as pd

    from lmri.decomposition.localizer import Localizer
    from lmri.decomposition.localizer.pipeline import Localization

MOST_ROWS = 10
"""Maximum number of neurons printed; the full list is in the JSON output and the study."""


@command
def localize(
    study: WritableStudy,
    contrast: Annotated[
        str,
        typer.Option(help='Contrast, such as "code - prose" or "code - 1/2*news - 1/2*wiki".', show_default=False),
    ],
    printing: Printing,
    column: Annotated[
        str,
        typer.Option(
            help="Column of the events with the conditions; trial_type is the corpus. is_punctuation, has_digit and "
            "is_capitalized (1 or 0) are computed from the tokens."
        ),
    ] = "trial_type",
    site: SiteOption = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            help="Corpus to include; may be repeated.", show_default="the corpora of the contrast, or all at the site"
        ),
    ] = None,
    level: Annotated[str, typer.Option(help="Comparison between or within texts: auto, between or within.")] = "auto",
    unit: Annotated[
        str, typer.Option(help="Unit of an effect map, for comparisons within texts: run or text.")
    ] = "run",
    test: Annotated[
        str,
        typer.Option(
            help="Test: max_t (permutation, FWE-corrected over neurons) or parametric (nilearn's second level, FDR)."
        ),
    ] = "max_t",
    alpha: Annotated[float, typer.Option(help="Level of the familywise error or of the false discovery rate.")] = 0.05,
    tail: Annotated[str, typer.Option(help="Sign of the neurons to keep: two, positive or negative.")] = "two",
    most: Annotated[
        int | None,
        typer.Option(help="Maximum number of neurons to keep, those with the largest t.", show_default="all"),
    ] = None,
    n_permutations: Annotated[
        int, typer.Option(help="Number of permutations of whole texts, or of the signs of runs.")
    ] = 1000,
    standardize: Annotated[
        str, typer.Option(help="Standardization over all runs: none or zscore. It scales effects and not t.")
    ] = "none",
    match_positions: Annotated[
        bool,
        typer.Option(
            "--match-positions", help="Use only positions that all conditions reach, for comparisons between texts."
        ),
    ] = False,
    confounds: Annotated[
        list[str] | None,
        typer.Option(
            help="Confound computed by lmri confounds to include as nuisance regressor, for comparisons within texts; "
            "may be repeated.",
            show_default=False,
        ),
    ] = None,
    overlap: Annotated[
        list[str] | None,
        typer.Option(
            help="Network set with which to compute the overlap, preferably from other texts; may be repeated.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name under which the result is stored.", show_default="the contrast, as in code-prose"),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Find the neurons that differ between conditions, and store them as a network that can be lesioned."""
    import pandas as pd

    from lmri.cli.networks import next_step, site_hint
    from lmri.decomposition.localizer.pipeline import LocalizerSettings, localize_corpora

    output, opened = printing.output, study.open()
    settings = LocalizerSettings(
        contrast,
        column,
        level,
        unit,
        test,
        alpha,
        tail,
        most,
        n_permutations,
        standardize,
        match_positions,
        confounds or (),
        seed,
    )
    with output.progress(f"Localizing {contrast}"):
        result = localize_corpora(opened, settings, site, corpus, overlap or (), name)
    localizer, networks, table = result.localizer, result.networks, result.neurons
    label, stored_site = networks.method, networks.space.site
    _say(output, result)
    for overlap_table in result.overlaps:
        _say_overlap(output, overlap_table)
    hint = site_hint(study, stored_site)
    if len(table):
        output.say(next_step(opened, quote(study), label, hint))
    else:
        output.say(
            "No neuron differs beyond this threshold. This is a valid null result: with this number of texts no "
            "difference is significant. More texts would detect smaller differences. To select neurons anyway, by a "
            f"descriptive threshold: lmri threshold {quote(study)} {label} --by top:0.01 --name {label}-top1{hint}"
        )
    output.result(
        {
            "name": label,
            "site": stored_site,
            "contrast": str(localizer.contrast_),
            "level": localizer.level_,
            "n_units": localizer.info_["n_units"],
            "alpha": alpha,
            "tail": tail,
            "most": most,
            "p_floor": localizer.test_.p_floor(tail),
            "threshold": networks.origin.threshold,
            "networks": records(networks.table),
            "neurons": records(table),
            "overlap": records(pd.concat(result.overlaps, ignore_index=True)) if result.overlaps else [],
        }
    )


def _say(output: Output, result: "Localization") -> None:
    """Print the neurons that differ."""
    localizer, networks, table = result.localizer, result.networks, result.neurons
    counts = ", ".join(f"{count} of {name}" for name, count in localizer.info_["n_units"].items())
    if localizer.level_ == "between":
        units = f"between texts ({counts})"
    else:
        (unit, names), *_ = localizer.units_.items()
        units = f"within texts, over {len(names)} {unit}"
    column = "" if localizer.column == "trial_type" else f"{localizer.column}: "
    n_positive = int((table["t"] > 0).sum())
    output.say(
        f"{networks.method} at {networks.space.site}: {len(table)} of {networks.space.n_neurons} neurons "
        f"({n_positive} higher, {len(table) - n_positive} lower) in {column}{localizer.contrast_}, {units}."
    )
    threshold = networks.origin.threshold
    output.say(f"Threshold: at {threshold['alpha']:g}, {threshold['description']}.")
    if len(table):
        title = f"Neurons with the largest |t|, of {len(table)}" if len(table) > MOST_ROWS else "Neurons"
        output.table(table.head(MOST_ROWS).rename(columns={"effect": f"effect ({_unit(localizer)})"}), title)


def _unit(localizer: "Localizer") -> str:
    """Return the unit of the effects."""
    return "activation" if localizer.standardize == "none" else "sd"


def _say_overlap(output: Output, table: "pd.DataFrame") -> None:
    """Print the overlap with one network set."""
    shown = table.sort_values("iou", ascending=False, kind="stable").head(MOST_ROWS)
    columns = {"second": "network", "n_second": "neurons", "n_both": "shared", "n_expected": "by chance"}
    output.table(
        shown[["second", "n_second", "n_both", "n_expected", "iou", "dice", "p", "q"]].rename(
            columns={**columns, "iou": "IoU", "dice": "Dice"}
        ),
        f"Overlap of {table['first'].iloc[0]}, largest first" if len(table) else "",
    )
    output.say(
        "The chance level is conditional on the number of members per layer in both sets; p and q are exact and "
        "one-sided."
    )
