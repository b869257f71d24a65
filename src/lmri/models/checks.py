"""Checks for silent errors of a recording: random weights, a wrong tokenizer, bypassed hooks."""

import re
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from transformers import PreTrainedModel

from lmri.exceptions import DataWarning, SiteError
from lmri.models.adapters import is_merged

MOST_UNKNOWN = 0.05
"""Fraction of unknown tokens in a corpus above which a warning is issued."""

_PADDED_TO = 128
_UNUSED = 0.05


def check_readable(model: torch.nn.Module) -> None:
    """Raise `SiteError` if hooks of a model can be bypassed, so that they do not see or change the computation.

    Parameters
    ----------
    model : Module
        Model; compiled, scripted and replicated models are refused.
    """
    for path, module in model.named_modules():
        name = f"module {path!r}" if path else "model"
        forward = getattr(module, "forward", None)
        if (
            "_orig_mod" in module._modules
            or getattr(module, "_compiled_call_impl", None) is not None
            or hasattr(forward, "_torchdynamo_orig_callable")
        ):
            raise SiteError(
                f"The {name} is compiled (torch.compile). Compiled code ignores hooks that are registered later: a "
                "recording could be empty, and a lesion without effect, with no warning. Use the original model, "
                "compiled._orig_mod, or load it again without compiling it."
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise SiteError(
                f"The {name} is a TorchScript module, in which hooks are not called. Load the model with "
                "lmri.load_model instead."
            )
        if getattr(module, "disable_adapters", None) is True and is_merged(module):
            raise SiteError(
                f"The {name} has a merged adapter that is disabled: the next forward pass would change its weights. "
                "Call model.unmerge_adapter() first, or enable the adapter."
            )
        if isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            raise SiteError(
                f"The {name} is wrapped in {type(module).__name__}, which runs replicas in parallel: their activations "
                "would arrive in arbitrary order. Use the wrapped model: model.module."
            )


def check_weights(model: PreTrainedModel, loading_info: dict[str, Any], name: str) -> None:
    """Check the loading information of transformers for random and unused weights.

    Parameters
    ----------
    model : PreTrainedModel
        Loaded model.
    loading_info : dict
        Missing, mismatched and unexpected keys.
    name : str
        Name of the model, for messages.

    Raises
    ------
    ValueError
        If weights of the body are missing in the checkpoint and therefore random.
    """
    mismatched = [key for key, *_ in loading_info.get("mismatched_keys", [])]
    missing = sorted({*loading_info.get("missing_keys", []), *mismatched})
    body = [key for key in missing if _is_in_body(model, key)]
    if body:
        raise ValueError(
            f"The checkpoint {name!r} lacks values for {len(body)} weights of the body of a {type(model).__name__}: "
            f"{_listed(body)}. They would be random. Check that config.json belongs to these weights, and that the "
            "weights are complete."
        )
    if missing:
        warnings.warn(
            f"The checkpoint {name!r} lacks values for {_listed(missing)}, so these weights are random. The body is "
            "complete and can be recorded, but predictions of the head are meaningless until it is trained (lmri "
            "finetune).",
            DataWarning,
            stacklevel=3,
        )
    # Checkpoints of a body without head, such as GPT-2 on the hub, lack the prefix of a model with a head.
    prefix = f"{model.base_model_prefix}."
    known = {_numberless(key).removeprefix(prefix) for key, _ in model.named_parameters()}
    unexpected = loading_info.get("unexpected_keys", [])
    beyond = sorted(key for key in unexpected if _numberless(key).removeprefix(prefix) in known)
    if beyond:
        warnings.warn(
            f"The checkpoint {name!r} has more layers or experts than config.json declares: {_listed(beyond)} and "
            "similar weights were ignored. Check config.json, unless the model is truncated on purpose.",
            DataWarning,
            stacklevel=3,
        )


def check_tokenizer(model: PreTrainedModel, tokenizer: Any, name: str) -> None:
    """Warn if a tokenizer has more tokens than the model, or far fewer, so that it may belong to another model.

    Embeddings are often padded, to a multiple of 64 or 128 or by some hundred rows: Qwen2.5 uses 151,665 of 152,064
    rows, and Phi-2 50,295 of 51,200 (1.8 %). More than 5 % of unused rows, beyond the next multiple of 128, are not
    padding. The check cannot distinguish two vocabularies of the same size.
    """
    n_rows = int(model.get_input_embeddings().weight.shape[0])
    vocabulary = tokenizer.get_vocab()
    if not vocabulary:
        raise ValueError(
            f"The tokenizer of {name!r} has an empty vocabulary: its files are missing. Use a folder with a tokenizer."
        )
    n_ids = max(vocabulary.values()) + 1
    beyond = sorted(token for token, number in vocabulary.items() if number >= n_rows)
    if beyond:
        warnings.warn(
            f"The tokenizer of {name!r} has {len(beyond)} tokens beyond the {n_rows:,} tokens of the model: "
            f"{_listed(beyond)}. Texts with these tokens will be refused. Check that the tokenizer belongs to the "
            "model.",
            DataWarning,
            stacklevel=3,
        )
    unused = n_rows - n_ids
    if n_rows > -(-n_ids // _PADDED_TO) * _PADDED_TO and unused > _UNUSED * n_rows:
        warnings.warn(
            f"The model {name!r} has {n_rows:,} tokens, but its tokenizer only {n_ids:,}: padding does not explain the "
            "difference. Check that the tokenizer belongs to the model; a wrong tokenizer yields meaningless input.",
            DataWarning,
            stacklevel=3,
        )


def warn_of_unknown(tokenizer: Any, texts: Iterable[Iterable[int]], corpus: str) -> float:
    """Warn if more than 5 % of the tokens of a corpus are unknown tokens.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizer
        Tokenizer; a token for unknown words that also begins or ends texts, as in GPT-2, is not counted.
    texts : iterable of iterable of int
        Token ids of each text.
    corpus : str
        Name of the texts, for the message.

    Returns
    -------
    float
        Fraction of unknown tokens.
    """
    unknown = unknown_id(tokenizer)
    if unknown is None:
        return 0.0
    counts = [(len(ids), ids.count(unknown)) for ids in map(list, texts)]
    return warn_of_unknown_share(tokenizer, sum(n for n, _ in counts), sum(n for _, n in counts), corpus)


def unknown_id(tokenizer: Any) -> int | None:
    """Return the id of the token for unknown words; None if it does not exist or also begins or ends texts."""
    unknown = tokenizer.unk_token_id
    return None if unknown in (None, tokenizer.bos_token_id, tokenizer.eos_token_id) else int(unknown)


def warn_of_unknown_share(tokenizer: Any, n_tokens: int, n_unknown: int, corpus: str) -> float:
    """Warn like `warn_of_unknown`, from counts of tokens."""
    share = n_unknown / n_tokens if n_tokens else 0.0
    if share > MOST_UNKNOWN:
        warnings.warn(
            f"{share:.0%} of the {n_tokens:,} tokens of {corpus} are {tokenizer.unk_token}: the tokenizer does not "
            "know these words, so the model does not read your texts as written. Use texts of the language and domain "
            "of the model.",
            DataWarning,
            stacklevel=3,
        )
    return share


def _is_in_body(model: PreTrainedModel, key: str) -> bool:
    """Check whether a weight affects the hidden states, unlike a head or a pooler after the last layer."""
    if "pooler" in key.split("."):
        return False
    outputs = model.get_output_embeddings()
    if outputs is not None and any(
        key.startswith(f"{path}.") for path, part in model.named_modules() if part is outputs
    ):
        return False
    body = next((path for path, module in model.named_modules() if module is model.base_model), "")
    return not body or key.startswith(f"{body}.")


def _numberless(key: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", key)


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
