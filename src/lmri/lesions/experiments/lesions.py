"""Outcome of lesions: networks that exceed their controls, in the paper's layouts and with its published values."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmri.decomposition.parity import PARITY
from lmri.lesions.controls.registry import family_words
from lmri.lesions.experiments.paper import (
    check_model,
    kinds_of,
    lesion_layout,
    networks_layout,
    number,
)
from lmri.lesions.scores import ALPHA, INTACT, Scores, TaskInfo
from lmri.storage.outcome import Outcome

MEANING = (
    "p tests whether a set of neurons is unusual among matched sets of neurons, for this model and these items; the "
    "interval of the network minus the mean of its controls shows how far this generalizes to other texts. One model "
    "is one subject."
)

PAPERS_MEANING = (
    "Made with the paper's choices ("
    + PARITY
    + "): one-sided z, the solver's signs, zeros, and one random 15 % of all neurons in place of controls. Nothing "
    "here tests a network against sets of neurons that are like it."
)


def lesion_outcome(
    scores: Scores,
    of: str = "networks",
    model: str | None = None,
    parity: bool = False,
    balance: pd.DataFrame | None = None,
) -> Outcome:
    """Summarize stored scores of lesions as text, tables and a figure.

    Parameters
    ----------
    scores : Scores
        Scores of lesions of single networks, of their union and of random neurons, if available; with or without
        controls of one or several families.
    of : str, default="networks"
        Name of the lesioned networks, for the title.
    model : {"gpt2", "qwen2.5-3b", "chatglm3-6b"}, optional
        Model of the paper whose values are shown alongside, where task and metric are the same.
    parity : bool, default=False
        Whether networks were computed with the paper's settings; see `lmri.experiments.parity.check_parity`.
    balance : DataFrame, optional
        Balance of removed energy between networks and their controls, one row per network, as returned by
        `lmri.controls.EnergyMatchedControls.balance`.

    Returns
    -------
    Outcome
        Tables ``scores``, ``labels`` (for classification) and ``balance`` (if given); a layout like Tables 5 to 7, and
        one like Table 4 for each task; one figure.
    """
    from lmri.lesions.scores.figure import draw_scores  # importing the drawing library takes a second
    from lmri.space.drawing import drawing

    model = check_model(model)
    summary, labels = scores.summary(), scores.label_counts()
    lesioned = summary[summary["condition"] != INTACT]
    tables = {"scores": summary} | ({"labels": labels} if len(labels) else {})
    tables |= {} if balance is None else {"balance": balance}
    layouts = {"lesions": lesion_layout(scores, model)}
    for task in scores.tasks:
        layouts[f"networks-{_stem(task.name)}"] = networks_layout(scores, task.name, model)
    paragraphs = _paragraphs(scores, summary) + ([] if balance is None else [_balanced(balance)])
    caption = (
        "Dots: difference from the intact model, with the 95 % interval over texts. Grey ticks: every matched control."
    )
    return Outcome(
        "lesion",
        f"{PARITY.capitalize()}: lesions of {of}" if parity else f"Lesions of {of}",
        "\n\n".join([*paragraphs, PAPERS_MEANING if parity else MEANING]),
        tables,
        layouts,
        {"lesions": drawing(draw_scores(scores), caption)} if len(lesioned) else {},
    )


def _stem(task: str) -> str:
    return "".join(char if char.isascii() and (char.isalnum() or char in "_-") else "-" for char in task)


def _paragraphs(scores: Scores, summary: pd.DataFrame) -> list[str]:
    kinds = kinds_of(scores, summary)
    by_task = [_task(task, summary[(summary["task"] == task.name) & (summary["metric"] == task.metric)], kinds,
                   scores.design.n_planned)
             for task in scores.tasks]  # fmt: skip
    return [*_scored(scores, summary), *by_task, *_collapsed(summary), *_notes(summary)]


def _scored(scores: Scores, summary: pd.DataFrame) -> list[str]:
    """State the evaluated weights and the properties that controls share with their network."""
    sentences = (
        [f"The evaluated model was {scores.model.id} (weights {scores.model.fingerprint})."] if scores.model else []
    )
    families = [family_words(str(name)) for name in summary["control_family"].unique() if name]
    if families:
        sentences.append(f"Controls have {'; or '.join(families)}.")
    return [" ".join(sentences)] if sentences else []


def _balanced(balance: pd.DataFrame) -> str:
    """Summarize the balance of removed energy after matching."""
    before, after = balance["smd_before"].abs().max(), balance["smd_after"].abs().max()
    unmatched = int(balance["n_unmatched"].sum())
    return (
        f"Removed energy differs between networks and controls by up to {before:.2f} standard deviations when controls "
        f"are matched by layer and size only, and by up to {after:.2f} when they are also matched by energy; "
        f"{unmatched} neuron{'' if unmatched == 1 else 's'} had no match (table balance)."
    )


def _task(task: TaskInfo, rows: pd.DataFrame, kinds: dict[str, str], n_planned: int) -> str:
    intact = rows[rows["condition"] == INTACT].iloc[0]
    better = "higher is better" if task.higher_is_better else "lower is better"
    sentences = [f"{task.name} ({task.metric.replace('_', ' ')}, {better}): intact {number(intact['value'])}."]
    tested = rows[[kinds[name] == "network" for name in rows["condition"]]]
    families = [name for name in dict.fromkeys(tested["control_family"]) if name]
    sentences += [_family(tested[tested["control_family"] == family], family, n_planned) for family in families]
    if not families and len(tested):
        sentences.append("No network has matched controls, so the effects cannot be attributed to specific networks.")
    for kind, words in (("union", "all networks jointly, "), ("random", "")):
        for name in dict.fromkeys(rows.loc[[kinds[condition] == kind for condition in rows["condition"]], "condition"]):
            sentences.append(_set(rows[rows["condition"] == name], f"{words}{name}"))
    return " ".join(sentences)


def _family(rows: pd.DataFrame, family: str, n_planned: int) -> str:
    """List the networks that exceed their controls of one family."""
    judged = rows[rows["p"].notna()]
    if judged.empty:
        return f"Relative to {family} controls, no network could be tested."
    if judged["q"].isna().all():
        least = n_planned or int(judged["n_controls"].min())  # actual numbers are smaller if draws stopped early
        low = judged.nsmallest(1, "p").iloc[0]
        return (
            f"Relative to {family} controls, the lowest p of {len(judged)} networks is {low['p']:.3g} "
            f"({low['condition']}); {least} controls per network are too few for a q."
        )
    beyond = judged[judged["q"] <= ALPHA].sort_values(["p", "condition"])
    named = "; ".join(_beyond(row) for _, row in beyond.iterrows())
    return (
        f"{len(beyond)} of {len(judged)} networks exceed their {family} controls (q ≤ {ALPHA:g})"
        f"{': ' + named if named else ''}."
    )


def _beyond(row: pd.Series) -> str:
    interval = ""
    if np.isfinite(row.get("effect_low", np.nan)):
        interval = f" [{number(row['effect_low'], '+')}, {number(row['effect_high'], '+')}]"
    effect = f"{number(row['effect'], '+')}{interval} relative to their mean"
    return f"{row['condition']} ({effect}, p {row['p']:.3g}, q {row['q']:.3g})"


def _set(rows: pd.DataFrame, subject: str) -> str:
    """Describe the effect of a lesion of many neurons, and compare it with its controls of each family."""
    first = rows.iloc[0]
    details = []
    if np.isfinite(first["ci_low"]):
        details.append(f"95 % CI {number(first['ci_low'], '+')} to {number(first['ci_high'], '+')}")
    details += [
        f"p = {row.p:.3g} relative to {row.control_family} controls" for row in rows.itertuples() if np.isfinite(row.p)
    ]
    metric = str(first["metric"]).replace("_", " ")
    return (
        f"Lesioning {subject} ({int(first['n_neurons'])} neurons) changed {metric} by {number(first['diff'], '+')}"
        f"{' (' + '; '.join(details) + ')' if details else ''}."
    )


def _collapsed(summary: pd.DataFrame) -> list[str]:
    flags = summary[pd.to_numeric(summary["collapsed"], errors="coerce") == 1]
    pairs = list(dict.fromkeys(f"{row.condition} on {row.task}" for row in flags.itertuples()))
    return _listed("All predictions on one label, so that the score is only the frequency of this label", pairs)


def _notes(summary: pd.DataFrame) -> list[str]:
    # Notes of a task are in all of its rows, but are listed once.
    notes: dict[str, None] = {}
    for task, rows in summary.groupby("task", sort=False):
        parts = [str(note).split("; ") for note in rows["note"]]
        common = [part for part in parts[0] if part and all(part in others for others in parts)]
        notes |= dict.fromkeys(f"{task}: {part}" for part in common)
        for name, row_notes in zip(rows["condition"], parts, strict=True):
            notes |= dict.fromkeys(f"{name}: {part}" for part in row_notes if part and part not in common)
    return _listed("Note", list(notes))


def _listed(words: str, items: Sequence[str], most: int = 20) -> list[str]:
    if not items:
        return []
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return [f"{words}: {'; '.join(items[:most])}{more}."]
