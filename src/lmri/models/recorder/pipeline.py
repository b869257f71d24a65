"""Recording from a location: read texts, load the model, and record locally or on a cluster."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmri.models.loading.options import LoadingOptions
from lmri.models.recorder.options import RecordingOptions
from lmri.models.recorder.stored_corpora import Recorded, flat, stored_requests
from lmri.storage.texts import read_texts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextSource:
    """Texts and how they are read; the fields are the parameters of `lmri.read_texts`, see there.

    Without a source, every corpus of the study is recorded with the stored texts.
    """

    source: str | Path | Iterable[str] | None
    column: str = "text"
    config: str | None = None
    split: str | None = None
    limit: int | None = None
    shuffle: bool = False
    seed: int = 0
    quoting: str | None = None

    def read(self) -> list[str]:
        """Read the texts."""
        if self.source is None:
            raise ValueError("source is None; the texts of the study are read by stored_requests.")
        return read_texts(**vars(self))


def record_texts(
    out: str | Path,
    model: str | Path | tuple[Any, Any],
    texts: TextSource,
    options: RecordingOptions,
    loading: LoadingOptions | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Recorded:
    """Read texts, load a model and record.

    Parameters
    ----------
    out : str or Path
        Folder of the study; made if it does not exist.
    model : str, Path or tuple
        Location of the model, or the model and its tokenizer.
    texts : TextSource
        Texts.
    options : RecordingOptions
        Options of the recording.
    loading : LoadingOptions, optional
        How the model is loaded.
    scheduler : str, optional
        Address of a Dask scheduler whose workers record.
    progress : callable, optional
        Function called with the number of tokens done and the total number of tokens; on a cluster, numbers of shards.

    Returns
    -------
    Recording, list of Recording or None
        Return value of `lmri.record`; a list of all recordings if the study contains the texts.
    """
    if options.shard is not None and scheduler is not None:
        raise ValueError("--shard and --scheduler exclude each other: a cluster records all shards. Omit one of them.")
    loading = loading or LoadingOptions()
    # Texts are read before the model is loaded, which takes longer.
    if texts.source is None:
        requests = stored_requests(out, options)
        if isinstance(model, str | Path) and scheduler is None:
            logger.info("Loading %s", model)
            model = loading.load(model)
        results = [
            record_texts(out, model, TextSource(read), each, loading, scheduler, progress) for read, each in requests
        ]
        return None if options.shard is not None else flat(results)
    read = texts.read()
    if scheduler is not None:
        if not isinstance(model, str | Path):
            raise ValueError(
                "A loaded model cannot be sent to a cluster: the workers load it themselves. Pass its location instead."
            )
        from lmri.models.recorder.cluster import record_shards_on_cluster

        logger.info("Recording %s on %s", options.corpus, scheduler)
        recordings = record_shards_on_cluster(scheduler, model, read, out, options, asdict(loading), progress=progress)
        return recordings[0] if isinstance(options.site, str) else recordings
    if isinstance(model, str | Path):
        logger.info("Loading %s", model)
        model = loading.load(model)
    from lmri.models.recorder.run import record_with

    logger.info("Recording %s at %s", options.corpus, ", ".join(options.sites))
    return record_with(*model, read, out, options, progress)
