"""What a caller has switched on around a measurement is refused, and a measurement leaves the model as it was."""

import contextlib
import functools

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import lmri
from lmri.exceptions import ModelStateError
from lmri.models import evaluation_mode
from lmri.models.module_state import ModuleState
from lmri.models.runtime_state import check_runtime_state
from lmri.tasks import Perplexity
from tiny_models import VOCABULARY, build, randomize, remote_code, sentences, word_tokenizer

TEXTS = sentences(6, seed=1)


@pytest.fixture
def model():
    return build("llama")


def steer(module, args, output):
    """Shift one coordinate, as a hook for activation steering does."""
    first = output[0] if isinstance(output, tuple) else output
    first = first.clone()
    first[..., 0] += 5.0
    return (first, *output[1:]) if isinstance(output, tuple) else first


class Steering:
    """A callable object as hook."""

    def __call__(self, module, args, output):
        return steer(module, args, output)


@contextlib.contextmanager
def hook(module, function, before=False):
    register = module.register_forward_pre_hook if before else module.register_forward_hook
    handle = register(function)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def on_every_module():
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: None)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def replaced(owner, name, value):
    had, before = name in vars(owner), vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before) if had else delattr(owner, name)


@contextlib.contextmanager
def reduced_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def wrapped(module):
    """Wrap the class's own method, as libraries do with functools.wraps."""
    original = type(module).forward

    @functools.wraps(original)
    def forward(*args, **kwargs):
        return 1.5 * original(module, *args, **kwargs)

    return forward


DISTURBANCES = {
    "autocast": (lambda model: torch.autocast("cpu", dtype=torch.bfloat16), r"autocast is active .* dtype='bfloat16'"),
    "a hook on a block": (lambda model: hook(model.model.layers[0], steer), r"on module 'model.layers.0' \(.*steer\)"),
    "a hook on a norm": (
        lambda model: hook(model.model.layers[1].input_layernorm, lambda module, args: None, before=True),
        r"on module 'model.layers.1.input_layernorm'",
    ),
    "a hook on the model": (lambda model: hook(model, steer), "on the model "),
    "an object as hook": (lambda model: hook(model.model.norm, Steering()), r"on module 'model.norm' \(.*Steering\)"),
    "a partial as hook": (lambda model: hook(model.lm_head, functools.partial(steer)), "on module 'lm_head'"),
    "a hook on all modules": (lambda model: on_every_module(), "A hook on all modules"),
    "a replaced forward": (
        lambda model: replaced(model.model.layers[0].mlp, "forward", wrapped(model.model.layers[0].mlp)),
        "The method forward of module 'model.layers.0.mlp' was replaced",
    ),
    "a replaced method of a class": (
        lambda model: replaced(type(model.model.norm), "forward", wrapped(model.model.norm)),
        "of the class LlamaRMSNorm was replaced",
    ),
    "a module that stays in training mode": (
        lambda model: replaced(model.model.layers[0].mlp, "train", lambda mode=True: model.model.layers[0].mlp),
        "stays in training mode",
    ),
    "reduced precision": (lambda model: reduced_precision(), "precision of float32 matrix products is 'high'"),
}

MEASUREMENTS = {
    "record": lambda model, out: lmri.record(model, word_tokenizer(), TEXTS, out),
    "evaluate": lambda model, out: lmri.evaluate(model, word_tokenizer(), [Perplexity(TEXTS)], {}),
    "a task": lambda model, out: Perplexity(TEXTS).score(model, word_tokenizer()),
    "find_sites": lambda model, out: lmri.find_sites(model),
}


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_disturbed_model_is_refused_with_the_cause_and_an_undisturbed_one_is_not(model, name):
    disturb, message = DISTURBANCES[name]
    model.train()
    model.model.layers[0].mlp.training = True  # so that a module which ignores eval() stays in this mode
    with disturb(model), pytest.raises(ModelStateError, match=message):
        check_runtime_state(model)
    check_runtime_state(model)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_every_measurement_refuses_a_disturbed_model(model, measurement, tmp_path):
    with hook(model.model.layers[0], steer), pytest.raises(ModelStateError, match="hook of another program"):
        MEASUREMENTS[measurement](model, tmp_path / "disturbed")
    assert not (tmp_path / "disturbed").exists()
    MEASUREMENTS[measurement](model, tmp_path / "undisturbed")


