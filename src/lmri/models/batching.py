"""Grouping of texts into batches in which every text is read as if alone.

In some models the other texts of a batch reach a text: through the pads (FNet, ConvBERT, Nyströmformer), through the
length of the longest text (rotary embeddings with two scales), or through statistics of the batch. A numerical test
decides whether a model may read several texts at once (decision 37).
"""

import bisect
import math
import re
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from lmri.exceptions import DataWarning
from lmri.models.reading import bucket, context_length, evaluation_mode, input_device, right_pad
from lmri.models.sites.forward import forward

AT_ONCE, AT_ONCE_ELSEWHERE = {"cpu": 1024}, 16_384
"""Default number of tokens per batch: with more, activations of the width of GPT-2 exceed the caches of a CPU."""

_LENGTHS = (5, 9, 17, 31)
"""Lengths of the texts of the test, which share one batch."""

_LONGEST_TESTED = 512
"""Largest boundary on both sides of which the test reads texts; longer texts would take too long on a CPU."""

_BOUNDARY = re.compile(r"position|window|block|chunk|segment|landmark|kernel|span|context|length|stride|local|look")
_SWITCH = "original_max_position_embeddings"
"""Length beyond which rotary embeddings with two scales use the second for the whole batch."""


def batch_texts(
    model: PreTrainedModel,
    lengths: Sequence[int],
    batch_size: int,
    waste: float = math.inf,
    n_tokens: float = math.inf,
) -> list[list[int]]:
    """Group texts into batches in which the values of a text do not depend on the other texts.

    Parameters
    ----------
    model : PreTrainedModel
        Model that reads the batches, padded by `right_pad`.
    lengths : sequence of int
        Length of each text in tokens.
    batch_size, waste, n_tokens
        See `lmri.models.bucket`.

    Returns
    -------
    list of list of int
        Indices of the texts of each batch. Batches contain one text if the model lets texts affect each other, and
        never texts on both sides of the length at which the model changes its rotary embedding.

    Warns
    -----
    DataWarning
        Once per model, if its texts have to be read one at a time.
    """
    if batch_size > 1 and len(lengths) > 1 and not is_independent(model, max(lengths)):
        batch_size = 1
    switches = _switches(model)
    sides: dict[int, list[int]] = {}
    for text, length in enumerate(lengths):
        sides.setdefault(bisect.bisect_left(switches, length), []).append(text)
    batches = []
    for _, texts in sorted(sides.items()):
        for batch in bucket([lengths[text] for text in texts], batch_size, waste, n_tokens):
            batches += _keep_below([texts[index] for index in batch], lengths, switches)
    return batches


def plan_batches(model: PreTrainedModel, lengths: list[int], parameters: Mapping[str, Any]) -> list[list[int]]:
    """Plan the batches of a recording from its parameters and the device, reproducibly for later readings."""
    at_once = parameters.get("batch_tokens") or AT_ONCE.get(input_device(model).type, AT_ONCE_ELSEWHERE)
    return batch_texts(model, lengths, parameters["batch_size"], n_tokens=at_once)


def is_independent(model: PreTrainedModel, longest: int | None = None) -> bool:
    """Test whether a text in a batch gives the values that it gives alone.

    The test compares the last hidden states of texts of several lengths. The lengths are on both sides of every length
    up to 512 that the configuration names, such as a window or a block, if `longest` exceeds it.

    Parameters
    ----------
    model : PreTrainedModel
        Model.
    longest : int, optional
        Length of the longest text that will be read, in tokens; by default the context.

    Returns
    -------
    bool
        False if a value differs by more than rounding; a warning reports this once per model.
    """
    largest = largest_difference(model, longest)
    if largest <= tolerance(model):
        return True
    if model not in _REPORTED:
        _REPORTED.add(model)
        warnings.warn(
            f"{type(model).__name__} gives other values for a text when other texts are in its batch (relative "
            f"difference {largest:.2g}; rounding explains {tolerance(model):.2g}). Its texts are read one at a time, "
            "which gives the values of each text alone and takes longer.",
            DataWarning,
            stacklevel=2,
        )
    return False


def largest_difference(model: PreTrainedModel, longest: int | None = None) -> float:
    """Measure the largest `difference_in_batch` of all tests of `is_independent`; results are cached by model."""
    known = _DIFFERENCES.setdefault(model, {})
    for lengths in _tests(model, longest):
        if lengths not in known:
            known[lengths] = difference_in_batch(model, lengths)
    return max(known.values())


_DIFFERENCES: weakref.WeakKeyDictionary[torch.nn.Module, dict[tuple[int, ...], float]] = weakref.WeakKeyDictionary()
"""Differences that were measured, by the lengths of the texts."""

_REPORTED: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
"""Models whose texts are read one at a time, as a warning has reported."""


def tolerance(model: PreTrainedModel) -> float:
    """Return the largest relative difference of a hidden state that rounding explains.

    In single precision, sums of another order differ by about the precision of the format times the root of their
    length. Shorter formats are summed in single precision and rounded once per operation.
    """
    kind = next((values.dtype for values in model.parameters() if values.is_floating_point()), torch.float32)
    eps = torch.finfo(kind).eps
    if eps > torch.finfo(torch.float32).eps:
        return 8 * eps
    return 16 * eps * math.sqrt(int(getattr(model.config.get_text_config(), "hidden_size", 0) or 1024))


