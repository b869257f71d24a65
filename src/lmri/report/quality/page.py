"""Page of quality control: findings and recommendations for a recording, as one self-contained HTML file."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from lmri.decomposition.quality import Quality, inspect
from lmri.decomposition.quality.tokens import FEWEST_SEEN
from lmri.exceptions import StudyError
from lmri.report.environment import encodable, environment
from lmri.report.quality import figures
from lmri.storage import write_lock, write_text
from lmri.storage.store import Store

logger = logging.getLogger(__name__)

_GENERATOR = '<meta name="generator" content="lmri qc">'
N_ROWS = 12
"""Maximum number of rows per table; the file has all rows."""

_MOST_OUTLIERS = 60


def write_page(quality: Quality, path: str | Path) -> Path:
    """Write the page of quality control as one self-contained file without scripts; all text in it is escaped.

    Parameters
    ----------
    quality : Quality
        Quality metrics to show.
    path : str or Path
        Path of the page; an existing page of quality control is replaced.

    Returns
    -------
    Path
        Path of the page.

    Raises
    ------
    StudyError
        If `path` exists and is not a page of quality control.
    """
    path = Path(path)
    check_page(path)
    html = environment().get_template("quality.html.j2").render(_content(quality))
    write_text(path, encodable(html))
    return path


def check_quality(
    store: Store,
    corpus: str | None = None,
    site: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Quality]:
    """Compute quality metrics of recordings, and store the tables and a page of each.

    Parameters
    ----------
    store : Store
        Study with the recordings.
    corpus, site : str, optional
        Corpus and site; all by default.
    out : str or Path, optional
        File of the page, for one recording; by default ``lmri/SCOPE/qc/SITE/CORPUS/qc.html`` in the study.
    progress : callable, optional
        Function called with the number of finished runs and of all runs of a recording.

    Returns
    -------
    list of Quality
        Quality metrics, one object per recording.

    Raises
    ------
    AmbiguousChoiceError
        If there is no such recording.
    ValueError
        If `out` is given for several recordings.
    StudyError
        If `out` exists and is not a page of quality control.
    """
    matching = [recording for recording in store.recordings(site) if corpus is None or recording.corpus == corpus]
    # Raises an error if no such recording exists; every recording is checked.
    recordings = [store.recording(recording.corpus, recording.space.site) for recording in matching] or [
        store.recording(corpus, site)
    ]
    if out is not None and len(recordings) > 1:
        names = ", ".join(f"{recording.corpus} at {recording.space.site}" for recording in recordings)
        raise ValueError(
            f"--out is a single file, but there are several recordings: {names}. Choose one with --corpus and --site."
        )
    qualities = []
    for recording in recordings:
        folder = store.layout.quality(recording.space.site, recording.corpus)
        page = page_of(store, recording.corpus, recording.space.site) if out is None else Path(out)
        check_page(page)
        logger.info("Quality control of %s at %s", recording.corpus, recording.space.site)
        quality = inspect(recording, progress)
        with write_lock(store.root):
            quality.write(folder)
            write_page(quality, page)
        qualities.append(quality)
    return qualities


def page_of(store: Store, corpus: str, site: str) -> Path:
    """Return the default path of the page of a recording."""
    return store.layout.quality(site, corpus) / "qc.html"


def check_page(path: Path) -> None:
    """Raise StudyError if a path exists and is not a page of quality control."""
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
        "carpets": [(carpet.run, figures.carpet_figure(carpet, quality)) for carpet in quality.carpets],
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
    """List flagged neurons, followed by neurons with the largest share of the variance."""
    order = neurons.sort_values(
        ["massive", "extreme", "dominant", "share_variance", "layer", "neuron"],
        ascending=[False, False, False, False, True, True],
    )
    return order.head(N_ROWS).to_dict("records")
