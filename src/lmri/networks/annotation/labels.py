"""Labels, and all that is told of networks in one: `annotate`."""

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
"""A feature that is decoded worse than this is not worth a place in a label, however small its p."""
LABEL_EFFECT = 0.1
"""Nor is a token or a kind of text with a smaller effect than this."""

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
    """Suggest a short label for a network, of significant results only.

    Parameters
    ----------
    enriched, decoded : DataFrame
        As `enrichment` and `decode` give them.
    network : str
        Its name.
    alpha : float, default=0.05
        Largest q.

    Returns
    -------
    str
        Up to two features, three tokens and a kind of text at which the network is high, such as
        ``"digits; 'return', '='; code"``; what it is low at, after ``"low:"``, if there is nothing of the former;
        ``"unclear"`` if nothing passes.
    """
    found = enriched[(enriched["network"] == network) & (enriched["q"] <= alpha)]
    found = found[found["effect"].abs() >= LABEL_EFFECT]
    features = decoded[(decoded["network"] == network) & (decoded["q"] <= alpha) & (decoded["r"] >= LABEL_R)]
    parts = []
    for feature in features.sort_values("r", ascending=False, kind="stable").head(2).itertuples():
        high, low = _WORDS[str(feature.feature)]
        # Where the absolute value decodes and the value does not, either side does it.
        both = abs(feature.correlation) < feature.r / 2
        parts.append(f"{high} (either sign)" if both else high if feature.correlation > 0 else low)
    high_part = _tokens_and_kind(found[found["effect"] > 0], descending=True)
    if parts or high_part:
        return "; ".join(parts + high_part)
    low_part = _tokens_and_kind(found[found["effect"] < 0], descending=False)
    return f"low: {'; '.join(low_part)}" if low_part else UNCLEAR


def _tokens_and_kind(found: pd.DataFrame, descending: bool) -> list[str]:
    parts = []
    ordered = found.sort_values("effect", ascending=not descending, kind="stable")
    tokens = [str(token) for token in ordered.loc[ordered["feature"] == "token", "value"]]
    if tokens:
        shown = dict.fromkeys(repr(token.strip() or token) for token in tokens)
        parts.append(", ".join(list(shown)[:3]))
    kinds = [str(kind) for kind in ordered.loc[ordered["feature"].isin(["kind", "kind_activity"]), "value"]]
    return parts + list(dict.fromkeys(kinds))[:1]


@dataclass(frozen=True, eq=False)
class Annotation:
    """What networks are, as far as their time courses tell.

    Parameters
    ----------
    labels : DataFrame
        A row a network: ``network, label, suggested``; `label` is what people call it, and may be edited.
    top : DataFrame
        As `top_tokens` gives it, with ``network``.
    enrichment : DataFrame
        As `enrichment` gives it.
    decoding : DataFrame
        As `decode` gives it.
    confounds : DataFrame
        As `confound_correlations` gives it.
    info : dict
        Parameters, numbers of texts and volumes, and `notes`: what was not tested, and why.
    """

    labels: pd.DataFrame
    top: pd.DataFrame
    enrichment: pd.DataFrame
    decoding: pd.DataFrame
    confounds: pd.DataFrame
    info: Mapping[str, Any] = field(default_factory=dict)

    def label(self, network: str) -> str:
        """Give the label of a network."""
        return str(self.labels["label"].iloc[self._row(network)])

    def with_label(self, network: str, label: str) -> "Annotation":
        """Give the same annotation with one label edited; what was suggested stays beside it."""
        if not label.strip():
            raise ValueError(f"The label for {network!r} is {label!r}; give at least a word, such as {UNCLEAR!r}.")
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
        """All tables by name, as they are to be written."""
        return {
            "labels": self.labels,
            "top": self.top,
            "enrichment": self.enrichment,
            "decoding": self.decoding,
            "confounds": self.confounds,
        }

    @classmethod
    def from_tables(cls, tables: Mapping[str, pd.DataFrame], info: Mapping[str, Any]) -> "Annotation":
        """Undo `tables`."""
        return cls(**dict(tables), info=info)

    def to_dict(self) -> dict[str, Any]:
        """Give labels and `info` as JSON, with what is significant of each network."""
        found, decoded = (one[one["q"] <= ALPHA] for one in (self.enrichment, self.decoding))
        return {
            **self.info,
            "networks": [
                {
                    "network": row.network,
                    "label": row.label,
                    "suggested": row.suggested,
                    "enriched": _rows(found[found["network"] == row.network]),
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
"""Columns of the tables of an annotation that hold text, for reading them back."""


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
        Of which only the names matter.
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        One a run, as ``estimator.time_courses_`` has them.
    events : list of DataFrame
        One a run, a row a volume, as ``recording.events`` has them.
    n_permutations : int, default=1000
        At least; see `enrichment` and `decode`.
    random_state : int, default=0
        Of the permutations.
    n_top : int, default=10
        Rows of `top_tokens` on either side of each network.

    Returns
    -------
    Annotation
        Tables, and a suggested label for every network.

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
