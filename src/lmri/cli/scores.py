"""Printing of scores and run times."""

from typing import Any

import pandas as pd


def pivot_by_task(summary: pd.DataFrame) -> pd.DataFrame:
    """Arrange a summary for the screen: one row per condition, one column per task."""
    rows = []
    for condition, own in summary.groupby("condition", sort=False):
        row: dict[str, Any] = {"condition": condition, "neurons": int(own["n_neurons"].iloc[0])}
        for one in own.drop_duplicates("task").itertuples():  # a task's own metric comes first
            if condition == "intact":
                row[str(one.task)] = f"{one.value:.3f}"
            else:
                p = "" if pd.isna(one.p) else f"  p {one.p:.3f}"
                row[str(one.task)] = "0" if one.diff == 0 else f"{one.diff:+.3f}{p}"
        rows.append(row)
    return pd.DataFrame(rows)


def run_time(seconds: float) -> str:
    """Write an estimated run time in minutes, or in seconds if it is short.

    Examples
    --------
    >>> run_time(12.3), run_time(600)
    ('12 seconds', '10 minutes')
    """
    return f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
