"""Numerical test of causality: the predictions at a token may not depend on the tokens after it.

The declarations of a model are not sufficient: the language model of BERT is declared to generate text, but reads in
both directions unless `is_decoder` is set. A likelihood computed from it measures how well it copies the token.

The test replaces all tokens from one position on, the *cut*, and compares the predictions before the cut with those of
the original text. Both texts have the same length, so that every kernel adds the same terms in the same order: without
experts, the predictions of a causal model agree bit by bit. Decision 32 lists what lengths and cuts can detect.
"""

import random
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from lmri.exceptions import NonFiniteError
from lmri.models import alterations, context_length, evaluation_mode, input_device, marker_ids, quantization_of
from lmri.models.logits import logits_in_parts
from lmri.storage import digest

Row = tuple[int, ...]

SHORT, LONG = 19, 149
"""Lengths of the generated texts, in tokens: a sentence, and more than the usual sizes of blocks."""

CUTS = (1, 7, 23, 53, 97, 131)
"""Cuts of the long text. They are coprime to the usual sizes of blocks, inside of which a model may look ahead."""

_BOUNDARY = re.compile(
    r"(?!.*(layers|pattern))"
    r".*(window|chunk|block_size|original_max_position|attention_span|landmarks|local_attention)"
)
_ROLES = ("sep", "cls", "eos", "bos", "mask", "pad", "unk", "decoder_start")
_TOKEN_ID = re.compile(r"_token_(id|index)$")
_N_PADS = 5
_N_COLUMNS = 1024


def why_not_causal(model: PreTrainedModel, rows: Sequence[Sequence[int]] = (), tokenizer: Any = None) -> str:
    """Return why a model does not predict a token from the tokens before it; an empty string if it does.

    The result is cached for the model, as long as its configuration is unchanged.

    Parameters
    ----------
    model : PreTrainedModel
        Model.
    rows : sequence of sequence of int, optional
        Token ids of the texts to be predicted. The longest one is tested, in addition to generated texts.
    tokenizer : PreTrainedTokenizer, optional
        Tokenizer of the model. Its special tokens occur in the generated texts, like those of the configuration.

    Returns
    -------
    str
        One or two sentences that begin with the class of the model; for a measured dependence, its size and position.

    Raises
    ------
    NonFiniteError
        If a prediction is NaN, so that it cannot be compared.
    """
    name = type(model).__name__
    longest: Row = max((tuple(row) for row in rows), key=len, default=())
    if getattr(model.config, "is_encoder_decoder", False):
        return f"{name} is not causal: the encoder of an encoder–decoder reads a text as a whole and predicts no token."
    if model.get_output_embeddings() is None and not model.can_generate():
        return f"{name} is not causal: it has no language-model head, so it predicts no token."
    tested = _tested(model)
    if longest in tested:  # the last text of an earlier test
        return ""
    failure: Exception | None = None
    with evaluation_mode(model):
        for text in _texts(model, longest, tokenizer):
            if text.row in tested:
                continue
            try:
                measured = _measure(model, text)
            except NonFiniteError:
                raise
            except (IndexError, RuntimeError, ValueError) as error:
                if text.row == longest:
                    raise
                failure = error  # a generated text may exceed a limit that the configuration does not declare
                continue
            if measured:
                return f"{name} is not causal: {measured}"
            if not alterations(model):  # a lesion may silence the part that looks ahead
                tested.add(text.row)
    if failure is not None and not longest and not tested:
        raise failure
    return ""


