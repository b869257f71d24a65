"""Contents of a study: a table of its recordings and entries."""

import pandas as pd

from lmri.storage.freshness import KINDS
from lmri.storage.layout import ENTRY_KINDS
from lmri.storage.store import Store

COLUMNS = ["kind", "name", "site", "made of"]

_NAMED = (*KINDS, "first", "second", "second_site", "sets")
"""Inputs of an entry that are named parts of the study."""


def contents(store: Store) -> pd.DataFrame:
    """List recordings and entries.

    Parameters
    ----------
    store : Store
        The study.

    Returns
    -------
    DataFrame
        ``kind, name, site, made of``; one row per recording and per entry.
    """
    rows = [
        {
            "kind": "recording",
            "name": recording.corpus,
            "site": recording.space.site,
            "made of": f"{recording.n_volumes} volumes",
        }
        for recording in store.recordings()
    ]
    for kind in ENTRY_KINDS:
        for entry in store.entries.list(kind):
            inputs = [value for key, value in entry.inputs.items() if key in _NAMED and value]
            made_of = ", ".join(", ".join(value) if isinstance(value, list) else str(value) for value in inputs)
            rows.append({"kind": kind, "name": entry.name, "site": entry.site, "made of": made_of})
    return pd.DataFrame(rows, columns=COLUMNS)
