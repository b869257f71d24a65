"""Location and loading options of the model of a study."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmri.models.loading.options import LoadingOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lmri.storage.store import Store

    AnyModel = str | Path | tuple[PreTrainedModel, Any] | None
    """Location of a model, or a loaded model with its tokenizer."""


@dataclass(frozen=True)
class ModelSource:
    """Location of the model of a study, and options for loading it.

    Parameters
    ----------
    model : str, Path or tuple of a model and its tokenizer, optional
        Location of the model, or the loaded model with its tokenizer; by default the location from which the study was
        recorded.
    device : str, default="cpu"
        Device: ``"cpu"`` or ``"cuda"``.
    trust_remote_code : bool, default=False
        Whether to run code that comes with the model.
    allow_pickle : bool, default=False
        Whether to read pickled weights, which can run any code.
    device_map : str, optional
        ``"auto"`` to spread the model over GPUs, memory and disk; by default one device.
    offload_folder : str or Path, optional
        Folder for weights that are offloaded to disk.
    """

    model: "AnyModel" = None
    device: str = "cpu"
    trust_remote_code: bool = False
    allow_pickle: bool = False
    device_map: str | None = None
    offload_folder: str | Path | None = None

    @property
    def location(self) -> str | None:
        """Location of the model, if one was named."""
        return str(self.model) if isinstance(self.model, str | Path) else None

    def load(self, store: "Store") -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """Load model and tokenizer in the precision of the recordings; a loaded model is returned as it is.

        Parameters
        ----------
        store : Store
            Study of the model.

        Raises
        ------
        ValueError
            If there is no model at the location.
        """
        if isinstance(self.model, tuple):
            return self.model
        options = LoadingOptions(
            device=self.device,
            trust_remote_code=self.trust_remote_code,
            allow_pickle=self.allow_pickle,
            device_map=self.device_map,
            offload_folder=self.offload_folder,
        )
        return options.load_of(store, self.location)
