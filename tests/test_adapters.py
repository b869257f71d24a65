"""Adapters: sites, lesions and identity are those of the model into whose weights the adapter is merged.

Adapters are built by hand, as peft and other libraries build them: a wrapper with the original module inside.
"""

import copy

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

import lmri
from lmri.exceptions import OtherWeightsWarning, SiteError
from lmri.lesions.finetuning import make_classifier
from lmri.lesions.interventions.outputs import output_norms
from lmri.models import describe_model, fingerprint, location
from lmri.models.capture import capture
from lmri.models.sites import find_sites
from tiny_models import (
    HIDDEN,
    N_LAYERS,
    WIDTH,
    assert_untouched,
    build,
    mixture,
    randomize,
    remote_code,
    snapshot,
    word_tokenizer,
)

IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 10, 11, 12, 13]])
SITES = ("mlp_out", "mlp_hidden")
EPS = torch.finfo(torch.float32).eps


# -- adapters of a projection ------------------------------------------------------------------------------------------


class LowRank(nn.Module):
    """Product of two narrow linear maps."""

    def __init__(self, n_in, n_out, rank=4):
        super().__init__()
        self.down, self.up = nn.Linear(n_in, rank, bias=False), nn.Linear(rank, n_out, bias=False)

    def forward(self, x):
        return self.up(self.down(x))


class Lora(nn.Module):
    """Sum of a projection and a low-rank map, in the layout of peft, with several adapters of which some are active."""

    def __init__(self, base, rank=4, names=("a",)):
        super().__init__()
        self.base_layer, self.in_features, self.out_features = base, base.in_features, base.out_features
        self.lora_A = nn.ModuleDict({name: nn.Linear(self.in_features, rank, bias=False) for name in names})
        self.lora_B = nn.ModuleDict({name: nn.Linear(rank, self.out_features, bias=False) for name in names})
        self.scaling = dict.fromkeys(names, 1.0)
        self.active_adapters, self.merged_adapters, self.disable_adapters = list(names[:1]), [], False

    @property
    def weight(self):
        return self.base_layer.weight

    @property
    def merged(self):
        return bool(self.merged_adapters)

    def delta(self, name):
        return self.scaling[name] * self.lora_B[name].weight @ self.lora_A[name].weight

    def merge(self):
        """Merge the active adapters into the weights, in place."""
        with torch.no_grad():
            for name in self.active_adapters:
                self.base_layer.weight += self.delta(name)
        self.merged_adapters = list(self.active_adapters)

    def forward(self, x):
        y = self.base_layer(x)
        for name in () if self.disable_adapters or self.merged else self.active_adapters:
            y = y + self.scaling[name] * self.lora_B[name](self.lora_A[name](x))
        return y


class Rotation(nn.Module):
    """Rotation of the input of a projection (OFT); the sizes of the projection are not stated."""

    def __init__(self, base):
        super().__init__()
        self.skew, self.base_layer = nn.Parameter(torch.zeros(base.in_features, base.in_features)), base

    def rotation(self):
        return torch.linalg.matrix_exp(self.skew - self.skew.T)

    def merged_weight(self):
        return self.base_layer.weight @ self.rotation().T

    def forward(self, x):
        return self.base_layer(x @ self.rotation())


class Scale(nn.Module):
    """Scale of the input of a projection (IA3 of a feed-forward layer)."""

    def __init__(self, base):
        super().__init__()
        self.base_layer, self.scale = base, nn.Parameter(torch.ones(base.in_features))
        self.in_features, self.out_features = base.in_features, base.out_features

    def merged_weight(self):
        return self.base_layer.weight * self.scale

    def forward(self, x):
        return self.base_layer(x * self.scale)


