"""Tables of all confounds, computed from a recording."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.decomposition.confounds.registry import CONFOUNDS, Confound
from lmri.decomposition.confounds.text_confounds import RunTexts
from lmri.networks.annotation.features import token_features
from lmri.storage.recording import Recording

NO_SPANS = "The tokenizer cannot tell which part of the text a token represents."

TEXT_COLUMNS = {name: confound.sidecar for name, confound in CONFOUNDS.items() if not confound.of_site}
"""Columns that depend on the text and on the model's predictions, but not on the site."""

SITE_COLUMNS = {name: confound.sidecar for name, confound in CONFOUNDS.items() if confound.of_site}
"""Columns that depend on the site."""

COLUMNS = (*TEXT_COLUMNS, *SITE_COLUMNS)

PREDICTED = tuple(name for name, confound in CONFOUNDS.items() if confound.is_predicted)
"""Columns that need another forward pass of the model over the texts."""

_EXPECTED = ("surprisal", "entropy")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a model for each token of its texts.

    Parameters
    ----------
    tables : list of DataFrame
        Tables, one per run and one row per token as in ``recording.tokens``: ``token_id, surprisal, entropy``, in nats,
        NaN for the first token of a text. Empty if there is a `reason`.
    weights : str
        Hash of all weights, including the head.
    reason : str, default=""
        Reason why this model predicts no tokens.
    """

    tables: list[pd.DataFrame]
    weights: str
    reason: str = ""


def text_columns(recording: Recording, predictions: Predictions | None = None) -> list[pd.DataFrame]:
    """Compute the columns of `TEXT_COLUMNS`, one table per run, one row per volume; n/a without a prediction."""
    runs = recording.events
    joined = pd.concat([table[["token", "token_id", "position"]] for table in runs], ignore_index=True)
    features = token_features(joined)  # frequencies are of the whole corpus
    text_of = dict(zip(recording.texts["text_id"], recording.texts["text"], strict=True))
    wanted = [CONFOUNDS[name] for name in TEXT_COLUMNS]
    tables, first = [], 0
    for number, (events, tokens) in enumerate(zip(runs, recording.tokens, strict=True)):
        run_features = features.iloc[first : first + len(events)]
        first += len(events)
        run = RunTexts(events, tokens, run_features, _predicted(predictions, number, tokens), text_of)
        tables.append(_table(wanted, run))
    return tables


def site_columns(recording: Recording) -> Iterator[pd.DataFrame]:
    """Compute the columns of `SITE_COLUMNS`, one table per run; one image is in memory at a time."""
    wanted = [CONFOUNDS[name] for name in SITE_COLUMNS]
    for array in recording.arrays():
        yield _table(wanted, array, recording.space.offsets)


def _table(wanted: list[Confound], *given: object) -> pd.DataFrame:
    """Compute columns; counts without missing values become integers, so that files contain 3 and not 3.0."""
    table = pd.DataFrame({confound.name: confound.compute(*given) for confound in wanted})
    counts = [confound.name for confound in wanted if confound.is_count and table[confound.name].notna().all()]
    return table.assign(**{name: table[name].astype(np.int64) for name in counts})


def _predicted(predictions: Predictions | None, run: int, tokens: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions for the tokens of a run, NaN if there are none."""
    if predictions is None or predictions.reason:
        return pd.DataFrame({name: np.full(len(tokens), np.nan) for name in _EXPECTED})
    table = predictions.tables[run] if run < len(predictions.tables) else tokens.iloc[:0]
    if not np.array_equal(table["token_id"], tokens["token_id"]):
        raise ValueError(
            f"The predictions of run {run + 1} are for {len(table)} tokens, which are not the {len(tokens)} tokens of "
            "the recording. Compute them from this recording: lmri.models.surprisal.predictions(model, recording)."
        )
    return table
