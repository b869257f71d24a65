"""The intervention: it changes activations of some neurons of a live model, which is restored afterwards."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from transformers import PreTrainedModel

from lmri.exceptions import SiteError, SpaceMismatchError
from lmri.lesions.baselines.resample_source import ResampleSource
from lmri.lesions.interventions.positions import MaskedTokens, TokenMask
from lmri.lesions.interventions.resampling import CurrentTokens
from lmri.models import altered, check_readable, describe_model, transformer
from lmri.models.sites import hooked, n_declared, to_batch_tokens, widths
from lmri.networks import Network
from lmri.space import NeuronSpace
from lmri.space.layers import stack_of
from lmri.storage import digest


@dataclass(frozen=True)
class Edit:
    """Change of the activations of one layer.

    Parameters
    ----------
    layer : int
        Index of the layer in the space.
    module : str
        Path of the layer's module, relative to the base model.
    neurons : ndarray of int, shape (n_edited,)
        Indices of the edited neurons, sorted.
    scale, shift : ndarray of float32, shape (n_edited,)
        Factor and offset: an activation ``x`` becomes ``scale * x + shift``.
    donors : ndarray of float32, shape (n_donors, n_edited), optional
        Activations at donor tokens; if given, an activation becomes its value at the token's donor instead.
    """

    layer: int
    module: str
    neurons: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    donors: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Intervention:
    """A change of a model's activity, at all tokens or at a subset.

    Parameters
    ----------
    kind : {"lesion", "preserve", "amplify"}
        Kind of intervention.
    target : Network
        Target neurons: changed by a lesion or an amplification, spared by a preservation.
    scale : float
        Factor applied at the changed neurons.
    shift : ndarray of shape (n_neurons,)
        Offset added at the changed neurons; the baseline of a lesion.
    label : str
        Label in scores, such as ``"zero"`` or ``"gain 1.5"``.
    donors : ResampleSource, optional
        Donor tokens whose values replace the activations.
    sign_offset : float
        Magnitude of an offset with the sign of each target weight, if not 0; `shift` is then recomputed for another
        target.
    spare : TokenMask, optional
        Mask of the tokens at which nothing is changed.
    """

    kind: str
    target: Network
    scale: float
    shift: np.ndarray
    label: str
    donors: ResampleSource | None = None
    sign_offset: float = 0.0
    spare: TokenMask | None = None

    @property
    def space(self) -> NeuronSpace:
        """Space of the target's neurons."""
        return self.target.space

    @property
    def changed(self) -> np.ndarray:
        """Mask of the changed neurons: bool, ``(n_neurons,)``."""
        return ~self.target.members if self.kind == "preserve" else self.target.members

    @property
    def fit_texts(self) -> frozenset[str]:
        """Hashes of the texts that the intervention depends on: the network's texts and the donor tokens' texts."""
        return self.target.fit_texts | (self.donors.texts if self.donors else frozenset())

    def edits(self) -> list[Edit]:
        """List the edits, one per layer in which an activation changes."""
        identity = self.donors is None and self.scale == 1 and not self.shift[self.changed].any()
        edits = []
        for z, layer in enumerate(self.space.layers):
            in_layer = slice(int(self.space.offsets[z]), int(self.space.offsets[z + 1]))
            neurons = np.flatnonzero(self.changed[in_layer])
            if neurons.size and not identity:
                scale = np.full(neurons.size, self.scale, dtype=np.float32)
                shift = self.shift[in_layer][neurons].astype(np.float32)
                donors = None if self.donors is None else self.donors.values[:, in_layer][:, neurons]
                edits.append(Edit(z, layer.module, neurons, scale, shift, donors))
        return edits

    def digest(self) -> str:
        """Return the hash of the neurons, the change and the spared tokens."""
        content = hashlib.sha256(self.target.members.tobytes())
        content.update(np.ascontiguousarray(self.shift, dtype=np.float32).tobytes())
        # Absent parts are omitted, so that the hashes of earlier stored scores stay valid.
        optional = [part.digest() for part in (self.donors, self.spare) if part is not None]
        return digest([self.kind, self.label, self.scale, self.space.geometry, content.hexdigest(), *optional])

    def on_other(self, target: Network) -> "Intervention":
        """Return the same intervention on other neurons, such as a matched control."""
        shift = signed_offset(target, self.sign_offset) if self.sign_offset else self.shift
        return replace(self, target=target, shift=shift)

    @contextlib.contextmanager
    def on(self, model: PreTrainedModel, strict: bool = False) -> Iterator[PreTrainedModel]:
        """Apply the intervention to a model within the ``with`` block.

        Interventions can be nested. The model's weights are never changed. Only the hooks registered here are removed,
        even if the body raises.

        Parameters
        ----------
        model : PreTrainedModel
            Model with the geometry of the network.
        strict : bool, default=False
            Whether to refuse weights that differ from the recorded ones, instead of warning.

        Raises
        ------
        SpaceMismatchError
            If the geometry differs or, with `strict`, the weights.
        """
        check_readable(model)
        wrapper, model = model, transformer(model)
        self._check(model, strict)
        with contextlib.ExitStack() as stack:
            edits = self.edits()
            reading = self._reading() if edits else None
            if reading is not None:
                stack.enter_context(reading.of(model, edits[0].module))
            stack.enter_context(hooked(model, self.space, {edit.layer: _writer(edit, reading) for edit in edits}))
            stack.enter_context(altered(model, repr(self)))
            yield wrapper

    def _reading(self) -> CurrentTokens | None:
        """Return the tracker of the current tokens; None if the change does not depend on tokens."""
        if self.spare is not None:
            return MaskedTokens(self.spare, self.donors)
        return CurrentTokens(self.donors) if self.donors is not None else None

    def _check(self, model: PreTrainedModel, strict: bool) -> None:
        try:
            layer_widths = widths(model, self.space)
        except SiteError as error:
            raise SpaceMismatchError(str(error)) from error
        if tuple(layer_widths) != self.space.widths:
            raise SpaceMismatchError(
                f"{type(model).__name__} has layers of width {layer_widths} at {self.space.site}; the network has "
                f"{list(self.space.widths)}. Use the model that was recorded."
            )
        n_blocks, needed = n_declared(model, stack_of(self.space.site)), max(self.space.blocks) + 1
        if n_blocks not in (None, needed):
            raise SpaceMismatchError(
                f"{type(model).__name__} has {n_blocks} layers, the network {needed}. Use the model that was recorded."
            )
        model_space = NeuronSpace(self.space.layers, self.space.site, describe_model(model))
        self.space.check_same(model_space, type(model).__name__, strict)

    def __repr__(self) -> str:
        return f"<{self.kind} ({self.label}) of {self.target.name!r}: {int(self.changed.sum())} neurons changed>"


