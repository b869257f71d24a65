"""BIDS files of a study: the files that make a folder a dataset, and the metadata files of its recordings."""

import contextlib
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lmri.space import ModelInfo, NeuronSpace
from lmri.storage.files import LOCK, PARTIAL, read_json, save_img, write_json, write_text
from lmri.storage.layout import BIDSIGNORE, CONFOUNDS_IGNORED, FORMAT_VERSION, Layout, sidecar
from lmri.storage.provenance import digest, file_hash, text_hash, versions
from lmri.storage.recording import Recording
from lmri.storage.tables import write_table

README = """\
# Activations of language models

A study recorded with lmri, organized as a BIDS derivative dataset: a model is a subject, a state of a model (such as a
checkpoint or a quantization) may be a session, a corpus is a task, a token is a volume (1 s), and a neuron is a voxel.
In every image, axial slice z is layer z, and neuron n of a layer is the voxel x = n % nx, y = n // nx.

`participants.tsv` lists the models. You may add columns to it, and to `sub-*/sub-*_sessions.tsv`.

Files of one model:

- `sub-*/func/*_bold.nii`: activations, one file per run of whole texts; `*_events.tsv` has one row per volume.
- `sub-*/func/*_tokens.tsv`: all tokens, including those excluded from the images (dummies).
- `sub-*/func/*_mask.nii.gz`, `*_dseg.nii.gz`: masks of the voxels that represent neurons, and their layers.
- `sub-*/func/*_desc-confounds_timeseries.tsv` (if computed): position, surprisal and others, one row per volume.
- `lmri/sub-*/texts`: runs and numbers of tokens of the texts, and the texts that the model generated.
- `lmri/sub-*/qc`: results of quality control, with an HTML page.
- `lmri/sub-*/decompositions`, `networks`, `comparisons`, `scores`, `experiments`: results; each folder's `entry.json`
  records the inputs, parameters and software versions.
- `lmri/sub-*/atlas`: the layers as a label image, with their names and colours for FSLeyes (`.lut`), MRIcroGL and
  MRIcron (`.txt`), NiiVue (`.json`), MRtrix and Connectome Workbench.
- `lmri/sub-*/export` (if written): networks in the formats of other programs, such as an `.ica` folder for FSLeyes.
- `lmri/sub-*/rois` (if any): regions of interest that were drawn or selected in a viewer.
- `lmri/sub-*/labels.tsv`: display labels of the networks; they do not affect results.

Files of the whole study:

- `lmri/texts`, `lmri/split.tsv`: the texts, and the assignment of texts to fitting or testing, the same for all models.
- `lmri/group` (if any): decompositions of several models together.
- `lmri/log.jsonl`: times and locations of all computations; the only file with times and paths.
- `report.html`: the report of all results.
"""

EVENT_COLUMNS = {
    "trial_type": {"Description": "Corpus"},
    "text_id": {"Description": "Text that the token belongs to; see lmri/texts"},
    "token": {
        "Description": "Part of the text that the token represents; backslash escapes for tabs, quotes, line ends"
    },
    "token_id": {
        "Description": "Number of the token in the vocabulary of the model; of a word or sentence a negative hash"
    },
    "position": {"Description": "Place of the token in its text, counted from 0, dummies included"},
    "last_position": {"Description": "Place of the last token, where a volume is a word or sentence"},
    "phase": {"Description": "Whether the token was in a prompt or generated from it, where texts were generated"},
    "start": {"Description": "First character in the text; -1 if the tokenizer cannot tell"},
    "end": {"Description": "Character behind the last"},
}


def create(layout: Layout, model: ModelInfo) -> list[tuple[Path, str]]:
    """Create an empty study, to which a model will be added.

    Returns
    -------
    list of tuple
        Path and hash of each written file, for `undo`.
    """
    write_json(
        layout.description,
        {
            "Name": _dataset_name([model]),
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "License": "n/a",
            "GeneratedBy": [
                {"Name": "lmri", "Version": versions()["lmri"], "CodeURL": "https://arxiv.org/abs/2502.20408"}
            ],
        },
    )
    write_text(layout.readme, README)
    write_text(layout.bidsignore, BIDSIGNORE)
    # Last, because this file makes the folder a study.
    write_json(layout.study, {"format_version": FORMAT_VERSION})
    written = (layout.study, layout.description, layout.readme, layout.bidsignore)
    return [(path, file_hash(path)) for path in written]


def describe_models(layout: Layout, known: Mapping[str, ModelInfo], before: Mapping[str, ModelInfo]) -> None:
    """Write the models of a study into its BIDS description; a name or a source that users wrote is kept.

    Parameters
    ----------
    layout : Layout
        Layout of the study.
    known, before : mapping from str to ModelInfo
        Models by scope, and the models before the change.
    """
    content = read_json(layout.description) if layout.description.is_file() else {}
    if content.get("Name") in (None, "", _dataset_name(before.values())):
        content["Name"] = _dataset_name(known.values())
    generated = {f"bids::{scope.partition('_')[0]}" for scope in (*known, *before)}
    sources = [source for source in content.get("SourceDatasets", []) if source.get("URL") not in generated]
    for scope, model in known.items():
        source = {"URL": f"bids::{scope.partition('_')[0]}", "Version": model.revision or model.fingerprint}
        if source["URL"] not in {listed.get("URL") for listed in sources}:
            sources.append(source)
    write_json(layout.description, content | {"SourceDatasets": sources})


