"""Checks of a model: sites, recordings, lesions, causality, special tokens, identity and device."""

import itertools
import tempfile
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from lmri.exceptions import LMRIWarning, ModelStateError
from lmri.lesions.interventions import lesion
from lmri.lesions.tasks import Perplexity
from lmri.models import context_length, encode, evaluation_mode, fingerprint, look_closely, prompt_ids
from lmri.models.batching import tolerance
from lmri.models.device_check import NOT_DONE as DEVICE_NOT_DONE
from lmri.models.device_check import check_device, devices_of
from lmri.models.recorder import record
from lmri.models.runtime_state import check_runtime_state
from lmri.models.sites import find_sites
from lmri.models.sites.bypass import check_bypass
from lmri.models.sites.checking import probe
from lmri.networks import Network
from lmri.space import NeuronSpace
from lmri.space.layers import is_input
from lmri.verification.oracles import hidden_and_logits, zeroed_neuron
from lmri.verification.result import FAILED, NOT_APPLICABLE, NOT_DONE, PASSED

SITES = ("mlp_out", "mlp_hidden")

Outcome = tuple[str, str]
"""Status and detail of a check."""


@dataclass
class Subject:
    """Model under test, with the texts that it reads.

    Parameters
    ----------
    model, tokenizer
        Model and tokenizer.
    texts : list of str
        Texts of different lengths.
    site : str
        Site of the recordings and lesions.
    projection : str, optional
        Path of the projection within a block, if it is not detected automatically.
    """

    model: PreTrainedModel
    tokenizer: Any
    texts: list[str]
    site: str = "mlp_out"
    projection: str | None = None
    spaces: dict[str, NeuronSpace] = field(default_factory=dict)
    first_output: np.ndarray | None = field(default=None, repr=False)
    """Output for the long text before the first check."""

    @property
    def space(self) -> NeuronSpace:
        """Space of the tested site."""
        if self.site not in self.spaces:
            self.spaces[self.site] = find_sites(self.model, self.site, projection=self.projection)
        return self.spaces[self.site]

    @cached_property
    def rows(self) -> list[list[int]]:
        """Token ids of every text, as the recorder reads them."""
        return [encode(self.model, self.tokenizer, text).ids for text in self.texts]

    @cached_property
    def long_row(self) -> list[int]:
        """Token ids of all texts in one, up to the context or 1,024 tokens."""
        limit = min(context_length(self.model, self.tokenizer) or 1024, 1024)
        cycle = itertools.cycle(list(itertools.chain.from_iterable(self.rows)))
        return list(itertools.islice(cycle, limit))

    @property
    def is_simple(self) -> bool:
        """Whether every layer of the site is a module that is called once per forward pass of one stack."""
        layers = self.space.layers
        return not self.model.config.is_encoder_decoder and all(
            layer.call is None and layer.expert is None for layer in layers
        )


def undisturbed(subject: Subject) -> Outcome:
    """Check that nothing in the calling program changes the model: autocast, hooks, replaced methods, dropout."""
    check_runtime_state(subject.model)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), evaluation_mode(subject.model):
            pass
    except ModelStateError:
        return PASSED, ""
    return FAILED, "a measurement under autocast is not refused"


def site_found(subject: Subject) -> Outcome:
    """Check that the site is in every layer of the text model."""
    space, config = subject.space, subject.model.config.get_text_config()
    n_blocks = len(set(space.blocks))
    declared = getattr(config, "num_hidden_layers", None)
    if subject.model.config.is_encoder_decoder:
        declared = getattr(config, "encoder_layers", declared)
    modules = list(dict.fromkeys(layer.module for layer in space.layers))
    detail = f"{space.describe()}; first module {modules[0]!r}, last {modules[-1]!r}"
    if isinstance(declared, int) and declared != n_blocks:
        return FAILED, f"{detail}; but the configuration declares {declared} layers"
    width = getattr(config, "hidden_size", None)
    if not is_input(space.site) and any(layer.width != width for layer in space.layers):
        return FAILED, f"{detail}; but the configuration declares a hidden size of {width}"
    return PASSED, detail


def nothing_bypasses(subject: Subject) -> Outcome:
    """Check that all that a layer adds passes through the modules of the site, and no adapter bypasses them."""
    if subject.projection is not None:
        return NOT_APPLICABLE, "the projection was named"
    with evaluation_mode(subject.model):
        check_bypass(subject.model, subject.space, lambda: probe(subject.model, "encoder"))
    return PASSED, ""


