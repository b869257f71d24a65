"""Description of a named task."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmri.lesions.tasks.recipe import FreeRecipe, Recipe


@dataclass(frozen=True)
class NamedTask:
    """A task that the command line and `lmri.tasks.load` know by name.

    Parameters
    ----------
    recipe : Recipe or FreeRecipe
        Texts, labels and prompt. Its name is the name of the task on the command line, in tables and in the report.
    help : str
        One-line description.
    is_variant : bool, default=False
        Whether ``--help`` omits the task as a variant of another one.
    """

    recipe: "Recipe | FreeRecipe"
    help: str
    is_variant: bool = False

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.recipe.name
