"""Loading a model and its tokenizer."""

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.quantization_config import QuantizationConfigMixin

from lmri.demo import EMBEDDED
from lmri.models.checks import check_readable, check_tokenizer, check_weights
from lmri.models.loading.checkpoints import (
    PICKLE,
    check_folder,
    check_not_adapter,
    check_tokenizer_files,
    find_commit,
)
from lmri.models.loading.quantization import check_quantized, keep_layout, n_bits, quantization_config, quantization_of

logger = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16", "float16")

_EMBEDDED_FOLDER = Path(__file__).parents[2] / "demo" / "model"
# Errors that the loaders of transformers raise for a bad name, file, shape, connection or configuration.
_ERRORS = (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError, TypeError, SafetensorError)


def load_model(
    name: str | Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    device_map: str | dict[str, Any] | None = None,
    max_memory: dict[int | str, int | str] | None = None,
    offload_folder: str | Path | None = None,
    quantize: str | None = None,
    quantization: Any = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer.

    Parameters
    ----------
    name : str or Path
        Name on the Hugging Face hub, a local folder, or ``"lmri-demo"`` for the model included in the package.
    dtype : {"float32", "bfloat16", "float16"}, default="float32"
        Data type of the weights, which is stored with a recording. Checkpoints are often stored as bfloat16, but are
        loaded as float32 by default.
    device : str, default="cpu"
        Device, such as ``"cuda"``.
    revision : str, optional
        Branch, tag or commit on the hub.
    trust_remote_code : bool, default=False
        Whether to run model code that comes with the weights.
    allow_pickle : bool, default=False
        Whether to read weights in pickle format if there are no others; such files can run any code.
    device_map : {"auto", "balanced", "balanced_low_0", "sequential"} or dict, optional
        Distribution of the model over devices, CPU memory and disk by accelerate; a dict assigns a device, ``"cpu"`` or
        ``"disk"`` to each module. Requires accelerate, and replaces `device`.
    max_memory : dict, optional
        Largest amount of memory per device with ``device_map="auto"``, such as ``{0: "20GiB", "cpu": "60GiB"}``.
    offload_folder : str or Path, optional
        Folder for weights offloaded to ``"disk"`` if they cannot be read from the checkpoint itself.
    quantize : {"8bit", "4bit"}, optional
        Quantization of the weights, by torchao (8 bits) or bitsandbytes (4 bits). A quantized model has a different
        fingerprint and counts as a different model.
    quantization : object, optional
        Another quantization configuration of transformers, instead of `quantize`.

    Returns
    -------
    model : PreTrainedModel
        Model in evaluation mode, of the class named in the checkpoint.
    tokenizer : PreTrainedTokenizer
        Tokenizer of the model.

    Raises
    ------
    ValueError
        If the model does not exist or is incomplete, its weights are not stored as safetensors, or a required package
        is not installed.

    Warns
    -----
    DataWarning
        If the head is random, layers of the checkpoint are ignored, or the tokenizer seems to belong to another model.
    """
    _check_placement(name, device, device_map, max_memory, offload_folder)
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; choose from {', '.join(map(repr, DTYPES))}.")
    if quantize is not None and quantization is not None:
        raise ValueError(f"quantize is {quantize!r}, and quantization is also set. Use only one of them.")
    source = _source(name, revision, allow_pickle)
    try:
        with quiet(), _no_conversion():
            if not Path(source).is_dir():
                check_not_adapter(source, revision)
            commit = find_commit(source, revision)
            common: dict[str, Any] = {"revision": commit or revision, "trust_remote_code": trust_remote_code}
            config = AutoConfig.from_pretrained(source, **common)
            settings = _quantization(config, str(name), quantize, quantization, dtype)
            tokenizer = AutoTokenizer.from_pretrained(source, **common)
            check_tokenizer_files(tokenizer, source, commit)
            options = common | _placement(
                device, device_map, max_memory, offload_folder, settings or quantization_of(config)
            )
            model, loading_info = _model_class(config, trust_remote_code).from_pretrained(
                source,
                dtype=getattr(torch, dtype),
                use_safetensors=None if allow_pickle else True,
                output_loading_info=True,
                **options,
                **({"quantization_config": settings} if settings else {}),
            )
    except _ERRORS as error:
        raise ValueError(f"The model {str(name)!r} could not be loaded: {error} {_advice(error)}") from error
    if settings:
        check_quantized(model, str(name))
    keep_layout(model)
    check_weights(model, loading_info, str(name))
    check_tokenizer(model, tokenizer, str(name))
    check_readable(model)
    if "device_map" not in options:
        model.to(device)
    model.eval()
    model.config._commit_hash = commit
    if str(name) == EMBEDDED:
        model.config._name_or_path = EMBEDDED
    return model, tokenizer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Disable the progress bars of transformers; a library does not print."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


@contextlib.contextmanager
def _no_conversion() -> Iterator[None]:
    """Prevent transformers from requesting unmerged safetensors of pickled weights from a conversion service."""
    variable = "DISABLE_SAFETENSORS_CONVERSION"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def _check_placement(name: str | Path, device: str, device_map: Any, max_memory: Any, offload_folder: Any) -> None:
    try:
        torch.device(device)
    except RuntimeError:
        raise ValueError(f"device is {device!r}; accepted values are 'cpu', 'cuda', 'cuda:1' and so on.") from None
    if str(name).startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise ValueError(f"The folder {str(name)!r} does not exist. Check the path of the model.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}, but PyTorch finds no CUDA device. Use device='cpu'.")
    if device_map is None:
        for option, value in (("max_memory", max_memory), ("offload_folder", offload_folder)):
            if value is not None:
                raise ValueError(
                    f"{option} is {value!r}, but used only with device_map. Set device_map='auto' or a dict."
                )
        return
    if device != "cpu":
        raise ValueError(f"device is {device!r} and device_map is {device_map!r}. Use only one of them.")
    maps = ("auto", "balanced", "balanced_low_0", "sequential")
    if not isinstance(device_map, dict) and device_map not in maps:
        raise ValueError(f"device_map is {device_map!r}; choose from {', '.join(map(repr, maps))}, or a dict.")
    if importlib.util.find_spec("accelerate") is None:
        raise ValueError(f"device_map is {device_map!r}, which needs accelerate: pip install accelerate.")


def _source(name: str | Path, revision: str | None, allow_pickle: bool) -> str:
    """Return the source for transformers: a checked folder, or a name on the hub."""
    folder = _EMBEDDED_FOLDER if str(name) == EMBEDDED else Path(name).expanduser()
    if not folder.is_dir():
        return str(name)
    if revision is not None:
        raise ValueError(
            f"revision is {revision!r}, but {str(name)!r} is a local folder without revisions. Omit revision, or use "
            "the name of the model on the hub."
        )
    check_not_adapter(str(folder))
    check_folder(folder, allow_pickle)
    return str(folder)


def _quantization(
    config: Any, name: str, quantize: str | None, quantization: Any, dtype: str
) -> QuantizationConfigMixin | None:
    """Return the quantization to apply; None if the checkpoint is already quantized."""
    if quantize is None and quantization is None:
        return None
    existing = quantization_of(config)
    requested = quantization_config(quantize, dtype) if quantize is not None else quantization
    if not existing:
        return requested
    if quantize is not None and n_bits(existing) == n_bits(requested.to_dict()):
        return None
    raise ValueError(
        f"The checkpoint {name!r} is already quantized ({n_bits(existing)} bits, {existing.get('quant_method')}). "
        "Load it without quantize (--quantize)."
    )


def _placement(device: str, device_map: Any, max_memory: Any, offload_folder: Any, quantized: Any) -> dict[str, Any]:
    if device_map is not None:
        options = {"device_map": device_map, "max_memory": max_memory, "offload_folder": offload_folder}
        return {option: value for option, value in options.items() if value is not None}
    # Quantized weights cannot be moved afterwards.
    return {"device_map": {"": device}} if quantized else {}


def _advice(error: Exception) -> str:
    """Return the next step after an error of transformers."""
    message = f"{error} {error.__cause__}"
    if "trust_remote_code" in message:
        return (
            "It requires Python code that comes with its weights and would run with your user rights. Read this code; "
            "if you trust it, set trust_remote_code=True (--trust-remote-code)."
        )
    if "valid git identifier" in message or "Revision Not Found" in message:
        return "Look up the branches, tags and commits of the model on the hub."
    if any(sign in message for sign in ("connect to", "offline mode", "OfflineMode", "Connection", "timed out")):
        return (
            "The hub cannot be reached, and the local cache does not contain the complete model. Go online once to "
            "download it, or copy its folder and use the path. HF_HUB_OFFLINE=1 searches only the cache, without delay."
        )
    if "safetensors" in message and (
        ".bin" in message or "pytorch_model" in message or "does not appear to have a file" in message
    ):
        return PICKLE
    return "Use a name on the Hugging Face hub, or a folder with config.json, model.safetensors and a tokenizer."


def _model_class(config: Any, trust_remote_code: bool) -> type[Any]:
    code: dict[str, str] = getattr(config, "auto_map", None) or {} if trust_remote_code else {}
    for architecture in getattr(config, "architectures", None) or []:
        known = getattr(transformers, architecture, None)
        if isinstance(known, type) and issubclass(known, PreTrainedModel):
            return known
        for auto, implementation in code.items():
            if str(implementation).endswith(f".{architecture}") and hasattr(transformers, auto):
                return getattr(transformers, auto)
    if not trust_remote_code:
        logger.info("%s: no known architecture in config.json; loading a causal language model", config.model_type)
    return transformers.AutoModelForCausalLM
