"""File names of a study. No other module contains file names.

A study is a BIDS derivative dataset. Files with a BIDS name are in ``sub-<model>/func``; all others are in one folder,
``lmri/``, which ``.bidsignore`` lists.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmri.exceptions import EntryExistsError
from lmri.storage.files import LOCK

FORMAT_VERSION = 1
"""Version of the layout on disk; opening a study with a newer version raises an error."""

ENTRY_KINDS = ("decompositions", "networks", "comparisons", "scores", "experiments")


def check_corpus(corpus: str) -> str:
    """Return `corpus` if it can be a BIDS label (letters and digits), else raise `ValueError`."""
    if not re.fullmatch(r"[A-Za-z0-9]+", corpus):
        suggestion = bids_label(corpus) or "corpus1"
        raise ValueError(
            f"The corpus name {corpus!r} must consist of letters and digits, as it becomes a BIDS label. "
            f"Try {suggestion!r}."
        )
    return corpus


def check_name(name: str) -> str:
    """Return `name` if it can be the folder of an entry, else raise `ValueError`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"The name {name!r} must start with a letter or digit, followed by letters, digits, '.', '_' or '-'. "
            "Choose another --name."
        )
    return name


_RESERVED = frozenset(
    ["aux", "con", "nul", "prn", *(f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789")]
)
"""Names of devices, which Windows reserves with any file extension."""

LONGEST_NAME = 100
"""Maximum number of characters of a name. File names add up to 120 characters, and file systems allow 255."""


def check_new_name(name: str, existing: Iterable[str], what: str, option: str = "--name") -> str:
    """Return `name` if it can be created next to the existing names on every file system, else raise an error.

    A study may be copied to a disk that does not distinguish upper and lower case (the default on macOS and Windows).
    Two names that differ only in case would be one file there (decision 27).

    Parameters
    ----------
    name : str
        The new name. It may be one of `existing`.
    existing : iterable of str
        Names of the same kind in the study, spelled as they are stored.
    what : str
        Kind of the name, such as ``"corpus"``, for the message.
    option : str
        Command-line option that sets the name, for the message.

    Raises
    ------
    ValueError
        If Windows reserves the name, or if it ends with a dot or is too long.
    EntryExistsError
        If an existing name differs from it only in case.
    """
    if name.split(".")[0].casefold() in _RESERVED or name.endswith("."):
        why = "Windows drops a dot at the end" if name.endswith(".") else "Windows reserves this name for a device"
        raise ValueError(f"The {what} {name!r} cannot be created: {why}. Choose another name ({option}).")
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"The {what} {name[:20] + '…'!r} has {len(name)} characters; at most {LONGEST_NAME} fit into a file name. "
            f"Choose a shorter name ({option})."
        )
    same = sorted({other for other in existing if other != name and other.casefold() == name.casefold()})
    if same:
        raise EntryExistsError(
            f"The {what} {name!r} differs from the existing {what} {same[0]!r} only in case. They would be the same "
            f"file on disks that ignore case (macOS, Windows). Nothing was written: use {same[0]!r}, or choose another "
            f"name ({option})."
        )
    return name


def bids_label(text: str) -> str:
    """Remove all characters except ASCII letters and digits.

    Examples
    --------
    >>> bids_label("mlp_out")
    'mlpout'
    """
    return re.sub(r"[^A-Za-z0-9]", "", text)


@dataclass(frozen=True)
class Layout:
    """Paths of all files of a study.

    Parameters
    ----------
    root : Path
        Folder of the study.
    """

    root: Path

    @property
    def description(self) -> Path:
        """BIDS description of the dataset."""
        return self.root / "dataset_description.json"

    @property
    def readme(self) -> Path:
        """README of the study, for readers."""
        return self.root / "README.md"

    @property
    def bidsignore(self) -> Path:
        """List of files that the BIDS validator ignores."""
        return self.root / ".bidsignore"

    def quality(self, site: str, corpus: str) -> Path:
        """Return the folder of the quality metrics of a recording; they are derived, and rewritten by each check."""
        return self.derivatives_dir / "qc" / bids_label(site) / corpus

    @property
    def items(self) -> Path:
        """Cache of the item rows of evaluations, finished or not, so that no item is scored twice; may be deleted."""
        return self.root / "lmri" / ".items"

    @property
    def participants(self) -> Path:
        """Table of BIDS participants; the only one is the model."""
        return self.root / "participants.tsv"

    @property
    def report(self) -> Path:
        """HTML report."""
        return self.root / "report.html"

    @property
    def derivatives_dir(self) -> Path:
        """Folder of all files without a BIDS name, which the BIDS validator ignores."""
        return self.root / "lmri"

    @property
    def study(self) -> Path:
        """Description of the study; a folder with this file is a study."""
        return self.derivatives_dir / "study.json"

    @property
    def split(self) -> Path:
        """Table of the split of the texts into fitted and held-out texts."""
        return self.derivatives_dir / "split.tsv"

    @property
    def log(self) -> Path:
        """Log with times, hosts and paths."""
        return self.derivatives_dir / "log.jsonl"

    @property
    def network_labels(self) -> Path:
        """Table of the display labels of networks, which do not affect results."""
        return self.derivatives_dir / "labels.tsv"

    def texts(self, corpus: str) -> Path:
        """Return the path of the texts of a corpus."""
        return self.derivatives_dir / "texts" / f"{corpus}.tsv"

    def recording(self, site: str, corpus: str) -> Path:
        """Return the path of the index of a recording; it is written last, so a recording without it is incomplete."""
        return self.derivatives_dir / "recordings" / bids_label(site) / f"{corpus}.json"

    @property
    def unfinished(self) -> Path:
        """Folder of recordings that are in progress or were interrupted."""
        return self.derivatives_dir / ".unfinished"

    def drafts(self, corpus: str) -> Path:
        """Return the folder of the generated continuations of a corpus."""
        return self.derivatives_dir / ".generated" / corpus

    def unfinished_recording(self, corpus: str, sites: Sequence[str], n_shards: int | None = None) -> Path:
        """Return the folder of a recording in progress, by one process or in shards."""
        shards = "" if n_shards is None else f"_shards-{n_shards}"
        return self.unfinished / f"{corpus}_{'+'.join(map(bids_label, sites))}{shards}"

    def recordings(self) -> list[Path]:
        """List the indices of all recordings."""
        return sorted((self.derivatives_dir / "recordings").glob("*/*.json"))

    def corpora(self) -> set[str]:
        """Return the names of all corpora: recorded, being recorded, or being generated."""
        finished = {path.stem for path in [*self.recordings(), *(self.derivatives_dir / "texts").glob("*.tsv")]}
        folders = {path.name.split("_")[0] for path in self.unfinished.glob("[!.]*_*")}
        return finished | folders | {path.name for path in (self.derivatives_dir / ".generated").glob("[!.]*")}

    def recorded_files(self, subject: str, corpus: str | None = None) -> list[Path]:
        """List the files of recordings in the folder of images, by their names; files of other programs are skipped.

        Parameters
        ----------
        subject : str
            BIDS label of the model.
        corpus : str, optional
            Name of the corpus; by default all corpora.
        """
        task = "[A-Za-z0-9]+" if corpus is None else re.escape(corpus)
        name = re.compile(rf"sub-{re.escape(subject)}_task-{task}(_run-\d+)?(_space-[A-Za-z0-9]+)?({_RECORDED})")
        return sorted(path for path in self.func(subject).glob("*") if name.fullmatch(path.name))

    def atlas(self, site: str) -> Path:
        """Return the folder of the layer names and colours in the formats of viewers."""
        return self.derivatives_dir / "atlas" / bids_label(site)

    def export(self, site: str, name: str) -> Path:
        """Return the folder or file of networks exported for another program; `name` includes the suffix."""
        return self.derivatives_dir / "export" / bids_label(site) / check_name(name)

    def roi(self, site: str, name: str) -> Path:
        """Return the image of a region of interest; its sidecar is written last."""
        return self.derivatives_dir / "rois" / bids_label(site) / f"{check_name(name)}.nii.gz"

    def rois(self) -> list[Path]:
        """List the images of all regions of interest."""
        return sorted((self.derivatives_dir / "rois").glob("*/*.nii.gz"))

    def entry(self, kind: str, site: str, name: str) -> Path:
        """Return the folder of a decomposition, network set, comparison, score table or experiment."""
        return self.derivatives_dir / kind / bids_label(site) / check_name(name)

    def entries(self, kind: str) -> list[Path]:
        """List the folders of all entries of a kind."""
        folders = (self.derivatives_dir / kind).glob("*/*")
        return sorted(folder for folder in folders if folder.is_dir() and not folder.name.startswith("."))

    def in_entry(self, folder: Path, subject: str, site: str, name: str, suffix: str) -> Path:
        """Return the path of a file of an entry, with a name that identifies it in a viewer's file list."""
        return folder / f"sub-{subject}_space-{bids_label(site)}_desc-{bids_label(name)}_{suffix}"

    def func(self, subject: str) -> Path:
        """Return the folder of images and their tables."""
        return self.root / f"sub-{subject}" / "func"

    def stem(self, subject: str, corpus: str, run: int | None = None, site: str | None = None) -> Path:
        """Return a path without suffix; `run` is counted from 1."""
        parts = [f"sub-{subject}", f"task-{corpus}"]
        if run is not None:
            parts.append(f"run-{run:03d}")
        if site is not None:
            parts.append(f"space-{bids_label(site)}")
        return self.func(subject) / "_".join(parts)

    def bold(self, subject: str, corpus: str, run: int, site: str) -> Path:
        """Return the image of a run."""
        return with_suffix(self.stem(subject, corpus, run, site), "_bold.nii")

    def events(self, subject: str, corpus: str, run: int) -> Path:
        """Return the table of a run with one row per volume."""
        return with_suffix(self.stem(subject, corpus, run), "_events.tsv")

    def tokens(self, subject: str, corpus: str, run: int) -> Path:
        """Return the table of a run with one row per token."""
        return with_suffix(self.stem(subject, corpus, run), "_tokens.tsv")

    def confounds(self, subject: str, corpus: str, run: int, site: str | None = None) -> Path:
        """Return the table of confounds of a run: the confounds of a site or, without a site, those of all sites."""
        return with_suffix(self.stem(subject, corpus, run, site), CONFOUNDS if site is None else SITE_CONFOUNDS)

    def routing(self, subject: str, corpus: str, run: int, site: str) -> Path:
        """Return the table of the experts of a mixture to which each volume was routed, for the router's `site`."""
        return with_suffix(self.stem(subject, corpus, run, site), ROUTING)

    def mask(self, subject: str, corpus: str, site: str) -> Path:
        """Return the mask image."""
        return with_suffix(self.stem(subject, corpus, site=site), "_mask.nii.gz")

    def labels(self, subject: str, corpus: str, site: str) -> Path:
        """Return the image of layer labels."""
        return with_suffix(self.stem(subject, corpus, site=site), "_desc-layers_dseg.nii.gz")

    def relative(self, path: Path) -> str:
        """Return `path` as it is written into files: relative to the study, with forward slashes."""
        return path.relative_to(self.root).as_posix()


CONFOUNDS = "_desc-confounds_timeseries.tsv"
"""Suffix of fMRIPrep: nilearn uses these tables as the confounds of a run, and expects one per run."""

SITE_CONFOUNDS = "_desc-siteconfounds_timeseries.tsv"
"""Suffix that nilearn does not recognize: it would otherwise find a table for all sites and one for each site."""

CONFOUNDS_IGNORED = "**/*confounds_timeseries.*"
"""Pattern for ``.bidsignore``: BIDS does not define these derivatives yet (BEP012)."""

ROUTING = "_desc-routing_timeseries.tsv"

ROUTING_IGNORED = f"**/*{ROUTING.removesuffix('tsv')}*"

_RECORDED = (
    r"_bold\.(nii|json)|_events\.(tsv|json)|_tokens\.tsv|_mask\.(nii\.gz|json)|_desc-layers_dseg\.(nii\.gz|tsv|json)"
    r"|_desc-(confounds|siteconfounds|routing)_timeseries\.(tsv|json)"
)
"""Regular expression of the suffixes of the files of a recording."""

BIDSIGNORE = f"lmri\nreport.html\n**/*_tokens.tsv\n{CONFOUNDS_IGNORED}\n{ROUTING_IGNORED}\n{LOCK}\n"


def confounds_beside(path: Path) -> Path:
    """Return the confounds table of an image (confounds of its site) or of events (confounds that all sites share)."""
    if path.name.endswith("_bold.nii"):
        return path.with_name(path.name.removesuffix("_bold.nii") + SITE_CONFOUNDS)
    return path.with_name(path.name.removesuffix("_events.tsv") + CONFOUNDS)


def with_suffix(stem: Path, suffix: str) -> Path:
    """Append `suffix` to a file name."""
    return stem.with_name(stem.name + suffix)


def sidecar(path: Path) -> Path:
    """Return the JSON sidecar of an image or table."""
    name = path.name
    for ending in (".nii.gz", ".nii", ".tsv.gz", ".tsv"):
        if name.endswith(ending):
            return path.with_name(name.removesuffix(ending) + ".json")
    return path.with_name(name + ".json")
