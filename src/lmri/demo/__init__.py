"""Embedded demonstration: a small language model and the generator of its texts."""
