"""Offloaded models, whose weights are on their device only while their layer runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class OffloadedWeight:
    """Weight that accelerate keeps in CPU memory or on disk, and loads when its module runs.

    Parameters
    ----------
    weights : Mapping
        Tensors by name; a tensor on disk is read on access.
    name : str
        Name of this weight in `weights`.
    """

    weights: Mapping[str, torch.Tensor]
    name: str

    def read(self) -> torch.Tensor:
        """Return the values of the weight."""
        return self.weights[self.name]

    def origin(self) -> str:
        """Return the storage location and version of the weight, without reading its file."""
        info = getattr(self.weights, "index", {}).get(self.name)
        if info is None or self.name in getattr(self.weights, "state_dict", {}):
            values = self.read()
            return f"memory {values.data_ptr()} {values._version}"
        file = info.get("safetensors_file") or Path(str(getattr(self.weights, "save_folder", ""))) / f"{self.name}.dat"
        state = Path(file).stat()
        return f"{file} {info.get('weight_name')} {info.get('dtype')} {state.st_size} {state.st_mtime_ns}"


def find_offloaded(part: torch.nn.Module, name: str) -> OffloadedWeight:
    """Find the storage of a weight of `part` whose tensor is on the meta device.

    Raises
    ------
    ValueError
        If the weight has no values.
    """
    path = name.split(".")
    for depth in range(len(path) - 1, -1, -1):
        for hook in _hooks(part.get_submodule(".".join(path[:depth]))):
            weights: Any = getattr(hook, "weights_map", None)
            key = ".".join(path[depth:])
            while hasattr(weights, "dataset"):  # a view of all names with a prefix
                weights, key = weights.dataset, weights.prefix + key
            if weights is not None and _holds(weights, key):
                return OffloadedWeight(weights, key)
    raise ValueError(
        f"The weight {name!r} of the model is on the meta device, without values in memory or in a file: the model "
        "was built, but its weights were never loaded. Load it with lmri.load_model."
    )


def is_offloaded(model: torch.nn.Module) -> bool:
    """Check whether any weight is offloaded while its layer does not run; such weights cannot be edited."""
    return any(values.is_meta for values in model.parameters())


def running_device(module: torch.nn.Module) -> torch.device:
    """Return the device on which a module with a weight runs, even if the weight is offloaded."""
    device: Any = getattr(module.weight, "device", None)
    if device.type != "meta":
        return device
    for hook in _hooks(module):
        if getattr(hook, "execution_device", None) is not None:
            return torch.device(hook.execution_device)
    raise ValueError("The weights of the model were never loaded: they are on the meta device. Use lmri.load_model.")


def _hooks(module: torch.nn.Module) -> Iterator[Any]:
    """Iterate over the hooks of accelerate on a module, including those in a sequence of hooks."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        yield from getattr(hook, "hooks", (hook,))


def _holds(weights: Any, name: str) -> bool:
    # Accessing the loader of accelerate itself would read the file.
    parts = [getattr(weights, part) for part in ("state_dict", "index") if hasattr(weights, part)]
    return any(name in part for part in parts or [weights])
