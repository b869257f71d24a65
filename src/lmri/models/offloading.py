"""Offloaded models: weights that are in memory only while their layer runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class OffloadedWeight:
    """A weight that accelerate keeps in the memory of the CPU or on a disk, and puts into its module to run.

    Parameters
    ----------
    weights : Mapping
        Name to tensor; one on a disk is read when it is asked for.
    name : str
        Of this weight in `weights`.
    """

    weights: Mapping[str, torch.Tensor]
    name: str

    def read(self) -> torch.Tensor:
        """Give its values."""
        return self.weights[self.name]

    def origin(self) -> str:
        """Say where it is stored, and in which state, without reading a file."""
        info = getattr(self.weights, "index", {}).get(self.name)
        if info is None or self.name in getattr(self.weights, "state_dict", {}):
            values = self.read()
            return f"memory {values.data_ptr()} {values._version}"
        file = info.get("safetensors_file") or Path(str(getattr(self.weights, "save_folder", ""))) / f"{self.name}.dat"
        state = Path(file).stat()
        return f"{file} {info.get('weight_name')} {info.get('dtype')} {state.st_size} {state.st_mtime_ns}"


def find_offloaded(part: torch.nn.Module, name: str) -> OffloadedWeight:
    """Find out where accelerate keeps a weight of `part` whose tensor is on the meta device.

    Raises
    ------
    ValueError
        If it is nowhere.
    """
    path = name.split(".")
    for depth in range(len(path) - 1, -1, -1):
        for hook in _hooks(part.get_submodule(".".join(path[:depth]))):
            weights: Any = getattr(hook, "weights_map", None)
            key = ".".join(path[depth:])
            while hasattr(weights, "dataset"):  # a view of the names that begin with a prefix
                weights, key = weights.dataset, weights.prefix + key
            if weights is not None and _holds(weights, key):
                return OffloadedWeight(weights, key)
    raise ValueError(
        f"The weight {name!r} of the model is on the meta device, and no file or memory holds its values: the model "
        "was built, but its weights were never loaded. Load it with lmri.load_model."
    )


def is_offloaded(model: torch.nn.Module) -> bool:
    """Tell whether any weight is somewhere else while its layer does not run; such weights cannot be edited."""
    return any(values.is_meta for values in model.parameters())


def running_device(module: torch.nn.Module) -> torch.device:
    """Tell where a module with a weight runs, wherever the weight lies meanwhile."""
    device: Any = getattr(module.weight, "device", None)
    if device.type != "meta":
        return device
    for hook in _hooks(module):
        if getattr(hook, "execution_device", None) is not None:
            return torch.device(hook.execution_device)
    raise ValueError("The weights of the model were never loaded: they are on the meta device. Use lmri.load_model.")


def _hooks(module: torch.nn.Module) -> Iterator[Any]:
    """Give accelerate's hooks of a module, of which several may be in a row."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        yield from getattr(hook, "hooks", (hook,))


def _holds(weights: Any, name: str) -> bool:
    # Asking accelerate's loader itself would read the file.
    parts = [getattr(weights, part) for part in ("state_dict", "index") if hasattr(weights, part)]
    return any(name in part for part in parts or [weights])
