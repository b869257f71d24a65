"""Page of quality control: findings and recommendations for a recording, as one self-contained HTML file."""

import logging
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from lmri.decomposition.quality import Quality, inspect
from lmri.decomposition.quality.quality import check_folder, move_files
from lmri.decomposition.quality.tokens import FEWEST_SEEN
from lmri.exceptions import StudyError
from lmri.report.environment import encodable, environment
from lmri.report.quality import figures
from lmri.storage import atomic_path, remove, write_text
from lmri.storage.files import remove_empty
from lmri.storage.placing import placing
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
        check_folder(store.layout.quality(recording.space.site, recording.corpus))
        page = page_of(store, recording.corpus, recording.space.site) if out is None else Path(out)
        check_page(page)
        logger.info("Quality control of %s at %s", recording.corpus, recording.space.site)
        quality = inspect(recording, progress)
        _store(store, quality, recording.corpus, recording.space.site, with_page=out is None)
        if out is not None:
            write_page(quality, page)
        qualities.append(quality)
    return qualities


def _store(store: Store, quality: Quality, corpus: str, site: str, with_page: bool) -> None:
    """Store the tables of a recording, and the page if it belongs to the study; the lock is held only to move them."""
    layout = store.layout
    folder, earlier = layout.quality(site, corpus), layout.kept_entries("qc", site, corpus)
    finished = layout.new_kept_entry("qc", site, corpus)
    with atomic_path(finished, f"-{os.getpid()}") as partial:
        quality.write(partial)
        if with_page:
            write_page(quality, partial / "qc.html")
    files = f"{shlex.quote(str(finished))}/*"
    with placing(
        store.root, finished, f"Run the command again later, or move its files: mv {files} {shlex.quote(str(folder))}"
    ):
        move_files(finished, folder)
    for path in earlier:  # kept by a command that found the study locked; replaced now
        remove(path)
    remove_empty(finished.parent, layout.folder)


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
