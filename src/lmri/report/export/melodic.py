"""Export as an ``.ica`` folder of FSL MELODIC, which FSLeyes opens with time courses, spectra and labels."""

from pathlib import Path

import numpy as np
import pandas as pd

from lmri import storage
from lmri.decomposition.codec import mean_of
from lmri.networks.codec import time_courses
from lmri.report.export.exported import Exported
from lmri.report.export.labels import RESERVED, UNKNOWN, format_labels

LABELS = "labels.txt"


def write_melodic(exported: Exported, folder: Path) -> None:
    """Write maps, time courses, spectra, mask, mean and labels.

    Parameters
    ----------
    found : Exported
        Networks to export. Maps are unthresholded z over neurons, or t of a localizer; maps of thresholded networks
        are also written to ``stats``.
    folder : Path
        Empty folder.
    """
    space, study, site = exported.space, exported.study, exported.entry.site
    recordings = study.group(site, exported.corpora)
    storage.save_img(space.to_img(exported.stat_map, exported.networks.stat_type), folder / "melodic_IC.nii.gz")
    storage.save_img(space.mask_img, folder / "mask.nii.gz")
    storage.save_img(space.to_img(mean_of(recordings)), folder / "mean.nii.gz")
    runs = time_courses(study, exported.decomposition, site)
    courses = np.concatenate([table.to_numpy() for _, _, table in runs])
    storage.write_text(folder / "melodic_mix", _matrix(courses))
    storage.write_text(folder / "melodic_FTmix", _matrix(power(courses)))
    if exported.networks.is_thresholded:
        for number, network in enumerate(exported.networks, start=1):
            shown = np.where(network.members, network.stat_map, 0)
            # MELODIC uses this name for every statistic.
            storage.save_img(space.to_img(shown, network.stat_type), folder / "stats" / f"thresh_zstat{number}.nii.gz")
    known = [[label] if label and label.lower() not in RESERVED else [] for label in exported.labels]
    storage.write_text(folder / LABELS, format_labels([[*label, UNKNOWN] for label in known]))
    storage.write_table(folder / "components.tsv", exported.table)
    storage.write_table(folder / "volumes.tsv", _volumes(exported))


def power(courses: np.ndarray) -> np.ndarray:
    """Compute power spectra as in the FTmix file of MELODIC.

    Parameters
    ----------
    courses : ndarray of shape (n_volumes, n_networks)
        Time courses.

    Returns
    -------
    ndarray of shape ((n_volumes + 1) // 2, n_networks)
        Squared magnitude; row ``k`` is the frequency ``(k + 1) / n`` cycles per token, without the mean. ``n`` is the
        number of volumes, plus one if this number is odd: as in MELODIC, a volume at the mean is then appended, and
        FSLeyes accepts only a spectrum of this length.
    """
    even = len(courses) + len(courses) % 2
    return np.asarray(np.abs(np.fft.rfft(courses - courses.mean(axis=0), n=even, axis=0))[1:] ** 2)


def _matrix(values: np.ndarray) -> str:
    """Format a matrix so that every number can be read back exactly."""
    return "".join("  ".join(map(repr, row)) + "\n" for row in values.tolist())


def _volumes(exported: Exported) -> pd.DataFrame:
    """Tabulate the token of each volume of the time courses; FSLeyes counts volumes from 0 over all runs."""
    tables = [
        table[["text_id", "token"]].assign(corpus=corpus, run=number)
        for corpus in exported.corpora
        for number, table in enumerate(exported.study.recording(corpus, exported.entry.site).events, start=1)
    ]
    joined = pd.concat(tables, ignore_index=True)
    joined.insert(0, "volume", np.arange(len(joined)))
    return joined[["volume", "corpus", "run", "text_id", "token"]]
