"""Tables of confounds on disk: columns that do not depend on the site are stored once for all sites of a corpus."""

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
"""Version of the definitions of columns; a new version makes older tables out of date."""

NOT_ASKED = "The model was not asked (--no-model)."


def compute(recording: Recording, predictions: Predictions | None = None) -> list[pd.DataFrame]:
    """Compute the confounds of a recording, without writing them.

    Parameters
    ----------
    recording : Recording
        Recording, whose images are read.
    predictions : Predictions, optional
        Predictions from ``lmri.surprisal.predictions(model, recording)``; without them, surprisal and entropy are
        missing.

    Returns
    -------
    list of DataFrame
        Tables with the columns `COLUMNS`, one per run, one row per volume.

    Raises
    ------
    ValueError
        If the predictions are for other tokens.
    """
    texts, sites = text_columns(recording, predictions), site_columns(recording)
    return [pd.concat(parts, axis=1) for parts in zip(texts, sites, strict=True)]


def write(layout: Layout, recording: Recording, predictions: Predictions | None = None) -> list[Path]:
    """Compute and store the missing confounds of a recording; stored ones are kept.

    Parameters
    ----------
    layout : Layout
        Layout of the study, ``study.layout``.
    recording : Recording
        Recording of this study.
    predictions : Predictions, optional
        Predictions as for `compute`; without them, stored tables keep their surprisal.

    Returns
    -------
    list of Path
        Paths of the new tables.
    """
    needs_text, needs_site = _needs(recording, predictions)
    if not (needs_text or needs_site):  # a complete study may be read-only
        return []
    # Computed before the study is locked, because it takes long.
    of_text = text_columns(recording, predictions) if needs_text else []
    of_site = site_columns(recording) if needs_site else []
    written: list[Path] = []
    with storage.write_lock(layout.root):
        still_text, still_site = _needs(recording, predictions)  # another process may have written meanwhile
        vars(recording).pop("confounds", None)  # discard the cached tables
        storage.ignore_in_bids(layout)
        if needs_text and still_text:
            about = {**_text_identity(recording), **_source(predictions)}
            for run, table in zip(recording.runs, of_text, strict=True):
                why = _reasons(table, predictions)
                written.append(_write(storage.confounds_beside(run.events), table, TEXT_COLUMNS, about, why))
        if needs_site and still_site:
            about = _site_identity(recording)
            for run, table in zip(recording.runs, of_site, strict=True):
                written.append(_write(storage.confounds_beside(run.img), table, SITE_COLUMNS, about, {}))
        if written:
            storage.write_log(layout, "confounds", corpus=recording.corpus, site=recording.space.site)
    return written


def _needs(recording: Recording, predictions: Predictions | None) -> tuple[bool, bool]:
    """Return whether the columns shared by all sites are missing, and whether those of the site are."""
    needs_text = not has_text(recording)
    if predictions is not None and not needs_text:
        regained = not predictions.reason and "surprisal" in reasons(recording)
        needs_text = not has_predictions(recording) or regained
    return needs_text, not has_site(recording)


def _reasons(table: pd.DataFrame, predictions: Predictions | None) -> dict[str, str]:
    """Return the reasons for columns without values."""
    reason = NOT_ASKED if predictions is None else predictions.reason
    reasons_by_name = dict.fromkeys(PREDICTED, reason) if reason else {}
    return reasons_by_name | {name: NO_SPANS for name in table if name not in PREDICTED and table[name].isna().all()}


def _write(
    path: Path,
    table: pd.DataFrame,
    columns: Mapping[str, Mapping[str, str]],
    about: Mapping[str, Any],
    reasons: Mapping[str, str],
) -> Path:
    """Write one table and, when it is complete, its sidecar, which marks it as stored."""
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


# -- stored tables ----------------------------------------------------------------------------------------------------


def has_text(recording: Recording) -> bool:
    """Return whether the columns shared by all sites are stored, with or without predictions."""
    wanted = _text_identity(recording)
    return all(_is_stored(storage.confounds_beside(run.events), wanted) for run in recording.runs)


def has_predictions(recording: Recording) -> bool:
    """Return whether they are stored and a model was run for them, even if it makes no predictions."""
    return has_text(recording) and None not in predicted_by(recording)


def predicted_by(recording: Recording) -> set[str | None]:
    """Return the hashes of the weights of the predictions in the stored tables; None if no model was run."""
    sidecars = [storage.sidecar(storage.confounds_beside(run.events)) for run in recording.runs]
    return {storage.read_json(path)["LMRI"]["weights"] for path in sidecars}


def has_site(recording: Recording) -> bool:
    """Return whether the columns of the recording's site are stored."""
    wanted = _site_identity(recording)
    return all(_is_stored(storage.confounds_beside(run.img), wanted) for run in recording.runs)


def reasons(recording: Recording) -> dict[str, str]:
    """Return the stored reasons for columns without values."""
    sidecar = storage.read_json(storage.sidecar(storage.confounds_beside(recording.runs[0].events)))
    return {name: about["Reason"] for name, about in sidecar.items() if "Reason" in about}


def _is_stored(path: Path, wanted: Mapping[str, Any]) -> bool:
    """Return whether a table is stored unchanged with the wanted identity in its sidecar."""
    sidecar = storage.sidecar(path)
    if not (path.is_file() and sidecar.is_file()):
        return False
    about = storage.read_json(sidecar).get("LMRI", {})
    same = all(about.get(key) == value for key, value in wanted.items())
    return same and about.get("sha256") == storage.file_hash(path)


def _text_identity(recording: Recording) -> dict[str, Any]:
    """Return the identity of the columns shared by all sites."""
    info, model = recording.info, recording.space.model
    made_of = [info["texts_sha256"], info["parameters"], model.fingerprint if model else None]
    return {"definitions": DEFINITIONS, "made_of": storage.digest(made_of)}


def _site_identity(recording: Recording) -> dict[str, Any]:
    """Return the identity of the columns of a site."""
    made_of = [_text_identity(recording), recording.space.to_dict()]
    return {"definitions": DEFINITIONS, "made_of": storage.digest(made_of)}


def _source(predictions: Predictions | None) -> dict[str, Any]:
    """Return the hash of the weights of the predictions, or None without a model."""
    return {"weights": None if predictions is None else predictions.weights}
