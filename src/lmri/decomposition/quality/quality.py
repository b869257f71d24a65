"""The quality of a recording: its runs, one in memory at a time, put together into tables."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmri import storage
from lmri.decomposition.quality import runs as rules
from lmri.decomposition.quality.findings import find
from lmri.decomposition.quality.moments import FourMoments
from lmri.decomposition.quality.robust import FEWEST, OUTLYING
from lmri.decomposition.quality.runs import Carpet, RunFacts, read_run
from lmri.decomposition.quality.texts import distances, texts_table
from lmri.decomposition.quality.tokens import SINK_RATIO, left_out_table, mark_sinks, positions_table, tokens_table
from lmri.exceptions import StudyError
from lmri.space import NeuronSpace
from lmri.storage.recording import Recording

DOMINANT, TIMES_ITS_SHARE = 0.05, 20.0
"""A neuron is dominant if it carries so much of the variance, and so many times an equal share of it."""

MOST_CARPETS = 12
"""Of more runs, those with the largest share of spikes are kept."""

RECORDED = ("parameters", "texts_sha256", "versions")
"""What tells the recording that was looked at from one that has replaced it."""

_MARKER = "qc.json"
_FILES = {"neurons": ".tsv.gz", "volumes": ".tsv.gz"}
_TABLES = ("findings", "runs", "layers", "neurons", "texts", "positions", "tokens", "left_out", "volumes")


@dataclass(frozen=True)
class Quality:
    """What quality control found in a recording. Nothing is removed from it: flags are 1, and empty tables are results.

    Parameters
    ----------
    findings : DataFrame
        A row a question: ``topic, status, finding, advice``; status is ``"good"``, ``"note"`` or ``"look"``.
    runs : DataFrame
        A row a run: volumes, texts, global signal, DVARS, spikes, dead neurons, tSNR, autocorrelation.
    layers : DataFrame
        A row a layer: quantiles of its neurons' sd, share of the variance, numbers of flagged neurons.
    neurons : DataFrame
        A row a neuron, in (layer, neuron) order: moments, extremes, shares, flags.
    texts : DataFrame
        A row a text in the images: norm and distance from the mean pattern with their robust z, and a flag.
    positions, tokens : DataFrame
        A row a position in the text, and a row a token: how large the norm is there.
    left_out : DataFrame
        Tokens in no image, by position, with the reason: dummies and special tokens, or not kept by ``--every``.
    volumes : DataFrame
        A row a volume: norm, global signal, DVARS, flags.
    carpets : tuple of Carpet
        Runs at a glance; of many runs those with most spikes.
    info : dict
        Recording, rules and versions.
    """

    findings: pd.DataFrame
    runs: pd.DataFrame
    layers: pd.DataFrame
    neurons: pd.DataFrame
    texts: pd.DataFrame
    positions: pd.DataFrame
    tokens: pd.DataFrame
    left_out: pd.DataFrame
    volumes: pd.DataFrame
    carpets: tuple[Carpet, ...]
    info: dict[str, Any]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables, by the stem of their files."""
        return {name: getattr(self, name) for name in _TABLES}

    def write(self, folder: str | Path) -> Path:
        """Write all tables as TSV, and the rules as ``qc.json``; an older quality control there is replaced.

        Parameters
        ----------
        folder : str or Path
            New, empty, or of an older quality control.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        StudyError
            If the folder holds something else.
        """
        folder = Path(folder)
        marker = folder / _MARKER
        if folder.exists() and not folder.is_dir():
            raise StudyError(f"{folder} is a file. Nothing was written: choose another folder.")
        ours = {_MARKER, "qc.html", *(_file(name) for name in _TABLES)}
        foreign = [one.name for one in folder.iterdir() if not _is_ours(one.name, ours)] if folder.is_dir() else []
        if foreign:
            raise StudyError(
                f"{folder} holds {sorted(foreign)[0]!r}, which quality control did not make. Nothing was written: "
                "choose a new folder."
            )
        marker.unlink(missing_ok=True)  # it comes last, so that a folder that has it is whole
        for name, table in self.tables.items():
            storage.write_table(folder / _file(name), table)
        storage.write_json(marker, self.info)
        return folder

    def __repr__(self) -> str:
        n_look = int((self.findings["status"] == "look").sum())
        return (
            f"<Quality of {self.info['corpus']!r} at {self.info['site']}: {len(self.runs)} runs, {len(self.texts)} "
            f"texts, {len(self.neurons)} neurons; {n_look} of {len(self.findings)} findings to look at>"
        )


