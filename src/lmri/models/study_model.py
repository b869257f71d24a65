"""Location and loading options of the model of a study, and the tasks that can score it; nothing here loads torch."""

import json
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


PERPLEXITY, HEAD = "--task perplexity", "--task TASK:FILE --scoring head"

# Ends of class names of transformers: models that no task can score, because they have no head or predict something
# else than a next token or a class. Other names, and unknown ones, are taken for language models, as `load_model` does.
_WITHOUT_TASK = (
    "Model", "Encoder", "ForMaskedLM", "ForPreTraining", "ForTokenClassification", "ForQuestionAnswering",
    "ForMultipleChoice", "ForNextSentencePrediction",
)  # fmt: skip


def suggest_task(store: "Store") -> str:
    """Return the options of a task that can score the model of a study; an empty string if there is none.

    The class of the model is read from its configuration, if that is on this computer.

    Examples
    --------
    >>> import lmri
    >>> suggest_task(lmri.open_study("study"))  # doctest: +SKIP
    '--task perplexity'
    """
    config = _read_config(store)
    name = next((name for name in config.get("architectures") or () if isinstance(name, str)), "")
    if name.endswith("ForSequenceClassification"):
        return HEAD
    has_none = name.endswith(_WITHOUT_TASK) and not name.endswith(("LMHeadModel", "DoubleHeadsModel"))
    return "" if has_none or config.get("is_encoder_decoder") else PERPLEXITY


def _read_config(store: "Store") -> dict[str, Any]:
    """Read the configuration of a model from its folder or the cache of the hub; empty if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    location = store.model_location or store.model.id
    path: Any = Path(location).expanduser() / "config.json"
    try:
        if not path.parent.is_dir():
            path = try_to_load_from_cache(location, "config.json", revision=store.model.revision)
        content = json.loads(Path(path).read_text(encoding="utf-8")) if isinstance(path, str | Path) else {}
    except (OSError, ValueError):  # moved, damaged, or not a name of the hub
        return {}
    return content if isinstance(content, dict) else {}
