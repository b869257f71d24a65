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
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from lmri.models.checkpoints import PICKLE, check_folder, check_tokenizer_files, find_commit
from lmri.models.checks import check_readable, check_tokenizer, check_weights
from lmri.models.identity import EMBEDDED
from lmri.models.quantization import check_quantized, keep_layout, n_bits, quantization_config, quantization_of

logger = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16", "float16")

_EMBEDDED_FOLDER = Path(__file__).parents[1] / "demo" / "model"
# Of these transformers' own loaders raise one or another, for a bad name, file, shape, connection or configuration.
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
    allow_pickle : bool, default=False
        Read weights in pickle format if there are no others; such files can run any code.
    device_map : {"auto", "balanced", "balanced_low_0", "sequential"} or dict, optional
        Spread the model over devices, the CPU and a disk, as accelerate does; a dict names a device, ``"cpu"`` or
        ``"disk"`` for each module. Needs accelerate, and is given instead of `device`.
    max_memory : dict, optional
        Most memory for each device with ``device_map="auto"``, such as ``{0: "20GiB", "cpu": "60GiB"}``.
    offload_folder : str or Path, optional
        Where weights for ``"disk"`` are kept if they cannot be read from the checkpoint itself.
    quantize : {"8bit", "4bit"}, optional
        Quantize the weights, by torchao or bitsandbytes. Such a model has another fingerprint: it is another model.
    quantization : object, optional
        Any other quantization configuration of transformers, instead of `quantize`.

    Returns
    -------
    model : PreTrainedModel
        In evaluation mode, of the class that the checkpoint names.
    tokenizer : PreTrainedTokenizer
        Its tokenizer.

    Raises
    ------
    ValueError
        If there is no such model, it is not complete, its weights are not stored as safetensors, or a needed package
        is not installed.

    Warns
    -----
    DataWarning
        If the head is random, layers of the checkpoint are left out, or the tokenizer seems to be another model's.
    """
    _check_place(name, device, device_map, max_memory, offload_folder)
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; accepted are {', '.join(map(repr, DTYPES))}.")
    if quantize is not None and quantization is not None:
        raise ValueError(f"quantize is {quantize!r}, and quantization was given too. Give one of them.")
    source = _source(name, revision, allow_pickle)
    try:
        with quiet(), _no_conversion():
            commit = find_commit(source, revision)
            common: dict[str, Any] = {"revision": commit or revision, "trust_remote_code": trust_remote_code}
            config = AutoConfig.from_pretrained(source, **common)
            settings = _quantization(config, str(name), quantize, quantization, dtype)
            tokenizer = AutoTokenizer.from_pretrained(source, **common)
            check_tokenizer_files(tokenizer, source, commit)
            options = common | _placement(
                device, device_map, max_memory, offload_folder, settings or quantization_of(config)
            )
            model, found = _model_class(config, trust_remote_code).from_pretrained(
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
    check_weights(model, found, str(name))
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
    """Keep transformers from drawing progress bars; a library does not print."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


@contextlib.contextmanager
def _no_conversion() -> Iterator[None]:
    """Keep transformers from asking a service for safetensors of pickled weights, and taking them unmerged."""
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


def _check_place(name: str | Path, device: str, device_map: Any, max_memory: Any, offload_folder: Any) -> None:
    try:
        torch.device(device)
    except RuntimeError:
        raise ValueError(f"device is {device!r}; accepted are 'cpu', 'cuda' and 'cuda:1' and the like.") from None
    if str(name).startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise ValueError(f"There is no folder {str(name)!r}. Check the path of the model.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}, but PyTorch finds no CUDA device here. Use device='cpu'.")
    if device_map is None:
        for option, value in (("max_memory", max_memory), ("offload_folder", offload_folder)):
            if value is not None:
                raise ValueError(f"{option} is {value!r}, which says something only with device_map='auto' or a dict.")
        return
    if device != "cpu":
        raise ValueError(f"device is {device!r} and device_map is {device_map!r}. Give one of them.")
    maps = ("auto", "balanced", "balanced_low_0", "sequential")
    if not isinstance(device_map, dict) and device_map not in maps:
        raise ValueError(f"device_map is {device_map!r}; accepted are {', '.join(map(repr, maps))}, or a dict.")
    if importlib.util.find_spec("accelerate") is None:
        raise ValueError(f"device_map is {device_map!r}, which needs accelerate: pip install accelerate.")