def difference_in_batch(model: PreTrainedModel, lengths: Sequence[int]) -> float:
    """Measure how much the last hidden states of texts in one batch differ from those of each text alone.

    Parameters
    ----------
    model : PreTrainedModel
        Model.
    lengths : sequence of int
        Number of tokens of each text.

    Returns
    -------
    float
        Largest root-mean-square difference of a token, relative to the root mean square of its text; infinite if only
        one of the two readings is finite.
    """
    rows = _rows(model, lengths)
    stacks = ["encoder", "decoder"] if getattr(model.config, "is_encoder_decoder", False) else ["encoder"]
    device = input_device(model)
    largest = 0.0
    with evaluation_mode(model):
        for stack in stacks:
            together = forward(model, *right_pad(rows, device), [stack]).float()
            for row, ids in zip(together, rows, strict=True):
                alone = forward(model, *right_pad([ids], device), [stack])[0].float()
                largest = max(largest, relative_difference(row[: len(ids)], alone, _is_routed(model)))
    return largest


def relative_difference(values: torch.Tensor, reference: torch.Tensor, typical: bool = False) -> float:
    """Return the root-mean-square difference of a token, relative to the root mean square of all tokens.

    Parameters
    ----------
    values, reference : Tensor of shape (n_tokens, width)
        Hidden states.
    typical : bool, default=False
        Whether to return the median over tokens instead of the maximum.

    Returns
    -------
    float
        Relative difference; infinite if a value is finite in only one of the two.
    """
    if not torch.equal(values.isfinite(), reference.isfinite()):
        return math.inf
    errors = (values - reference).nan_to_num().square().mean(-1).sqrt()
    error = errors.median() if typical else errors.max()
    size = reference.nan_to_num().square().mean().sqrt()
    return float(error / size) if error > 0 else 0.0


def _is_routed(model: PreTrainedModel) -> bool:
    """Check for experts in half precision, where rounding alone routes single tokens to other experts."""
    is_half = any(values.dtype in (torch.float16, torch.bfloat16) for values in model.parameters())
    return is_half and any("expert" in path for path, _ in model.named_modules())


def _tests(model: PreTrainedModel, longest: int | None) -> Iterator[tuple[int, ...]]:
    """Iterate over the lengths of the texts of each test, which are on one side of every switch."""
    limit = min(context_length(model, None) or 2 * _LONGEST_TESTED, 2 * _LONGEST_TESTED)
    named = {value for _, value in _named_lengths(model.config)}
    switches = _switches(model)
    pairs = [
        (max(2, value - 1), value + 2)
        for value in sorted(named - set(switches))
        if 2 < value <= _LONGEST_TESTED and value + 2 <= min(limit, longest or limit)
    ]
    for lengths in ({min(length, limit) for length in _LENGTHS}, *({value, value + 1} for value in switches), *pairs):
        for side in _by_side(sorted(lengths), switches):
            if max(side) <= min(limit, 2 * _LONGEST_TESTED):
                yield tuple(side)


def _switches(model: PreTrainedModel) -> list[int]:
    """Return the lengths at which a model changes its rotary embedding, ascending."""
    return sorted({value for name, value in _named_lengths(model.config) if name == _SWITCH})


def _by_side(lengths: Sequence[int], switches: Sequence[int]) -> list[list[int]]:
    """Group lengths by the number of switches that they exceed."""
    sides: dict[int, list[int]] = {}
    for length in lengths:
        sides.setdefault(bisect.bisect_left(switches, length), []).append(length)
    return [sides[side] for side in sorted(sides)]


def _named_lengths(config: Any) -> Iterator[tuple[str, int]]:
    """Iterate over the lengths in tokens that a configuration names, such as windows, blocks and positions."""
    values = config.get_text_config().to_dict() if hasattr(config, "get_text_config") else config
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _named_lengths(value)
        elif isinstance(value, int) and not isinstance(value, bool) and value > 1 and _BOUNDARY.search(name):
            yield name, value


def _rows(model: PreTrainedModel, lengths: Sequence[int]) -> list[list[int]]:
    """Choose token ids that differ between texts and have no special role."""
    special = {
        value
        for config in (model.config, model.config.get_text_config())
        for name, values in config.to_dict().items()
        if name.endswith(("token_id", "token_index"))
        for value in (values if isinstance(values, list) else [values])
    }
    n_vocabulary = int(model.get_input_embeddings().weight.shape[0])
    plain = [token for token in range(min(n_vocabulary, 4096)) if token not in special] or [0]
    generator = torch.Generator().manual_seed(0)
    return [
        [plain[index] for index in torch.randint(len(plain), (length,), generator=generator).tolist()]
        for length in lengths
    ]


def _keep_below(batch: list[int], lengths: Sequence[int], switches: Iterable[int]) -> list[list[int]]:
    """Split a batch whose pads would extend it beyond a switch; see `right_pad`."""
    longest = max(lengths[text] for text in batch)
    padded = right_pad([[0] * lengths[text] for text in batch], torch.device("cpu"))[0].shape[1]
    if longest in switches and padded > longest:
        return [batch[:-1], batch[-1:]]
    return [batch]
