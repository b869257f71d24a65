"""File names, sidecars, tables and whole writes: the only module that knows a file name.

A study is a BIDS derivative dataset. What BIDS has a name for lies in ``sub-<model>/func``; everything else lies in one
folder, ``lmri/``, which ``.bidsignore`` lists. Files and entries appear whole or not at all: they are written under a
hidden name beside their place and renamed when complete.
"""

import contextlib
import csv
import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import nibabel as nib
import numpy as np
import pandas as pd

from lmri.exceptions import EntryExistsError, StudyError

FORMAT_VERSION = 1
"""Version of the layout on disk; a study with a newer one is refused."""

PARTIAL = ".partial-"
"""Prefix of what is not whole yet."""

LOCK = ".lmri-lock"
"""Held by the one command that writes."""

ENTRY_KINDS = ("decompositions", "networks", "comparisons", "scores", "experiments")


# ---------------------------------------------------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------------------------------------------------


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
    Two names that differ only in case would be one file there.

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


def ignore_in_bids(layout: Layout, pattern: str = CONFOUNDS_IGNORED) -> None:
    """Let the BIDS validator pass over a kind of file, also in a study that was made before there were any."""
    known = layout.bidsignore.read_text(encoding="utf-8") if layout.bidsignore.is_file() else BIDSIGNORE
    if pattern not in known.splitlines():
        write_text(layout.bidsignore, f"{known.rstrip()}\n{pattern}\n")


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


# ---------------------------------------------------------------------------------------------------------------------
# Whole writes
# ---------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a hidden path to write to, and rename it to `path` when the body ends well.

    Parameters
    ----------
    path : Path
        File or folder that appears; its parents are made.

    Yields
    ------
    Path
        The place to write to. It keeps the ending of `path`, because writers choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(PARTIAL + path.name)
    remove(partial)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        remove(partial)
        raise


@contextlib.contextmanager
def writing(root: Path, wait: float = 0) -> Iterator[None]:
    """Keep other commands from writing to a study while the body runs; a command that was killed keeps none.

    Parameters
    ----------
    root : Path
        Folder of the study; made if it is not there.
    wait : float, default=0
        Seconds to wait for a command that is writing now.

    Raises
    ------
    StudyError
        If another command is writing to it now.
    """
    message = f"Another command is writing to {root}. Wait until it has ended."
    with locked(root / LOCK, message, wait):
        yield


def unwritable(folder: Path, why: str) -> StudyError:
    """Say that nothing can be written to a folder."""
    return StudyError(
        f"{folder} cannot be written to ({why}). Copy the study to a folder of your own, or ask its owner; the report "
        "can be written elsewhere: lmri report STUDY --out report.html."
    )


def check_writable(root: Path) -> None:
    """Refuse a folder that cannot be written to, before anything is computed for it."""
    if root.is_dir() and not os.access(root, os.W_OK | os.X_OK):
        raise unwritable(root, "it is read-only for this account")


@contextlib.contextmanager
def locked(path: Path, message: str, wait: float = 0) -> Iterator[None]:
    """Hold the lock at `path` while the body runs; raise `StudyError` with `message` if another process holds it."""
    lock = filelock.FileLock(path, timeout=wait)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise StudyError(message) from None
    except OSError as error:
        raise unwritable(path.parent, error.strerror or str(error)) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(root: Path) -> bool:
    """Return whether another process is writing to a study; False where this account cannot lock it."""
    if not (root / LOCK).exists():
        return False
    try:
        with locked(root / LOCK, ""):
            return False
    except StudyError:
        return os.access(root, os.W_OK | os.X_OK)


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, as UTF-8 with unix line ends."""
    with whole(path) as partial:
        partial.write_bytes(text.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole; NaN is refused, because JSON has none."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    StudyError
        If the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path} is missing. Run `lmri validate` to see what else is.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not whole JSON ({error}). Delete it and make it again.") from error


def save_img(img: nib.Nifti1Image, path: Path) -> None:
    """Write an image whole; the same image gives the same bytes."""
    with whole(path) as partial:
        nib.save(img, partial)


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------

# Every line break that some reader honours, the tab, the quote (readers treat it as the start of a quoted field), the
# backslash itself, and lone surrogates, which UTF-8 cannot hold.
_UNSAFE = re.compile('[\\\\"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|(.))", re.DOTALL)
_SHORT = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_LONG = {escape[1]: char for char, escape in _SHORT.items()}


def escape(text: str) -> str:
    r"""Make any text one field of a TSV file; `unescape` is the inverse.

    Examples
    --------
    >>> print(escape("a\tb"))
    a\tb
    """
    return _UNSAFE.sub(lambda match: _SHORT.get(match[0], f"\\u{ord(match[0]):04x}"), text)


def unescape(field: str) -> str:
    r"""Undo `escape`.

    Examples
    --------
    >>> unescape(escape("\n")) == "\n"
    True
    """
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else _LONG[match[2]], field)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a TSV file whole: text escaped, missing numbers as ``n/a``, floats so that they read back exactly.

    Parameters
    ----------
    path : Path
        Ends in ``.tsv`` or ``.tsv.gz``.
    table : DataFrame
        The index is not written.
    """
    plain: dict[str, Any] = {
        str(column): _escaped(table[column]) if _is_text(table[column]) else table[column] for column in table
    }
    text = pd.DataFrame(plain, columns=table.columns).to_csv(
        sep="\t", index=False, na_rep="n/a", quoting=csv.QUOTE_NONE, lineterminator="\n"
    )
    content = text.encode("utf-8")
    with whole(path) as partial:
        # No time and no file name in the gzip header, so that the same table gives the same bytes.
        partial.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _is_text(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column)