def _source(name: str | Path, revision: str | None, allow_pickle: bool) -> str:
    """Give what transformers is to load: a folder that has been looked at, or a name on the hub."""
    folder = _EMBEDDED_FOLDER if str(name) == EMBEDDED else Path(name).expanduser()
    if not folder.is_dir():
        return str(name)
    if revision is not None:
        raise ValueError(
            f"revision is {revision!r}, but {str(name)!r} is a local folder, which has none. Leave it out, or give the "
            "model's name on the hub."
        )
    check_folder(folder, allow_pickle)
    return str(folder)


def _quantization(config: Any, name: str, quantize: str | None, quantization: Any, dtype: str) -> Any:
    """Give the quantization to ask for; none if the checkpoint is quantized already."""
    if quantize is None and quantization is None:
        return None
    own = quantization_of(config)
    wanted = quantization_config(quantize, dtype) if quantize is not None else quantization
    if not own:
        return wanted
    if quantize is not None and n_bits(own) == n_bits(wanted.to_dict()):
        return None
    raise ValueError(
        f"The checkpoint {name!r} is quantized already ({n_bits(own)} bits, {own.get('quant_method')}). "
        "Load it as it is."
    )


def _placement(device: str, device_map: Any, max_memory: Any, offload_folder: Any, quantized: Any) -> dict[str, Any]:
    if device_map is not None:
        place = {"device_map": device_map, "max_memory": max_memory, "offload_folder": offload_folder}
        return {option: value for option, value in place.items() if value is not None}
    # Quantized weights cannot be moved afterwards.
    return {"device_map": {"": device}} if quantized else {}


def _advice(error: Exception) -> str:
    """Say what to do about an error of transformers."""
    said = f"{error} {error.__cause__}"
    if "trust_remote_code" in said:
        return (
            "It needs Python code that comes with its weights and would run with all your rights. Read that code, and "
            "if you trust it: trust_remote_code=True (--trust-remote-code)."
        )
    if "valid git identifier" in said or "Revision Not Found" in said:
        return "Look up the branches, tags and commits of the model on the hub."
    if any(sign in said for sign in ("connect to", "offline mode", "OfflineMode", "Connection", "timed out")):
        return (
            "The hub cannot be reached, and the model is not (whole) in the local cache. Go online once to fetch it, "
            "or copy its folder here and give its path. With HF_HUB_OFFLINE=1 only the cache is asked, without waiting."
        )
    if "safetensors" in said and (
        ".bin" in said or "pytorch_model" in said or "does not appear to have a file" in said
    ):
        return PICKLE
    return "Give a name on the Hugging Face hub, or a folder with config.json, model.safetensors and a tokenizer."


def _model_class(config: Any, trust_remote_code: bool) -> Any:
    own_code: dict[str, str] = getattr(config, "auto_map", None) or {} if trust_remote_code else {}
    for architecture in getattr(config, "architectures", None) or []:
        known = getattr(transformers, architecture, None)
        if isinstance(known, type) and issubclass(known, PreTrainedModel):
            return known
        for auto, made_by in own_code.items():
            if str(made_by).endswith(f".{architecture}") and hasattr(transformers, auto):
                return getattr(transformers, auto)
    if not trust_remote_code:
        logger.info("%s names no known architecture; it is loaded as a causal language model", config.model_type)
    return transformers.AutoModelForCausalLM
