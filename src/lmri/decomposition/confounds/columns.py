"""The columns: tables of all confounds, computed from a recording."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.decomposition.confounds.registry import CONFOUNDS, Confound
from lmri.decomposition.confounds.text_confounds import RunTexts
from lmri.networks.annotation.features import token_features
from lmri.storage.recording import Recording

NO_SPANS = "The tokenizer cannot tell which part of the text a token stands for."

TEXT_COLUMNS = {name: one.sidecar for name, one in CONFOUNDS.items() if not one.of_site}
"""Columns that depend on the text and on the model's predictions, not on where neurons were read."""

SITE_COLUMNS = {name: one.sidecar for name, one in CONFOUNDS.items() if one.of_site}
"""Columns that depend on where neurons were read."""

COLUMNS = (*TEXT_COLUMNS, *SITE_COLUMNS)

PREDICTED = tuple(name for name, one in CONFOUNDS.items() if one.is_predicted)
"""Columns for which the model has to read the texts once more."""

_EXPECTED = ("surprisal", "entropy")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model expected at every token that it read.

    Parameters
    ----------
    tables : list of DataFrame
        One a run, a row a token as in ``recording.tokens``: ``token_id, surprisal, entropy``, in nats, NaN for the
        first token of a text. Empty if there is a `reason`.
    weights : str
        Hash of all weights, the head's too.
    reason : str, default=""
        Why this model predicts no tokens.
    """

    tables: list[pd.DataFrame]
    weights: str
    reason: str = ""


def text_columns(recording: Recording, predictions: Predictions | None = None) -> list[pd.DataFrame]:
    """Compute the columns of `TEXT_COLUMNS`, one table per run, one row per volume; n/a where nothing was predicted."""
    runs = recording.events
    joined = pd.concat([table[["token", "token_id", "position"]] for table in runs], ignore_index=True)
    features = token_features(joined)  # frequencies are of the whole corpus
    text_of = dict(zip(recording.texts["text_id"], recording.texts["text"], strict=True))
    wanted = [CONFOUNDS[name] for name in TEXT_COLUMNS]
    found, first = [], 0
    for number, (events, tokens) in enumerate(zip(runs, recording.tokens, strict=True)):
        own = features.iloc[first : first + len(events)]
        first += len(events)
        run = RunTexts(events, tokens, own, _predicted(predictions, number, tokens), text_of)
        found.append(_table(wanted, run))
    return found


def site_columns(recording: Recording) -> Iterator[pd.DataFrame]:
    """Compute the columns of `SITE_COLUMNS`, one table per run; one image is in memory at a time."""
    wanted = [CONFOUNDS[name] for name in SITE_COLUMNS]
    for array in recording.arrays():
        yield _table(wanted, array, recording.space.offsets)


def _table(wanted: list[Confound], *given: object) -> pd.DataFrame:
    """Compute columns; counts of which none is missing become integers, so that files hold 3 and not 3.0."""
    table = pd.DataFrame({one.name: one.compute(*given) for one in wanted})
    counts = [one.name for one in wanted if one.is_count and table[one.name].notna().all()]
    return table.assign(**{name: table[name].astype(np.int64) for name in counts})


def _predicted(predictions: Predictions | None, run: int, tokens: pd.DataFrame) -> pd.DataFrame:
    if predictions is None or predictions.reason:
        return pd.DataFrame({name: np.full(len(tokens), np.nan) for name in _EXPECTED})
    table = predictions.tables[run] if run < len(predictions.tables) else tokens.iloc[:0]
    if not np.array_equal(table["token_id"], tokens["token_id"]):
        raise ValueError(
            f"The predictions of run {run + 1} are of {len(table)} tokens, and not of the {len(tokens)} that were read "
            "there. Make them of this recording: lmri.models.surprisal.predictions(model, recording)."
        )
    return table
