"""What was recorded, and what quality control found in it: stored, or computed where that is quick."""

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
"""Recordings with more values than this are not inspected for the report: it would take longer than all else in it."""

FLAGS = ("dead", "massive", "extreme", "dominant")
_TEXT = {
    "findings": ("topic", "status", "finding", "advice"),
    "runs": (),
    "layers": ("name",),
    "texts": ("text_id", "why", "begins"),
    "volumes": ("text_id", "token"),
}
"""Columns of text in the tables of quality control that the report reads."""

Tables = dict[str, pd.DataFrame]


def recordings(reader: ReportReader) -> list[dict[str, Any]]:
    """Lay out a row for every recording."""
    return [_recording(one) for one in reader.recordings]


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
    """Lay out what quality control found of every recording: as `lmri qc` stored it, or computed now.

    Parameters
    ----------
    reader : ReportReader
        The study.
    out : Path
        Where the report will lie; pages of quality control are linked from there.
    """
    left, found = MOST_VALUES_TOGETHER, []
    for one in reader.recordings:
        n_values = one.n_volumes * one.space.n_neurons
        found.append(_quality(reader, one, out, may_compute=n_values <= min(MOST_VALUES, left)))
        left -= n_values if found[-1]["made"] == "computed" else 0
    return found


def _quality(reader: ReportReader, recording: Recording, out: Path, may_compute: bool) -> dict[str, Any]:
    site, corpus = recording.space.site, recording.corpus
    folder = reader.study.layout.quality(site, corpus)
    what = f"Quality control of {corpus} at {site}"
    made = {"corpus": corpus, "site": site, "page": "", "link": "", "made": "", "tables": False}
    tables: Tables | None = None
    if (folder / "qc.json").is_file():
        tables = reader.attempt(what, partial(_stored, folder, recording), may_refuse=False)
        if tables is not None:
            made["made"] = "stored"
            made |= _page(folder / "qc.html", reader.study.root, out)
    if tables is None and may_compute:
        tables = reader.attempt(what, partial(_computed, recording), may_refuse=False)
        made["made"] = "computed"
    return made if tables is None else made | {"tables": True} | _laid_out(tables)


def _page(page: Path, root: Path, out: Path) -> dict[str, str]:
    """Say where the page of quality control lies; a link is relative, so that it holds where the study is moved to."""
    if not page.is_file():
        return {}
    inside = out.resolve().is_relative_to(root.resolve())
    link = Path(os.path.relpath(page.resolve(), out.resolve().parent)).as_posix() if inside else ""
    return {"page": page.relative_to(root).as_posix(), "link": link}


def _stored(folder: Path, recording: Recording) -> Tables:
    """Read the tables that were stored, if they are of this recording as it is now."""
    info = storage.read_json(folder / "qc.json")
    kept = {name: recording.info[name] for name in RECORDED if name in recording.info}
    own = {"n_volumes": recording.n_volumes, "n_runs": len(recording.runs), "recording": kept}
    if {name: info.get(name) for name in own} != own:
        raise ValueError(
            f"what {folder} holds is of another recording, which has been replaced since. Look again: lmri qc STUDY."
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


def _marks(places: np.ndarray, n_volumes: int) -> list[float]:
    """Place marks over a time course, in per cent of its width: at most 500, over all of it."""
    columns = np.unique(500 * places // n_volumes)
    return [round(float(column + 0.5) / 5, 2) for column in columns]
