"""Models of a study that is viewed: one reader for each, looked up by the scope that a request names."""

import threading
from pathlib import Path
from typing import Any

from lmri.exceptions import StudyError
from lmri.report.viewer.cached_reader import FRESH, CachedReader
from lmri.report.viewer.query import one_of
from lmri.storage.layout import GROUP, Layout, split_scope
from lmri.storage.recordings import check_version
from lmri.storage.subjects import choose_scope


class ViewedModels:
    """Readers of the models of a study.

    The group is not among them: it has no recordings, so that there would be no mean image, tokens or neurons, and the
    time courses of its networks belong to the recordings of several models.

    Parameters
    ----------
    root : str or Path
        Folder of the study.
    fresh : float, default 1
        Lifetime of the inventories, see `CachedReader`.
    subject, session : str, optional
        Labels of the model that is shown first, and of its state; by default the first model in alphabetical order.

    Raises
    ------
    StudyError
        If there is no study, or the group was chosen.
    AmbiguousChoiceError
        If there is no such model, or several fit; the message lists the choices.
    """

    def __init__(
        self, root: str | Path, fresh: float = FRESH, subject: str | None = None, session: str | None = None
    ) -> None:
        self._layout, self._fresh = Layout(Path(root)), fresh
        self._readers: dict[str, CachedReader] = {}
        self._lock = threading.Lock()
        check_version(self._layout)
        scopes = self._layout.scopes()
        is_chosen = subject is not None or session is not None or not scopes
        # Determined once: a page that names no model must not be answered from another one when a model is added.
        self.first = choose_scope(self._layout, subject, session) if is_chosen else scopes[0]
        if self.first == GROUP:
            raise StudyError(
                f"The viewer shows the models of {root} one at a time, and not the group, which has no recordings. "
                f"Omit --subject (subject=), or choose one of: {', '.join(scopes)}. lmri report lists the "
                "results of the group in its overview."
            )
        self.reader(self.first)

    def reader(self, scope: str | None = None) -> CachedReader:
        """Return the reader of a scope, or without `scope`, of the model that is shown first.

        Raises
        ------
        HTTPException
            With status 404, if the study has no such model. The scope is never used as a path.
        """
        wanted = one_of("model", self.first if scope is None else scope, self._layout.scopes())
        with self._lock:
            if wanted not in self._readers:
                self._readers[wanted] = CachedReader(self._layout.root, self._fresh, *split_scope(wanted))
            return self._readers[wanted]

    def listed(self, shown: CachedReader) -> dict[str, Any]:
        """List the models for a menu, with the scope of the one that is shown; empty if there is only one model."""
        scopes = self._layout.scopes()
        if scopes == [self.first]:
            return {}
        models = [{"scope": scope, "label": " · ".join(filter(None, split_scope(scope)))} for scope in scopes]
        return {"scope": shown.layout.scope, "first": self.first, "models": models}
