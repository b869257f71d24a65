"""Recording another model with the texts that a study contains: each corpus, with the parameters of its recording."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lmri.exceptions import AmbiguousChoiceError, StudyError
from lmri.models.recorder.options import RecordingOptions
from lmri.storage import Layout
from lmri.storage.corpora import corpus_is_recorded, stored_texts
from lmri.storage.recording import Recording
from lmri.storage.recordings import check_version
from lmri.storage.store import Store

logger = logging.getLogger(__name__)

OF_MODEL = ("projection", "experts")
"""Parameters that describe one model; another model is recorded with their defaults."""

_CHOSEN = ("site", "resume", "subject", "session", "shard")
"""Options that a user may choose although the study contains the texts."""


def stored_requests(out: str | Path, options: RecordingOptions) -> list[tuple[list[str], RecordingOptions]]:
    """Return the texts of each corpus of a study, and the options to record them with another model.

    Parameters
    ----------
    out : str or Path
        Folder of the study.
    options : RecordingOptions
        Options of the user: labels of the model, sites, and whether to resume. By default the sites are those at which
        the corpus is recorded.

    Returns
    -------
    list of tuple
        Texts and options per corpus, in alphabetical order.

    Raises
    ------
    StudyError
        If the folder is not a study, or the texts of a corpus are not stored.
    AmbiguousChoiceError
        If nothing is recorded yet.
    ValueError
        If an option was chosen that the study determines.
    """
    default = RecordingOptions()
    chosen = [
        option.name
        for option in fields(RecordingOptions)
        if option.name not in _CHOSEN and getattr(options, option.name) != getattr(default, option.name)
    ]
    if chosen:
        raise ValueError(
            f"{', '.join(chosen)} cannot be chosen without texts: the corpora of {out} are recorded with the stored "
            "parameters. Omit these options, or pass the texts."
        )
    layout = Layout(Path(out))
    if not layout.study.is_file():
        raise StudyError(f"{out} is not a study, so it contains no texts. Pass the texts to record.")
    check_version(layout)
    requests = []
    for corpus in sorted(layout.corpora()):
        scopes = [scope for scope in layout.scopes() if corpus_is_recorded(layout.at(scope), corpus)]
        if scopes:
            requests.append(_request(Store(layout.root, (), scopes[0]), corpus, options))
    if not requests:
        raise AmbiguousChoiceError(f"{out} contains no recordings yet. Pass the texts to record.")
    return requests


Recorded = Recording | list[Recording] | None
"""Stored recording, or a list with one recording per site and corpus; None for a shard."""


def flat(results: Sequence[Recorded]) -> list[Recording]:
    """Concatenate the recordings of several corpora; shards have none."""
    lists = [[result] if isinstance(result, Recording) else result or [] for result in results]
    return [recording for recordings in lists for recording in recordings]


def _request(store: Store, corpus: str, options: RecordingOptions) -> tuple[list[str], RecordingOptions]:
    """Return the texts of a corpus and the options with which a model recorded it."""
    recordings = [recording for recording in store.recordings() if recording.corpus == corpus]
    stored = _parameters(recordings[0].info["parameters"])
    logger.info("%s is recorded with the parameters of %s", corpus, store.scope)
    is_default = options.site == RecordingOptions().site
    sites = [recording.space.site for recording in recordings] if is_default else options.sites
    chosen = {name: getattr(options, name) for name in _CHOSEN if name != "site"}
    return stored_texts(store.layout, corpus), replace(
        RecordingOptions(), **{**stored, **chosen, "corpus": corpus, "site": sites}
    )


def _parameters(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored parameters that apply to any model."""
    known = {option.name for option in fields(RecordingOptions)}
    parameters = {name: value for name, value in stored.items() if name in known and name not in OF_MODEL}
    return {name: value for name, value in parameters.items() if not (name == "run_tokens" and value is None)}
