"""The command `confounds`."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import quote, records
from lmri.cli.options import Printing, SiteOption, StudyFolder, StudyModel, command
from lmri.decomposition.confounds.registry import CONFOUNDS

if TYPE_CHECKING:
    from lmri.models.confound_tables import ConfoundTables


def _listed(function: Callable[..., None]) -> Callable[..., None]:
    """List all confounds in the help of a command."""
    lines = [f"- {one.name} ({one.unit}): {one.help}" for one in CONFOUNDS.values()]
    function.__doc__ = "\n".join([function.__doc__ or "", "", *lines])
    return function


@command
@_listed
def confounds(
    study: StudyFolder,
    where: StudyModel,
    printing: Printing,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus; may be repeated.", show_default="all of the study")
    ] = None,
    site: SiteOption = None,
    no_model: Annotated[
        bool, typer.Option("--no-model", help="Leave surprisal and entropy out: no model is loaded.")
    ] = False,
    batch_size: Annotated[int | None, typer.Option(help="Texts read at once.", show_default="as recorded")] = None,
) -> None:
    """Make a table of confounds beside every run: position, frequency, surprisal, global signal and so on."""
    import pandas as pd

    from lmri.study import open_study

    output, opened = printing.output, open_study(study)
    with output.progress("Computing confounds") as progress:
        found = opened.confounds(
            corpus=corpus, site=site, no_model=no_model, batch_size=batch_size, progress=progress, **asdict(where)
        )
    for one in found:
        output.table(one.summary.drop(columns=["corpus", "site"]), _title(one))
    for reason in dict.fromkeys(reason for one in found for reason in _reasons(one)):
        output.say(reason)
    output.say(
        f"Take some out of the data: lmri decompose {quote(study)} --confounds position --confounds log_frequency "
        "--name clean"
    )
    output.result(
        {
            "study": str(study),
            "written": [opened.layout.relative(path) for one in found for path in one.written],
            "confounds": records(pd.concat([one.summary for one in found], ignore_index=True)),
        }
    )


def _title(tables: "ConfoundTables") -> str:
    recording, n_written = tables.recording, len(tables.written)
    state = f"{n_written} tables written" if n_written else "already there"
    return f"{recording.corpus} at {recording.space.site}: {recording.n_volumes} volumes, {state}"


def _reasons(tables: "ConfoundTables") -> list[str]:
    """Explain which columns are n/a throughout, and why."""
    found: dict[str, list[str]] = {}
    for name, reason in tables.reasons.items():
        found.setdefault(reason, []).append(name)
    return [f"n/a throughout: {', '.join(names)}. {reason}" for reason, names in found.items()]
