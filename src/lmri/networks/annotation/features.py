"""Top tokens of a network, simple token features, and correlations with confounds."""

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lmri.networks import NetworkSet
from lmri.networks.annotation.reading import Reading, gather, network_names

MORE_CONFOUNDS = ("sentence_position", "surprisal", "entropy", "global_signal", "massive_activation")
"""Additional confounds, as columns of events to which confounds were joined."""


def top_tokens(
    time_courses: Sequence[Any], events: Sequence[pd.DataFrame], network: int, n: int = 10, width: int = 8
) -> pd.DataFrame:
    """List the volumes at which a network is most active, on both sides of its time course.

    The list is descriptive: its tokens are selected for being extreme. Use `enrichment` for tests.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        Time courses, one array per run.
    events : list of DataFrame
        Events, one table per run and one row per volume.
    network : int
        Index of the network, a column of the time courses.
    n : int, default=10
        Number of rows per side.
    width : int, default=8
        Number of tokens of context on either side of a token, never from another text.

    Returns
    -------
    DataFrame
        Table with ``rank, side, z, token, before, after, kind, text_id, position, run``; the positive side first, each
        side sorted by decreasing ``|z|``.
    """
    return top_tokens_of(gather(time_courses, events), network, n, width)


def top_tokens_of(reading: Reading, network: int, n: int, width: int) -> pd.DataFrame:
    """List the top tokens in joined time courses and events; see `top_tokens`."""
    if not 0 <= network < reading.z.shape[1]:
        raise IndexError(f"network is {network}; there are {reading.z.shape[1]}, counted from 0.")
    if n < 1 or width < 0:
        raise ValueError(f"n is {n} and width is {width}; n must be at least 1, and width at least 0.")
    z, table = reading.z[:, network], reading.events
    tokens = table["token"].to_numpy(dtype=object)
    rows = []
    for side, size in (("positive", z), ("negative", -z)):
        largest = np.argsort(-size, kind="stable")[:n]
        for rank, volume in enumerate(largest[size[largest] > 0], start=1):
            first, last = reading.starts[reading.text[volume]], reading.starts[reading.text[volume] + 1]
            rows.append(
                {
                    "rank": rank,
                    "side": side,
                    "z": z[volume],
                    "token": tokens[volume],
                    "before": "".join(tokens[max(first, volume - width) : volume]),
                    "after": "".join(tokens[volume + 1 : min(last, volume + 1 + width)]),
                    "kind": table["trial_type"].iloc[volume],
                    "text_id": table["text_id"].iloc[volume],
                    "position": table["position"].iloc[volume],
                    "run": table["run"].iloc[volume],
                }
            )
    return pd.DataFrame(
        rows, columns=["rank", "side", "z", "token", "before", "after", "kind", "text_id", "position", "run"]
    )


def token_features(events: pd.DataFrame) -> pd.DataFrame:
    """Compute simple features of the token of each volume.

    Parameters
    ----------
    events : DataFrame
        Events of all runs, in which token frequencies are counted.

    Returns
    -------
    DataFrame
        Table with ``position`` (its logarithm), ``log_frequency`` (of the token among all volumes), ``surprisal`` (if
        events contain it, NaN where unknown), ``is_punctuation`` (only punctuation and symbols), ``has_digit``,
        ``is_capitalized`` (the first character is upper case), and ``token_length`` (characters, without blanks).
    """
    tokens = [str(token).strip() for token in events["token"]]
    share = events["token_id"].map(events["token_id"].value_counts(normalize=True))
    features: dict[str, Any] = {
        "position": np.log1p(events["position"].to_numpy(dtype=float)),
        "log_frequency": np.log(share.to_numpy(dtype=float)),
    }
    if "surprisal" in events:
        surprisal = events["surprisal"].to_numpy(dtype=float)
        features["surprisal"] = np.where(np.isfinite(surprisal), surprisal, np.nan)
    features["is_punctuation"] = [float(bool(token) and all(_is_symbol(char) for char in token)) for token in tokens]
    features["has_digit"] = [float(any(char.isdigit() for char in token)) for token in tokens]
    features["is_capitalized"] = [float(token[:1].isupper()) for token in tokens]
    features["token_length"] = [float(len(token)) for token in tokens]
    return pd.DataFrame(features)


def _is_symbol(char: str) -> bool:
    return unicodedata.category(char)[0] in "PS"


def confound_correlations(
    time_courses: Sequence[Any], events: Sequence[pd.DataFrame], networks: NetworkSet | Sequence[str] | None = None
) -> pd.DataFrame:
    """Correlate each network with confounds: position, token length, token frequency, and joined confounds.

    Correlations are within texts: both variables are centred within each text, and all texts are pooled. They are
    descriptive; a large ``|r|`` means that the network may only reflect the confound.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        Time courses, one array per run.
    events : list of DataFrame
        Events, one table per run and one row per volume. Confounds joined by `lmri.confounds.joined` are included.
    networks : NetworkSet or sequence of str, optional
        Names of the networks.

    Returns
    -------
    DataFrame
        Table with ``network, r_position, r_token_length, r_log_frequency``, signed; position and frequency are
        logarithms. If events contain these columns, they are followed by ``r_sentence_position``, ``r_surprisal``,
        ``r_entropy``, ``r_global_signal`` and ``r_massive_activation``. Each correlation is over the volumes where the
        confound has a value, and NaN if either variable is constant.
    """
    reading = gather(time_courses, events)
    return confounds_of(reading, network_names(networks, reading.z.shape[1]))


def confounds_of(reading: Reading, names: list[str]) -> pd.DataFrame:
    """Correlate joined time courses with confounds; see `confound_correlations`."""
    features = token_features(reading.events)
    there = [name for name in MORE_CONFOUNDS if name in reading.events]
    more = {name: pd.to_numeric(reading.events[name], errors="coerce").to_numpy(dtype=float) for name in there}
    features = features[["position", "token_length", "log_frequency"]].assign(**more)
    whole = reading.centre(reading.z)
    correlations: dict[str, Any] = {"network": names}
    for name, values in features.items():
        known = np.isfinite(values.to_numpy())
        courses = whole if known.all() else reading.centre(np.where(known[:, None], reading.z, np.nan))
        correlations[f"r_{name}"] = correlation(courses, reading.centre(values.to_numpy()[:, None]))[:, 0]
    return pd.DataFrame(correlations)


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate all columns of `a` with all columns of `b`; both must be centred."""
    norms = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(b, axis=0)
    return np.divide(a.T @ b, norms, out=np.full(norms.shape, np.nan), where=norms > 1e-9 * math.sqrt(len(a)))
