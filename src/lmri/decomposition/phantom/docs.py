"""Summary tables of phantoms for the screen and the documentation."""

from itertools import pairwise

import numpy as np
import pandas as pd

from lmri.decomposition.phantom.evaluation import EFFECT_EDGES, FOUND
from lmri.decomposition.phantom.tables import EFFECTS

_POWERS = tuple(
    f"power {low:g}–{high:g}" if np.isfinite(high) else f"power ≥ {low:g}" for low, high in pairwise(EFFECT_EDGES)
)


def maps_table(table: pd.DataFrame) -> pd.DataFrame:
    """Select the columns of `table` that do not depend on the threshold: one row per phantom and method."""
    rows = table[~table["is_null"]].drop_duplicates(["data", "method"])
    shown = pd.DataFrame(
        {
            "data": rows["data"],
            "method": rows["method"],
            "planted": _number(rows["n_networks"]),
            "found": _number(rows["found"]),
            "worst seed": _number(rows["found_worst"]),
            "sign right": _percent(rows["sign_right"]),
            "AUC": _decimals(rows["auc"]),
            "rank r of weights": _decimals(rows["spearman"]),
            "converged": _of(rows["n_converged"], rows["n_seeds"]),
        }
    )
    orders = table.drop_duplicates("data").set_index("data")["order_selected"]
    if orders.notna().any():
        shown["order selected"] = _number(rows["data"].map(orders))
    return shown.reset_index(drop=True)


def thresholds_table(table: pd.DataFrame) -> pd.DataFrame:
    """Select the results of thresholds on planted networks; thresholds that failed for every seed are left out."""
    rows = table[~table["is_null"] & (table["n_failed"] < table["n_seeds"])]
    powers = {shown: _percent(rows[name]) for shown, name in zip(_POWERS, EFFECTS, strict=True)}
    shown = pd.DataFrame(
        {
            "data": rows["data"],
            "method": rows["method"],
            "threshold": rows["threshold"],
            "power": _percent(rows["power"]),
            **powers,
            "false share": _percent(rows["false_share"]),
            "± se": _percent(rows["false_share_se"]),
            "neurons per map": _number(rows["kept"]),
        }
    )
    return shown.reset_index(drop=True)


def nulls_table(table: pd.DataFrame) -> pd.DataFrame:
    """Select the results of thresholds on nulls; thresholds that failed for every seed are left out."""
    rows = table[table["is_null"] & (table["n_failed"] < table["n_seeds"])]
    ends = zip(_percent(rows["maps_kept_low"]), _percent(rows["maps_kept_high"]), strict=True)
    shown = pd.DataFrame(
        {
            "null": rows["data"],
            "method": rows["method"],
            "threshold": rows["threshold"],
            "maps": _number(rows["n_maps"]),
            "keep any neuron": _percent(rows["maps_kept"]),
            "95 % interval": [f"{low} to {high}" for low, high in ends],
            "neurons per map": _number(rows["kept"]),
        }
    )
    return shown.reset_index(drop=True)


def failures(table: pd.DataFrame) -> pd.DataFrame:
    """List failures: ``data, method, threshold, failed, why``; thresholds and data with the same reason share a row."""
    rows = table[table["note"] != ""]
    listed = [
        {
            **{name: ", ".join(dict.fromkeys(group[name])) for name in ("data", "method", "threshold")},
            "failed": f"{group['n_failed'].sum()} of {group['n_seeds'].sum()}",
            "why": why,
        }
        for why, group in rows.groupby("note", sort=False)
    ]
    return pd.DataFrame(listed, columns=["data", "method", "threshold", "failed", "why"])


def markdown(table: pd.DataFrame) -> str:
    """Format `table` for the documentation: maps, thresholds, nulls, and failures with their reasons.

    Parameters
    ----------
    table : DataFrame
        Result of `lmri.phantom.table`.

    Returns
    -------
    str
        Markdown; missing values are dashes.
    """
    parts = [
        (
            "Networks found",
            "Medians, and the worst value over seeds. A network is found if a map matches it one to one with "
            f'|r| ≥ {FOUND:g}. The column "sign right" refers to the networks found. AUC: how well |weight| ranks the '
            "members above other neurons.",
            maps_table(table),
        ),
        (
            "Simulated networks after thresholding",
            "Power: share of the planted neurons that are kept, overall and by their effect in standard deviations of "
            "the noise. False share: share of the kept neurons that are not planted in the matched network, averaged "
            "over the maps that keep any neuron, with its standard error over seeds.",
            thresholds_table(table),
        ),
        (
            "False positives on nulls",
            "Share of the maps that keep any neuron, with an exact binomial interval that treats maps as independent.",
            nulls_table(table),
        ),
        ("What failed", "Failures are excluded from all other numbers.", failures(table)),
    ]
    return "\n".join(f"## {title}\n\n{text}\n\n{_rows(part)}" for title, text, part in parts if len(part))


def _rows(table: pd.DataFrame) -> str:
    """Format a table as Markdown."""
    lines = [list(table), ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "".join("| " + " | ".join(str(value).replace("|", "\\|") for value in line) + " |\n" for line in lines)


def _number(values: pd.Series) -> list[str]:
    """Format numbers with at most one decimal."""
    return ["–" if pd.isna(value) else f"{value:.1f}".removesuffix(".0") for value in values]


def _decimals(values: pd.Series) -> list[str]:
    """Format numbers with three decimals."""
    return ["–" if pd.isna(value) else f"{value:.3f}" for value in values]


def _percent(values: pd.Series) -> list[str]:
    """Format shares as percentages."""
    return ["–" if pd.isna(value) else f"{100 * value:.1f} %" for value in values]


def _of(values: pd.Series, whole: pd.Series) -> list[str]:
    """Format counts with their totals."""
    return [f"{value} of {n}" for value, n in zip(values, whole, strict=True)]
