"""Adding a model to a study: the study and the model are created under the lock of the study.

While a model is recorded, the lock of its scope is held, so that two models can be recorded at once.
"""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lmri import storage
from lmri.exceptions import DataWarning, StudyError
from lmri.space import ModelInfo
from lmri.storage import Layout
from lmri.storage import dataset_files as dataset
from lmri.storage.files import LockedError
from lmri.storage.provenance import file_hash
from lmri.storage.recordings import check_version
from lmri.storage.store import Store
from lmri.storage.subjects import assign_scope, is_same, models, write_model, write_tables

_UNDO_WAIT = 10.0
"""Seconds to wait for the lock of the study after an error or Ctrl-C."""


@dataclass(frozen=True)
class ModelLabels:
    """Labels that a user chose for a model; None for labels that are derived from the model.

    Parameters
    ----------
    subject, session : str, optional
        Labels of the model and of its state.
    """

    subject: str | None = None
    session: str | None = None


@contextlib.contextmanager
def adding(
    root: str | Path, model: ModelInfo, labels: ModelLabels | None = None, wait: float | None = None
) -> Iterator[Store]:
    """Open the scope of a model for recording, or create it, while holding the lock of the study.

    If the body fails in a scope that was created by this call, the files that made it a scope (and the folder a study)
    are removed, unless a recording in it can be continued. Files of the user are never removed, and an older study is
    never deleted.

    Parameters
    ----------
    root : str or Path
        Folder of the study, which may be new or empty.
    model : ModelInfo
        Model to record.
    labels : ModelLabels, optional
        Labels of the model that the user chose.
    wait : float, optional
        Time to wait for another command that is writing, in seconds.

    Yields
    ------
    Store
        Store of the scope.

    Raises
    ------
    StudyError
        If the folder contains other files, or the label belongs to another model; see `assign_scope`.
    LockedError
        If another command is writing to the study.
    """
    created = _Created(Layout(Path(root)))
    with storage.write_lock(_checked(created.layout).root, wait):
        store = created.open_or_create(model, labels or ModelLabels())
        with created.undone_on_error(store, locked=True):
            yield store


@contextlib.contextmanager
def recording_to(
    root: str | Path, model: ModelInfo, labels: ModelLabels | None = None, wait_for_model: float = 0.0
) -> Iterator[Store]:
    """Open the scope of a model for recording, or create it, and hold the lock of the scope; see `adding`.

    Parameters
    ----------
    root, model, labels
        As for `adding`.
    wait_for_model : float, default=0
        Time to wait for another command that is recording the same model, in seconds; -1 for no limit.

    Raises
    ------
    LockedError
        If another command is recording the same model.
    """
    while True:
        created = _Created(Layout(Path(root)))
        with storage.write_lock(_checked(created.layout).root):
            store = created.open_or_create(model, labels or ModelLabels())
        with (
            created.undone_on_error(store, locked=False),
            storage.locked(
                store.layout.folder / storage.LOCK,
                f"Another command is recording {store.scope} in {store.root}. Wait until it has ended.",
                wait_for_model,
            ),
        ):
            if not store.layout.model.is_file():
                continue  # the command that created the scope failed, and removed it, while this one waited
            yield store
            return


def _checked(layout: Layout) -> Layout:
    """Return the layout of a folder that is, or may become, a study."""
    if dataset.is_foreign(layout):
        raise StudyError(
            f"{layout.root} is neither empty nor a study. Nothing was written: choose another folder (--out)."
        )
    return layout


class _Created:
    """Files that a command created for a new study or a new scope, which are removed if the command fails."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.is_new_study = not layout.study.is_file()
        self.existed = [path for path in (layout.root, layout.root / storage.LOCK) if path.exists()]
        self.of_study: list[tuple[Path, str]] = []
        self.is_new_scope = False

    def open_or_create(self, model: ModelInfo, labels: ModelLabels) -> Store:
        """Open the scope of a model, or create it; the caller holds the lock of the study."""
        try:
            return self._open_or_create(model, labels)
        except BaseException:
            if self.is_new_study:
                dataset.undo(self.layout, self.of_study, self.existed)
            raise

    def _open_or_create(self, model: ModelInfo, labels: ModelLabels) -> Store:
        layout = self.layout
        if layout.study.is_file():
            check_version(layout)
            _remove_failed(layout, model)
        scope = assign_scope(layout, model, labels.subject, labels.session)
        if not layout.study.is_file():
            self.of_study = dataset.create(layout, model)
        scoped = layout.at(scope)
        if not scoped.model.is_file():
            self.is_new_scope = True
            before = models(layout)
            if same := [other for other, known in before.items() if is_same(model, known)]:
                warnings.warn(
                    f"{scope} has the same weights and precision as {', '.join(same)}: agreement between them is not a "
                    "replication.",
                    DataWarning,
                    stacklevel=2,
                )
            dataset.describe_models(layout, {**before, scope: model}, before)
            tables = write_model(scoped, model)
            if self.is_new_study:
                written = [path for path, _ in self.of_study] + [path for path in tables if path != scoped.model]
                self.of_study = [(path, file_hash(path)) for path in written]
        return Store(layout.root, (), scoped.subject, scoped.session)

    @contextlib.contextmanager
    def undone_on_error(self, store: Store, locked: bool) -> Iterator[None]:
        """Remove a new scope, and a new study, if the body fails before anything was recorded."""
        try:
            yield
        except BaseException:
            if self.is_new_scope:
                # If another command writes for long, an empty scope remains, which the next recording replaces.
                lock = contextlib.nullcontext() if locked else storage.write_lock(self.layout.root, _UNDO_WAIT)
                with contextlib.suppress(LockedError), lock:
                    if _is_empty(store.layout):
                        self._undo(store.layout)
            raise

    def _undo(self, scoped: Layout) -> None:
        _remove_scope(scoped)
        if self.is_new_study and not scoped.scopes():
            dataset.undo(self.layout, self.of_study, self.existed)


def _is_empty(layout: Layout) -> bool:
    """Return whether a scope contains nothing but its description: no recording, and none that can be continued."""
    if not layout.folder.is_dir():
        return True
    known = (layout.model.name, storage.LOCK)
    return not any(
        path.name not in known and not (path.is_dir() and not any(path.iterdir())) for path in layout.folder.iterdir()
    )


def _remove_failed(layout: Layout, model: ModelInfo) -> None:
    """Remove scopes of other weights without any recording, which a killed command left."""
    for scope, other in models(layout).items():
        scoped = layout.at(scope)
        if not is_same(model, other) and _is_empty(scoped) and not storage.is_locked(scoped.folder):
            _remove_scope(scoped)


def _remove_scope(layout: Layout) -> None:
    """Remove the files that made a folder a scope; files of the user are kept."""
    session, before = layout.sessions(layout.subject), models(layout)
    layout.model.unlink(missing_ok=True)
    (layout.folder / storage.LOCK).unlink(missing_ok=True)
    known = models(layout)
    if layout.session and not any(Layout(layout.root, scope).subject == layout.subject for scope in known):
        session.unlink(missing_ok=True)
        storage.sidecar(session).unlink(missing_ok=True)
    for folder in (layout.unfinished, layout.folder, layout.root / f"sub-{layout.subject}"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if known:
        write_tables(layout, known)
        dataset.describe_models(layout, known, before)
