"""Public function for recording, and the steps of a recording by one process."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Unpack, overload

from transformers import PreTrainedModel

from lmri import storage
from lmri.exceptions import StudyError
from lmri.models import alterations, check_readable, context_length, describe_model, look_closely, transformer
from lmri.models.recorder.files import explain_full_disk
from lmri.models.recorder.finalize import commit, discard
from lmri.models.recorder.generating import Continuation
from lmri.models.recorder.generation_cache import generate_or_reuse
from lmri.models.recorder.journal import interruption, journal_of, n_finished
from lmri.models.recorder.keywords import RecordingKeywords
from lmri.models.recorder.options import RecordingOptions
from lmri.models.recorder.plan import Plan
from lmri.models.recorder.planning import Request, make_plan
from lmri.models.recorder.reading import Reading
from lmri.models.recorder.shard_paths import n_shards_of
from lmri.models.recorder.shards import record_shard
from lmri.models.recorder.stored_corpora import Recorded, flat, stored_requests
from lmri.models.recorder.write_activations import Progress, keep_finished_batches, write_batches
from lmri.models.sites import find_sites
from lmri.space import NeuronSpace
from lmri.space.layers import stack_of
from lmri.storage.adding import recording_to
from lmri.storage.recording import Recording
from lmri.storage.store import Store
from lmri.storage.texts import read_texts

logger = logging.getLogger(__name__)


@overload
def record(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Path | Iterable[str],
    out: str | Path,
    *,
    site: str = ...,
    shard: None = ...,
    **options: Unpack[RecordingKeywords],
) -> Recording: ...
@overload
def record(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Path | Iterable[str] | None,
    out: str | Path,
    *,
    site: list[str] | tuple[str, ...],
    shard: None = ...,
    **options: Unpack[RecordingKeywords],
) -> list[Recording]: ...
@overload
def record(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: None,
    out: str | Path,
    *,
    site: str = ...,
    shard: None = ...,
    **options: Unpack[RecordingKeywords],
) -> list[Recording]: ...
@overload
def record(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Path | Iterable[str] | None,
    out: str | Path,
    *,
    shard: tuple[int, int],
    site: str | Sequence[str] = ...,
    **options: Unpack[RecordingKeywords],
) -> None: ...
def record(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Path | Iterable[str] | None,
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
    subject: str | None = None,
    session: str | None = None,
    device_check: bool = True,
    progress: Progress | None = None,
) -> Recorded:
    """Record the activations of a model while it reads texts.

    Each text is read separately. Each token becomes one volume; runs consist of whole texts. Held-out texts are not
    recorded; they are stored in the study for evaluation.

    Parameters
    ----------
    model : PreTrainedModel
        Model, as returned by `load_model`.
    tokenizer : PreTrainedTokenizer
        Tokenizer of the model.
    texts : str, Path or iterable of str
        Texts, in any form that `read_texts` accepts. None records every corpus of the study, as another model has
        recorded it: with the stored texts and parameters, at the same sites unless `site` is a list.
    out : str or Path
        Folder of the study; created if it does not exist.
    corpus : str, default="texts"
        Name of these texts: letters and digits only, because it becomes the BIDS entity ``task-``.
    site : str or sequence of str, default="mlp_out"
        One or several sites, see `find_sites`; several sites are recorded in the same forward passes.
    batch_size : int, default=8
        Largest number of texts per batch.
    batch_tokens : int, optional
        Largest number of tokens per batch, including padding; only a single longer text may exceed it. By default
        1,024 on a CPU, because of the size of its caches, and 16,384 on other devices.
    run_tokens : int, default=1024
        Approximate number of volumes per run.
    texts_per_run : int, optional
        Number of texts per run (overrides `run_tokens`); 1 for individual analyses.
    n_dummy : int, default=1
        Number of initial tokens of each text to exclude from the images, like the dummy scans of fMRI. The first token
        is an attention sink, whose massive activations would dominate every component. Special tokens are excluded too.
    test_fraction : float, default=0.25
        Fraction of the texts to hold out.
    seed : int, default=0
        Seed of the train/test split.
    max_tokens : int, optional
        Largest number of tokens per text, if smaller than the model's context; longer texts are truncated.
    projection : str, optional
        Path of the output projection within a block, if it is not detected automatically.
    experts : iterable of int, optional
        Experts of a mixture to record at ``mlp_hidden``; see `find_sites`.
    per : {"token", "word", "sentence"}, default="token"
        Unit of one volume: a token, or the mean over the tokens of a word or sentence.
    every : int, default=1
        Sampling interval: only every N-th token of a text is recorded.
    generate : int, optional
        Largest number of tokens to generate after each text. The texts are used as prompts, and prompt and continuation
        are recorded; the events distinguish them (column ``phase``). The complete text is read again after generation,
        which reproduces the activity during generation. The last generated token is never read.
    temperature : float, default=0.0
        Sampling temperature for `generate`; 0 is greedy, larger values sample using `seed`.
    resume : bool, default=False
        Whether to continue an interrupted recording. Finished batches are not read again, and the files are identical
        to those of an uninterrupted recording. If there is no interrupted recording, a new one begins. With False, an
        interrupted recording is an error; its finished batches are never discarded.
    shard : tuple of two ints, optional
        Shard to record, such as ``(3, 16)`` for the third of sixteen, in an array job; `merge` combines the shards.
    subject : str, optional
        Label of the model in the study, letters and digits only; by default the last part of the model's name. A study
        may contain several models.
    session : str, optional
        Label of a state of the model, such as a checkpoint, an adapter or a quantization; by default the model has no
        sessions.
    device_check : bool, default=True
        Whether to compare the first 32 tokens with the CPU if the model is on another device, once per process. Some
        drivers compute wrong values without an error.
    progress : callable, optional
        Function called with the number of tokens done and the total number of tokens.

    Returns
    -------
    Recording, list of Recording or None
        Same as ``open_study(out).recording(corpus=corpus, site=site)``; a list with one recording per site if `site` is
        a sequence, or if `texts` is None; None for a shard.

    Raises
    ------
    ValueError
        If there are no texts, or no text has a volume.
    SiteError
        If the neurons are not found.
    StudyError
        If the label belongs to another model, or the study contains a recording of this name with different options;
        or if the recording to resume has a different plan.
    NonFiniteError
        If an activation is NaN or infinite.
    ModelStateError
        If the calling program changes what the model computes, as by autocast or by a hook of another program.
    DeviceError
        If the device computes other values than the CPU.
    OSError
        If the disk is full; finished batches are kept.
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
        subject=subject,
        session=session,
        device_check=device_check,
    )
    if texts is None:
        requests = stored_requests(out, options)
        results = [record_with(model, tokenizer, stored, out, each, progress) for stored, each in requests]
        return None if shard is not None else flat(results)
    return record_with(model, tokenizer, texts, out, options, progress)


