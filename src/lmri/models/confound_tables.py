"""Tables of confounds of a study, with surprisal and entropy from its model, which is loaded only if it is needed."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lmri.decomposition.confounds import CONFOUNDS, Predictions, has_predictions, predicted_by, reasons, write
from lmri.exceptions import StudyError
from lmri.models.loading_options import LoadingOptions
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
        one = self.recording
        return f"<ConfoundTables of {one.corpus!r} at {one.space.site}: {len(one.runs)} runs>"


@dataclass(frozen=True)
class Predicting:
    """How surprisal and entropy are computed.

    Parameters
    ----------
    model : str or Path, optional
        Location of the model; by default where it was when it was recorded.
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
            raise ValueError("--model and --no-model were both given. Leave one of them out.")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"--batch-size is {self.batch_size}; it must be at least 1.")


def make_confounds(
    store: Store,
    corpus: str | Sequence[str] | None = None,
    site: str | None = None,
    predicting: Predicting | None = None,
    progress: Progress | None = None,
) -> list[ConfoundTables]:
    """Compute and store the confounds of recordings; tables that are stored stay as they are.

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
        Called with tokens read and tokens in all, per corpus.

    Returns
    -------
    list of ConfoundTables
        One per recording.

    Raises
    ------
    StudyError
        If there is no recording, or other weights made the stored predictions.
    ValueError
        If there is no such corpus, or the model cannot be loaded.
    """
    predicting = predicting or Predicting()
    recordings = _recordings(store, [corpus] if isinstance(corpus, str) else corpus, site)
    found = {} if predicting.no_model else _predictions(store, recordings, predicting, progress)
    made = []
    for recording in recordings:
        logger.info("Computing confounds of %s at %s", recording.corpus, recording.space.site)
        made.append(ConfoundTables(recording, tuple(write(store.layout, recording, found.get(recording.corpus)))))
    return made


def _recordings(store: Store, corpora: Sequence[str] | None, site: str | None) -> list[Recording]:
    """Open every recording that was asked for; at least one."""
    known = store.recordings(None if site is None else store.site(site))
    names = list(dict.fromkeys(one.corpus for one in known))
    if not known:
        raise StudyError(f"{store.root} holds no recording. Make one: lmri record.")
    if absent := [name for name in corpora or [] if name not in names]:
        raise ValueError(f"--corpus is {absent[0]!r}; there are {', '.join(names)}. Name one of these.")
    wanted = [one for one in known if one.corpus in (corpora or names)]
    return [store.recording(one.corpus, one.space.site) for one in wanted]  # refuses what is cut short


def _predictions(
    store: Store, recordings: Sequence[Recording], predicting: Predicting, progress: Progress | None
) -> Mapping[str, Predictions]:
    """Compute the predictions of every corpus that has none yet; the model is loaded if there is one, or was named."""
    # All sites of a corpus share what was predicted. Where a model could not, another one with a head may be named.
    missing = {
        one.corpus: one
        for one in recordings
        if not has_predictions(one) or (predicting.model is not None and "surprisal" in reasons(one))
    }
    if not missing and predicting.model is None:
        return {}
    logger.info("Loading the model")
    from lmri.models.surprisal import predictions

    try:
        model, _ = predicting.loading.load_of(store, predicting.model)
    except ValueError as error:
        raise ValueError(f"{error} To do without surprisal and entropy: --no-model.") from error
    _check_weights(model, [one for one in recordings if one.corpus not in missing])
    found = {}
    for corpus, recording in missing.items():
        logger.info("Reading %s", corpus)
        found[corpus] = predictions(model, recording, predicting.batch_size, progress)
    return found


def _check_weights(model: Any, recordings: Sequence[Recording]) -> None:
    """Refuse a model if other weights made the predictions that are stored, and will not be made again."""
    from lmri.models import fingerprint

    given = fingerprint(model, head=True)
    for one in recordings:
        if others := predicted_by(one) - {given}:
            raise StudyError(
                f"Surprisal and entropy of {one.corpus!r} are stored, by weights {', '.join(map(str, others))}; this "
                f"model has {given}. Nothing was written. Keep them: leave out --model. Make them again: delete "
                f"*_task-{one.corpus}_*_desc-confounds_timeseries.* first."
            )
