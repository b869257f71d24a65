"""Checkpoints in a local folder: what is wrong with them is said before anything is loaded."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.utils.hub import cached_file, extract_commit_hash

_WHOLE, _SHARDED = "model.safetensors", "model.safetensors.index.json"
_PICKLED, _PICKLED_SHARDS = "pytorch_model.bin", "pytorch_model.bin.index.json"
_VOCABULARIES = {"tokenizer.json", "tokenizer.model", "tekken.json"}
_OF_TRAINING = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")

PICKLE = (
    "Weights in pickle format can run any code when they are read. If you trust where they come from: "
    "allow_pickle=True (--allow-pickle). Better, let transformers store them as safetensors once: "
    "model.save_pretrained(folder)."
)


def check_folder(folder: Path, allow_pickle: bool = False) -> None:
    """Raise `ValueError` if a folder holds no weights, not all of them, damaged ones, or only pickled ones.

    Parameters
    ----------
    folder : Path
        With config.json, if it is that of a model.
    allow_pickle : bool, default=False
        Accept pickled weights if there are no others.
    """
    if not (folder / "config.json").is_file():
        return  # transformers says what is missing
    if (folder / _WHOLE).is_file():
        _check_whole(folder / _WHOLE)
    elif (folder / _SHARDED).is_file():
        for shard in _shards(folder, _SHARDED):
            _check_whole(shard)
    elif pickled := _pickled(folder):
        if not allow_pickle:
            raise ValueError(f"{folder} holds its weights only as {', '.join(pickled)}. {PICKLE}")
        if (folder / _PICKLED_SHARDS).is_file() and not (folder / _PICKLED).is_file():
            _shards(folder, _PICKLED_SHARDS)
        elif not (folder / _PICKLED).is_file():
            raise ValueError(
                f"{folder} holds its weights as {', '.join(pickled)}, but transformers reads pickled weights only from "
                f"{_PICKLED} or {_PICKLED_SHARDS}. Convert them, or rename the file if that is its format."
            )
    else:
        raise ValueError(
            f"{folder} holds config.json, but no weights: neither {_WHOLE} nor {_SHARDED}. A model built from its "
            "configuration alone is random. Copy or download the weights too."
        )


def find_commit(source: str, revision: str | None) -> str | None:
    """Ask which commit of a model on the hub a branch or tag is now; None for a local folder.

    transformers does not keep it any more, and without it nobody could load the same model again.
    """
    config = cached_file(source, "config.json", revision=revision)
    return None if Path(source).is_dir() else extract_commit_hash(config, None)


def check_tokenizer_files(tokenizer: Any, source: str, commit: str | None) -> None:
    """Raise `ValueError` if a tokenizer was made of nothing.

    Where there are no files of a tokenizer, transformers makes an empty one, which reads every text as nothing, or as
    unknown words.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizer
        As transformers made it.
    source : str
        Folder, or name on the hub.
    commit : str or None
        On the hub.
    """
    own = {str(name) for name in (getattr(tokenizer, "vocab_files_names", None) or {}).values()}
    if not own:
        return  # it reads characters or bytes, and needs no vocabulary
    found = {name for name in {*own, *_VOCABULARIES} if _is_there(source, name, commit)}
    lacking = own - found - _VOCABULARIES if "vocab.json" in found else set()
    if not found or ("tokenizer.json" not in found and "merges.txt" in lacking):
        raise ValueError(
            f"the tokenizer has no {' or '.join(sorted(lacking or own | {'tokenizer.json'}))}. Without it transformers "
            "makes a tokenizer that knows nothing. Store the tokenizer beside the model: "
            "tokenizer.save_pretrained(folder)."
        )


def _is_there(source: str, name: str, commit: str | None) -> bool:
    if Path(source).is_dir():
        return (Path(source) / name).is_file()
    return cached_file(source, name, revision=commit, _raise_exceptions_for_missing_entries=False) is not None


def _pickled(folder: Path) -> list[str]:
    names = sorted(one.name for ending in ("bin", "pt", "pth", "ckpt") for one in folder.glob(f"*.{ending}"))
    return [name for name in names if not name.startswith(_OF_TRAINING)]


def _shards(folder: Path, index: str) -> list[Path]:
    try:
        names = sorted(set(json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{folder / index} cannot be read ({error!r}). Download it again.") from error
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(names)} files with the weights are missing in {folder}: "
            f"{', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}. Copy or download them too."
        )
    return [folder / name for name in names]


def _check_whole(path: Path) -> None:
    try:
        with safe_open(path, "numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is damaged or was not downloaded to its end ({path.stat().st_size:,} bytes; {error}). "
            "Download it again; a file of about a hundred bytes is a Git LFS pointer: git lfs pull."
        ) from error
