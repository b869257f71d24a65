"""Selection of stored confounds for an analysis: by name, without missing values, with warnings of useless columns."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmri import storage
from lmri.decomposition.confounds.columns import COLUMNS
from lmri.decomposition.confounds.tables import has_site, has_text, reasons
from lmri.decomposition.nuisance import basis
from lmri.exceptions import DataWarning, StudyError
from lmri.storage.recording import Recording


def select(recordings: Recording | Sequence[Recording], names: Sequence[str]) -> list[pd.DataFrame]:
    """Return stored confounds as regressors without missing values.

    Missing values are replaced by the mean of the run, because otherwise the volume or the confound would be lost. In a
    decomposition this value is 0 after centring: a single confound then leaves the volume unchanged, and the volume
    does not affect its slope. Together with other confounds, and in localizers, which have one intercept per text, the
    volume affects the fit as if it had this value.

    Parameters
    ----------
    recordings : Recording or sequence of Recording
        Recordings in the order of the images.
    names : sequence of str
        Names from `COLUMNS`.

    Returns
    -------
    list of DataFrame
        Tables with the columns `names`, one per run, one row per volume; float64.

    Raises
    ------
    ValueError
        If a name is unknown, or a column has no values.
    StudyError
        If the recording has no confounds yet, or the stored ones belong to another recording or an older version.

    Warns
    -----
    DataWarning
        If missing values were replaced, or a confound is constant or a combination of the confounds before it.
    """
    recordings = [recordings] if isinstance(recordings, Recording) else list(recordings)
    _check_names(names)
    tables_of_runs: list[pd.DataFrame] = []
    for recording in recordings:
        tables = [table[list(names)].astype(np.float64) for table in _own(recording)]
        for name in names:
            if all(table[name].isna().all() for table in tables):
                why = f"{reasons(recording)[name]} " if name in reasons(recording) else ""
                raise ValueError(
                    f"The confound {name!r} has no values in {recording.corpus!r} ({recording.space.site}). {why}"
                    "Choose other confounds."
                )
        tables_of_runs += tables
    _warn_of_filled(tables_of_runs, names)
    filled = [table.fillna(table.mean()).fillna(0.0) for table in tables_of_runs]  # constant in a run without values
    _warn_of_useless(filled, names)
    return filled


def _own(recording: Recording) -> list[pd.DataFrame]:
    """Read stored confounds; raise an error if they belong to another recording, whose length may be the same."""
    tables = recording.confounds
    if not (has_text(recording) and has_site(recording)):
        raise StudyError(
            f"The confounds of {recording.corpus!r} ({recording.space.site}) belong to another recording or an older "
            "version, or were edited. Compute them again: lmri confounds STUDY."
        )
    return tables


def _check_names(names: Sequence[str]) -> None:
    """Raise an error unless names are a list of known confounds without duplicates."""
    if isinstance(names, str):
        raise TypeError(f"The confounds are a string, {names!r}. Pass a list of names.")
    for name in names:
        if name not in COLUMNS:
            raise ValueError(f"The confound is {name!r}; choose from {', '.join(COLUMNS)}.")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"The confounds are {list(names)}. Name at least one confound, without duplicates.")


def _warn_of_filled(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> None:
    """Warn of missing values that are replaced by the mean of the run."""
    n_volumes = sum(len(table) for table in tables)
    counts = {name: sum(int(table[name].isna().sum()) for table in tables) for name in names}
    if missing := {name: count for name, count in counts.items() if count}:
        shown = ", ".join(f"{name} at {count}" for name, count in missing.items())
        warnings.warn(
            f"Confounds have missing values among {n_volumes} volumes: {shown}. They were replaced by the mean of the "
            "run. In a decomposition, a single confound then leaves these volumes unchanged; with several confounds, "
            "and in localizers, these volumes affect the fit.",
            DataWarning,
            stacklevel=3,
        )


def _warn_of_useless(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> None:
    """Warn of confounds without an effect on the fit, which continues as without them."""
    for number, name in enumerate(names):
        ranks = [
            (basis(table.iloc[:, :number]).shape[1], basis(table.iloc[:, : number + 1]).shape[1]) for table in tables
        ]
        n_useless = sum(before == after for before, after in ranks)
        if not n_useless:
            continue
        n_constant = sum(basis(table[[name]]).shape[1] == 0 for table in tables)
        why = "constant" if n_constant == n_useless else "constant, or a combination of the confounds before it,"
        warnings.warn(
            f"Confound {name!r} is {why} in {n_useless} of {len(tables)} runs and has no effect in them.",
            DataWarning,
            stacklevel=3,
        )


def joined(recordings: Sequence[Recording]) -> list[pd.DataFrame]:
    """Return the events of all runs, joined with the stored confounds if every recording has them.

    Columns without values are left out; columns of the events are kept.

    Raises
    ------
    StudyError
        If the stored confounds belong to another recording or an older version.
    """
    events = [table for recording in recordings for table in recording.events]
    paths = [path for recording in recordings for run in recording.runs for path in (run.events, run.img)]
    if not all(storage.confounds_beside(path).is_file() for path in paths):
        return events
    confounds = [table for recording in recordings for table in _own(recording)]
    known = [name for name in COLUMNS if any(table[name].notna().any() for table in confounds)]
    new_columns = [[name for name in known if name not in table] for table in events]
    return [pd.concat([a, b[names]], axis=1) for a, b, names in zip(events, confounds, new_columns, strict=True)]
