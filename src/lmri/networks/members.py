"""Members of networks: a field that can be read only after a threshold."""

import inspect
from collections.abc import Callable
from typing import Any, overload

import numpy as np

from lmri.exceptions import NotThresholdedError
from lmri.networks.former_names import is_dataclasses


class Members:
    """Field of a dataclass for the members, which are None until the maps are thresholded.

    Parameters
    ----------
    problem : callable
        Function that returns the message of the error for an object without members.
    """

    def __init__(self, problem: Callable[[Any], str]) -> None:
        self.problem = problem

    @overload
    def __get__(self, instance: None, owner: type) -> None: ...
    @overload
    def __get__(self, instance: object, owner: type) -> np.ndarray: ...
    def __get__(self, instance: object | None, owner: type) -> np.ndarray | None:
        if instance is None:
            return None  # default of the field
        members = members_or_none(instance)
        if members is None and not is_dataclasses(inspect.currentframe()):  # `replace` reads every field
            raise NotThresholdedError(self.problem(instance))
        return members

    def __set__(self, instance: object, value: np.ndarray | None) -> None:
        vars(instance)["members"] = value


def members_or_none(networks: object) -> np.ndarray | None:
    """Return the members of a network or set, or None before a threshold."""
    members: np.ndarray | None = vars(networks)["members"]
    return members