def record_with(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Path | Iterable[str],
    out: str | Path,
    options: RecordingOptions,
    progress: Progress | None = None,
) -> Recorded:
    """Record with the given options; see `record`."""
    check_readable(model)
    given, model = model, transformer(model)
    if alterations(model):
        raise ValueError(
            f"The model is under an intervention ({'; '.join(alterations(model))}); its recording would be "
            "mistaken for a recording of the intact model. Record outside the with block."
        )
    look_closely(model)
    strings = read_texts(texts)
    spaces = tuple(find_sites(given, site, options.projection, options.experts_at(site)) for site in options.sites)
    longest = _longest(model, tokenizer, options)
    written: tuple[Continuation, ...] = ()
    if options.generation is not None:
        generated = generate_or_reuse(out, model, tokenizer, strings, options.generation, options, longest)
        if isinstance(generated, Store):
            logger.info("%s is already recorded at %s", options.corpus, ", ".join(options.sites))
            return None if options.shard is not None else _recorded(generated, options)
        written, strings = generated, [continuation.text for continuation in generated]
    reading = Reading(model, tokenizer, strings, longest, options.n_dummy, options.axis, written)
    request = Request(reading, options, spaces)
    if options.shard is not None:
        record_shard(request, out, options.shard, progress)
        return None
    return _recorded(_record_whole(request, out, progress), options)


