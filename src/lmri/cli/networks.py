"""Messages and tables about networks that several commands print."""

from typing import TYPE_CHECKING

import pandas as pd

from lmri.cli.console import Output, quote
from lmri.models.study_model import suggest_task
from lmri.networks import NetworkSet

if TYPE_CHECKING:
    from lmri.cli.options import StudyScope
    from lmri.storage.store import Store

_STABILITY = {"Iq": "iq", "Iq texts": "iq_texts", "split-half r": "split_half_r"}


def say_empty(output: Output, study: "StudyScope", decomposition: str, networks: NetworkSet) -> None:
    """Print an explanation of an empty network set, and the next command."""
    hint = site_hint(study, networks.space.site)
    z = networks.origin.threshold["method"] != "z"
    by, name = ("z:3", "z3") if z else ("top:0.01", "top1")
    other = (
        " Hidden units often yield more neurons: lmri record ... --site mlp_hidden."
        if networks.space.site == "mlp_out"
        else ""
    )
    output.say(
        "All networks are empty at this threshold: no neuron exceeds it. The maps may still be reliable; check Iq, "
        "`lmri describe` and other methods. To select neurons anyway, by a descriptive threshold: "
        f"lmri threshold {quote(study)} {decomposition} --by {by} --name {decomposition}-{name}{hint}.{other}"
    )


def format_threshold(networks: NetworkSet) -> str:
    """Describe the threshold of a network set: ``"thresholded by z (z = 3): two-sided, ..."``."""
    from lmri.report.wording import threshold_words  # slow to import

    values = {name: value for name, value in networks.origin.threshold.items() if name not in ("description", "label")}
    at, limit = threshold_words(values.pop("method"), values)
    return f"thresholded {at} {limit}: {networks.origin.threshold['description']}"


def summary_columns(networks: NetworkSet) -> pd.DataFrame:
    """Return the columns of a network table that fit on the screen."""
    table = networks.table
    return pd.DataFrame(
        {
            "network": table["network"],
            **({"label": table["label"]} if "label" in table else {}),
            "neurons": table["n_neurons"],
            "positive": table["n_positive"],
            "mean layer": table["mean_layer"].round(1),
            "variance %": (100 * table["variance"]).round(2),
            **{shown: table[key].round(2) for shown, key in _STABILITY.items() if key in table},
            "sign": ["" if known else "undetermined" for known in table["sign_determined"]],
        }
    )


def next_step(store: "Store", study: str, networks: str, hint: str) -> str:
    """Return the command that follows the selection of networks: a lesion, if a task can score the model."""
    task = suggest_task(store)
    if not task:
        return (
            f"Next: lmri report {study}. (No task can score this model under a lesion; its class has no suitable head.)"
        )
    return f"Next: lmri lesion {study} --networks {networks} {task} --n-controls 20{hint}"


def site_hint(study: "StudyScope", site: str) -> str:
    """Return the option ``--site`` for the next command if several sites were recorded, else an empty string."""
    return f" --site {site}" if len(study.open().sites) > 1 else ""
