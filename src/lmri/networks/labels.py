"""Labels of networks: what people call them. They are no results, so editing one makes nothing stale.

All labels of a study lie in one table. A row belongs to a decomposition by its name and content: the labels of one that
was replaced are kept, but shown nowhere until it is there again.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from lmri.exceptions import StudyError
from lmri.storage import Layout, read_table, write_table, writing
from lmri.storage.entries import Entries, Entry
from lmri.storage.store import Store

COLUMNS = ("site", "decomposition", "network", "label", "source", "decomposition_sha256")
SUGGESTED, EDITED = "suggested", "edited"

_KEY = ["site", "decomposition", "network", "decomposition_sha256"]


def read(layout: Layout) -> pd.DataFrame:
    """Read all labels of a study; none are there before the first is written.

    Raises
    ------
    StudyError
        If the table was damaged, as by editing it in another program.
    """
    path = layout.network_labels
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS), dtype=object)
    try:
        return read_table(path, COLUMNS)[list(COLUMNS)]
    except KeyError as error:  # a column, or an escape that is none
        raise StudyError(
            f"{path} is not a table of labels ({error}): the columns are {', '.join(COLUMNS)}, and a backslash is "
            "doubled. Mend or delete it, and edit labels by `lmri label`."
        ) from None


def of(layout: Layout, decomposition: Entry) -> pd.DataFrame:
    """Read the labels of one decomposition, as it is now: ``network, label, source``."""
    table = read(layout)
    own = (table["site"] == decomposition.site) & (table["decomposition"] == decomposition.name)
    own &= table["decomposition_sha256"] == decomposition.digest
    return table.loc[own, ["network", "label", "source"]].reset_index(drop=True)


def resolve(entries: Entries, network: str, site: str | None) -> tuple[str, str, str]:
    """Find the decomposition and site that a network is of, and its name there.

    Raises
    ------
    ValueError
        If the name fits none, or several.
    """
    name, _, number = network.rpartition("-")
    decompositions = entries.list("decompositions")
    fitting = {(one.name, one.site) for one in decompositions if one.name == name}
    fitting |= {(str(one.inputs["decomposition"]), one.site) for one in entries.list("networks") if one.name == name}
    fitting = {one for one in fitting if site in (None, one[1])}
    if len(fitting) > 1:
        places = " and ".join("@".join(one) for one in sorted(fitting))
        raise ValueError(
            f"{network!r} may be of {places}. Say the site (--site), or take the name in the decomposition."
        )
    if not fitting:
        known = ", ".join(sorted(f"{one.name} at {one.site}" for one in decompositions)) or "none yet"
        raise ValueError(
            f"There is no network {network!r}{f' at {site}' if site else ''}. Decompositions are {known}; their "
            "networks have a number behind the name, such as ica-03."
        )
    decomposition, at = fitting.pop()
    return decomposition, at, f"{decomposition}-{number}"


def write(
    layout: Layout, decomposition: Entry, known: Sequence[str], labels: Mapping[str, str], source: str
) -> list[str]:
    """Write labels, under the study's lock.

    Parameters
    ----------
    layout : Layout
        Of the study.
    decomposition : Entry
        That the networks are of.
    known : sequence of str
        All its networks.
    labels : mapping from str to str
        By the name of the network.
    source : {"suggested", "edited"}
        Edited labels replace all others, suggestions only suggestions.

    Returns
    -------
    list of str
        Networks whose edited label was kept instead of the suggestion.

    Raises
    ------
    ValueError
        If there is no such network, or a label is empty.
    """
    for network, label in labels.items():
        if network not in known:
            raise ValueError(f"There is no network {network!r}; there are {known[0]} to {known[-1]}.")
        if not label.strip():
            raise ValueError(f"The label of {network!r} is {label!r}; give at least a word, such as 'unclear'.")
    with writing(layout.root):
        table = read(layout)
        there = of(layout, decomposition)
        edited = set(there.loc[there["source"] != SUGGESTED, "network"]) if source == SUGGESTED else set()
        rows = [
            (decomposition.site, decomposition.name, network, label.strip(), source, decomposition.digest)
            for network, label in labels.items()
            if network not in edited
        ]
        table = pd.concat([table, pd.DataFrame(rows, columns=list(COLUMNS))], ignore_index=True)
        table = table.drop_duplicates(_KEY, keep="last").sort_values(_KEY, kind="stable")
        write_table(layout.network_labels, table)
    return [network for network in labels if network in edited]


def joined(metrics: pd.DataFrame, names: Sequence[str], labels: pd.DataFrame) -> pd.DataFrame:
    """Put labels into the metrics of networks as a column ``label``; nothing is added where there are none."""
    known = dict(zip(labels["network"], labels["label"], strict=True))
    if not any(name in known for name in names):
        return metrics
    column = pd.Series([known.get(name, "") for name in names], dtype=object)
    return pd.concat([metrics.drop(columns="label", errors="ignore"), column.rename("label")], axis=1)


def suggest(
    store: Store, suggested: Mapping[str, str], decomposition: str | None = None, site: str | None = None
) -> list[str]:
    """Store suggested labels; see `lmri.Study.suggest_labels`."""
    entry = store.fresh("decompositions", decomposition, site)
    return write(store.layout, entry, _names(store, entry), suggested, SUGGESTED)


def edit(store: Store, network: str, text: str, site: str | None = None) -> str:
    """Store a label that a person chose; see `lmri.Study.label`."""
    name, at, own = resolve(store.entries, network, site)
    entry = store.fresh("decompositions", name, at)
    write(store.layout, entry, _names(store, entry), {own: text}, EDITED)
    return own


def _names(store: Store, decomposition: Entry) -> list[str]:
    """Return the names of the networks of a stored decomposition."""
    return list(read_table(store.file_of(decomposition)("metrics.tsv"), ["network"])["network"])
