"""A branch that bypasses the chosen projection, as an adapter does, is found by the self-test."""

import pytest
import torch
from torch import nn

from lmri import find_sites
from lmri.exceptions import SiteError
from lmri.models import evaluation_mode
from lmri.models.sites import check_sites
from lmri.models.sites.bypass import check_bypass
from lmri.models.sites.checking import probe
from lmri.space import Layer, NeuronSpace
from tiny_models import HIDDEN, WIDTH, build

SITES = ("mlp_out", "mlp_hidden")


class Parallel(nn.Module):
    """A branch of low rank beside a part, as modules or as plain parameters."""

    def __init__(self, part, n_in, modules):
        super().__init__()
        self.part, generator = part, torch.Generator().manual_seed(0)
        down, up = torch.randn(4, n_in, generator=generator), torch.randn(WIDTH, 4, generator=generator)
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)
        self.branch = nn.Sequential(nn.Linear(n_in, 4, bias=False), nn.Linear(4, WIDTH, bias=False))
        self.modules_used = modules

    def forward(self, values):
        extra = self.branch(values) if self.modules_used else values @ self.down.T @ self.up.T
        return self.part(values) + extra


def around_projection(modules):
    model = build("llama")
    for layer in model.model.layers:
        layer.mlp.down_proj = Parallel(layer.mlp.down_proj, HIDDEN, modules)
    return model, "layers.{z}.mlp.down_proj.part"


def around_mlp(modules):
    model = build("llama")
    for layer in model.model.layers:
        layer.mlp = Parallel(layer.mlp, WIDTH, modules)
    return model, "layers.{z}.mlp.part.down_proj"


def space_of(path, site):
    width = WIDTH if site == "mlp_out" else HIDDEN
    return NeuronSpace(tuple(Layer(f"layer {z}", path.format(z=z), width) for z in range(3)), site)


@pytest.mark.parametrize(
    ("build_model", "modules", "site"),
    [
        (around_projection, True, "mlp_out"),
        (around_projection, False, "mlp_out"),
        (around_projection, True, "mlp_hidden"),
        (around_projection, False, "mlp_hidden"),
        (around_mlp, True, "mlp_out"),
    ],
)
def test_a_projection_that_is_only_one_of_two_branches_is_refused(build_model, modules, site):
    model, path = build_model(modules)
    with pytest.raises(SiteError, match=r"carries only part .* adapter"):
        check_sites(model, space_of(path, site))


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("build_model", [around_projection, around_mlp])
def test_a_projection_that_the_user_names_may_be_one_branch(build_model, site):
    model, path = build_model(True)
    check_sites(model, space_of(path, site), is_named=True)


def test_an_adapter_on_a_single_layer_is_found():
    model = build("llama")
    model.model.layers[2].mlp.down_proj = Parallel(model.model.layers[2].mlp.down_proj, HIDDEN, True)
    layers = [Layer(f"layer {z}", f"layers.{z}.mlp.down_proj" + (".part" if z == 2 else ""), WIDTH) for z in range(3)]
    with pytest.raises(SiteError, match=r"'layers.2.mlp.down_proj.part' carries only part"):
        check_sites(model, NeuronSpace(tuple(layers), "mlp_out"))


@pytest.mark.parametrize("site", [*SITES, "attn_out", "attn_heads"])
@pytest.mark.parametrize("name", ["gpt2", "opt", "bloom", "falcon", "bert", "t5", "modernbert", "gemma2"])
def test_nothing_bypasses_the_sites_of_published_models(name, site):
    model = build(name)
    space = find_sites(model, site)
    with evaluation_mode(model):
        check_bypass(model, space, lambda: probe(model, "encoder"))


def test_a_model_that_computes_with_random_numbers_is_refused():
    model = build("llama")
    part = model.model.layers[0].mlp

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = part

        def forward(self, values):
            return nn.functional.dropout(self.part(values), 0.5, training=True)

    model.model.layers[0].mlp = Noisy()
    with pytest.raises(SiteError, match="Two readings of the same tokens"):
        find_sites(model)
