"""Counts of true and predicted labels of classification tasks."""

import numpy as np
import pandas as pd

from lmri.lesions.scores.columns import LABELS


def count_labels(items: pd.DataFrame, conditions: pd.DataFrame) -> pd.DataFrame:
    """Count true and predicted labels of item rows; see `Scores.label_counts`."""
    columns = list(LABELS)
    if "predicted" not in items:
        return pd.DataFrame(columns=columns)
    shown = conditions.loc[conditions["kind"] != "control", "condition"]
    rows = []
    classified = items[items["condition"].isin(shown) & (items["label"] != "")]
    for (condition, task), group in classified.groupby(["condition", "task"], sort=False):
        true = group["label"].value_counts()
        # Only items that enter the accuracy.
        read = group[(group["predicted"] != "") & group["value"].notna()]
        majority = read["label"].value_counts().max() / len(read) if len(read) else np.nan
        recall = (read["predicted"] == read["label"]).groupby(read["label"]).mean()
        predicted = group.loc[group["predicted"] != "", "predicted"].value_counts()
        for label in sorted(true.index.union(predicted.index)):
            rows.append(
                {
                    "condition": condition,
                    "task": task,
                    "label": label,
                    "n_true": int(true.get(label, 0)),
                    "n_predicted": int(predicted.get(label, 0)),
                    "recall": recall.get(label, np.nan),
                    "majority_rate": majority,
                    "balanced_accuracy": recall.mean(),
                    "mean_margin": group["margin"].mean() if "margin" in group else np.nan,
                    "collapsed": int(len(predicted) == 1 and len(true) > 1),
                }
            )
    return pd.DataFrame(rows, columns=columns)
