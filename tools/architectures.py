"""Test all head classes of transformers as small models, and write the page of supported architectures.

    python tools/architectures.py > docs/architectures.md

Every site is detected and self-tested as for any model: one call per forward pass, width and layout, a lesion that
equals zeroed weights, and an unchanged model afterwards. Sites that are not supported are listed with the reason.
"""

import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
import transformers
from transformers import PreTrainedModel

from lmri.exceptions import SiteError
from lmri.models.batching import largest_difference, tolerance
from lmri.models.sites import find_sites
from lmri.models.sites.caveats import caveats
from lmri.space import NeuronSpace
from lmri.space.layers import Layer
from shrinking import HEADS, build_small, head_classes

SITES = ("mlp_out", "mlp_hidden", "attn_out")
DECODER_SITE = "decoder_mlp_out"

_SWITCHES = "transformers may switch it to full attention at the first short text, for good"
_NOTES = {
    "rwkv": "the MLP is the channel mix; `attn_out` is the output of the time mix",
    "recurrent_gemma": "the recurrent half of a block is not a site",
    "albert": "layers share their weights, and are calls of one module",
    "reformer": "reversible: attention and MLP write to separate streams",
    "big_bird": _SWITCHES,
    "bigbird_pegasus": _SWITCHES,
    "bitnet": "a normalization follows the activation; `mlp_hidden` is recorded after it",
    "gemma3n_text": "the per-layer projection is not a site",
}


@dataclass
class Row:
    """Result for one class."""

    head: str
    kind: str
    name: str
    failure: str = ""
    """Reason why the class could not be built."""
    spaces: dict[str, NeuronSpace] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    """Reasons why sites are not supported, by site."""
    caveats: list[str] = field(default_factory=list)
    stack: str = ""
    alone: str = ""
    """Whether a text in a batch has the values that it has alone, and otherwise the largest relative difference."""

    @property
    def works(self) -> bool:
        """Whether the MLP can be recorded."""
        return "mlp_out" in self.spaces or "mlp_hidden" in self.spaces


def sweep(only: Iterable[tuple[str, str, str]] | None = None) -> list[Row]:
    """Test all head classes, or the given classes."""
    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes warn about unusual sizes
        return [_try(*names) for names in (head_classes() if only is None else only)]


def _try(head: str, kind: str, name: str) -> Row:
    row = Row(head, kind, name)
    try:
        model = build_small(name)
    except Exception as error:  # classes may raise any error for a small configuration
        row.failure = _first(error)
        return row
    row.stack = "encoder, decoder" if model.config.is_encoder_decoder else "one"
    for site in (*SITES, DECODER_SITE) if model.config.is_encoder_decoder else SITES:
        _look(model, site, row)
    spaces = [row.spaces[site] for site in ("mlp_out", "mlp_hidden") if site in row.spaces]
    row.alone = _alone(model) if spaces else ""
    row.caveats = list(dict.fromkeys(caveat for space in spaces for caveat in caveats(model, space)))
    return row


def _look(model: PreTrainedModel, site: str, row: Row) -> None:
    try:
        row.spaces[site] = find_sites(model, site)
    except SiteError as error:
        row.reasons[site] = _first(error)
    except Exception as error:  # the model itself fails on a plain text
        row.reasons[site] = f"it fails to read a text: {_first(error)}"


def _alone(model: PreTrainedModel) -> str:
    """Compare texts in a batch with each text alone."""
    try:
        largest = largest_difference(model)
    except Exception as error:  # such as a class that reads only texts of certain lengths
        return f"not measured: {_first(error)}"
    return "yes" if largest <= tolerance(model) else f"no ({largest:.2g})"


