"""Tokens: which are in no image, and whether one in the images is an attention sink."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmri.decomposition.quality.robust import OUTLYING, robust_z

SINK_RATIO = 5.0
"""A sink's norm is at least so many times the usual one, and beyond `OUTLYING` in robust z. Ordinary tokens of small
trained models reach 3.5; sinks lie at tens or hundreds."""

DUMMY, NOT_KEPT, ANY = "dummy or special token", "not kept by --every", "(any)"
"""Why a token is in no image, and what stands for those that are only counted."""

FEWEST_SEEN = 3
"""A position or token that was met less often is not called a sink: one volume is a volume, not a rule."""


def mark_sinks(volumes: pd.DataFrame, layer_norms: np.ndarray, blocks: Sequence[int]) -> pd.DataFrame:
    """Add to every volume how large its norm is, in the block where it is largest beside that block's usual one.

    The experts of a block are taken together: each is 0 at most tokens, and one to which nothing but sinks are routed
    would make them the usual.

    Parameters
    ----------
    volumes : DataFrame
        A row a volume.
    layer_norms : ndarray of shape (n_volumes, n_layers)
        Euclidean norms.
    blocks : sequence of int
        Block of every layer, as `NeuronSpace.blocks`. Blocks count alike, whatever their scale.

    Returns
    -------
    DataFrame
        With ``relative_norm`` (1 is the median volume; 0 everywhere if nothing is but 0), ``peak_layer`` and ``sink``.
    """
    block_of = np.unique(np.asarray(blocks), return_inverse=True)[1]
    squares = np.zeros((block_of.max() + 1, len(layer_norms)))
    np.add.at(squares, block_of, layer_norms.T**2)
    norms = np.sqrt(squares).T  # (n_volumes, n_blocks)
    usual = np.array([np.median(own[own > 0]) if (own > 0).any() else 0.0 for own in norms.T])
    ratios = np.divide(norms, usual, out=np.zeros_like(norms), where=usual > 0)
    peaks = ratios.max(axis=1)
    middle = float(np.median(peaks))
    relative = peaks / middle if middle else peaks
    table = volumes.copy()
    own = np.where(block_of == ratios.argmax(axis=1)[:, None], layer_norms, -1.0)
    table["relative_norm"], table["peak_layer"] = relative, own.argmax(axis=1)
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
    """List the tokens that are in no image: ``position, token_id, token, reason, n_texts``, the first positions first.

    The reason is `DUMMY` or `NOT_KEPT`; of the latter there may be as many as words, so they are only counted.
    """
    columns = ["position", "token_id", "token", "reason"]
    absent = pd.concat([table[table["volume"].isna()] for table in tokens], ignore_index=True)
    dummy = absent["dummy"] == 1
    absent = absent.assign(
        token_id=absent["token_id"].where(dummy, -1),
        token=absent["token"].where(dummy, ANY),
        reason=np.where(dummy, DUMMY, NOT_KEPT),
    )[columns]
    if not len(absent):
        kinds = {"position": int, "token_id": int, "token": object, "reason": object, "n_texts": int}
        return pd.DataFrame({name: [] for name in kinds}).astype(kinds)
    counts = absent.groupby(columns, sort=True).size().rename("n_texts").reset_index()
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
