"""Tables of confounds of a study, with surprisal and entropy from its model, which is loaded only if needed."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lmri.decomposition.confounds import CONFOUNDS, Predictions, has_predictions, predicted_by, reasons, write
from lmri.exceptions import StudyError
from lmri.models.loading.options import LoadingOptions
from lmri.storage.recording import Recording
from lmri.storage.store import Store

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class ConfoundTables:
    """Stored confounds of one recording.

    Parameters
    ----------
    recording : Recording
        The recording; ``recording.confounds`` are its tables, one per run.
    written : tuple of Path
        Tables that were written; empty if all were stored already.
    """

    recording: Recording
    written: tuple[Path, ...]

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Distribution of every confound over all runs: ``corpus, site, confound, unit, mean, sd, min, max, n/a``."""
        joined = pd.concat(self.recording.confounds, ignore_index=True)
        return pd.DataFrame(
            {
                "corpus": self.recording.corpus,
                "site": self.recording.space.site,
                "confound": list(joined),
                "unit": [CONFOUNDS[name].unit for name in joined],
                "mean": joined.mean().to_numpy(),
                "sd": joined.std(ddof=0).to_numpy(),
                "min": joined.min().to_numpy(dtype=float),
                "max": joined.max().to_numpy(dtype=float),
                "n/a": joined.isna().sum().to_numpy(),
            }
        )

    @cached_property
    def reasons(self) -> dict[str, str]:
        """Reason of every confound that is n/a throughout."""
        return reasons(self.recording)

    def __repr__(self) -> str:
        recording = self.recording
        return f"<ConfoundTables of {recording.corpus!r} at {recording.space.site}: {len(recording.runs)} runs>"


@dataclass(frozen=True)
class Predicting:
    """How surprisal and entropy are computed.

    Parameters
    ----------
    model : str or Path, optional
        Location of the model; by default the location from which it was recorded.
    no_model : bool, default=False
        Whether to leave surprisal and entropy out.
    batch_size : int, optional
        Texts per forward pass; by default as recorded.
    loading : LoadingOptions, optional
        How the model is loaded.
    """

    model: str | Path | None = None
    no_model: bool = False
    batch_size: int | None = None
    loading: LoadingOptions = field(default_factory=LoadingOptions)

    def __post_init__(self) -> None:
        if self.no_model and self.model is not None:
            raise ValueError("--model and --no-model exclude each other. Omit one of them.")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"--batch-size is {self.batch_size}; it must be at least 1.")


def make_confounds(
    store: Store,
    corpus: str | Sequence[str] | None = None,
    site: str | None = None,
    predicting: Predicting | None = None,
    progress: Progress | None = None,
) -> list[ConfoundTables]:
    """Compute and store the confounds of recordings; stored tables are not changed.

    Parameters
    ----------
    store : Store
        The study.
    corpus : str or sequence of str, optional
        Names of corpora; all by default.
    site : str, optional
        Site; all by default.
    predicting : Predicting, optional
        How surprisal and entropy are computed.
    progress : callable, optional
        Function called with the number of tokens read and the total number of tokens, per corpus.

    Returns
    -------
    list of ConfoundTables
        One per recording.

    Raises
    ------
    StudyError
        If there is no recording, or the stored predictions were computed with other weights.
    ValueError
        If a corpus does not exist, or the model cannot be loaded.
    """
    predicting = predicting or Predicting()
    recordings = _recordings(store, [corpus] if isinstance(corpus, str) else corpus, site)
    new = {} if predicting.no_model else _predictions(store, recordings, predicting, progress)
    tables = []
    for recording in recordings:
        logger.info("Computing confounds of %s at %s", recording.corpus, recording.space.site)
        paths = write(store.layout, recording, new.get(recording.corpus))
        tables.append(ConfoundTables(recording, tuple(paths)))
    return tables


def _recordings(store: Store, corpora: Sequence[str] | None, site: str | None) -> list[Recording]:
    """Open the requested recordings, at least one."""
    known = store.recordings(None if site is None else store.site(site))
    names = list(dict.fromkeys(recording.corpus for recording in known))
    if not known:
        raise StudyError(f"{store.root} contains no recording. Record first: lmri record.")
    if absent := [name for name in corpora or [] if name not in names]:
        raise ValueError(f"--corpus is {absent[0]!r}; choose from {', '.join(names)}.")
    selected = [recording for recording in known if recording.corpus in (corpora or names)]
    # Opened again one by one, which refuses truncated recordings.
    return [store.recording(recording.corpus, recording.space.site) for recording in selected]


def _predictions(
    store: Store, recordings: Sequence[Recording], predicting: Predicting, progress: Progress | None
) -> Mapping[str, Predictions]:
    """Compute the missing predictions of every corpus; the model is loaded if any are missing or it was named."""
    # All sites of a corpus share the predictions. If the model has none, another model with a head may be named.
    missing = {
        recording.corpus: recording
        for recording in recordings
        if not has_predictions(recording) or (predicting.model is not None and "surprisal" in reasons(recording))
    }
    if not missing and predicting.model is None:
        return {}
    logger.info("Loading the model")
    from lmri.models.surprisal import predictions

    try:
        model, _ = predicting.loading.load_of(store, predicting.model)
    except ValueError as error:
        raise ValueError(f"{error} To omit surprisal and entropy, use --no-model.") from error
    _check_weights(model, [recording for recording in recordings if recording.corpus not in missing])
    results = {}
    for corpus, recording in missing.items():
        logger.info("Reading %s", corpus)
        results[corpus] = predictions(model, recording, predicting.batch_size, progress)
    return results


def _check_weights(model: Any, recordings: Sequence[Recording]) -> None:
    """Raise `StudyError` if stored predictions, which are not recomputed, come from other weights."""
    from lmri.models import fingerprint

    current = fingerprint(model, head=True)
    for recording in recordings:
        if others := predicted_by(recording) - {current}:
            raise StudyError(
                f"The stored surprisal and entropy of {recording.corpus!r} were computed with weights "
                f"{', '.join(map(str, others))}; this model has {current}. Nothing was written. To keep them, omit "
                f"--model. To compute them again, first delete *_task-{recording.corpus}_*_desc-confounds_timeseries.*."
            )