class Direction(nn.Module):
    """Learned norm of every row of a low-rank sum (DoRA)."""

    def __init__(self, base):
        super().__init__()
        self.low_rank, self.base = LowRank(base.in_features, base.out_features), base
        self.magnitude = nn.Parameter(torch.ones(base.out_features))

    def merged_weight(self):
        weight = self.base.weight + self.low_rank.up.weight @ self.low_rank.down.weight
        return weight * (self.magnitude / weight.norm(dim=1))[:, None]

    def forward(self, x):
        return functional.linear(x, self.merged_weight())


def around(name, first, kind="parallel"):
    """Build the class of a wrapper that holds the original as attribute `name`, declared before or after its parts."""

    class Wrapper(nn.Module):
        def __init__(self, original, n_in, n_out):
            super().__init__()
            if first:
                setattr(self, name, original)
            self.adapter = LowRank(n_in if kind == "parallel" else n_out, n_out)
            if not first:
                setattr(self, name, original)

        def merged_weight(self):
            original, added = getattr(self, name).weight, self.adapter.up.weight @ self.adapter.down.weight
            return original + (added if kind == "parallel" else added @ original)

        def forward(self, x):
            y = getattr(self, name)(x)
            return y + self.adapter(x if kind == "parallel" else y)

    return Wrapper


def adapted(wrap, name="llama", path="mlp", attribute="down_proj", **changes):
    """Build a tiny model with a wrapper around one module of every block, filled with noise."""
    model = build(name, **changes)
    for block in model.base_model.layers:
        parent = block.get_submodule(path) if path else block
        setattr(parent, attribute, wrap(getattr(parent, attribute)))
    return randomize(model)


def merged_copy(model):
    """Merge the adapters of all down projections into plain linear maps, in a copy."""
    merged = copy.deepcopy(model)
    with torch.no_grad():
        for block in merged.model.layers:
            wrapper = block.mlp.down_proj
            if isinstance(wrapper, Lora):
                weight = wrapper.weight + sum(wrapper.delta(name) for name in wrapper.active_adapters)
            else:
                weight = wrapper.merged_weight()
            block.mlp.down_proj = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            block.mlp.down_proj.weight.copy_(weight)
    return merged


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def activations(model, space):
    with torch.inference_mode():
        everything = torch.ones_like(IDS)
        return capture(model, [space], IDS, everything, everything.bool()).collect()[0].copy()


def close(values, others):
    # Sums of at most 56 products, in another order, through three layers whose errors add up.
    return np.abs(np.asarray(values) - np.asarray(others)).max() <= 3 * 56 * EPS * np.abs(np.asarray(others)).max()


def sized(kind):
    """Return a function that wraps a projection in a wrapper that needs its sizes."""
    return lambda base: kind(base, base.in_features, base.out_features)


WRAPPERS = {
    "lora": Lora,
    "rank beyond the hidden units": lambda base: Lora(base, rank=HIDDEN + 8),
    "two active": lambda base: Lora(base, names=("a", "b")),
    "rotation": Rotation,
    "scale": Scale,
    "direction": Direction,
    "module, first": sized(around("module", first=True)),
    "original, last, sequential": sized(around("original", first=False, kind="sequential")),
    "base_layer, last": sized(around("base_layer", first=False)),
}


@pytest.mark.parametrize("kind", sorted(WRAPPERS))
def test_sites_and_lesions_of_a_projection_with_an_adapter_are_those_of_the_merged_model(kind):
    model = adapted(WRAPPERS[kind], layers=2)
    if kind == "two active":
        for block in model.model.layers:
            block.mlp.down_proj.active_adapters = ["a", "b"]
    before, merged = snapshot(model), merged_copy(model)
    assert close(logits(model), logits(merged))
    for site in SITES:
        space, same = find_sites(model, site), find_sites(merged, site)
        assert space == same
        assert_untouched(model, before)
        values = activations(model, space)
        assert close(values, activations(merged, same))
        network = lmri.Network.from_members(space, (space.layer_of == 1) & (space.neuron_of == 17), "neuron")
        with lmri.lesion(network).on(model):
            lesioned = logits(model)
        zeroed = copy.deepcopy(merged)
        weight = zeroed.model.layers[1].mlp.down_proj.weight.data
        (weight[17] if site == "mlp_out" else weight[:, 17]).zero_()
        assert close(lesioned, logits(zeroed))
        assert not close(lesioned, logits(model))


