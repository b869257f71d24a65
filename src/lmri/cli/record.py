"""The commands `record` and `merge`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, counted, quote
from lmri.cli.options import Loading, Printing, Revision, Seed, StudyFolder, command
from lmri.models.loading_options import LoadingOptions
from lmri.models.recorder.options import RecordingOptions
from lmri.models.recorder.pipeline import TextSource, record_texts
from lmri.space.sites import site_names

if TYPE_CHECKING:
    from lmri.storage.recording import Recording

DEFAULT = RecordingOptions()


@dataclass(frozen=True)
class Texts:
    """Where texts are read from."""

    text_column: Annotated[str, typer.Option(help="Column that holds the texts.")] = "text"
    config: Annotated[str | None, typer.Option(help="Configuration of a Hugging Face dataset.")] = None
    split: Annotated[str | None, typer.Option(help="Split of a Hugging Face dataset.", show_default="train")] = None
    limit: Annotated[int | None, typer.Option(help="Most texts to take.")] = None
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Shuffle the texts before --limit.")] = False


@dataclass(frozen=True)
class Recorded:
    """What is recorded of the texts: the fields of `RecordingOptions`, as the command line has them."""

    corpus: Annotated[str, typer.Option(help="Name of these texts: letters and digits.")] = DEFAULT.corpus
    site: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{site_names()}, also after decoder_; repeat it to record several in the same passes.",
            show_default=str(DEFAULT.site),
        ),
    ] = None
    test_fraction: Annotated[float, typer.Option(help="Share of the texts to hold out for tests.")] = (
        DEFAULT.test_fraction
    )
    run_tokens: Annotated[int, typer.Option(help="Volumes a run is to have, about.")] = DEFAULT.run_tokens
    texts_per_run: Annotated[int | None, typer.Option(help="Texts a run, instead of --run-tokens.")] = (
        DEFAULT.texts_per_run
    )
    n_dummy: Annotated[int, typer.Option(help="First tokens of each text to keep out of the images.")] = DEFAULT.n_dummy
    max_tokens: Annotated[int | None, typer.Option(help="Cut texts at this many tokens.")] = DEFAULT.max_tokens
    batch_size: Annotated[int, typer.Option(help="Texts read at once, at most.")] = DEFAULT.batch_size
    batch_tokens: Annotated[
        int | None,
        typer.Option(help="Tokens read at once, at most.", show_default="1,024 on a CPU, 16,384 elsewhere"),
    ] = DEFAULT.batch_tokens
    projection: Annotated[str | None, typer.Option(help="Final projection in a block, if it is not found.")] = (
        DEFAULT.projection
    )
    experts: Annotated[
        str | None, typer.Option(help="Experts of a mixture at mlp_hidden, such as 0,4-6.", show_default="all")
    ] = None
    per: Annotated[str, typer.Option(help="What a volume is: token, or the mean over a word or sentence.")] = (
        DEFAULT.per
    )
    every: Annotated[int, typer.Option(help="Keep every so-manieth token alone.")] = DEFAULT.every
    generate: Annotated[
        int | None,
        typer.Option(help="Take texts as prompts; record them and what the model writes on.", show_default="no"),
    ] = DEFAULT.generate
    temperature: Annotated[float, typer.Option(help="Of --generate; 0 takes the likeliest token.")] = (
        DEFAULT.temperature
    )
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a recording that was interrupted; begin if there is none.")
    ] = DEFAULT.resume
    shard: Annotated[
        str | None,
        typer.Option(
            help="Record a part alone, such as 3/16, for jobs side by side; then lmri merge.", show_default="all"
        ),
    ] = None

    def options(self, seed: int) -> RecordingOptions:
        """Parse lists and shards."""
        parsed = {
            "site": self.site or [str(DEFAULT.site)],
            "experts": parse_experts(self.experts),
            "shard": parse_shard(self.shard),
        }
        return RecordingOptions(**{**vars(self), **parsed, "seed": seed})


@command
def record(
    model: Annotated[str, typer.Argument(help="Hub name, local folder, or lmri-demo.", show_default=False)],
    texts: Annotated[
        str,
        typer.Argument(
            help="Text file (a text a line), CSV, TSV, JSONL, Parquet, or a Hugging Face dataset.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the study; made if needed.", show_default=False)],
    recorded: Recorded,
    source: Texts,
    loading: Loading,
    printing: Printing,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    revision: Revision = None,
    quantize: Annotated[
        str | None, typer.Option(help="8bit (by torchao) or 4bit (by bitsandbytes).", show_default="no")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Record on the workers of a Dask cluster: tcp://ADDRESS.", show_default="this process"),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Let a model read texts, and store what its neurons do as 4D images."""
    output, options = printing.output, recorded.options(seed)
    where = TextSource(texts, source.text_column, source.config, source.split, source.limit, source.shuffle, seed)
    how = LoadingOptions(dtype=dtype, revision=revision, quantize=quantize, **asdict(loading))
    try:
        with output.progress(f"Recording {options.corpus}") as progress:
            recordings = record_texts(out, model, where, options, how, scheduler, progress)
    except KeyboardInterrupt as error:
        if not str(error):
            raise
        output.err.print(str(error))  # also when quiet: what was kept has to be known
        raise typer.Exit(130) from None
    if options.shard is not None:
        say_shard(output, out, options.shard, options.corpus)
    else:
        say_recordings(output, out, recordings)