def test_hooks_of_transformers_and_of_code_that_came_with_the_weights_are_allowed(model):
    model(torch.tensor([[5, 6]]), output_hidden_states=True)  # installs hooks that stay
    with hook(model.model.layers[0], remote_code(steer)):
        check_runtime_state(model)
    with replaced(model.model.norm, "forward", remote_code(wrapped(model.model.norm))):
        check_runtime_state(model)
    check_runtime_state(model)


def test_gradient_checkpointing_and_training_mode_change_nothing(model, tmp_path):
    plain = lmri.record(model, word_tokenizer(), TEXTS, tmp_path / "plain")
    model.train()
    model.gradient_checkpointing_enable()
    other = lmri.record(model, word_tokenizer(), TEXTS, tmp_path / "other")
    assert np.array_equal(np.concatenate(list(plain.arrays())), np.concatenate(list(other.arrays())))
    assert model.training


# -- models that a text changes ---------------------------------------------------------------------------------------


def bigbird():
    """Build a tiny BigBird, which replaces its sparse attention by full attention at the first short text."""
    config = transformers.BigBirdConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, attention_type="block_sparse", block_size=2, num_random_blocks=1, pad_token_id=0,
        bos_token_id=2, eos_token_id=3, sep_token_id=3,
    )  # fmt: skip
    return randomize(transformers.BigBirdForMaskedLM(config))


def test_reading_a_text_does_not_change_the_attention_of_bigbird():
    model, ids = bigbird(), torch.randint(5, 90, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(ids).logits
        with evaluation_mode(model):
            model(ids[:, :3])
            assert torch.equal(model(ids).logits, before)  # a long text after a short one
        lmri.find_sites(model)
        assert torch.equal(model(ids).logits, before)
        model(ids[:, :3])
        assert not torch.equal(model(ids).logits, before)  # without the context, the short text changes the model


def test_every_text_is_recorded_as_a_new_model_reads_it(tmp_path):
    long = " ".join(sentences(6, 6, 9, seed=3))
    texts = ["a cat sits", long, "the dog runs fast"]
    recorded = lmri.record(bigbird(), word_tokenizer(), texts, tmp_path / "all", test_fraction=0, n_dummy=0)
    alone = [
        np.concatenate(
            list(
                lmri.record(bigbird(), word_tokenizer(), [text], tmp_path / str(z), test_fraction=0, n_dummy=0).arrays()
            )
        )
        for z, text in enumerate(texts)
    ]
    values = np.concatenate(list(recorded.arrays()))
    allowed = 8 * np.finfo(np.float32).eps * 56**0.5 * np.abs(values).max()  # products of other shapes, of 56 terms
    np.testing.assert_allclose(values, np.concatenate(alone), rtol=0, atol=allowed)


class Changing(nn.Module):
    """A module that changes its own attributes when it reads."""

    def __init__(self):
        super().__init__()
        self.kind, self.seen, self.part = "sparse", [], nn.Linear(2, 2)
        self.register_buffer("table", torch.zeros(2))

    def forward(self, values):
        self.kind, self.part, self.table = "full", nn.Linear(2, 2), torch.ones(2)
        self.seen.append(1)
        self.added = True
        return values


def test_attributes_submodules_buffers_and_lists_are_restored():
    module = Changing()
    part, table = module.part, module.table
    state = ModuleState(module)
    assert state.restore() == []
    module(torch.zeros(2))
    assert state.restore() == ["kind", "part"]
    assert (module.kind, module.part, module.table, module.seen) == ("sparse", part, table, [])
    assert module.added  # transformers marks modules by new attributes, which stay
