"""Tokens: at which ones a network is most active, their simple features, and what any text has."""

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lmri.networks import NetworkSet
from lmri.networks.annotation.reading import Reading, gather, network_names

MORE_CONFOUNDS = ("sentence_position", "surprisal", "entropy", "global_signal", "massive_activation")
"""Columns that events have if confounds were joined to them; what networks are correlated with beside the others."""


def top_tokens(
    time_courses: Sequence[Any], events: Sequence[pd.DataFrame], network: int, n: int = 10, width: int = 8
) -> pd.DataFrame:
    """List the volumes at which a network is most active, on either side of its time course.

    Descriptive: the largest of anything look large. `enrichment` tests.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        One a run.
    events : list of DataFrame
        One a run, a row a volume.
    network : int
        Column of the time courses.
    n : int, default=10
        Rows of either side.
    width : int, default=8
        Tokens of context on either side of a token; never from another text.

    Returns
    -------
    DataFrame
        ``rank, side, z, token, before, after, kind, text_id, position, run``; the positive side first, the largest
        ``|z|`` of each side first.
    """
    return top_tokens_of(gather(time_courses, events), network, n, width)


def top_tokens_of(reading: Reading, network: int, n: int, width: int) -> pd.DataFrame:
    """List the top of what was gathered; see `top_tokens`."""
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
    """Compute simple features of the token of every volume.

    Parameters
    ----------
    events : DataFrame
        Of all runs together: frequencies are counted in it.

    Returns
    -------
    DataFrame
        ``position`` (logarithm of it), ``log_frequency`` (of the token among all volumes), ``surprisal`` (if events
        have it, NaN where it is unknown), ``is_punctuation`` (nothing but punctuation and symbols), ``has_digit``,
        ``is_capitalized`` (the first character is upper case), and ``token_length`` (characters, without blanks).
    """
    tokens = [str(token).strip() for token in events["token"]]
    share = events["token_id"].map(events["token_id"].value_counts(normalize=True))
    found: dict[str, Any] = {
        "position": np.log1p(events["position"].to_numpy(dtype=float)),
        "log_frequency": np.log(share.to_numpy(dtype=float)),
    }
    if "surprisal" in events:
        surprisal = events["surprisal"].to_numpy(dtype=float)
        found["surprisal"] = np.where(np.isfinite(surprisal), surprisal, np.nan)
    found["is_punctuation"] = [float(bool(one) and all(_is_symbol(char) for char in one)) for one in tokens]
    found["has_digit"] = [float(any(char.isdigit() for char in one)) for one in tokens]
    found["is_capitalized"] = [float(one[:1].isupper()) for one in tokens]
    found["token_length"] = [float(len(one)) for one in tokens]
    return pd.DataFrame(found)


def _is_symbol(char: str) -> bool:
    return unicodedata.category(char)[0] in "PS"


def confound_correlations(
    time_courses: Sequence[Any], events: Sequence[pd.DataFrame], networks: NetworkSet | Sequence[str] | None = None
) -> pd.DataFrame:
    """Correlate each network with what any text has: position, length of the token, its frequency, and what is joined.

    Within texts: both sides are taken around the mean of each text, and all texts are pooled. Descriptive; a large
    ``|r|`` says that a network may be no more than that.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        One a run.
    events : list of DataFrame
        One a run, a row a volume; with confounds beside, as `lmri.confounds.joined` gives them, also of these.
    networks : NetworkSet or sequence of str, optional
        Names.

    Returns
    -------
    DataFrame
        ``network, r_position, r_token_length, r_log_frequency``, signed; position and frequency are logarithms. After
        them, where events have these columns, ``r_sentence_position``, ``r_surprisal``, ``r_entropy``,
        ``r_global_signal`` and ``r_massive_activation``. Each is over the volumes where it has a value.
        NaN where either side does not vary.
    """
    reading = gather(time_courses, events)
    return confounds_of(reading, network_names(networks, reading.z.shape[1]))


def confounds_of(reading: Reading, names: list[str]) -> pd.DataFrame:
    """Correlate what was gathered; see `confound_correlations`."""
    features = token_features(reading.events)
    there = [name for name in MORE_CONFOUNDS if name in reading.events]
    more = {name: pd.to_numeric(reading.events[name], errors="coerce").to_numpy(dtype=float) for name in there}
    features = features[["position", "token_length", "log_frequency"]].assign(**more)
    whole = reading.centre(reading.z)
    found: dict[str, Any] = {"network": names}
    for name, values in features.items():
        known = np.isfinite(values.to_numpy())
        own = whole if known.all() else reading.centre(np.where(known[:, None], reading.z, np.nan))
        found[f"r_{name}"] = correlation(own, reading.centre(values.to_numpy()[:, None]))[:, 0]
    return pd.DataFrame(found)


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate all columns of `a` with all of `b`, centred both."""
    norms = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(b, axis=0)
    return np.divide(a.T @ b, norms, out=np.full(norms.shape, np.nan), where=norms > 1e-9 * math.sqrt(len(a)))
