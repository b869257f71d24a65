"""Folders of text files: the files that belong to a split, by their names."""

import re
from pathlib import Path

from lmri.storage.user_tables import FILE_ENDINGS

_SPLITS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev"},
    "test": {"test", "testing", "eval", "evaluation"},
}
"""Words in names of files and folders, as in the `datasets` library."""


def files_of(folder: Path, split: str | None = None) -> list[Path]:
    """List the text files of a folder that belong to a split.

    These files are read by lmri rather than by the `datasets` library, whose CSV reader turns texts such as "NA" into
    missing values. Folders that contain Parquet or Arrow files are datasets in the format of that library.

    Parameters
    ----------
    folder : Path
        Folder, with subfolders.
    split : str, optional
        Name of the split; the default is ``"train"``. If no name contains a split, all files are ``"train"``.

    Returns
    -------
    list of Path
        Files, sorted; empty if the folder contains no text files, or a dataset.

    Raises
    ------
    ValueError
        If the files have several formats, or none belongs to the split.
    """
    inside = [path for path in sorted(folder.rglob("*")) if not _is_hidden(path.relative_to(folder))]
    endings = {path.suffix.lower() for path in inside if path.is_file()}
    if endings & {".parquet", ".arrow"}:
        return []
    files = [path for path in inside if path.is_file() and path.suffix.lower() in FILE_ENDINGS]
    if len({path.suffix.lower() for path in files}) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in files[:5])
        raise ValueError(f"The folder {folder} contains files of several formats ({names}). Name one file.")
    splits = [_split_of(path.relative_to(folder)) for path in files]
    if not any(splits):
        splits = ["train"] * len(files)
    chosen = [path for path, name in zip(files, splits, strict=True) if name == (split or "train")]
    if files and not chosen:
        known = ", ".join(repr(name) for name in _SPLITS if name in splits)
        raise ValueError(f"{folder} has no split {split or 'train'!r}; choose from {known}. Name one: split=.")
    return chosen


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _split_of(path: Path) -> str:
    words = set(re.split(r"[^a-z]+", str(path.with_suffix("")).lower()))
    return next((split for split, known in _SPLITS.items() if words & known), "")
