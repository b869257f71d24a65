"""Results of checks, as a table that can be pasted into an issue."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

PASSED, FAILED, NOT_APPLICABLE, NOT_DONE = "passed", "FAILED", "not applicable", "not done"


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Parameters
    ----------
    name : str
        Statement that was tested.
    status : {"passed", "FAILED", "not applicable", "not done"}
        Result.
    detail : str
        Measured values, or the reason why the check failed or was not done.
    """

    name: str
    status: str
    detail: str = ""


@dataclass(frozen=True)
class Verification:
    """Results of all checks of a model.

    Parameters
    ----------
    checks : tuple of Check
        Results, in the order in which the checks ran.
    about : mapping of str to str
        Model, its class and precision, the device, and versions of packages.
    """

    checks: tuple[Check, ...]
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def failures(self) -> list[Check]:
        """Checks that failed."""
        return [check for check in self.checks if check.status == FAILED]

    @property
    def table(self) -> pd.DataFrame:
        """Table with one row per check: ``check, result, detail``."""
        rows = [(check.name, check.status, check.detail) for check in self.checks]
        return pd.DataFrame(rows, columns=["check", "result", "detail"])

    def to_markdown(self) -> str:
        """Return the results as a Markdown table, after a line about model and versions."""
        about = ", ".join(f"{name} {value}" for name, value in self.about.items())
        lines = ["| check | result | detail |", "|---|---|---|"]
        for check in self.checks:
            cells = (check.name, check.status, check.detail)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in cells)} |")
        return "\n".join([about, "", *lines, ""])
