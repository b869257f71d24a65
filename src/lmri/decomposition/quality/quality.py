"""Quality control of a recording: tables of its runs, which are read one at a time."""

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
"""Limits for a dominant neuron: smallest share of the variance, and smallest ratio to an equal share."""

MOST_CARPETS = 12
"""Largest number of carpets; if there are more runs, those with the largest shares of spikes are kept."""

RECORDED = ("parameters", "texts_sha256", "versions")
"""Entries of a recording that identify it, to detect that it was replaced."""

_MARKER = "qc.json"
_FILES = {"neurons": ".tsv.gz", "volumes": ".tsv.gz"}
_TABLES = ("findings", "runs", "layers", "neurons", "texts", "positions", "tokens", "left_out", "volumes")


@dataclass(frozen=True)
class Quality:
    """Quality metrics of a recording. No data are removed: flags are 1, and empty tables are valid results.

    Parameters
    ----------
    findings : DataFrame
        Findings, one row per topic: ``topic, status, finding, advice``; status is ``"good"``, ``"note"`` or ``"look"``.
    runs : DataFrame
        Runs, one row each: volumes, texts, global signal, DVARS, spikes, dead neurons, tSNR, autocorrelation.
    layers : DataFrame
        Layers, one row each: quantiles of its neurons' sd, share of the variance, numbers of flagged neurons.
    neurons : DataFrame
        Neurons, one row each in (layer, neuron) order: moments, extremes, shares, flags.
    texts : DataFrame
        Texts in the images, one row each: norm and distance from the mean pattern with their robust z, and a flag.
    positions, tokens : DataFrame
        Norms by position in the text, and by token, one row each.
    left_out : DataFrame
        Tokens in no image, by position, with the reason: dummies and special tokens, or not kept by ``--every``.
    volumes : DataFrame
        Volumes, one row each: norm, global signal, DVARS, flags.
    carpets : tuple of Carpet
        Carpet plots of runs; if there are many runs, those with most spikes.
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
        """All tables by the stems of their file names."""
        return {name: getattr(self, name) for name in _TABLES}

    def write(self, folder: str | Path) -> Path:
        """Write all tables as TSV, and the rules as ``qc.json``, replacing older quality control.

        Parameters
        ----------
        folder : str or Path
            Folder that is new, empty, or contains older quality control.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        StudyError
            If the folder contains other files.
        """
        folder = Path(folder)
        check_folder(folder)
        marker = folder / _MARKER
        marker.unlink(missing_ok=True)  # written last, so that its presence marks a complete folder
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
    """Return the file name of a table."""
    return name + _FILES.get(name, ".tsv")


def check_folder(folder: Path) -> None:
    """Raise StudyError if a folder contains files other than those of quality control, which may be replaced."""
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{folder} is a file. Nothing was written. Choose another folder.")
    ours = {_MARKER, "qc.html", *(_file(name) for name in _TABLES)}
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    foreign = [name for name in names if not _is_ours(name, ours)]
    if foreign:
        raise StudyError(
            f"{folder} contains {sorted(foreign)[0]!r}, which is not a file of quality control. Nothing was "
            "written. Choose a new folder."
        )


def move_files(source: Path, folder: Path) -> None:
    """Replace the files of older quality control by those of a complete folder, which is removed."""
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).unlink(missing_ok=True)
    for path in sorted(source.iterdir(), key=lambda path: path.name == _MARKER):  # the marker is moved last
        path.replace(folder / path.name)
    source.rmdir()


def _is_ours(name: str, ours: set[str]) -> bool:
    """Return whether a file may be replaced."""
    # Files of file managers (.DS_Store) and temporary files of an interrupted command are hidden.
    return name.startswith(".") or name in ours


def inspect(recording: Recording, progress: Callable[[int, int], None] | None = None) -> Quality:
    """Compute the quality metrics of a recording, as for MR scans, before any analysis.

    Runs are read twice, one at a time; moments are merged in double precision. No data are removed or changed.

    Parameters
    ----------
    recording : Recording
        Recording to check.
    progress : callable, optional
        Callback for the number of finished reads of runs, and the number of all reads.

    Returns
    -------
    Quality
        Tables and flags.

    Raises
    ------
    StudyError
        If tables and images do not match.
    NonFiniteError
        If an image contains NaN or infinity.

    Examples
    --------
    >>> quality = lmri.decomposition.quality.inspect(lmri.open_study("study").recording())  # doctest: +SKIP
    >>> quality.neurons.query("massive == 1")  # doctest: +SKIP
    """
    if not recording.runs:
        raise StudyError(f"The recording of {recording.corpus!r} has no runs. Record again.")
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
    carpets = tuple(sorted(collected.carpets, key=lambda carpet: carpet.run))
    return Quality(findings=findings, **tables, carpets=carpets, info=_info(recording))


def _load(recording: Recording, number: int) -> np.ndarray:
    """Read one run; callers keep no reference to it, so that its memory is released before the next run is read."""
    return np.atleast_2d(recording.space.from_img(recording.runs[number - 1].img))


class _Collected:
    """Metrics accumulated over runs, without arrays of the size of a run."""

    def __init__(self, space: NeuronSpace) -> None:
        self.n_massive, self.n_extreme = np.zeros((2, space.n_neurons), dtype=np.int64)
        self.peak = np.zeros(space.n_neurons)
        self.rows: list[dict[str, Any]] = []
        self.volumes: list[pd.DataFrame] = []
        self.layer_norms: list[np.ndarray] = []
        self._moments: FourMoments | None = None
        self._heap: list[tuple[float, int, Carpet]] = []

    def add(self, facts: RunFacts) -> None:
        """Add the metrics of a run."""
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
        """Moments over all runs."""
        if self._moments is None:
            raise ValueError("There are no moments, because no run was read. Call add first.")
        return self._moments

    @property
    def carpets(self) -> list[Carpet]:
        """Carpets of the runs with the largest shares of spikes."""
        return [carpet for _, _, carpet in self._heap]


def _neurons(space: NeuronSpace, collected: _Collected) -> pd.DataFrame:
    """Create the table of neurons."""
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
    """Create the table of layers."""
    by = neurons.groupby("layer")
    table = pd.DataFrame({"layer": range(space.n_layers), "name": [layer.name for layer in space.layers]})
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
    """Return the provenance: recording, rules and versions."""
    identifying = set(RECORDED) & set(recording.info)
    model = recording.space.model
    return {
        "corpus": recording.corpus,
        "site": recording.space.site,
        "neurons": recording.space.describe(),
        "model": None if model is None else asdict(model),
        "n_runs": len(recording.runs),
        "n_volumes": recording.n_volumes,
        "recording": {name: recording.info[name] for name in sorted(identifying)},
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
