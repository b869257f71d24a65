"""Printing of scores and run times."""

from typing import Any

import pandas as pd


def pivot_by_task(summary: pd.DataFrame) -> pd.DataFrame:
    """Arrange a summary for the screen: one row per condition, one column per task."""
    rows = []
    for condition, results in summary.groupby("condition", sort=False):
        row: dict[str, Any] = {"condition": condition, "neurons": int(results["n_neurons"].iloc[0])}
        for result in results.drop_duplicates("task").itertuples():  # the primary metric of a task comes first
            if condition == "intact":
                row[str(result.task)] = f"{result.value:.3f}"
            else:
                p = "" if pd.isna(result.p) else f"  p {result.p:.3f}"
                row[str(result.task)] = "0" if result.diff == 0 else f"{result.diff:+.3f}{p}"
        rows.append(row)
    return pd.DataFrame(rows)


def run_time(seconds: float) -> str:
    """Format an estimated run time in minutes, or in seconds if it is short.

    Examples
    --------
    >>> run_time(12.3), run_time(600)
    ('12 seconds', '10 minutes')
    """
    return f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
