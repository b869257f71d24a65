"""Identifiers in a study: names of corpora and entries, BIDS labels and scopes, and the rules that they follow."""

import re
from collections.abc import Iterable

from lmri.exceptions import EntryExistsError

GROUP = "group"
"""Scope of results that were computed from several models."""


def check_corpus(corpus: str) -> str:
    """Return `corpus` if it can be a BIDS label (letters and digits), else raise `ValueError`."""
    if not re.fullmatch(r"[A-Za-z0-9]+", corpus):
        suggestion = bids_label(corpus) or "corpus1"
        raise ValueError(
            f"The corpus name {corpus!r} must consist of letters and digits, as it becomes a BIDS label. "
            f"Try {suggestion!r}."
        )
    return corpus


def check_name(name: str) -> str:
    """Return `name` if it can be the folder of an entry, else raise `ValueError`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"The name {name!r} must start with a letter or digit, followed by letters, digits, '.', '_' or '-'. "
            "Choose another --name."
        )
    return name


_RESERVED = frozenset(
    ["aux", "con", "nul", "prn", *(f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789")]
)
"""Names of devices, which Windows reserves with any file extension."""

LONGEST_NAME = 100
"""Maximum number of characters of a name. File names add up to 120 characters, and file systems allow 255."""


def check_new_name(name: str, existing: Iterable[str], what: str, option: str = "--name") -> str:
    """Return `name` if it can be created next to the existing names on every file system, else raise an error.

    A study may be copied to a disk that does not distinguish upper and lower case (the default on macOS and Windows).
    Two names that differ only in case would be one file there (decision 27).

    Parameters
    ----------
    name : str
        The new name. It may be one of `existing`.
    existing : iterable of str
        Names of the same kind in the study, spelled as they are stored.
    what : str
        Kind of the name, such as ``"corpus"``, for the message.
    option : str
        Command-line option that sets the name, for the message.

    Raises
    ------
    ValueError
        If Windows reserves the name, or if it ends with a dot or is too long.
    EntryExistsError
        If an existing name differs from it only in case.
    """
    if name.split(".")[0].casefold() in _RESERVED or name.endswith("."):
        why = "Windows drops a dot at the end" if name.endswith(".") else "Windows reserves this name for a device"
        raise ValueError(f"The {what} {name!r} cannot be created: {why}. Choose another name ({option}).")
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"The {what} {name[:20] + '…'!r} has {len(name)} characters; at most {LONGEST_NAME} fit into a file name. "
            f"Choose a shorter name ({option})."
        )
    same = sorted({other for other in existing if other != name and other.casefold() == name.casefold()})
    if same:
        raise EntryExistsError(
            f"The {what} {name!r} differs from the existing {what} {same[0]!r} only in case. They would be the same "
            f"file on disks that ignore case (macOS, Windows). Nothing was written: use {same[0]!r}, or choose another "
            f"name ({option})."
        )
    return name


def bids_label(text: str) -> str:
    """Remove all characters except ASCII letters and digits.

    Examples
    --------
    >>> bids_label("mlp_out")
    'mlpout'
    """
    return re.sub(r"[^A-Za-z0-9]", "", text)


def make_scope(subject: str, session: str | None = None) -> str:
    """Return the scope of a subject or of one of its sessions; the subject ``"group"`` is the group.

    Examples
    --------
    >>> make_scope("gpt2"), make_scope("gpt2", "int8"), make_scope("group")
    ('sub-gpt2', 'sub-gpt2_ses-int8', 'group')
    """
    if subject == GROUP:
        return GROUP
    return f"sub-{subject}" if session is None else f"sub-{subject}_ses-{session}"


def split_scope(scope: str) -> tuple[str, str | None]:
    """Return the subject and the session of a scope; the subject of the group is an empty string.

    Examples
    --------
    >>> split_scope("sub-gpt2_ses-int8"), split_scope("sub-gpt2"), split_scope("group")
    (('gpt2', 'int8'), ('gpt2', None), ('', None))
    """
    match = re.fullmatch(r"sub-([A-Za-z0-9]+)(?:_ses-([A-Za-z0-9]+))?", scope)
    return (match[1], match[2]) if match else ("", None)
