"""Display labels of networks. Labels are not results, so editing one makes no result out of date.

All labels of a study are stored in one table. A row belongs to a decomposition by its name and content: the labels of a
decomposition that was replaced are kept, but are not displayed until the same decomposition is present again.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from lmri.exceptions import StudyError
from lmri.storage import Layout, read_table, write_lock, write_table
from lmri.storage.entries import Entries, Entry
from lmri.storage.store import Store

COLUMNS = ("site", "decomposition", "network", "label", "source", "decomposition_sha256")
SUGGESTED, EDITED = "suggested", "edited"

_KEY = ["site", "decomposition", "network", "decomposition_sha256"]


def read(layout: Layout) -> pd.DataFrame:
    """Read all labels of a study; the table is empty before the first label is written.

    Raises
    ------
    StudyError
        If the table is damaged, for example by editing it in another program.
    """
    path = layout.network_labels
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS), dtype=object)
    try:
        return read_table(path, COLUMNS)[list(COLUMNS)]
    except KeyError as error:  # a missing column, or an invalid escape
        raise StudyError(
            f"{path} is not a table of labels ({error}): it needs the columns {', '.join(COLUMNS)}, with every "
            "backslash doubled. Repair or delete it, and edit labels with `lmri label`."
        ) from None


def of(layout: Layout, decomposition: Entry) -> pd.DataFrame:
    """Read the labels of the current version of a decomposition: ``network, label, source``."""
    table = read(layout)
    is_current = (table["site"] == decomposition.site) & (table["decomposition"] == decomposition.name)
    is_current &= table["decomposition_sha256"] == decomposition.digest
    return table.loc[is_current, ["network", "label", "source"]].reset_index(drop=True)


def resolve(entries: Entries, network: str, site: str | None) -> tuple[str, str, str]:
    """Find the decomposition and site of a network, and the name of the network in it.

    Raises
    ------
    ValueError
        If the name matches no decomposition, or several.
    """
    name, _, number = network.rpartition("-")
    decompositions = entries.list("decompositions")
    matches = {(entry.name, entry.site) for entry in decompositions if entry.name == name}
    matches |= {
        (str(entry.inputs["decomposition"]), entry.site) for entry in entries.list("networks") if entry.name == name
    }
    matches = {match for match in matches if site in (None, match[1])}
    if len(matches) > 1:
        places = " and ".join("@".join(match) for match in sorted(matches))
        raise ValueError(
            f"{network!r} is ambiguous: it matches {places}. Choose the site (--site), or use the name of the "
            "network in the decomposition."
        )
    if not matches:
        known = ", ".join(sorted(f"{entry.name} at {entry.site}" for entry in decompositions)) or "none yet"
        raise ValueError(
            f"There is no network {network!r}{f' at {site}' if site else ''}. The decompositions are {known}; "
            "networks are named after them with a number, such as ica-03."
        )
    decomposition, at = matches.pop()
    return decomposition, at, f"{decomposition}-{number}"


def write(
    layout: Layout, decomposition: Entry, known: Sequence[str], labels: Mapping[str, str], source: str
) -> list[str]:
    """Write labels while holding the lock of the study.

    Parameters
    ----------
    layout : Layout
        Folders of the study.
    decomposition : Entry
        Decomposition of the networks.
    known : sequence of str
        Names of all its networks.
    labels : mapping from str to str
        Labels by name of the network.
    source : {"suggested", "edited"}
        Source of the labels: edited labels replace all others, suggestions replace suggestions only.

    Returns
    -------
    list of str
        Networks whose edited label was kept instead of the suggestion.

    Raises
    ------
    ValueError
        If a network is unknown, or a label is empty.
    """
    for network, label in labels.items():
        if network not in known:
            raise ValueError(f"There is no network {network!r}; networks are {known[0]} to {known[-1]}.")
        if not label.strip():
            raise ValueError(f"The label of {network!r} is {label!r}; use at least one word, such as 'unclear'.")
    with write_lock(layout.root):
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
    """Add labels to the metrics of networks as a column ``label``; return the metrics unchanged if there are none."""
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
    """Store a label chosen by a user; see `lmri.Study.label`."""
    name, at, network_name = resolve(store.entries, network, site)
    entry = store.fresh("decompositions", name, at)
    write(store.layout, entry, _names(store, entry), {network_name: text}, EDITED)
    return network_name


def _names(store: Store, decomposition: Entry) -> list[str]:
    """Return the names of the networks of a stored decomposition."""
    return list(read_table(store.file_of(decomposition)("metrics.tsv"), ["network"])["network"])