@command
def merge(
    study: StudyFolder,
    printing: Printing,
    corpus: Annotated[str | None, typer.Option(help="Needed if shards of several wait.", show_default=False)] = None,
    site: Annotated[str | None, typer.Option(help="Needed if shards of several wait.", show_default=False)] = None,
) -> None:
    """Put the shards of a recording together (lmri record --shard)."""
    from lmri.study import open_study

    with printing.output.progress("Merging") as progress:
        recordings = open_study(study).merge(corpus=corpus, site=site, progress=progress)
    say_recordings(printing.output, study, recordings)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Read ``NUMBER/SHARDS``.

    Examples
    --------
    >>> parse_shard("3/16")
    (3, 16)
    """
    if text is None:
        return None
    number, slash, n_shards = text.partition("/")
    if not (slash and number.isdecimal() and n_shards.isdecimal() and 1 <= int(number) <= int(n_shards)):
        raise ValueError(f"--shard is {text!r}; accepted are 1/16 to 16/16, and so on for other numbers than 16.")
    return int(number), int(n_shards)


def parse_experts(text: str | None) -> list[int] | None:
    """Read numbers and ranges.

    Examples
    --------
    >>> parse_experts("0,4-6")
    [0, 4, 5, 6]
    """
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(last) >= int(first))):
            raise ValueError(f"--experts is {text!r}; accepted are numbers and ranges, such as 0,4-6.")
        found += range(int(first), int(last or first) + 1)
    return found


def say_shard(output: Output, out: Path, shard: tuple[int, int], corpus: str) -> None:
    """Print that a shard is done, and the next command."""
    output.say(f"Shard {shard[0]}/{shard[1]} of {corpus} is recorded. When all are: lmri merge {quote(out)}")
    output.result({"study": str(out), "corpus": corpus, "shard": list(shard)})


def say_recordings(output: Output, out: Path, recordings: Sequence["Recording"]) -> None:
    """Print what was recorded, one line per site."""
    from lmri.cli.networks import site_hint

    for recording in recordings:
        n_test = len(recording.test_texts)
        output.say(
            f"Recorded {recording.corpus} at {recording.space.site}: "
            f"{counted(len(recording.texts) - n_test, 'text')} ({n_test} held out), "
            f"{counted(recording.n_volumes, 'volume')} in {counted(len(recording.runs), 'run')}, "
            f"{recording.space.describe()}."
        )
    site = recordings[0].space.site
    output.say(f"Next: lmri decompose {quote(out)} --n-components 20{site_hint(out, site)}")
    results = [_result(out, recording) for recording in recordings]
    output.result(results[0] | ({"recordings": results} if len(results) > 1 else {}))


def _result(out: Path, recording: "Recording") -> dict[str, Any]:
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
