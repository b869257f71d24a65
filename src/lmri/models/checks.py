"""What could make a recording wrong without a word: random weights, another tokenizer, hooks that are bypassed."""

import re
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from transformers import PreTrainedModel

from lmri.exceptions import DataWarning, SiteError

MOST_UNKNOWN = 0.05
"""Share of unknown tokens in a corpus beyond which a warning is due."""

_PADDED_TO = 128
_UNUSED = 0.05


def check_readable(model: torch.nn.Module) -> None:
    """Raise `SiteError` if hooks of a model can be bypassed, so that what they read or change is not what runs.

    Parameters
    ----------
    model : Module
        Any; compiled, scripted and replicated ones are refused.
    """
    for path, module in model.named_modules():
        place = f"module {path!r}" if path else "model"
        forward = getattr(module, "forward", None)
        if (
            "_orig_mod" in module._modules
            or getattr(module, "_compiled_call_impl", None) is not None
            or hasattr(forward, "_torchdynamo_orig_callable")
        ):
            raise SiteError(
                f"The {place} is compiled (torch.compile). Compiled code does not look for hooks that are set later: a "
                "recording could stay empty, and a lesion could do nothing, without a word. Take the model as it was "
                "before: torch.compile(model)._orig_mod, or load it again and do not compile it."
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise SiteError(
                f"The {place} is a TorchScript module, inside which hooks are not called. Load the model with "
                "lmri.load_model instead."
            )
        if isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            raise SiteError(
                f"The {place} is wrapped in {type(module).__name__}, which runs copies side by side: their activations "
                f"would arrive in any order. Take what is inside it: model.module."
            )


def check_weights(model: PreTrainedModel, found: dict[str, Any], name: str) -> None:
    """Judge what transformers says about the weights that it loaded: random ones are not a model's.

    Parameters
    ----------
    model : PreTrainedModel
        As loaded.
    found : dict
        Its loading information: missing, mismatched and unexpected keys.
    name : str
        Of the model, for messages.

    Raises
    ------
    ValueError
        If weights of the body are missing in the checkpoint, so that they are random now.
    """
    missing = sorted({*found.get("missing_keys", []), *(key for key, *_ in found.get("mismatched_keys", []))})
    body = [key for key in missing if _is_in_body(model, key)]
    if body:
        raise ValueError(
            f"The checkpoint {name!r} holds no values for {len(body)} weights of the body of a {type(model).__name__}: "
            f"{_listed(body)}. They would be random. Check that config.json belongs to these weights, and that all of "
            "them are there."
        )
    if missing:
        warnings.warn(
            f"The checkpoint {name!r} holds no values for {_listed(missing)}, so these weights are random. The body is "
            "complete, so it can be recorded; do not believe what the head says before it is trained (lmri finetune).",
            DataWarning,
            stacklevel=3,
        )
    # Checkpoints of a bare body, as GPT-2's on the hub, leave the prefix out that a model with a head has.
    prefix = f"{model.base_model_prefix}."
    known = {_numberless(key).removeprefix(prefix) for key, _ in model.named_parameters()}
    unexpected = found.get("unexpected_keys", [])
    beyond = sorted(key for key in unexpected if _numberless(key).removeprefix(prefix) in known)
    if beyond:
        warnings.warn(
            f"The checkpoint {name!r} holds more layers, or experts, than config.json counts: {_listed(beyond)} and "
            "the like were left out. Check config.json, unless the model is meant to be cut.",
            DataWarning,
            stacklevel=3,
        )


def check_tokenizer(model: PreTrainedModel, tokenizer: Any, name: str) -> None:
    """Warn if a tokenizer knows more tokens than the model, or so many fewer that it may be another model's.

    Embeddings are often padded, to a multiple of 64 or 128 or by some hundred rows: of 152,064 rows Qwen2.5 uses
    151,665, and Phi-2 50,295 of 51,200 (1.8 %). More than 5 % of unused rows, beyond those up to a multiple of 128, are
    no padding. Two vocabularies of one size cannot be told apart by this.
    """
    n_rows = int(model.get_input_embeddings().weight.shape[0])
    vocabulary = tokenizer.get_vocab()
    if not vocabulary:
        raise ValueError(
            f"The tokenizer of {name!r} knows no token at all: its files are missing. Give a folder with a tokenizer."
        )
    n_ids = max(vocabulary.values()) + 1
    beyond = sorted(token for token, number in vocabulary.items() if number >= n_rows)
    if beyond:
        warnings.warn(
            f"The tokenizer of {name!r} knows {len(beyond)} tokens that the model does not, which has {n_rows:,}: "
            f"{_listed(beyond)}. A text that holds one of them will be refused. Check that the tokenizer belongs to "
            "the model.",
            DataWarning,
            stacklevel=3,
        )
    unused = n_rows - n_ids
    if n_rows > -(-n_ids // _PADDED_TO) * _PADDED_TO and unused > _UNUSED * n_rows:
        warnings.warn(
            f"The model {name!r} knows {n_rows:,} tokens, but its tokenizer only {n_ids:,}: more than padding "
            "explains. Check that the tokenizer belongs to the model; with another one it reads nonsense.",
            DataWarning,
            stacklevel=3,
        )


def warn_of_unknown(tokenizer: Any, texts: Iterable[Iterable[int]], corpus: str) -> float:
    """Warn if more than 5 % of the tokens of a corpus stand for what the tokenizer does not know.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizer
        Its token for unknown words is looked for; one that ends or begins texts too, as GPT-2's, never stands for them.
    texts : iterable of iterable of int
        Token ids of each text.
    corpus : str
        Name of the texts, for the message.

    Returns
    -------
    float
        Share of unknown tokens.
    """
    unknown = unknown_id(tokenizer)
    if unknown is None:
        return 0.0
    counts = [(len(own), own.count(unknown)) for own in map(list, texts)]
    return warn_of_unknown_share(tokenizer, sum(n for n, _ in counts), sum(n for _, n in counts), corpus)


def unknown_id(tokenizer: Any) -> int | None:
    """Give the id of the token for unknown words, unless it begins or ends texts too, or there is none."""
    unknown = tokenizer.unk_token_id
    return None if unknown in (None, tokenizer.bos_token_id, tokenizer.eos_token_id) else int(unknown)


def warn_of_unknown_share(tokenizer: Any, n_tokens: int, n_unknown: int, corpus: str) -> float:
    """Warn as `warn_of_unknown` does, of tokens that were counted."""
    share = n_unknown / n_tokens if n_tokens else 0.0
    if share > MOST_UNKNOWN:
        warnings.warn(
            f"{share:.0%} of the {n_tokens:,} tokens of {corpus} are {tokenizer.unk_token}: the tokenizer does not "
            "know these words, so the model reads other texts than you gave. Take texts of the language and the kind "
            "that the model was made for.",
            DataWarning,
            stacklevel=3,
        )
    return share


def _is_in_body(model: PreTrainedModel, key: str) -> bool:
    """Tell whether a weight takes part in the hidden states: a head, or a pooler behind the last layer, does not."""
    if "pooler" in key.split("."):
        return False
    outputs = model.get_output_embeddings()
    if outputs is not None and any(key.startswith(f"{path}.") for path, one in model.named_modules() if one is outputs):
        return False
    body = next((path for path, module in model.named_modules() if module is model.base_model), "")
    return not body or key.startswith(f"{body}.")


def _numberless(key: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", key)


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
