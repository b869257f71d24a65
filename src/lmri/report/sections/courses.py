"""Time courses as the page carries them: drawn once, and with values and tokens for whoever looks closer."""

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
"""Of longer time courses the page carries the range of every few volumes."""

MOST_TOKENS = 200_000
"""Of more tokens in all recordings the page carries none: they would outweigh all else."""

N_TOP = 5
"""Of either end of a time course."""

TimeCourses = Sequence[tuple[str, int, pd.DataFrame]]
"""Corpus, run (from 1) and a table with a row a volume and a column a network."""


@dataclass(frozen=True)
class Courses:
    """The time courses of one decomposition.

    Parameters
    ----------
    tables : sequence of tuple
        As `lmri.study.Study.time_courses` gives them; not empty.
    recordings : mapping of str to Recording
        By corpus, of the same site.
    most : int
        Values of a time course that the page may carry.
    """

    tables: TimeCourses
    recordings: Mapping[str, Recording]
    most: int = MOST_VALUES

    @cached_property
    def scaled(self) -> np.ndarray:
        """Z-scored over each network's whole time course, ``(n_volumes, n_networks)``."""
        return scaled([table.to_numpy() for _, _, table in self.tables])

    @cached_property
    def own(self) -> list[Recording]:
        """The recordings that these are time courses of."""
        return [self.recordings[corpus] for corpus in dict.fromkeys(corpus for corpus, _, _ in self.tables)]

    @cached_property
    def unit(self) -> tuple[str, str]:
        """What a volume is, and several."""
        return volume_unit(self.own)

    @cached_property
    def meaning(self) -> str:
        """What a volume is, where volumes are spoken of; empty if it is not known."""
        return volume_meaning(self.own)

    def tops(self, networks: Sequence[int]) -> list[list[dict[str, Any]]]:
        """Find the top volumes of some networks."""
        return top_tokens(self.tables, self.recordings, networks)

    @cached_property
    def spectra(self) -> Spectra:
        """Power spectra, text by text."""
        events = [self.recordings[corpus].events[run - 1] for corpus, run, _ in self.tables]
        texts = [(table["trial_type"] + "/" + table["text_id"].astype(str)).tolist() for table in events]
        return spectra([table.to_numpy(dtype=float) for _, _, table in self.tables], texts)

    @cached_property
    def peaks(self) -> np.ndarray:
        """Frequency of every network's peak; NaN where there is none."""
        return spectral_peak(self.spectra)

    @property
    def step(self) -> int:
        """Volumes that one value of the page stands for."""
        return -(-len(self.scaled) // self.most)

    def about(self) -> dict[str, Any]:
        """Say what the page has to know of all networks: the runs, what volumes are, and how many a value is of."""
        runs = [[corpus, run, len(table)] for corpus, run, table in self.tables]
        return {"runs": runs, "step": self.step, "n": len(self.scaled), "units": self.unit[1]}

    def corpora(self) -> list[tuple[str, int]]:
        """Volumes of each corpus, in order."""
        counts: dict[str, int] = {}
        for corpus, _, table in self.tables:
            counts[corpus] = counts.get(corpus, 0) + len(table)
        return list(counts.items())

    def course(self, network: int) -> dict[str, Any]:
        """Draw one time course, and pack its values in bytes from its lowest (0) to its highest (255) value."""
        values = self.scaled[:, network]
        low, high = course_range(values)
        packed = [values]
        if self.step > 1:
            places = np.arange(0, len(values), self.step)
            packed = [np.minimum.reduceat(values, places), np.maximum.reduceat(values, places)]
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
    """Give the tokens of every volume by corpus, a run each, and where texts begin; None if there are too many.

    Sites share the tokens of a corpus. What has no ink, or could turn the writing around, is spelled out.
    """
    by_corpus = {one.corpus: one for one in recordings}
    if sum(one.n_volumes for one in by_corpus.values()) > MOST_TOKENS:
        return None
    shown: dict[str, str] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for corpus, recording in by_corpus.items():
        found[corpus] = []
        for events in recording.events:
            tokens = events["token"].tolist()
            for token in {*tokens} - shown.keys():
                shown[token] = _inked(token)
            starts = text_bounds(events["text_id"])[:-1].tolist()
            found[corpus].append({"tokens": [shown[token] for token in tokens], "starts": starts})
    return found


def _inked(token: str) -> str:
    """Spell out what has no ink, but leave blanks at the ends, which part words."""
    own = visible(token)
    inner = own.strip("␣")
    return " " * (len(own) - len(own.lstrip("␣"))) + inner + " " * (len(own) - len(own.rstrip("␣"))) if inner else own


def top_tokens(
    courses: TimeCourses, recordings: Mapping[str, Recording], networks: Sequence[int] | None = None
) -> list[list[dict[str, Any]]]:
    """Find, for every network, the volumes at which its time course is highest and lowest, with the text around them.

    Parameters
    ----------
    courses : sequence of tuple
        As `lmri.study.Study.time_courses` gives them.
    recordings : mapping of str to Recording
        By corpus.
    networks : sequence of int, optional
        Columns of the time courses; by default all.

    Returns
    -------
    list of list of dict
        ``side, before, token, after, value, corpus, run, volume``: first those of the side ``"highest"``, from the
        highest on, then those of ``"lowest"``, from the lowest on; no volume is in both. Values are z-scored over the
        network's whole time course; `run` counts from 1, and `volume`, within it, from 0. Nothing of
        a time course that does not vary.
    """
    starts = np.r_[0, np.cumsum([len(table) for _, _, table in courses])]
    values, read = scaled([table.to_numpy() for _, _, table in courses]), {}
    found = []
    for number in range(values.shape[1]) if networks is None else networks:
        column, tops = values[:, number], []
        for side, place in [(side, place) for side, places in ends(column, N_TOP).items() for place in places]:
            own = int(np.searchsorted(starts, place, side="right")) - 1
            corpus, run, _ = courses[own]
            row = int(place - starts[own])
            if own not in read:
                texts = recordings[corpus].texts
                by_id = dict(zip(texts["text_id"], texts["text"], strict=True))
                read[own] = RunText(recordings[corpus].events[run - 1], by_id)
            before, token, after = read[own].around(row)
            tops.append(
                {
                    "side": side, "before": before, "token": token, "after": after, "value": float(column[place]),
                    "corpus": corpus, "run": run, "volume": row,
                }
            )  # fmt: skip
        found.append(tops)
    return found
