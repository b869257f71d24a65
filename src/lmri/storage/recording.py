"""Recordings: what a model did while it read, as images and tables on disk. Data only; nothing here loads a model."""

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
from lmri.storage.layout import confounds_beside
from lmri.storage.tables import read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOKEN_TEXT = ("text_id", "token", "phase")
EVENT_NUMBERS = ("onset", "duration", "token_id", "position", "last_position", "start", "end")


@dataclass(frozen=True)
class Run:
    """One 4D image of one or more whole texts, with its two tables.

    Parameters
    ----------
    img : Path
        The image; one volume a token that is not a dummy.
    events : Path
        A row a volume.
    tokens : Path
        A row a token, dummies included.
    n_volumes : int
        Number of volumes.
    """

    img: Path
    events: Path
    tokens: Path
    n_volumes: int


@dataclass(frozen=True)
class Recording:
    """What one model did at one site while it read the texts of one corpus.

    Only the texts that are there to be fitted are in the images; texts held out for tests are in `texts`.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    corpus : str
        Name of the corpus.
    runs : tuple of Run
        In order.
    texts : DataFrame
        A row a text: ``text_id, sha256, split, run, n_tokens, n_volumes, n_cut, text``.
    info : dict
        Parameters, model and versions, as in the index file.
    """

    space: NeuronSpace
    corpus: str
    runs: tuple[Run, ...]
    texts: pd.DataFrame
    info: dict[str, Any]

    @property
    def imgs(self) -> list[str]:
        """Paths of the 4D images, one a run, as nilearn takes them."""
        return [str(run.img) for run in self.runs]

    @property
    def mask_img(self) -> nib.Nifti1Image:
        """Which voxels hold a neuron."""
        return self.space.mask_img

    @property
    def n_volumes(self) -> int:
        """Volumes in all runs."""
        return sum(run.n_volumes for run in self.runs)

    @cached_property
    def events(self) -> list[pd.DataFrame]:
        """One table a run, a row a volume: ``onset, duration, trial_type, text_id, token, token_id, position, ...``.

        Columns that users have added are text.
        """
        return [read_table(run.events, _text_columns(run.events)) for run in self.runs]

    @cached_property
    def tokens(self) -> list[pd.DataFrame]:
        """One table a run, a row a token, dummies included."""
        return [read_table(run.tokens, TOKEN_TEXT) for run in self.runs]

    @cached_property
    def confounds(self) -> list[pd.DataFrame]:
        """One table a run, a row a volume, as `lmri.confounds.write` stored them: ``position, surprisal, ...``.

        Raises
        ------
        StudyError
            If they were not made, or do not belong to these volumes.
        """
        found = []
        for run, events in zip(self.runs, self.events, strict=True):
            parts = []
            for path in (confounds_beside(run.events), confounds_beside(run.img)):
                if not path.is_file():
                    raise StudyError(
                        f"{self.corpus!r} has no confounds at {self.space.site} ({path} is missing). Make them: "
                        "lmri confounds STUDY."
                    )
                parts.append(read_table(path))
                if len(parts[-1]) != len(events):
                    raise _foreign_confounds(path)
            if not np.array_equal(parts[0]["position"], events["position"]):
                raise _foreign_confounds(confounds_beside(run.events))
            found.append(pd.concat(parts, axis=1))
        return found

    @property
    def fit_texts(self) -> list[str]:
        """The texts in the images."""
        return self.texts.loc[self.texts["split"] == "fit", "text"].tolist()

    @property
    def test_texts(self) -> list[str]:
        """The texts held out: in no image, there to be scored."""
        return self.texts.loc[self.texts["split"] == "test", "text"].tolist()

    def arrays(self) -> Iterator[np.ndarray]:
        """Load run by run ``(n_volumes, n_neurons)``, float32, in (layer, neuron) order, activation units."""
        for run in self.runs:
            yield self.space.from_img(run.img)

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean activation of every neuron over all volumes, ``(n_neurons,)``, float64."""
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
        """Draw all neurons of a run over its volumes, layer by layer, each detrended and z-scored.

        Parameters
        ----------
        run : int, default=1
            Counted from 1.
        axes, figure : matplotlib's, optional
            Where to draw; by default in a new figure.
        output_file : str or Path, optional
            Where to save the figure, which is closed then.
        **options
            As for `nilearn.plotting.plot_carpet`.

        Returns
        -------
        Figure or None
            None if it was saved, as in nilearn.
        """
        from lmri.space.plotting import plot_carpet  # nilearn and matplotlib take seconds to load

        if not 1 <= run <= len(self.runs):
            raise ValueError(f"run is {run}; accepted are 1 to {len(self.runs)}.")
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
        f"{path} does not belong to the events beside it: it has other rows. Delete it, and make it again: "
        "lmri confounds STUDY."
    )


def pack(n_volumes: list[int], run_tokens: int, texts_per_run: int | None = None) -> list[list[int]]:
    """Pack whole texts, in order, into runs of like length.

    Parameters
    ----------
    n_volumes : list of int
        Volumes of every text.
    run_tokens : int
        Volumes a run is to have; runs are balanced, and none of several is shorter than half of it.
    texts_per_run : int, optional
        Count texts instead.

    Returns
    -------
    list of list of int
        The texts of every run; texts without volumes are in none.

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
    """Merge runs that are too short, as beside very long texts, into the shorter of their neighbours."""
    runs = list(runs)

    def length(place: int) -> int:
        return sum(n_volumes[text] for text in runs[place])

    while len(runs) > 1:
        place = min(range(len(runs)), key=length)
        if length(place) >= shortest:
            break
        other = min((one for one in (place - 1, place + 1) if 0 <= one < len(runs)), key=length)
        first, second = sorted((place, other))
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
    """Name the columns of an events table that are text: those that people may have added, too."""
    if not path.is_file():
        return []  # whoever reads it says that it is missing
    with path.open(encoding="utf-8") as stream:
        return [name for name in stream.readline().rstrip("\n").split("\t") if name not in EVENT_NUMBERS]


def volume_unit(recordings: Iterable[Recording]) -> tuple[str, str]:
    """Say what one volume of some recordings is, and several: tokens, words or sentences.

    They are ``("volume", "volumes")`` where recordings differ, where tokens were left out in between, where it is not
    known, and where there is no recording: right of all of them, and a step from one to the next is no token.
    """
    found = volume_meaning(recordings)
    return (found, f"{found}s") if found in ("token", "word", "sentence") else ("volume", "volumes")


def volume_meaning(recordings: Iterable[Recording]) -> str:
    """Say what the volumes of some recordings are: "token", "word", "sentence" or "every 2nd token"; "" if unknown.

    Unknown is also what recordings do not share.
    """
    found = {_volume(one) for one in recordings}
    return found.pop() if len(found) == 1 else ""


def _volume(recording: Recording) -> str:
    """Read what a volume is from the parameters, which name it where it is no token."""
    parameters = recording.info.get("parameters", {})
    per, every = parameters.get("per", "token"), parameters.get("every", 1)
    if every == 1:
        return per if per in ("token", "word", "sentence") else ""
    return f"every {_ordinal(every)} token" if per == "token" and isinstance(every, int) and every > 1 else ""


def _ordinal(n: int) -> str:
    """Write 2nd, 3rd, 11th."""
    last = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{last}"
