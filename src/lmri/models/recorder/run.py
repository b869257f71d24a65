"""Recording: the function that people call."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from lmri import storage
from lmri.exceptions import StudyError
from lmri.models import alterations, context_length, describe_model, look_closely
from lmri.models.recorder.files import explaining_a_full_disk
from lmri.models.recorder.finalize import commit, discard
from lmri.models.recorder.generating import Continuation
from lmri.models.recorder.generation_cache import written_in
from lmri.models.recorder.journal import journal_of, n_finished
from lmri.models.recorder.options import RecordingOptions
from lmri.models.recorder.plan import Plan
from lmri.models.recorder.planning import Request, make_plan
from lmri.models.recorder.reading import Reading
from lmri.models.recorder.shard_paths import n_shards_of
from lmri.models.recorder.shards import record_shard
from lmri.models.recorder.write_activations import Progress, fill, keeping_what_is_done
from lmri.models.sites import find_sites
from lmri.space import NeuronSpace
from lmri.space.layers import stack_of
from lmri.storage.recording import Recording
from lmri.storage.store import Store, open_store, writing_to
from lmri.storage.texts import read_texts

logger = logging.getLogger(__name__)


def record(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Path | Iterable[str],
    out: str | Path,
    *,
    corpus: str = "texts",
    site: str | Sequence[str] = "mlp_out",
    batch_size: int = 8,
    batch_tokens: int | None = None,
    run_tokens: int = 1024,
    texts_per_run: int | None = None,
    n_dummy: int = 1,
    test_fraction: float = 0.25,
    seed: int = 0,
    max_tokens: int | None = None,
    projection: str | None = None,
    experts: Iterable[int] | None = None,
    per: str = "token",
    every: int = 1,
    generate: int | None = None,
    temperature: float = 0.0,
    resume: bool = False,
    shard: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Any:
    """Record what the neurons of a model do while it reads texts.

    Each text is read on its own. Its tokens become volumes, one a token, in runs of whole texts. Texts held out for
    tests are not recorded; they are kept in the study, to be scored.

    Parameters
    ----------
    model : PreTrainedModel
        As `load_model` gives it.
    tokenizer : PreTrainedTokenizer
        Its tokenizer.
    texts : str, Path or iterable of str
        As `read_texts` takes them.
    out : str or Path
        Folder of the study; made if it is not there.
    corpus : str, default="texts"
        Name of these texts: letters and digits, as it becomes BIDS' ``task-``.
    site : str or sequence of str, default="mlp_out"
        As `find_sites` takes it; several are recorded in the same forward passes.
    batch_size : int, default=8
        Texts read at once, at most.
    batch_tokens : int, optional
        Tokens read at once, pads included, at most, unless one text has more. By default 1,024 on a CPU, whose caches
        hold no more, and 16,384 elsewhere.
    run_tokens : int, default=1024
        Volumes a run is to have, about.
    texts_per_run : int, optional
        Count texts instead: 1 for individual analyses.
    n_dummy : int, default=1
        Tokens at the start of each text that are kept out of the images, like the dummy scans of fMRI. The first token
        is an attention sink, whose massive activations would dominate every component. Special tokens are kept out too.
    test_fraction : float, default=0.25
        Share of the texts to hold out.
    seed : int, default=0
        Of the split.
    max_tokens : int, optional
        Cut texts at fewer tokens than the model's context.
    projection : str, optional
        Path of the final projection within a block, if it is not found by itself.
    experts : iterable of int, optional
        Which experts of a mixture, at ``mlp_hidden``; see `find_sites`.
    per : {"token", "word", "sentence"}, default="token"
        What a volume is: a token, or the mean over the tokens of a word or sentence.
    every : int, default=1
        Keep every so-manieth token of a text alone.
    generate : int, optional
        Take the texts as prompts, let the model write on by at most so many tokens, and record both; the events tell
        them apart (``phase``). What it wrote is read again as a whole, which gives the activity that it was written
        with; its last token is written, and never read.
    temperature : float, default=0.0
        Of `generate`: 0 takes the likeliest token, more draws one, by `seed`.
    resume : bool, default=False
        Go on with a recording that was interrupted: no batch that was finished is read again, and the files are those
        of a recording that was not. If there is none, begin. By default, what is finished of another is never
        discarded: it is an error.
    shard : tuple of two ints, optional
        Record a part of it alone, such as ``(3, 16)``, the third of sixteen, for jobs that run side by side; `merge`
        puts them together.
    progress : callable, optional
        Called with tokens done and tokens in all.

    Returns
    -------
    Recording, list of Recording or None
        The same as ``open_store(out).recording(corpus=corpus, site=site)``; one a site, in a list, if `site` is no
        string. None of a shard.

    Raises
    ------
    ValueError
        If there are no texts, or none gives a volume.
    SiteError
        If the neurons are not found.
    StudyError
        If the study is of another model, or has a recording of this name made otherwise; or if a recording that is to
        be resumed was of another plan.
    NonFiniteError
        If a neuron is NaN or infinite.
    OSError
        If the disk is full; what was finished is kept.
    """
    options = RecordingOptions(
        corpus=corpus,
        site=site,
        run_tokens=run_tokens,
        texts_per_run=texts_per_run,
        n_dummy=n_dummy,
        test_fraction=test_fraction,
        seed=seed,
        max_tokens=max_tokens,
        batch_size=batch_size,
        projection=projection,
        experts=experts,
        per=per,
        every=every,
        generate=generate,
        batch_tokens=batch_tokens,
        temperature=temperature,
        resume=resume,
        shard=shard,
    )
    return record_with(model, tokenizer, texts, out, options, progress)


def record_with(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Path | Iterable[str],
    out: str | Path,
    options: RecordingOptions,
    progress: Progress | None = None,
) -> Any:
    """Record with given options; see `record`."""
    if alterations(model):
        raise ValueError(
            f"The model is under an intervention ({'; '.join(alterations(model))}); its recording would pass for that "
            "of the intact model. Record outside of the with block."
        )
    look_closely(model)
    kept = read_texts(texts)
    spaces = tuple(find_sites(model, one, options.projection, options.experts_at(one)) for one in options.sites)
    longest = _longest(model, tokenizer, options)
    written: tuple[Continuation, ...] = ()
    if options.generation is not None:
        made = written_in(out, model, tokenizer, kept, options.generation, options, longest)
        if made is None:
            logger.info("%s is already recorded at %s", options.corpus, ", ".join(options.sites))
            return None if options.shard is not None else _recorded(open_store(out), options)
        written, kept = made, [one.text for one in made]
    reading = Reading(model, tokenizer, kept, longest, options.n_dummy, options.axis, written)
    request = Request(reading, options, spaces)
    if options.shard is not None:
        record_shard(request, out, options.shard, progress)
        return None
    return _recorded(_record_whole(request, out, progress), options)


def _recorded(study: Store, options: RecordingOptions) -> Recording | list[Recording]:
    found = [study.recording(corpus=options.corpus, site=one) for one in options.sites]
    return found[0] if isinstance(options.site, str) else found


def _longest(model: PreTrainedModel, tokenizer: Any, options: RecordingOptions) -> int | None:
    """Return the largest number of tokens to read per text; a decoder after an encoder also reads its start token."""
    context = context_length(model, tokenizer)
    if context is None or all(stack_of(site) != "decoder" for site in options.sites):
        return options.max_tokens
    return min(context - 1, options.max_tokens or context)


def _record_whole(request: Request, out: str | Path, progress: Progress | None) -> Store:
    """Record by this process alone, which keeps all others from writing to the study."""
    with writing_to(out, describe_model(request.reading.model)) as study:
        _sweep(study)
        folder, spaces = _what_is_left(request, study)
        if not spaces:
            return study
        plan = make_plan(request, study, spaces)
        with explaining_a_full_disk(folder, plan.n_bytes, lambda: "Nothing earlier was touched."):
            _begin(plan, study, folder, request.options.resume)
        plan = Plan.load(folder)
        journal = journal_of(folder, plan.digest, None)
        with keeping_what_is_done(folder, journal, plan, None):
            if not journal.is_whole:
                fill(request.reading, plan, None, folder, journal, progress)
            commit(study, plan, folder, folder)
        return study


def _sweep(study: Store) -> None:
    """Delete what a command that was killed left half made or half deleted among the unfinished recordings."""
    for path in study.layout.unfinished.glob(f"{storage.PARTIAL}*"):
        discard(path)
    discard(study.layout.unfinished / "nothing")  # the folder itself, if it is empty


def _what_is_left(request: Request, study: Store) -> tuple[Path, tuple[NeuronSpace, ...]]:
    """Give the hidden folder of what is to be recorded, and its sites; none if all are recorded."""
    recorded = request.recorded(study)
    sites = [space.site for space in request.spaces]
    asked = study.layout.unfinished_recording(request.corpus, sites)
    if request.options.resume and asked.is_dir() and len(recorded) < len(sites):
        return asked, request.spaces  # also where some of the sites had got their index already
    left = tuple(space for space in request.spaces if space.site not in recorded)
    if len(left) < len(sites):
        logger.info("%s is already recorded at %s", request.corpus, ", ".join(recorded))
        discard(asked)
    return study.layout.unfinished_recording(request.corpus, [space.site for space in left]), left


def _begin(plan: Plan, study: Store, folder: Path, resume: bool) -> None:
    """Make the hidden folder of a recording, or make sure that it can be continued."""
    if folder.is_dir() and resume:
        plan.check_same(folder, f"delete {folder} to begin anew")
        return
    if folder.is_dir():
        if n := n_finished(folder):
            raise StudyError(
                f"A recording of {plan.corpus!r} at {', '.join(plan.sites)} was interrupted, and {n} of its batches "
                f"are kept. Go on with --resume (resume=True), or delete {folder} to begin anew."
            )
        discard(folder)
    elif resume:
        _check_no_other(plan, study)
    for space in plan.spaces:
        study.clear_remains(plan.corpus, space.site)
    plan.save(folder)


def _check_no_other(plan: Plan, study: Store) -> None:
    """Refuse to begin where another recording of the same neurons and texts waits, and perhaps was meant."""
    for folder in study.unfinished():
        begun = storage.read_json(folder / "plan.json")["made_of"]
        if begun["corpus"] != plan.corpus or not set(begun["sites"]) & set(plan.sites):
            continue
        if n_shards := n_shards_of(folder):
            how = f"in {n_shards} shards: go on with --shard (shard=) and lmri merge"
        else:
            how = f"at {', '.join(begun['sites'])}: ask for these sites"
        raise StudyError(
            f"There is nothing to resume at {', '.join(plan.sites)}, but {plan.corpus!r} is being recorded {how}; or "
            f"leave out --resume (resume=True), or delete {folder}."
        )
