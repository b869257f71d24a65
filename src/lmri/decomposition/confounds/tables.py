"""The tables on disk: what does not depend on where neurons were read is written once, for all sites of a corpus."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lmri import storage
from lmri.decomposition.confounds.columns import (
    NO_SPANS,
    PREDICTED,
    SITE_COLUMNS,
    TEXT_COLUMNS,
    Predictions,
    site_columns,
    text_columns,
)
from lmri.decomposition.confounds.registry import CONFOUNDS
from lmri.storage import Layout
from lmri.storage.recording import Recording

DEFINITIONS = 1
"""Raised when a column comes to mean something else, so that older tables are made again."""

NOT_ASKED = "The model was not asked (--no-model)."


def compute(recording: Recording, predictions: Predictions | None = None) -> list[pd.DataFrame]:
    """Compute the confounds of a recording; nothing is written.

    Parameters
    ----------
    recording : Recording
        Its images are read.
    predictions : Predictions, optional
        As ``lmri.surprisal.predictions(model, recording)`` gives them; without, surprisal and entropy are missing.

    Returns
    -------
    list of DataFrame
        One a run, a row a volume, with `COLUMNS`.

    Raises
    ------
    ValueError
        If the predictions are of other tokens.
    """
    texts, sites = text_columns(recording, predictions), site_columns(recording)
    return [pd.concat(parts, axis=1) for parts in zip(texts, sites, strict=True)]


def write(layout: Layout, recording: Recording, predictions: Predictions | None = None) -> list[Path]:
    """Compute and store what is missing of the confounds of a recording; what is there stays as it is.

    Parameters
    ----------
    layout : Layout
        Of the study, ``study.layout``.
    recording : Recording
        Of this study.
    predictions : Predictions, optional
        As for `compute`. Tables that hold surprisal keep it without.

    Returns
    -------
    list of Path
        The tables that were written.
    """
    if not any(_needs(recording, predictions)):  # a study that is whole may lie where nothing can be written
        return []
    written: list[Path] = []
    with storage.writing(layout.root):
        needs_text, needs_site = _needs(recording, predictions)  # another command may have written before this one did
        vars(recording).pop("confounds", None)  # what was read before
        if not (needs_text or needs_site):
            return []
        storage.ignore_in_bids(layout)
        if needs_text:
            about = {**_text_identity(recording), **_source(predictions)}
            for run, table in zip(recording.runs, text_columns(recording, predictions), strict=True):
                why = _reasons(table, predictions)
                written.append(_write(storage.confounds_beside(run.events), table, TEXT_COLUMNS, about, why))
        if needs_site:
            about = _site_identity(recording)
            for run, table in zip(recording.runs, site_columns(recording), strict=True):
                written.append(_write(storage.confounds_beside(run.img), table, SITE_COLUMNS, about, {}))
        storage.write_log(layout, "confounds", corpus=recording.corpus, site=recording.space.site)
    return written


def _needs(recording: Recording, predictions: Predictions | None) -> tuple[bool, bool]:
    """Say whether the columns that all sites share are to be made, and those of the site."""
    needs_text = not has_text(recording)
    if predictions is not None and not needs_text:
        regained = not predictions.reason and "surprisal" in reasons(recording)
        needs_text = not has_predictions(recording) or regained
    return needs_text, not has_site(recording)


def _reasons(table: pd.DataFrame, predictions: Predictions | None) -> dict[str, str]:
    """Say why columns are n/a throughout."""
    reason = NOT_ASKED if predictions is None else predictions.reason
    found = dict.fromkeys(PREDICTED, reason) if reason else {}
    return found | {name: NO_SPANS for name in table if name not in PREDICTED and table[name].isna().all()}


def _write(
    path: Path,
    table: pd.DataFrame,
    columns: Mapping[str, Mapping[str, str]],
    about: Mapping[str, Any],
    reasons: Mapping[str, str],
) -> Path:
    """Write one table and, when it is whole, the sidecar by which it counts as there."""
    storage.write_table(path, table)
    content: dict[str, Any] = {
        name: {**columns[name], **({"Reason": reasons[name]} if name in reasons else {})} for name in table
    }
    for name in table:
        if CONFOUNDS[name].levels:
            content[name]["Levels"] = dict(CONFOUNDS[name].levels)
    content["LMRI"] = {**about, "sha256": storage.file_hash(path)}
    storage.write_json(storage.sidecar(path), content)
    return path


# -- what is there ----------------------------------------------------------------------------------------------------


def has_text(recording: Recording) -> bool:
    """Say whether the columns that all sites share are stored, with or without predictions."""
    wanted = _text_identity(recording)
    return all(_is_there(storage.confounds_beside(run.events), wanted) for run in recording.runs)


def has_predictions(recording: Recording) -> bool:
    """Say whether they are stored, and a model was asked for its predictions, be it one that makes none."""
    return has_text(recording) and None not in predicted_by(recording)


def predicted_by(recording: Recording) -> set[str | None]:
    """Give the hashes of the weights that were asked, of runs whose tables are stored; None where none were."""
    beside = [storage.sidecar(storage.confounds_beside(run.events)) for run in recording.runs]
    return {storage.read_json(path)["LMRI"]["weights"] for path in beside}


def has_site(recording: Recording) -> bool:
    """Say whether the columns of the recording's site are stored."""
    wanted = _site_identity(recording)
    return all(_is_there(storage.confounds_beside(run.img), wanted) for run in recording.runs)


def reasons(recording: Recording) -> dict[str, str]:
    """Say of stored columns that are n/a throughout why they are."""
    beside = storage.read_json(storage.sidecar(storage.confounds_beside(recording.runs[0].events)))
    return {name: about["Reason"] for name, about in beside.items() if "Reason" in about}


def _is_there(path: Path, wanted: Mapping[str, Any]) -> bool:
    beside = storage.sidecar(path)
    if not (path.is_file() and beside.is_file()):
        return False
    about = storage.read_json(beside).get("LMRI", {})
    same = all(about.get(key) == value for key, value in wanted.items())
    return same and about.get("sha256") == storage.file_hash(path)


def _text_identity(recording: Recording) -> dict[str, Any]:
    info, model = recording.info, recording.space.model
    made_of = [info["texts_sha256"], info["parameters"], model.fingerprint if model else None]
    return {"definitions": DEFINITIONS, "made_of": storage.digest(made_of)}


def _site_identity(recording: Recording) -> dict[str, Any]:
    made_of = [_text_identity(recording), recording.space.to_dict()]
    return {"definitions": DEFINITIONS, "made_of": storage.digest(made_of)}


def _source(predictions: Predictions | None) -> dict[str, Any]:
    """Say by which weights tokens were predicted; None if no model was asked."""
    return {"weights": None if predictions is None else predictions.weights}
