"""Finding the neurons of a site by the shape of what is there."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from torch import nn
from transformers import PreTrainedModel

from lmri.exceptions import SiteError
from lmri.models import check_readable, describe_model
from lmri.models.sites import experts as fused
from lmri.models.sites.checking import calls_in_order, check_activation, check_sites
from lmri.models.sites.hooks import features
from lmri.models.sites.stack import blocks, n_declared
from lmri.space import NeuronSpace
from lmri.space.layers import Layer, is_attention, is_input, stack_of
from lmri.space.sites import DECODER, ROUTER, check_site, with_sites

_NOT_MLP = re.compile(r"attn|attention|mixer|mamba|router|layer_?norm|temporal|recurrent|conv|lstm", re.IGNORECASE)
_ATTENTION = re.compile(r"^(?!.*norm).*(attn|attention)", re.IGNORECASE)  # no norm behind attention is a part of it
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]|[^A-Za-z]+")
_CROSS = re.compile(r"cross|enc_?dec|encoder_attn", re.IGNORECASE)

MOST_NEURONS = 2**20
"""Of a mixture of experts, unless the experts are chosen: 4 MiB a token."""


@with_sites
def find_sites(
    model: PreTrainedModel,
    site: str = "mlp_out",
    projection: str | None = None,
    experts: Iterable[int] | None = None,
) -> NeuronSpace:
    """Find the neurons of a site, and make sure that they are what they seem.

    Parameters
    ----------
    model : PreTrainedModel
        Any transformer: decoder, encoder, or both.
    site : %(sites)s
        Output or input of each MLP's final projection; or of each attention's output projection, whose input is what
        the heads give, one after the other. In the decoder of an encoder–decoder, ``"decoder_mlp_out"`` and so on;
        the names without are those of its encoder. At ``"router"`` experts are the neurons of a mixture, and their
        weights the activity; that can be read, and not lesioned.
    projection : str, optional
        Path of the projection within a block, such as ``"mlp.down_proj"``, if it is not found by itself.
    experts : iterable of int, optional
        Which experts of a mixture, at ``mlp_hidden``; all of them if there are not too many.

    Returns
    -------
    NeuronSpace
        One layer a block; at ``mlp_hidden`` of a mixture of experts, one a chosen expert and one for the shared
        expert, if there is one.

    Raises
    ------
    SiteError
        If no projection is found, or the self-test fails.
    """
    check_site(site)
    check_readable(model)
    chosen = None if experts is None else sorted(set(experts))
    stack = stack_of(site)
    finder = _Finder(model, site, projection, chosen)
    found = [(z, layer) for z, block in enumerate(blocks(model, stack)) for layer in finder.layers(block, z)]
    layers = [layer for _, layer in found]
    if any(layer.expert is not None for layer in layers):
        # With several slices in a block, no slice has the number of its block any more, a dense one neither.
        layers = [replace(layer, block=z) for z, layer in found]
    if chosen is not None and not any(layer.expert is not None for layer in layers):
        raise SiteError(
            f"experts are {chosen}, but {model.config.model_type!r} has no experts to choose from at {site}. "
            "Leave experts out."
        )
    if not layers:
        raise SiteError(f"{model.config.model_type!r} is no mixture of fused experts, so there is no router to read.")
    layers = layers if site == ROUTER else _shared(model, site, layers)
    space = NeuronSpace(tuple(layers), site, describe_model(model))
    if chosen is None and space.n_neurons > MOST_NEURONS and any(layer.expert is not None for layer in layers):
        raise SiteError(
            f"All experts of {model.config.model_type!r} have {space.n_neurons:,} neurons: "
            f"{space.n_neurons * 4 / 1e6:.0f} MB a token. Choose some: experts=[0, 1], or --experts 0,1."
        )
    check_sites(model, space)
    if projection is None and not is_attention(site):
        check_activation(model, space)
    return space


def _shared(model: PreTrainedModel, site: str, layers: list[Layer]) -> list[Layer]:
    """Tell calls of a module apart that serves several layers, as in ALBERT."""
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
            f"{layers[0].module!r}), which run {len(called)} times in a forward pass, but its configuration says "
            f"{declared} layers. They cannot be told apart."
        )
    made, count = [], dict.fromkeys(modules, 0)
    for z, module in enumerate(called):
        one = plain[module]
        made.append(Layer(f"layer {z}", module, one.width, call=count[module], n_heads=one.n_heads))
        count[module] += 1
    return made


class _Finder:
    """Looks into one block after the other."""

    def __init__(self, model: PreTrainedModel, site: str, projection: str | None, chosen: Sequence[int] | None) -> None:
        self.model, self.site, self.projection, self.chosen = model, site, projection, chosen
        self.paths = {module: path for path, module in model.base_model.named_modules()}
        hidden_size = getattr(model.config.get_text_config(), "hidden_size", None)
        if not isinstance(hidden_size, int):
            raise SiteError(
                f"The configuration of {type(model).__name__} ({model.config.model_type!r}) has no hidden_size (it is "
                f"{hidden_size!r}): there is no one residual stream to look for. Such models cannot be recorded."
            )
        self.hidden_size = hidden_size
        self.side = 0 if is_input(site) else 1
        self.called: list[str] | None = None

    def layers(self, block: nn.Module, z: int) -> list[Layer]:
        """List the slices of one block."""
        linear = {name: module for name, module in block.named_modules() if features(module)[0]}
        if self.projection is not None:
            if self.projection not in linear:
                raise SiteError(
                    f"Block {z} has no linear module {self.projection!r}; it has "
                    f"{', '.join(map(repr, linear)) or 'none'}."
                )
            return [self._plain(linear[self.projection], z)]
        if is_attention(self.site):
            return [self._attention(block, linear, z)]
        if self.site == ROUTER:
            return [
                Layer(f"layer {z}", self.paths[module], fused.count(module), block=z)
                for module in block.modules()
                if fused.is_fused(module)
            ]
        mixture = {name: module for name, module in block.named_modules() if fused.is_fused(module)}
        if not mixture:
            self._refuse_other_experts(block, z)
            return [self._plain(self._mlp(block, linear, z), z)]
        if len(mixture) > 1:
            raise SiteError(
                f"Layer {z} of {self.model.config.model_type!r} has several mixtures of experts "
                f"({', '.join(map(repr, mixture))}), which is not supported. " + _NAME_IT
            )
        [(name, module)] = mixture.items()
        shared = self._fitting(block, linear)
        if self.side == 0:
            return self._experts(module, z) + [self._plain(one, z, " shared expert", z) for one in shared.values()]
        return [self._mixture(block, name, list(shared), z)]

    def _plain(self, module: nn.Module, z: int, suffix: str = "", block: int | None = None) -> Layer:
        return Layer(f"layer {z}{suffix}", self.paths[module], features(module)[self.side], block=block)

    def _mlp(self, block: nn.Module, linear: dict[str, nn.Module], z: int) -> nn.Module:
        fitting = self._fitting(block, linear)
        if not fitting:
            raise SiteError(
                f"No MLP final projection found in layer {z} of {self.model.config.model_type!r} "
                f"(linear modules: {', '.join(map(repr, linear)) or 'none'}; hidden size {self.hidden_size}). "
                "Name the module yourself: find_sites(model, projection='mlp.my_down'), or --projection."
            )
        # The last of the widest: where the hidden layer is as wide as the model, all maps of an MLP fit alike.
        return max(reversed(fitting.values()), key=lambda module: features(module)[0])

    def _attention(self, block: nn.Module, linear: dict[str, nn.Module], z: int) -> Layer:
        fitting = [
            name
            for name, module in linear.items()
            if features(module)[1] == self.hidden_size
            and self._is_below(block, name, _ATTENTION)
            and not self._is_below(block, name, _CROSS)
        ]
        self._refuse_experts_of_attention(block, z)
        if not fitting:
            raise SiteError(
                f"No output projection of attention found in layer {z} of {self.model.config.model_type!r} "
                f"(linear modules: {', '.join(map(repr, linear)) or 'none'}; hidden size {self.hidden_size}). "
                "Name the module yourself: find_sites(model, 'attn_out', projection='attn.my_out'), or --projection."
            )
        name = self._last(linear, fitting)  # queries, keys, values and gates come before
        module = linear[name]
        width = features(module)[self.side]
        heads = _n_heads(block, name, width) if self.side == 0 else None
        return Layer(f"layer {z}", self.paths[module], width, n_heads=heads)

    def _last(self, linear: dict[str, nn.Module], fitting: list[str]) -> str:
        """Tell which of several runs last, which need not be the one that is declared last."""
        if len(fitting) == 1:
            return fitting[0]
        if self.called is None:
            fit = [path for module, path in self.paths.items() if features(module)[1] == self.hidden_size]
            self.called = calls_in_order(self.model, fit, stack_of(self.site))
        last = {path: place for place, path in enumerate(self.called)}
        return max(fitting, key=lambda name: last.get(self.paths[linear[name]], -1))

    def _is_below(self, block: nn.Module, path: str, pattern: re.Pattern[str]) -> bool:
        return _is_below(block, path, pattern, type(self.model.base_model).__name__)

    def _fitting(self, block: nn.Module, linear: dict[str, nn.Module]) -> dict[str, nn.Module]:
        return {
            name: module
            for name, module in linear.items()
            if features(module)[1] == self.hidden_size and not self._is_below(block, name, _NOT_MLP)
        }

    def _experts(self, module: nn.Module, z: int) -> list[Layer]:
        n_experts = fused.count(module)
        chosen = range(n_experts) if self.chosen is None else self.chosen
        for expert in chosen:
            if not 0 <= expert < n_experts:
                raise SiteError(f"There is no expert {expert} in layer {z}; it has experts 0 to {n_experts - 1}.")
        path, width = self.paths[module], fused.width(module)
        return [Layer(f"layer {z} expert {one}", path, width, block=z, expert=one) for one in chosen]

    def _mixture(self, block: nn.Module, name: str, shared: list[str], z: int) -> Layer:
        """Give the whole mixture, which is the parent of its experts."""
        parent = name.rpartition(".")[0]
        outside = [one for one in shared if not one.startswith(f"{parent}.")]
        if not parent or outside:
            raise SiteError(
                f"In layer {z} of {self.model.config.model_type!r} what experts give and what "
                f"{', '.join(map(repr, outside)) or 'the block'} gives are added outside of one module, so there is "
                f"no output of the whole MLP to read. Record the hidden units: {self._other_site()!r}."
            )
        return Layer(f"layer {z}", self.paths[block.get_submodule(parent)], self.hidden_size)

    def _other_site(self) -> str:
        return DECODER * self.site.startswith(DECODER) + "mlp_hidden"

    def _refuse_experts_of_attention(self, block: nn.Module, z: int) -> None:
        found = [
            name
            for name, _ in block.named_modules()
            if "expert" in name.rpartition(".")[2].lower() and self._is_below(block, name, _ATTENTION)
        ]
        if found:
            raise SiteError(
                f"The attention in layer {z} of {self.model.config.model_type!r} is a mixture of experts "
                f"({', '.join(map(repr, found[:3]))}); it has no output projection that could be read."
            )

    def _refuse_other_experts(self, block: nn.Module, z: int) -> None:
        experts = [name for name, _ in block.named_modules() if "expert" in name.split(".")[-1].lower()]
        if experts:
            # A shared expert would fit, but its output is only a part of the MLP's.
            raise SiteError(
                f"Layer {z} of {self.model.config.model_type!r} is a mixture of experts "
                f"({', '.join(map(repr, experts[:3]))}) that computes them in a way of its own, which is not "
                "supported. " + _NAME_IT
            )


_NAME_IT = (
    "A linear map in it can be recorded alone: find_sites(model, projection='mlp.shared_expert.down_proj'), or "
    "--projection."
)


_HEAD_SIZES = ("head_v_dim", "v_head_dim", "head_dim", "attention_head_size", "head_size", "key_value_proj_dim")
_HEAD_COUNTS = ("num_v_heads", "num_heads", "num_attention_heads", "n_heads", "n_head")


def _n_heads(block: nn.Module, path: str, width: int) -> int | None:
    """Ask the attention that a projection belongs to for its heads: layers of a model may differ in them."""
    parts = path.split(".")[:-1]
    above = [block.get_submodule(".".join(parts[:end])) for end in range(len(parts), 0, -1)]
    for root in above:  # the innermost first; in BERT what knows the heads stands beside the projection's parent
        for module in root.modules():
            for size in _HEAD_SIZES:
                if isinstance(found := getattr(module, size, None), int) and found > 0 and width % found == 0:
                    return width // found
            for count in _HEAD_COUNTS:
                if isinstance(found := getattr(module, count, None), int) and found > 0 and width % found == 0:
                    return found
    return None


def _is_below(block: nn.Module, path: str, pattern: re.Pattern[str], family: str) -> bool:
    """Say whether a module between a block and a path in it is of a kind, by its name or by that of its class."""
    parts = path.split(".")[:-1]
    above = [block.get_submodule(".".join(parts[: end + 1])) for end in range(len(parts))]
    return any(pattern.search(part) for part in parts) or any(
        pattern.search(_own_name(type(module).__name__, family)) and not isinstance(module, nn.ModuleList)
        for module in above
    )


def _own_name(name: str, family: str) -> str:
    """Take from the name of a class what the model's has, too: all classes of ConvBERT speak of convolutions."""
    words, shared = _WORD.findall(name), _WORD.findall(family)
    start = next((place for place, (one, other) in enumerate(zip(words, shared, strict=False)) if one != other), None)
    return "".join(words[start:]) if start is not None else name
