"""The command that makes a table of confounds for every run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, guarded, quote, records
from lmri.cli.describe import Json, Quiet
from lmri.cli.options import DeviceMap, OffloadFolder, Pickle, SiteOption, StudyFolder, Trust

if TYPE_CHECKING:
    import pandas as pd

    from lmri.decomposition.confounds import Predictions
    from lmri.storage.recording import Recording
    from lmri.study import Study


@guarded
def confounds(
    study: StudyFolder,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus; may be repeated.", show_default="all of the study")
    ] = None,
    site: SiteOption = None,
    model: Annotated[
        str | None, typer.Option(help="Where the model is.", show_default="where it was when it was recorded")
    ] = None,
    no_model: Annotated[
        bool, typer.Option("--no-model", help="Leave surprisal and entropy out: no model is loaded.")
    ] = False,
    batch_size: Annotated[int | None, typer.Option(help="Texts read at once.", show_default="as recorded")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    trust_remote_code: Trust = False,
    allow_pickle: Pickle = False,
    device_map: DeviceMap = None,
    offload_folder: OffloadFolder = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a table of confounds beside every run: position, frequency, surprisal, global signal and so on."""
    import pandas as pd

    from lmri.decomposition.confounds import write
    from lmri.study import open_study

    output, opened = Output(quiet, json), open_study(study)
    if no_model and model is not None:
        raise ValueError("--model and --no-model were both given. Leave one of them out.")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"--batch-size is {batch_size}; it must be at least 1.")
    recordings = _recordings(opened, corpus, site)
    loading = {"allow_pickle": allow_pickle, "device_map": device_map, "offload_folder": offload_folder}
    place = _Place(model, device, trust_remote_code, loading)
    found = {} if no_model else _predictions(output, opened, recordings, place, batch_size)
    written: list[Any] = []
    tables: list[pd.DataFrame] = []
    for recording in recordings:
        with output.progress(f"Computing confounds of {recording.corpus} at {recording.space.site}"):
            own = write(opened.layout, recording, found.get(recording.corpus))
        written += own
        tables.append(_summary(recording))
        output.table(tables[-1].drop(columns=["corpus", "site"]), _title(recording, len(own)))
    for reason in dict.fromkeys(reason for one in recordings for reason in _reasons(one)):
        output.say(reason)
    output.say(
        f"Take some out of the data: lmri decompose {quote(study)} --confounds position --confounds log_frequency "
        "--name clean"
    )
    output.result(
        {
            "study": str(study),
            "written": [opened.layout.relative(path) for path in written],
            "confounds": records(pd.concat(tables, ignore_index=True)),
        }
    )


def _recordings(study: "Study", corpora: list[str] | None, site: str | None) -> "list[Recording]":
    """Open every recording that was asked for; at least one."""
    from lmri.exceptions import StudyError

    known = study.recordings(None if site is None else study.site(site))
    names = list(dict.fromkeys(one.corpus for one in known))
    if not known:
        raise StudyError(f"{study.root} holds no recording. Make one: lmri record.")
    if absent := [name for name in corpora or [] if name not in names]:
        raise ValueError(f"--corpus is {absent[0]!r}; there are {', '.join(names)}. Name one of these.")
    wanted = [one for one in known if one.corpus in (corpora or names)]
    return [study.recording(one.corpus, one.space.site) for one in wanted]  # refuses what is cut short


@dataclass(frozen=True)
class _Place:
    """Where the model is, and how it is loaded."""

    model: str | None
    device: str
    trust_remote_code: bool
    loading: dict[str, Any]


def _predictions(
    output: Output, study: "Study", recordings: "list[Recording]", place: _Place, batch_size: int | None
) -> "dict[str, Predictions]":
    """Ask the model about every corpus that has no predictions yet; it is loaded if there is one, or was named."""
    from lmri.decomposition.confounds import has_predictions, reasons
    from lmri.models.study_model import ModelSource

    # All sites of a corpus share what was predicted. Where a model could not, another one with a head may be named.
    missing = {
        one.corpus: one
        for one in recordings
        if not has_predictions(one) or (place.model is not None and "surprisal" in reasons(one))
    }
    if not missing and place.model is None:
        return {}
    with output.progress("Loading the model"):
        from lmri.models.surprisal import predictions

        try:
            source = ModelSource(place.model, place.device, place.trust_remote_code, **place.loading)
            loaded, _ = source.load(study)
        except ValueError as error:
            raise ValueError(f"{error} To do without surprisal and entropy: --no-model.") from error
    _check_weights(loaded, [one for one in recordings if one.corpus not in missing])
    found = {}
    for corpus, recording in missing.items():
        with output.progress(f"Reading {corpus}") as progress:
            found[corpus] = predictions(loaded, recording, batch_size, progress)
    return found


def _check_weights(model: Any, recordings: "list[Recording]") -> None:
    """Refuse a model if other weights made the predictions that are stored, and will not be made again."""
    from lmri.decomposition.confounds import predicted_by
    from lmri.exceptions import StudyError
    from lmri.models import fingerprint

    given = fingerprint(model, head=True)
    for one in recordings:
        if others := predicted_by(one) - {given}:
            raise StudyError(
                f"Surprisal and entropy of {one.corpus!r} are stored, by weights {', '.join(map(str, others))}; this "
                f"model has {given}. Nothing was written. Keep them: leave out --model. Make them again: delete "
                f"*_task-{one.corpus}_*_desc-confounds_timeseries.* first."
            )


def _summary(recording: "Recording") -> "pd.DataFrame":
    """Describe the columns of a recording, over all runs."""
    import pandas as pd

    from lmri.decomposition.confounds import SITE_COLUMNS, TEXT_COLUMNS

    joined = pd.concat(recording.confounds, ignore_index=True)
    units = {name: about["Units"] for name, about in (TEXT_COLUMNS | SITE_COLUMNS).items()}
    return pd.DataFrame(
        {
            "corpus": recording.corpus,
            "site": recording.space.site,
            "confound": list(joined),
            "unit": [units[name] for name in joined],
            "mean": joined.mean().to_numpy(),
            "sd": joined.std(ddof=0).to_numpy(),
            "min": joined.min().to_numpy(dtype=float),
            "max": joined.max().to_numpy(dtype=float),
            "n/a": joined.isna().sum().to_numpy(),
        }
    )


def _title(recording: "Recording", n_written: int) -> str:
    state = f"{n_written} tables written" if n_written else "already there"
    return f"{recording.corpus} at {recording.space.site}: {recording.n_volumes} volumes, {state}"


def _reasons(recording: "Recording") -> list[str]:
    """Say why columns are n/a throughout."""
    from lmri.decomposition.confounds import reasons

    found: dict[str, list[str]] = {}
    for name, reason in reasons(recording).items():
        found.setdefault(reason, []).append(name)
    return [f"n/a throughout: {', '.join(names)}. {reason}" for reason, names in found.items()]
