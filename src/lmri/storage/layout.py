"""File names of a study. No other module contains file names. The module is long because it has one method per file.

A study is a BIDS derivative dataset of one or several models. Each model is a subject, and a state of a model (a
checkpoint, an adapter, a quantization) may be a session. Files with a BIDS name are in
``sub-<model>[/ses-<state>]/func``; all others are in one folder, ``lmri/``, which ``.bidsignore`` lists. There, each
scope (a subject, a session or the group) has its own folder, such as ``lmri/sub-gpt2``; texts, the log and the cache of
items are shared.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmri.storage.files import LOCK
from lmri.storage.identifiers import GROUP, bids_label, check_name, split_scope

FORMAT_VERSION = 2
"""Version of the layout on disk. Studies of older versions are upgraded with ``lmri upgrade`` (decision 29)."""

ENTRY_KINDS = ("decompositions", "networks", "comparisons", "scores", "experiments")


@dataclass(frozen=True)
class Layout:
    """Paths of all files of a study.

    Parameters
    ----------
    root : Path
        Folder of the study.
    scope : str
        Scope of the results: a subject (``"sub-gpt2"``), a session of a subject (``"sub-gpt2_ses-int8"``) or
        ``"group"``. Without a scope, only the paths of files that all scopes share are defined.
    """

    root: Path
    scope: str = ""

    def at(self, scope: str) -> "Layout":
        """Return the layout of another scope of the same study."""
        return Layout(self.root, scope)

    # -- files of the study -------------------------------------------------------------------------------------------

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

    @property
    def participants(self) -> Path:
        """Table of BIDS participants, one row per model."""
        return self.root / "participants.tsv"

    def sessions(self, subject: str) -> Path:
        """Return the table of BIDS sessions of a subject, one row per state of the model."""
        return self.root / f"sub-{subject}" / f"sub-{subject}_sessions.tsv"

    @property
    def report(self) -> Path:
        """HTML report of the study."""
        return self.root / "report.html"

    @property
    def scope_report(self) -> Path:
        """HTML report of the scope, if the study contains several models."""
        return self.root / f"report-{self._scope}.html"

    @property
    def derivatives_dir(self) -> Path:
        """Folder of all files without a BIDS name, which the BIDS validator ignores."""
        return self.root / "lmri"

    @property
    def study(self) -> Path:
        """Version of the format; a folder with this file is a study."""
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
    def items(self) -> Path:
        """Cache of the item rows of evaluations, finished or not, so that no item is scored twice; may be deleted."""
        return self.derivatives_dir / ".items"

    def texts(self, corpus: str) -> Path:
        """Return the path of the texts of a corpus, which all models share."""
        return self.derivatives_dir / "texts" / f"{corpus}.tsv"

    def scopes(self) -> list[str]:
        """List the scopes of all recorded models, in alphabetical order; the group is not among them."""
        return sorted(path.parent.name for path in self.derivatives_dir.glob("sub-*/model.json"))

    def corpora(self) -> set[str]:
        """Return the names of all corpora of all models: recorded, being recorded, or being generated."""
        names = {path.stem for path in (self.derivatives_dir / "texts").glob("*.tsv")}
        for scope in (path.name for path in self.derivatives_dir.glob("sub-*")):
            layout = self.at(scope)
            names |= {path.stem for path in layout.recordings()}
            names |= {path.name.split("_")[0] for path in layout.unfinished_recordings()}
            names |= {path.name for path in layout.drafts("").glob("[!.]*")}
        return names

    # -- files of a scope ---------------------------------------------------------------------------------------------

    @property
    def _scope(self) -> str:
        if not self.scope:
            raise ValueError("This layout has no scope. Choose one with Layout.at, such as layout.at('sub-gpt2').")
        return self.scope

    @property
    def subject(self) -> str:
        """BIDS label of the model; an empty string for the group."""
        return split_scope(self._scope)[0]

    @property
    def session(self) -> str | None:
        """BIDS label of the state of the model; None without sessions."""
        return split_scope(self._scope)[1]

    @property
    def folder(self) -> Path:
        """Folder of all files of the scope without a BIDS name."""
        return self.derivatives_dir / self._scope

    @property
    def model(self) -> Path:
        """Description of the model; it is written last, so a subject without it does not exist yet."""
        return self.folder / "model.json"

    @property
    def network_labels(self) -> Path:
        """Table of the display labels of networks, which do not affect results."""
        return self.folder / "labels.tsv"

    def quality(self, site: str, corpus: str) -> Path:
        """Return the folder of the quality metrics of a recording; they are derived, and rewritten by each check."""
        return self.folder / "qc" / bids_label(site) / corpus

    def read_texts(self, corpus: str) -> Path:
        """Return the path of what this model read of the texts of a corpus: runs, numbers of tokens and of volumes."""
        return self.folder / "texts" / f"{corpus}.tsv"

    def recording(self, site: str, corpus: str) -> Path:
        """Return the path of the index of a recording; it is written last, so a recording without it is incomplete."""
        return self.folder / "recordings" / bids_label(site) / f"{corpus}.json"

    @property
    def unfinished(self) -> Path:
        """Folder of recordings that are in progress or were interrupted, and of results waiting for the lock."""
        return self.folder / ".unfinished"

    def drafts(self, corpus: str) -> Path:
        """Return the folder of the generated continuations of a corpus."""
        return self.folder / ".generated" / corpus

    def unfinished_recording(self, corpus: str, sites: Sequence[str], n_shards: int | None = None) -> Path:
        """Return the folder of a recording in progress, by one process or in shards."""
        shards = "" if n_shards is None else f"_shards-{n_shards}"
        return self.unfinished / f"{corpus}_{'+'.join(map(bids_label, sites))}{shards}"

    def unfinished_recordings(self) -> list[Path]:
        """List the folders of recordings in progress or interrupted."""
        return sorted(self.unfinished.glob("[!.]*_*"))

    def kept_entries(self, kind: str, site: str, name: str) -> list[Path]:
        """List the folders of finished entries of a name that were not moved into place yet."""
        folder = self.unfinished / kind / bids_label(site)
        return sorted(path for path in folder.glob("[!.]*") if path.name.partition("+")[0] == name)

    def new_kept_entry(self, kind: str, site: str, name: str) -> Path:
        """Return a free folder for a finished entry until it is moved into place."""
        folder = self.unfinished / kind / bids_label(site)
        names = [check_name(name), *(f"{name}+{number}" for number in range(2, 1000))]
        return next(folder / free for free in names if not (folder / free).exists())

    def recordings(self) -> list[Path]:
        """List the indices of all recordings."""
        return sorted((self.folder / "recordings").glob("*/*.json"))

    def recorded_files(self, corpus: str | None = None) -> list[Path]:
        """List the files of recordings in the folder of images, by their names; files of other programs are skipped.

        Parameters
        ----------
        corpus : str, optional
            Name of the corpus; by default all corpora.
        """
        task = "[A-Za-z0-9]+" if corpus is None else re.escape(corpus)
        name = re.compile(rf"{re.escape(self._scope)}_task-{task}(_run-\d+)?(_space-[A-Za-z0-9]+)?({_RECORDED})")
        return sorted(path for path in self.func.glob("*") if name.fullmatch(path.name))

    def atlas(self, site: str) -> Path:
        """Return the folder of the layer names and colours in the formats of viewers."""
        return self.folder / "atlas" / bids_label(site)

    def export(self, site: str, name: str) -> Path:
        """Return the folder or file of networks exported for another program; `name` includes the suffix."""
        return self.folder / "export" / bids_label(site) / check_name(name)

    def roi(self, site: str, name: str) -> Path:
        """Return the image of a region of interest; its sidecar is written last."""
        return self.folder / "rois" / bids_label(site) / f"{check_name(name)}.nii.gz"

    def rois(self) -> list[Path]:
        """List the images of all regions of interest."""
        return sorted((self.folder / "rois").glob("*/*.nii.gz"))

    def entry(self, kind: str, site: str, name: str) -> Path:
        """Return the folder of a decomposition, network set, comparison, score table or experiment."""
        return self.folder / kind / bids_label(site) / check_name(name)

    def entries(self, kind: str) -> list[Path]:
        """List the folders of all entries of a kind."""
        folders = (self.folder / kind).glob("*/*")
        return sorted(folder for folder in folders if folder.is_dir() and not folder.name.startswith("."))

    def in_entry(self, folder: Path, site: str, name: str, suffix: str) -> Path:
        """Return the path of a file of an entry, with a name that identifies it in a viewer's file list.

        In the group, names have no subject, except the names of tables of one run, whose suffix begins with the scope
        and the run (see `run_suffix`).
        """
        about = f"space-{bids_label(site)}_desc-{bids_label(name)}"
        if self._scope != GROUP:
            return folder / f"{self._scope}_{about}_{suffix}"
        if not suffix.startswith("sub-"):
            return folder / f"{about}_{suffix}"
        entities, _, kind = suffix.rpartition("_")
        return folder / f"{entities}_{about}_{kind}"

    @property
    def func(self) -> Path:
        """Folder of images and their tables."""
        subject, session = split_scope(self._scope)
        folder = self.root / f"sub-{subject}"
        return (folder if session is None else folder / f"ses-{session}") / "func"

    def stem(self, corpus: str, run: int | None = None, site: str | None = None) -> Path:
        """Return a path without suffix; `run` is counted from 1."""
        parts = [self._scope, f"task-{corpus}"]
        if run is not None:
            parts.append(f"run-{run:03d}")
        if site is not None:
            parts.append(f"space-{bids_label(site)}")
        return self.func / "_".join(parts)

    def bold(self, corpus: str, run: int, site: str) -> Path:
        """Return the image of a run."""
        return with_suffix(self.stem(corpus, run, site), "_bold.nii")

    def events(self, corpus: str, run: int) -> Path:
        """Return the table of a run with one row per volume."""
        return with_suffix(self.stem(corpus, run), "_events.tsv")

    def tokens(self, corpus: str, run: int) -> Path:
        """Return the table of a run with one row per token."""
        return with_suffix(self.stem(corpus, run), "_tokens.tsv")

    def confounds(self, corpus: str, run: int, site: str | None = None) -> Path:
        """Return the table of confounds of a run: the confounds of a site or, without a site, those of all sites."""
        return with_suffix(self.stem(corpus, run, site), CONFOUNDS if site is None else SITE_CONFOUNDS)

    def routing(self, corpus: str, run: int, site: str) -> Path:
        """Return the table of the experts of a mixture to which each volume was routed, for the router's `site`."""
        return with_suffix(self.stem(corpus, run, site), ROUTING)

    def mask(self, corpus: str, site: str) -> Path:
        """Return the mask image."""
        return with_suffix(self.stem(corpus, site=site), "_mask.nii.gz")

    def labels(self, corpus: str, site: str) -> Path:
        """Return the image of layer labels."""
        return with_suffix(self.stem(corpus, site=site), "_desc-layers_dseg.nii.gz")

    def relative(self, path: Path) -> str:
        """Return `path` as it is written into files: relative to the study, with forward slashes."""
        return path.relative_to(self.root).as_posix()


def run_suffix(corpus: str, run: int, suffix: str) -> str:
    """Return the suffix of a table of one run in an entry.

    Parameters
    ----------
    corpus : str
        Corpus of the run or, in the group, its address with the scope, such as ``"sub-gpt2/news@mlp_out"``.
    run : int
        Number of the run, counted from 1.
    suffix : str
        Suffix of the table, such as ``"mixing.tsv"``.

    Examples
    --------
    >>> run_suffix("news", 2, "mixing.tsv"), run_suffix("sub-gpt2/news@mlp_out", 2, "mixing.tsv")
    ('task-news_run-002_mixing.tsv', 'sub-gpt2_task-news_run-002_mixing.tsv')
    """
    scope, slash, name = corpus.rpartition("/")
    entities = f"task-{name.partition('@')[0]}_run-{run:03d}_{suffix}"
    return f"{scope}_{entities}" if slash else entities


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

BIDSIGNORE = f"lmri\nreport.html\nreport-*.html\n**/*_tokens.tsv\n{CONFOUNDS_IGNORED}\n{ROUTING_IGNORED}\n{LOCK}\n"


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
