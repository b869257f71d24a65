"""Search for the neurons of a site by the shapes of linear modules."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from torch import nn
from transformers import PreTrainedModel

from lmri.exceptions import SiteError
from lmri.models import check_readable, describe_model
from lmri.models.adapters import MERGE, transformer
from lmri.models.sites import experts as fused
from lmri.models.sites.architecture import Architecture
from lmri.models.sites.checking import calls_in_order, check_activation, check_sites
from lmri.models.sites.hooks import features, linear_maps
from lmri.models.sites.naming import ATTENTION, CROSS, NOT_MLP, is_below, n_heads
from lmri.models.sites.stack import blocks, n_declared, text_config
from lmri.models.sites.wrappers import check_embedding, check_inputs, check_outputs, check_transparent
from lmri.space import NeuronSpace
from lmri.space.layers import Layer, is_attention, is_input, stack_of
from lmri.space.sites import DECODER, ROUTER, check_site, with_sites

MOST_NEURONS = 2**20
"""Largest number of neurons of a mixture of experts, unless experts are chosen: 4 MiB per token."""


@with_sites
def find_sites(
    model: PreTrainedModel,
    site: str = "mlp_out",
    projection: str | None = None,
    experts: Iterable[int] | None = None,
) -> NeuronSpace:
    """Find the neurons of a site, and verify them by a self-test.

    Parameters
    ----------
    model : PreTrainedModel
        Transformer: decoder, encoder, or both. It may have adapters, and may be wrapped by peft.
    site : %(sites)s
        Output or input of the output projection of each MLP or attention; the input of the attention projection is the
        concatenated output of the heads. In an encoder–decoder, names such as ``"decoder_mlp_out"`` refer to the
        decoder, and names without the prefix to the encoder. At ``"router"`` the neurons are the experts of a mixture,
        and their weights are the activity; this site can be recorded but not lesioned.
    projection : str, optional
        Path of the projection within a block, such as ``"mlp.down_proj"``, if it is not detected automatically.
    experts : iterable of int, optional
        Experts of a mixture, at ``mlp_hidden``; by default all experts, up to `MOST_NEURONS` neurons in total.

    Returns
    -------
    NeuronSpace
        Space with one layer per block; at ``mlp_hidden`` of a mixture of experts, one layer per chosen expert and one
        for the shared expert, if any.

    Raises
    ------
    SiteError
        If no projection is found, the self-test fails, or the model has an adapter that cannot be handled exactly.

    Notes
    -----
    If a projection has an adapter, its neurons are the input and output of the outermost module around it, and thus
    those of the model into whose weights the adapter is merged. If an adapter surrounds a whole MLP or attention, its
    output is the output of the adapter.
    """
    check_site(site)
    check_readable(model)
    wrapper, model = model, transformer(model)
    chosen = None if experts is None else sorted(set(experts))
    stack = stack_of(site)
    architecture = Architecture(model)
    finder = _Finder(architecture, site, projection, chosen)
    stacked = enumerate(blocks(architecture.declared, stack))
    numbered = [(z, layer) for z, block in stacked for layer in finder.layers(block, z)]
    layers = [layer for _, layer in numbered]
    if any(layer.expert is not None for layer in layers):
        # With several slices per block, the number of a slice differs from that of its block, also for dense blocks.
        layers = [replace(layer, block=z) for z, layer in numbered]
    if chosen is not None and not any(layer.expert is not None for layer in layers):
        raise SiteError(
            f"experts are {chosen}, but {model.config.model_type!r} has no separate experts at {site}. "
            "Omit experts (--experts)."
        )
    if not layers:
        raise SiteError(
            f"{model.config.model_type!r} is not a mixture of fused experts, so it has no router that can be read."
        )
    check_transparent(wrapper, model)
    check_embedding(model, architecture)
    check_outputs(model, stack, finder.equal)
    if is_input(site):
        check_inputs(model, stack, layers)
    with _naming_adapters(architecture):
        layers = layers if site == ROUTER else _shared(model, site, layers)
    space = NeuronSpace(tuple(layers), site, describe_model(model))
    if chosen is None and space.n_neurons > MOST_NEURONS and any(layer.expert is not None for layer in layers):
        raise SiteError(
            f"All experts of {model.config.model_type!r} have {space.n_neurons:,} neurons: "
            f"{space.n_neurons * 4 / 1e6:.0f} MB per token. Choose experts: experts=[0, 1], or --experts 0,1."
        )
    with _naming_adapters(architecture):
        if projection is None and not is_attention(site):
            check_activation(model, space)
        check_sites(model, space, is_named=projection is not None)
    return space


@contextlib.contextmanager
def _naming_adapters(architecture: Architecture) -> Iterator[None]:
    """Name a module of another library in errors of the self-test, because it may be their cause."""
    try:
        yield
    except SiteError as error:
        if architecture.inserted is None:
            raise
        raise SiteError(
            f"{error} The cause may be {architecture.inserted!r}, which is not part of the architecture, if it is an "
            f"adapter. {MERGE}"
        ) from error


def _shared(model: PreTrainedModel, site: str, layers: list[Layer]) -> list[Layer]:
    """Distinguish the calls of a module that is shared by several layers, as in ALBERT."""
    stack = stack_of(site)
    declared, modules = n_declared(model, stack), {layer.module for layer in layers if layer.expert is None}
    n_blocks = len({layer.block if layer.block is not None else layer.module for layer in layers})
    if len(modules) == sum(layer.expert is None for layer in layers) and declared in (None, n_blocks):
        return layers
    plain = {layer.module: layer for layer in layers}
    called = calls_in_order(model, sorted(modules), stack)
    if declared != len(called) or len(plain) != len(modules):
        raise SiteError(
            f"{len(layers)} blocks were found in {model.config.model_type!r} (first projection: "
            f"{layers[0].module!r}), which run {len(called)} times in a forward pass, but its configuration declares "
            f"{declared} layers. They cannot be distinguished; this architecture is not supported."
        )
    distinct, count = [], dict.fromkeys(modules, 0)
    for z, module in enumerate(called):
        layer = plain[module]
        distinct.append(Layer(f"layer {z}", module, layer.width, call=count[module], n_heads=layer.n_heads))
        count[module] += 1
    return distinct


class _Finder:
    """Search for the layers of a site, block by block.

    The search sees only the modules that the architecture declares. `equal` lists pairs of modules of the model that
    must have the same output, because a wrapper around one of them is hooked in place of the other.
    """

    def __init__(
        self, architecture: Architecture, site: str, projection: str | None, chosen: Sequence[int] | None
    ) -> None:
        self.architecture, self.site, self.projection, self.chosen = architecture, site, projection, chosen
        self.model = architecture.declared
        self.paths = {module: path for path, module in self.model.base_model.named_modules()}
        hidden_size = getattr(text_config(self.model.config), "hidden_size", None)
        if not isinstance(hidden_size, int):
            raise SiteError(
                f"The configuration of {type(self.model).__name__} ({self.model.config.model_type!r}) has no "
                f"hidden_size (it is {hidden_size!r}): no single residual stream can be identified. Such models cannot "
                "be recorded."
            )
        self.hidden_size = hidden_size
        self.side = 0 if is_input(site) else 1
        self.called: list[str] | None = None
        self.equal: list[tuple[str, str]] = []

    def layers(self, block: nn.Module, z: int) -> list[Layer]:
        """List the slices of a block."""
        linear = linear_maps(block)
        if self.projection is not None:
            return [self._named(block, linear, self.projection, z)]
        if is_attention(self.site):
            return [self._attention(block, linear, z)]
        if self.site == ROUTER:
            return [
                Layer(f"layer {z}", self.architecture.inner(self.paths[module]), fused.count(module), block=z)
                for module in block.modules()
                if fused.is_fused(module)
            ]
        mixture = {name: module for name, module in block.named_modules() if fused.is_fused(module)}
        if not mixture:
            self._refuse_other_experts(block, z)
            return [self._plain(block, self._mlp(block, linear, z), z)]
        if len(mixture) > 1:
            raise SiteError(
                f"Layer {z} of {self.model.config.model_type!r} has several mixtures of experts "
                f"({', '.join(map(repr, mixture))}), which is not supported. " + _NAME_IT
            )
        [(name, module)] = mixture.items()
        shared = self._fitting(block, linear)
        if self.side == 0:
            plain = [self._plain(block, part, z, " shared expert", z) for part in shared.values()]
            return self._experts(module, z) + plain
        return [self._mixture(block, name, list(shared), z)]

    def _named(self, block: nn.Module, linear: dict[str, nn.Module], name: str, z: int) -> Layer:
        """Return the layer of a named projection, which another library may have added."""
        if name in linear:
            return self._plain(block, linear[name], z)
        added = self.architecture.added_linear(self.paths[block])
        if name in added:
            return Layer(f"layer {z}", added[name][0], features(added[name][1])[self.side])
        raise SiteError(
            f"Block {z} has no linear module {name!r}; it has {', '.join(map(repr, [*linear, *added])) or 'none'}."
        )

    def _plain(self, block: nn.Module, module: nn.Module, z: int, suffix: str = "", number: int | None = None) -> Layer:
        return Layer(f"layer {z}{suffix}", self._locate(block, module), self._width(module), block=number)

    def _width(self, module: nn.Module) -> int:
        """Return the width of a linear map in the model, which may be pruned; a wrapper may not state it."""
        actual = self.architecture.model.base_model.get_submodule(self.architecture.outer(self.paths[module]))
        return features(actual)[self.side] or features(module)[self.side]

    def _locate(self, block: nn.Module, module: nn.Module) -> str:
        """Return the path of the module of the model to hook: the outermost wrapper whose input or output is the site.

        A wrapper around a whole MLP or attention has its own output; the hidden units are inside it.
        """
        architecture, path, root = self.architecture, self.paths[module], self.paths[block]
        self._refuse_added(root)
        outermost = architecture.outer(path)
        above = path.rpartition(".")[0]
        while len(above) > len(root) and not is_input(self.site):
            if architecture.is_wrapped(above) or architecture.is_replaced(above):
                self.equal.append((architecture.inner(above), outermost))
            if architecture.is_wrapped(above):
                outermost = architecture.outer(above)
            above = above.rpartition(".")[0]
        return outermost

    def _refuse_added(self, block: str) -> None:
        """Refuse modules that another library has added to the MLP or attention of a block, or to the block itself."""
        for path in self.architecture.added_below(block):
            above = path.split(".")[:-1]
            if not above or is_attention(self.site) == any(ATTENTION.search(part) for part in above):
                raise SiteError(
                    f"{path!r} in {block!r} is not part of the architecture {self.model.config.model_type!r}. It may "
                    f"be an adapter, whose effect on the site cannot be determined. {MERGE}"
                )

    def _mlp(self, block: nn.Module, linear: dict[str, nn.Module], z: int) -> nn.Module:
        fitting = self._fitting(block, linear)
        if not fitting:
            raise SiteError(
                f"No MLP final projection found in layer {z} of {self.model.config.model_type!r} "
                f"(linear modules: {', '.join(map(repr, linear)) or 'none'}; hidden size {self.hidden_size}). "
                "Name the module yourself: find_sites(model, projection='mlp.my_down'), or --projection."
            )
        # The last of the widest modules: if the hidden layer is as wide as the model, all maps of an MLP match.
        return max(reversed(fitting.values()), key=lambda module: features(module)[0])

    def _attention(self, block: nn.Module, linear: dict[str, nn.Module], z: int) -> Layer:
        fitting = [
            name
            for name, module in linear.items()
            if features(module)[1] == self.hidden_size
            and self._is_below(block, name, ATTENTION)
            and not self._is_below(block, name, CROSS)
        ]
        self._refuse_experts_of_attention(block, z)
        if not fitting:
            raise SiteError(
                f"No output projection of attention found in layer {z} of {self.model.config.model_type!r} "
                f"(linear modules: {', '.join(map(repr, linear)) or 'none'}; hidden size {self.hidden_size}). "
                "Name the module yourself: find_sites(model, 'attn_out', projection='attn.my_out'), or --projection."
            )
        name = self._last(linear, fitting)  # queries, keys, values and gates run earlier
        module = linear[name]
        width = self._width(module)
        heads = n_heads(block, name, width) if self.side == 0 else None
        return Layer(f"layer {z}", self._locate(block, module), width, n_heads=heads)

    def _last(self, linear: dict[str, nn.Module], fitting: list[str]) -> str:
        """Return the candidate that runs last; it may not be the one declared last."""
        if len(fitting) == 1:
            return fitting[0]
        if self.called is None:
            fit = [path for module, path in self.paths.items() if features(module)[1] == self.hidden_size]
            places = [self.architecture.outer(path) for path in fit]
            self.called = calls_in_order(self.architecture.model, places, stack_of(self.site))
        last = {path: index for index, path in enumerate(self.called)}
        return max(fitting, key=lambda name: last.get(self.architecture.outer(self.paths[linear[name]]), -1))

    def _is_below(self, block: nn.Module, path: str, pattern: re.Pattern[str]) -> bool:
        return is_below(block, path, pattern, type(self.model.base_model).__name__)

    def _fitting(self, block: nn.Module, linear: dict[str, nn.Module]) -> dict[str, nn.Module]:
        return {
            name: module
            for name, module in linear.items()
            if features(module)[1] == self.hidden_size and not self._is_below(block, name, NOT_MLP)
        }

    def _experts(self, module: nn.Module, z: int) -> list[Layer]:
        n_experts = fused.count(module)
        chosen = range(n_experts) if self.chosen is None else self.chosen
        for expert in chosen:
            if not 0 <= expert < n_experts:
                raise SiteError(f"Layer {z} has no expert {expert}; experts are 0 to {n_experts - 1}.")
        path, width = self.architecture.inner(self.paths[module]), fused.width(module)
        return [Layer(f"layer {z} expert {expert}", path, width, block=z, expert=expert) for expert in chosen]

    def _mixture(self, block: nn.Module, name: str, shared: list[str], z: int) -> Layer:
        """Return the layer of the whole mixture, whose module is the parent of the experts."""
        parent = name.rpartition(".")[0]
        outside = [path for path in shared if not path.startswith(f"{parent}.")]
        if not parent or outside:
            raise SiteError(
                f"In layer {z} of {self.model.config.model_type!r} the outputs of the experts and of "
                f"{', '.join(map(repr, outside)) or 'the block'} are summed outside a common module, so the output of "
                f"the whole MLP cannot be read. Record the hidden units: {self._other_site()!r}."
            )
        return Layer(f"layer {z}", self._locate(block, block.get_submodule(parent)), self.hidden_size)

    def _other_site(self) -> str:
        return DECODER * self.site.startswith(DECODER) + "mlp_hidden"

    def _refuse_experts_of_attention(self, block: nn.Module, z: int) -> None:
        experts = [
            name
            for name, _ in block.named_modules()
            if "expert" in name.rpartition(".")[2].lower() and self._is_below(block, name, ATTENTION)
        ]
        if experts:
            raise SiteError(
                f"The attention in layer {z} of {self.model.config.model_type!r} is a mixture of experts "
                f"({', '.join(map(repr, experts[:3]))}) without an output projection that can be read."
            )

    def _refuse_other_experts(self, block: nn.Module, z: int) -> None:
        experts = [name for name, _ in block.named_modules() if "expert" in name.split(".")[-1].lower()]
        if experts:
            # A shared expert would match, but its output is only part of the output of the MLP.
            raise SiteError(
                f"Layer {z} of {self.model.config.model_type!r} is a mixture of experts "
                f"({', '.join(map(repr, experts[:3]))}) with its own implementation, which is not supported. "
                + _NAME_IT
            )


_NAME_IT = (
    "A single linear module can be recorded instead: find_sites(model, projection='mlp.shared_expert.down_proj'), or "
    "--projection."
)