def _dataset_name(known: Iterable[ModelInfo]) -> str:
    ids = list(dict.fromkeys(model.id for model in known))
    return f"Activations of {', '.join(ids[:-1])}{' and ' * (len(ids) > 1)}{ids[-1]}" if ids else ""


def undo(layout: Layout, created: Sequence[tuple[Path, str]], existed: Collection[Path]) -> None:
    """Remove the files that `create` wrote, except files that were changed since; other files are never removed.

    Parameters
    ----------
    layout : Layout
        Layout of the study.
    created : sequence of tuple
        Paths and hashes of files as from `create`. The study file is the first, so that an interrupted removal leaves
        no study.
    existed : collection of Path
        Paths among the folder and its lock that existed before; they are not removed. A new folder is removed only if
        it is empty.
    """
    for path, known_hash in created:
        if path.is_file() and file_hash(path) == known_hash:
            path.unlink()
    layout.log.unlink(missing_ok=True)
    lock = layout.root / LOCK
    if lock not in existed:
        with contextlib.suppress(PermissionError):  # Windows cannot remove an open file
            lock.unlink(missing_ok=True)
    for folder in (layout.derivatives_dir, layout.root):
        if folder.is_dir() and folder not in existed and not any(folder.iterdir()):
            folder.rmdir()


def is_foreign(layout: Layout) -> bool:
    """Return whether a folder contains anything other than a study, or the remains of a study being created."""
    if layout.study.is_file() or not layout.root.exists():
        return False
    if not layout.root.is_dir():
        return True
    existing = {path.name for path in layout.root.iterdir() if not path.name.startswith(PARTIAL)}
    if existing <= {LOCK}:
        return False
    if not layout.description.is_file():
        return True
    generators = read_json(layout.description).get("GeneratedBy", [{}])
    created = (layout.description, layout.readme, layout.bidsignore, layout.participants, layout.derivatives_dir)
    names = {path.name for path in (*created, sidecar(layout.participants))} | {LOCK}
    return generators[0].get("Name") != "lmri" or not existing <= names


def recording_digest(recording: Recording) -> str:
    """Return the hash of the inputs of a recording's images: texts, parameters, neurons and weights."""
    info = recording.info
    return digest([info["texts_sha256"], info["parameters"], recording.space.to_dict()])


def write_event_sidecars(layout: Layout, corpus: str, n_runs: int) -> None:
    """Write the sidecars of the events, which all sites of a recording share."""
    for number in range(1, n_runs + 1):
        write_json(sidecar(layout.events(corpus, number)), EVENT_COLUMNS)


def write_recording_site(
    layout: Layout,
    space: NeuronSpace,
    corpus: str,
    texts: pd.DataFrame,
    parameters: Mapping[str, Any],
    caveats: Sequence[str] = (),
    device_check: str = "",
) -> None:
    """Write all files of a recording at one site except its images and its index."""
    site = space.site
    mask, labels = layout.mask(corpus, site), layout.labels(corpus, site)
    reference = f"bids::{layout.relative(mask)}"
    save_img(space.mask_img, mask)
    write_json(
        sidecar(mask),
        {"Description": "Voxels that hold a neuron", "Type": "Brain", "SpatialReference": reference},
    )
    save_img(space.labels_img, labels)
    write_json(
        sidecar(labels),
        {
            "Description": "Layer of every neuron, counted from 1",
            "SpatialReference": reference,
            "module": {"Description": "Path of the layer's final MLP projection in the model"},
            "n_neurons": {"Description": "Width of the layer"},
        },
    )
    write_table(labels.with_name(labels.name.replace(".nii.gz", ".tsv")), space.labels_table)
    write_atlas(layout, space)
    for number in range(1, int(texts["run"].max()) + 1):
        run_texts = texts[texts["run"] == number]
        write_json(
            sidecar(layout.bold(corpus, number, site)),
            {
                "Description": f"Activation of {space.describe()}; one volume is one {parameters.get('per', 'token')}",
                "TaskName": corpus,
                "RepetitionTime": 1.0,
                "StartTime": 0.5,
                "SkullStripped": False,
                "SpatialReference": reference,
                "NumberOfVolumesDiscardedByUser": parameters["n_dummy"],
                "NumberOfVolumesDiscardedNote": "In each text; also special tokens. They are in _tokens.tsv.",
                "Texts": [
                    {"id": row.text_id, "sha256": row.sha256, "n_tokens": row.n_tokens, "n_cut": row.n_cut}
                    for row in run_texts.itertuples()
                ],
                "NumberOfTextsWithOwnSpecialTokens": _n_with_own_special_tokens(run_texts),
                "SpecialTokensNote": "Texts that begin or end with special tokens that the tokenizer adds to every "
                "text; these tokens were not added again.",
                "Caveats": list(caveats),
                **({"DeviceCheck": device_check} if device_check else {}),
                "LMRI": space.to_dict(),
            },
        )


