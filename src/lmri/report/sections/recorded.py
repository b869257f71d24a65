"""Recordings section, and their quality control: read from the study, or computed if that is fast."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmri import storage
from lmri.decomposition.quality import inspect
from lmri.decomposition.quality.quality import RECORDED
from lmri.report.charts import course_chart, course_range
from lmri.report.sections.networks import slice_word
from lmri.space import NeuronSpace
from lmri.storage.recording import Recording
from lmri.storage.tolerant import ReportReader

MOST_VALUES, MOST_VALUES_TOGETHER = 2_000_000, 8_000_000
"""Maximum number of values of a recording, and of all recordings, for which the report computes quality metrics;
more would take longer than the rest of the report."""

FLAGS = ("dead", "massive", "extreme", "dominant")
_TEXT = {
    "findings": ("topic", "status", "finding", "advice"),
    "runs": (),
    "layers": ("name",),
    "texts": ("text_id", "why", "begins"),
    "volumes": ("text_id", "token"),
}
"""Text columns of the quality control tables that the report reads."""

Tables = dict[str, pd.DataFrame]


def recordings(reader: ReportReader) -> list[dict[str, Any]]:
    """Format one row per recording."""
    return [_recording(recording) for recording in reader.recordings]


def _recording(recording: Recording) -> dict[str, Any]:
    texts = recording.texts
    return {
        "corpus": recording.corpus,
        "site": recording.space.site,
        "neurons": _widths(recording.space),
        "slice": slice_word(recording.space),
        "n_neurons": recording.space.n_neurons,
        "grid": " × ".join(map(str, recording.space.shape)),
        "n_fit": int((texts["split"] == "fit").sum()),
        "n_test": int((texts["split"] == "test").sum()),
        "n_runs": len(recording.runs),
        "n_volumes": recording.n_volumes,
        "n_cut": int((texts["n_cut"] > 0).sum()),
    }


def _widths(space: NeuronSpace) -> str:
    low, high = min(space.widths), max(space.widths)
    return f"{space.n_layers} × {low}" if low == high else f"{space.n_layers} × {low} to {high}"


# -- quality ----------------------------------------------------------------------------------------------------------


def quality(reader: ReportReader, out: Path) -> list[dict[str, Any]]:
    """Format the quality control of every recording: as stored by `lmri qc`, or computed now.

    Parameters
    ----------
    reader : ReportReader
        The study.
    out : Path
        Path of the report, to which links to pages of quality control are relative.
    """
    budget, rows = MOST_VALUES_TOGETHER, []
    for recording in reader.recordings:
        n_values = recording.n_volumes * recording.space.n_neurons
        rows.append(_quality(reader, recording, out, may_compute=n_values <= min(MOST_VALUES, budget)))
        budget -= n_values if rows[-1]["made"] == "computed" else 0
    return rows


def _quality(reader: ReportReader, recording: Recording, out: Path, may_compute: bool) -> dict[str, Any]:
    site, corpus = recording.space.site, recording.corpus
    folder = reader.study.layout.quality(site, corpus)
    description = f"Quality control of {corpus} at {site}"
    row = {"corpus": corpus, "site": site, "page": "", "link": "", "made": "", "tables": False}
    tables: Tables | None = None
    if (folder / "qc.json").is_file():
        tables = reader.attempt(description, partial(_stored, folder, recording), may_refuse=False)
        if tables is not None:
            row["made"] = "stored"
            row |= _page(folder / "qc.html", reader.study.root, out)
    if tables is None and may_compute:
        tables = reader.attempt(description, partial(_computed, recording), may_refuse=False)
        row["made"] = "computed"
    return row if tables is None else row | {"tables": True} | _laid_out(tables)


def _page(page: Path, root: Path, out: Path) -> dict[str, str]:
    """Return path and link of the page of quality control; links are relative and survive moving the study."""
    if not page.is_file():
        return {}
    inside = out.resolve().is_relative_to(root.resolve())
    link = Path(os.path.relpath(page.resolve(), out.resolve().parent)).as_posix() if inside else ""
    return {"page": page.relative_to(root).as_posix(), "link": link}


def _stored(folder: Path, recording: Recording) -> Tables:
    """Read the stored tables; raise ValueError if the recording has changed since."""
    info = storage.read_json(folder / "qc.json")
    recorded = {name: recording.info[name] for name in RECORDED if name in recording.info}
    expected = {"n_volumes": recording.n_volumes, "n_runs": len(recording.runs), "recording": recorded}
    if {name: info.get(name) for name in expected} != expected:
        raise ValueError(
            f"{folder} describes another recording, which has been replaced since. Run lmri qc STUDY again."
        )
    files = {name: folder / f"{name}.tsv{'.gz' if name == 'volumes' else ''}" for name in _TEXT}
    return {name: storage.read_table(files[name], text) for name, text in _TEXT.items()}


def _computed(recording: Recording) -> Tables:
    tables = inspect(recording).tables
    return {name: tables[name] for name in _TEXT}


def _laid_out(tables: Tables) -> dict[str, Any]:
    runs, volumes = tables["runs"], tables["volumes"]
    n_volumes = int(runs["n_volumes"].sum())
    dvars = volumes["dvars"].to_numpy(dtype=float)
    known = np.where(np.isfinite(dvars), dvars, np.nanmedian(dvars) if np.isfinite(dvars).any() else 0.0)
    return {
        "findings": tables["findings"].to_dict("records"),
        "n_look": int((tables["findings"]["status"] == "look").sum()),
        "n_volumes": n_volumes,
        "n_texts": len(tables["texts"]),
        "n_outliers": int((tables["texts"]["outlier"] == 1).sum()),
        "flags": {name: int(tables["layers"][f"n_{name}"].sum()) for name in FLAGS},
        "dvars": float(runs["dvars"].median()),
        "n_spikes": int(runs["n_spikes"].sum()),
        "tsnr": float(runs["tsnr"].median()),
        "autocorrelation": float(runs["autocorrelation"].median()),
        "chart": course_chart(known, np.cumsum(runs["n_volumes"])[:-1].tolist()),
        "high": course_range(known)[1],
        "spikes": _marks(np.flatnonzero(volumes["spike"] == 1), n_volumes),
    }


def _marks(volumes: np.ndarray, n_volumes: int) -> list[float]:
    """Compute positions of at most 500 marks over a time course, in percent of its width."""
    columns = np.unique(500 * volumes // n_volumes)
    return [round(float(column + 0.5) / 5, 2) for column in columns]
