"""The command `confounds`."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lmri.cli.console import quote, records
from lmri.cli.options import Printing, SiteOption, StudyModel, WritableStudy, command
from lmri.decomposition.confounds.registry import CONFOUNDS

if TYPE_CHECKING:
    from lmri.models.confound_tables import ConfoundTables


def _with_confounds(function: Callable[..., None]) -> Callable[..., None]:
    """Append the list of all confounds to the help of a command."""
    lines = [f"- {confound.name} ({confound.unit}): {confound.help}" for confound in CONFOUNDS.values()]
    function.__doc__ = "\n".join([function.__doc__ or "", "", *lines])
    return function


@command
@_with_confounds
def confounds(
    study: WritableStudy,
    where: StudyModel,
    printing: Printing,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus; may be repeated.", show_default="all corpora of the study")
    ] = None,
    site: SiteOption = None,
    no_model: Annotated[
        bool, typer.Option("--no-model", help="Omit surprisal and entropy, so that no model is loaded.")
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option(help="Number of texts per forward pass.", show_default="as recorded")
    ] = None,
) -> None:
    """Compute a table of confounds for every run: position, frequency, surprisal, global signal and others."""
    import pandas as pd

    output, opened = printing.output, study.open()
    with output.progress("Computing confounds") as progress:
        computed = opened.confounds(
            corpus=corpus, site=site, no_model=no_model, batch_size=batch_size, progress=progress, **asdict(where)
        )
    for tables in computed:
        output.table(tables.summary.drop(columns=["corpus", "site"]), _title(tables))
    for reason in dict.fromkeys(reason for tables in computed for reason in _reasons(tables)):
        output.say(reason)
    output.say(
        f"Regress confounds out: lmri decompose {quote(study)} --confounds position --confounds log_frequency "
        "--name clean"
    )
    output.result(
        {
            "study": str(study),
            "written": [opened.layout.relative(path) for tables in computed for path in tables.written],
            "confounds": records(pd.concat([tables.summary for tables in computed], ignore_index=True)),
        }
    )


def _title(tables: "ConfoundTables") -> str:
    recording, n_written = tables.recording, len(tables.written)
    state = f"{n_written} tables written" if n_written else "already stored"
    return f"{recording.corpus} at {recording.space.site}: {recording.n_volumes} volumes, {state}"


def _reasons(tables: "ConfoundTables") -> list[str]:
    """Return the columns without any value, with the reason, one sentence per reason."""
    columns: dict[str, list[str]] = {}
    for name, reason in tables.reasons.items():
        columns.setdefault(reason, []).append(name)
    return [f"n/a throughout: {', '.join(names)}. {reason}" for reason, names in columns.items()]
