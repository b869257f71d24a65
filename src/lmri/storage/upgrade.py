"""Upgrade of a study to the current format, in place: names and small tables change, images do not.

Every step can be repeated: a command that was killed is continued by the same command. The version in ``study.json`` is
written last, so that a partly upgraded study is never opened. Every change of the format adds one function to `STEPS`.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from lmri import storage
from lmri.exceptions import StudyError
from lmri.space import ModelInfo
from lmri.storage import Layout
from lmri.storage import dataset_files as dataset
from lmri.storage.corpora import SHARED, TEXT_COLUMNS, extend_split, write_texts_table
from lmri.storage.identifiers import make_scope
from lmri.storage.subjects import write_model

_MOVED = (
    *storage.ENTRY_KINDS, "recordings", "rois", "export", "atlas", "qc", "labels.tsv", ".unfinished", ".generated",
)  # fmt: skip
"""Parts of ``lmri/`` that version 2 has per scope."""

_READMES = frozenset(
    [
        "2ea368b6000cb0b9", "48c97dd591d19dc1", "608520de8b21ef1a", "73f03d9103693fb9", "9b31640543244614",
        "ed903a0391816222",
    ]
)  # fmt: skip
"""Hashes of the READMEs that versions of lmri wrote for version 1, without the names of the model."""


def upgrade(root: str | Path) -> list[int]:
    """Upgrade a study to the format of this version of lmri.

    Parameters
    ----------
    root : str or Path
        Folder of the study.

    Returns
    -------
    list of int
        Versions from which the study was upgraded, in order; empty if it was up to date.

    Raises
    ------
    StudyError
        If the folder is not a study, a newer version of lmri wrote it, or a part of it exists in the old and in the new
        place.
    LockedError
        If another command is writing to the study.
    """
    layout = Layout(Path(root))
    if not layout.study.is_file():
        problem = "is not a study (it has no lmri/study.json)" if layout.root.exists() else "does not exist"
        raise StudyError(f"{root} {problem}. Check the path.")
    done: list[int] = []
    with storage.write_lock(layout.root):
        while (version := _version(layout)) < storage.FORMAT_VERSION:
            STEPS[version](layout)
            done.append(version)
    return done


def _version(layout: Layout) -> int:
    version = storage.read_json(layout.study).get("format_version")
    if not isinstance(version, int) or not 1 <= version <= storage.FORMAT_VERSION:
        raise StudyError(
            f"{layout.root} has format version {version!r}; this version of lmri upgrades versions 1 to "
            f"{storage.FORMAT_VERSION - 1}. Update lmri."
        )
    return version


def _from_version_1(layout: Layout) -> None:
    """Introduce scopes: version 1 had one model, and its results were in ``lmri/`` itself."""
    description = storage.read_json(layout.study)
    model = ModelInfo(**description["model"])
    scoped = layout.at(make_scope(description["subject"]))
    for name in _MOVED:
        _move(layout.derivatives_dir / name, scoped.folder / name)
    for path in sorted((layout.derivatives_dir / "texts").glob("*.tsv")):
        _divide_texts(scoped, path.stem)
    _add_scope_to_log(scoped)
    _replace_readme(layout, model, description["subject"])
    _ignore_reports(layout)
    write_model(scoped, model)
    storage.write_json(layout.study, {"format_version": 2})


STEPS: dict[int, Callable[[Layout], None]] = {1: _from_version_1}
"""Function that upgrades a study from each version to the next."""


def _move(old: Path, new: Path) -> None:
    """Move a file or folder, unless it was moved before."""
    if not old.exists():
        return
    if new.exists():
        raise StudyError(
            f"{old} and {new} both exist, so it is not clear which one belongs to the study. Move one of them out of "
            "the study, and run the upgrade again. Nothing was deleted."
        )
    new.parent.mkdir(parents=True, exist_ok=True)
    old.replace(new)


def _divide_texts(scoped: Layout, corpus: str) -> None:
    """Divide a table of texts into the part that all models share and the part of this model."""
    path = scoped.texts(corpus)
    table = storage.read_table(path, TEXT_COLUMNS)
    if list(table.columns) != SHARED:
        prompts: dict[str, str] = {}
        if "prompt_sha256" in table:
            prompts = {sha: _prompt(text, sha) for sha, text in zip(table["prompt_sha256"], table["text"], strict=True)}
        write_texts_table(scoped, corpus, table, prompts, replace=True)
    extend_split(scoped, corpus, storage.read_table(path, TEXT_COLUMNS))


def _prompt(text: str, sha: str) -> str:
    """Return the prompt with which a generated text begins; an empty string if the prompt was truncated."""
    for end in range(len(text) + 1):
        if storage.text_hash(text[:end]) == sha:
            return text[:end]
    return ""


def _add_scope_to_log(scoped: Layout) -> None:
    if not scoped.log.is_file():
        return
    lines = []
    for line in scoped.log.read_text(encoding="utf-8").splitlines():
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            lines.append(line)  # an incomplete line, which readers skip
            continue
        if isinstance(content, dict) and "scope" not in content:
            first = {key: content[key] for key in ("time", "host") if key in content}
            content = {**first, "scope": scoped.scope, **content}
        lines.append(json.dumps(content, ensure_ascii=False))
    storage.write_text(scoped.log, "".join(f"{line}\n" for line in lines))


def _ignore_reports(layout: Layout) -> None:
    """Add the reports of single models to ``.bidsignore``; lines of users are kept."""
    added = "report-*.html"
    unchanged = storage.BIDSIGNORE.replace(f"{added}\n", "").encode()
    if layout.bidsignore.is_file() and layout.bidsignore.read_bytes() == unchanged:
        storage.write_text(layout.bidsignore, storage.BIDSIGNORE)
    dataset.ignore_in_bids(layout, added)


def _replace_readme(layout: Layout, model: ModelInfo, subject: str) -> None:
    """Replace a README that lmri wrote; one that was edited is kept."""
    if not layout.readme.is_file():
        return
    text = layout.readme.read_bytes().decode("utf-8", "replace")
    general = text.replace(f"# Activations of {model.id}\n", "# Activations of {model}\n", 1)
    general = general.replace(f"sub-{subject}", "sub-{subject}")
    if hashlib.sha256(general.encode()).hexdigest()[:16] in _READMES:
        storage.write_text(layout.readme, dataset.README)