def _escaped(column: pd.Series) -> pd.Series:
    """Escape a column; tokens recur, and pandas' own strings are slow to look at one by one."""
    values = column.to_numpy(dtype=object)
    fields = {value: escape(value) for value in set(values)}
    return pd.Series([fields[value] for value in values], index=column.index, dtype=object)


def read_table(path: Path, text: Iterable[str] = ()) -> pd.DataFrame:
    """Read a TSV file that `write_table` wrote.

    Parameters
    ----------
    path : Path
        The file.
    text : iterable of str
        Columns that hold text: nothing in them is taken for a number or for missing, be it ``NA`` or ``1e3``.

    Raises
    ------
    StudyError
        If the file is missing, or its rows differ in length.
    """
    text = set(text)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        fields = pd.read_csv(
            io.BytesIO(content), sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE, encoding="utf-8"
        )
    except FileNotFoundError:
        raise StudyError(f"{path} is missing. Run `lmri validate` to see what else is.") from None
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
        EOFError,
        OSError,
        zlib.error,
    ) as error:
        raise StudyError(f"{path} is not a whole table ({error}). Delete it and make it again.") from error
    # pandas fills up short rows, and takes what is too much in all rows for an index; a field holds no tab.
    if content.count(b"\t") != (1 + len(fields)) * (fields.shape[1] - 1):
        raise StudyError(f"{path} is not a whole table (its rows differ in length). Delete it and make it again.")
    columns: dict[str, Any] = {}
    for column in fields:
        if column in text:
            columns[column] = pd.Series([unescape(field) for field in fields[column]], dtype=object)
        else:
            columns[column] = _numbers(list(fields[column]), path, str(column))
    return pd.DataFrame(columns, columns=fields.columns)


def _numbers(fields: list[str], path: Path, column: str) -> np.ndarray:
    # Python's own conversion, because pandas' is faster but off by a last bit here and there.
    try:
        if all(field.lstrip("-").isdecimal() for field in fields):
            return np.array([int(field) for field in fields], dtype=np.int64)
        return np.array([np.nan if field == "n/a" else float(field) for field in fields], dtype=np.float64)
    except ValueError as error:
        raise StudyError(f"{path} is not a whole table (column {column!r}: {error}). Make it again.") from error


# ---------------------------------------------------------------------------------------------------------------------
# Identity
# ---------------------------------------------------------------------------------------------------------------------


def digest(content: Any) -> str:
    """Hash anything that JSON can hold (SHA-256, 16 hexadecimal digits)."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Hash the content of a file (SHA-256, 16 hexadecimal digits)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def text_hash(text: str) -> str:
    """Fingerprint of a text, by which splits are kept apart (SHA-256, 16 hexadecimal digits)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def texts_of(imgs: Iterable[Any]) -> frozenset[str]:
    """Collect the hashes of the texts behind images on disk, from the sidecars beside them.

    Images in memory, and files without such a sidecar, add nothing.
    """
    hashes: set[str] = set()
    for img in imgs:
        if isinstance(img, str | Path) and (beside := sidecar(Path(img))).is_file():
            texts = read_json(beside).get("Texts", [])
            hashes.update(text["sha256"] for text in texts if isinstance(text, dict) and "sha256" in text)
    return frozenset(hashes)


VERSIONED = ("lmri", "numpy", "scipy", "scikit-learn", "pandas", "nibabel", "nilearn", "torch", "transformers")


def versions() -> dict[str, str]:
    """Versions of the packages that a number may depend on; importing none of them."""
    found = {"python": platform.python_version()}
    for package in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def log(layout: Layout, event: str, **details: Any) -> None:
    """Append a line to the study's log, the only file with times, hosts and absolute paths."""
    layout.log.parent.mkdir(parents=True, exist_ok=True)
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "host": platform.node(), "event": event, **details}
    with layout.log.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_log(layout: Layout) -> list[dict[str, Any]]:
    """Read the lines of the study's log, oldest first; a torn last line is left out."""
    if not layout.log.is_file():
        return []
    lines = []
    for line in layout.log.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            lines.append(json.loads(line))
    return lines
