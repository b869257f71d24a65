"""Networks as other programs take them, and what people decided there taken back."""

from lmri.export.accepting import Accepted, accept
from lmri.export.labels import ComponentLabels, format_labels, read_labels
from lmri.export.writing import FORMATS, export

__all__ = ["FORMATS", "Accepted", "ComponentLabels", "accept", "export", "format_labels", "read_labels"]
