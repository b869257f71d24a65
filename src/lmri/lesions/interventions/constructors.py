"""Constructors of interventions: lesion, preserve and amplify."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from lmri.lesions.baselines.resample_source import ResampleSource, check_tokens
from lmri.lesions.interventions.base import Intervention, signed_offset
from lmri.lesions.interventions.positions import TokenMask, make_token_mask
from lmri.networks import Network, NetworkSet
from lmri.space import NeuronSpace

if TYPE_CHECKING:
    from lmri.storage.recording import Recording


def lesion(
    network: Network,
    baseline: "str | Recording | ResampleSource" = "zero",
    spare: str | None = None,
    spare_positions: Iterable[int] | None = None,
    spare_tokens: Iterable[int] | None = None,
    positions: str | Iterable[int] | None = None,
) -> Intervention:
    """Lesion the neurons of a network, at all tokens or at a subset.

    Parameters
    ----------
    network : Network
        Thresholded network; an empty one changes nothing.
    baseline : "zero", Recording or ResampleSource, default="zero"
        Value assigned to lesioned neurons: 0, as in the paper; the neuron's mean over a recording; or its value at a
        donor token of another text (``lmri.ResampleSource.draw(recording, seed=0)``). A model may never produce zeros
        or means jointly in these neurons; the values at a donor token did occur together.
    spare : "sinks", optional
        Exclude the first token of every text: the attention sink of decoders, whose massive activations a lesion of any
        network would remove.
    spare_positions : iterable of int, optional
        Positions to exclude in every text, counted from 0 without padding.
    spare_tokens : iterable of int, optional
        Token ids to exclude, such as ``[tokenizer.bos_token_id]``.
    positions : {"prompt", "generated", "last"} or iterable of int, optional
        Tokens to change: during generation, the tokens of the prompt, the generated tokens, or the last token of each
        forward pass; or these positions of every text. All tokens by default. Tokens that are read with a non-empty
        key-value cache count as generated. A scored text is read at once, so all of it counts as prompt, and so does a
        text generated with ``use_cache=False``.
    """
    shift, label, donors = _baseline(network.space, baseline)
    spared, label = _token_mask(label, spare, spare_positions, spare_tokens, positions)
    return Intervention("lesion", _single(network), 0.0, shift, label, donors, spare=spared)


def preserve(
    network: Network,
    baseline: "str | Recording | ResampleSource" = "zero",
    spare: str | None = None,
    spare_positions: Iterable[int] | None = None,
    spare_tokens: Iterable[int] | None = None,
    positions: str | Iterable[int] | None = None,
) -> Intervention:
    """Silence all neurons except those of a network; experts that were not recorded stay active.

    Parameters
    ----------
    network : Network
        Thresholded network; an empty one leaves no neuron active.
    baseline : "zero", Recording or ResampleSource, default="zero"
        Value assigned to lesioned neurons.
    spare, spare_positions, spare_tokens, positions
        Tokens to exclude, or the only tokens to change, as in `lesion`.
    """
    shift, label, donors = _baseline(network.space, baseline)
    spared, label = _token_mask(label, spare, spare_positions, spare_tokens, positions)
    return Intervention("preserve", _single(network), 0.0, shift, label, donors, spare=spared)


def amplify(
    network: Network,
    gain: float | None = None,
    offset: float | None = None,
    along_sign: bool = False,
    spare: str | None = None,
    spare_positions: Iterable[int] | None = None,
    spare_tokens: Iterable[int] | None = None,
    positions: str | Iterable[int] | None = None,
) -> Intervention:
    """Amplify the activity of a network's neurons.

    Parameters
    ----------
    network : Network
        Thresholded network.
    gain : float, optional
        Factor on every activation; 1 changes nothing.
    offset : float, optional
        Constant added to every activation, as in the paper's code. Exactly one of `gain` and `offset` is needed.
    along_sign : bool, default=False
        Whether to add the offset where a neuron's weight is positive and subtract it where it is negative, so that the
        activity moves along the map. All weights count as positive if only the members of a network are known.
    spare, spare_positions, spare_tokens, positions
        Tokens to exclude, or the only tokens to change, as in `lesion`.
    """
    if (gain is None) == (offset is None):
        raise ValueError(f"gain is {gain} and offset is {offset}; exactly one is needed. Give gain or offset.")
    for name, value in (("gain", gain), ("offset", offset)):
        if value is not None and not np.isfinite(value):
            raise ValueError(f"{name} is {value}; it must be finite.")
    if along_sign and (offset is None or offset < 0):
        raise ValueError(
            f"along_sign needs an offset of at least 0; offset is {offset}. A gain preserves signs anyway. To move "
            "against the map, lesion the network or give a constant offset."
        )
    what = f"gain {gain:g}" if gain is not None else f"offset {offset:g}{' along sign' * along_sign}"
    spared, label = _token_mask(what, spare, spare_positions, spare_tokens, positions)
    if gain is not None:
        return Intervention("amplify", _single(network), float(gain), _zeros(network.space), label, spare=spared)
    if not along_sign:
        shift = np.full(network.space.n_neurons, offset, dtype=np.float32)
        return Intervention("amplify", _single(network), 1.0, shift, label, spare=spared)
    step = float(offset or 0)
    shift = signed_offset(_single(network), step)
    return Intervention("amplify", network, 1.0, shift, label, sign_offset=step, spare=spared)


def _single(network: Network) -> Network:
    if isinstance(network, NetworkSet):
        raise TypeError("An intervention takes one network. Pick one, networks[3], or merge all: networks.union().")
    _ = network.members  # raises here, and not inside the model, if the network is not thresholded
    return network


def _token_mask(
    label: str,
    spare: str | None,
    positions: Iterable[int] | None,
    tokens: Iterable[int] | None,
    only: str | Iterable[int] | None,
) -> tuple[TokenMask | None, str]:
    mask = make_token_mask(spare, positions, tokens, only)
    return mask, f"{label}, {mask.label}" if mask else label


def _zeros(space: NeuronSpace) -> np.ndarray:
    return np.zeros(space.n_neurons, dtype=np.float32)


def _baseline(
    space: NeuronSpace, baseline: "str | Recording | ResampleSource"
) -> tuple[np.ndarray, str, ResampleSource | None]:
    if isinstance(baseline, str):
        if baseline != "zero":
            raise ValueError(
                f"baseline is {baseline!r}; accepted values are 'zero', a Recording (its mean), and "
                "ResampleSource.draw(recording) (its values at donor tokens)."
            )
        return _zeros(space), "zero", None
    space.check_same(baseline.space, f"The recording of {baseline.corpus!r}")
    if any(layer.expert is not None for layer in space.layers):
        raise ValueError(
            f"The baseline comes from {baseline.corpus!r}, but an expert does not run at tokens that are not routed to "
            "it, so its mean and its donor values would be mostly zeros. Use the baseline 'zero' for experts."
        )
    if not isinstance(baseline, ResampleSource):
        check_tokens(baseline)
    if isinstance(baseline, ResampleSource):
        return _zeros(space), baseline.label, baseline
    return baseline.mean.astype(np.float32), f"mean of {baseline.corpus}", None
