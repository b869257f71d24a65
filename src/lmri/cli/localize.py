"""The command that finds networks by a contrast of conditions: the localizer."""

from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import Output, quote, records
from lmri.cli.options import Printing, Seed, SiteOption, StudyFolder, command

if TYPE_CHECKING:
    import pandas as pd

    from lmri.decomposition.localizer import Localizer
    from lmri.decomposition.localizer.pipeline import Localization

MOST_ROWS = 10
"""Maximum number of neurons printed; the full list is in the JSON output and the study."""


@command
def localize(
    study: StudyFolder,
    contrast: Annotated[
        str, typer.Option(help='Such as "code - prose", or "code - 1/2*news - 1/2*wiki".', show_default=False)
    ],
    printing: Printing,
    column: Annotated[
        str,
        typer.Option(
            help="Column of the events with the conditions; trial_type is the corpus. is_punctuation, has_digit and "
            "is_capitalized (1 or 0) are made of the tokens."
        ),
    ] = "trial_type",
    site: SiteOption = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(help="Corpus to take; may be repeated.", show_default="those of the contrast, or all"),
    ] = None,
    level: Annotated[str, typer.Option(help="auto, between (texts) or within (texts).")] = "auto",
    unit: Annotated[str, typer.Option(help="Within texts: run or text, whatever gives one effect map.")] = "run",
    test: Annotated[
        str, typer.Option(help="max_t: permutation, corrected over neurons; parametric: nilearn's second level, FDR.")
    ] = "max_t",
    alpha: Annotated[float, typer.Option(help="Familywise error, or false discovery rate.")] = 0.05,
    tail: Annotated[str, typer.Option(help="two, positive or negative: which neurons are kept.")] = "two",
    most: Annotated[
        int | None, typer.Option(help="Keep so many neurons at most, of the largest t.", show_default="all")
    ] = None,
    n_permutations: Annotated[int, typer.Option(help="Of whole texts, or of the signs of runs.")] = 1000,
    standardize: Annotated[
        str, typer.Option(help="none or zscore over all runs: units of effects; t is the same.")
    ] = "none",
    match_positions: Annotated[
        bool, typer.Option("--match-positions", help="Between texts: only positions that all conditions reach.")
    ] = False,
    confounds: Annotated[
        list[str] | None,
        typer.Option(
            help="Within texts: confound of lmri confounds, as nuisance regressor; may be repeated.", show_default=False
        ),
    ] = None,
    overlap: Annotated[
        list[str] | None,
        typer.Option(help="Network set to compare with, best of other texts; may be repeated.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of what is made.", show_default="the contrast, as in code-prose")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Find the neurons that differ between conditions, and store them as a network that can be lesioned."""
    import pandas as pd

    from lmri.cli.networks import site_hint
    from lmri.decomposition.localizer.pipeline import LocalizerSettings, localize_corpora
    from lmri.study import open_study

    output, opened = printing.output, open_study(study)
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
    found, networks, table = result.localizer, result.networks, result.neurons
    label, at = networks.method, networks.space.site
    _say(output, result)
    for one in result.overlaps:
        _say_overlap(output, one)
    hint = site_hint(study, at)
    if len(table):
        output.say(f"Next: lmri lesion {quote(study)} --networks {label} --task perplexity --n-controls 20{hint}")
    else:
        output.say(
            "No neuron differs beyond this threshold. That is a result: with so many texts, no difference stands out "
            "of those that chance gives. More texts find smaller ones. To choose neurons all the same, by a "
            f"descriptive threshold: lmri threshold {quote(study)} {label} --by top:0.01 --name {label}-top1{hint}"
        )
    output.result(
        {
            "name": label,
            "site": at,
            "contrast": str(found.contrast_),
            "level": found.level_,
            "n_units": found.info_["n_units"],
            "alpha": alpha,
            "tail": tail,
            "most": most,
            "p_floor": found.test_.p_floor(tail),
            "threshold": networks.info["threshold"],
            "networks": records(networks.table),
            "neurons": records(table),
            "overlap": records(pd.concat(result.overlaps, ignore_index=True)) if result.overlaps else [],
        }
    )


def _say(output: Output, result: "Localization") -> None:
    """Print the neurons that differ."""
    found, networks, table = result.localizer, result.networks, result.neurons
    counts = ", ".join(f"{count} of {name}" for name, count in found.info_["n_units"].items())
    if found.level_ == "between":
        units = f"between texts ({counts})"
    else:
        (what, names), *_ = found.units_.items()
        units = f"within texts, over {len(names)} {what}"
    column = "" if found.column == "trial_type" else f"{found.column}: "
    n_positive = int((table["t"] > 0).sum())
    output.say(
        f"{networks.method} at {networks.space.site}: {len(table)} of {networks.space.n_neurons} neurons "
        f"({n_positive} higher, {len(table) - n_positive} lower) in {column}{found.contrast_}, {units}."
    )
    threshold = networks.info["threshold"]
    output.say(f"Threshold: at {threshold['alpha']:g}, {threshold['description']}.")
    if len(table):
        more = f", the largest |t| of {len(table)}" if len(table) > MOST_ROWS else ""
        output.table(table.head(MOST_ROWS).rename(columns={"effect": f"effect ({_unit(found)})"}), f"Neurons{more}")


def _unit(found: "Localizer") -> str:
    """Return the unit of the effects."""
    return "activation" if found.standardize == "none" else "sd"


def _say_overlap(output: Output, table: "pd.DataFrame") -> None:
    """Print the overlap with one network set."""
    shown = table.sort_values("iou", ascending=False, kind="stable").head(MOST_ROWS)
    columns = {"second": "network", "n_second": "neurons", "n_both": "shared", "n_expected": "by chance"}
    output.table(
        shown[["second", "n_second", "n_both", "n_expected", "iou", "dice", "p", "q"]].rename(
            columns={**columns, "iou": "IoU", "dice": "Dice"}
        ),
        f"Overlap of {table['first'].iloc[0]}, the largest first" if len(table) else "",
    )
    output.say("Chance keeps how many members either has in every layer; p and q are exact and one-sided.")
