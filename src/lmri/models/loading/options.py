"""Options of `lmri.load_model` that commands accept; torch is imported only when a model is loaded."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmri.storage.store import Store

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class LoadingOptions:
    """Options of `lmri.load_model`, under the same names and with the same defaults; see there."""

    dtype: str = "float32"
    device: str = "cpu"
    revision: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    device_map: str | None = None
    offload_folder: str | Path | None = None
    quantize: str | None = None

    def load(self, location: str | Path) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """Load a model and its tokenizer."""
        from lmri.models import load_model

        return load_model(location, **asdict(self))

    def load_of(
        self, store: Store, location: str | Path | None = None
    ) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """Load the model of a study in the precision of its recordings.

        Parameters
        ----------
        store : Store
            The study.
        location : str or Path, optional
            Location of the model; by default the location from which it was recorded.
        """
        from lmri.models import parse_precision

        source = location or store.model_location or store.model.id
        if source == store.model.id and "+" in source:
            raise ValueError(
                f"The study was recorded from {source!r}, a model with active adapters, which commands cannot load. "
                "Use Python: methods of the study accept the model with its adapters as model=(model, tokenizer)."
            )
        revision = store.model.revision if source == store.model.id else None
        options = replace(self, revision=revision, **parse_precision(store.model.dtype))
        try:
            return options.load(source)
        except ValueError as error:
            raise ValueError(f"{error} If the model has moved, pass its location with --model.") from error
