"""Models of a study: subjects, their sessions, and the tables of both.

A subject is a model; a session is a state of a model, such as a checkpoint, an adapter or a quantization. The file
``model.json`` of a scope says that the scope exists; the BIDS tables of participants and sessions are generated from
these files, and columns that users add to the tables are kept.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd

from lmri.exceptions import AmbiguousChoiceError, StudyError
from lmri.space import ModelInfo
from lmri.storage.files import read_json, write_json, write_text
from lmri.storage.identifiers import GROUP, bids_label, check_new_name, make_scope, split_scope
from lmri.storage.layout import Layout, sidecar
from lmri.storage.tables import escape
from lmri.storage.text_files import TextFile

COLUMNS = {
    "id": "Name of the model",
    "revision": "Commit on the hub",
    "fingerprint": "Hash of the weights",
    "model_type": "Architecture, as transformers names it",
    "dtype": "Number format in which the model was run",
}
"""Descriptions of the generated columns of the tables of participants and sessions."""

_MISSING = "n/a"


def read_model(layout: Layout) -> ModelInfo:
    """Read the description of the model of a scope.

    Raises
    ------
    StudyError
        If the file is missing or incomplete, or the scope is the group, which has no model.
    """
    if layout.scope == GROUP:
        raise StudyError(
            "The group has no model of its own. Choose one of its models with --subject (subject=): "
            f"{', '.join(layout.scopes())}."
        )
    content = read_json(layout.model)
    try:
        return ModelInfo(**content["model"])
    except (KeyError, TypeError) as error:
        raise StudyError(
            f"{layout.model} does not describe a model ({error}). Restore the file, or record the model again."
        ) from None


def models(layout: Layout) -> dict[str, ModelInfo]:
    """Read the descriptions of all models of a study, by scope."""
    return {scope: read_model(layout.at(scope)) for scope in layout.scopes()}


def subjects_table(layout: Layout) -> pd.DataFrame:
    """List the models of a study.

    Returns
    -------
    DataFrame
        One row per scope: ``scope, subject, session, id, revision, fingerprint, model_type, dtype``, and the columns
        that users added to ``participants.tsv``, as text.
    """
    rows = []
    for scope, model in models(layout).items():
        subject, session = split_scope(scope)
        rows.append({"scope": scope, "subject": subject, "session": session, **asdict(model)})
    table = pd.DataFrame(rows, columns=["scope", "subject", "session", *(field.name for field in fields(ModelInfo))])
    added = _read(layout.participants, "participant_id")
    for column in _added(added, "participant_id"):
        values = {row["participant_id"]: row.get(column, _MISSING) for row in added}
        table[column] = [values.get(f"sub-{subject}", _MISSING) for subject in table["subject"]]
    return table


# -- choosing a model -------------------------------------------------------------------------------------------------


def choose_scope(layout: Layout, subject: str | None = None, session: str | None = None) -> str:
    """Return the scope that a user chose, or the only one.

    Parameters
    ----------
    layout : Layout
        Layout of the study.
    subject : str, optional
        Label of the model, with or without ``sub-``, or ``"group"``; required if there are several models.
    session : str, optional
        Label of the state of the model, with or without ``ses-``; required if there are several.

    Raises
    ------
    AmbiguousChoiceError
        If several models fit, or none; the message lists the choices.
    """
    scopes = layout.scopes()
    subject, session = _labels(subject, session)
    if subject == GROUP:
        if session is not None:
            raise AmbiguousChoiceError("The group has no sessions. Omit --session (session=).")
        return GROUP
    if not scopes:
        raise AmbiguousChoiceError(
            f"{layout.root} contains no model yet. Record one: lmri record MODEL TEXTS --out ..."
        )
    fitting = [scope for scope in scopes if _fits(scope, subject, session)]
    if len(fitting) == 1:
        return fitting[0]
    labels = (("subject", subject), ("session", session))
    request = ", ".join(f"{key}={value!r}" for key, value in labels if value is not None)
    options = "; ".join(_option(scope) for scope in fitting or scopes)
    if fitting:
        which = f"{request} fits {len(fitting)} of them" if request else "none was chosen"
        problem = f"contains several models, and {which}"
    else:
        problem = f"contains no model with {request}"
    raise AmbiguousChoiceError(
        f"{layout.root} {problem}. Choose one with --subject and --session (subject=, session=): {options}."
    )


def choose_member(layout: Layout, name: str) -> str:
    """Return the scope of one of several models that are named together, as in ``--subject A,sub-B_ses-int8``.

    Parameters
    ----------
    layout : Layout
        Layout of the study.
    name : str
        Label of a model, or its scope; the scope is needed if the model has several sessions.

    Raises
    ------
    AmbiguousChoiceError
        If the model is unknown or has several sessions; the message lists the accepted names.
    """
    scopes = layout.scopes()
    subject, session = _labels(name.strip(), None)
    fitting = [scope for scope in scopes if _fits(scope, subject, session)]
    if len(fitting) == 1:
        return fitting[0]
    accepted = ", ".join(fitting or [scope if split_scope(scope)[1] else split_scope(scope)[0] for scope in scopes])
    problem = f"the model {name.strip()!r} has several sessions" if fitting else f"there is no model {name.strip()!r}"
    raise AmbiguousChoiceError(
        f"In {layout.root} {problem}. Names accepted in a list of models (--subject A,B or subjects=['A', 'B']): "
        f"{accepted}."
    )


def _fits(scope: str, subject: str | None, session: str | None) -> bool:
    return subject in (None, split_scope(scope)[0]) and session in (None, split_scope(scope)[1])


def _labels(subject: str | None, session: str | None) -> tuple[str | None, str | None]:
    """Return the labels without ``sub-`` and ``ses-``; a whole scope is accepted as a subject."""
    if subject is not None and session is None:
        whole = split_scope(f"sub-{subject.removeprefix('sub-')}")
        if whole[1] is not None:
            return whole
    return (
        None if subject is None else subject.removeprefix("sub-"),
        None if session is None else session.removeprefix("ses-"),
    )


def _option(scope: str) -> str:
    subject, session = split_scope(scope)
    return f"--subject {subject}" + (f" --session {session}" if session else "")


def assign_scope(layout: Layout, model: ModelInfo, subject: str | None = None, session: str | None = None) -> str:
    """Return the scope in which a model is recorded; the scope need not exist yet.

    Without a chosen label, a recorded model with the same weights in the same precision is continued, and the label of
    another model is the last part of its id, letters and digits only.

    Parameters
    ----------
    layout : Layout
        Layout of the study.
    model : ModelInfo
        Model to record.
    subject, session : str, optional
        Labels that the user chose.

    Raises
    ------
    ValueError
        If a label is not valid.
    EntryExistsError
        If a label differs from an existing one only in case.
    StudyError
        If the label belongs to other weights or to another precision, or if the subject has sessions and none was
        chosen, or the reverse.
    """
    known = models(layout)
    subject, session = _labels(subject, session)
    if subject is None and session is None:
        same = [scope for scope, other in known.items() if is_same(model, other)]
        if len(same) == 1:
            return same[0]
        if same:
            raise AmbiguousChoiceError(
                f"{model.id!r} was recorded as {' and as '.join(same)} in {layout.root}. Choose one with --subject and "
                "--session (subject=, session=)."
            )
    derived = bids_label(model.id.split("/")[-1]) or "model"
    label = _new_label(derived if subject is None else subject, "subject", subject is not None)
    taken = sorted({split_scope(scope)[0] for scope in known})
    if subject is None:  # compared without case: on many disks the folders would be the same
        label = next((other for other in taken if other.casefold() == label.casefold()), label)
    check_new_name(label, taken, "subject", "--subject")
    sessions = [split_scope(scope)[1] for scope in known if split_scope(scope)[0] == label]
    if session is not None:
        session = _new_label(session, "session", chosen=True)
        check_new_name(session, [other for other in sessions if other], f"session of sub-{label}", "--session")
    if sessions and (session is None) != (None in sessions):
        which = "has no sessions" if None in sessions else f"has the sessions {', '.join(map(str, sessions))}"
        how = "omit --session, or choose another --subject" if None in sessions else "choose one, or another --subject"
        raise StudyError(
            f"The model sub-{label} in {layout.root} {which}; either all recordings of a model belong to a session, or "
            f"none does. Nothing was written: {how} (session=, subject=)."
        )
    scope = make_scope(label, session)
    if scope in known and not is_same(model, known[scope]):
        raise _other_model(layout, scope, known[scope], model)
    return scope


def is_same(model: ModelInfo, other: ModelInfo) -> bool:
    """Return whether two descriptions are of the same weights in the same precision."""
    return (model.fingerprint, model.dtype) == (other.fingerprint, other.dtype)


def _new_label(label: str, what: str, chosen: bool) -> str:
    """Return a label if it can be a BIDS label; the subject "group" is reserved."""
    if re.fullmatch(r"[A-Za-z0-9]+", label) and not (what == "subject" and label.casefold() == GROUP):
        return label
    why = "is reserved for results of several models" if label.casefold() == GROUP else "is not a BIDS label"
    how = "Choose" if chosen else "The label is the last part of the model's name; choose"
    raise ValueError(f"The {what} {label!r} {why}. {how} another with --{what}: letters and digits only.")


def _other_model(layout: Layout, scope: str, known: ModelInfo, model: ModelInfo) -> StudyError:
    scoped = layout.at(scope)
    unfinished = (
        ""
        if scoped.recordings()
        else "".join(f", or delete the unfinished recording, {path}" for path in scoped.unfinished_recordings())
    )
    return StudyError(
        f"{scope} in {layout.root} is {known.id!r} (weights {known.fingerprint}, {known.dtype}), but the model is "
        f"{model.id!r} ({model.fingerprint}, {model.dtype}). Nothing was written. Choose another label (--subject); "
        "or, if this is another state of the same model, such as a checkpoint or a quantization, use sessions "
        f"(--session) in a new study; or use another folder (--out){unfinished}."
    )


# -- writing ----------------------------------------------------------------------------------------------------------


def write_model(layout: Layout, model: ModelInfo) -> list[Path]:
    """Write the description of a model and the tables; the description is written last and creates the scope.

    Returns
    -------
    list of Path
        Written files.
    """
    written = write_tables(layout, {**models(layout), layout.scope: model})
    subject, session = split_scope(layout.scope)
    write_json(layout.model, {"subject": subject, "session": session, "model": asdict(model)})
    return [*written, layout.model]


def write_tables(layout: Layout, known: Mapping[str, ModelInfo]) -> list[Path]:
    """Write the tables of participants and sessions; columns and rows that users added are kept.

    Parameters
    ----------
    layout : Layout
        Layout of the study.
    known : mapping from str to ModelInfo
        Models by scope.

    Returns
    -------
    list of Path
        Written files.
    """
    by_subject: dict[str, dict[str | None, ModelInfo]] = {}
    for scope, model in sorted(known.items()):
        subject, session = split_scope(scope)
        by_subject.setdefault(subject, {})[session] = model
    rows = {f"sub-{subject}": _common(list(states.values())) for subject, states in by_subject.items()}
    written = _write(layout.participants, "participant_id", rows, layout.root)
    for subject, states in by_subject.items():
        if None not in states:
            sessions = {f"ses-{session}": _common([model]) for session, model in states.items()}
            written += _write(layout.sessions(subject), "session_id", sessions, layout.root / f"sub-{subject}")
    return written


def _common(states: Sequence[ModelInfo]) -> dict[str, str]:
    """Return the generated columns of a row: the values that all states of a model share."""
    rows = [
        {name: escape(str(value)) if value else _MISSING for name, value in asdict(model).items()} for model in states
    ]
    return {name: rows[0][name] if len({row[name] for row in rows}) == 1 else _MISSING for name in COLUMNS}


def _write(path: Path, key: str, rows: Mapping[str, Mapping[str, str]], folder: Path) -> list[Path]:
    """Write a table and its sidecar, with what users added to them."""
    existing = _read(path, key)
    added = _added(existing, key)
    known = {row.get(key, ""): row for row in existing}
    # Rows of users are kept if their data are in the folder; others belong to models whose recording failed.
    others = [name for name in known if name not in rows and name and (folder / name).is_dir()]
    lines = [[key, *COLUMNS, *added]]
    for name in [*rows, *others]:
        old = known.get(name, {})
        generated = rows.get(name) or {column: old.get(column, _MISSING) for column in COLUMNS}
        lines.append([name, *(generated[column] for column in COLUMNS), *(old.get(name_, _MISSING) for name_ in added)])
    with io.StringIO() as stream:
        writer = csv.writer(stream, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
        writer.writerows(lines)
        write_text(path, stream.getvalue())
    about = read_json(sidecar(path)) if sidecar(path).is_file() else {}
    write_json(sidecar(path), about | {name: {"Description": text} for name, text in COLUMNS.items()})
    return [path, sidecar(path)]


def _read(path: Path, key: str) -> list[dict[str, str]]:
    """Read a table as text, exactly as it is written.

    Raises
    ------
    StudyError
        If it is not a TSV table in UTF-8.
    """
    if not path.is_file():
        return []
    try:
        rows = [row for _, row in TextFile.read(path).plain_records("\t") if row != [""]]
    except ValueError as error:
        raise StudyError(f"{path} is not a TSV table in UTF-8 ({error}). Save it as UTF-8, tab-separated.") from error
    if (
        not rows
        or key not in rows[0]
        or len(set(rows[0])) < len(rows[0])
        or any(len(row) != len(rows[0]) for row in rows)
    ):
        raise StudyError(
            f"{path} is not a complete table: every row needs one field for each of the columns of the first line, "
            f"whose names differ and include {key}. Repair it; lmri adds the rows of its models."
        )
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def _added(rows: Sequence[Mapping[str, str]], key: str) -> list[str]:
    """Return the columns that users added."""
    return [column for column in (rows[0] if rows else ()) if column not in (key, *COLUMNS)]