def test_the_layer_inside_an_adapter_has_other_values():
    # The negative control: the frozen layer is found, called and self-consistent, but its output is not the MLP's.
    model = adapted(Lora)
    seen = []
    handle = model.model.layers[1].mlp.down_proj.base_layer.register_forward_hook(
        remote_code(lambda *call: seen.append(call[2]))
    )
    space = find_sites(model)
    seen.clear()
    values = activations(model, space)[:, space.layer_of == 1]
    handle.remove()
    assert not close(seen[0].reshape(-1, WIDTH), values)


@pytest.mark.parametrize(
    ("name", "path", "attribute"), [("gpt2", "h.1.mlp", "c_proj"), ("opt", "decoder.layers.1", "fc2")]
)
def test_projections_of_other_classes_and_places_are_wrapped_too(name, path, attribute):
    model, plain = build(name), build(name)
    parent = model.base_model.get_submodule(path)
    setattr(parent, attribute, around("inner", False)(getattr(parent, attribute), HIDDEN, WIDTH))
    for site in SITES:
        assert find_sites(model, site) == find_sites(plain, site)


def test_attention_with_an_adapter_is_read_at_its_outermost_module():
    model = adapted(lambda base: around("inner", False)(base, WIDTH, WIDTH), path="self_attn", attribute="o_proj")
    for site in ("attn_out", "attn_heads"):
        space = find_sites(model, site)
        assert [layer.module for layer in space.layers] == [f"layers.{z}.self_attn.o_proj" for z in range(N_LAYERS)]


