"""Tokens: which are in no image, and whether one in the images is an attention sink."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmri.qc.robust import OUTLYING, robust_z

SINK_RATIO = 5.0
"""A sink's norm is at least so many times the usual one, and beyond `OUTLYING` in robust z. Ordinary tokens of small
trained models reach 3.5; sinks lie at tens or hundreds."""

FEWEST_SEEN = 3
"""A position or token that was met less often is not called a sink: one volume is a volume, not a rule."""


def mark_sinks(volumes: pd.DataFrame, layer_norms: np.ndarray) -> pd.DataFrame:
    """Add to every volume how large its norm is, in the layer where it is largest beside that layer's usual one.

    Parameters
    ----------
    volumes : DataFrame
        A row a volume.
    layer_norms : ndarray of shape (n_volumes, n_layers)
        Euclidean norms. Layers count alike, whatever their scale.

    Returns
    -------
    DataFrame
        With ``relative_norm`` (1 is the median volume), ``peak_layer`` and ``sink``.
    """
    usual = np.median(layer_norms, axis=0)
    ratios = np.divide(layer_norms, usual, out=np.zeros_like(layer_norms), where=usual > 0)
    peaks = ratios.max(axis=1)
    middle = float(np.median(peaks))
    relative = peaks / middle if middle else peaks
    table = volumes.copy()
    table["relative_norm"], table["peak_layer"] = relative, ratios.argmax(axis=1)
    table["sink"] = ((relative >= SINK_RATIO) & (robust_z(relative) > OUTLYING)).astype(int)
    return table


def positions_table(volumes: pd.DataFrame) -> pd.DataFrame:
    """Give the profile of norms over positions in the text: ``position, n_volumes, relative_norm``, quartiles, flag."""
    by = volumes.groupby("position")["relative_norm"]
    table = by.quantile([0.25, 0.5, 0.75]).unstack()
    table.columns = pd.Index(["relative_norm_25", "relative_norm", "relative_norm_75"])
    table = table.reset_index()
    table.insert(1, "n_volumes", by.size().to_numpy())
    table["sink"] = _is_sink(table, volumes)
    return table


def tokens_table(volumes: pd.DataFrame) -> pd.DataFrame:
    """Give every token's norm, the largest first: ``token_id, token, n_volumes, relative_norm, largest``, flag."""
    by = volumes.groupby("token_id", sort=True)
    table = by.agg(
        token=("token", "first"),
        n_volumes=("token", "size"),
        relative_norm=("relative_norm", "median"),
        largest=("relative_norm", "max"),
        n_sinks=("sink", "sum"),
    ).reset_index()
    table["sink"] = _is_sink(table, volumes)
    return table.sort_values(["relative_norm", "token_id"], ascending=[False, True], ignore_index=True)


def _is_sink(table: pd.DataFrame, volumes: pd.DataFrame) -> np.ndarray:
    """Say where at least half of the volumes are outlying: then the median is beyond the same two limits."""
    outlying = volumes.loc[volumes["sink"] == 1, "relative_norm"]
    limit = float(outlying.min()) if len(outlying) else np.inf
    return ((table["n_volumes"] >= FEWEST_SEEN) & (table["relative_norm"] >= limit)).to_numpy(dtype=int)


def left_out_table(tokens: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """List the tokens that are in no image: ``position, token_id, token, n_texts``, the first positions first."""
    columns = ["position", "token_id", "token"]
    dummies = pd.concat([table.loc[table["dummy"] == 1, columns] for table in tokens], ignore_index=True)
    if not len(dummies):
        return pd.DataFrame({"position": [], "token_id": [], "token": [], "n_texts": []}).astype(
            {"position": int, "token_id": int, "token": object, "n_texts": int}
        )
    counts = dummies.groupby(columns, sort=True).size().rename("n_texts").reset_index()
    return counts.sort_values(
        ["position", "n_texts", "token_id"], ascending=[True, False, True], kind="stable", ignore_index=True
    )


def visible(text: str) -> str:
    r"""Show what has no ink: line ends, tabs, blanks at the ends, and characters that control others.

    Examples
    --------
    >>> visible(" a\n"), visible("")
    ('␣a⏎', '(empty)')
    """
    if not text:
        return "(empty)"
    shown = text.replace("\r\n", "⏎").replace("\n", "⏎").replace("\t", "⇥")
    shown = "".join(f"‹U+{ord(one):04X}›" if unicodedata.category(one)[0] == "C" else one for one in shown)
    inner = shown.strip(" ")
    before = len(shown) - len(shown.lstrip(" "))
    return "␣" * before + inner + "␣" * (len(shown) - before - len(inner))
