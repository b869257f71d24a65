"""Models and tokenizers: loading them, telling them apart, and turning texts into tokens."""

from lmri.models.checks import check_readable, check_tokenizer, unknown_id, warn_of_unknown, warn_of_unknown_share
from lmri.models.identity import EMBEDDED, alterations, altered, describe_model, fingerprint, location, look_closely
from lmri.models.loading import DTYPES, load_model, quiet
from lmri.models.offloading import is_offloaded
from lmri.models.quantization import parse_precision, precision, quantization_of
from lmri.models.reading import (
    Encoding,
    bucket,
    context_length,
    encode,
    evaluation_mode,
    hashes,
    input_device,
    plan_batches,
    read,
    reader,
    right_pad,
)

__all__ = [
    "DTYPES",
    "EMBEDDED",
    "Encoding",
    "alterations",
    "altered",
    "bucket",
    "check_readable",
    "check_tokenizer",
    "context_length",
    "describe_model",
    "encode",
    "evaluation_mode",
    "fingerprint",
    "hashes",
    "input_device",
    "is_offloaded",
    "load_model",
    "location",
    "look_closely",
    "parse_precision",
    "plan_batches",
    "precision",
    "quantization_of",
    "quiet",
    "read",
    "reader",
    "right_pad",
    "unknown_id",
    "warn_of_unknown",
    "warn_of_unknown_share",
]
