"""Suggested labels, and the complete annotation of networks: `annotate`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from lmri.networks import NetworkSet
from lmri.networks.annotation.decoding import FEATURES, FEWEST_TEXTS, decoding_of
from lmri.networks.annotation.enrichment import FEWEST_PER_KIND, enrichment_of
from lmri.networks.annotation.features import confounds_of, top_tokens_of
from lmri.networks.annotation.reading import ALPHA, Reading, check_permutations, gather, network_names

LABEL_R = 0.1
"""Smallest decoding r of a feature that is included in a label, however small its p."""
LABEL_EFFECT = 0.1
"""Smallest absolute effect of a token or a kind of text that is included in a label."""

UNCLEAR = "unclear"

_WORDS = {
    "position": ("late tokens", "early tokens"),
    "log_frequency": ("frequent tokens", "rare tokens"),
    "surprisal": ("surprising tokens", "predictable tokens"),
    "is_punctuation": ("punctuation", "words"),
    "has_digit": ("digits", "no digits"),
    "is_capitalized": ("capitals", "no capitals"),
}


def suggest_label(enriched: pd.DataFrame, decoded: pd.DataFrame, network: str, alpha: float = ALPHA) -> str:
    """Suggest a short label for a network from significant results only.

    Parameters
    ----------
    enriched, decoded : DataFrame
        Results of `enrichment` and `decode`.
    network : str
        Name of the network.
    alpha : float, default=0.05
        Largest q that counts as significant.

    Returns
    -------
    str
        Up to two features, three tokens and one kind of text at which the network is high, such as
        ``"digits; 'return', '='; code"``. If there are none, tokens and a kind of text at which it is low, after
        ``"low:"``; ``"unclear"`` if no result is significant and large enough.
    """
    results = enriched[(enriched["network"] == network) & (enriched["q"] <= alpha)]
    results = results[results["effect"].abs() >= LABEL_EFFECT]
    features = decoded[(decoded["network"] == network) & (decoded["q"] <= alpha) & (decoded["r"] >= LABEL_R)]
    parts = []
    for feature in features.sort_values("r", ascending=False, kind="stable").head(2).itertuples():
        high, low = _WORDS[str(feature.feature)]
        # If the absolute value decodes the feature and the signed value does not, both signs do.
        both = abs(feature.correlation) < feature.r / 2
        parts.append(f"{high} (either sign)" if both else high if feature.correlation > 0 else low)
    high_part = _tokens_and_kind(results[results["effect"] > 0], descending=True)
    if parts or high_part:
        return "; ".join(parts + high_part)
    low_part = _tokens_and_kind(results[results["effect"] < 0], descending=False)
    return f"low: {'; '.join(low_part)}" if low_part else UNCLEAR


def _tokens_and_kind(results: pd.DataFrame, descending: bool) -> list[str]:
    parts = []
    ordered = results.sort_values("effect", ascending=not descending, kind="stable")
    tokens = [str(token) for token in ordered.loc[ordered["feature"] == "token", "value"]]
    if tokens:
        shown = dict.fromkeys(repr(token.strip() or token) for token in tokens)
        parts.append(", ".join(list(shown)[:3]))
    kinds = [str(kind) for kind in ordered.loc[ordered["feature"].isin(["kind", "kind_activity"]), "value"]]
    return parts + list(dict.fromkeys(kinds))[:1]


@dataclass(frozen=True, eq=False)
class Annotation:
    """Annotation of networks from their time courses.

    Parameters
    ----------
    labels : DataFrame
        Labels, one row per network: ``network, label, suggested``; `label` is displayed and may be edited.
    top : DataFrame
        Results of `top_tokens`, with a column ``network``.
    enrichment : DataFrame
        Results of `enrichment`.
    decoding : DataFrame
        Results of `decode`.
    confounds : DataFrame
        Results of `confound_correlations`.
    info : dict
        Parameters, numbers of texts and volumes, and `notes` on tests that were not done, with the reason.
    """

    labels: pd.DataFrame
    top: pd.DataFrame
    enrichment: pd.DataFrame
    decoding: pd.DataFrame
    confounds: pd.DataFrame
    info: Mapping[str, Any] = field(default_factory=dict)

    def label(self, network: str) -> str:
        """Return the label of a network."""
        return str(self.labels["label"].iloc[self._row(network)])

    def with_label(self, network: str, label: str) -> "Annotation":
        """Return a copy with one label edited; the suggested label is kept in its own column."""
        if not label.strip():
            raise ValueError(f"The label for {network!r} is {label!r}; use at least one word, such as {UNCLEAR!r}.")
        labels = self.labels.copy()
        labels.loc[labels.index[self._row(network)], "label"] = label.strip()
        return replace(self, labels=labels)

    def _row(self, network: str) -> int:
        known = list(self.labels["network"])
        if network not in known:
            raise KeyError(f"There is no network {network!r}; there are {', '.join(known)}.")
        return known.index(network)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name, for writing."""
        return {
            "labels": self.labels,
            "top": self.top,
            "enrichment": self.enrichment,
            "decoding": self.decoding,
            "confounds": self.confounds,
        }

    @classmethod
    def from_tables(cls, tables: Mapping[str, pd.DataFrame], info: Mapping[str, Any]) -> "Annotation":
        """Build an annotation from `tables` and `info`."""
        return cls(**dict(tables), info=info)

    def to_dict(self) -> dict[str, Any]:
        """Convert labels, `info` and the significant results of each network to JSON-compatible values."""
        enriched, decoded = (table[table["q"] <= ALPHA] for table in (self.enrichment, self.decoding))
        return {
            **self.info,
            "networks": [
                {
                    "network": row.network,
                    "label": row.label,
                    "suggested": row.suggested,
                    "enriched": _rows(enriched[enriched["network"] == row.network]),
                    "decoded": _rows(decoded[decoded["network"] == row.network]),
                }
                for row in self.labels.itertuples()
            ],
        }

    def __repr__(self) -> str:
        n_unclear = int((self.labels["label"] == UNCLEAR).sum())
        return f"<Annotation of {len(self.labels)} networks, {n_unclear} of them {UNCLEAR}>"