def write_recording_index(
    layout: Layout, recording: Recording, parameters: Mapping[str, Any], versions: Mapping[str, str]
) -> None:
    """Write the index of a recording: the last file, which marks the recording as complete."""
    write_json(
        layout.recording(recording.space.site, recording.corpus),
        {
            "corpus": recording.corpus,
            "n_texts": len(recording.texts),
            "n_texts_fit": len(recording.fit_texts),
            "n_texts_with_own_special_tokens": _n_with_own_special_tokens(recording.texts),
            "n_volumes": recording.n_volumes,
            "texts_sha256": texts_digest(recording.texts["text"]),
            "parameters": dict(parameters),
            "versions": dict(versions),
            "space": recording.space.to_dict(),
            "runs": [
                {
                    "img": layout.relative(run.img),
                    "events": layout.relative(run.events),
                    "tokens": layout.relative(run.tokens),
                    "n_volumes": run.n_volumes,
                }
                for run in recording.runs
            ],
        },
    )


def _n_with_own_special_tokens(texts: pd.DataFrame) -> int:
    """Count the texts that begin or end with special tokens of the tokenizer; 0 for tables of other programs."""
    return int((texts["n_repeated"] > 0).sum()) if "n_repeated" in texts else 0


def texts_digest(texts: Sequence[str] | pd.Series) -> str:
    """Return the hash of a list of texts, in order."""
    return hashlib.sha256("".join(text_hash(text) for text in texts).encode()).hexdigest()[:16]


def write_atlas(layout: Layout, space: NeuronSpace) -> None:
    """Write a copy of the label image of the layers, with their names and colours in the formats of several viewers."""
    folder = layout.atlas(space.site)
    # Viewers without BIDS support look for the names next to the image, under its file name.
    save_img(space.labels_img, folder / "layers.nii.gz")
    for name, text in atlas_files(space.labels_table).items():
        write_text(folder / name, text)


def atlas_files(table: pd.DataFrame) -> dict[str, str]:
    """Format the names and colours of labels for each viewer.

    Parameters
    ----------
    table : DataFrame
        Labels with the columns ``index, name, color`` (``#rrggbb``), as `NeuronSpace.labels_table`.

    Returns
    -------
    dict of str to str
        Content by file name: FSLeyes (``.lut``), MRIcroGL and MRIcron (``.txt``), NiiVue (``.json``), MRtrix and
        Connectome Workbench.
    """
    rgb = [tuple(int(color[start : start + 2], 16) for start in (1, 3, 5)) for color in table["color"]]
    rows = [
        (int(index), str(name), color) for index, name, color in zip(table["index"], table["name"], rgb, strict=True)
    ]
    plain = {index: re.sub(r"\s+", "_", name) for index, name, _ in rows}
    niivue = {
        "R": [0, *(color[0] for color in rgb)],
        "G": [0, *(color[1] for color in rgb)],
        "B": [0, *(color[2] for color in rgb)],
        "A": [0, *(255 for _ in rgb)],
        "I": [0, *(index for index, _, _ in rows)],
        "labels": ["", *(name for _, name, _ in rows)],
    }
    lines = {
        "layers.lut": [f"{index} {r / 255:.5f} {g / 255:.5f} {b / 255:.5f} {name}" for index, name, (r, g, b) in rows],
        "layers.txt": [f"{index} {plain[index]}" for index, _, _ in rows],
        "layers.json": [json.dumps(niivue, indent=2, ensure_ascii=False)],
        # MRtrix distinguishes the short name (here of the slice) from the long one by its length.
        "layers_mrtrix.txt": [f"{index} z{index - 1} {plain[index]} {r} {g} {b} 255" for index, _, (r, g, b) in rows],
        "layers_workbench.txt": [f"{name}\n{index} {r} {g} {b} 255" for index, name, (r, g, b) in rows],
    }
    return {name: "\n".join(content) + "\n" for name, content in lines.items()}


def ignore_in_bids(layout: Layout, pattern: str = CONFOUNDS_IGNORED) -> None:
    """Add a pattern to ``.bidsignore``, also in studies whose file was written by an older version."""
    known = layout.bidsignore.read_text(encoding="utf-8") if layout.bidsignore.is_file() else BIDSIGNORE
    if pattern not in known.splitlines():
        write_text(layout.bidsignore, f"{known.rstrip()}\n{pattern}\n")


def texts_of(imgs: Iterable[Any]) -> frozenset[str]:
    """Collect the hashes of the texts of images on disk, from the sidecars of the images.

    Images in memory and files without such a sidecar are skipped.
    """
    hashes: set[str] = set()
    for img in imgs:
        if isinstance(img, str | Path) and (path := sidecar(Path(img))).is_file():
            texts = read_json(path).get("Texts", [])
            hashes.update(text["sha256"] for text in texts if isinstance(text, dict) and "sha256" in text)
    return frozenset(hashes)
