"""All checks of a model, in order."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

import lmri
from lmri.models import describe_model, transformer
from lmri.models.device_check import devices_of
from lmri.storage.text_files import TextFile
from lmri.storage.texts import read_texts
from lmri.verification import file_checks, model_checks
from lmri.verification.model_checks import Outcome, Subject
from lmri.verification.result import FAILED, NOT_DONE, Check, Verification

N_TEXTS = 8
"""Largest number of texts that are read."""

TEXTS = (
    "The river runs past the old mill, under the bridge, and into the sea.",
    "Two plus two is four.",
    "In 1905 a clerk at the patent office in Bern published four papers that changed physics; the third of them "
    "treated the motion of small particles suspended in a liquid, and gave a way to count molecules.",
    'def add(a, b):\n    return a + b  # "sum"',
    "Yes.",
    "Nobody had expected rain that morning, so nobody carried an umbrella when the first drops began to fall.",
)
"""Texts that are read if the user gives none."""

CHECKS: tuple[tuple[str, Callable[[Subject], Outcome]], ...] = (
    ("nothing in the program changes the model", model_checks.undisturbed),
    ("site found in every layer of the text model", model_checks.site_found),
    ("nothing bypasses the site", model_checks.nothing_bypasses),
    ("recording equals plain hooks", model_checks.recorded_alone),
    ("recording in batches equals each text alone", model_checks.recorded_in_batches),
    ("lesion equals zeroed weights", model_checks.lesion_is_zeroing),
    ("model restored bit for bit", model_checks.restored),
    ("likelihoods only from causal models", model_checks.likelihoods_are_causal),
    ("special tokens read once", model_checks.special_tokens),
    ("fingerprint identifies the model", model_checks.identified),
    ("device agrees with the CPU", model_checks.device_agrees),
)


def check_model(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Path | Sequence[str] | None = None,
    *,
    site: str = "mlp_out",
    projection: str | None = None,
    quoting: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Check that lmri reads, lesions and restores a model correctly.

    The checks compare lmri with direct computations on this model, on a few short texts. They are the checks that the
    tests of lmri run on small models.

    Parameters
    ----------
    model : PreTrainedModel
        Model, as returned by `load_model`.
    tokenizer : PreTrainedTokenizer
        Tokenizer of the model.
    texts : str, Path or sequence of str, optional
        Texts in any form that `read_texts` accepts, of which the first 8 are read; by default a few sentences.
    site : str, default="mlp_out"
        Site to check.
    projection : str, optional
        Path of the projection within a block, if it is not detected automatically.
    quoting : {"csv", "none"}, optional
        Whether quotation marks in CSV and TSV files enclose fields; see `read_texts`.
    progress : callable, optional
        Function called with the number of finished checks and the total.

    Returns
    -------
    Verification
        Result of every check; ``verification.passed`` is False if any check failed. An error in a check is a failure,
        and is not raised.

    Examples
    --------
    >>> model, tokenizer = lmri.load_model("lmri-demo")
    >>> lmri.check_model(model, tokenizer).passed
    True
    """
    model = transformer(model)
    every = list(TEXTS) if texts is None else read_texts(texts, quoting=quoting)
    chosen = [*every[:N_TEXTS], *_with_pad(tokenizer, every[0])]
    subject = Subject(model, tokenizer, chosen, site, projection)
    with contextlib.suppress(Exception):  # an error is the finding of a check
        subject.first_output = model_checks.output_for_long_text(subject)
    n_lines = _n_lines(texts)
    last: list[tuple[str, Callable[[], Outcome]]] = [
        ("text files keep every text", lambda: file_checks.texts_are_read(n_lines, len(every))),
        ("regions of interest select the drawn neurons", lambda: file_checks.region_is_read(subject.space)),
    ]
    run = [(name, functools.partial(check, subject)) for name, check in CHECKS] + last
    results: list[Check] = []
    for name, check in run:
        results.append(_run(name, check, results))
        if progress is not None:
            progress(len(results), len(run))
    return Verification(tuple(results), _about(model))


def _run(name: str, check: Callable[[], Outcome], earlier: Sequence[Check]) -> Check:
    if any(result.status == FAILED for result in earlier[:2]):
        return Check(name, NOT_DONE, "an earlier check failed, on which this one depends")
    try:
        status, detail = check()
    except Exception as error:  # any error is the finding of this check
        status, detail = FAILED, f"{type(error).__name__}: {error}"
    return Check(name, status, detail)


def _with_pad(tokenizer: Any, text: str) -> list[str]:
    """Return a text that contains the pad token, which may also be a word."""
    pad = getattr(tokenizer, "pad_token", None)
    return [f"{text} {pad} {text}"] if isinstance(pad, str) and pad else []


def _n_lines(texts: object) -> int | None:
    """Count the different lines with text of a plain text file; a repeated text is read once."""
    if not isinstance(texts, str | Path) or Path(texts).suffix.lower() != ".txt" or not Path(texts).is_file():
        return None
    return len({line for line in TextFile.read(Path(texts)).lines() if line.strip()})


def _about(model: PreTrainedModel) -> dict[str, str]:
    info = describe_model(model)
    return {
        "lmri": lmri.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "model": f"{info.id} ({type(model).__name__}, {info.dtype}, {', '.join(sorted(devices_of(model)))})",
    }
