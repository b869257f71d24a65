"""An ``.ica`` folder as FSL's MELODIC leaves it, which FSLeyes opens with time courses, spectra and labels."""

from pathlib import Path

import numpy as np
import pandas as pd

from lmri import storage
from lmri.decomposition.stored import mean_of
from lmri.networks.stored import time_courses
from lmri.report.export.exported import Exported
from lmri.report.export.labels import RESERVED, UNKNOWN, format_labels

LABELS = "labels.txt"


def write_melodic(found: Exported, folder: Path) -> None:
    """Write maps, time courses, spectra, mask, mean and labels.

    Parameters
    ----------
    found : Exported
        The networks. Maps are z over neurons, or t of a localizer, and not thresholded; with members, thresholded ones
        stand in ``stats``.
    folder : Path
        An empty folder.
    """
    space, study, site = found.space, found.study, found.entry.site
    recordings = study.group(site, found.corpora)
    storage.save_img(space.to_img(found.strength, found.networks.stat), folder / "melodic_IC.nii.gz")
    storage.save_img(space.mask_img, folder / "mask.nii.gz")
    storage.save_img(space.to_img(mean_of(recordings)), folder / "mean.nii.gz")
    runs = time_courses(study, found.decomposition, site)
    courses = np.concatenate([table.to_numpy() for _, _, table in runs])
    storage.write_text(folder / "melodic_mix", _matrix(courses))
    storage.write_text(folder / "melodic_FTmix", _matrix(power(courses)))
    if found.networks.is_thresholded:
        for number, network in enumerate(found.networks, start=1):
            shown = np.where(network.members, network.strength, 0)
            # The name is MELODIC's, whatever the statistic.
            storage.save_img(space.to_img(shown, network.stat), folder / "stats" / f"thresh_zstat{number}.nii.gz")
    known = [[one] if one and one.lower() not in RESERVED else [] for one in found.labels]
    storage.write_text(folder / LABELS, format_labels([[*one, UNKNOWN] for one in known]))
    storage.write_table(folder / "components.tsv", found.table)
    storage.write_table(folder / "volumes.tsv", _volumes(found))


def power(courses: np.ndarray) -> np.ndarray:
    """Compute the power spectra that MELODIC calls FTmix.

    Parameters
    ----------
    courses : ndarray of shape (n_volumes, n_networks)
        Time courses.

    Returns
    -------
    ndarray of shape ((n_volumes + 1) // 2, n_networks)
        Squared magnitude; row ``k`` is the frequency ``(k + 1) / n`` cycles a token, the mean is left out. ``n`` is
        the number of volumes or, if that is odd, one more: as in MELODIC a volume at the mean is appended then, and
        FSLeyes draws no other spectrum.
    """
    even = len(courses) + len(courses) % 2
    return np.asarray(np.abs(np.fft.rfft(courses - courses.mean(axis=0), n=even, axis=0))[1:] ** 2)


def _matrix(values: np.ndarray) -> str:
    """Write a matrix so that every number reads back exactly."""
    return "".join("  ".join(map(repr, row)) + "\n" for row in values.tolist())


def _volumes(found: Exported) -> pd.DataFrame:
    """Say which token each volume of the time courses is: FSLeyes counts them from 0 through all runs."""
    tables = [
        table[["text_id", "token"]].assign(corpus=corpus, run=number)
        for corpus in found.corpora
        for number, table in enumerate(found.study.recording(corpus, found.entry.site).events, start=1)
    ]
    joined = pd.concat(tables, ignore_index=True)
    joined.insert(0, "volume", np.arange(len(joined)))
    return joined[["volume", "corpus", "run", "text_id", "token"]]
