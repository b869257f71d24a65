"""The page of quality control: what was found in a recording, and what to do, as one self-contained HTML file."""

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
from lmri.storage import write_text, writing
from lmri.storage.store import Store

logger = logging.getLogger(__name__)

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


def check_quality(
    store: Store,
    corpus: str | None = None,
    site: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Quality]:
    """Compute quality metrics of recordings, and store tables and a page of each.

    Parameters
    ----------
    store : Store
        The study.
    corpus, site : str, optional
        Corpus and site; all by default.
    out : str or Path, optional
        File of the page, for one recording; by default ``lmri/qc/SITE/CORPUS/qc.html`` in the study.
    progress : callable, optional
        Called with runs done and runs in all, per recording.

    Returns
    -------
    list of Quality
        One per recording.

    Raises
    ------
    AmbiguousChoiceError
        If there is no such recording.
    ValueError
        If there is one page for several recordings.
    StudyError
        If the page would replace another file.
    """
    found = [one for one in store.recordings(site) if corpus is None or one.corpus == corpus]
    # A recording that is asked for by name has to exist; each is checked.
    recordings = [store.recording(one.corpus, one.space.site) for one in found] or [store.recording(corpus, site)]
    if out is not None and len(recordings) > 1:
        names = ", ".join(f"{one.corpus} at {one.space.site}" for one in recordings)
        raise ValueError(f"--out is one file, but there are {names}. Choose with --corpus and --site.")
    made = []
    for recording in recordings:
        folder = store.layout.quality(recording.space.site, recording.corpus)
        page = page_of(store, recording.corpus, recording.space.site) if out is None else Path(out)
        check_page(page)
        logger.info("Looking at %s at %s", recording.corpus, recording.space.site)
        quality = inspect(recording, progress)
        with writing(store.root):
            quality.write(folder)
            write_page(quality, page)
        made.append(quality)
    return made


def page_of(store: Store, corpus: str, site: str) -> Path:
    """Return the default path of the page of a recording."""
    return store.layout.quality(site, corpus) / "qc.html"


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
