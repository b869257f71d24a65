"""Recordings: a model's activations while it reads texts, as images and tables on disk. No model is loaded here."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pandas as pd

from lmri.exceptions import StudyError
from lmri.space import NeuronSpace
from lmri.space.html import html_table
from lmri.storage.identifiers import split_scope
from lmri.storage.layout import confounds_beside
from lmri.storage.tables import read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOKEN_TEXT = ("text_id", "token", "phase")
EVENT_NUMBERS = ("onset", "duration", "token_id", "position", "last_position", "start", "end")


@dataclass(frozen=True)
class Run:
    """A 4D image of one or more whole texts, with its two tables.

    Parameters
    ----------
    img : Path
        Path of the image; one volume per token, without dummies.
    events : Path
        Path of the table with one row per volume.
    tokens : Path
        Path of the table with one row per token, including dummies.
    n_volumes : int
        Number of volumes.
    """

    img: Path
    events: Path
    tokens: Path
    n_volumes: int


@dataclass(frozen=True)
class Recording:
    """Activations of one model at one site while it read the texts of one corpus.

    The images contain only the texts for fitting; `texts` also contains the texts held out for testing.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space of the images.
    corpus : str
        Name of the corpus.
    runs : tuple of Run
        Runs in order.
    texts : DataFrame
        Texts, one row per text: ``text_id, sha256, split, run, n_tokens, n_volumes, n_cut, text``.
    info : dict
        Parameters, model and versions, as in the index file.
    """

    space: NeuronSpace
    corpus: str
    runs: tuple[Run, ...]
    texts: pd.DataFrame
    info: dict[str, Any]

    @property
    def scope(self) -> str:
        """Scope of the model in the study, from the names of the files; empty if there is no run."""
        return self.runs[0].events.name.partition("_task-")[0] if self.runs else ""

    @property
    def subject(self) -> str:
        """BIDS label of the model."""
        return split_scope(self.scope)[0]

    @property
    def session(self) -> str | None:
        """BIDS label of the state of the model; None without sessions."""
        return split_scope(self.scope)[1]

    @property
    def imgs(self) -> list[str]:
        """Paths of the 4D images, one per run, as nilearn expects them."""
        return [str(run.img) for run in self.runs]

    @property
    def mask_img(self) -> nib.Nifti1Image:
        """Mask of the voxels that represent a neuron."""
        return self.space.mask_img

    @property
    def n_volumes(self) -> int:
        """Number of volumes in all runs."""
        return sum(run.n_volumes for run in self.runs)

    @cached_property
    def events(self) -> list[pd.DataFrame]:
        """Events, one table per run with one row per volume: ``onset, duration, trial_type, text_id, token, ...``.

        Columns that users have added are read as text.
        """
        return [read_table(run.events, _text_columns(run.events)) for run in self.runs]

    @cached_property
    def tokens(self) -> list[pd.DataFrame]:
        """Tokens, one table per run with one row per token, including dummies."""
        return [read_table(run.tokens, TOKEN_TEXT) for run in self.runs]

    @cached_property
    def confounds(self) -> list[pd.DataFrame]:
        """Confounds, one table per run with one row per volume: ``position, surprisal, ...``; see `lmri.confounds`.

        Raises
        ------
        StudyError
            If they were not computed, or do not belong to these volumes.
        """
        tables = []
        for run, events in zip(self.runs, self.events, strict=True):
            parts = []
            for path in (confounds_beside(run.events), confounds_beside(run.img)):
                if not path.is_file():
                    raise StudyError(
                        f"{self.corpus!r} has no confounds at {self.space.site} ({path} is missing). Compute "
                        "them: lmri confounds STUDY."
                    )
                parts.append(read_table(path))
                if len(parts[-1]) != len(events):
                    raise _foreign_confounds(path)
            if not np.array_equal(parts[0]["position"], events["position"]):
                raise _foreign_confounds(confounds_beside(run.events))
            tables.append(pd.concat(parts, axis=1))
        return tables

    @property
    def fit_texts(self) -> list[str]:
        """Texts in the images, on which networks are fitted."""
        return self.texts.loc[self.texts["split"] == "fit", "text"].tolist()

    @property
    def test_texts(self) -> list[str]:
        """Held-out texts, which are not in the images and are used for scoring."""
        return self.texts.loc[self.texts["split"] == "test", "text"].tolist()

    def arrays(self) -> Iterator[np.ndarray]:
        """Load one array ``(n_volumes, n_neurons)`` per run, float32, in (layer, neuron) order, in activation units."""
        for run in self.runs:
            yield self.space.from_img(run.img)

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean activation of each neuron over all volumes, ``(n_neurons,)``, float64."""
        total = np.zeros(self.space.n_neurons)
        for array in self.arrays():
            total += array.sum(axis=0, dtype=np.float64)
        return total / self.n_volumes

    def plot_carpet(
        self,
        run: int = 1,
        axes: "Axes | None" = None,
        figure: "Figure | None" = None,
        output_file: str | Path | None = None,
        **options: Any,
    ) -> "Figure | None":
        """Plot the activity of all neurons of a run over its volumes by layer, each neuron detrended and z-scored.

        Parameters
        ----------
        run : int, default=1
            Number of the run, counted from 1.
        axes, figure : matplotlib Axes and Figure, optional
            Axes or figure to draw in; by default a new figure.
        output_file : str or Path, optional
            Path at which the figure is saved; the figure is then closed.
        **options
            Options of `nilearn.plotting.plot_carpet`.

        Returns
        -------
        Figure or None
            The figure; None if it was saved, as in nilearn.
        """
        from lmri.space.plotting import plot_carpet  # nilearn and matplotlib take seconds to load

        if not 1 <= run <= len(self.runs):
            raise ValueError(f"run is {run}; runs are 1 to {len(self.runs)}.")
        title = f"{self.corpus}, run {run}"
        return plot_carpet(self.space, self.imgs[run - 1], title, axes, figure, output_file, **options)

    def _repr_html_(self) -> str:
        rows = {
            "site": self.space.site,
            "neurons": self.space.describe(),
            "texts": f"{len(self.texts):,} ({len(self.test_texts):,} held out)",
            "runs": len(self.runs),
            "volumes": self.n_volumes,
            "volume": volume_meaning([self]),
        }
        return html_table(f"Recording of {self.corpus}", rows)

    def __repr__(self) -> str:
        return (
            f"<Recording of {self.corpus!r}: {len(self.texts)} texts, {len(self.runs)} runs, {self.n_volumes} volumes, "
            f"{self.space.describe()}>"
        )


