"""Make interventions: three constructors of one type."""

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
    """Silence the neurons of a network, at every token or at all but some.

    Parameters
    ----------
    network : Network
        Thresholded; an empty one changes nothing.
    baseline : "zero", Recording or ResampleSource, default="zero"
        What a silenced neuron gives: 0, as in the paper, its mean over a recording, or its value at a donor token of
        another text (``lmri.ResampleSource.draw(recording, seed=0)``). Zero and the mean are values a model may never
        see together; those of a donor were there together once.
    spare : "sinks", optional
        Leave the first token of every text alone: the attention sink of decoders, whose massive activations a lesion
        of any network would take away.
    spare_positions : iterable of int, optional
        Leave these places of every text alone, counted from 0 and without pads.
    spare_tokens : iterable of int, optional
        Leave tokens of these ids alone, such as ``[tokenizer.bos_token_id]``.
    positions : {"prompt", "generated", "last"} or iterable of int, optional
        Change only these tokens: while text is generated, those of the prompt, those that were generated, or the last
        of each forward pass; or these places of every text. All, if it is not given. What is read with a cache of keys
        and values is generated: a text that is scored is read at once, and all of it counts as prompt, and so does all
        that is generated with ``use_cache=False``.
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
    """Silence all neurons but those of a network; experts that were not recorded run on.

    Parameters
    ----------
    network : Network
        Thresholded; of an empty one nothing is left.
    baseline : "zero", Recording or ResampleSource, default="zero"
        What a silenced neuron gives.
    spare, spare_positions, spare_tokens, positions
        Tokens to leave alone, or the only ones to change, as of `lesion`.
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
    """Raise the activity of a network's neurons.

    Parameters
    ----------
    network : Network
        Thresholded.
    gain : float, optional
        Factor on every activation; 1 changes nothing.
    offset : float, optional
        Constant added to every activation, as in the paper's code. Either `gain` or `offset` is needed, not both.
    along_sign : bool, default=False
        Add the offset where the weight of a neuron is positive, and take it away where it is negative, so that the
        network moves along its map. A network of which only the members are known is positive throughout.
    spare, spare_positions, spare_tokens, positions
        Tokens to leave alone, or the only ones to change, as of `lesion`.
    """
    if (gain is None) == (offset is None):
        raise ValueError(f"gain is {gain} and offset is {offset}; give exactly one of them.")
    for name, value in (("gain", gain), ("offset", offset)):
        if value is not None and not np.isfinite(value):
            raise ValueError(f"{name} is {value}; it must be finite.")
    if along_sign and (offset is None or offset < 0):
        raise ValueError(
            f"along_sign goes with an offset of at least 0, and offset is {offset}. A gain keeps signs by itself; to "
            "move against the map, lesion the network or give a constant offset."
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
    _ = network.members  # raises now, rather than inside the model, if it is not thresholded
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
                f"baseline is {baseline!r}; accepted are 'zero' and a Recording, for its mean, and "
                "ResampleSource.draw(recording), for its values at donor tokens."
            )
        return _zeros(space), "zero", None
    space.check_same(baseline.space, f"The recording of {baseline.corpus!r}")
    if any(layer.expert is not None for layer in space.layers):
        raise ValueError(
            f"The baseline is of {baseline.corpus!r}, but an expert does not run at tokens that are not routed to it, "
            "so that its mean and its donors would be zeros for the most part. Take the baseline 'zero' for experts."
        )
    if not isinstance(baseline, ResampleSource):
        check_tokens(baseline)
    if isinstance(baseline, ResampleSource):
        return _zeros(space), baseline.label, baseline
    return baseline.mean.astype(np.float32), f"mean of {baseline.corpus}", None