def _file(name: str) -> str:
    return name + _FILES.get(name, ".tsv")


def _is_ours(name: str, ours: set[str]) -> bool:
    # What file managers leave is hidden (.DS_Store), and so is what a killed command left of ours.
    return name.startswith(".") or name in ours


def inspect(recording: Recording, progress: Callable[[int, int], None] | None = None) -> Quality:
    """Look at a recording as an MR laboratory looks at a scan, before anything is made of it.

    Runs are read one by one, twice, and never two at a time; moments are merged in double precision. Nothing is removed
    or changed.

    Parameters
    ----------
    recording : Recording
        What is looked at.
    progress : callable, optional
        Called with how many runs were read, and how many reads there are.

    Returns
    -------
    Quality
        Tables and flags.

    Raises
    ------
    StudyError
        If tables and images do not fit together.
    NonFiniteError
        If an image holds NaN or infinity.

    Examples
    --------
    >>> quality = lmri.decomposition.quality.inspect(lmri.open_study("study").recording())  # doctest: +SKIP
    >>> quality.neurons.query("massive == 1")  # doctest: +SKIP
    """
    if not recording.runs:
        raise StudyError(f"The recording of {recording.corpus!r} has no run. Record again.")
    space, n_runs = recording.space, len(recording.runs)
    collected = _Collected(space)
    for number in range(1, n_runs + 1):
        collected.add(read_run(space, _load(recording, number), recording.events[number - 1], number))
        if progress is not None:
            progress(number, 2 * n_runs)
    moments = collected.moments
    parts = []
    for number in range(1, n_runs + 1):
        parts.append(distances(_load(recording, number), recording.events[number - 1], moments, number))
        if progress is not None:
            progress(n_runs + number, 2 * n_runs)
    norms = np.concatenate(collected.layer_norms)
    volumes = mark_sinks(pd.concat(collected.volumes, ignore_index=True), norms, space.blocks)
    tables = {
        "runs": pd.DataFrame(collected.rows),
        "neurons": _neurons(space, collected),
        "texts": texts_table(pd.concat(parts, ignore_index=True), volumes, recording.texts),
        "positions": positions_table(volumes),
        "tokens": tokens_table(volumes),
        "left_out": left_out_table(recording.tokens),
        "volumes": volumes,
    }
    tables["layers"] = _layers(space, tables["neurons"])
    findings = find(tables, recording.texts, recording.info.get("parameters", {}).get("n_dummy"), space)
    carpets = tuple(sorted(collected.carpets, key=lambda one: one.run))
    return Quality(findings=findings, **tables, carpets=carpets, info=_info(recording))


def _load(recording: Recording, number: int) -> np.ndarray:
    """Read one run; the caller keeps no name for it, so that it is gone before the next is read."""
    return np.atleast_2d(recording.space.from_img(recording.runs[number - 1].img))


