"""The commands `record` and `merge`."""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, pluralize, quote
from lmri.cli.options import Loading, Printing, Quoting, Revision, Seed, StudyScope, Wait, WritableStudy, command
from lmri.models.loading.options import LoadingOptions
from lmri.models.recorder.options import RecordingOptions
from lmri.models.recorder.pipeline import TextSource, record_texts
from lmri.models.recorder.stored_corpora import flat
from lmri.space.sites import site_names
from lmri.storage.files import WAIT, lock_wait
from lmri.storage.layout import Layout

if TYPE_CHECKING:
    from lmri.storage.recording import Recording

DEFAULT = RecordingOptions()


@dataclass(frozen=True)
class Texts:
    """Options of the source of the texts."""

    text_column: Annotated[str, typer.Option(help="Column with the texts.")] = "text"
    quoting: Quoting = None
    config: Annotated[str | None, typer.Option(help="Configuration of a Hugging Face dataset.")] = None
    split: Annotated[str | None, typer.Option(help="Split of a Hugging Face dataset.", show_default="train")] = None
    limit: Annotated[int | None, typer.Option(help="Maximum number of texts.")] = None
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Shuffle the texts before --limit is applied.")] = False


@dataclass(frozen=True)
class Recorded:
    """Options of the recording: the fields of `RecordingOptions` as command-line options."""

    corpus: Annotated[str, typer.Option(help="Name of these texts: letters and digits.")] = DEFAULT.corpus
    site: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{site_names()}, also with the prefix decoder_. May be repeated to record several sites in the same "
            "passes.",
            show_default=str(DEFAULT.site),
        ),
    ] = None
    test_fraction: Annotated[float, typer.Option(help="Fraction of the texts to hold out for testing.")] = (
        DEFAULT.test_fraction
    )
    run_tokens: Annotated[int, typer.Option(help="Approximate number of volumes per run.")] = DEFAULT.run_tokens
    texts_per_run: Annotated[int | None, typer.Option(help="Number of texts per run (overrides --run-tokens).")] = (
        DEFAULT.texts_per_run
    )
    n_dummy: Annotated[int, typer.Option(help="Number of initial tokens of each text to exclude (as dummy scans).")] = (
        DEFAULT.n_dummy
    )
    max_tokens: Annotated[int | None, typer.Option(help="Truncate texts to this number of tokens.")] = (
        DEFAULT.max_tokens
    )
    batch_size: Annotated[int, typer.Option(help="Maximum number of texts per forward pass.")] = DEFAULT.batch_size
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            help="Maximum number of tokens per forward pass.", show_default="1,024 on a CPU, 16,384 elsewhere"
        ),
    ] = DEFAULT.batch_tokens
    projection: Annotated[
        str | None,
        typer.Option(
            help="Path of the output projection within a block (e.g. mlp.down_proj), if it is not detected "
            "automatically."
        ),
    ] = DEFAULT.projection
    experts: Annotated[
        str | None, typer.Option(help="Experts of a mixture to record at mlp_hidden, e.g. 0,4-6.", show_default="all")
    ] = None
    per: Annotated[str, typer.Option(help="Unit of a volume: token, or the mean over a word or sentence.")] = (
        DEFAULT.per
    )
    every: Annotated[int, typer.Option(help="Record only every N-th token.")] = DEFAULT.every
    generate: Annotated[
        int | None,
        typer.Option(
            help="Use the texts as prompts: generate up to N tokens after each, and record prompt and continuation.",
            show_default="no",
        ),
    ] = DEFAULT.generate
    temperature: Annotated[float, typer.Option(help="Sampling temperature for --generate (0: greedy decoding).")] = (
        DEFAULT.temperature
    )
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted recording, or start a new one if there is none.")
    ] = DEFAULT.resume
    shard: Annotated[
        str | None,
        typer.Option(
            help="Record only shard I of N, e.g. 3/16, in an array job; combine shards with lmri merge.",
            show_default="all",
        ),
    ] = None
    subject: Annotated[
        str | None,
        typer.Option(
            help="Label of the model in the study: letters and digits.",
            show_default="the last part of its name",
            rich_help_panel="Model",
        ),
    ] = DEFAULT.subject
    session: Annotated[
        str | None,
        typer.Option(
            help="Label of a state of the model: a checkpoint, an adapter or a quantization.",
            show_default="none",
            rich_help_panel="Model",
        ),
    ] = DEFAULT.session
    device_check: Annotated[
        bool,
        typer.Option(
            "--device-check/--no-device-check",
            help="Compare the first 32 tokens with the CPU if the model is on another device.",
            rich_help_panel="Model",
        ),
    ] = DEFAULT.device_check
    wait: Wait = WAIT

    def context(self) -> contextlib.AbstractContextManager[None]:
        """Apply the options while the command runs."""
        return lock_wait(self.wait)

    def options(self, seed: int, with_texts: bool = True) -> RecordingOptions:
        """Return the options of the library, with lists and shards parsed."""
        chosen = {name: value for name, value in vars(self).items() if name != "wait"}
        parsed = {
            "site": self.site or ([str(DEFAULT.site)] if with_texts else DEFAULT.site),
            "experts": parse_experts(self.experts),
            "shard": parse_shard(self.shard),
        }
        return RecordingOptions(**{**chosen, **parsed, "seed": seed})


