"""Paragraphs that cite: text of anybody, escaped, with numbered references in the order in which they come."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from lmri.report.references import REFERENCES, bibtex

_CITED = re.compile(r"\[@([a-z0-9,]+)\]")


def as_code(settings: Sequence[str]) -> Markup:
    """Set every setting as code."""
    return Markup(", ").join(Markup("<code>{}</code>").format(one) for one in settings)


@dataclass
class Methods:
    """Paragraphs of the methods, and the references in the order in which they cite them."""

    paragraphs: list[tuple[str, Markup]] = field(default_factory=list)
    cited: list[str] = field(default_factory=list)

    def add(self, heading: str, text: str, settings: Sequence[tuple[str, Sequence[str]]] = ()) -> None:
        """Add a paragraph; ``[@key]`` cites a reference, and everything else is escaped.

        Parameters
        ----------
        heading, text : str
            What it is of, and the paragraph.
        settings : sequence of (str, sequence of str), optional
            Whose they are, if that has to be said, and settings by their names, which are set as code.
        """
        own = Markup(_CITED.sub(self._cite, str(escape(text))))
        if settings:
            groups = (Markup("{}{}").format(f"{whose}: " if whose else "", as_code(each)) for whose, each in settings)
            own += Markup(" Settings: {}.").format(Markup("; ").join(groups))
        self.paragraphs.append((heading, own))

    def _cite(self, match: re.Match[str]) -> str:
        keys = match[1].split(",")
        if not all(key in REFERENCES for key in keys):
            return match[0]  # somebody's own words
        self.cited += [key for key in keys if key not in self.cited]
        links = (f'<a href="#ref-{key}">{self.cited.index(key) + 1}</a>' for key in keys)
        return f"[{', '.join(links)}]"

    @property
    def references(self) -> list[tuple[str, str]]:
        """Key and text of every reference, in order."""
        return [(key, REFERENCES[key].text()) for key in self.cited]

    @property
    def bibtex(self) -> str:
        """The same as BibTeX."""
        return bibtex(self.cited)
