"""Findings of quality control in words, with advice."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lmri.decomposition.quality.robust import FEWEST, OUTLYING
from lmri.decomposition.quality.tokens import NOT_KEPT, visible
from lmri.space import NeuronSpace
from lmri.space.sites import ROUTER

N_NAMED = 5
_MANY_SPIKES = 0.05
_MEDIAN = "their layer's median |value|, zeros excluded"
_ALL_ZERO = "Check the site: all neurons are 0 throughout."

Finding = tuple[str, str, str]
"""Status (good, note, look), finding, and advice."""


def find(
    tables: Mapping[str, pd.DataFrame], texts: pd.DataFrame, n_dummy: int | None, space: NeuronSpace
) -> pd.DataFrame:
    """Compute the findings, one row per topic: ``topic, status, finding, advice``.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Tables as in `lmri.qc.Quality`.
    texts : DataFrame
        Texts of the recording.
    n_dummy : int or None
        Number of dummies per text in the recording; None if unknown.
    space : NeuronSpace
        Neuron space.
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
    """Format a number with its noun.

    Examples
    --------
    >>> count(1, "text"), count(0, "text"), count(1200, "text")
    ('1 text', 'no text', '1,200 texts')
    """
    return f"no {noun}" if not n else f"{n:,} {noun}{'' if n == 1 else 's'}"


def sentence(text: str) -> str:
    """Capitalize the first letter."""
    return text[:1].upper() + text[1:]


def percent(share: float) -> str:
    """Format a share as a percentage with enough digits to differ from 0."""
    return f"{100 * share:.1f} %" if share >= 0.001 or not share else f"{100 * share:.2g} %"


def _named(rows: pd.DataFrame) -> str:
    """Format the addresses of the first neurons of a table, and the number of others."""
    shown = [f"layer {row.layer} neuron {row.neuron}" for row in rows.head(N_NAMED).itertuples()]
    return ", ".join(shown) + (f" and {len(rows) - N_NAMED:,} more" if len(rows) > N_NAMED else "")


def _experts_without_tokens(neurons: pd.DataFrame, space: NeuronSpace) -> pd.Series:
    """Return the expert of every neuron that is 0 throughout because no token was routed to it."""
    zero = neurons["share_zero"] == 1
    if space.site.removesuffix(ROUTER) != space.site:  # neurons are experts
        zero_neurons = neurons[zero]
        named = [f"{space.layers[row.layer].name} expert {row.neuron}" for row in zero_neurons.itertuples()]
        return pd.Series(named, zero_neurons.index, dtype=object)
    silent = zero.groupby(neurons["layer"]).all()
    names = {z: layer.name for z, layer in enumerate(space.layers) if layer.expert is not None and silent[z]}
    return neurons["layer"].map(names).dropna()


def _dead(neurons: pd.DataFrame, n_volumes: int, unused: pd.Series) -> Finding:
    """Report neurons that are constant, and experts without tokens."""
    if n_volumes < 2:
        return "note", "There is only one volume, so dead neurons cannot be determined.", "Record more text."
    dead = neurons[(neurons["dead"] == 1) & ~neurons.index.isin(unused.index)]
    idle = ""
    if len(unused):
        names = list(dict.fromkeys(unused))
        more = f" and {len(names) - N_NAMED:,} more" if len(names) > N_NAMED else ""
        zeros = f"{count(len(unused), 'neuron')} there, 0 throughout"
        idle = f"No token was routed to {', '.join(names[:N_NAMED])}{more}: {zeros}."
    if idle and not len(dead):
        return (
            "note",
            idle,
            "Record more texts, or texts of other kinds; until then these neurons belong to no network.",
        )
    if not len(dead):
        return "good", "No dead neurons.", ""
    layers = dead["layer"].value_counts()
    whole = layers.index[layers == neurons["layer"].value_counts().reindex(layers.index)]
    verb = "is" if len(dead) == 1 else "are"
    finding = (
        f"{sentence(count(len(dead), 'neuron'))} of {len(neurons):,} {verb} constant ({_named(dead)}). {idle}".rstrip()
    )
    if len(whole):
        listed = ", ".join(str(layer) for layer in sorted(whole))
        return (
            "look",
            f"{finding} All neurons of layer {listed} are dead.",
            "Check the site, and whether these weights are pruned.",
        )
    return (
        "note",
        finding,
        "No action is needed: these neurons are set to 0 when standardized, and belong to no network.",
    )