def signed_offset(network: Network, offset: float) -> np.ndarray:
    """Return the offset of every neuron with the sign of its weight, float32; 0 where the weight is 0."""
    return (np.float32(offset) * np.sign(network.weights)).astype(np.float32)


def _writer(edit: Edit, reading: CurrentTokens | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the hook function: it copies the activation, edits coordinates, and restores spared tokens."""
    replace_ = _donor_writer(edit, reading) if edit.donors is not None and reading is not None else _affine_writer(edit)
    if not isinstance(reading, MaskedTokens):
        return replace_

    def write(activation: torch.Tensor) -> torch.Tensor:
        changed = replace_(
            activation
        ).contiguous()  # `to_batch_tokens` below needs a view, even of OPT's flattened layers
        spared = reading.spared.to(activation.device)
        # Original values are copied back, so that spared tokens are bit-identical to the input.
        to_batch_tokens(changed, *spared.shape)[spared] = to_batch_tokens(activation, *spared.shape)[spared]
        return changed

    return write


def _affine_writer(edit: Edit) -> Callable[[torch.Tensor], torch.Tensor]:
    silent = bool((edit.scale == 0).all())

    @functools.cache
    def prepare(width: int, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        # No inference tensors, even if a task runs first: a later forward pass may need gradients.
        with torch.inference_mode(False):
            neurons = torch.from_numpy(edit.neurons).to(device)
            chosen = torch.zeros(width, dtype=torch.bool, device=device).index_fill(0, neurons, True)
            scale, shift = (
                torch.zeros(width, dtype=dtype, device=device).index_copy(
                    0, neurons, _to_tensor(part, device, dtype, edit.module)
                )
                for part in (edit.scale, edit.shift)
            )
            return chosen, scale, shift

    def write(activation: torch.Tensor) -> torch.Tensor:
        chosen, scale, shift = prepare(activation.shape[-1], activation.device, activation.dtype)
        # One pass over the layer. A silenced neuron is set, not multiplied: 0 times infinity would be NaN.
        return torch.where(chosen, shift if silent else activation * scale + shift, activation)

    return write


def _donor_writer(edit: Edit, reading: CurrentTokens) -> Callable[[torch.Tensor], torch.Tensor]:
    @functools.cache
    def prepare(device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode(False):
            neurons = torch.from_numpy(edit.neurons).to(device)
            return neurons, _to_tensor(cast(np.ndarray, edit.donors), device, dtype, edit.module)

    def write(activation: torch.Tensor) -> torch.Tensor:
        neurons, values = prepare(activation.device, activation.dtype)
        changed = activation.clone(memory_format=torch.contiguous_format)
        donors = reading.donor_of_token.to(activation.device)
        # A view, so that writing also works for the flattened layers of OPT.
        to_batch_tokens(changed, *donors.shape)[..., neurons] = values[donors]
        return changed

    return write


def _to_tensor(values: np.ndarray, device: torch.device, dtype: torch.dtype, module: str) -> torch.Tensor:
    """Convert values to the dtype of the activations, and check that they fit."""
    tensor = torch.from_numpy(np.ascontiguousarray(values)).to(device, dtype)
    if not tensor.isfinite().all():
        raise ValueError(
            f"Values to be written at {module!r} reach {np.abs(values).max():.3g}, which exceeds the range of "
            f"{str(dtype).removeprefix('torch.')}. Load the model in another number format: dtype='bfloat16'."
        )
    return tensor