class _Collected:
    """What is kept of the runs that were read: nothing that is as large as a run."""

    def __init__(self, space: NeuronSpace) -> None:
        self.n_massive, self.n_extreme = np.zeros((2, space.n_neurons), dtype=np.int64)
        self.peak = np.zeros(space.n_neurons)
        self.rows: list[dict[str, Any]] = []
        self.volumes: list[pd.DataFrame] = []
        self.layer_norms: list[np.ndarray] = []
        self._moments: FourMoments | None = None
        self._heap: list[tuple[float, int, Carpet]] = []

    def add(self, facts: RunFacts) -> None:
        self._moments = facts.moments if self._moments is None else self._moments.merged(facts.moments)
        self.n_massive += facts.n_massive
        self.n_extreme += facts.n_extreme
        self.peak = np.maximum(self.peak, facts.peak)
        self.rows.append(facts.row)
        self.volumes.append(facts.volumes)
        self.layer_norms.append(facts.layer_norms)
        heapq.heappush(self._heap, (facts.row["share_spikes"], -facts.carpet.run, facts.carpet))
        if len(self._heap) > MOST_CARPETS:
            heapq.heappop(self._heap)

    @property
    def moments(self) -> FourMoments:
        if self._moments is None:
            raise ValueError("No run was read, so there are no moments.")
        return self._moments

    @property
    def carpets(self) -> list[Carpet]:
        return [carpet for _, _, carpet in self._heap]


def _neurons(space: NeuronSpace, collected: _Collected) -> pd.DataFrame:
    moments = collected.moments
    total = float(moments.variance.sum())
    share = moments.variance / total if total else np.zeros(space.n_neurons)
    return pd.DataFrame(
        {
            "layer": space.layer_of,
            "neuron": space.neuron_of,
            "mean": moments.mean,
            "sd": moments.sd,
            "min": moments.low,
            "max": moments.high,
            "kurtosis": moments.kurtosis,
            "share_zero": moments.zeros / moments.n,
            "share_variance": share,
            "peak": collected.peak,
            "n_massive": collected.n_massive,
            "n_extreme": collected.n_extreme,
            "dead": moments.dead.astype(int),
            "massive": (collected.n_massive > 0).astype(int),
            "extreme": (collected.n_extreme > 0).astype(int),
            "dominant": (share > max(DOMINANT, TIMES_ITS_SHARE / space.n_neurons)).astype(int),
        }
    )


def _layers(space: NeuronSpace, neurons: pd.DataFrame) -> pd.DataFrame:
    by = neurons.groupby("layer")
    table = pd.DataFrame({"layer": range(space.n_layers), "name": [one.name for one in space.layers]})
    table["n_neurons"] = space.widths
    for name, quantile in _QUANTILES:
        table[name] = by["sd"].quantile(quantile).to_numpy()
    table["share_variance"] = by["share_variance"].sum().to_numpy()
    for name in ("dead", "massive", "extreme", "dominant"):
        table[f"n_{name}"] = by[name].sum().to_numpy()
    return table


_QUANTILES: Sequence[tuple[str, float]] = (
    ("sd_min", 0.0),
    ("sd_01", 0.01),
    ("sd_25", 0.25),
    ("sd_median", 0.5),
    ("sd_75", 0.75),
    ("sd_99", 0.99),
    ("sd_max", 1.0),
)


def _info(recording: Recording) -> dict[str, Any]:
    kept = set(RECORDED) & set(recording.info)
    model = recording.space.model
    return {
        "corpus": recording.corpus,
        "site": recording.space.site,
        "neurons": recording.space.describe(),
        "model": None if model is None else asdict(model),
        "n_runs": len(recording.runs),
        "n_volumes": recording.n_volumes,
        "recording": {name: recording.info[name] for name in sorted(kept)},
        "rules": {
            "massive_value": rules.MASSIVE_VALUE,
            "massive_ratio": rules.MASSIVE_RATIO,
            "extreme_sd": rules.EXTREME,
            "robust_z": OUTLYING,
            "fewest_values": FEWEST,
            "sink_ratio": SINK_RATIO,
            "dominant_share": DOMINANT,
            "dominant_times": TIMES_ITS_SHARE,
        },
        "versions": storage.versions(),
    }