class NonlinearInput(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.bend = base, nn.Linear(base.in_features, base.in_features)

    def forward(self, x):
        return self.base(x + self.bend(x).relu())


class NonlinearOutput(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.bend = base, LowRank(base.out_features, base.out_features)

    def forward(self, x):
        y = self.base(x)
        return y + self.bend(y).relu()


def test_an_adapter_that_bends_its_input_is_refused_at_the_hidden_units_alone():
    assert find_sites(adapted(NonlinearInput)).layers[1].module == "layers.1.mlp.down_proj"
    with pytest.raises(SiteError, match=r"adapter that changes its input, and not linearly"):
        find_sites(adapted(NonlinearInput), "mlp_hidden")
    assert find_sites(adapted(NonlinearOutput), "mlp_hidden").widths == (HIDDEN,) * N_LAYERS


@pytest.mark.parametrize("wrong", ["mlp.down_proj.base_layer", "mlp.down_proj.lora_B.a"])
def test_the_inside_of_an_adapter_cannot_be_named(wrong):
    model = adapted(Lora)
    assert find_sites(model, projection="mlp.down_proj").layers[1].module == "layers.1.mlp.down_proj"
    with pytest.raises(SiteError, match=rf"no linear module '{wrong}'; it has .*'mlp.down_proj'"):
        find_sites(model, projection=wrong)


def test_output_weights_include_the_adapter():
    for kind in ("lora", "rotation", "direction"):
        model = adapted(WRAPPERS[kind])
        merged = merged_copy(model)
        space = find_sites(model, "mlp_hidden")
        assert close(output_norms(model, space), output_norms(merged, space))


# -- adapters around a whole MLP or attention --------------------------------------------------------------------------


class Whole(nn.Module):
    """Wrapper around an MLP that adds a map of its input, or changes its output."""

    def __init__(self, original, after=False):
        super().__init__()
        self.adapter, self.original, self.after = LowRank(WIDTH, WIDTH), original, after

    def forward(self, x, *args, **options):
        y = self.original(x, *args, **options)
        return y + self.adapter(y).relu() if self.after else y + self.adapter(x)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("name", "path"), [("llama", "layers.{z}.mlp"), ("gpt_neox", "layers.{z}.mlp")])
def test_the_output_of_an_adapter_around_an_mlp_is_the_output_of_the_mlp(name, path, after):
    model, plain = build(name), build(name)
    for block in model.base_model.layers:
        block.mlp = Whole(block.mlp, after)
    randomize(model)
    space = find_sites(model)
    assert [layer.module for layer in space.layers] == [path.format(z=z) for z in range(N_LAYERS)]
    seen = []
    handle = model.base_model.layers[1].mlp.register_forward_hook(lambda *call: seen.append(call[2].clone()))
    values = activations(model, space)[:, space.layer_of == 1]
    handle.remove()
    assert np.array_equal(values, seen[0].reshape(-1, WIDTH).numpy())
    # Hidden units are inside the wrapper, and a lesion of one is a zeroed weight.
    hidden = find_sites(model, "mlp_hidden")
    inside = find_sites(plain, "mlp_hidden").layers[1].module.replace("mlp.", "mlp.original.")
    assert hidden.layers[1].module == inside
    network = lmri.Network.from_members(hidden, (hidden.layer_of == 1) & (hidden.neuron_of == 7), "neuron")
    with lmri.lesion(network).on(model):
        lesioned = logits(model)
    model.base_model.get_submodule(inside).weight.data[:, 7] = 0
    assert close(lesioned, logits(model))


def test_adapters_inside_and_around_each_other_are_all_part_of_the_output():
    model = build("llama")
    for block in model.model.layers:
        block.mlp.down_proj = around("inner", False)(block.mlp.down_proj, HIDDEN, WIDTH)
        block.mlp = Whole(Whole(block.mlp), after=True)
    randomize(model)
    assert find_sites(model).layers[1].module == "layers.1.mlp"
    assert find_sites(model, "mlp_hidden").layers[1].module == "layers.1.mlp.original.original.down_proj"


def test_a_container_of_torch_around_an_mlp_is_a_wrapper_too():
    model = build("llama")
    model.model.layers[0].mlp = nn.Sequential(model.model.layers[0].mlp, nn.Linear(WIDTH, WIDTH))
    assert [layer.module for layer in find_sites(model).layers][:2] == ["layers.0.mlp", "layers.1.mlp.down_proj"]


def test_an_attention_inside_an_adapter_gives_the_output_of_the_adapter():
    class Around(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.adapter = inner, LowRank(WIDTH, WIDTH)

        def forward(self, *args, **options):
            output, *rest = self.inner(*args, **options)
            return (output + self.inner.o_proj(self.adapter(output)), *rest)

    model = build("llama")
    for block in model.model.layers:
        block.self_attn = Around(block.self_attn)
    randomize(model)
    assert find_sites(model, "attn_out").layers[2].module == "layers.2.self_attn"
    assert find_sites(model, "mlp_out").layers[2].module == "layers.2.mlp.down_proj"
    with pytest.raises(SiteError, match=r"had 2 calls .* may be 'model.layers.0.self_attn', .* an adapter"):
        find_sites(model, "attn_heads")


def test_an_adapter_whose_output_is_mixed_with_the_residual_stream_is_refused():
    # The MLP of BLOOM returns the sum with the residual stream.
    model = build("bloom")
    model.transformer.h[1].mlp = Whole(model.transformer.h[1].mlp)
    with pytest.raises(SiteError, match=r"the output of an adapter cannot be separated"):
        find_sites(model)
    assert find_sites(build("bloom")).layers[1].module == "h.1.mlp.dense_4h_to_h"


LlamaMLP = type(build("llama").model.layers[0].mlp)


class Doubled(LlamaMLP):
    def forward(self, x):
        return 2 * super().forward(x)


class Faster(LlamaMLP):
    def forward(self, x):
        return super().forward(x)


class Extended(LlamaMLP):
    def forward(self, x):
        return super().forward(x) + self.extra(x)


def test_a_replaced_mlp_is_accepted_only_if_it_returns_the_output_of_its_projection():
    model = build("llama")
    mlp = model.model.layers[1].mlp
    mlp.__class__ = Faster
    assert find_sites(model) == find_sites(build("llama"))
    mlp.__class__ = Doubled
    with pytest.raises(SiteError, match=r"'layers.1.mlp' \(Doubled\) does not return the output .* adapter"):
        find_sites(model)
    mlp.__class__, mlp.extra = Extended, LowRank(WIDTH, WIDTH)
    with pytest.raises(SiteError, match=r"'mlp.extra' in 'layers.1' is not part of the architecture 'llama'.* adapter"):
        find_sites(model)


def test_a_projection_that_another_library_added_can_be_named():
    model = build("llama")

    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(WIDTH, 40), nn.Linear(40, WIDTH)

        def forward(self, x):
            return self.second(self.first(x).relu())

    for block in model.model.layers:
        block.mlp = Other()
    randomize(model)
    with pytest.raises(SiteError, match="adapter"):
        find_sites(model)
    assert find_sites(model, "mlp_hidden", projection="mlp.second").widths == (40,) * N_LAYERS


def test_a_wrapper_around_some_blocks_leaves_the_sites_inside():
    class Block(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.adapter = inner, LowRank(WIDTH, WIDTH)

        def forward(self, x, *args, **options):
            y = self.inner(x, *args, **options)
            return y + self.adapter(y)

    model = build("gpt_neox")
    model.gpt_neox.layers[1] = Block(model.gpt_neox.layers[1])
    assert find_sites(model).layers[1].module == "layers.1.inner.mlp.dense_4h_to_h"


def test_experts_inside_an_adapter_are_hooked_and_their_mixture_is_not_mistaken():
    model, plain = mixture("Mixtral"), mixture("Mixtral")

    class Experts(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.base_layer, self.strength = inner, nn.Parameter(torch.ones(1))

        def forward(self, *args, **options):
            return self.base_layer(*args, **options) * self.strength

    for block in model.model.layers:
        block.mlp.experts = Experts(block.mlp.experts)
    assert find_sites(model) == find_sites(plain)
    hidden = find_sites(model, "mlp_hidden")
    assert hidden.widths == find_sites(plain, "mlp_hidden").widths
    assert hidden.layers[0].module == "layers.0.mlp.experts.base_layer"
    assert np.array_equal(activations(model, hidden), activations(plain, find_sites(plain, "mlp_hidden")))
    with pytest.raises(SiteError, match="have an adapter"):
        output_norms(model, hidden)


# -- adapters outside the layers ---------------------------------------------------------------------------------------


class SoftPrompt(nn.Module):
    """Embedding that replaces the first tokens by learned vectors, or inserts them."""

    def __init__(self, table, insert):
        super().__init__()
        self.table, self.prompt, self.insert = table, nn.Parameter(torch.ones(2, WIDTH)), insert

    @property
    def weight(self):
        return self.table.weight

    def forward(self, ids):
        values = self.table(ids)
        return torch.cat([self.prompt.expand(len(ids), -1, -1), values if self.insert else values[:, 2:]], dim=1)


class EmbeddingAdapter(nn.Module):
    def __init__(self, table):
        super().__init__()
        self.table, self.added = table, nn.Embedding(table.num_embeddings, WIDTH)

    @property
    def weight(self):
        return self.table.weight

    def forward(self, ids):
        return self.table(ids) + self.added(ids)


@pytest.mark.parametrize("insert", [False, True])
def test_virtual_tokens_in_the_embedding_are_refused(insert):
    model = build("llama")
    model.set_input_embeddings(SoftPrompt(model.get_input_embeddings(), insert))
    with pytest.raises(SiteError, match=r"token embedding is a SoftPrompt.* adapter"):
        find_sites(model)
    model = build("llama")
    model.set_input_embeddings(EmbeddingAdapter(model.get_input_embeddings()))
    assert find_sites(model) == find_sites(build("llama"))


class Peft(nn.Module):
    """Wrapper around a model in the layout of peft: ``base_model.model`` is the transformer."""

    def __init__(self, model, **settings):
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = model
        configuration = transformers.PretrainedConfig(peft_type="LORA", is_prompt_learning=False)
        for name, value in settings.items():
            setattr(configuration, name, value)
        self.peft_config, self.active_adapter, self.extra = {"a": configuration}, "a", None

    def forward(self, **inputs):
        output = self.base_model.model(**inputs)
        if self.extra is not None:
            output.logits = output.logits + self.extra
        return output


def test_a_wrapper_of_peft_is_recorded_and_lesioned_like_the_model_inside_it(tmp_path):
    inner = adapted(Lora)
    model, tokenizer = Peft(inner).eval(), word_tokenizer()
    space = find_sites(model)
    assert space == find_sites(inner)
    assert space.model == describe_model(inner)
    texts = ["the cat sits", "a dog runs"]
    recorded = [
        lmri.record(part, tokenizer, texts, tmp_path / str(number), test_fraction=0)
        for number, part in enumerate((model, inner))
    ]
    assert np.array_equal(*(next(recording.arrays()) for recording in recorded))
    network = lmri.Network.from_members(space, space.neuron_of < 5, "some")
    with lmri.lesion(network).on(model) as given:
        assert given is model
        lesioned, text = logits(model), lmri.models.alterations(inner)
    assert len(text) == 1
    with lmri.lesion(network).on(inner):
        assert torch.equal(lesioned, logits(inner))
    tasks = [lmri.tasks.Perplexity(["the cat sits under a tree"])]
    first, second = (lmri.evaluate(part, tokenizer, tasks, {"x": lmri.lesion(network)}) for part in (model, inner))
    assert first.summary()["value"].tolist() == second.summary()["value"].tolist()


@pytest.mark.parametrize(
    "settings", [{"is_prompt_learning": True, "peft_type": "P_TUNING"}, {"alora_invocation_tokens": [5]}]
)
def test_adapters_that_act_outside_the_layers_are_refused_everywhere(tmp_path, settings):
    model, inner = Peft(build("llama"), **settings), build("llama")
    space = find_sites(inner)
    network = lmri.Network.from_members(space, space.neuron_of < 5, "some")
    with pytest.raises(SiteError, match="The adapter 'a' of the model"):
        find_sites(model)
    with pytest.raises(SiteError, match="The adapter 'a' of the model"):
        lmri.record(model, word_tokenizer(), ["the cat"], tmp_path)
    with pytest.raises(SiteError, match="The adapter 'a' of the model"), lmri.lesion(network).on(model):
        pass
    model.active_adapter = []  # no longer active
    assert find_sites(model) == space


def test_a_wrapper_that_changes_outputs_is_refused():
    model = Peft(build("llama"))
    assert find_sites(model) == find_sites(build("llama"))
    model.extra = 1e-3
    with pytest.raises(SiteError, match=r"outputs of the Peft differ .* adapter"):
        find_sites(model)


def test_wrappers_around_a_body_or_a_model_are_refused():
    class Around(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, *args, **options):
            return self.inner(*args, **options)

    with pytest.raises(SiteError, match=r"is a Around, not a transformer.* adapter"):
        find_sites(Around(build("llama")))
    model = build("llama")
    model.model = Around(model.model)
    with pytest.raises(SiteError, match="body of the LlamaForCausalLM is wrapped in an adapter"):
        find_sites(model)


def test_a_class_of_a_user_is_compared_with_the_class_that_it_extends():
    class Mine(transformers.LlamaForCausalLM):
        def __init__(self, config, more):
            super().__init__(config)
            self.more = more

    model = randomize(Mine(build("llama").config, 3))
    assert find_sites(model) == find_sites(build("llama"))
    model.model.layers[0].mlp = Whole(model.model.layers[0].mlp)
    assert find_sites(model).layers[0].module == "layers.0.mlp"


# -- identity ----------------------------------------------------------------------------------------------------------


def loras(model):
    return [module for module in model.modules() if isinstance(module, Lora)]


def set_all(model, **attributes):
    for module in loras(model):
        for name, value in attributes.items():
            setattr(module, name, copy.copy(value))


def test_every_state_of_adapters_is_another_model():
    model = adapted(lambda base: Lora(base, names=("a", "b")))
    states = {
        "a": {},
        "b": {"active_adapters": ["b"]},
        "both": {"active_adapters": ["a", "b"]},
        "half": {"active_adapters": ["a"], "scaling": {"a": 0.5, "b": 1.0}},
        "off": {"disable_adapters": True, "scaling": {"a": 1.0, "b": 1.0}},
    }
    prints = {}
    for name, attributes in states.items():
        set_all(model, **attributes)
        prints[name] = fingerprint(model)
    assert len(set(prints.values())) == len(states)
    set_all(model, disable_adapters=False)
    assert fingerprint(model) == prints["a"]
    with torch.no_grad():
        loras(model)[1].lora_B["b"].weight += 1  # which is not active
    assert fingerprint(model) == prints["a"]
    with torch.no_grad():
        loras(model)[1].lora_B["a"].weight += 1
    assert fingerprint(model) != prints["a"]


def test_an_adapter_that_is_off_or_merged_has_no_part_in_the_fingerprint():
    model, plain = adapted(Lora), build("llama")
    frozen = {key.replace("base_layer.", ""): v for key, v in model.state_dict().items() if "lora" not in key}
    plain.load_state_dict(frozen)
    set_all(model, disable_adapters=True)
    assert fingerprint(model) == fingerprint(plain)
    assert describe_model(model).id == describe_model(plain).id
    set_all(model, disable_adapters=False)
    active = fingerprint(model)
    merged = merged_copy(model)
    for module in loras(model):
        module.merge()
    assert fingerprint(model) == fingerprint(merged) != active
    set_all(model, disable_adapters=True)
    with pytest.raises(SiteError, match="has a merged adapter that is disabled"):
        find_sites(model)


def test_the_name_of_a_model_includes_its_active_adapters():
    model = adapted(lambda base: Lora(base, names=("fr", "de")))
    model.config._name_or_path = "some/model"
    assert (describe_model(model).id, location(model)) == ("some/model+fr", "")
    set_all(model, active_adapters=["fr", "de"])
    assert describe_model(model).id == "some/model+de+fr"
    set_all(model, disable_adapters=True)
    assert (describe_model(model).id, location(model)) == ("some/model", "some/model")


def test_the_same_adapter_under_another_name_is_the_same_model():
    first, second = (adapted(lambda base, name=name: Lora(base, names=(name,))) for name in ("a", "default"))
    assert fingerprint(first) == fingerprint(second)


def test_an_adapter_that_is_toggled_after_the_recording_is_noticed(recwarn):
    model = adapted(lambda base: Lora(base, names=("a", "b")))
    space = find_sites(model)
    network = lmri.Network.from_members(space, space.neuron_of < 3, "some")
    with lmri.lesion(network).on(model):
        pass
    assert not [w for w in recwarn if w.category is OtherWeightsWarning]
    for change in ({"active_adapters": ["b"]}, {"active_adapters": ["a"], "disable_adapters": True}):
        set_all(model, **change)
        with pytest.warns(OtherWeightsWarning), lmri.lesion(network).on(model):
            pass


class Switched(nn.Module):
    """Adapter of another library, with its settings in attributes of several kinds."""

    enabled = True

    def __init__(self, base):
        super().__init__()
        self.inner, self.low_rank = base, LowRank(base.in_features, base.out_features)
        self.settings = {"alpha": 8, "modes": ["sum"]}
        self.shift = torch.zeros(base.out_features)
        self.register_buffer("mask", torch.ones(base.out_features), persistent=False)

    def forward(self, x):
        return self.inner(x) + self.enabled * self.settings["alpha"] / 4 * self.low_rank(x) * self.mask + self.shift


def test_settings_of_adapters_of_any_library_belong_to_the_fingerprint():
    model = adapted(Switched)
    adapter = model.model.layers[1].mlp.down_proj
    prints = [fingerprint(model)]
    adapter.settings["alpha"] = 4
    prints.append(fingerprint(model))
    adapter.settings["modes"].append("product")
    prints.append(fingerprint(model))
    adapter.shift[3] = 1
    prints.append(fingerprint(model))
    adapter.mask[3] = 0
    prints.append(fingerprint(model))
    adapter.enabled = False
    prints.append(fingerprint(model))
    assert len(set(prints)) == len(prints)
    adapter.enabled = True
    assert fingerprint(model) == prints[-2]
    adapter.training = True
    assert fingerprint(model) == prints[-2]


def test_switches_of_the_class_of_an_adapter_belong_to_the_fingerprint(monkeypatch):
    model = adapted(Switched)
    before = fingerprint(model)
    monkeypatch.setattr(Switched, "enabled", False)
    assert fingerprint(model) != before


def test_attributes_of_a_quantized_layer_do_not_belong_to_the_fingerprint():
    class Packed(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.in_features, self.out_features, self.n_calls = base.in_features, base.out_features, 0
            self.register_buffer("packed", (base.weight.detach() * 100).to(torch.int8))

        def forward(self, x):
            self.n_calls += 1
            return x @ self.packed.to(x.dtype).T / 100

    model = build("llama")
    for block in model.model.layers:
        block.mlp.down_proj = Packed(block.mlp.down_proj)
    before = fingerprint(model)
    logits(model)
    assert fingerprint(model) == before == find_sites(model).model.fingerprint


def test_a_parent_with_active_adapters_is_not_fine_tuned():
    model = adapted(Lora)
    with pytest.raises(ValueError, match=r"active adapters \(a\), which its child would lack"):
        make_classifier(model, word_tokenizer(), ["no", "yes"])


# -- peft itself -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LoraConfig", "IA3Config", "LoHaConfig", "VeraConfig", "OFTConfig", "BOFTConfig"])
def test_adapters_of_peft_are_those_of_the_merged_model(kind):
    peft = pytest.importorskip("peft")
    options = {
        "IA3Config": {"feedforward_modules": ["down_proj"]},
        "OFTConfig": {"oft_block_size": 8},
        "BOFTConfig": {"boft_block_size": 8},
    }
    original = build("llama", hidden=64)
    weights = {name for name, _ in original.named_parameters()}
    model = peft.get_peft_model(original, getattr(peft, kind)(target_modules=["down_proj"], **options.get(kind, {})))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "base_layer" not in name and name.removeprefix("base_model.model.") not in weights:
                values += 0.2 * torch.randn(values.shape, generator=generator)
    model.eval()
    merged = copy.deepcopy(model).merge_and_unload()
    in_place = copy.deepcopy(model)
    in_place.merge_adapter()
    for site in SITES:
        space = find_sites(model, site)
        assert space == find_sites(merged, site)
        assert close(activations(model.get_base_model(), space), activations(merged, space))
    with model.disable_adapter():
        off = fingerprint(model)
    assert off == fingerprint(build("llama", hidden=64))
    assert fingerprint(in_place) == fingerprint(merged)
    assert len({off, fingerprint(model), fingerprint(merged)}) == 3
