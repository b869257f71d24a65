"""The command that looks at recordings before anything is made of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, guarded, records

if TYPE_CHECKING:
    from lmri.decomposition.quality import Quality
    from lmri.storage.recording import Recording
    from lmri.study import Study

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.", show_default=False)]


@guarded
def qc(
    study: StudyFolder,
    corpus: Annotated[str | None, typer.Option(help="Corpus to look at.", show_default="all")] = None,
    site: Annotated[str | None, typer.Option(help="Site to look at.", show_default="all")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the page.", show_default="lmri/qc/SITE/CORPUS/qc.html in the study")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check the quality of what was recorded: dead neurons, massive activations, sinks, outlier texts, carpets."""
    from lmri.report.quality.page import check_page
    from lmri.study import open_study

    output, opened = Output(quiet, json), open_study(study)
    recordings = _chosen(opened, corpus, site)
    if out is not None:
        if len(recordings) > 1:
            names = ", ".join(f"{one.corpus} at {one.space.site}" for one in recordings)
            raise ValueError(f"--out is one file, but there are {names}. Choose with --corpus and --site.")
        check_page(out)
    output.result({"study": str(study), "recordings": [_look(output, opened, one, out) for one in recordings]})


def _chosen(study: "Study", corpus: str | None, site: str | None) -> list["Recording"]:
    """Open the recordings that fit, each checked; one that is asked for by name has to be there."""
    found = [one for one in study.recordings(site) if corpus is None or one.corpus == corpus]
    if not found:
        return [study.recording(corpus, site)]  # which says what there is
    return [study.recording(one.corpus, one.space.site) for one in found]


def look_at(output: Output, study: "Study", recording: "Recording", page: Path) -> "Quality":
    """Look at one recording, and write tables into the study and a page."""
    from lmri.decomposition.quality import inspect
    from lmri.report.quality.page import check_page, write_page
    from lmri.storage import writing

    check_page(page)
    with output.progress(f"Looking at {recording.corpus} at {recording.space.site}") as progress:
        quality = inspect(recording, progress)
        with writing(study.root):
            quality.write(study.layout.quality(recording.space.site, recording.corpus))
            write_page(quality, page)
    return quality


def _look(output: Output, study: "Study", recording: "Recording", out: Path | None) -> dict[str, Any]:
    """Look at one recording, write tables and page, and say what was found."""
    site = recording.space.site
    folder = study.layout.quality(site, recording.corpus)
    page = out or folder / "qc.html"
    quality = look_at(output, study, recording, page)
    output.table(quality.findings[["topic", "status", "finding"]], f"{recording.corpus} at {site}")
    for row in quality.findings[quality.findings["status"] == "look"].itertuples():
        output.say(f"{row.topic}: {row.advice}")
    output.say(f"Page: {page}\nTables: {folder}")
    return {
        "corpus": recording.corpus,
        "site": site,
        "folder": str(folder),
        "page": str(page),
        "findings": records(quality.findings),
        "n_dead": int(quality.neurons["dead"].sum()),
        "n_massive": int(quality.neurons["massive"].sum()),
        "n_extreme": int(quality.neurons["extreme"].sum()),
        "n_spikes": int(quality.volumes["spike"].sum()),
        "outliers": quality.texts.loc[quality.texts["outlier"] == 1, "text_id"].tolist(),
        "sink_positions": quality.positions.loc[quality.positions["sink"] == 1, "position"].tolist(),
        "sink_tokens": quality.tokens.loc[quality.tokens["sink"] == 1, "token"].tolist(),
    }
