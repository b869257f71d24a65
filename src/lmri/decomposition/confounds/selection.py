"""Confounds as an analysis takes them: chosen by name, without gaps, with a word on what adds nothing."""

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
    """Give stored confounds as regressors, without missing values.

    A volume without a value gets the mean of its run, as it would be lost, or the confound, if such volumes were
    refused. In a decomposition that is 0 after centring: alone, the confound takes nothing out of the volume, which has
    no part in its slope. Beside other confounds, and in localizers, whose intercepts are of texts, the volume has a
    part in the fit, as if it had this value.

    Parameters
    ----------
    recordings : Recording or sequence of Recording
        In the order of the images.
    names : sequence of str
        Of `COLUMNS`.

    Returns
    -------
    list of DataFrame
        One a run, a row a volume, with `names`; float64.

    Raises
    ------
    ValueError
        If a name is none of them, or a column has no value at all.
    StudyError
        If the recording has no confounds yet, or those beside it are of another recording or an older version.

    Warns
    -----
    DataWarning
        If values were filled in, or a confound is constant, or adds nothing to those before it.
    """
    recordings = [recordings] if isinstance(recordings, Recording) else list(recordings)
    _check_names(names)
    found: list[pd.DataFrame] = []
    for recording in recordings:
        tables = [table[list(names)].astype(np.float64) for table in _own(recording)]
        for name in names:
            if all(table[name].isna().all() for table in tables):
                why = f"{reasons(recording)[name]} " if name in reasons(recording) else ""
                raise ValueError(
                    f"The confound {name!r} has no value in {recording.corpus!r} at {recording.space.site}. {why}"
                    "Choose others."
                )
        found += tables
    _warn_of_filled(found, names)
    filled = [table.fillna(table.mean()).fillna(0.0) for table in found]  # a run without any value is constant
    _warn_of_useless(filled, names)
    return filled


def _own(recording: Recording) -> list[pd.DataFrame]:
    """Read stored confounds, and refuse those of another recording, whose rows may fit nevertheless."""
    tables = recording.confounds
    if not (has_text(recording) and has_site(recording)):
        raise StudyError(
            f"The confounds of {recording.corpus!r} at {recording.space.site} are of another recording or an older "
            "version, or were edited. Make them again: lmri confounds STUDY."
        )
    return tables


def _check_names(names: Sequence[str]) -> None:
    if isinstance(names, str):
        raise TypeError(f"The confounds are one string, {names!r}; give a list of names.")
    for name in names:
        if name not in COLUMNS:
            raise ValueError(f"The confound is {name!r}; accepted are {', '.join(COLUMNS)}.")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"The confounds are {list(names)}; give at least one, and each once.")


def _warn_of_filled(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> None:
    n_volumes = sum(len(table) for table in tables)
    counts = {name: sum(int(table[name].isna().sum()) for table in tables) for name in names}
    if missing := {name: count for name, count in counts.items() if count}:
        shown = ", ".join(f"{name} at {count}" for name, count in missing.items())
        warnings.warn(
            f"Confounds without a value, of {n_volumes} volumes: {shown}. They were given the mean of their run: in a "
            "decomposition a single confound then leaves these volumes as they are; beside others, and in localizers, "
            "they have a part in the fit.",
            DataWarning,
            stacklevel=3,
        )


def _warn_of_useless(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> None:
    """Warn of what takes nothing out: the fit goes on, and is the same as without."""
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
            f"The confound {name!r} is {why} in {n_useless} of {len(tables)} runs, and takes nothing out there.",
            DataWarning,
            stacklevel=3,
        )


def joined(recordings: Sequence[Recording]) -> list[pd.DataFrame]:
    """Give the events of all runs, with the confounds beside them if every recording has them.

    Columns without any value are left out, and those that the events have themselves stay.

    Raises
    ------
    StudyError
        If confounds are there, but of another recording or an older version.
    """
    events = [table for recording in recordings for table in recording.events]
    paths = [path for one in recordings for run in one.runs for path in (run.events, run.img)]
    if not all(storage.confounds_beside(path).is_file() for path in paths):
        return events
    confounds = [table for recording in recordings for table in _own(recording)]
    known = [name for name in COLUMNS if any(table[name].notna().any() for table in confounds)]
    own = [[name for name in known if name not in table] for table in events]
    return [pd.concat([a, b[names]], axis=1) for a, b, names in zip(events, confounds, own, strict=True)]
