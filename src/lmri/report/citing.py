"""Paragraphs with citations: escaped text, with references numbered in order of citation."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from lmri.report.references import REFERENCES, bibtex

_CITED = re.compile(r"\[@([a-z0-9,]+)\]")


def as_code(settings: Sequence[str]) -> Markup:
    """Format settings as code, separated by commas."""
    return Markup(", ").join(Markup("<code>{}</code>").format(setting) for setting in settings)


@dataclass
class Methods:
    """Paragraphs of the methods, and their references in order of citation."""

    paragraphs: list[tuple[str, Markup]] = field(default_factory=list)
    cited: list[str] = field(default_factory=list)

    def add(self, heading: str, text: str, settings: Sequence[tuple[str, Sequence[str]]] = ()) -> None:
        """Add a paragraph; ``[@key]`` cites a reference, and everything else is escaped.

        Parameters
        ----------
        heading, text : str
            Heading and text of the paragraph.
        settings : sequence of (str, sequence of str), optional
            Name of each group of settings (may be empty), and its settings, which are formatted as code.
        """
        paragraph = Markup(_CITED.sub(self._cite, str(escape(text))))
        if settings:
            groups = (
                Markup("{}{}").format(f"{group}: " if group else "", as_code(group_settings))
                for group, group_settings in settings
            )
            paragraph += Markup(' <span class="settings">Settings: {}.</span>').format(Markup("; ").join(groups))
        self.paragraphs.append((heading, paragraph))

    def _cite(self, match: re.Match[str]) -> str:
        keys = match[1].split(",")
        if not all(key in REFERENCES for key in keys):
            return match[0]  # not a citation, but text of a study
        self.cited += [key for key in keys if key not in self.cited]
        links = (f'<a href="#ref-{key}">{self.cited.index(key) + 1}</a>' for key in keys)
        return f"[{', '.join(links)}]"

    @property
    def references(self) -> list[tuple[str, str]]:
        """Key and text of every reference, in order of citation."""
        return [(key, REFERENCES[key].text()) for key in self.cited]

    @property
    def bibtex(self) -> str:
        """BibTeX entries of the references."""
        return bibtex(self.cited)