def recording_is_right(subject: Subject, batch_size: int) -> Outcome:
    """Compare a recording with plain hooks on each text alone."""
    if not subject.is_simple:
        return NOT_DONE, "layers are experts, shared, or in two stacks, which plain hooks do not separate"
    space = subject.space
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", LMRIWarning)
        recording = record(
            subject.model,
            subject.tokenizer,
            subject.texts,
            folder,
            site=subject.site,
            projection=subject.projection,
            test_fraction=0.0,
            batch_size=batch_size,
        )
        values = np.concatenate(list(recording.arrays()))
        tokens = recording.tokens
    expected = []
    for table in tokens:
        for _, text in table.groupby("text_id", sort=False):
            activations, _ = hidden_and_logits(subject.model, space, [int(token) for token in text["token_id"]])
            expected.append(activations[text["volume"].notna().to_numpy()])
    reference = np.concatenate(expected)
    if reference.shape != values.shape:
        return FAILED, f"recorded {values.shape}, expected {reference.shape} volumes and neurons"
    return _compared(values, reference, tolerance(subject.model), f"{len(values):,} volumes")


def _compared(values: np.ndarray, reference: np.ndarray, allowed: float, what: str) -> Outcome:
    size = float(np.sqrt(np.mean(np.square(reference, dtype=np.float64)))) or 1.0
    errors = np.sqrt(np.mean(np.square(values.astype(np.float64) - reference), axis=-1)) / size
    largest = float(np.max(errors, initial=0.0))
    detail = f"largest relative difference {largest:.2g} of {what}; rounding explains {allowed:.2g}"
    return (PASSED if largest <= allowed else FAILED), detail


def recorded_alone(subject: Subject) -> Outcome:
    """Check that a recording of single texts equals plain hooks."""
    return recording_is_right(subject, 1)


def recorded_in_batches(subject: Subject) -> Outcome:
    """Check that a recording in batches equals each text read alone."""
    return recording_is_right(subject, 8)


