"""The command that finds networks by a contrast of conditions: the localizer."""

from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import Output, guarded, quote, records
from lmri.cli.describe import Json, Quiet
from lmri.cli.options import Seed, SiteOption, StudyFolder

if TYPE_CHECKING:
    import pandas as pd

    from lmri.decomposition.localizer import Localizer
    from lmri.networks import NetworkSet
    from lmri.storage.recording import Recording
    from lmri.study import Study

MOST_ROWS = 10
"""Of neurons on a screen; all of them are in the JSON and in the study."""


@guarded
def localize(
    study: StudyFolder,
    contrast: Annotated[
        str, typer.Option(help='Such as "code - prose", or "code - 1/2*news - 1/2*wiki".', show_default=False)
    ],
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
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find the neurons that differ between conditions, and store them as a network that can be lesioned."""
    import pandas as pd

    from lmri.cli.stages import site_hint
    from lmri.decomposition.localizer import localize as find
    from lmri.decomposition.localizer import overlap_table
    from lmri.decomposition.localizer.second_level import check_tail
    from lmri.study import open_study

    output, opened = Output(quiet, json), open_study(study)
    check_tail(tail)
    recordings = _recordings(opened, contrast, column, site, corpus)
    at = recordings[0].space.site
    others = [opened.networks(one, at) for one in overlap or []]
    with output.progress(f"Localizing {contrast}"):
        found = find(
            recordings,
            contrast,
            column,
            confounds or (),
            level=level,
            unit=unit,
            test=test,
            n_permutations=n_permutations,
            standardize=standardize,
            match_positions=match_positions,
            random_state=seed,
        )
    networks = found.threshold(alpha, tail, most)
    label = name or (found.name if tail == "two" else f"{found.name}-{tail}")
    opened.save_decomposition(found, recordings, label)
    opened.save_networks(networks, label)
    networks = opened.networks(label, at)
    tables = [overlap_table(networks, one) for one in others]
    table = found.table(alpha, tail, most)
    _say(output, found, networks, table)
    for one in tables:
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
            "overlap": records(pd.concat(tables, ignore_index=True)) if tables else [],
        }
    )


def _recordings(
    study: "Study", contrast: str, column: str, site: str | None, corpora: list[str] | None
) -> "list[Recording]":
    """Open the recordings that a contrast is of."""
    from lmri.decomposition.localizer import Contrast

    parsed = Contrast.parse(contrast)
    if column == "trial_type":
        at = study.site(site)
        parsed.check_present(corpora or [one.corpus for one in study.recordings(at)], f"the corpora at {at}")
        return study.group(at, parsed.conditions)
    return study.group(site, corpora)


def _say(output: Output, found: "Localizer", networks: "NetworkSet", table: "pd.DataFrame") -> None:
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
    return "activation" if found.standardize == "none" else "sd"


def _say_overlap(output: Output, table: "pd.DataFrame") -> None:
    shown = table.sort_values("iou", ascending=False, kind="stable").head(MOST_ROWS)
    columns = {"second": "network", "n_second": "neurons", "n_both": "shared", "n_expected": "by chance"}
    output.table(
        shown[["second", "n_second", "n_both", "n_expected", "iou", "dice", "p", "q"]].rename(
            columns={**columns, "iou": "IoU", "dice": "Dice"}
        ),
        f"Overlap of {table['first'].iloc[0]}, the largest first" if len(table) else "",
    )
    output.say("Chance keeps how many members either has in every layer; p and q are exact and one-sided.")
