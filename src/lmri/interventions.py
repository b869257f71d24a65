"""Interventions: silence, keep or amplify neurons of a live model, and leave it as it was.

``lesion``, ``preserve`` and ``amplify`` are three constructors of one type: at some neurons, an activation ``x``
becomes ``scale * x + shift``; all others pass untouched.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import PreTrainedModel

from lmri.exceptions import SiteError, SpaceMismatchError
from lmri.models import altered, describe_model
from lmri.networks import Network, NetworkSet
from lmri.sites import attach, widths
from lmri.space import NeuronSpace
from lmri.storage import digest

if TYPE_CHECKING:
    from lmri.recording import Recording


@dataclass(frozen=True)
class Edit:
    """What happens to one layer.

    Parameters
    ----------
    module : str
        Path of the projection, from the base model.
    neurons : ndarray of int, shape (n_edited,)
        Sorted.
    scale, shift : ndarray of float32, shape (n_edited,)
        An activation ``x`` becomes ``scale * x + shift``.
    """

    module: str
    neurons: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True, eq=False)
class Intervention:
    """A change of a model's activity, at every token.

    Parameters
    ----------
    kind : {"lesion", "preserve", "amplify"}
        What it is called.
    target : Network
        The neurons meant: changed by a lesion and by amplification, spared by preservation.
    scale : float
        Factor at the changed neurons.
    shift : ndarray of shape (n_neurons,)
        Added there; the baseline of a lesion.
    label : str
        What scores say of it, such as ``"zero"`` or ``"gain 1.5"``.
    """

    kind: str
    target: Network
    scale: float
    shift: np.ndarray
    label: str

    @property
    def space(self) -> NeuronSpace:
        """The neurons of the target."""
        return self.target.space

    @property
    def changed(self) -> np.ndarray:
        """Which neurons are changed: bool, ``(n_neurons,)``."""
        return ~self.target.members if self.kind == "preserve" else self.target.members

    def edits(self) -> list[Edit]:
        """List the layers in which something changes."""
        identity = self.scale == 1 and not self.shift[self.changed].any()
        edits = []
        for z, layer in enumerate(self.space.layers):
            own = slice(int(self.space.offsets[z]), int(self.space.offsets[z + 1]))
            neurons = np.flatnonzero(self.changed[own])
            if neurons.size and not identity:
                scale = np.full(neurons.size, self.scale, dtype=np.float32)
                edits.append(Edit(layer.module, neurons, scale, self.shift[own][neurons].astype(np.float32)))
        return edits

    def digest(self) -> str:
        """Hash of what it does to which neurons."""
        content = hashlib.sha256(self.target.members.tobytes())
        content.update(np.ascontiguousarray(self.shift, dtype=np.float32).tobytes())
        return digest([self.kind, self.label, self.scale, self.space.geometry, content.hexdigest()])

    def on_other(self, target: Network) -> "Intervention":
        """Give the same intervention on other neurons, such as those of a matched control."""
        return Intervention(self.kind, target, self.scale, self.shift, self.label)

    @contextlib.contextmanager
    def on(self, model: PreTrainedModel, strict: bool = False) -> Iterator[PreTrainedModel]:
        """Apply it to a model while the body runs.

        Interventions nest. The model's weights are never touched, and only the hooks made here are removed, also if the
        body raises.

        Parameters
        ----------
        model : PreTrainedModel
            Of the geometry of the network.
        strict : bool, default=False
            Refuse other weights than those recorded, instead of warning.

        Raises
        ------
        SpaceMismatchError
            If the geometry differs or, with `strict`, the weights.
        """
        self._check(model, strict)
        with contextlib.ExitStack() as stack:
            for edit in self.edits():
                module = model.base_model.get_submodule(edit.module)
                stack.callback(attach(module, self.space.site, _writer(edit)).remove)
            stack.enter_context(altered(model, repr(self)))
            yield model

    def _check(self, model: PreTrainedModel, strict: bool) -> None:
        try:
            found = widths(model, self.space)
        except SiteError as error:
            raise SpaceMismatchError(str(error)) from error
        if tuple(found) != self.space.widths:
            raise SpaceMismatchError(
                f"{type(model).__name__} has layers of width {found} at {self.space.site}; the network has "
                f"{list(self.space.widths)}. Use the model that was recorded."
            )
        n_blocks = getattr(model.config.get_text_config(), "num_hidden_layers", self.space.n_layers)
        if n_blocks != self.space.n_layers:
            raise SpaceMismatchError(
                f"{type(model).__name__} has {n_blocks} layers, the network {self.space.n_layers}. "
                "Use the model that was recorded."
            )
        own = NeuronSpace(self.space.layers, self.space.site, describe_model(model))
        self.space.check_same(own, type(model).__name__, strict)

    def __repr__(self) -> str:
        return f"<{self.kind} ({self.label}) of {self.target.name!r}: {int(self.changed.sum())} neurons changed>"


def _writer(edit: Edit) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make the function that a hook calls: clone, write only the edited coordinates, return."""
    prepared: dict[tuple[torch.device, torch.dtype], tuple[torch.Tensor, ...]] = {}
    silent = bool((edit.scale == 0).all())

    def write(activation: torch.Tensor) -> torch.Tensor:
        key = (activation.device, activation.dtype)
        if key not in prepared:
            # Never as inference tensors, though a task may come first: a later forward pass may want gradients.
            with torch.inference_mode(False):
                neurons = torch.from_numpy(edit.neurons).to(activation.device)
                scale, shift = (torch.from_numpy(part).to(*key) for part in (edit.scale, edit.shift))
            prepared[key] = neurons, scale, shift
        neurons, scale, shift = prepared[key]
        changed = activation.clone()
        # A silenced neuron is set, not multiplied: 0 times infinity would be NaN.
        changed[..., neurons] = (
            shift.expand(*activation.shape[:-1], -1) if silent else activation[..., neurons] * scale + shift
        )
        return changed

    return write