def _foreign_confounds(path: Path) -> StudyError:
    return StudyError(
        f"{path} does not belong to the events of its run: its rows differ. Delete it and compute it again: "
        "lmri confounds STUDY."
    )


def pack(n_volumes: list[int], run_tokens: int, texts_per_run: int | None = None) -> list[list[int]]:
    """Assign whole texts, in order, to runs of similar length.

    Parameters
    ----------
    n_volumes : list of int
        Number of volumes of each text.
    run_tokens : int
        Approximate number of volumes per run; runs are balanced, and if there are several, none is shorter than half of
        this number.
    texts_per_run : int, optional
        Number of texts per run, instead of `run_tokens`.

    Returns
    -------
    list of list of int
        Indices of the texts of each run; texts without volumes are not assigned.

    Examples
    --------
    >>> pack([400, 500, 300, 0, 700], run_tokens=1000)
    [[0, 1], [2, 4]]
    """
    filled = [text for text, count in enumerate(n_volumes) if count]
    if texts_per_run is not None:
        if texts_per_run < 1:
            raise ValueError(f"texts_per_run is {texts_per_run}; it must be at least 1.")
        return [filled[first : first + texts_per_run] for first in range(0, len(filled), texts_per_run)]
    if run_tokens < 1:
        raise ValueError(f"run_tokens is {run_tokens}; it must be at least 1.")
    total = sum(n_volumes)
    n_runs = max(1, round(total / run_tokens))
    plan: list[list[int]] = [[] for _ in range(n_runs)]
    before = 0
    for text in filled:
        middle = before + n_volumes[text] / 2
        plan[min(int(middle * n_runs / total), n_runs - 1)].append(text)
        before += n_volumes[text]
    return _without_short([run for run in plan if run], n_volumes, run_tokens / 2)


def _without_short(runs: list[list[int]], n_volumes: list[int], shortest: float) -> list[list[int]]:
    """Merge runs that are too short, for example next to very long texts, with the shorter of their neighbours."""
    runs = list(runs)

    def length(run: int) -> int:
        return sum(n_volumes[text] for text in runs[run])

    while len(runs) > 1:
        run = min(range(len(runs)), key=length)
        if length(run) >= shortest:
            break
        neighbour = min((other for other in (run - 1, run + 1) if 0 <= other < len(runs)), key=length)
        first, second = sorted((run, neighbour))
        runs[first : second + 1] = [runs[first] + runs[second]]
    return runs


def check_whole(recording: Recording) -> None:
    """Raise `StudyError` if an image or table of the recording is missing or too short."""
    for run in recording.runs:
        for path in (run.img, run.events, run.tokens):
            if not path.is_file():
                raise StudyError(f"{path} is missing from the recording of {recording.corpus!r}. Record it again.")
        voxels = int(np.prod(recording.space.shape))
        if run.img.stat().st_size < run.n_volumes * voxels * 4:
            raise StudyError(f"{run.img} is cut short: {run.n_volumes} volumes do not fit into it. Record it again.")


def _text_columns(path: Path) -> list[str]:
    """Return the names of the text columns of an events table, including columns that users have added."""
    if not path.is_file():
        return []  # reading the table raises the error
    with path.open(encoding="utf-8") as stream:
        return [name for name in stream.readline().rstrip("\n").split("\t") if name not in EVENT_NUMBERS]


def volume_unit(recordings: Iterable[Recording]) -> tuple[str, str]:
    """Return the noun for a volume of recordings, singular and plural: token, word or sentence.

    The nouns are ``("volume", "volumes")`` if the recordings differ, if tokens were skipped (so that consecutive
    volumes are not consecutive tokens), if the unit is unknown, and if there is no recording.
    """
    unit = volume_meaning(recordings)
    return (unit, f"{unit}s") if unit in ("token", "word", "sentence") else ("volume", "volumes")


def volume_meaning(recordings: Iterable[Recording]) -> str:
    """Return the unit of the volumes of recordings: "token", "word", "sentence", "every 2nd token" or so.

    It is an empty string if the unit is unknown or differs between recordings.
    """
    units = {_volume(recording) for recording in recordings}
    return units.pop() if len(units) == 1 else ""


def _volume(recording: Recording) -> str:
    """Return the unit of a volume from the parameters, which record it unless it is a token."""
    parameters = recording.info.get("parameters", {})
    per, every = parameters.get("per", "token"), parameters.get("every", 1)
    if every == 1:
        return per if per in ("token", "word", "sentence") else ""
    return f"every {_ordinal(every)} token" if per == "token" and isinstance(every, int) and every > 1 else ""


def _ordinal(n: int) -> str:
    """Format an ordinal number: 2nd, 3rd, 11th."""
    last = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{last}"
