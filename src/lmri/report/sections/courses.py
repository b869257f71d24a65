"""Time courses of the report: drawn as charts, with values and tokens for interactive reading."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lmri.decomposition.quality.tokens import visible
from lmri.networks.spectra import Spectra, spectra, spectral_peak
from lmri.networks.time_courses import RunText, ends, scaled, text_bounds
from lmri.report.charts import course_chart, course_range, spectrum_chart
from lmri.storage.recording import Recording, volume_meaning, volume_unit

MOST_VALUES, MOST_VALUES_TOGETHER = 40_000, 4_000_000
"""Maximum number of values per time course, and in total; longer time courses are reduced to ranges of volumes."""

MOST_TOKENS = 200_000
"""Maximum number of tokens in all recordings; if there are more, the page contains no tokens, to limit its size."""

N_TOP = 5
"""Number of top volumes at each end of a time course."""

TimeCourses = Sequence[tuple[str, int, pd.DataFrame]]
"""Corpus, run (from 1), and a table with one row per volume and one column per network."""


@dataclass(frozen=True)
class Courses:
    """The time courses of one decomposition.

    Parameters
    ----------
    tables : sequence of tuple
        Time courses from `lmri.study.Study.time_courses`; not empty.
    recordings : mapping of str to Recording
        Recordings of the same site, by corpus.
    most : int
        Maximum number of values per time course in the page.
    """

    tables: TimeCourses
    recordings: Mapping[str, Recording]
    most: int = MOST_VALUES

    @cached_property
    def scaled(self) -> np.ndarray:
        """Time courses z-scored over all runs, ``(n_volumes, n_networks)``."""
        return scaled([table.to_numpy() for _, _, table in self.tables])

    @cached_property
    def recorded(self) -> list[Recording]:
        """Recordings of the time courses."""
        return [self.recordings[corpus] for corpus in dict.fromkeys(corpus for corpus, _, _ in self.tables)]

    @cached_property
    def unit(self) -> tuple[str, str]:
        """Unit of a volume, singular and plural."""
        return volume_unit(self.recorded)

    @cached_property
    def meaning(self) -> str:
        """Description of a volume; empty if unknown."""
        return volume_meaning(self.recorded)

    def tops(self, networks: Sequence[int]) -> list[list[dict[str, Any]]]:
        """Return the top volumes of the given networks."""
        return top_tokens(self.tables, self.recordings, networks)

    @cached_property
    def spectra(self) -> Spectra:
        """Power spectra, computed separately for each text."""
        events = [self.recordings[corpus].events[run - 1] for corpus, run, _ in self.tables]
        texts = [(table["trial_type"] + "/" + table["text_id"].astype(str)).tolist() for table in events]
        return spectra([table.to_numpy(dtype=float) for _, _, table in self.tables], texts)

    @cached_property
    def peaks(self) -> np.ndarray:
        """Peak frequency of every network; NaN if there is no peak."""
        return spectral_peak(self.spectra)

    @property
    def step(self) -> int:
        """Number of volumes per value in the page."""
        return -(-len(self.scaled) // self.most)

    def about(self) -> dict[str, Any]:
        """Return data shared by all networks: runs, unit of a volume, and number of volumes per value."""
        runs = [[corpus, run, len(table)] for corpus, run, table in self.tables]
        return {"runs": runs, "step": self.step, "n": len(self.scaled), "units": self.unit[1]}

    def corpora(self) -> list[tuple[str, int]]:
        """Count the volumes of each corpus, in order."""
        counts: dict[str, int] = {}
        for corpus, _, table in self.tables:
            counts[corpus] = counts.get(corpus, 0) + len(table)
        return list(counts.items())

    def course(self, network: int) -> dict[str, Any]:
        """Draw one time course, and quantize its values to bytes from the lowest (0) to the highest (255)."""
        values = self.scaled[:, network]
        low, high = course_range(values)
        packed = [values]
        if self.step > 1:
            starts = np.arange(0, len(values), self.step)
            packed = [np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)]
        whole = np.concatenate(packed)
        quantized = np.round((whole - low) / (high - low) * 255).astype(np.uint8)
        bounds = np.cumsum([len(table) for _, _, table in self.tables])[:-1]
        return {
            "chart": course_chart(values, bounds.tolist()),
            "low": low,
            "high": high,
            "grain": (high - low) / 255,
            "values": base64.b64encode(quantized.tobytes()).decode(),
        }

    def spectrum(self, network: int) -> dict[str, Any]:
        """Draw one power spectrum."""
        peak = float(self.peaks[network])
        chart = spectrum_chart(self.spectra.frequencies, self.spectra.power[network], peak, self.unit[0])
        return {"chart": chart, "peak": peak}


def token_data(recordings: Sequence[Recording]) -> dict[str, list[dict[str, Any]]] | None:
    """Return tokens and first volumes of texts for every run, by corpus; None if there are too many tokens.

    Sites share the tokens of a corpus. Invisible characters, and characters that change the text direction, are spelled
    out.
    """
    by_corpus = {recording.corpus: recording for recording in recordings}
    if sum(recording.n_volumes for recording in by_corpus.values()) > MOST_TOKENS:
        return None
    shown: dict[str, str] = {}
    runs: dict[str, list[dict[str, Any]]] = {}
    for corpus, recording in by_corpus.items():
        runs[corpus] = []
        for events in recording.events:
            tokens = events["token"].tolist()
            for token in {*tokens} - shown.keys():
                shown[token] = _inked(token)
            starts = text_bounds(events["text_id"])[:-1].tolist()
            runs[corpus].append({"tokens": [shown[token] for token in tokens], "starts": starts})
    return runs


def _inked(token: str) -> str:
    """Spell out invisible characters, except blanks at the ends, which separate words."""
    shown = visible(token)
    inner = shown.strip("␣")
    if not inner:
        return shown
    n_before, n_after = len(shown) - len(shown.lstrip("␣")), len(shown) - len(shown.rstrip("␣"))
    return " " * n_before + inner + " " * n_after


def top_tokens(
    courses: TimeCourses, recordings: Mapping[str, Recording], networks: Sequence[int] | None = None
) -> list[list[dict[str, Any]]]:
    """Find, for every network, the volumes at which its time course is highest and lowest, with the text around them.

    Parameters
    ----------
    courses : sequence of tuple
        Time courses from `lmri.study.Study.time_courses`.
    recordings : mapping of str to Recording
        Recordings by corpus.
    networks : sequence of int, optional
        Columns of the time courses; all by default.

    Returns
    -------
    list of list of dict
        ``side, before, token, after, value, corpus, run, volume``: first volumes of the side ``"highest"``, in
        descending order, then of ``"lowest"``, in ascending order; no volume is in both. Values are z-scored over the
        whole time course of the network; `run` counts from 1, and `volume` counts within the run from 0. The list of a
        constant time course is empty.
    """
    starts = np.r_[0, np.cumsum([len(table) for _, _, table in courses])]
    values, run_texts = scaled([table.to_numpy() for _, _, table in courses]), {}
    networks_tops = []
    for number in range(values.shape[1]) if networks is None else networks:
        column, tops = values[:, number], []
        for side, volume in [(side, volume) for side, volumes in ends(column, N_TOP).items() for volume in volumes]:
            index = int(np.searchsorted(starts, volume, side="right")) - 1
            corpus, run, _ = courses[index]
            row = int(volume - starts[index])
            if index not in run_texts:
                texts = recordings[corpus].texts
                by_id = dict(zip(texts["text_id"], texts["text"], strict=True))
                run_texts[index] = RunText(recordings[corpus].events[run - 1], by_id)
            before, token, after = run_texts[index].around(row)
            tops.append(
                {
                    "side": side, "before": before, "token": token, "after": after, "value": float(column[volume]),
                    "corpus": corpus, "run": run, "volume": row,
                }
            )  # fmt: skip
        networks_tops.append(tops)
    return networks_tops