TABLE_TEXT = (
    "network", "label", "suggested", "feature", "value", "model", "metric", "side", "token", "before", "after", "kind",
    "text_id",
)  # fmt: skip
"""Text columns in the tables of an annotation, for reading them back."""


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    plain = table.drop(columns="network").astype(object)
    return [
        {key: getattr(value, "item", lambda value=value: value)() for key, value in row.items()}
        for row in plain.where(plain.notna(), None).to_dict("records")
    ]


def annotate(
    networks: NetworkSet | Sequence[str],
    time_courses: Sequence[Any],
    events: Sequence[pd.DataFrame],
    n_permutations: int = 1000,
    random_state: int = 0,
    n_top: int = 10,
) -> Annotation:
    """Annotate the networks of a decomposition from their time courses.

    Parameters
    ----------
    networks : NetworkSet or sequence of str
        Networks, or only their names.
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        Time courses, one array per run, as in ``estimator.time_courses_``.
    events : list of DataFrame
        Events, one table per run and one row per volume, as in ``recording.events``.
    n_permutations : int, default=1000
        Minimum number of permutations; see `enrichment` and `decode`.
    random_state : int, default=0
        Seed of the permutations.
    n_top : int, default=10
        Number of rows of `top_tokens` per network and side.

    Returns
    -------
    Annotation
        Tables, and a suggested label for each network.

    Raises
    ------
    ValueError
        If time courses and events do not belong together.
    """
    check_permutations(n_permutations)
    reading = gather(time_courses, events)
    names = network_names(networks, reading.z.shape[1])
    enriched = enrichment_of(reading, names, n_permutations, random_state, min_texts=3, max_types=500)
    decoded = decoding_of(reading, names, n_permutations, random_state, n_folds=5)
    suggested = [suggest_label(enriched, decoded, name) for name in names]
    top = [top_tokens_of(reading, number, n_top, 8).assign(network=name) for number, name in enumerate(names)]
    info = {
        "parameters": {"n_permutations": n_permutations, "random_state": random_state},
        "n_texts": reading.n_texts,
        "n_volumes": len(reading.z),
        "n_repeated_texts": reading.n_repeated,
        "notes": _notes(reading, enriched, decoded),
    }
    first = ["network", *[column for column in top[0] if column != "network"]]
    return Annotation(
        pd.DataFrame({"network": names, "label": suggested, "suggested": suggested}),
        pd.concat(top, ignore_index=True)[first],
        enriched,
        decoded,
        confounds_of(reading, names),
        info,
    )


def _notes(reading: Reading, enriched: pd.DataFrame, decoded: pd.DataFrame) -> list[str]:
    notes = []
    kinds, counts = np.unique(reading.kinds, return_counts=True)
    skipped = [feature for feature in FEATURES if feature not in set(decoded["feature"])]
    if skipped:
        notes.append(f"Not decoded, as the events do not have it: {', '.join(skipped)}.")
    untested = decoded.groupby("feature", sort=False)["p"].apply(lambda p: p.isna().all())
    if untested.any():
        notes.append(
            f"Not tested, as fewer than {FEWEST_TEXTS} texts have tokens that differ in it: "
            f"{', '.join(untested.index[untested])}."
        )
    if not (enriched["feature"] == "token").any():
        notes.append("No token was tested, as none is in enough texts.")
    if len(kinds) < 2:
        notes.append("Kinds of text were not tested, as there is only one.")
    elif reading.centred:
        notes.append(
            "Kinds of text were tested in activity only, not in the mean: every run has mean 0 and holds one kind "
            "(decompose with scope='study' to compare means)."
        )
    few = [str(kind) for kind in kinds[(counts < FEWEST_PER_KIND)]] if len(kinds) > 1 else []
    if few:
        notes.append(f"Not tested, as they have fewer than {FEWEST_PER_KIND} texts: {', '.join(few)}.")
    return notes