def _recorded(study: Store, options: RecordingOptions) -> Recording | list[Recording]:
    recordings = [study.recording(corpus=options.corpus, site=site) for site in options.sites]
    return recordings[0] if isinstance(options.site, str) else recordings


def _longest(model: PreTrainedModel, tokenizer: Any, options: RecordingOptions) -> int | None:
    """Return the largest number of tokens to read per text; a decoder after an encoder also reads its start token."""
    context = context_length(model, tokenizer)
    if context is None or all(stack_of(site) != "decoder" for site in options.sites):
        return options.max_tokens
    return min(context - 1, options.max_tokens or context)


def _record_whole(request: Request, out: str | Path, progress: Progress | None) -> Store:
    """Record in this process, which holds the lock of the model; the study is locked only to plan and to commit."""
    _ = request.reading.lengths  # computed before the study is locked, because it takes long
    with recording_to(out, describe_model(request.reading.model), request.options.labels) as study:
        with storage.write_lock(study.root):
            _sweep(study)
            folder, spaces = _remaining(request, study)
            if not spaces:
                return study
            plan = make_plan(request, study, spaces)
            with explain_full_disk(folder, plan.n_bytes, lambda: "Existing files were not changed."):
                _begin(plan, study, folder, request.options.resume)
        plan = Plan.load(folder)
        journal = journal_of(folder, plan.digest, None)
        with keep_finished_batches(folder, journal, plan, None):
            if not journal.is_whole:
                write_batches(request.reading, plan, None, folder, journal, progress)
            commit(study, plan, folder, folder)
        return study


def _sweep(study: Store) -> None:
    """Delete unfinished recordings that a killed command left partially created or partially deleted."""
    for path in study.layout.unfinished.glob(f"{storage.PARTIAL}*"):
        discard(path)
    discard(study.layout.unfinished / "nothing")  # the folder itself, if it is empty


def _remaining(request: Request, study: Store) -> tuple[Path, tuple[NeuronSpace, ...]]:
    """Return the hidden folder for the remaining sites, and these sites; empty if all sites are recorded."""
    recorded = request.recorded(study)
    sites = [space.site for space in request.spaces]
    folder = study.layout.unfinished_recording(request.corpus, sites)
    if request.options.resume and folder.is_dir() and len(recorded) < len(sites):
        return folder, request.spaces  # even if some of the sites have their index already
    left = tuple(space for space in request.spaces if space.site not in recorded)
    if len(left) < len(sites):
        logger.info("%s is already recorded at %s", request.corpus, ", ".join(recorded))
        discard(folder)
    return study.layout.unfinished_recording(request.corpus, [space.site for space in left]), left


def _begin(plan: Plan, study: Store, folder: Path, resume: bool) -> None:
    """Create the hidden folder of a recording, or check that it can be continued."""
    if folder.is_dir() and resume:
        plan.check_same(folder, f"delete {folder} to start over")
        return
    if folder.is_dir():
        if n := n_finished(folder):
            raise StudyError(interruption(f"A recording of {plan.corpus!r} at {', '.join(plan.sites)}", n, folder))
        discard(folder)
    elif resume:
        _check_no_other(plan, study)
    for space in plan.spaces:
        study.clear_remains(plan.corpus, space.site)
    plan.save(folder)


def _check_no_other(plan: Plan, study: Store) -> None:
    """Raise `StudyError` if another unfinished recording of these neurons and texts exists, which may be meant."""
    for folder in study.unfinished():
        begun = storage.read_json(folder / "plan.json")["made_of"]
        if begun["corpus"] != plan.corpus or not set(begun["sites"]) & set(plan.sites):
            continue
        if n_shards := n_shards_of(folder):
            how = f"in {n_shards} shards. Continue it with --shard (shard=) and lmri merge"
        else:
            how = f"at {', '.join(begun['sites'])}. Name these sites"
        raise StudyError(
            f"No interrupted recording of {plan.corpus!r} at {', '.join(plan.sites)}; one was begun {how}, "
            f"omit --resume (resume=True), or delete {folder}."
        )
