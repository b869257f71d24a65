"""Findings: what the tables say, in words, and what to do about it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lmri.decomposition.quality.robust import FEWEST, OUTLYING
from lmri.decomposition.quality.tokens import NOT_KEPT, visible
from lmri.space import NeuronSpace
from lmri.space.sites import ROUTER

N_NAMED = 5
_MANY_SPIKES = 0.05
_MEDIAN = "their layer's median |value|, zeros left out"
_ALL_ZERO = "Check the site: no neuron is ever anything but 0."

Finding = tuple[str, str, str]
"""Status (good, note, look), what was found, and what to do."""


def find(
    tables: Mapping[str, pd.DataFrame], texts: pd.DataFrame, n_dummy: int | None, space: NeuronSpace
) -> pd.DataFrame:
    """Answer one question a row: ``topic, status, finding, advice``.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `lmri.qc.Quality` has them.
    texts : DataFrame
        Of the recording.
    n_dummy : int or None
        With which it was recorded, if that is known.
    space : NeuronSpace
        The neurons.
    """
    neurons, volumes = tables["neurons"], tables["volumes"]
    rows = {
        "dead neurons": _dead(neurons, len(volumes), _experts_without_tokens(neurons, space)),
        "massive activations": _large(neurons, "massive", f"above 100 and 1,000 times {_MEDIAN}"),
        "extreme activations": _large(neurons, "extreme", "100 robust sd beyond their layer's median"),
        "variance": _dominant(neurons),
        "first tokens": _first_tokens(tables["positions"], tables["left_out"], n_dummy),
        "sinks": _sinks(tables["tokens"], volumes),
        "texts": _outliers(tables["texts"], texts),
        "spikes": _spikes(tables["runs"]),
    }
    return pd.DataFrame(
        [(topic, *row) for topic, row in rows.items()], columns=["topic", "status", "finding", "advice"]
    )


def count(n: int, noun: str) -> str:
    """Write a number with its noun.

    Examples
    --------
    >>> count(1, "text"), count(0, "text"), count(1200, "text")
    ('1 text', 'no text', '1,200 texts')
    """
    return f"no {noun}" if not n else f"{n:,} {noun}{'' if n == 1 else 's'}"


def sentence(text: str) -> str:
    """Begin with a capital letter."""
    return text[:1].upper() + text[1:]


def percent(share: float) -> str:
    """Write a share with as many digits as it takes to tell it from 0."""
    return f"{100 * share:.1f} %" if share >= 0.001 or not share else f"{100 * share:.2g} %"


def _named(rows: pd.DataFrame) -> str:
    shown = [f"layer {row.layer} neuron {row.neuron}" for row in rows.head(N_NAMED).itertuples()]
    return ", ".join(shown) + (f" and {len(rows) - N_NAMED:,} more" if len(rows) > N_NAMED else "")


def _experts_without_tokens(neurons: pd.DataFrame, space: NeuronSpace) -> pd.Series:
    """Name the expert of every neuron that is 0 throughout because no token was routed to it."""
    zero = neurons["share_zero"] == 1
    if space.site.removesuffix(ROUTER) != space.site:  # neurons are experts
        own = neurons[zero]
        named = [f"{space.layers[row.layer].name} expert {row.neuron}" for row in own.itertuples()]
        return pd.Series(named, own.index, dtype=object)
    silent = zero.groupby(neurons["layer"]).all()
    names = {z: one.name for z, one in enumerate(space.layers) if one.expert is not None and silent[z]}
    return neurons["layer"].map(names).dropna()


def _dead(neurons: pd.DataFrame, n_volumes: int, unused: pd.Series) -> Finding:
    if n_volumes < 2:
        return "note", "There is one volume: whether a neuron varies cannot be said.", "Record more text."
    dead = neurons[(neurons["dead"] == 1) & ~neurons.index.isin(unused.index)]
    idle = ""
    if len(unused):
        names = list(dict.fromkeys(unused))
        more = f" and {len(names) - N_NAMED:,} more" if len(names) > N_NAMED else ""
        their = f"{count(len(unused), 'neuron')} there, 0 throughout"
        idle = f"No token was routed to {', '.join(names[:N_NAMED])}{more}: {their}."
    if idle and not len(dead):
        return "note", idle, "Record more text, or of other kinds; until then they belong to no network."
    if not len(dead):
        return "good", "No dead neurons.", ""
    layers = dead["layer"].value_counts()
    whole = layers.index[layers == neurons["layer"].value_counts().reindex(layers.index)]
    found = f"{sentence(count(len(dead), 'neuron'))} of {len(neurons):,} do not vary ({_named(dead)}). {idle}".rstrip()
    if len(whole):
        listed = ", ".join(str(layer) for layer in sorted(whole))
        return (
            "look",
            f"{found} All of layer {listed} is dead.",
            "Check the site, and whether these weights are pruned.",
        )
    return "note", found, "Nothing to do: they become 0 when standardized, and belong to no network."


def _large(neurons: pd.DataFrame, kind: str, rule: str) -> Finding:
    found = neurons[neurons[kind] == 1].sort_values(["peak", "layer", "neuron"], ascending=[False, True, True])
    if not len(found):
        return "good", f"No {kind} activations: no value is {rule}.", ""
    n_values = int(found[f"n_{kind}"].sum())
    return (
        "look",
        f"{sentence(count(n_values, f'{kind} value'))} in {count(len(found), 'neuron')}, {rule}: {_named(found)}.",
        "Keep standardize = zscore. See whether a few tokens make them (first tokens, sinks); if not, "
        "check that no network is one of these neurons alone.",
    )


def _dominant(neurons: pd.DataFrame) -> Finding:
    order = neurons.sort_values(["share_variance", "layer", "neuron"], ascending=[False, True, True])
    top = order.iloc[0]
    largest = f"layer {int(top['layer'])} neuron {int(top['neuron'])}"
    n_dominant = int((neurons["dominant"] == 1).sum())
    if not neurons["share_variance"].any():
        return "look", "No neuron varies at all: there is no variance to share.", "Record texts with other tokens."
    if not n_dominant:
        return "good", f"No neuron dominates: the largest share is {percent(top['share_variance'])} ({largest}).", ""
    alone = f"{sentence(largest)} alone carries {percent(top['share_variance'])} of the variance"
    if n_dominant > 1:
        together = percent(float(order["share_variance"].head(n_dominant).sum()))
        alone += f"; {n_dominant} neurons carry {together} together ({_named(order.head(n_dominant))})"
    return (
        "look",
        f"{alone}.",
        "Keep standardize = zscore, which gives every neuron the same variance; with center or none the maps would be "
        "of these neurons.",
    )


def _first_tokens(positions: pd.DataFrame, left_out: pd.DataFrame, n_dummy: int | None) -> Finding:
    before = _left_out(left_out)
    if not positions["relative_norm"].any():
        return "note", f"{before}Every norm is 0: whether a position is a sink cannot be said.", _ALL_ZERO
    sinks = positions[positions["sink"] == 1]
    first = positions.iloc[0]
    start = int(first["position"])
    beside = f"position {start}, the first in the images, has {first['relative_norm']:.1f} times the usual norm"
    if not len(sinks):
        return "good", f"{before}No position is a sink: {beside}.", ""
    last = start - 1
    while last + 1 in set(sinks["position"]):
        last += 1
    are = "is a sink" if len(sinks) == 1 else "are sinks"
    largest = sinks.loc[sinks["relative_norm"].idxmax()]
    found = (
        f"{before}{sentence(count(len(sinks), 'position'))} in the images {are}: at position "
        f"{int(largest['position'])} the norm is {largest['relative_norm']:.1f} times the usual one."
    )
    if last >= start:
        was = "" if n_dummy is None else f" (it was {n_dummy})"
        return "look", found, f"Raise n_dummy to {last + 1}{was} and record again: lmri record --n-dummy {last + 1}."
    return "look", found, "They are not the first tokens, so n_dummy does not help: see which tokens stand there."


def _left_out(table: pd.DataFrame) -> str:
    """Say what is in no image: dummies and special tokens, and what --every passed over."""
    if not len(table):
        return "No token is left out of the images. "
    passed = table["reason"] == NOT_KEPT
    own, n_passed = table[~passed], int(table.loc[passed, "n_texts"].sum())
    said = "No dummy or special token is left out of the images. "
    if len(own):
        n, places = int(own["n_texts"].sum()), sorted(own["position"].unique())
        where = f"position {places[0]}" if len(places) == 1 else f"positions {places[0]} to {places[-1]}"
        kind = "dummy or special token is" if n == 1 else "dummies and special tokens are"
        said = f"{n:,} {kind} left out of the images, at {where}. "
    are = "is" if n_passed == 1 else "are"
    return said + (f"{sentence(count(n_passed, 'token'))} {are} {NOT_KEPT}. " if n_passed else "")


def _sinks(tokens: pd.DataFrame, volumes: pd.DataFrame) -> Finding:
    n = int(volumes["sink"].sum())
    if not n:
        if len(volumes) < FEWEST:
            return "note", f"{sentence(count(len(volumes), 'volume'))}: too few to tell a sink.", "Record more text."
        if not volumes["relative_norm"].any():
            return "note", "Every norm is 0: whether there are sinks cannot be said.", _ALL_ZERO
        largest = volumes["relative_norm"].max()
        return "good", f"No sink: the largest norm of a volume is {largest:.1f} times the usual one.", ""
    sinks = tokens[tokens["sink"] == 1]
    have = "has" if n == 1 else "have"
    found = f"{sentence(count(n, 'volume'))} ({percent(n / len(volumes))}) {have} an outlying norm"
    if not len(sinks):
        return "note", f"{found}, of no token in particular.", "Look at these volumes in volumes.tsv.gz (sink = 1)."
    shown = ", ".join(f"'{visible(token)}'" for token in sinks["token"].head(N_NAMED))
    more = f" and {len(sinks) - N_NAMED:,} more" if len(sinks) > N_NAMED else ""
    return (
        "look",
        f"{found}; behaving as sinks: {count(len(sinks), 'token')}, {shown}{more}.",
        "Check that no network's top tokens are only these; if one's are, call it a sink and not a function. Or take "
        "these tokens out of the texts and record again.",
    )


def _outliers(table: pd.DataFrame, texts: pd.DataFrame) -> Finding:
    n_empty = int((texts["split"] == "fit").sum()) - len(table)
    empty = f" {sentence(count(n_empty, 'text'))} had no token beyond the dummies." if n_empty > 0 else ""
    if len(table) < FEWEST:
        return (
            "note",
            f"{sentence(count(len(table), 'text'))}: too few to tell an outlier (at least {FEWEST}).{empty}",
            "Read them, or record more.",
        )
    found = table[table["outlier"] == 1]
    if not len(found):
        return "good", f"No outlier among {len(table):,} texts (|robust z| > {OUTLYING}).{empty}", ""
    size = np.fmax(found["norm_z"].abs().to_numpy(), found["distance_z"].to_numpy())
    names = found["text_id"].iloc[np.argsort(-size, kind="stable")].tolist()
    are = "is an outlier" if len(names) == 1 else "are outliers"
    shown = ", ".join(names[:N_NAMED]) + (f" and {len(names) - N_NAMED:,} more" if len(names) > N_NAMED else "")
    return (
        "look",
        f"{sentence(count(len(names), 'text'))} of {len(table):,} {are} (|robust z| > {OUTLYING}): {shown}.{empty}",
        f"Read them. If they do not belong to the corpus, leave out {', '.join(names[:N_NAMED])} and record again; if "
        "they do, keep them.",
    )


def _spikes(runs: pd.DataFrame) -> Finding:
    n, total = int(runs["n_spikes"].sum()), int(runs["n_volumes"].sum())
    if not n:
        return "good", "No spikes: no volume differs from the one before it by more than usual in its run.", ""
    worst = runs.loc[runs["share_spikes"].idxmax()]
    found = (
        f"{sentence(count(n, 'volume'))} of {total:,} ({percent(n / total)}) spike; most in run {int(worst['run'])} "
        f"({percent(worst['share_spikes'])})."
    )
    if n / total > _MANY_SPIKES:
        return "look", found, "Look at the carpets: a spike at the same token every time is a sink."
    return "note", found, "Nothing to do unless a network's time course is made of them."
