"""File names of a study: the only module that knows one.

A study is a BIDS derivative dataset. Files that BIDS has a name for are in ``sub-<model>/func``; all others are in one
folder, ``lmri/``, which ``.bidsignore`` lists.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmri.exceptions import EntryExistsError
from lmri.storage.files import LOCK

FORMAT_VERSION = 1
"""Version of the layout on disk; a study with a newer one is refused."""

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
            f"The name {name!r} must start with a letter or digit and go on with letters, digits, '.', '_' and '-'. "
            "Choose another --name."
        )
    return name


_RESERVED = frozenset(
    ["aux", "con", "nul", "prn", *(f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789")]
)
"""Names of devices, which Windows keeps for itself with any ending."""

LONGEST_NAME = 100
"""Characters of a name. File names add up to 120 characters to it, and file systems allow 255."""


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
    """Drop all but ASCII letters and digits.

    Examples
    --------
    >>> bids_label("mlp_out")
    'mlpout'
    """
    return re.sub(r"[^A-Za-z0-9]", "", text)


@dataclass(frozen=True)
class Layout:
    """Where everything of a study lies.

    Parameters
    ----------
    root : Path
        The folder of the study.
    """

    root: Path

    @property
    def description(self) -> Path:
        """BIDS description of the dataset."""
        return self.root / "dataset_description.json"

    @property
    def readme(self) -> Path:
        """What a person reads first."""
        return self.root / "README.md"

    @property
    def bidsignore(self) -> Path:
        """What the BIDS validator passes over."""
        return self.root / ".bidsignore"

    def quality(self, site: str, corpus: str) -> Path:
        """Give the folder of what quality control found of a recording; derived, and made anew each time."""
        return self.own / "qc" / bids_label(site) / corpus

    @property
    def items(self) -> Path:
        """Item rows of evaluations, finished or not, so that none has to be made twice; may be deleted."""
        return self.root / "lmri" / ".items"

    @property
    def participants(self) -> Path:
        """The model, as BIDS sees it."""
        return self.root / "participants.tsv"

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / "report.html"

    @property
    def own(self) -> Path:
        """The folder that BIDS ignores."""
        return self.root / "lmri"

    @property
    def study(self) -> Path:
        """What makes a folder a study."""
        return self.own / "study.json"

    @property
    def split(self) -> Path:
        """Which texts are held out."""
        return self.own / "split.tsv"

    @property
    def log(self) -> Path:
        """Times, hosts and paths."""
        return self.own / "log.jsonl"

    @property
    def network_labels(self) -> Path:
        """What people call the networks; part of no result."""
        return self.own / "labels.tsv"

    def texts(self, corpus: str) -> Path:
        """Give the texts of a corpus."""
        return self.own / "texts" / f"{corpus}.tsv"

    def recording(self, site: str, corpus: str) -> Path:
        """Give the index of a recording: written last, so a recording without it is not whole."""
        return self.own / "recordings" / bids_label(site) / f"{corpus}.json"

    @property
    def unfinished(self) -> Path:
        """Recordings that are being made, or were interrupted."""
        return self.own / ".unfinished"

    def drafts(self, corpus: str) -> Path:
        """Give the folder of what a model has written for a corpus."""
        return self.own / ".generated" / corpus

    def unfinished_recording(self, corpus: str, sites: Sequence[str], n_shards: int | None = None) -> Path:
        """Give the folder in which a recording is made, by one process or in shards."""
        shards = "" if n_shards is None else f"_shards-{n_shards}"
        return self.unfinished / f"{corpus}_{'+'.join(map(bids_label, sites))}{shards}"

    def recordings(self) -> list[Path]:
        """List the indices of all recordings."""
        return sorted((self.own / "recordings").glob("*/*.json"))

    def corpora(self) -> set[str]:
        """List the names of all corpora: recorded, being recorded, or being generated."""
        finished = {path.stem for path in [*self.recordings(), *(self.own / "texts").glob("*.tsv")]}
        folders = {path.name.split("_")[0] for path in self.unfinished.glob("[!.]*_*")}
        return finished | folders | {path.name for path in (self.own / ".generated").glob("[!.]*")}

    def recorded_files(self, subject: str, corpus: str | None = None) -> list[Path]:
        """List the files of recordings in the folder of images, by their names; files of other programs are left out.

        Parameters
        ----------
        subject : str
            BIDS label of the model.
        corpus : str, optional
            By default all corpora.
        """
        task = "[A-Za-z0-9]+" if corpus is None else re.escape(corpus)
        name = re.compile(rf"sub-{re.escape(subject)}_task-{task}(_run-\d+)?(_space-[A-Za-z0-9]+)?({_RECORDED})")
        return sorted(path for path in self.func(subject).glob("*") if name.fullmatch(path.name))

    def atlas(self, site: str) -> Path:
        """Give the folder of layer names as viewers take them."""
        return self.own / "atlas" / bids_label(site)

    def export(self, site: str, name: str) -> Path:
        """Give the folder or file of networks as another program takes them; `name` has its ending."""
        return self.own / "export" / bids_label(site) / check_name(name)

    def roi(self, site: str, name: str) -> Path:
        """Give the image of a region of interest; its sidecar is written last."""
        return self.own / "rois" / bids_label(site) / f"{check_name(name)}.nii.gz"

    def rois(self) -> list[Path]:
        """List the images of all regions of interest."""
        return sorted((self.own / "rois").glob("*/*.nii.gz"))

    def entry(self, kind: str, site: str, name: str) -> Path:
        """Folder of a decomposition, network set, comparison, score table or experiment."""
        return self.own / kind / bids_label(site) / check_name(name)

    def entries(self, kind: str) -> list[Path]:
        """List the folders of all entries of a kind."""
        folders = (self.own / kind).glob("*/*")
        return sorted(folder for folder in folders if folder.is_dir() and not folder.name.startswith("."))

    def in_entry(self, folder: Path, subject: str, site: str, name: str, suffix: str) -> Path:
        """Give a file of an entry, named so that a viewer's file list tells what it is."""
        return folder / f"sub-{subject}_space-{bids_label(site)}_desc-{bids_label(name)}_{suffix}"

    def func(self, subject: str) -> Path:
        """Give the folder of images and their tables."""
        return self.root / f"sub-{subject}" / "func"

    def stem(self, subject: str, corpus: str, run: int | None = None, site: str | None = None) -> Path:
        """Path without suffix; `run` counts from 1."""
        parts = [f"sub-{subject}", f"task-{corpus}"]
        if run is not None:
            parts.append(f"run-{run:03d}")
        if site is not None:
            parts.append(f"space-{bids_label(site)}")
        return self.func(subject) / "_".join(parts)

    def bold(self, subject: str, corpus: str, run: int, site: str) -> Path:
        """Give the image of a run."""
        return with_suffix(self.stem(subject, corpus, run, site), "_bold.nii")

    def events(self, subject: str, corpus: str, run: int) -> Path:
        """Give the table with a row a volume."""
        return with_suffix(self.stem(subject, corpus, run), "_events.tsv")

    def tokens(self, subject: str, corpus: str, run: int) -> Path:
        """Give the table with a row a token."""
        return with_suffix(self.stem(subject, corpus, run), "_tokens.tsv")

    def confounds(self, subject: str, corpus: str, run: int, site: str | None = None) -> Path:
        """Give the confounds of a run: those of a site or, without one, those that all sites share."""
        return with_suffix(self.stem(subject, corpus, run, site), CONFOUNDS if site is None else SITE_CONFOUNDS)

    def routing(self, subject: str, corpus: str, run: int, site: str) -> Path:
        """Give the table of which experts of a mixture a volume was given to; `site` is that of the router."""
        return with_suffix(self.stem(subject, corpus, run, site), ROUTING)

    def mask(self, subject: str, corpus: str, site: str) -> Path:
        """Give the mask image."""
        return with_suffix(self.stem(subject, corpus, site=site), "_mask.nii.gz")

    def labels(self, subject: str, corpus: str, site: str) -> Path:
        """Give the image of layer labels."""
        return with_suffix(self.stem(subject, corpus, site=site), "_desc-layers_dseg.nii.gz")

    def relative(self, path: Path) -> str:
        """`path` as it is written into files: relative to the study, with forward slashes."""
        return path.relative_to(self.root).as_posix()