# -- texts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Vocabulary:
    """Token ids of a model: their number, the special ones, and those that must not occur in a text."""

    n: int
    special: tuple[int, ...]
    barred: frozenset[int]

    def text(self, length: int, seed: int = 0) -> Row:
        """Generate a text with all tokens of a small vocabulary, in which up to one in eight tokens is special."""
        rng = random.Random(f"{length} {seed}")
        ids = rng.sample(range(self.n), min(self.n, length + len(self.barred)))
        plain = [token for token in ids if token not in self.barred][:length]
        row = [plain[index % len(plain)] for index in range(length)]
        for index, token in zip(rng.sample(range(length), length // 8), self.special, strict=False):
            row[index] = token
        return tuple(row)

    def replaced(self, row: Row, cut: int) -> Row:
        """Replace each token from `cut` on by another token; special tokens are among the old and the new ones."""
        new = self.text(len(row), seed=cut)
        return (*row[:cut], *(new[at] if new[at] != row[at] else (new[at] + 1) % self.n for at in range(cut, len(row))))


@dataclass(frozen=True)
class _Text:
    """A text to be tested, its replacements by cut, and the number of pads after it."""

    row: Row
    others: Mapping[int, Row]
    n_pads: int = 0


def _texts(model: PreTrainedModel, longest: Row, tokenizer: Any) -> Iterator[_Text]:
    vocabulary = _vocabulary(model, tokenizer)

    def text(row: Row, cuts: Sequence[int], n_pads: int = 0) -> _Text:
        valid = sorted({min(cut, len(row) - 1) for cut in (*cuts, len(row) - 1)})
        return _Text(row, {cut: vocabulary.replaced(row, cut) for cut in valid}, n_pads)

    most = max(LONG, len(longest))
    most = min(most, context_length(model, tokenizer) or most)
    long = min(LONG, most)
    bounds = _boundaries(model, most)
    # One length in every interval between boundaries.
    lengths = {min([SHORT, long, *bounds]), long, *(bound + 1 for bound in bounds)}
    for length in sorted(length for length in lengths if length > 1):
        cuts = CUTS if length == long else (1, length // 2)
        # Pads require a mask, for which models have separate code.
        yield text(vocabulary.text(length), cuts, _N_PADS if length < long else 0)
    if len(longest) > 1:
        yield text(longest, (1, len(longest) // 2))


def _boundaries(model: PreTrainedModel, most: int) -> list[int]:
    """List the numbers of tokens below `most` at which the configuration lets the computation change."""
    named = [value for name, value in _settings(_text_config(model)) if _BOUNDARY.match(name)]
    return sorted({value for value in named if isinstance(value, int) and 1 < value < most})


def _text_config(model: PreTrainedModel) -> Mapping[str, Any]:
    config: Mapping[str, Any] = model.config.get_text_config().to_dict()
    return config


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Iterate over the names and values of a configuration, nested ones included."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _settings(value)
        else:
            yield str(name), value


def _vocabulary(model: PreTrainedModel, tokenizer: Any) -> _Vocabulary:
    n = int(model.get_input_embeddings().weight.shape[0])
    declared = {**model.config.to_dict(), **_text_config(model)}
    known = {name: value for name, value in declared.items() if _TOKEN_ID.search(name)}
    roles = [known.pop(f"{role}_token_id", None) for role in _ROLES]
    special = [token for role in roles for token in (role if isinstance(role, list) else [role])]
    special += sorted(marker_ids(tokenizer)) if tokenizer is not None else []
    # The other ids are placeholders of images or sounds, which a model does not accept without them.
    barred = {value for value in known.values() if isinstance(value, int)} - set(special)
    return _Vocabulary(n, tuple(dict.fromkeys(token for token in special if token in range(n))), frozenset(barred))


# -- comparison -------------------------------------------------------------------------------------------------------


def _measure(model: PreTrainedModel, text: _Text) -> str:
    """Describe by how much predictions before a cut depend on the tokens after it; an empty string if they do not."""
    columns = {token for row in (text.row, *text.others.values()) for token in row}
    intact = _predictions(model, text.row, text.n_pads, columns)
    for cut, other in text.others.items():
        before, now = intact[:cut], _predictions(model, other, text.n_pads, columns)[:cut]
        if bool((before.isnan() | now.isnan()).all(-1).any()):
            raise NonFiniteError(
                f"The predictions of {type(model).__name__} are NaN, so that it cannot be tested whether they depend "
                "on later tokens. Load the model in float32 (--dtype float32)."
            )
        # Equal infinities are no change, as in logits of unused tokens; a single NaN or infinity is.
        same = (before == now) | (before.isnan() & now.isnan())
        change = (before - now).abs().nan_to_num(nan=torch.inf, posinf=torch.inf).masked_fill(same, 0)
        largest = float(change.max())
        allowed = _rounding(model) * float(before.abs().nan_to_num(0, 0, 0).max())
        if largest > allowed:
            return (
                f"if the tokens from position {cut} of {len(text.row)} on are replaced, its predictions at position "
                f"{int(change.amax(-1).argmax())} change by {largest:.2g} (rounding explains {allowed:.1g}). It "
                "predicts a token from those on both sides of it."
            )
    return ""


def _predictions(model: PreTrainedModel, row: Row, n_pads: int, columns: set[int]) -> torch.Tensor:
    """Return the logits of the tokens in `columns` and of a sample of the vocabulary, ``(n_tokens, n_columns)``."""
    device, n_all = input_device(model), len(row) + n_pads
    ids = torch.tensor([[*row, *[0] * n_pads]], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * n_pads], device=device)
    parts = []
    with torch.random.fork_rng():  # each pass draws the same random numbers, such as those of hashes
        for _, _, logits in logits_in_parts(model, ids, mask):
            n = logits.shape[-1]
            chosen = sorted({token for token in columns if token < n} | set(range(0, n, 1 + n // _N_COLUMNS)))
            parts.append(logits[0][..., torch.tensor(chosen, device=logits.device)])
    predictions = torch.cat(parts)
    if predictions.shape[:-1] != (n_all,):
        raise TypeError(
            f"{type(model).__name__} returned predictions of shape {tuple(predictions.shape)} for {n_all} tokens. Load "
            "a language model, which predicts one token at each of them."
        )
    return predictions[: len(row)].to(torch.promote_types(predictions.dtype, torch.float32))


def _rounding(model: PreTrainedModel) -> float:
    """Return the largest change by rounding, relative to the largest logit.

    Results are rounded to the format of the weights, and sums are accumulated in float32 or finer. Rounding differs
    between the two texts only if the number of rows of a product does, as for the tokens of an expert, or if the scale
    of a quantization depends on all tokens; the rounded scores of a router may also choose another expert.
    """
    config, quantized = _text_config(model), bool(quantization_of(model.config))
    formats = {values.dtype for values in model.parameters() if values.is_floating_point() and values.itemsize > 1}
    # Eight bits have the precision of bfloat16.
    precisions = [torch.finfo(dtype).eps for dtype in formats | ({torch.bfloat16} if quantized else set())]
    fine = min([torch.finfo(torch.float32).eps, *precisions])
    routes = any("experts" in name and isinstance(value, int) and value > 1 for name, value in _settings(config))
    width = int(getattr(model.config.get_text_config(), "hidden_size", None) or 1024)
    return (32 if routes or quantized else 2) * max([fine, *precisions]) + 16 * width**0.5 * fine


# -- state ------------------------------------------------------------------------------------------------------------


_TESTED: weakref.WeakKeyDictionary[nn.Module, tuple[str, set[Row]]] = weakref.WeakKeyDictionary()
"""Texts on which a model was causal, with the state of the model."""


def _tested(model: PreTrainedModel) -> set[Row]:
    """Return the texts on which the model was causal in its present state."""
    state = _state(model)
    if model not in _TESTED or _TESTED[model][0] != state:
        _TESTED[model] = state, set()
    return _TESTED[model][1]


def _state(model: PreTrainedModel) -> str:
    """Hash the configuration, and the switches by which other tools make a model read in both directions."""
    config = {name: str(value) for name, value in model.config.to_dict().items()}
    switches = [[path, str(part.is_causal)] for path, part in model.named_modules() if "is_causal" in vars(part)]
    return digest([id(vars(model).get("forward")), str(model.dtype), str(input_device(model)), config, switches])