@command
def record(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Hub name, local folder, or lmri-demo.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the study; created if it does not exist.", show_default=False)],
    recorded: Recorded,
    source: Texts,
    loading: Loading,
    printing: Printing,
    texts: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXTS",
            help="Text file (one text per line), CSV, TSV, JSONL, Parquet, a folder of such files, or a Hugging Face "
            "dataset.",
            show_default="the texts of the study, recorded with the stored parameters",
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Precision of the model: float32, bfloat16 or float16.")] = "float32",
    revision: Revision = None,
    quantize: Annotated[
        str | None, typer.Option(help="Quantization: 8bit (torchao) or 4bit (bitsandbytes).", show_default="no")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Record on the workers of a Dask cluster, e.g. tcp://ADDRESS.", show_default="this process"),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Record a model's activations while it reads texts, and save them as 4D NIfTI images.

    Without TEXTS, every corpus of the study is recorded, with the parameters that are stored for the other models.
    """
    output, options = printing.output, recorded.options(seed, with_texts=texts is not None)
    where = TextSource(
        texts, source.text_column, source.config, source.split, source.limit, source.shuffle, seed, source.quoting
    )
    how = LoadingOptions(dtype=dtype, revision=revision, quantize=quantize, **asdict(loading))
    try:
        with output.progress(f"Recording {'all corpora' if texts is None else options.corpus}") as progress:
            recordings = record_texts(out, model, where, options, how, scheduler, progress)
    except KeyboardInterrupt as error:
        if not str(error):
            raise
        output.err.print(str(error))  # also with --quiet: the user must know which batches were saved
        raise typer.Exit(130) from None
    if options.shard is not None:
        say_shard(output, out, options.shard, "all corpora" if texts is None else options.corpus)
    else:
        recordings = flat([recordings])
        several = len(Layout(out).scopes()) > 1 or recordings[0].session
        subject, session = (recordings[0].subject, recordings[0].session) if several else (None, None)
        say_recordings(output, StudyScope(out, subject, session), recordings)


@command
def merge(
    study: WritableStudy,
    printing: Printing,
    corpus: Annotated[
        str | None, typer.Option(help="Corpus; required if shards of several are stored.", show_default=False)
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="Site; required if shards of several are stored.", show_default=False)
    ] = None,
) -> None:
    """Combine the shards of a recording (lmri record --shard)."""
    with printing.output.progress("Merging") as progress:
        recordings = study.open().merge(corpus=corpus, site=site, progress=progress)
    say_recordings(printing.output, study, recordings)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Parse ``NUMBER/SHARDS``.

    Examples
    --------
    >>> parse_shard("3/16")
    (3, 16)
    """
    if text is None:
        return None
    number, slash, n_shards = text.partition("/")
    if not (slash and number.isdecimal() and n_shards.isdecimal() and 1 <= int(number) <= int(n_shards)):
        raise ValueError(f"--shard is {text!r}; accepted is I/N with 1 <= I <= N, such as 3/16.")
    return int(number), int(n_shards)


def parse_experts(text: str | None) -> list[int] | None:
    """Parse numbers and ranges of numbers.

    Examples
    --------
    >>> parse_experts("0,4-6")
    [0, 4, 5, 6]
    """
    if text is None:
        return None
    experts: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(last) >= int(first))):
            raise ValueError(f"--experts is {text!r}; accepted values are numbers and ranges, such as 0,4-6.")
        experts += range(int(first), int(last or first) + 1)
    return experts


def say_shard(output: Output, out: Path, shard: tuple[int, int], corpus: str) -> None:
    """Print that a shard is recorded, and the next command."""
    output.say(
        f"Shard {shard[0]}/{shard[1]} of {corpus} is recorded. After recording all shards, run: lmri merge {quote(out)}"
    )
    output.result({"study": str(out), "corpus": corpus, "shard": list(shard)})


def say_recordings(output: Output, out: StudyScope, recordings: Sequence["Recording"]) -> None:
    """Print a summary of the recordings, one line per site."""
    from lmri.cli.networks import site_hint

    for recording in recordings:
        n_test = len(recording.test_texts)
        output.say(
            f"Recorded {recording.corpus} at {recording.space.site}: "
            f"{pluralize(len(recording.texts) - n_test, 'text')} ({n_test} held out), "
            f"{pluralize(recording.n_volumes, 'volume')} in {pluralize(len(recording.runs), 'run')}, "
            f"{recording.space.describe()}."
        )
    site = recordings[0].space.site
    output.say(f"Next: lmri decompose {quote(out)} --n-components 20{site_hint(out, site)}")
    results = [_result(out, recording) for recording in recordings]
    output.result(results[0] | ({"recordings": results} if len(results) > 1 else {}))


def _result(out: StudyScope, recording: "Recording") -> dict[str, Any]:
    return {
        "study": str(out),
        "corpus": recording.corpus,
        "site": recording.space.site,
        "n_texts": len(recording.texts),
        "n_test": len(recording.test_texts),
        "n_runs": len(recording.runs),
        "n_volumes": recording.n_volumes,
        "n_neurons": recording.space.n_neurons,
        "imgs": recording.imgs,
    }
