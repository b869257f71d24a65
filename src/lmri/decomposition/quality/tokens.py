"""Tokens that are left out of images, and tokens in images that are attention sinks."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmri.decomposition.quality.robust import OUTLYING, robust_z

SINK_RATIO = 5.0
"""Smallest norm of a sink relative to the median; it must also exceed `OUTLYING` in robust z. Ordinary tokens of small
trained models reach 3.5, sinks tens or hundreds."""

DUMMY, NOT_KEPT, ANY = "dummy or special token", "not kept by --every", "(any)"
"""Reasons why a token is in no image, and the placeholder of tokens that are only counted."""

FEWEST_SEEN = 3
"""Smallest number of volumes of a position or token to be called a sink."""


def mark_sinks(volumes: pd.DataFrame, layer_norms: np.ndarray, blocks: Sequence[int]) -> pd.DataFrame:
    """Add the norm of every volume relative to the median, in the block where this ratio is largest, and flag sinks.

    The experts of a block are combined: each is 0 at most tokens, and the median of an expert to which only sinks are
    routed would be the norm of sinks.

    Parameters
    ----------
    volumes : DataFrame
        Volumes, one row per volume.
    layer_norms : ndarray of shape (n_volumes, n_layers)
        Euclidean norms of layers.
    blocks : sequence of int
        Block of every layer, as `NeuronSpace.blocks`. Blocks have equal weight, independent of their scale.

    Returns
    -------
    DataFrame
        Volumes with ``relative_norm`` (1 for the median volume; 0 if all norms are 0), ``peak_layer`` and ``sink``.
    """
    block_of = np.unique(np.asarray(blocks), return_inverse=True)[1]
    squares = np.zeros((block_of.max() + 1, len(layer_norms)))
    np.add.at(squares, block_of, layer_norms.T**2)
    norms = np.sqrt(squares).T  # (n_volumes, n_blocks)
    medians = np.array([np.median(block[block > 0]) if (block > 0).any() else 0.0 for block in norms.T])
    ratios = np.divide(norms, medians, out=np.zeros_like(norms), where=medians > 0)
    peaks = ratios.max(axis=1)
    middle = float(np.median(peaks))
    relative = peaks / middle if middle else peaks
    table = volumes.copy()
    norms_of_peak_block = np.where(block_of == ratios.argmax(axis=1)[:, None], layer_norms, -1.0)
    table["relative_norm"], table["peak_layer"] = relative, norms_of_peak_block.argmax(axis=1)
    table["sink"] = ((relative >= SINK_RATIO) & (robust_z(relative) > OUTLYING)).astype(int)
    return table


def positions_table(volumes: pd.DataFrame) -> pd.DataFrame:
    """Compute norms by position in the text: ``position, n_volumes, relative_norm``, quartiles, flag."""
    by = volumes.groupby("position")["relative_norm"]
    table = by.quantile([0.25, 0.5, 0.75]).unstack()
    table.columns = pd.Index(["relative_norm_25", "relative_norm", "relative_norm_75"])
    table = table.reset_index()
    table.insert(1, "n_volumes", by.size().to_numpy())
    table["sink"] = _is_sink(table, volumes)
    return table


def tokens_table(volumes: pd.DataFrame) -> pd.DataFrame:
    """Compute norms by token, largest first: ``token_id, token, n_volumes, relative_norm, largest``, flag."""
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
    """Flag rows with at least half of the volumes outlying, whose median then exceeds the same two limits."""
    outlying = volumes.loc[volumes["sink"] == 1, "relative_norm"]
    limit = float(outlying.min()) if len(outlying) else np.inf
    return ((table["n_volumes"] >= FEWEST_SEEN) & (table["relative_norm"] >= limit)).to_numpy(dtype=int)


def left_out_table(tokens: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """List the tokens that are in no image by position: ``position, token_id, token, reason, n_texts``.

    The reason is `DUMMY` or `NOT_KEPT`; tokens with the latter may be as many as words, so they are only counted.
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
    r"""Format invisible characters: line ends, tabs, blanks at the ends, and control characters.

    Examples
    --------
    >>> visible(" a\n"), visible("")
    ('␣a⏎', '(empty)')
    """
    if not text:
        return "(empty)"
    shown = text.replace("\r\n", "⏎").replace("\n", "⏎").replace("\t", "⇥")
    shown = "".join(f"‹U+{ord(char):04X}›" if unicodedata.category(char)[0] == "C" else char for char in shown)
    inner = shown.strip(" ")
    before = len(shown) - len(shown.lstrip(" "))
    return "␣" * before + inner + "␣" * (len(shown) - before - len(inner))
