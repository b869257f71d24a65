"""Checks of files: texts and regions of interest are read as they were written."""

import contextlib
import csv
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from lmri.networks.rois import read_roi
from lmri.space import NeuronSpace
from lmri.storage.texts import read_texts
from lmri.verification.result import FAILED, PASSED

TEXTS = ('"Quoted", said one', "plain text", 'a "word" inside', '"', "a; b, c", 'ends with a quote"')


@contextlib.contextmanager
def _scratch_folder() -> Iterator[str]:
    """Create a temporary folder, whose files are not reported in the log."""
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield folder
    finally:
        logging.disable(disabled)


def texts_are_read(n_lines: int | None, n_texts: int) -> tuple[str, str]:
    """Check that text files with quotation marks and separators keep every text.

    Parameters
    ----------
    n_lines : int or None
        Number of lines of the user's file of texts, if it has one text per line.
    n_texts : int
        Number of texts read from it.
    """
    with _scratch_folder() as folder:
        tsv, table = Path(folder, "texts.tsv"), Path(folder, "texts.csv")
        tsv.write_text("text\n" + "\n".join(TEXTS) + "\n", encoding="utf-8")
        with table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["text"], *([text] for text in TEXTS)])
        for path in (tsv, table):
            if (read := list(read_texts(path))) != list(TEXTS):
                return FAILED, f"{path.name} with {len(TEXTS)} texts was read as {len(read)}: {read}"
    if n_lines is not None and n_lines != n_texts:
        return FAILED, f"the file has {n_lines} lines with text, but {n_texts} texts were read"
    return PASSED, f"{n_texts} texts" + (f" from {n_lines} lines" if n_lines is not None else "")


def region_is_read(space: NeuronSpace) -> tuple[str, str]:
    """Check that a region with rounding noise in its background selects the neurons that were drawn."""
    members = np.zeros(space.n_neurons, dtype=bool)
    members[[0, space.n_neurons // 2, space.n_neurons - 1]] = True
    noise = np.where(members, 1.0, 1e-12)
    with _scratch_folder() as folder:
        path = Path(folder, "check.nii.gz")
        img = space.to_img(noise)
        nib.save(nib.Nifti1Image(np.asarray(img.dataobj, dtype=np.float32), img.affine), path)
        read = read_roi(path, space).members
    if not np.array_equal(read, members):
        return FAILED, f"{int(members.sum())} neurons were drawn, and {int(read.sum())} were read"
    return PASSED, f"{int(members.sum())} neurons"