def _large(neurons: pd.DataFrame, kind: str, rule: str) -> Finding:
    """Report neurons with massive or extreme activations."""
    flagged = neurons[neurons[kind] == 1].sort_values(["peak", "layer", "neuron"], ascending=[False, True, True])
    if not len(flagged):
        return "good", f"No {kind} activations: no value is {rule}.", ""
    n_values = int(flagged[f"n_{kind}"].sum())
    return (
        "look",
        f"{sentence(count(n_values, f'{kind} value'))} in {count(len(flagged), 'neuron')}, {rule}: {_named(flagged)}.",
        "Keep standardize = zscore. Check whether a few tokens cause them (first tokens, sinks); if not, "
        "check that no network consists of one of these neurons alone.",
    )


def _dominant(neurons: pd.DataFrame) -> Finding:
    """Report neurons with a large share of the variance."""
    order = neurons.sort_values(["share_variance", "layer", "neuron"], ascending=[False, True, True])
    top = order.iloc[0]
    largest = f"layer {int(top['layer'])} neuron {int(top['neuron'])}"
    n_dominant = int((neurons["dominant"] == 1).sum())
    if not neurons["share_variance"].any():
        return "look", "All neurons are constant, so there is no variance.", "Record texts with other tokens."
    if not n_dominant:
        return "good", f"No neuron dominates: the largest share is {percent(top['share_variance'])} ({largest}).", ""
    alone = f"{sentence(largest)} alone carries {percent(top['share_variance'])} of the variance"
    if n_dominant > 1:
        together = percent(float(order["share_variance"].head(n_dominant).sum()))
        alone += f"; {n_dominant} neurons carry {together} together ({_named(order.head(n_dominant))})"
    return (
        "look",
        f"{alone}.",
        "Keep standardize = zscore, which gives every neuron the same variance; with center or none these neurons "
        "would dominate the maps.",
    )


def _first_tokens(positions: pd.DataFrame, left_out: pd.DataFrame, n_dummy: int | None) -> Finding:
    """Report positions that are sinks, and the number of dummies that would exclude them."""
    before = _left_out(left_out)
    if not positions["relative_norm"].any():
        return "note", f"{before}All norms are 0, so sinks cannot be determined.", _ALL_ZERO
    sinks = positions[positions["sink"] == 1]
    first = positions.iloc[0]
    start = int(first["position"])
    norm = f"position {start}, the first in the images, has {first['relative_norm']:.1f} times the median norm"
    if not len(sinks):
        return "good", f"{before}No position is a sink: {norm}.", ""
    last = start - 1
    while last + 1 in set(sinks["position"]):
        last += 1
    are = "is a sink" if len(sinks) == 1 else "are sinks"
    largest = sinks.loc[sinks["relative_norm"].idxmax()]
    finding = (
        f"{before}{sentence(count(len(sinks), 'position'))} in the images {are}: at position "
        f"{int(largest['position'])} the norm is {largest['relative_norm']:.1f} times the median."
    )
    if last >= start:
        was = "" if n_dummy is None else f" (it was {n_dummy})"
        return "look", finding, f"Raise n_dummy to {last + 1}{was} and record again: lmri record --n-dummy {last + 1}."
    return "look", finding, "These are not the first tokens, so n_dummy cannot exclude them. Check the tokens there."


def _left_out(table: pd.DataFrame) -> str:
    """Describe the tokens that are in no image: dummies, special tokens, and tokens skipped by --every."""
    if not len(table):
        return "No token is left out of the images. "
    skipped = table["reason"] == NOT_KEPT
    dummies, n_skipped = table[~skipped], int(table.loc[skipped, "n_texts"].sum())
    text = "No dummy or special token is left out of the images. "
    if len(dummies):
        n, positions = int(dummies["n_texts"].sum()), sorted(dummies["position"].unique())
        where = f"position {positions[0]}" if len(positions) == 1 else f"positions {positions[0]} to {positions[-1]}"
        kind = "dummy or special token is" if n == 1 else "dummies and special tokens are"
        text = f"{n:,} {kind} left out of the images, at {where}. "
    are = "is" if n_skipped == 1 else "are"
    return text + (f"{sentence(count(n_skipped, 'token'))} {are} {NOT_KEPT}. " if n_skipped else "")


