"""Commands from recordings to networks: decompose and threshold."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import Output, counted, quote, records, told_starts
from lmri.cli.options import NameOption, Printing, Seed, SiteOption, StudyFolder, command
from lmri.decomposition.methods import METHODS
from lmri.networks.thresholds.registry import THRESHOLDS, alternatives, usage

if TYPE_CHECKING:
    from lmri.networks import NetworkSet

_USUAL = "fdr"
"""Default threshold of most methods."""


def _default_threshold() -> str:
    """Describe the default thresholds of all methods."""
    others = [f"{one.threshold} for {one.name}" for one in METHODS.values() if one.threshold != _USUAL]
    return "; ".join([THRESHOLDS[_USUAL].usage, *others])


def _default_surrogates() -> str:
    """Describe the default number of surrogates of all thresholds."""
    return f"20 for {alternatives((one.name for one in THRESHOLDS.values() if one.needs_null), 'and')}, 0 for others"


def _auto() -> str:
    """Name the methods that choose the number of maps themselves."""
    return alternatives((one.name for one in METHODS.values() if one.auto), "and")


@command
def decompose(
    study: StudyFolder,
    printing: Printing,
    method: Annotated[str, typer.Option(help=f"{alternatives(METHODS)}.")] = "ica",
    n_components: Annotated[
        str | None,
        typer.Option(help=f"Number of maps, or auto, which {_auto()} take.", show_default="20"),
    ] = None,
    site: SiteOption = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus to fit; may be repeated.", show_default="all at the site")
    ] = None,
    standardize: Annotated[str, typer.Option(help="zscore, center or none: each neuron's time series.")] = "zscore",
    scope: Annotated[str, typer.Option(help="run or study: where mean and sd are taken.")] = "run",
    confounds: Annotated[
        list[str] | None,
        typer.Option(help="Confound to regress out of every run, of those that lmri confounds makes; may be repeated."),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Sparsity of dictlearning.", show_default="10")] = None,
    solver: Annotated[str | None, typer.Option(help="fastica or picard, for ica.", show_default="fastica")] = None,
    n_init: Annotated[int | None, typer.Option(help="Starts, for ica and canica.", show_default="10")] = None,
    threshold: Annotated[str | None, typer.Option(help=usage(), show_default=_default_threshold())] = None,
    n_surrogates: Annotated[
        int | None,
        typer.Option(
            help="Surrogates that fdr is calibrated on; 0 for none. Of canica and fastica-spatial they take as long as "
            "so many fits.",
            show_default=_default_surrogates(),
        ),
    ] = None,
    n_bootstraps: Annotated[int, typer.Option(help="Bootstraps of the texts, for the stability of each map.")] = 0,
    n_splits: Annotated[
        int, typer.Option(help="Random halves of the texts, for split-half reproducibility and the reliability curve.")
    ] = 0,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="The paper's choices: temporal FastICA with the solver's signs, neurons centred over the study, "
            "one-sided z > 3.6 (or --threshold z_positive:1.96), and --n-components, 10 by default.",
        ),
    ] = False,
    name: NameOption = None,
    n_jobs: Annotated[int, typer.Option(help="Processes or threads, where the method has a use for them.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda, for ica.")] = "cpu",
    seed: Seed = 0,
) -> None:
    """Find maps in what was recorded, and threshold them into networks."""
    from lmri.study import open_study

    opened = open_study(study)
    with printing.output.progress("Decomposing") as progress:
        networks = opened.decompose(
            method,
            _number_of_maps(n_components),
            site=site,
            corpus=corpus,
            standardize=standardize,
            scope=scope,
            confounds=confounds,
            alpha=alpha,
            solver=solver,
            n_init=n_init,
            threshold=threshold,
            n_surrogates=n_surrogates,
            n_bootstraps=n_bootstraps,
            n_splits=n_splits,
            paper=paper,
            name=name,
            n_jobs=n_jobs,
            device=device,
            seed=seed,
            progress=progress,
        )
    _say_networks(printing.output, study, networks)


@command
def threshold(
    study: StudyFolder,
    decomposition: Annotated[str, typer.Argument(help="Name of a decomposition.", show_default=False)],
    by: Annotated[str, typer.Option("--by", help=usage(), show_default=False)],
    name: Annotated[str, typer.Option(help="Name of the networks to make.", show_default=False)],
    printing: Printing,
    site: SiteOption = None,
) -> None:
    """Threshold the maps of a stored decomposition once more, another way."""
    from lmri.cli.networks import brief, say_empty
    from lmri.study import open_study

    output = printing.output
    networks = open_study(study).threshold(decomposition, by, name, site)
    output.say(f"{name} at {networks.space.site}: {networks.info['threshold']['description']}.")
    output.table(brief(networks))
    if not networks.members.any():
        say_empty(output, study, decomposition, networks)
    output.result({"name": name, "site": networks.space.site, "networks": records(networks.table)})


def _number_of_maps(text: str | None) -> int | str | None:
    """Parse a number; other text is checked with the method."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return text


def _say_networks(output: Output, study: Path, networks: "NetworkSet") -> None:
    """Print the result of a decomposition, and the next command."""
    from lmri.cli.networks import brief, say_empty, site_hint

    info, label = networks.info, networks.method
    output.say(
        f"{label}, {networks.space.site}: {counted(len(networks), 'map')} of {counted(info['n_volumes'], 'volume')} "
        f"({counted(info['n_runs'], 'run')}); "
        f"{told_starts(info['convergence'])}. "
        f"Threshold: {info['threshold']['description']}."
    )
    output.table(brief(networks))
    hint = site_hint(study, networks.space.site)
    if networks.members.any():
        output.say(f"Next: lmri lesion {quote(study)} --networks {label} --task perplexity --n-controls 20{hint}")
    else:
        say_empty(output, study, label, networks)
    output.result({"name": label, "site": networks.space.site, "info": info, "networks": records(networks.table)})
