"""Checks of checkpoints in a local folder, before anything is loaded."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.utils.hub import cached_file, extract_commit_hash

_WHOLE, _SHARDED = "model.safetensors", "model.safetensors.index.json"
_PICKLED, _PICKLED_SHARDS = "pytorch_model.bin", "pytorch_model.bin.index.json"
_VOCABULARIES = {"tokenizer.json", "tokenizer.model", "tekken.json"}
_OF_TRAINING = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")

_ADAPTER = "adapter_config.json"
_VIRTUAL = ("P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE")
_AUTO = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}

PICKLE = (
    "Weights in pickle format can run any code when they are read. If you trust their source, set "
    "allow_pickle=True (--allow-pickle). Better: convert them to safetensors once, with "
    "model.save_pretrained(folder)."
)


def check_folder(folder: Path, allow_pickle: bool = False) -> None:
    """Raise `ValueError` if the weights in a folder are missing, incomplete, damaged or only pickled.

    Parameters
    ----------
    folder : Path
        Folder of the model; folders without config.json are not checked.
    allow_pickle : bool, default=False
        Whether to accept pickled weights if there are no others.
    """
    if not (folder / "config.json").is_file():
        return  # transformers reports the missing file
    if (folder / _WHOLE).is_file():
        _check_whole(folder / _WHOLE)
    elif (folder / _SHARDED).is_file():
        for shard in _shards(folder, _SHARDED):
            _check_whole(shard)
    elif pickled := _pickled(folder):
        if not allow_pickle:
            raise ValueError(f"{folder} contains weights only as {', '.join(pickled)}. {PICKLE}")
        if (folder / _PICKLED_SHARDS).is_file() and not (folder / _PICKLED).is_file():
            _shards(folder, _PICKLED_SHARDS)
        elif not (folder / _PICKLED).is_file():
            raise ValueError(
                f"{folder} contains its weights as {', '.join(pickled)}, but transformers reads pickled weights only "
                f"from {_PICKLED} or {_PICKLED_SHARDS}. Convert them, or rename the file if it has this format."
            )
    else:
        raise ValueError(
            f"{folder} contains config.json, but no weights: neither {_WHOLE} nor {_SHARDED}. A model built from its "
            "configuration alone is random. Copy or download the weights too."
        )


def check_not_adapter(source: str, revision: str | None = None) -> None:
    """Raise `ValueError` if a folder, or a model on the hub, is an adapter instead of a complete model.

    transformers would load it on top of its base model if peft is installed, and otherwise ignore it.

    Parameters
    ----------
    source : str
        Folder of the model, or its name on the hub.
    revision : str, optional
        Branch, tag or commit on the hub.
    """
    folder = Path(source)
    if folder.is_dir():
        below = [] if (folder / "config.json").is_file() else sorted(folder.glob(f"*/{_ADAPTER}"))
        path = next((path for path in (folder / _ADAPTER, *below) if path.is_file()), None)
    else:
        path = cached_file(
            source,
            _ADAPTER,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
    if path is not None:
        raise ValueError(_adapter_advice(Path(path), str(Path(path).parent) if folder.is_dir() else source))


def _adapter_advice(path: Path, source: str) -> str:
    """Explain how to merge or load an adapter."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        settings = {}
    settings = settings if isinstance(settings, dict) else {}
    kind = settings.get("peft_type") or "of unknown type"
    base = settings.get("base_model_name_or_path") or settings.get("model_name") or "BASE"
    if (path.parent / base).is_dir():
        base = str((path.parent / base).resolve())
    if "PROMPT" in kind or kind in _VIRTUAL:
        return (
            f"{source} contains an adapter ({kind}) for {base!r}. It adds virtual tokens or cached keys and values to "
            "every text, which cannot be recorded or lesioned. Record the base model, or use an adapter of the weights."
        )
    auto = _AUTO.get(str(settings.get("task_type")), "AutoModel")
    both = (
        " If the weights in this folder are already merged, remove adapter_config.json from it."
        if (path.parent / "config.json").is_file()
        else ""
    )
    return (
        f"{source} contains an adapter ({kind}) for {base!r}, not a complete model.{both} Merge it into its base model "
        f"with peft, and use the folder 'merged': model = transformers.{auto}.from_pretrained({base!r}); "
        f"peft.PeftModel.from_pretrained(model, {source!r}).merge_and_unload().save_pretrained('merged'); "
        f"transformers.AutoTokenizer.from_pretrained({base!r}).save_pretrained('merged'). Without merging, the model "
        "with the adapter can be passed to lmri.record in Python."
    )


def find_commit(source: str, revision: str | None) -> str | None:
    """Return the current commit of a branch or tag of a model on the hub; None for a local folder.

    transformers no longer stores the commit, which is needed to load the same model again.
    """
    config = cached_file(source, "config.json", revision=revision)
    return None if Path(source).is_dir() else extract_commit_hash(config, None)


def check_tokenizer_files(tokenizer: Any, source: str, commit: str | None) -> None:
    """Raise `ValueError` if a tokenizer was created without files.

    If the files of a tokenizer are missing, transformers creates an empty tokenizer, which encodes every text as no
    tokens or as unknown words.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizer
        Tokenizer created by transformers.
    source : str
        Folder of the model, or its name on the hub.
    commit : str or None
        Commit on the hub.
    """
    declared = {str(name) for name in (getattr(tokenizer, "vocab_files_names", None) or {}).values()}
    if not declared:
        return  # tokenizers of characters or bytes need no vocabulary
    existing = {name for name in {*declared, *_VOCABULARIES} if _exists(source, name, commit)}
    lacking = declared - existing - _VOCABULARIES if "vocab.json" in existing else set()
    if not existing or ("tokenizer.json" not in existing and "merges.txt" in lacking):
        raise ValueError(
            f"the tokenizer has no {' or '.join(sorted(lacking or declared | {'tokenizer.json'}))}. Without it, "
            "transformers creates an empty tokenizer. Save the tokenizer in the folder of the model: "
            "tokenizer.save_pretrained(folder)."
        )


def _exists(source: str, name: str, commit: str | None) -> bool:
    if Path(source).is_dir():
        return (Path(source) / name).is_file()
    return cached_file(source, name, revision=commit, _raise_exceptions_for_missing_entries=False) is not None


def _pickled(folder: Path) -> list[str]:
    names = sorted(path.name for ending in ("bin", "pt", "pth", "ckpt") for path in folder.glob(f"*.{ending}"))
    return [name for name in names if not name.startswith(_OF_TRAINING)]


def _shards(folder: Path, index: str) -> list[Path]:
    try:
        names = sorted(set(json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{folder / index} cannot be read ({error!r}). Download it again.") from error
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(names)} weight files are missing in {folder}: "
            f"{', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}. Copy or download them too."
        )
    return [folder / name for name in names]


def _check_whole(path: Path) -> None:
    try:
        with safe_open(path, "numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is damaged or incompletely downloaded ({path.stat().st_size:,} bytes; {error}). "
            "Download it again; a file of about 100 bytes is a Git LFS pointer, which git lfs pull replaces."
        ) from error
