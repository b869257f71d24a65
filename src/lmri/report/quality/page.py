"""The page of quality control: what was found in a recording, and what to do, as one self-contained HTML file."""

from pathlib import Path
from typing import Any

import pandas as pd

from lmri.decomposition.quality import Quality
from lmri.decomposition.quality.tokens import FEWEST_SEEN
from lmri.exceptions import StudyError
from lmri.report.environment import encodable, environment
from lmri.report.quality import figures
from lmri.storage import write_text

_GENERATOR = '<meta name="generator" content="lmri qc">'
N_ROWS = 12
"""More rows of a table are left to its file."""

_MOST_OUTLIERS = 60


def write_page(quality: Quality, path: str | Path) -> Path:
    """Write the page of a quality control: one file, no scripts, nothing outside it is loaded, all text in it escaped.

    Parameters
    ----------
    quality : Quality
        What is shown.
    path : str or Path
        A new file, or an older page of quality control.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    StudyError
        If `path` is another file.
    """
    path = Path(path)
    check_page(path)
    html = environment().get_template("quality.html.j2").render(_content(quality))
    write_text(path, encodable(html))
    return path


def check_page(path: Path) -> None:
    """Refuse to write over anything but an older page of quality control."""
    if path.is_dir():
        raise StudyError(f"{path} is a folder. Nothing was written: choose a file for --out.")
    if path.exists():
        with path.open("rb") as stream:
            if _GENERATOR.encode() in stream.read(1000):
                return
        raise StudyError(f"{path} exists and is not a page of lmri qc. Nothing was overwritten: choose another --out.")


def _content(quality: Quality) -> dict[str, Any]:
    findings, neurons, texts = quality.findings, quality.neurons, quality.texts
    outliers = texts[texts["outlier"] == 1]
    flags = neurons[["dead", "massive", "extreme", "dominant"]].sum()
    often = quality.tokens[quality.tokens["n_volumes"] >= FEWEST_SEEN]
    scored = texts["norm_z"].notna() & texts["distance_z"].notna()
    return {
        "info": quality.info,
        "model": quality.info["model"] or {},
        "findings": findings.to_dict("records"),
        "n_look": int((findings["status"] == "look").sum()),
        "n_texts": len(texts),
        "n_neurons": len(neurons),
        "runs": quality.runs.to_dict("records"),
        "carpets": [(one.run, figures.carpet_figure(one, quality)) for one in quality.carpets],
        "neurons_figure": figures.neurons_figure(quality),
        "flags": {name: int(value) for name, value in flags.items()},
        "top_neurons": _top_neurons(neurons),
        "layers": quality.layers.to_dict("records"),
        "positions_figure": figures.positions_figure(quality),
        "left_out": quality.left_out.head(N_ROWS).to_dict("records"),
        "n_left_out": len(quality.left_out),
        "n_tokens_left_out": int(quality.left_out["n_texts"].sum()),
        "tokens": (quality.tokens if often.empty else often).head(N_ROWS).to_dict("records"),
        "fewest": 1 if often.empty else FEWEST_SEEN,
        "n_tokens": len(quality.tokens),
        "texts_figure": figures.texts_figure(quality) if scored.any() else "",
        "outliers": outliers.head(_MOST_OUTLIERS).to_dict("records"),
        "n_outliers": len(outliers),
    }


def _top_neurons(neurons: pd.DataFrame) -> list[dict[str, Any]]:
    """Give the neurons that carry most of the variance, after those that are flagged."""
    order = neurons.sort_values(
        ["massive", "extreme", "dominant", "share_variance", "layer", "neuron"],
        ascending=[False, False, False, False, True, True],
    )
    return order.head(N_ROWS).to_dict("records")