def lesion(network: Network, baseline: "str | Recording" = "zero") -> Intervention:
    """Silence the neurons of a network at every token.

    Parameters
    ----------
    network : Network
        Thresholded; an empty one changes nothing.
    baseline : "zero" or Recording, default="zero"
        What a silenced neuron gives: 0, as in the paper, or its mean over a recording.
    """
    shift, label = _baseline(network.space, baseline)
    return Intervention("lesion", _one(network), 0.0, shift, label)


def preserve(network: Network, baseline: "str | Recording" = "zero") -> Intervention:
    """Silence all neurons but those of a network.

    Parameters
    ----------
    network : Network
        Thresholded; of an empty one nothing is left.
    baseline : "zero" or Recording, default="zero"
        What a silenced neuron gives.
    """
    shift, label = _baseline(network.space, baseline)
    return Intervention("preserve", _one(network), 0.0, shift, label)


def amplify(network: Network, gain: float | None = None, offset: float | None = None) -> Intervention:
    """Raise the activity of a network's neurons.

    Parameters
    ----------
    network : Network
        Thresholded.
    gain : float, optional
        Factor on every activation; 1 changes nothing.
    offset : float, optional
        Constant added to every activation, as in the paper's code. Either `gain` or `offset` is needed, not both.
    """
    if (gain is None) == (offset is None):
        raise ValueError(f"gain is {gain} and offset is {offset}; give exactly one of them.")
    for name, value in (("gain", gain), ("offset", offset)):
        if value is not None and not np.isfinite(value):
            raise ValueError(f"{name} is {value}; it must be finite.")
    shift = np.full(network.space.n_neurons, 0.0 if offset is None else offset, dtype=np.float32)
    label = f"gain {gain:g}" if gain is not None else f"offset {offset:g}"
    return Intervention("amplify", _one(network), 1.0 if gain is None else float(gain), shift, label)


def _one(network: Network) -> Network:
    if isinstance(network, NetworkSet):
        raise TypeError("An intervention takes one network. Pick one, networks[3], or merge all: networks.union().")
    _ = network.members  # raises now, rather than inside the model, if it is not thresholded
    return network


def _baseline(space: NeuronSpace, baseline: "str | Recording") -> tuple[np.ndarray, str]:
    if isinstance(baseline, str):
        if baseline != "zero":
            raise ValueError(f"baseline is {baseline!r}; accepted are 'zero' and a Recording, for its mean.")
        return np.zeros(space.n_neurons, dtype=np.float32), "zero"
    space.check_same(baseline.space, f"The recording of {baseline.corpus!r}")
    return baseline.mean.astype(np.float32), f"mean of {baseline.corpus}"