def _first(error: Exception) -> str:
    """Return the first sentence of an error message, or of its last line for validation errors."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()] or [""]
    text = lines[-1] if "validation error" in lines[0] else lines[0]
    text = re.split(r"(?<=[a-z0-9)'])[.;] (?=[A-Z])", text)[0].rstrip(".")
    text = re.sub(r" \(linear modules: .*|(?<=differs) by \S+", "", text)
    text = text if len(text) <= 200 else f"{text[:197]}..."
    return text if isinstance(error, SiteError | ValueError) else f"{type(error).__name__}: {text}"


def pattern(layers: Iterable[Layer]) -> str:
    """Format the paths of modules, with {z} for the number of the block."""
    paths = [layer.module for layer in layers]
    kinds = [re.sub(r"\d+", "{z}", path, count=1) if len(set(paths)) > 1 else path for path in paths]
    return ", ".join(f"`{kind}`" for kind in dict.fromkeys(kinds))


def kind_of(row: Row) -> str:
    """Return the kind of the MLPs of a class."""
    layers = [layer for space in row.spaces.values() if "mlp" in space.site for layer in space.layers]
    named = {
        "experts": any(layer.expert is not None for layer in layers),
        "shared layers": any(layer.call is not None for layer in layers),
    }
    return ", ".join(name for name, is_so in named.items() if is_so) or "dense"


# ---------------------------------------------------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------------------------------------------------


def page(rows: list[Row]) -> str:
    """Return the text of the page."""
    built = [row for row in rows if not row.failure]
    complete = [row for row in built if row.works and not {"mlp_out", "mlp_hidden"} - set(row.spaces)]
    attention = [row for row in built if "attn_out" in row.spaces]
    kinds = Counter(kind_of(row) for row in built if row.works)
    versions = f"transformers {transformers.__version__} and torch {torch.__version__.partition('+')[0]}"
    parts = [
        "# Supported architectures",
        "",
        f"Measured with {versions} by `python tools/architectures.py`, which writes this page.",
        "",
        f"transformers declares {len(rows)} head classes for language ({', '.join(HEADS)}). "
        f"{len(built)} of them could be built as small models with random weights. The MLP can be recorded and "
        f"lesioned in **{sum(row.works for row in built)} of these {len(built)} classes** "
        f"({', '.join(f'{number} {kind}' for kind, number in sorted(kinds.items()))}), "
        f"at both of its sites in {len(complete)} classes. Attention can be recorded in {len(attention)} classes.",
        "",
        "A class is supported if the MLP is found without naming a projection and passes the self-test that precedes "
        "every recording. The self-test checks that every layer is called once per forward pass, with the expected "
        "width and layout; that, in one layer, a lesion equals zeroed weights; and that the model is unchanged "
        "afterwards, bit for bit. The results do not cover trained weights. Classes that are not supported are refused "
        "with the reason given here, and never produce numbers.",
        "",
        "*Equal to the text alone*. 'yes': a text in a batch with longer and shorter texts has the last hidden states "
        "that it has alone, up to rounding. 'no': it has others, with the largest root-mean-square difference of a "
        "token relative to its text; lmri reads the texts of such models one at a time.",
        "",
        "*Caveats*. 'post-norm': the sum of residual stream and MLP output is normalized. 'normalized': the MLP output "
        "is normalized before it is added. In both cases, a lesion of one neuron rescales others. '× 0.5' is a "
        "constant factor, and 'weighted' means factors that differ between tokens or neurons. "
        "`lmri.sites.caveats.caveats` determines the caveats of any model.",
        "",
    ]
    for head in HEADS:
        parts += _table(head, [row for row in rows if row.head == head])
    return "\n".join([*parts, *_NAMING])


_NAMING = [
    "## Naming a projection manually",
    "",
    "A model that is refused may still contain a linear map that is worth recording. Name its path within a block:",
    "",
    "```python",
    "for name, module in lmri.sites.blocks(model)[0].named_modules():  # look for the path of the linear map",
    "    print(name, module)",
    'space = lmri.find_sites(model, "mlp_hidden", projection="mlp.my_down")',
    "```",
    "",
    "On the command line, use `lmri record ... --projection mlp.my_down`. The self-test is the same except for the "
    "search: it does not check that the map is the last one of an MLP.",
    "",
]


def _table(head: str, rows: list[Row]) -> list[str]:
    works = [row for row in rows if row.works]
    refused = [row for row in rows if not row.failure and not row.works]
    failed = [row for row in rows if row.failure]
    lines = [
        f"## {head}: {len(works)} of {len(rows) - len(failed)} classes",
        "",
        "| class | model type | stack | MLP | equal to the text alone | projection | attention's projection | "
        "caveats and unsupported sites |",
        "|---|---|---|---|---|---|---|---|",
        *(line(row) for row in works),
        "",
    ]
    if refused:
        lines += ["Not supported:", "", "| class | model type | reason |", "|---|---|---|"]
        lines += [line(row) for row in refused]
        lines += [""]
    if failed:
        lines += ["Not tested (no small model could be built):", "", "| class | model type | reason |", "|---|---|---|"]
        lines += [line(row) for row in failed]
        lines += [""]
    return lines


def line(row: Row) -> str:
    """Return the table row of a class."""
    if not row.works:
        return f"| {row.name} | {row.kind} | {_safe(row.failure or row.reasons['mlp_hidden'])} |"
    space = row.spaces.get("mlp_hidden") or row.spaces["mlp_out"]
    projection = pattern(space.layers)
    if DECODER_SITE in row.spaces:
        projection += f"; {pattern(row.spaces[DECODER_SITE].layers)}"
    attention = pattern(row.spaces["attn_out"].layers) if "attn_out" in row.spaces else "–"
    remarks = [_short(caveat) for caveat in row.caveats]
    remarks += [f"{site}: {reason}" for site, reason in row.reasons.items()]
    remarks += [_NOTES[row.kind]] if row.kind in _NOTES else []
    cells = (
        row.name,
        row.kind,
        row.stack,
        kind_of(row),
        _safe(row.alone),
        projection,
        attention,
        _safe("; ".join(remarks)),
    )
    return f"| {' | '.join(cells)} |"


def _short(caveat: str) -> str:
    if factor := re.search(r"multiplied by (\S+) before", caveat):
        return f"× {factor[1]}"
    for word, short in (("(post-norm)", "post-norm"), ("is normalized before", "normalized"), ("weighted", "weighted")):
        if word in caveat:
            return short
    return caveat.rstrip(".")


def _safe(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    torch.set_num_threads(1)  # threads do not speed up small models
    sys.stdout.write(page(sweep()))