def _sinks(tokens: pd.DataFrame, volumes: pd.DataFrame) -> Finding:
    """Report volumes with an outlying norm, and tokens that are sinks."""
    n = int(volumes["sink"].sum())
    if not n:
        if len(volumes) < FEWEST:
            return "note", f"{sentence(count(len(volumes), 'volume'))}: too few to detect sinks.", "Record more text."
        if not volumes["relative_norm"].any():
            return "note", "All norms are 0, so sinks cannot be determined.", _ALL_ZERO
        largest = volumes["relative_norm"].max()
        return "good", f"No sinks: the largest norm of a volume is {largest:.1f} times the median.", ""
    sinks = tokens[tokens["sink"] == 1]
    have = "has" if n == 1 else "have"
    finding = f"{sentence(count(n, 'volume'))} ({percent(n / len(volumes))}) {have} an outlying norm"
    if not len(sinks):
        return "note", f"{finding}, at no particular token.", "Inspect these volumes in volumes.tsv.gz (sink = 1)."
    shown = ", ".join(f"'{visible(token)}'" for token in sinks["token"].head(N_NAMED))
    more = f" and {len(sinks) - N_NAMED:,} more" if len(sinks) > N_NAMED else ""
    return (
        "look",
        f"{finding}; sinks: {count(len(sinks), 'token')}, {shown}{more}.",
        "Check that no network has only these as top tokens; such a network is a sink and not a function. Or remove "
        "these tokens from the texts and record again.",
    )


def _outliers(table: pd.DataFrame, texts: pd.DataFrame) -> Finding:
    """Report outlier texts, and texts without tokens in the images."""
    n_empty = int((texts["split"] == "fit").sum()) - len(table)
    empty = f" {sentence(count(n_empty, 'text'))} had no tokens beyond the dummies." if n_empty > 0 else ""
    if len(table) < FEWEST:
        return (
            "note",
            f"{sentence(count(len(table), 'text'))}: too few to detect outliers (at least {FEWEST}).{empty}",
            "Read the texts, or record more.",
        )
    outliers = table[table["outlier"] == 1]
    if not len(outliers):
        return "good", f"No outliers among {len(table):,} texts (|robust z| > {OUTLYING}).{empty}", ""
    size = np.fmax(outliers["norm_z"].abs().to_numpy(), outliers["distance_z"].to_numpy())
    names = outliers["text_id"].iloc[np.argsort(-size, kind="stable")].tolist()
    are = "is an outlier" if len(names) == 1 else "are outliers"
    shown = ", ".join(names[:N_NAMED]) + (f" and {len(names) - N_NAMED:,} more" if len(names) > N_NAMED else "")
    return (
        "look",
        f"{sentence(count(len(names), 'text'))} of {len(table):,} {are} (|robust z| > {OUTLYING}): {shown}.{empty}",
        f"Read these texts. If they do not belong to the corpus, leave out {', '.join(names[:N_NAMED])} and record "
        "again; otherwise keep them.",
    )


def _spikes(runs: pd.DataFrame) -> Finding:
    """Report volumes with an outlying DVARS."""
    n, total = int(runs["n_spikes"].sum()), int(runs["n_volumes"].sum())
    if not n:
        return "good", "No spikes: the change from volume to volume (DVARS) has no outliers in any run.", ""
    worst = runs.loc[runs["share_spikes"].idxmax()]
    verb = "is a spike" if n == 1 else "are spikes"
    finding = (
        f"{sentence(count(n, 'volume'))} of {total:,} ({percent(n / total)}) {verb}; the largest share is in run "
        f"{int(worst['run'])} ({percent(worst['share_spikes'])})."
    )
    if n / total > _MANY_SPIKES:
        return "look", finding, "Inspect the carpets: spikes that are always at the same token are sinks."
    return "note", finding, "No action is needed unless the time course of a network consists of spikes."
