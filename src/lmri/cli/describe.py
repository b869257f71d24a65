"""Commands that say what networks are, and how they go together."""

from pathlib import Path
from typing import Annotated

import typer

from lmri.cli.console import Output, check_new, guarded, quote, records, told_p
from lmri.cli.options import DecompositionName, Folder, Seed, SiteOption, StudyFolder

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@guarded
def describe(
    study: StudyFolder,
    decomposition: DecompositionName = None,
    site: SiteOption = None,
    n_permutations: Annotated[int, typer.Option(help="Permutations of whole texts, at least.")] = 1000,
    out: Folder = None,
    save: Annotated[bool, typer.Option("--save", help="Keep the labels in the study; edited ones stay.")] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Say at which tokens, and in which kinds of text, each network is active; suggest labels."""
    from lmri.networks.annotation import annotate
    from lmri.study import open_study

    output = Output(quiet, json)
    check_new("--out", out)
    names, courses, events = _time_courses(study, decomposition, site)
    with output.progress("Describing"):
        found = annotate(names, courses, events, n_permutations=n_permutations, random_state=seed)
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
        suggested = dict(zip(found.labels["network"], found.labels["suggested"], strict=True))
        kept = open_study(study).suggest_labels(suggested, decomposition, site)
        n_saved = len(suggested) - len(kept)
        output.say(
            f"Saved {n_saved} label{'' if n_saved == 1 else 's'}. Edit one: lmri label {quote(study)} {names[0]} TEXT"
        )
        if kept:
            output.say(f"Edited labels were kept: {', '.join(kept)}.")
    output.result(found.to_dict())


@guarded
def label(
    study: StudyFolder,
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="Such as ica-03.", show_default=False)],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What it is to be called.", show_default=False)],
    site: SiteOption = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Call a network something; tables and the report show it, and no result changes."""
    from lmri.study import open_study

    output = Output(quiet, json)
    own = open_study(study).label(network, text, site)
    output.say(f"{own} is now called {text.strip()!r}. Show it: lmri report {quote(study)}")
    output.result({"network": own, "label": text.strip()})


@guarded
def connectivity(
    study: StudyFolder,
    decomposition: DecompositionName = None,
    site: SiteOption = None,
    kind: Annotated[str, typer.Option(help="correlation, or partial: given all other networks.")] = "correlation",
    min_volumes: Annotated[int, typer.Option(help="Shorter texts are left out.")] = 20,
    out: Folder = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Say which networks go together, tested over texts, and whether any has a rhythm."""
    import pandas as pd

    from lmri.networks.connectivity import FEWEST_TEXTS
    from lmri.networks.connectivity import connectivity as connect
    from lmri.networks.spectra import spectra

    output = Output(quiet, json)
    check_new("--out", out)
    if kind not in ("correlation", "partial"):
        raise ValueError(f"--kind is {kind!r}; accepted are correlation and partial.")
    kind = "partial correlation" if kind == "partial" else kind
    names, courses, events = _time_courses(study, decomposition, site)
    texts = [table["text_id"].tolist() for table in events]
    with output.progress("Correlating"):
        found = connect(courses, kind, texts, names, min_volumes)
        spectrum = spectra(courses, texts)
    peaks = pd.DataFrame({"network": names, "peak": spectrum.peaks})
    table = found.table
    strongest = table.reindex(table["r"].abs().sort_values(ascending=False, kind="stable").index)
    output.table(
        strongest.head(20)[["first", "second", "r", "ci_low", "ci_high", "p", "q"]]
        .assign(p=strongest["p"].map(told_p), q=strongest["q"].map(told_p))
        .round(4),
        f"{kind.capitalize()} within texts, the strongest pairs of {len(table)}",
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
        power = pd.DataFrame(spectrum.power.T, columns=names)
        power.insert(0, "frequency", spectrum.frequencies)
        _write(out, {"connectivity": table, "spectra": power, "peaks": peaks})
        output.say(f"Tables: {quote(out)}")
    output.result(
        {
            "kind": kind,
            "n_texts": len(found.texts),
            "n_left_out": found.n_left_out,
            "pairs": records(table),
            "peaks": records(peaks),
        }
    )


def _time_courses(study: Path, decomposition: str | None, site: str | None) -> tuple[list, list, list]:
    """Open names, time courses and events of a stored decomposition, a run each."""
    from lmri.decomposition.confounds import joined
    from lmri.study import open_study

    opened = open_study(study)
    courses = opened.time_courses(decomposition, site)
    networks = opened.decomposition(decomposition, site)
    recordings = {corpus: opened.recording(corpus, networks.space.site) for corpus, _, _ in courses}
    # With surprisal and the like beside them, if `lmri confounds` has made these.
    # All corpora at once: what one of them lacks would be a gap in its tables.
    tables = iter(joined(list(recordings.values())))
    own = {corpus: [next(tables) for _ in recording.runs] for corpus, recording in recordings.items()}
    events = [own[corpus][run - 1] for corpus, run, _ in courses]
    return networks.names, [table.to_numpy() for _, _, table in courses], events


def _write(out: Path, tables: dict) -> None:
    from lmri.storage import write_table

    out.mkdir(parents=True)
    for name, table in tables.items():
        write_table(out / f"{name}.tsv", table)
