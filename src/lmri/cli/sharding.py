"""The commands `record` and `merge`: what lies between their options and the library."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmri.cli.console import Output, counted, guarded, quote

if TYPE_CHECKING:
    from lmri.storage.recording import Recording


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


def record_here(
    output: Output, model: str, loading: Mapping[str, Any], texts: Sequence[str], out: Path, options: Mapping[str, Any]
) -> list["Recording"]:
    """Load the model in this process and record, all or a shard; give the recordings, of a shard none."""
    sites = ", ".join(options["site"])
    with output.progress(f"Loading {model}"):
        from lmri.models import load_model
        from lmri.models.recorder import record

        loaded, tokenizer = load_model(model, **loading)
    try:
        with output.progress(f"Recording {options['corpus']} at {sites}") as progress:
            return record(loaded, tokenizer, texts, out, **options, progress=progress) or []
    except KeyboardInterrupt as error:
        if not str(error):
            raise
        output.err.print(str(error))  # also when quiet: what was kept has to be known
        raise typer.Exit(130) from None


def record_there(
    output: Output,
    scheduler: str,
    model: str,
    loading: Mapping[str, Any],
    texts: Sequence[str],
    out: Path,
    options: Mapping[str, Any],
) -> list["Recording"]:
    """Record on the workers of a Dask cluster."""
    from lmri.models.recorder import record_on_cluster

    rest = {name: value for name, value in options.items() if name not in ("resume", "shard")}
    with output.progress(f"Recording {options['corpus']} on {scheduler}") as progress:
        return record_on_cluster(scheduler, model, texts, out, loading=loading, progress=progress, **rest)


def say_shard(output: Output, out: Path, shard: tuple[int, int], corpus: str) -> None:
    """Say that a shard is done, and what comes next."""
    output.say(f"Shard {shard[0]}/{shard[1]} of {corpus} is recorded. When all are: lmri merge {quote(out)}")
    output.result({"study": str(out), "corpus": corpus, "shard": list(shard)})


def say_recordings(output: Output, out: Path, recordings: Sequence["Recording"]) -> None:
    """Say what was recorded, a line a site."""
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


@guarded
def merge(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.", show_default=False)],
    corpus: Annotated[str | None, typer.Option(help="Needed if shards of several wait.", show_default=False)] = None,
    site: Annotated[str | None, typer.Option(help="Needed if shards of several wait.", show_default=False)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Put the shards of a recording together (lmri record --shard)."""
    from lmri.models.recorder import merge as merge_shards

    output = Output(quiet, json)
    with output.progress("Merging") as progress:
        recordings = merge_shards(study, corpus=corpus, site=site, progress=progress)
    say_recordings(output, study, recordings)
