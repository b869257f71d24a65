"""Models and tokenizers: loading them, telling them apart, and turning texts into tokens."""

import contextlib
import hashlib
import inspect
import logging
import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lmri.space import ModelInfo
from lmri.storage import text_hash

logger = logging.getLogger(__name__)

EMBEDDED = "lmri-demo"
"""Name of the small model that comes with the package."""

DTYPES = ("float32", "bfloat16", "float16")

_EMBEDDED_FOLDER = Path(__file__).parent / "demo" / "model"
_UNBOUNDED = 1_000_000  # tokenizers without a limit say 1e30


def load_model(
    name: str | Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, Any]:
    """Load a model and its tokenizer.

    Parameters
    ----------
    name : str or Path
        Name on the Hugging Face hub, a local folder, or ``"lmri-demo"`` for the model that comes with the package.
    dtype : str, default="float32"
        Checkpoints are often stored as bfloat16; asked for by default is float32, and what was asked for is recorded.
    device : str, default="cpu"
        Such as ``"cuda"``.
    revision : str, optional
        Branch, tag or commit on the hub.
    trust_remote_code : bool, default=False
        Run model code that comes with the weights.

    Returns
    -------
    model : PreTrainedModel
        In evaluation mode, of the class that the checkpoint names.
    tokenizer : PreTrainedTokenizer
        Its tokenizer.

    Raises
    ------
    ValueError
        If there is no such model, or its weights are not stored as safetensors.
    """
    try:
        torch.device(device)
    except RuntimeError:
        raise ValueError(f"device is {device!r}; accepted are 'cpu', 'cuda' and 'cuda:1' and the like.") from None
    if str(name).startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise ValueError(f"There is no folder {str(name)!r}. Check the path of the model.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}, but PyTorch finds no CUDA device here. Use device='cpu'.")
    source = (
        str(_EMBEDDED_FOLDER)
        if str(name) == EMBEDDED
        else str(Path(name).expanduser())
        if Path(name).expanduser().is_dir()
        else str(name)
    )
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; accepted are {', '.join(map(repr, DTYPES))}.")
    common: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        with quiet():
            config = AutoConfig.from_pretrained(source, **common)
            tokenizer = AutoTokenizer.from_pretrained(source, **common)
            model = _model_class(config, trust_remote_code).from_pretrained(
                source, dtype=getattr(torch, dtype), use_safetensors=True, **common
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ValueError(
            f"The model {str(name)!r} could not be loaded: {error} "
            "Give a name on the Hugging Face hub, or a folder with config.json, model.safetensors and a tokenizer."
        ) from error
    model.to(device).eval()
    if str(name) == EMBEDDED:
        model.config._name_or_path = EMBEDDED
    return model, tokenizer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars; a library does not print."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def _model_class(config: Any, trust_remote_code: bool) -> Any:
    for architecture in getattr(config, "architectures", None) or []:
        if hasattr(transformers, architecture):
            return getattr(transformers, architecture)
    if not trust_remote_code:
        logger.info("%s names no known architecture; it is loaded as a causal language model", config.model_type)
    return AutoModelForCausalLM


def describe_model(model: PreTrainedModel) -> ModelInfo:
    """Say which weights these are."""
    path = str(getattr(model.config, "_name_or_path", "") or "") or f"unnamed-{model.config.model_type}"
    # A local folder would put an absolute path into files that are to be the same on every machine.
    identity = Path(path).resolve().name if _is_folder(path) else path
    return ModelInfo(
        id=identity,
        revision=getattr(model.config, "_commit_hash", None),
        fingerprint=fingerprint(model),
        model_type=str(model.config.model_type),
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
    )


def location(model: PreTrainedModel) -> str:
    """Where the model was loaded from: a hub name, or an absolute path."""
    path = str(getattr(model.config, "_name_or_path", "") or "")
    return str(Path(path).resolve()) if _is_folder(path) else path


def _is_folder(path: str) -> bool:
    # The embedded model's name is also the default name of the demo's study.
    return path != EMBEDDED and Path(path).is_dir()


def fingerprint(model: PreTrainedModel, head: bool = False) -> str:
    """Hash the weights: names, shapes and every byte of every tensor.

    Parameters
    ----------
    model : PreTrainedModel
        Any.
    head : bool, default=False
        Hash the head too. Without it a language model and a classifier on the same body agree.
    """
    state = (model if head else model.base_model).state_dict()
    tensors = [(name, tensor) for name, tensor in sorted(state.items()) if not tensor.is_meta]
    # Reading all weights takes seconds for a large model, and an intervention asks each time it is applied.
    key = (head, _glance(tensors))
    known = _FINGERPRINTS.setdefault(model, {})
    if key not in known:
        digest = hashlib.sha256()
        for name, tensor in tensors:
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        known[key] = digest.hexdigest()[:16]
    return known[key]


_FINGERPRINTS: weakref.WeakKeyDictionary[torch.nn.Module, dict[tuple[bool, str], str]] = weakref.WeakKeyDictionary()


def _glance(tensors: list[tuple[str, torch.Tensor]]) -> str:
    """Tell whether weights have changed since they were hashed: by their versions, and 512 values of each."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        flat = tensor.detach().reshape(-1)
        # A prime stride, so that the sample does not run along one column.
        places = torch.arange(min(512, flat.numel()), device=flat.device) * 7919 % max(1, flat.numel())
        digest.update(f"{name}{tuple(tensor.shape)}{tensor._version}".encode())
        digest.update(flat[places].double().cpu().numpy().tobytes())
    return digest.hexdigest()


def reader(model: PreTrainedModel) -> torch.nn.Module:
    """Give the part of the model that reads text: the base model without a head, or the encoder."""
    if getattr(model.config, "is_encoder_decoder", False):
        return model.get_encoder()
    return model.base_model


def read(part: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Let `part`, as `reader` gives it, read a batch; give its last hidden states."""
    # Decoders would keep keys and values of every layer for a next token that never comes.
    cache = {"use_cache": False} if "use_cache" in inspect.signature(part.forward).parameters else {}
    return part(input_ids=ids, attention_mask=mask, **cache)[0]


@contextlib.contextmanager
def altered(model: PreTrainedModel, how: str) -> Iterator[None]:
    """Remember, while the body runs, that a model does not behave as its weights say."""
    stack = _ALTERED.setdefault(model, [])
    stack.append(how)
    try:
        yield
    finally:
        stack.remove(how)


def alterations(model: PreTrainedModel) -> list[str]:
    """List how a model is altered now; empty if it is intact."""
    return list(_ALTERED.get(model, []))


_ALTERED: weakref.WeakKeyDictionary[torch.nn.Module, list[str]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Switch dropout off and gradients, and restore each module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@dataclass(frozen=True)
class Encoding:
    """A text as the model reads it.

    Parameters
    ----------
    ids : list of int
        Token ids, special tokens included as the tokenizer adds them.
    tokens : list of str
        The part of the text that each stands for, or its name if it stands for none.
    spans : list of tuple of int
        First character and the one behind the last; byte-level tokenizers give several tokens of one emoji the same
        span. ``(-1, -1)`` if the tokenizer cannot tell.
    special : list of bool
        Whether it is a special token.
    n_cut : int
        Tokens beyond the model's context, cut from the end of the text.
    """

    ids: list[int]
    tokens: list[str]
    spans: list[tuple[int, int]]
    special: list[bool]
    n_cut: int


def context_length(model: PreTrainedModel, tokenizer: Any) -> int | None:
    """Longest text that the model can read, in tokens; None if it has no limit."""
    config = model.config.get_text_config()
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len")]
    limits.append(getattr(tokenizer, "model_max_length", None))
    places: Any = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    if getattr(places, "padding_idx", None) is not None:
        # RoBERTa and its kin count positions from behind that of the pad, so the last of them are missing.
        limits.append(places.num_embeddings - places.padding_idx - 1)
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < _UNBOUNDED]
    return min(known) if known else None


def encode(model: PreTrainedModel, tokenizer: Any, text: str, max_tokens: int | None = None) -> Encoding:
    """Tokenize one text as ``tokenizer(text)`` does, and cut it at the context.

    Parameters
    ----------
    model : PreTrainedModel
        Gives the context length.
    tokenizer : PreTrainedTokenizer
        Its tokenizer; none of pad, bos and eos is needed.
    text : str
        Any text.
    max_tokens : int, optional
        Cut earlier.

    Raises
    ------
    ValueError
        If the tokenizer knows tokens that the model does not.
    """
    limits = [limit for limit in (context_length(model, tokenizer), max_tokens) if limit]
    fast = bool(getattr(tokenizer, "is_fast", False))
    options = {"return_offsets_mapping": fast, "return_attention_mask": False, "verbose": False}
    encoded = tokenizer(text, **options)
    n_cut = max(0, len(encoded["input_ids"]) - min(limits)) if limits else 0
    if n_cut:
        encoded = tokenizer(text, truncation=True, max_length=min(limits), **options)
    ids = [int(token) for token in encoded["input_ids"]]
    n_known = model.get_input_embeddings().weight.shape[0]
    if ids and max(ids) >= n_known:
        raise ValueError(
            f"The tokenizer gave the token id {max(ids)}, but the model knows {n_known} tokens. "
            "Load the tokenizer that belongs to the model."
        )
    names = tokenizer.convert_ids_to_tokens(ids)
    spans = [(int(start), int(end)) for start, end in encoded["offset_mapping"]] if fast else [(-1, -1)] * len(ids)
    tokens = [
        text[start:end] if 0 <= start < end else str(name) for (start, end), name in zip(spans, names, strict=True)
    ]
    special = _special_ids(tokenizer)
    return Encoding(ids, tokens, spans, [token in special for token in ids], n_cut)


def _special_ids(tokenizer: Any) -> set[int]:
    # A token for unknown words stands for a word of the text, unless it is bos or eos at once, as in GPT-2.
    roles = ("bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "pad_token_id", "mask_token_id")
    markers: set[Any] = {getattr(tokenizer, role, None) for role in roles} - {None}
    others: set[Any] = set(tokenizer.all_special_ids) - {getattr(tokenizer, "unk_token_id", None)}
    return {int(token) for token in others | markers}


def hashes(texts: list[str]) -> frozenset[str]:
    """Fingerprints of texts, by which fitted and tested ones are kept apart."""
    return frozenset(text_hash(text) for text in texts)


def bucket(lengths: list[int], batch_size: int, waste: float = math.inf) -> list[list[int]]:
    """Plan batches of texts of like length, before the first forward pass.

    Parameters
    ----------
    lengths : list of int
        Of each text, in tokens.
    batch_size : int
        Texts in a batch, at most.
    waste : float, default=inf
        Pads in a batch for each of its tokens, at most: a short text read beside a long one costs as much as that one.

    Examples
    --------
    >>> bucket([5, 90, 6, 80], batch_size=2)
    [[0, 2], [3, 1]]
    >>> bucket([5, 90, 6, 80], batch_size=3, waste=0.25)
    [[0, 2], [3, 1]]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    batches: list[list[int]] = []
    n_tokens = 0
    for text in sorted(range(len(lengths)), key=lambda text: lengths[text]):
        last = batches[-1] if batches else []
        # The text is the longest so far, so all are padded to its length.
        n_pads = lengths[text] * (len(last) + 1) - n_tokens - lengths[text]
        if not last or len(last) == batch_size or n_pads > waste * (n_tokens + lengths[text]):
            batches.append([])
            n_tokens = 0
        batches[-1].append(text)
        n_tokens += lengths[text]
    return batches


def right_pad(rows: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right, where causal attention never looks from a real token.

    Returns
    -------
    input_ids, attention_mask : Tensor of shape (n_texts, longest)
        Pads have id 0, which any vocabulary has, and mask 0. As many texts as tokens get a pad more, so that a layer
        which runs tokens first can be told from one that runs texts first.
    """
    longest = max(len(row) for row in rows)
    longest += len(rows) == longest > 1
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[place, : len(row)] = 1
    return ids.to(device), mask.to(device)


def input_device(model: PreTrainedModel) -> torch.device:
    """Where token ids have to be."""
    return model.get_input_embeddings().weight.device
