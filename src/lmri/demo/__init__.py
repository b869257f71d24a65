"""Embedded demonstration: a small language model and the generator of its texts."""

EMBEDDED = "lmri-demo"
"""Name under which the small model of this package is loaded."""
