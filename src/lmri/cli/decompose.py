"""The commands `decompose` and `threshold`, from recordings to networks."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import Output, format_convergence, pluralize, quote, records
from lmri.cli.options import NameOption, Printing, Seed, SiteOption, StudyScope, WritableStudy, command
from lmri.decomposition.methods import METHODS
from lmri.networks.thresholds.registry import THRESHOLDS, alternatives, usage
from lmri.storage.entries import make_address
from lmri.storage.identifiers import GROUP
from lmri.study import open_study

if TYPE_CHECKING:
    from lmri.networks import NetworkSet

_COMMON_THRESHOLD = "fdr"
"""Default threshold of most methods."""


def _default_threshold() -> str:
    """Return a description of the default thresholds of all methods."""
    others = [
        f"{method.threshold} for {method.name}" for method in METHODS.values() if method.threshold != _COMMON_THRESHOLD
    ]
    return "; ".join([THRESHOLDS[_COMMON_THRESHOLD].usage, *others])


def _default_surrogates() -> str:
    """Return a description of the default number of surrogates of all thresholds."""
    names = (threshold.name for threshold in THRESHOLDS.values() if threshold.needs_null)
    return f"20 for {alternatives(names, 'and')}, 0 for others"


def _auto() -> str:
    """Return the names of the methods that can choose the number of maps."""
    return alternatives((method.name for method in METHODS.values() if method.auto), "and")


@command
def decompose(
    study: WritableStudy,
    printing: Printing,
    method: Annotated[str, typer.Option(help=f"Method: {alternatives(METHODS)}.")] = "ica",
    n_components: Annotated[
        str | None,
        typer.Option(help=f"Number of maps, or auto (with {_auto()}).", show_default="20"),
    ] = None,
    site: SiteOption = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus to fit; may be repeated.", show_default="all at the site")
    ] = None,
    standardize: Annotated[
        str, typer.Option(help="Standardization of each neuron's time series: zscore, center or none.")
    ] = "zscore",
    scope: Annotated[str, typer.Option(help="Scope of the mean and standard deviation: run or study.")] = "run",
    confounds: Annotated[
        list[str] | None,
        typer.Option(help="Confound to regress out of every run, computed by lmri confounds; may be repeated."),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Sparsity penalty, for dictlearning.", show_default="10")] = None,
    solver: Annotated[
        str | None, typer.Option(help="Solver, for ica: fastica or picard.", show_default="fastica")
    ] = None,
    n_init: Annotated[
        int | None, typer.Option(help="Number of random initializations, for ica and canica.", show_default="10")
    ] = None,
    threshold: Annotated[str | None, typer.Option(help=usage(), show_default=_default_threshold())] = None,
    n_surrogates: Annotated[
        int | None,
        typer.Option(
            help="Number of surrogates for the calibration of fdr; 0 for none. With canica and fastica-spatial each "
            "takes as long as a fit.",
            show_default=_default_surrogates(),
        ),
    ] = None,
    n_bootstraps: Annotated[
        int, typer.Option(help="Number of bootstrap samples of the texts, for the stability of each map.")
    ] = 0,
    n_splits: Annotated[
        int,
        typer.Option(
            help="Number of random half splits of the texts, for split-half reproducibility and the reliability curve."
        ),
    ] = 0,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="Use the paper's settings: temporal FastICA with the solver's signs, neurons centred over the study, "
            "one-sided z > 3.6 (or --threshold z_positive:1.96), and --n-components (10 by default).",
        ),
    ] = False,
    name: NameOption = None,
    n_jobs: Annotated[int, typer.Option(help="Number of processes or threads, if the method can use them.")] = 1,
    device: Annotated[str, typer.Option(help="Device, for ica: cpu or cuda.")] = "cpu",
    seed: Seed = 0,
) -> None:
    """Decompose recordings into maps, and threshold the maps into networks.

    With --subject A,B, the models A and B are decomposed together. The result belongs to the scope group of the study.
    """
    subjects = study.subject.split(",") if study.subject and "," in study.subject else None
    if subjects is not None:
        if study.session is not None:
            raise ValueError(
                f"--session is {study.session!r}, but --subject names several models. Name the sessions there, such as "
                f"--subject sub-{subjects[0].strip().removeprefix('sub-')}_ses-{study.session},..., and omit --session."
            )
        study = replace(study, subject=GROUP, session=None)
    opened = study.open()
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
            subjects=subjects,
            n_jobs=n_jobs,
            device=device,
            seed=seed,
            progress=progress,
        )
    _say_networks(printing.output, study, networks, subjects[0].strip() if subjects else "")


@command
def threshold(
    study: WritableStudy,
    decomposition: Annotated[
        str, typer.Argument(metavar="DECOMPOSITION", help="Name of a decomposition.", show_default=False)
    ],
    by: Annotated[str, typer.Option("--by", help=usage(), show_default=False)],
    name: Annotated[str, typer.Option(help="Name of the new networks.", show_default=False)],
    printing: Printing,
    site: SiteOption = None,
) -> None:
    """Re-threshold the maps of a stored decomposition."""
    from lmri.cli.networks import format_threshold, say_empty, summary_columns

    output = printing.output
    networks = study.open().threshold(decomposition, by, name, site)
    output.say(f"{name} at {networks.space.site}, {format_threshold(networks)}.")
    output.table(summary_columns(networks))
    if not networks.members.any():
        say_empty(output, study, decomposition, networks)
    output.result({"name": name, "site": networks.space.site, "networks": records(networks.table)})


def _number_of_maps(text: str | None) -> int | str | None:
    """Parse a number; any other text is returned, and checked by the method."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return text


def _say_networks(output: Output, study: StudyScope, networks: "NetworkSet", first: str = "") -> None:
    """Print a summary of a decomposition and its networks, and the next command.

    If several models were decomposed together, `first` is the label of the first.
    """
    from lmri.cli.networks import format_threshold, next_step, say_empty, site_hint, summary_columns

    origin, label = networks.origin, networks.method
    result = {"name": label, "site": networks.space.site, "info": origin.as_dict(), "networks": records(networks.table)}
    output.say(
        f"{label}, {networks.space.site}: {pluralize(len(networks), 'map')} from "
        f"{pluralize(origin.n_volumes or 0, 'volume')} ({pluralize(origin.n_runs or 0, 'run')}); "
        f"{format_convergence(origin.convergence)}. Networks were {format_threshold(networks)}."
    )
    output.table(summary_columns(networks))
    if study.subject == GROUP:
        address = make_address(GROUP, label, networks.space.site)
        member, command = open_study(study.study, first), f"{quote(study.study)} --subject {first}"
        step = next_step(member, command, address, f" --site {networks.space.site}")
        output.say(f"Each model has its own version of the maps, {label}-dr. {step}")
        output.result(result)
        return
    hint = site_hint(study, networks.space.site)
    if networks.members.any():
        output.say(next_step(study.open(), quote(study), label, hint))
    else:
        say_empty(output, study, label, networks)
    output.result(result)