def lesion_is_zeroing(subject: Subject) -> Outcome:
    """Check that a lesion by hooks equals zeroed weights, and changes the output."""
    if not subject.is_simple:
        return NOT_DONE, "layers are experts, shared, or in two stacks"
    model, space, row = subject.model, subject.space, subject.rows[0]
    activations, intact = hidden_and_logits(model, space, row)
    largest, n_checked, n_changed = 0.0, 0, 0
    for z in sorted({0, space.n_layers // 2, space.n_layers - 1}):
        first, last = int(space.offsets[z]), int(space.offsets[z + 1])
        neuron = int(np.abs(activations[:, first:last]).max(axis=0).argmax())
        network = Network.from_members(space, np.arange(space.n_neurons) == first + neuron, "check")
        with lesion(network).on(model):
            lesioned = hidden_and_logits(model, None, row)[1]
        n_changed += int(not np.array_equal(lesioned, intact))
        with zeroed_neuron(model, space, z, neuron) as edited:
            if edited:
                expected = hidden_and_logits(model, None, row)[1]
                scale = np.abs(expected).max() or 1.0
                largest = max(largest, float(np.abs(lesioned - expected).max() / scale))
                n_checked += 1
    if n_changed < len({0, space.n_layers // 2, space.n_layers - 1}):
        return FAILED, "silencing the most active neuron of a layer does not change the output"
    if not n_checked:
        return NOT_DONE, "the weights cannot be edited (quantized, adapted or offloaded)"
    allowed = tolerance(model)
    detail = f"largest relative difference of the output {largest:.2g} ({n_checked} layers; allowed {allowed:.2g})"
    return (PASSED if largest <= allowed else FAILED), detail


def restored(subject: Subject) -> Outcome:
    """Check that searching and recording leave the output of a long text unchanged, bit for bit."""
    model, row = subject.model, subject.long_row
    before = output_for_long_text(subject) if subject.first_output is None else subject.first_output
    find_sites(model, subject.site, projection=subject.projection)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", LMRIWarning)
        record(
            model, subject.tokenizer, subject.texts[:2], folder, site=subject.site, projection=subject.projection,
            test_fraction=0.0,
        )  # fmt: skip
    after = output_for_long_text(subject)
    if np.array_equal(before, after, equal_nan=True):
        return PASSED, f"{len(row)} tokens"
    return FAILED, f"the output at {len(row)} tokens differs by {float(np.nanmax(np.abs(before - after))):.2g}"


def output_for_long_text(subject: Subject) -> np.ndarray:
    """Run the long text as a program without lmri would."""
    return hidden_and_logits(subject.model, None, subject.long_row)[1]


def likelihoods_are_causal(subject: Subject) -> Outcome:
    """Check that likelihoods are computed only by a model that does not see later tokens."""
    model = subject.model
    dependence = _dependence_on_later_tokens(subject)
    if dependence is None:
        return NOT_APPLICABLE, "the model predicts no tokens from left to right"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LMRIWarning)
        try:
            Perplexity(subject.texts).score(model, subject.tokenizer)
        except (TypeError, ValueError) as error:
            refused = str(error)
        else:
            refused = ""
    allowed = tolerance(model)
    if dependence <= allowed:
        return (FAILED, f"a causal model is refused: {refused}") if refused else (PASSED, "the model is causal")
    if refused:
        return PASSED, f"the model sees later tokens (relative difference {dependence:.2g}); likelihoods are refused"
    return FAILED, f"later tokens change predictions by {dependence:.2g} (relative), but likelihoods are computed"


def _dependence_on_later_tokens(subject: Subject) -> float | None:
    """Measure how much other tokens after several cuts change the predictions before the cut; None without logits."""
    model = subject.model
    if model.config.is_encoder_decoder or model.get_output_embeddings() is None:
        return None
    largest = 0.0
    plain = sorted({token for row in subject.rows for token in row})
    for length in sorted({min(24, len(subject.long_row)), min(160, len(subject.long_row))}):
        row = subject.long_row[:length]
        _, logits = hidden_and_logits(model, None, row)
        if logits.ndim != 2 or len(logits) != length:
            return None
        for cut in sorted({2, length // 3, length // 2, length - 1}):
            other = [*row[:cut], *(plain[(plain.index(token) + 1) % len(plain)] for token in row[cut:])]
            _, changed = hidden_and_logits(model, None, other)
            difference = np.abs(changed[:cut] - logits[:cut]).max() / (np.abs(logits).max() or 1.0)
            largest = max(largest, float(difference))
    return largest


def special_tokens(subject: Subject) -> Outcome:
    """Check that no special token is added twice, and that prompts do not end in one that the tokenizer adds."""
    tokenizer, text = subject.tokenizer, subject.texts[0]
    plain = subject.rows[0]
    names = []
    for role in ("bos", "eos", "cls", "sep"):
        token, number = getattr(tokenizer, f"{role}_token", None), getattr(tokenizer, f"{role}_token_id", None)
        if token is None or number is None:
            continue
        names.append(f"{role} {token!r}")
        given = f"{token}{text}" if role in ("bos", "cls") else f"{text}{token}"
        n_once, n_given = plain.count(number), encode(subject.model, tokenizer, given).ids.count(number)
        if n_once and n_given > n_once:
            return FAILED, f"{token!r} is read {n_given} times in a text that contains it once"
    prompt, added = prompt_ids(tokenizer, text), tokenizer(text)["input_ids"]
    bare = tokenizer(text, add_special_tokens=False)["input_ids"]
    if bare and list(added)[-1:] != list(bare)[-1:] and prompt[-1:] == list(added)[-1:]:
        return FAILED, f"a prompt ends in {tokenizer.convert_ids_to_tokens(int(prompt[-1]))!r}, which was added"
    return PASSED, ", ".join(dict.fromkeys(names)) or "none"


def identified(subject: Subject) -> Outcome:
    """Check that the fingerprint changes with the weights and with the active adapters."""
    model = subject.model
    before = fingerprint(model)
    weight = next(
        (
            values
            for values in model.base_model.parameters()
            if values.is_floating_point() and not values.is_meta and type(values.data) is torch.Tensor
        ),
        None,
    )
    if weight is not None:
        flat = weight.data.reshape(-1)
        saved = flat[0].clone()
        try:
            flat[0] = saved + 1
            look_closely(model)
            changed = fingerprint(model)
        finally:
            flat[0] = saved
        look_closely(model)
        if changed == before or fingerprint(model) != before:
            return FAILED, "a changed weight does not change the fingerprint, or its restoration does not restore it"
    if adapters := _adapters(model):
        for module in adapters:
            module.enable_adapters(enabled=False)
        try:
            look_closely(model)
            off = fingerprint(model)
        finally:
            for module in adapters:
                module.enable_adapters(enabled=True)
        look_closely(model)
        if off == before:
            return FAILED, "the fingerprint does not depend on whether the adapter is active"
        return PASSED, f"{before}; {len(adapters)} modules with an adapter"
    return PASSED, before


def _adapters(model: PreTrainedModel) -> list[Any]:
    """List the modules whose adapters peft can switch off, if they are active."""
    return [
        module
        for module in model.modules()
        if callable(getattr(module, "enable_adapters", None))
        and getattr(module, "disable_adapters", None) is False
        and not isinstance(module, PreTrainedModel)
    ]


def device_agrees(subject: Subject) -> Outcome:
    """Check that the device computes the same values as the CPU."""
    if devices_of(subject.model) <= {"cpu", "meta"}:
        return NOT_APPLICABLE, "the model is on the CPU"
    result = check_device(subject.model, subject.rows[0])
    return (NOT_DONE if result.startswith(DEVICE_NOT_DONE) else PASSED), result