CONFOUNDS = "_desc-confounds_timeseries.tsv"
"""fMRIPrep's name: nilearn takes these tables as the confounds of a run, and wants one a run."""

SITE_CONFOUNDS = "_desc-siteconfounds_timeseries.tsv"
"""Another name, so that it does not: it would count one for all sites and one for each."""

CONFOUNDS_IGNORED = "**/*confounds_timeseries.*"
"""BIDS has no derivative of that name yet (BEP012)."""

ROUTING = "_desc-routing_timeseries.tsv"

ROUTING_IGNORED = f"**/*{ROUTING.removesuffix('tsv')}*"

_RECORDED = (
    r"_bold\.(nii|json)|_events\.(tsv|json)|_tokens\.tsv|_mask\.(nii\.gz|json)|_desc-layers_dseg\.(nii\.gz|tsv|json)"
    r"|_desc-(confounds|siteconfounds|routing)_timeseries\.(tsv|json)"
)
"""How the names of files of a recording end, as a regular expression."""

BIDSIGNORE = f"lmri\nreport.html\n**/*_tokens.tsv\n{CONFOUNDS_IGNORED}\n{ROUTING_IGNORED}\n{LOCK}\n"


def confounds_beside(path: Path) -> Path:
    """Give the confounds table beside an image (those of its site) or beside events (those that all sites share)."""
    if path.name.endswith("_bold.nii"):
        return path.with_name(path.name.removesuffix("_bold.nii") + SITE_CONFOUNDS)
    return path.with_name(path.name.removesuffix("_events.tsv") + CONFOUNDS)


def with_suffix(stem: Path, suffix: str) -> Path:
    """Append `suffix` to a file name."""
    return stem.with_name(stem.name + suffix)


def sidecar(path: Path) -> Path:
    """Give the JSON file beside an image or table."""
    name = path.name
    for ending in (".nii.gz", ".nii", ".tsv.gz", ".tsv"):
        if name.endswith(ending):
            return path.with_name(name.removesuffix(ending) + ".json")
    return path.with_name(name + ".json")
